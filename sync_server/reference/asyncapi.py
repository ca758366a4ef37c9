"""The AsyncAPI 3.0 document: every event type, what it carries and how it is delivered. Source: protocol.md 1, 2.1."""

from collections.abc import Iterable, Mapping
from typing import Any

from sync_core.domain.command import Command
from sync_core.domain.document import Document
from sync_core.events import Delivery, EventInput, EventType
from sync_core.filters import ENTITY_KEYS
from sync_core.paths import FEED_SOCKET_PATH, STREAM_PATH
from sync_server.reference.examples import TIME, example
from sync_server.reference.schemas import CURSOR, Schemas, envelope_schema
from sync_server.reference.schemas import TIME as TIME_SCHEMA
from sync_server.reference.sockets import feed_socket_messages, socket_channels, socket_operations

__all__ = ["asyncapi_document"]

_DELIVERY = {
    Delivery.EVERY: "Every one is delivered, in the order of their ids.",
    Delivery.LATEST: "An older one is left out where a newer one of the same {entity} leaves with it.",
    Delivery.EPHEMERAL: "Not in the log: without an id, not replayed, perhaps lost.",
}
_TEXT: Mapping[str, Any] = {"type": "string"}
_NUMBER: Mapping[str, Any] = {"type": "number"}
_RESET: Mapping[str, Any] = {
    "reason": {"enum": ["expired", "epoch", "future", "malformed"]},
    "head": CURSOR,
    "floor": CURSOR,
    "snapshot": {"type": ["string", "null"], "description": "Where to load the current state."},
}
_SOMETIMES = {"customTypes"}
_CONTROL: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "connected": (
        "The first of every stream. Nothing published after it can be missed.",
        {
            "clientId": _TEXT,
            "cursor": CURSOR,
            "head": CURSOR,
            "resume": {"enum": ["now", "resumed", "start", "reset"]},
            "heartbeatSeconds": _NUMBER,
            "maxAgeSeconds": _NUMBER,
            "serverTime": TIME_SCHEMA,
            "filter": {"type": "object"},
            "access": {**_TEXT, "description": "Digest of what this reader may see: with another one start afresh."},
            "protocol": {"const": 1},
            "customTypes": {
                "type": "array",
                "items": _TEXT,
                "description": "Configured event types, if there are any: a browser has to listen for each by name.",
            },
        },
    ),
    "caught_up": ("The replay is over; what follows is live.", {}),
    "heartbeat": (
        "Nothing for this reader for a while. `tailAgeMs`: how old the server's own view of the log is.",
        {"timestamp": TIME_SCHEMA, "head": CURSOR, "tailAgeMs": {"type": "integer"}},
    ),
    "reset": ("The cursor leads nowhere: load the current state; the stream goes on from `head`.", _RESET),
    "removed": (
        "A document has left what this reader may see or asks for.",
        {"kind": _TEXT, "id": _TEXT, "version": {"type": "integer"}},
    ),
    "goodbye": (
        "The server is about to close the stream. Not a failure: connect again at once, unless `retry` says later.",
        {"reason": {"enum": ["max_age", "token_expired", "access_changed", "shutdown", "slow", "log_unavailable"]}},
    ),
}


def asyncapi_document(event_types: Iterable[EventType], schemas: Schemas, *, version: str) -> dict[str, Any]:
    """All *event_types*, control events, and which commands make what."""
    types = list(event_types)
    messages = {name: _control(name, *_CONTROL[name]) for name in _CONTROL}
    messages |= {event_type.name: _message(event_type, schemas) for event_type in types}
    sockets = {"feedSocket": _feed_socket(messages), **socket_channels(schemas, messages["goodbye"]["payload"])}
    publishable = [event_type.name for event_type in types if event_type.publishable]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "order-sync feed",
            "version": version,
            "description": "Server-Sent Events: `event:` is the message's name, `id:` the cursor, `data:` the payload. "
            "The requests are described in `openapi.json`.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "feed": {
                "address": STREAM_PATH,
                "description": "GET: the stream. The same events, a page at a time: /api/v1/sync/poll.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
            },
            "publish": {
                "address": STREAM_PATH,
                "description": "POST: one event, or several. Types that carry documents are made by commands only.",
                "messages": {"publish": {"$ref": "#/components/messages/publish"}},
            },
            **sockets,
        },
        "operations": {
            "sendEvents": {"action": "send", "channel": {"$ref": "#/channels/feed"}},
            "receiveEvents": {"action": "receive", "channel": {"$ref": "#/channels/publish"}},
            **socket_operations(sockets),
        },
        "components": {
            "schemas": schemas.components,
            "messages": {**messages, "publish": _publish(schemas, publishable)},
        },
    }


