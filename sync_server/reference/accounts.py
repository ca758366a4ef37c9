"""What logging in, and who tells from outside, look like over HTTP. Source: docs/security.md."""

from collections.abc import Iterator
from typing import Any

from sync_server.accounts.routes import LOGIN_PATH, PREFIX, LoginInput
from sync_server.accounts.sessions import SESSION_COOKIE
from sync_server.api.webhooks import WEBHOOKS_PREFIX, WINDOW_S
from sync_server.reference.feed import receipts_schema
from sync_server.reference.operation import TICKET, Operation, Parameter, Reply, Schema
from sync_server.reference.schemas import TIME

__all__ = ["SECURITY_SCHEMES", "account_operations", "me_operation", "webhook_operation"]

SECURITY_SCHEMES: dict[str, dict[str, str]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of your identity provider, one of a login here, or an API key (`osk_...`).",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": SESSION_COOKIE,
        "description": "Of a login; what changes something needs the header `X-CSRF-Token` too.",
    },
    TICKET: {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "For the stream alone, where no header can be sent: good for 30 s, once.",
    },
}
_TAG = "Accounts"
_TEXT: Schema = {"type": "string"}


def account_operations() -> Iterator[Operation]:
    """Login, logout, tickets; where there is access control."""
    yield Operation(
        "POST", LOGIN_PATH, "accounts_login", _TAG, "Log in with a name and a password.",
        description="Sets the session's cookies, and gives the same token to programs. Guessing is locked out: 429.",
        body=LoginInput.model_json_schema(),
        body_example={"username": "rita", "password": "correct horse battery staple"},
        replies=(Reply(200, "Logged in.", _session()),),
        problems=(400, 401, 403, 413, 415, 422, 429, 503),
        public=True,
    )  # fmt: skip
    yield Operation(
        "POST", f"{PREFIX}/logout", "accounts_logout", _TAG, "End the session.",
        replies=(Reply(204, "It has ended, everywhere."),),
        problems=(400, 401, 403, 429, 503),
    )  # fmt: skip
    ticket: Schema = {
        "type": "object",
        "properties": {"ticket": _TEXT, "expiresInS": {"type": "number"}},
        "required": ["ticket", "expiresInS"],
    }
    yield Operation(
        "POST", f"{PREFIX}/tickets", "accounts_ticket", _TAG, "A ticket with which EventSource opens the stream, once.",
        replies=(Reply(201, "It is good for 30 s.", ticket),),
        problems=(401, 403, 429, 503),
    )  # fmt: skip


def me_operation() -> Operation:
    """Who calls."""
    me: Schema = {
        "type": "object",
        "properties": {
            "tenant": _TEXT,
            "principal": _TEXT,
            "roles": {"type": "array", "items": _TEXT},
            "permissions": {"anyOf": [{"const": "all"}, {"type": "array", "items": _TEXT}]},
            "bound": {"type": "array", "items": _TEXT, "description": "The only entities of which you see anything."},
            "expiresAt": {**TIME, "type": ["string", "null"]},
            "access": {**_TEXT, "description": "Digest of all this."},
        },
        "required": ["tenant", "principal", "roles", "permissions", "bound", "expiresAt", "access"],
    }
    return Operation(
        "GET", f"{PREFIX}/me", "accounts_me", _TAG, "Who you are here, and what you may do.",
        (Reply(200, "You.", me),), problems=(401, 403, 429, 503),
    )  # fmt: skip


def webhook_operation() -> Operation:
    """What a provider sends, who signs it."""
    return Operation(
        "POST", f"{WEBHOOKS_PREFIX}{{source}}", "feed_webhook", "Feed",
        "What a CMS, a payment or a messaging provider tells.",
        description="Signed: HMAC-SHA256 over `<timestamp>.<body>`, in the headers that `[webhooks]` names. A time "
        f"more than {WINDOW_S} s off is a 401, the same request twice a 409.",
        parameters=(Parameter("source", "path", "A source in `[webhooks]`.", _TEXT),),
        body={}, body_example={"doc": {"id": "ORDER-001", "status": "paid"}},
        replies=(Reply(201, "Published.", receipts_schema()),),
        problems=(400, 401, 404, 409, 413, 415, 422, 429, 503),
        public=True,
    )  # fmt: skip


def _session() -> dict[str, Any]:
    user = {
        "type": "object",
        "properties": {
            "username": _TEXT,
            "tenant": _TEXT,
            "roles": {"type": "array", "items": _TEXT},
            "bound": {"type": "array", "items": _TEXT},
        },
        "required": ["username", "tenant", "roles", "bound"],
    }
    return {
        "type": "object",
        "properties": {"token": _TEXT, "expiresAt": TIME, "csrfToken": _TEXT, "user": user},
        "required": ["token", "expiresAt", "csrfToken", "user"],
    }
