"""Sessions of those who logged in here: a signed token, in a cookie for browsers and in the body for programs.

Nothing is stored for a session; what ends it early (logout, another password, other roles) is in the directory.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jwt

from sync_core.problems import Forbidden, Unauthorized
from sync_server.access.signatures import Signer
from sync_server.access.tokens import OWN_ISSUER, TokenIssuer
from sync_server.accounts.records import User

__all__ = ["CSRF_COOKIE", "CSRF_HEADER", "SESSION_COOKIE", "Session", "Sessions"]

SESSION_COOKIE = "order_sync_session"
CSRF_COOKIE = "order_sync_csrf"
CSRF_HEADER = b"x-csrf-token"


@dataclass(frozen=True, slots=True)
class Session:
    """One login. *credential* is ``session:<id>:<the user's generation>``."""

    tenant: str
    name: str
    credential: str
    expires_ms: int
    token: str = ""
    csrf_token: str = ""


class Sessions:
    """Begins and reads sessions. *wall_ms* is Unix time."""

    def __init__(self, secret: bytes, *, lifetime_s: float, wall_ms: Callable[[], int]) -> None:
        self._issuer = TokenIssuer(secret, lifetime_s=lifetime_s)
        self._verifier = self._issuer.verifier()
        self._csrf = Signer(secret, "csrf")
        self._wall_ms = wall_ms

    def begin(self, user: User) -> Session:
        """A session of *user*, whose password was right."""
        issued = self._issuer.issue(
            tenant=user.tenant, subject=user.name, generation=user.generation, now_s=self._wall_ms() / 1000
        )
        credential = f"session:{issued.id}:{user.generation}"
        csrf_token = self._csrf.sign({"s": credential}, expires_s=issued.expires_s)
        return Session(user.tenant, user.name, credential, int(issued.expires_s * 1000), issued.token, csrf_token)

    @staticmethod
    def issued(token: str) -> bool:
        """Whether *token* says that it was made here; nothing is believed by that."""
        try:
            content = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError):
            return False
        return content.get("iss") == OWN_ISSUER

    async def read(self, token: str) -> Session:
        """The session of *token*. Raises Unauthorized."""
        claims = await self._verifier.verify(token)
        if claims.jti is None or claims.gen is None or claims.exp is None:
            raise Unauthorized("The token is no session of this server.")
        return Session(claims.tenant, claims.sub, f"session:{claims.jti}:{claims.gen}", int(claims.exp * 1000))

    def check_csrf(self, credential: str, token: str | None) -> None:
        """Raises Forbidden unless *token* was given to this very session: another site cannot know it."""
        content = self._csrf.read(token, now_s=self._wall_ms() / 1000) if token else None
        if content is None or content.get("s") != credential:
            raise Forbidden(f"Send the cookie {CSRF_COOKIE} as header X-CSRF-Token too.")
