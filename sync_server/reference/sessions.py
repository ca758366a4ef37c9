"""What asking for a person's active session looks like over HTTP. Source: domain-more.md C."""

from sync_core.domain.sessions import OrderSession
from sync_server.api.active_session import ACTIVE_PATH
from sync_server.reference.operation import Operation, Parameter, Reply, Schema
from sync_server.reference.schemas import CURSOR, TIME, Schemas

__all__ = ["active_operation"]

_TEXT: Schema = {"type": "string"}
_AT_TILL: Schema = {
    "type": "object",
    "properties": {
        "sessionID": _TEXT, "id": _TEXT, "userId": _TEXT, "tillId": _TEXT, "status": {"const": "active"},
        "updatedAt": TIME,
    },
    "required": ["sessionID", "userId", "tillId"],
}  # fmt: skip


def active_operation(schemas: Schemas) -> Operation:
    """The one operation."""
    maybe: Schema = {"anyOf": [schemas.of(OrderSession), {"type": "null"}]}
    found: Schema = {
        "type": "object",
        "properties": {
            "order_session": maybe,
            "recoverable": maybe,
            "activeOnTill": {"type": ["string", "null"]},
            "atTill": {"type": "array", "items": _AT_TILL},
            "cursor": CURSOR,
        },
        "required": ["cursor"],
    }
    return Operation(
        "GET", ACTIVE_PATH, "order_sessions_active", OrderSession.heading(), "The caller's active session.",
        description="`recoverable` is the newest session that waits for its user; `activeOnTill` names the till at "
        "which the active one was last changed, if that is another than `tillId`. A till's own key (permission "
        "check_till, bound to `tillID=...`) is told with `tillId` who has an active session there: `atTill`.",
        parameters=(
            Parameter("userId", "query", "Whose; only admins ask for others.", _TEXT),
            Parameter("tillId", "query", "The till that asks.", _TEXT),
        ),
        replies=(Reply(200, "What there is.", found),),
        problems=(400, 401, 403, 429, 503),
        extensions={"x-permission": OrderSession.view_permission},
    )  # fmt: skip
