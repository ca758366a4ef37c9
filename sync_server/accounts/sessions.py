"""Login sessions, of those who logged in here: a signed token, in a cookie for browsers and in the body for programs.

Nothing is stored for a session; what ends it early (logout, another password, other roles) is in the directory.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sync_core.problems import Forbidden, Unauthorized
from sync_server.access.signatures import Signer
from sync_server.access.tokens import TokenIssuer
from sync_server.accounts.records import User

__all__ = ["CSRF_COOKIE", "CSRF_HEADER", "SESSION_COOKIE", "LoginSession", "LoginSessions"]

SESSION_COOKIE = "order_sync_session"
CSRF_COOKIE = "order_sync_csrf"
CSRF_HEADER = b"x-csrf-token"


@dataclass(frozen=True, slots=True)
class LoginSession:
    """One login of the user *name*, of its *generation*."""

    id: str
    tenant: str
    name: str
    generation: int
    expires_ms: int
    token: str = ""
    csrf_token: str = ""

    @property
    def credential(self) -> str:
        """As a Caller names it."""
        return f"session:{self.id}:{self.generation}"


class LoginSessions:
    """Begins and reads sessions. *wall_ms* is Unix time."""

    def __init__(self, secret: bytes, *, lifetime_s: float, wall_ms: Callable[[], int]) -> None:
        self._issuer = TokenIssuer(secret, lifetime_s=lifetime_s)
        self._verifier = self._issuer.verifier()
        self._csrf = Signer(secret, "csrf")
        self._wall_ms = wall_ms

    def begin(self, user: User) -> LoginSession:
        """A session of *user*, whose password was right."""
        issued = self._issuer.issue(
            tenant=user.tenant, subject=user.name, generation=user.generation, now_s=self._wall_ms() / 1000
        )
        return LoginSession(
            id=issued.id,
            tenant=user.tenant,
            name=user.name,
            generation=user.generation,
            expires_ms=int(issued.expires_s * 1000),
            token=issued.token,
            csrf_token=self._csrf.sign({"s": issued.id}, expires_s=issued.expires_s),
        )

    async def read(self, token: str) -> LoginSession:
        """The session of *token*. Raises Unauthorized."""
        claims = await self._verifier.verify(token)
        if claims.jti is None or claims.gen is None or claims.exp is None:
            raise Unauthorized("The token is no session of this server.")
        return LoginSession(claims.jti, claims.tenant, claims.sub, claims.gen, int(claims.exp * 1000))

    def check_csrf(self, session_id: str, token: str | None) -> None:
        """Raises Forbidden unless *token* was given to this very session: another site cannot know it."""
        content = self._csrf.read(token, now_s=self._wall_ms() / 1000) if token else None
        if content is None or content.get("s") != session_id:
            raise Forbidden(f"Send the cookie {CSRF_COOKIE} as header X-CSRF-Token too.")
