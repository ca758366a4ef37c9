"""How a reader comes in, whatever carries its feed: the status is decided first, then it begins at its cursor.

Between the two the transport sends its head. Source: protocol.md 2.1.
"""

import random
import secrets
from dataclasses import dataclass
from time import time_ns
from typing import Any

from sync_core.problems import Unavailable
from sync_core.times import iso_from_ms
from sync_server.feed.connection import Chunk, Connection
from sync_server.feed.control import Goodbye, Reset
from sync_server.feed.feed import RETRY_AFTER_S, Feed
from sync_server.feed.framing import Framing
from sync_server.feed.hub import Hub
from sync_server.feed.pin import Pin, pin, reset_pin
from sync_server.feed.reader import Reader
from sync_server.feed.request import FeedRequest

__all__ = ["LOG_LOST_RETRY_AFTER_S", "Admission"]

PROTOCOL = 1
LOG_LOST_RETRY_AFTER_S = 10


@dataclass(frozen=True, slots=True)
class Admission:
    """A reader that may come in: where it begins is known."""

    feed: Feed
    hub: Hub
    request: FeedRequest
    begins: Pin

    @classmethod
    async def of(cls, feed: Feed, request: FeedRequest) -> "Admission":
        """Raises Unavailable: shutting down, the log cannot be read, or not in time."""
        if feed.draining:
            raise Unavailable("The server is shutting down.", retry_after_s=RETRY_AFTER_S)
        if feed.log_lost:
            raise Unavailable("The event log cannot be read.", retry_after_s=LOG_LOST_RETRY_AFTER_S)
        hub = await feed.hub(request.caller.tenant)
        return cls(feed, hub, request, await pin(hub, request.cursor))

    def admit(self, connection: Connection, framing: Framing, *, max_age_s: float) -> Reader:
        """From the pin on: what was published since lies behind the cursor, and reaches this reader too."""
        hub, begins, request = self.hub, self.begins, self.request
        if begins.epoch != hub.tail.epoch:  # the log was replaced while the head was sent
            begins = reset_pin(hub, Reset.EPOCH)
        lifetime_s, farewell = max_age_s * random.uniform(0.8, 1.2), Goodbye.MAX_AGE
        if request.left_s < lifetime_s:
            lifetime_s, farewell = request.left_s, Goodbye.TOKEN_EXPIRED
        reader = Reader(
            hub, connection, view=request.view, cursor=begins.seq, framing=framing, root_path=request.root_path
        )
        hub.admit(reader, lifetime_s=lifetime_s, farewell=farewell)
        if self.feed.draining:  # it came between the check and here
            if framing.preamble:
                connection.write(Chunk(framing.preamble))
            reader.close(Goodbye.SHUTDOWN, retry_ms=random.randint(100, 1000))
        else:
            reader.begin(_opening(hub, begins, request, framing, lifetime_s))
        return reader


def _opening(hub: Hub, begins: Pin, request: FeedRequest, framing: Framing, lifetime_s: float) -> bytes:
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
    if hub.custom_types:  # a browser's EventSource hands out only types that it was told of
        data["customTypes"] = hub.custom_types
    opening = framing.control("connected", data, event_id=cursor, retry_ms=random.randint(2000, 6000))
    if begins.reset is not None:
        hub.metrics.resets.labels(begins.reset.value).inc()
        reset = hub.reset_document(begins.reset, root_path=request.root_path)
        opening += framing.control("reset", reset, event_id=cursor)
    return framing.preamble + opening
