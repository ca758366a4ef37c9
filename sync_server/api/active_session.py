"""``GET /order-sessions/active``: where a person goes on, and whose sessions are active at a till.

For a person: the active session; else what may be recovered; and a warning if it was last changed at another till. For
a till that starts and where nobody has logged in yet, with its own key: who has an active session there, without what
is in it. Source: seed 004, domain-more.md C.
"""

from typing import Any

from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_core.cursor import Cursor
from sync_core.domain.sessions import OrderSession, SessionStatus
from sync_core.filters import tag
from sync_core.labels import ADMINS, user_of
from sync_core.paths import PREFIX
from sync_core.problems import Forbidden
from sync_server.access.caller import Caller, caller_of
from sync_server.api.documents import Documents
from sync_server.api.paging import Query
from sync_server.log.base import Selection
from sync_server.log.records import StoredDocument
from sync_server.permissions import CHECK_TILL

__all__ = ["ACTIVE_PATH", "active_route"]

ACTIVE_PATH = f"{PREFIX}/order-sessions/active"
_OPEN = frozenset({SessionStatus.ACTIVE.value, SessionStatus.PENDING_LOGOUT.value})
_TOLD = ("sessionID", "id", "userId", "tillId", "status", "updatedAt")


def active_route(documents: Documents) -> Route:
    """The route; it has to stand before that of single sessions."""

    async def active(http: Request) -> Response:
        caller, query = caller_of(http.scope), Query.parse(http.scope, {"userId", "tillId"})
        user, till = _either(query, "user"), _either(query, "till")
        answer: dict[str, Any] = {}
        if till is not None and _checks(caller, till):
            answer = await _at_till(documents, caller, till)
        if not answer or caller.rights.allows(OrderSession.view_permission):
            caller.rights.require(OrderSession.view_permission)
            answer |= await _of_user(documents, caller, _whose(caller, user), till)
        return Response(to_json(answer), media_type="application/json", headers={"Cache-Control": "private, no-store"})

    return Route(ACTIVE_PATH, active)


def _either(query: Query, name: str) -> str | None:
    """As the seed spells it, or as filters do."""
    return query.one(f"{name}Id") or query.one(f"{name}ID")


def _checks(caller: Caller, till: str) -> bool:
    """Whether the caller is that till, or may see all of them."""
    rights = caller.rights
    return rights.permissions is None or ADMINS in rights.labels or (
        rights.allows(CHECK_TILL) and tag("tillID", till) in rights.bound
    )  # fmt: skip


def _whose(caller: Caller, user: str | None) -> str:
    """The user asked for. Raises Forbidden."""
    own = user_of(caller.principal)
    rights = caller.rights
    if user in (None, own) or rights.permissions is None or ADMINS in rights.labels:
        return user or own
    raise Forbidden("Only admins see the sessions of others.")


async def _of_user(documents: Documents, caller: Caller, user: str, till: str | None) -> dict[str, Any]:
    """The active session and the newest of those that wait."""
    selection = Selection((OrderSession.kind,), frozenset({tag("userID", user)}), _OPEN)
    newest: dict[str, StoredDocument] = {}
    cursor = ""
    async for page in documents.pages(caller, selection):
        cursor = cursor or str(Cursor(page.bounds.epoch, page.bounds.head))
        for stored in page.documents:
            known = newest.get(stored.state)
            if known is None or known.seq < stored.seq:
                newest[stored.state] = stored
    active, left = (_content(newest.get(status)) for status in (SessionStatus.ACTIVE, SessionStatus.PENDING_LOGOUT))
    elsewhere = active.get("tillId") if active is not None else None
    return {
        "order_session": active,
        "recoverable": left,
        "activeOnTill": elsewhere if till is not None and elsewhere != till else None,
        "cursor": cursor,
    }


def _content(stored: StoredDocument | None) -> dict[str, Any] | None:
    content: dict[str, Any] | None = None if stored is None else from_json(stored.body)
    return content


async def _at_till(documents: Documents, caller: Caller, till: str) -> dict[str, Any]:
    """Who has an active session there."""
    states = frozenset({SessionStatus.ACTIVE.value})
    selection = Selection((OrderSession.kind,), frozenset({tag("tillID", till)}), states)
    told: list[dict[str, Any]] = []
    cursor = ""
    async for page in documents.pages(caller, selection):
        cursor = cursor or str(Cursor(page.bounds.epoch, page.bounds.head))
        sessions = [from_json(stored.body) for stored in page.documents]
        told += [{name: session[name] for name in _TOLD} for session in sessions]
    return {"atTill": told, "cursor": cursor}
