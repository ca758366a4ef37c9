"""From a request to its Caller: which credential it shows, whether that is good, and what its holder may do.

    Authorization: Bearer <JWT>        of an identity provider, or of a login here
    Authorization: Bearer osk_...      an API key
    Cookie: order_sync_session=<JWT>   a browser that has logged in
    ?ticket=...                        where a browser opens a stream or a socket, which send no headers: 30 s, once

A cookie counts only where nothing else is shown: browsers send theirs whether they are meant or not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from starlette.types import Scope

from sync_core.labels import person_label, user_of
from sync_core.problems import Forbidden, InvalidRequest, Unauthorized, Unavailable
from sync_server.access import keyring
from sync_server.access.caller import Caller
from sync_server.access.claims import MACHINE, Claims
from sync_server.access.roles import Roles
from sync_server.access.tokens import TokenVerifier, is_own
from sync_server.accounts.directory import AccountUnreadable, Directory
from sync_server.accounts.records import user_id
from sync_server.accounts.sessions import CSRF_HEADER, SESSION_COOKIE, LoginSession, LoginSessions
from sync_server.accounts.tickets import Tickets

__all__ = ["Authenticator", "cookies_of", "header_of"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SESSION = "session:"


@dataclass(frozen=True, slots=True)
class Authenticator:
    """All ways in. *tenants* None: any tenant may come to be. *ticket_paths* are where a ticket is a credential, beside
    every WebSocket."""

    roles: Roles
    directory: Directory
    sessions: LoginSessions
    tickets: Tickets
    verifiers: Sequence[TokenVerifier]
    tenants: frozenset[str] | None
    ticket_paths: frozenset[str]

    async def caller(self, scope: Scope) -> Caller:
        """Who sent this; a ticket is taken out of *scope*'s query. Raises Unauthorized, InvalidRequest for credentials
        that contradict each other, Forbidden for a tenant that is not served or without CSRF token, Unavailable.
        """
        authorization = header_of(scope, b"authorization")
        ticket = self._take_ticket(scope)
        if ticket is not None:
            if authorization is not None:
                raise InvalidRequest("Send a ticket or an Authorization header, not both.")
            return self._in_tenant(self._checked(await self.tickets.redeem(ticket)))
        if authorization is not None:
            scheme, _, credential = authorization.partition(" ")
            if scheme.lower() != "bearer" or not credential.strip():
                raise Unauthorized("Send the credential as Authorization: Bearer ...")
            return self._in_tenant(await self._bearer(credential.strip()))
        token = cookies_of(scope).get(SESSION_COOKIE)
        if token is not None:
            session = await self.sessions.read(token)
            caller = self._in_tenant(await self._fresh(session))
            if scope["method"] not in _SAFE_METHODS:
                self.sessions.check_csrf(session.id, header_of(scope, CSRF_HEADER))
            return caller
        raise Unauthorized("Say who you are: Authorization: Bearer with a token or an API key, or log in.")

    def changed(self, callers: Iterable[Caller]) -> set[Caller]:
        """Those of *callers* whose credential does not give them exactly what they have, any more."""
        return {caller for caller in callers if not self._still_good(caller)}

    def _still_good(self, caller: Caller) -> bool:
        try:
            return self._checked(caller) == caller
        except (Unauthorized, AccountUnreadable):  # a newer server has changed it, perhaps taken something away
            return False
        except Unavailable:  # nothing is known of a change
            return True

    # -- the kinds of credentials -----------------------------------------------------------------------

    async def _bearer(self, credential: str) -> Caller:
        if keyring.is_api_key(credential):
            return await self._api_key(credential)
        if is_own(credential):
            return await self._fresh(await self.sessions.read(credential))
        refusal = Unauthorized("Tokens are not accepted here; use an API key, or log in.")
        for verifier in self.verifiers:
            try:
                claims = await verifier.verify(credential)
            except Unauthorized as exc:
                refusal = exc
                continue
            return self._of_claims(claims, leeway_s=verifier.leeway_s)
        raise refusal

    async def _api_key(self, credential: str) -> Caller:
        parts = keyring.split(credential)
        if parts is None:
            raise _unknown_key()
        key_id, secret = parts
        if self.directory.key(key_id) is None:
            await self.directory.seek(key_id)  # it may have been made a moment ago
        record = self.directory.key(key_id)
        if record is None or not keyring.fits(secret, record.digest):
            raise _unknown_key()
        return self._of_key(key_id)

    def _of_key(self, key_id: str) -> Caller:
        record = self.directory.key(key_id)
        if record is None:
            raise _unknown_key()
        principal = f"{MACHINE}{key_id}"
        rights = self.roles.rights(principal, record.roles, record.bound)
        return Caller(record.tenant, principal, rights, record.expires_ms, principal)

    def _of_claims(self, claims: Claims, *, leeway_s: float) -> Caller:
        rights = self.roles.rights(claims.sub, claims.roles, claims.bound)
        expires_ms = None if claims.exp is None else int((claims.exp + leeway_s) * 1000)
        return Caller(claims.tenant, person_label(claims.sub), rights, expires_ms, "token")

    async def _fresh(self, session: LoginSession) -> Caller:
        """Who has the *session*, which may be newer than what this process knows of its user."""
        user = self.directory.user(user_id(session.tenant, session.name))
        if user is None or user.generation < session.generation:
            await self.directory.seek(session.credential)
        return self._of_session(session)

    def _of_session(self, session: LoginSession) -> Caller:
        user = self.directory.user(user_id(session.tenant, session.name))
        if user is None or user.generation != session.generation or self.directory.has_ended(session.id):
            raise Unauthorized("The session has ended; log in again.")
        rights = self.roles.rights(session.name, user.roles, user.bound)
        return Caller(session.tenant, person_label(session.name), rights, session.expires_ms, session.credential)

    def _checked(self, caller: Caller) -> Caller:
        """*caller* as its credential makes it now. Raises Unauthorized, Unavailable."""
        credential = caller.credential
        if credential.startswith(MACHINE):
            return self._of_key(credential.removeprefix(MACHINE))
        if credential.startswith(_SESSION):
            session_id, _, generation = credential.removeprefix(_SESSION).partition(":")
            name = user_of(caller.principal)
            return self._of_session(
                LoginSession(session_id, caller.tenant, name, int(generation), caller.expires_ms or 0)
            )
        return caller

    def _in_tenant(self, caller: Caller) -> Caller:
        if self.tenants is not None and caller.tenant not in self.tenants:
            raise Forbidden("This server does not serve your tenant.")
        return caller

    def _take_ticket(self, scope: Scope) -> str | None:
        """The ticket in the query, out of which it is taken: no route has to know it, and none can tell it on."""
        query: bytes = scope["query_string"]
        if b"ticket=" not in query or (scope["type"] != "websocket" and scope["path"] not in self.ticket_paths):
            return None
        try:
            pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=500)
        except ValueError:
            return None  # for the route to refuse
        tickets = [value for name, value in pairs if name == "ticket"]
        if len(tickets) > 1:
            raise InvalidRequest("There are several tickets.")
        scope["query_string"] = urlencode([pair for pair in pairs if pair[0] != "ticket"]).encode()
        return tickets[0] if tickets else None


def header_of(scope: Scope, name: bytes) -> str | None:
    """The only header of that name. Raises InvalidRequest where there are several: proxies differ on which counts."""
    values = [value for key, value in scope["headers"] if key == name]
    if len(values) > 1:
        raise InvalidRequest(f"There are several {name.decode()} headers.")
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


def _unknown_key() -> Unauthorized:
    return Unauthorized("The API key is not known here, was revoked, or has expired.")
