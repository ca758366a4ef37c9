"""``GET /api/v1/sync/events``: the Server-Sent Events response.

The handler pins the cursor, sends the head and the opening, hands the reader to the hub and then only waits
for the disconnect; from there on the hub writes. It takes the ASGI server's own ``send``: anything that wraps
it would be paid for at every event and every reader. Source: protocol.md 2.1.
"""

import random
import secrets
from time import time_ns
from typing import Any

from starlette.types import Receive, Scope, Send

from sync_core.problems import Unavailable
from sync_core.times import iso_from_ms
from sync_server.feed.connection import connect, delimit_by_close
from sync_server.feed.control import Goodbye, Reset, control_event
from sync_server.feed.feed import RETRY_AFTER_S, Feed
from sync_server.feed.hub import Hub
from sync_server.feed.pin import Pin, pin, reset_pin
from sync_server.feed.reader import Reader
from sync_server.feed.request import FeedRequest

__all__ = ["STREAM_PATH", "EventStream"]

STREAM_PATH = "/api/v1/sync/events"
PROTOCOL = 1
LOG_LOST_RETRY_AFTER_S = 10

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]


class EventStream:
    """The ASGI endpoint. Raises Problem before the response has begun, never after."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send, *, begin: Send) -> None:
        """Serve one reader until it or the server ends it; *begin* sends the head, *send* all that follows."""
        reader = await self._open(scope, send, begin)
        if reader is None:
            return
        # For as long as the stream lasts nothing is held here but the reader.
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            reader.discard()

    async def _open(self, scope: Scope, send: Send, begin: Send) -> Reader | None:
        """The head and the opening; None where that is all (HEAD)."""
        request = FeedRequest.parse(scope)
        if self._feed.draining:
            raise Unavailable("The server is shutting down.", retry_after_s=RETRY_AFTER_S)
        if self._feed.log_lost:
            raise Unavailable("The event log cannot be read.", retry_after_s=LOG_LOST_RETRY_AFTER_S)
        hub = await self._feed.hub(request.caller.tenant)
        begins = await pin(hub, request.cursor)
        if scope["http_version"] == "1.0":
            delimit_by_close(send)
        await begin({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return None
        return self._admit(hub, begins, request, send)

    def _admit(self, hub: Hub, begins: Pin, request: FeedRequest, send: Send) -> Reader:
        """From the pin on: what was published since lies behind the cursor, and reaches this reader too."""
        settings = self._feed.settings
        if begins.epoch != hub.tail.epoch:  # the log was replaced while the head was sent
            begins = reset_pin(hub, Reset.EPOCH)
        lifetime_s, farewell = settings.max_age_s * random.uniform(0.8, 1.2), Goodbye.MAX_AGE
        if request.left_s < lifetime_s:
            lifetime_s, farewell = request.left_s, Goodbye.TOKEN_EXPIRED
        reader = Reader(hub, connect(send), view=request.view, cursor=begins.seq, root_path=request.root_path)
        hub.admit(reader, lifetime_s=lifetime_s, farewell=farewell)
        if self._feed.draining:  # it came between the check and here
            reader.close(Goodbye.SHUTDOWN, retry_ms=random.randint(100, 1000))
        else:
            reader.begin(_opening(hub, begins, request, lifetime_s))
        return reader


def _opening(hub: Hub, begins: Pin, request: FeedRequest, lifetime_s: float) -> bytes:
    cursor = hub.cursor_text(begins.seq)
    data: dict[str, Any] = {
        "clientId": request.view.client_id or secrets.token_hex(8),
        "cursor": cursor,
        "head": hub.cursor_text(hub.tail.seq),
        "resume": begins.resume,
        "heartbeatSeconds": hub.settings.heartbeat_s,
        "maxAgeSeconds": round(lifetime_s, 1),
        "serverTime": iso_from_ms(time_ns() // 1_000_000),
        "filter": request.view.sight.filter.document(),
        "access": request.caller.rights.digest,
        "protocol": PROTOCOL,
    }
    opening = b"retry: %d\n" % random.randint(2000, 6000) + control_event("connected", data, event_id=cursor)
    if begins.reset is not None:
        hub.metrics.resets.labels(begins.reset.value).inc()
        reset = hub.reset_document(begins.reset, root_path=request.root_path)
        opening += control_event("reset", reset, event_id=cursor)
    return opening
