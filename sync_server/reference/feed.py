"""What the feed, publishing and the endpoints for those who run the server look like over HTTP.

Source: protocol.md 2, 3.
"""

from collections.abc import Iterator
from typing import Any

from sync_core.events import EventInput
from sync_core.filters import ENTITY_KEYS, EVENT_TYPE_PATTERN, MAX_FILTER_VALUES
from sync_core.paths import POLL_PATH, STREAM_PATH
from sync_server.api.submission import MAX_EVENTS
from sync_server.feed import poll
from sync_server.permissions import PUBLISH_EVENTS, VIEW_METRICS
from sync_server.reference.commands import CLIENT_ID
from sync_server.reference.operation import Operation, Parameter, Reply, Schema
from sync_server.reference.schemas import CURSOR, TIME, Schemas, envelope_schema, ref

__all__ = ["entity_filters", "feed_operations", "receipts_schema", "service_operations"]

_REFUSED = (401, 403, 429, 503)
_PROBLEMS = (400, *_REFUSED)
_EXAMPLE_EVENT = {
    "eventType": "status_update",
    "data": {"status": "Nearly done."},
    "orderID": "ORDER-001",
    "key": "5b1c4a1e-7d5e-4b1b-9a43-2f4e6c0f7f10",
}


def entity_filters() -> tuple[Parameter, ...]:
    """The parameters that ask for what is about certain entities."""
    schema: Schema = {"type": "array", "items": ref("EntityID"), "minItems": 1}
    return tuple(
        Parameter(key, "query", f"Only what is about any of these (with other entities: or). `{key}=A,B`", schema, True)
        for key in ENTITY_KEYS
    )


def _feed_parameters() -> tuple[Parameter, ...]:
    types: Schema = {
        "type": "array",
        "items": {"type": "string", "pattern": EVENT_TYPE_PATTERN},
        "maxItems": MAX_FILTER_VALUES,
    }
    cursor: Schema = {"type": "string", "examples": ["k3f9a2c1.1042", "earliest", "now"]}
    client: Schema = {"type": "string", "minLength": 1, "maxLength": 128}
    return (
        Parameter(
            "eventTypes", "query", f"Only these types. A filter has at most {MAX_FILTER_VALUES} values.", types, True
        ),
        *entity_filters(),
        Parameter("clientID", "query", "Hides what this instance of the caller has caused itself.", client),
        Parameter("lastEventId", "query", "Go on behind this id; `earliest`, or `now` (the default).", cursor),
        Parameter("Last-Event-ID", "header", "The same, and it comes first.", cursor),
    )


def feed_operations(schemas: Schemas) -> Iterator[Operation]:
    """Stream, poll and publish."""
    yield Operation(
        "GET", STREAM_PATH, "feed_stream", "Feed", "Every event, as it happens: Server-Sent Events.",
        description="Opens with `connected`, replays what lies behind the cursor, says `caught_up`, and goes on live. "
        "`/asyncapi.json` tells of the events. A cursor that leads nowhere is answered with `reset`, not an error.",
        parameters=_feed_parameters(),
        replies=(
            Reply(200, "The stream.", {"type": "string"}, "text/event-stream"),
            Reply(204, "Stop for good."),
        ),
        problems=_PROBLEMS,
        takes_ticket=True,
    )  # fmt: skip
    limit: Schema = {"type": "integer", "minimum": 1, "maximum": poll.MAX_LIMIT, "default": poll.DEFAULT_LIMIT}
    wait: Schema = {"type": "number", "minimum": 0, "maximum": poll.MAX_WAIT_S, "default": 0}
    yield Operation(
        "GET", POLL_PATH, "feed_poll", "Feed", "The same feed a page at a time, for who cannot be streamed to.",
        parameters=(
            Parameter("after", "query", "Go on behind this cursor: the one of the page before.", {"type": "string"}),
            Parameter("limit", "query", "Most events of the page.", limit),
            Parameter("wait", "query", "Hold an empty page back for so many seconds.", wait),
            *_feed_parameters(),
        ),
        replies=(
            Reply(200, "A page. Ask again behind its `cursor`, which moves on without events as well.", _page(),
                  headers=("ETag", "X-Poll-After-Ms")),
            Reply(204, "Stop for good."),
            Reply(304, "Nothing moved.", headers=("ETag", "X-Poll-After-Ms")),
        ),
        problems=(*_PROBLEMS, 410),
    )  # fmt: skip
    event = schemas.of(EventInput)
    batch = {
        "type": "object",
        "properties": {"events": {"type": "array", "items": event, "minItems": 1, "maxItems": MAX_EVENTS}},
        "required": ["events"],
        "additionalProperties": False,
    }
    yield Operation(
        "POST", STREAM_PATH, "feed_publish", "Feed", "Publish one event, or several: all of them, in order, or none.",
        description="Answered when they are durable. Types that carry documents are refused: only commands make them.",
        parameters=(CLIENT_ID,),
        body={"anyOf": [event, batch]},
        body_example=_EXAMPLE_EVENT,
        replies=(Reply(201, "They are in the log.", receipts_schema()),),
        problems=(400, 401, 403, 413, 415, 422, 429, 503),
        extensions={"x-permission": PUBLISH_EVENTS},
    )  # fmt: skip


