"""``GET /order-sessions/active``: where a person goes on, and whose sessions are active at a till.

For a person: the active session; else what may be recovered; and a warning if it was last changed at another till. For
a till that starts and where nobody has logged in yet, with its own key: who has an active session there, without what
is in it. Source: seed 004, domain-more.md C.
"""

from collections.abc import Iterable
from typing import Any

from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_core.cursor import Cursor
from sync_core.domain.document import ADMINS
from sync_core.domain.sessions import OrderSession, SessionStatus
from sync_core.filters import tag
from sync_core.problems import Forbidden
from sync_server.access.caller import Caller, caller_of
from sync_server.api.documents import Documents
from sync_server.api.paging import Query
from sync_server.api.paths import PREFIX
from sync_server.log.base import Selection
from sync_server.log.records import StoredDocument
from sync_server.permissions import CHECK_TILL

__all__ = ["ACTIVE_PATH", "active_route"]

ACTIVE_PATH = f"{PREFIX}/order-sessions/active"
MAX_FOUND = 100
"""Sessions of one person that wait, or people at one till."""
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
    own = caller.principal.removeprefix("user:")
    rights = caller.rights
    if user in (None, own) or rights.permissions is None or ADMINS in rights.labels:
        return user or own
    raise Forbidden("Only admins see the sessions of others.")


async def _of_user(documents: Documents, caller: Caller, user: str, till: str | None) -> dict[str, Any]:
    """The active session and the newest of those that wait, of one moment."""
    selection = Selection((OrderSession.kind,), frozenset({tag("userID", user)}), _OPEN)
    page = await documents.find(caller, selection, most=MAX_FOUND)
    active = _newest(page.documents, SessionStatus.ACTIVE)
    elsewhere = active.get("tillId") if active is not None else None
    return {
        "order_session": active,
        "recoverable": _newest(page.documents, SessionStatus.PENDING_LOGOUT),
        "activeOnTill": elsewhere if till is not None and elsewhere != till else None,
        "cursor": str(Cursor(page.bounds.epoch, page.bounds.head)),
    }


def _newest(found: Iterable[StoredDocument], status: SessionStatus) -> dict[str, Any] | None:
    ordered = sorted((stored.seq, stored.body) for stored in found if stored.state == status)
    newest: dict[str, Any] | None = from_json(ordered[-1][1]) if ordered else None
    return newest


async def _at_till(documents: Documents, caller: Caller, till: str) -> dict[str, Any]:
    """Who has an active session there."""
    selection = Selection(
        (OrderSession.kind,), frozenset({tag("tillID", till)}), frozenset({SessionStatus.ACTIVE.value})
    )  # fmt: skip
    page = await documents.find(caller, selection, most=MAX_FOUND)
    sessions = [from_json(stored.body) for stored in page.documents]
    return {
        "atTill": [{name: session[name] for name in _TOLD} for session in sessions],
        "cursor": str(Cursor(page.bounds.epoch, page.bounds.head)),
    }
