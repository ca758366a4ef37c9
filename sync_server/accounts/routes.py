"""``/api/v1/auth``: login, logout, me, tickets. Source: docs/security.md."""

from contextlib import suppress
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_core.faults import faults_of
from sync_core.problems import InvalidRequest, Unavailable, Unprocessable
from sync_core.times import iso_from_ms
from sync_server.access.caller import Caller, caller_of
from sync_server.access.limits import address_key
from sync_server.accounts.directory import Directory
from sync_server.accounts.logins import SYSTEM, Logins
from sync_server.accounts.records import EndSession, end_session
from sync_server.accounts.sessions import CSRF_COOKIE, SESSION_COOKIE, LoginSession, LoginSessions
from sync_server.accounts.tickets import TICKET_S, Tickets
from sync_server.api.body import json_body
from sync_server.commands.dispatch import Call, Dispatch
from sync_server.tenants import DEFAULT_TENANT

__all__ = ["LOGIN_PATH", "auth_routes", "me_route"]

PREFIX = "/api/v1/auth"
LOGIN_PATH = f"{PREFIX}/login"
_NO_STORE = {"Cache-Control": "no-store"}


class LoginInput(BaseModel):
    model_config = ConfigDict(extra="forbid")

    username: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    password: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    tenant: Annotated[str, StringConstraints(max_length=64)] = DEFAULT_TENANT


def auth_routes(
    logins: Logins, sessions: LoginSessions, tickets: Tickets, dispatch: Dispatch, directory: Directory
) -> list[Route]:
    """The routes; *dispatch* is that of the accounts."""

    async def login(http: Request) -> Response:
        given = _login_input(await json_body(http))
        address = address_key(http.client.host if http.client else "")
        user = await logins.check(tenant=given.tenant, name=given.username, password=given.password, address=address)
        session = sessions.begin(user)
        content = {
            "token": session.token,
            "expiresAt": iso_from_ms(session.expires_ms),
            "csrfToken": session.csrf_token,
            "user": {"username": user.name, "tenant": user.tenant, "roles": user.roles, "bound": user.bound},
        }
        response = Response(to_json(content), media_type="application/json", headers=_NO_STORE)
        _set_cookies(http, response, session)
        return response

    async def logout(http: Request) -> Response:
        caller = caller_of(http.scope)
        if not caller.credential.startswith("session:"):
            raise InvalidRequest("Only a session that began with a login can be ended; this is another credential.")
        session_id, _, _ = caller.credential.removeprefix("session:").partition(":")
        ended = EndSession(session=session_id, expires_ms=caller.expires_ms or 0)
        await dispatch(SYSTEM, Call(end_session, ended))
        with suppress(Unavailable):  # here at once, elsewhere with the next look
            await directory.refresh()
        response = Response(status_code=204, headers=_NO_STORE)
        for name in (SESSION_COOKIE, CSRF_COOKIE):
            response.delete_cookie(name, path=_cookie_path(http), samesite="lax", secure=_is_https(http))
        return response

    async def ticket(http: Request) -> Response:
        content = {"ticket": tickets.issue(caller_of(http.scope)), "expiresInS": TICKET_S}
        return Response(to_json(content), status_code=201, media_type="application/json", headers=_NO_STORE)

    return [
        Route(LOGIN_PATH, login, methods=["POST"]),
        Route(f"{PREFIX}/logout", logout, methods=["POST"]),
        Route(f"{PREFIX}/tickets", ticket, methods=["POST"]),
        me_route(),
    ]


def me_route() -> Route:
    """Who calls and what it may do; without access control that is everybody and everything."""

    async def me(http: Request) -> Response:
        return Response(to_json(_about(caller_of(http.scope))), media_type="application/json", headers=_NO_STORE)

    return Route(f"{PREFIX}/me", me)


def _login_input(body: bytes) -> LoginInput:
    try:
        return LoginInput.model_validate_json(body)
    except ValidationError as exc:
        raise Unprocessable("The login cannot be read.", errors=tuple(faults_of(exc))) from None


def _about(caller: Caller) -> dict[str, object]:
    rights = caller.rights
    return {
        "tenant": caller.tenant,
        "principal": caller.principal,
        "roles": sorted(rights.roles),
        "permissions": "all" if rights.permissions is None else sorted(rights.permissions),
        "bound": sorted(rights.bound),
        "expiresAt": None if caller.expires_ms is None else iso_from_ms(caller.expires_ms),
        "access": rights.digest,
    }


def _set_cookies(http: Request, response: Response, session: LoginSession) -> None:
    """The session where no script can read it; beside it the CSRF token, which scripts of this site have to send."""
    for name, value, hidden in ((SESSION_COOKIE, session.token, True), (CSRF_COOKIE, session.csrf_token, False)):
        response.set_cookie(
            name, value, expires=None, path=_cookie_path(http), httponly=hidden, samesite="lax", secure=_is_https(http)
        )


def _cookie_path(http: Request) -> str:
    return f"{http.scope.get('root_path', '')}/"


def _is_https(http: Request) -> bool:
    return bool(http.scope["scheme"] == "https")