def service_operations() -> Iterator[Operation]:
    """For those who run the server."""
    ok: Schema = {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]}
    ready: Schema = {
        "type": "object",
        "properties": {
            "status": {"enum": ["ready", "not ready"]},
            "log": {"enum": ["ok", "unreachable"]},
            "draining": {"type": "boolean"},
        },
        "required": ["status", "log", "draining"],
    }
    yield Operation(
        "GET", "/healthz", "service_alive", "Service", "Whether the process runs.", (Reply(200, "It does.", ok),),
        public=True,
    )  # fmt: skip
    yield Operation(
        "GET", "/readyz", "service_ready", "Service", "Whether to send clients here.",
        (Reply(200, "Yes.", ready), Reply(503, "Not now.", ready, headers=("Retry-After",))),
        public=True,
    )  # fmt: skip
    yield Operation(
        "GET", "/metrics", "service_metrics", "Service", "Figures for Prometheus.",
        (Reply(200, "Prometheus' text format.", {"type": "string"}, "text/plain"),),
        problems=_REFUSED, extensions={"x-permission": VIEW_METRICS},
    )  # fmt: skip
    for path, what in (("/openapi.json", "OpenAPI 3.1"), ("/asyncapi.json", "AsyncAPI 3.0")):
        name = path.strip("/").partition(".")[0]
        reply = Reply(200, "The document.", {"type": "object"})
        yield Operation(
            "GET", path, f"service_{name}", "Service", f"This API as {what}.", (reply,), (401, 403, 429, 503)
        )
    page = Reply(200, "A page.", {"type": "string"}, "text/html")
    yield Operation(
        "GET", "/docs", "service_docs", "Service", "This API as a page to browse.", (page,), (401, 403, 429, 503)
    )


def _page() -> dict[str, Any]:
    event = envelope_schema({"type": "object"})
    return {
        "type": "object",
        "properties": {
            "events": {"type": "array", "items": event},
            "cursor": CURSOR,
            "head": CURSOR,
            "upToDate": {"type": "boolean"},
            "hasMore": {"type": "boolean"},
            "pollAfterMs": {"type": "integer", "description": "When to ask again."},
            "tailAgeMs": {"type": "integer", "description": "How long ago the log was last read."},
            "serverTime": TIME,
        },
        "required": ["events", "cursor", "head", "upToDate", "hasMore", "pollAfterMs", "serverTime"],
    }


def receipts_schema() -> dict[str, Any]:
    """The answer to what was published."""
    receipt = {
        "type": "object",
        "properties": {
            "id": {**CURSOR, "type": ["string", "null"], "description": "null: ephemeral, not in the log."},
            "eventType": {"type": "string"},
            "duplicate": {"type": "boolean", "description": "It was published before with this key."},
        },
        "required": ["id", "eventType", "duplicate"],
    }
    return {
        "type": "object",
        "properties": {"events": {"type": "array", "items": receipt}},
        "required": ["events"],
        "example": {"events": [{"id": "k3f9a2c1.1043", "eventType": "status_update", "duplicate": False}]},
    }
