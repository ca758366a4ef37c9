"""From a request to its Caller: which credential it shows, whether that is good, and what its holder may do.

    Authorization: Bearer <JWT>        of an identity provider, or of a login here
    Authorization: Bearer osk_...      an API key
    Cookie: order_sync_session=<JWT>   a browser that has logged in
    ?ticket=...                        for EventSource and WebSocket, which cannot send headers: 30 s, once

A ticket goes before a header, a header before a cookie: browsers send cookies whether they are meant or not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.types import Scope

from sync_core.problems import Forbidden, Unauthorized
from sync_server.access import keyring
from sync_server.access.caller import Caller
from sync_server.access.claims import Claims
from sync_server.access.roles import Roles
from sync_server.access.tokens import TokenVerifier
from sync_server.accounts.directory import Directory
from sync_server.accounts.records import user_id
from sync_server.accounts.sessions import CSRF_HEADER, SESSION_COOKIE, Sessions
from sync_server.accounts.tickets import Tickets

__all__ = ["Authenticator", "cookies_of", "header_of"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Authenticator:
    """All ways in. *tenants* None: any tenant may come to be."""

    roles: Roles
    directory: Directory
    sessions: Sessions
    tickets: Tickets
    verifiers: Sequence[TokenVerifier]
    tenants: frozenset[str] | None

    async def caller(self, scope: Scope) -> Caller:
        """Who sent this. Raises Unauthorized, or Forbidden for a tenant that is not served or a missing CSRF token."""
        ticket = _ticket(scope)
        if ticket is not None:
            return self._in_tenant(self._checked(await self.tickets.redeem(ticket)))
        authorization = header_of(scope, b"authorization")
        if authorization is not None:
            scheme, _, credential = authorization.partition(" ")
            if scheme.lower() != "bearer" or not credential.strip():
                raise Unauthorized("Send the credential as Authorization: Bearer ...")
            return self._in_tenant(await self._bearer(credential.strip()))
        session = cookies_of(scope).get(SESSION_COOKIE)
        if session is not None:
            caller = self._in_tenant(await self._session(session))
            if scope.get("method", "GET") not in _SAFE_METHODS:
                self.sessions.check_csrf(caller.credential, header_of(scope, CSRF_HEADER))
            return caller
        raise Unauthorized("Say who you are: Authorization: Bearer with a token or an API key, or log in.")

    def still_good(self, caller: Caller) -> bool:
        """Whether what *caller* has shown still gives it exactly the rights that it has."""
        try:
            return self._checked(caller) == caller
        except (Unauthorized, Forbidden):
            return False

    def changed(self, callers: Iterable[Caller]) -> set[Caller]:
        """Those of *callers* whose credential is no longer good for what they have."""
        return {caller for caller in callers if not self.still_good(caller)}

    # -- the kinds of credentials -----------------------------------------------------------------------

    async def _bearer(self, credential: str) -> Caller:
        if keyring.is_api_key(credential):
            return self._api_key(credential)
        if self.sessions.issued(credential):
            return await self._session(credential)
        refusal = Unauthorized("Tokens are not accepted here; use an API key, or log in.")
        for verifier in self.verifiers:
            try:
                claims = await verifier.verify(credential)
            except Unauthorized as exc:
                refusal = exc
                continue
            return self._of_claims(claims, leeway_s=verifier.leeway_s)
        raise refusal

    def _api_key(self, credential: str) -> Caller:
        parts = keyring.split(credential)
        record = self.directory.key(parts[0]) if parts else None
        if parts is None or record is None or not keyring.fits(parts[1], record.digest):
            raise Unauthorized("The API key is not known here, was revoked, or has expired.")
        return self._of_key(record.recordID)

    def _of_key(self, key_id: str) -> Caller:
        record = self.directory.key(key_id)
        if record is None:
            raise Unauthorized("The API key is not known here, was revoked, or has expired.")
        principal = f"key:{key_id}"
        rights = self.roles.rights(subject=principal, roles=record.roles, bound=record.bound)
        return Caller(record.tenant, principal, rights, record.expires_ms, principal)

    def _of_claims(self, claims: Claims, *, leeway_s: float) -> Caller:
        rights = self.roles.rights(subject=claims.sub, roles=claims.roles, bound=claims.bound)
        expires_ms = None if claims.exp is None else int((claims.exp + leeway_s) * 1000)
        return Caller(claims.tenant, f"user:{claims.sub}", rights, expires_ms, "token")

    async def _session(self, token: str) -> Caller:
        session = await self.sessions.read(token)
        return self._of_session(session.tenant, session.name, session.credential, session.expires_ms)

    def _of_session(self, tenant: str, name: str, credential: str, expires_ms: int | None) -> Caller:
        session_id, _, generation = credential.removeprefix("session:").partition(":")
        user = self.directory.user(user_id(tenant, name))
        if user is None or str(user.generation) != generation or self.directory.has_ended(session_id):
            raise Unauthorized("The session has ended; log in again.")
        rights = self.roles.rights(subject=name, roles=user.roles, bound=user.bound)
        return Caller(tenant, f"user:{name}", rights, expires_ms, credential)

    def _checked(self, caller: Caller) -> Caller:
        """*caller* as its credential makes it now. Raises Unauthorized."""
        credential = caller.credential
        if credential.startswith("key:"):
            return self._of_key(credential.removeprefix("key:"))
        if credential.startswith("session:"):
            name = caller.principal.removeprefix("user:")
            return self._of_session(caller.tenant, name, credential, caller.expires_ms)
        return caller

    def _in_tenant(self, caller: Caller) -> Caller:
        if self.tenants is not None and caller.tenant not in self.tenants:
            raise Forbidden("This server does not serve your tenant.")
        return caller


def header_of(scope: Scope, name: bytes) -> str | None:
    """The only header of that name; Unauthorized where there are several: proxies differ on which one counts."""
    values = [value for key, value in scope["headers"] if key == name]
    if len(values) > 1:
        raise Unauthorized(f"There are several {name.decode()} headers.")
    return values[0].decode("latin-1") if values else None


def cookies_of(scope: Scope) -> Mapping[str, str]:
    """The request's cookies by name; of two with one name the first, which is the one with the longer path."""
    cookies: dict[str, str] = {}
    for key, value in scope["headers"]:
        if key == b"cookie":
            for item in value.decode("latin-1").split(";"):
                name, _, content = item.strip().partition("=")
                cookies.setdefault(name, content)
    return cookies


def _ticket(scope: Scope) -> str | None:
    if b"ticket=" not in scope["query_string"]:
        return None
    try:
        values = parse_qs(scope["query_string"].decode("ascii"), max_num_fields=500).get("ticket")
    except ValueError:
        return None
    return values[-1] if values else None