def _feed_socket(names: Iterable[str]) -> dict[str, Any]:
    """The channel that has the messages of the stream, and a few of its own."""
    return {
        "address": FEED_SOCKET_PATH,
        "description": "WebSocket: the same feed, each message a text. An event is its payload as it stands "
        "here; the feed's own (`connected`, `removed`, ...) are "
        '`{"id": <cursor>, "eventType": <name>, "data": <payload>}`; `{"id"}` alone moves the cursor.',
        "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names} | feed_socket_messages(),
    }


def _message(event_type: EventType, schemas: Schemas) -> dict[str, Any]:
    kind = schemas.domain.kinds.get(event_type.document or "")
    data = schemas.of(event_type.data) if kind is None else _document_data(event_type, kind, schemas)
    payload = envelope_schema(data, event_type=event_type.name, version=kind is not None)
    if event_type.delivery is Delivery.EPHEMERAL:
        payload["required"] = [name for name in payload["required"] if name != "id"]
    delivery = _DELIVERY[event_type.delivery].format(entity=event_type.entity)
    carries = f" Carries a whole {kind.kind}, whose version it has." if kind is not None else ""
    message: dict[str, Any] = {
        "name": event_type.name,
        "summary": delivery + carries,
        "payload": payload,
        "x-delivery": event_type.delivery.value,
        "x-publishable": event_type.publishable,
        "x-made-by": [_name(c) for c in schemas.domain.commands if event_type.name in c.emits],
        "examples": [{"payload": _example(payload, schemas)}],
    }
    if event_type.entity is not None:
        message["x-latest-of"] = event_type.entity
    if kind is not None:
        message["x-document"] = kind.kind
    return message


def _document_data(event_type: EventType, kind: type[Document], schemas: Schemas) -> dict[str, Any]:
    """The whole document, what a delete leaves of it, or either: as the commands make the type."""
    makers = [command for command in schemas.domain.commands if event_type.name in command.emits]
    deleting = [c for c in makers if c.method == "DELETE" and c.target is kind and c.path_parameters == (kind.id_key,)]
    whole = {"type": "object", "properties": {kind.kind: schemas.of(kind)}, "required": [kind.kind]}
    left = {"type": "object", "properties": {kind.id_key: _TEXT}, "required": [kind.id_key]}
    gone = {
        "type": "object",
        "description": f"The {kind.noun()} was deleted.",
        "properties": {"deleted": {"const": True}, kind.kind: left},
        "required": ["deleted", kind.kind],
    }
    if not any(command.target is kind for command in schemas.domain.commands):
        return {"anyOf": [whole, gone]}  # it comes and goes with other documents
    if not deleting:
        return whole
    return gone if len(deleting) == len(makers) else {"anyOf": [whole, gone]}


def _name(command: Command) -> str:
    return f"{command.target.plural}_{command.name}"


def _example(payload: Mapping[str, Any], schemas: Schemas) -> dict[str, Any]:
    fields = {name: part for name, part in payload["properties"].items() if name not in (*ENTITY_KEYS, "occurredAt")}
    content: dict[str, Any] = example({**payload, "properties": fields}, schemas.components)
    return content | {"timestamp": TIME, "clientID": "till-3#8f2c"}


def _control(name: str, summary: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    required = [field for field in fields if field not in _SOMETIMES]
    payload = {"type": "object", "properties": dict(fields), "required": required}
    return {"name": name, "summary": summary, "payload": payload, "x-control": True}


def _publish(schemas: Schemas, names: list[str]) -> dict[str, Any]:
    allowed = {"type": "object", "properties": {"eventType": {"enum": names}}}
    return {"name": "publish", "payload": {"allOf": [schemas.of(EventInput), allowed]}}
