"""The form in which a channel's readers get what they are sent: Server-Sent Events, or WebSocket messages.

All of the feed (hub, reader, clock) works with bytes that it writes and does not look at; this is the one place that
makes them. The readers of a channel share their framing, so that whatever it takes is done once for all of them.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic_core import from_json, to_json

from sync_core.sse import encode_event, encode_id
from sync_server.feed.frames import text_frame
from sync_server.feed.window import FeedEvent, joined

__all__ = [
    "GZIPPED",
    "MESSAGES",
    "SSE",
    "Framing",
    "GzippedEvents",
    "MappedMessages",
    "Messages",
    "ServerSentEvents",
    "ToMessage",
]

ToMessage = Callable[[dict[str, Any]], Mapping[str, Any] | None]
"""From an envelope to the message that is sent for it; None for what is not sent. Pure: it is called once for many."""


class Framing(Protocol):
    """Values: equal ones make the same bytes. What they make can be joined in any order, behind the *preamble*."""

    @property
    def preamble(self) -> bytes:
        """What a reader is sent first of all."""

    def events(self, events: Iterable[FeedEvent]) -> bytes:
        """Events of the log, in order."""

    def control(
        self, event: str, data: Mapping[str, Any], *, event_id: str | None, retry_ms: int | None = None
    ) -> bytes:
        """One of the feed's own; *event_id* moves the reader's cursor, *retry_ms* is when to come back."""

    def advance(self, cursor: str) -> bytes:
        """What moves the reader's cursor and is nothing else."""


@dataclass(frozen=True, slots=True)
class ServerSentEvents:
    """Blocks of ``text/event-stream``. Source: protocol.md 2.1."""

    @property
    def preamble(self) -> bytes:
        return b""

    def events(self, events: Iterable[FeedEvent]) -> bytes:
        return joined(events)

    def control(
        self, event: str, data: Mapping[str, Any], *, event_id: str | None, retry_ms: int | None = None
    ) -> bytes:
        block = encode_event(event=event, id=event_id, data=to_json(data).decode())
        return block if retry_ms is None else b"retry: %d\n%b" % (retry_ms, block)

    def advance(self, cursor: str) -> bytes:
        return encode_id(cursor)


@dataclass(frozen=True, slots=True)
class GzippedEvents:
    """The same with ``Content-Encoding: gzip``, compressed once for all readers of a channel.

    A gzip stream is a head and DEFLATE blocks. Each piece is compressed by itself and ends at a byte, so that pieces
    can stand in any order behind the head that each reader gets for itself. The checksum at its end would be another
    one for each reader; streams that end are cut off without it, and clients of streams do not miss it.
    """

    @property
    def preamble(self) -> bytes:
        return b"\x1f\x8b\x08\0\0\0\0\0\0\xff"

    def events(self, events: Iterable[FeedEvent]) -> bytes:
        return _deflated(joined(events))

    def control(
        self, event: str, data: Mapping[str, Any], *, event_id: str | None, retry_ms: int | None = None
    ) -> bytes:
        return _deflated(SSE.control(event, data, event_id=event_id, retry_ms=retry_ms))

    def advance(self, cursor: str) -> bytes:
        return _deflated(SSE.advance(cursor))


def _deflated(piece: bytes) -> bytes:
    """*piece* as DEFLATE blocks that need nothing before them. A small window: pieces are small, and making a
    compressor with a large one takes longer than the piece."""
    if not piece:
        return b""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -12, 5)
    return compressor.compress(piece) + compressor.flush(zlib.Z_SYNC_FLUSH)


@dataclass(frozen=True, slots=True)
class Messages:
    """WebSocket text messages: each event's envelope, as polls return it. Source: docs/transports.md."""

    @property
    def preamble(self) -> bytes:
        return b""

    def events(self, events: Iterable[FeedEvent]) -> bytes:
        return b"".join([text_frame(event.envelope) for event in events])

    def control(
        self, event: str, data: Mapping[str, Any], *, event_id: str | None, retry_ms: int | None = None
    ) -> bytes:
        return text_frame(to_json(_control_envelope(event, data, event_id, retry_ms)))

    def advance(self, cursor: str) -> bytes:
        return text_frame(b'{"id":"%b"}' % cursor.encode())


@dataclass(frozen=True, slots=True)
class MappedMessages:
    """WebSocket text messages of a protocol of its own, which *mapping* makes of envelopes.

    It is given those of the feed's own events too (``{"id", "eventType": "reset", "data"}``). Two readers with the
    same *mapping* (the very same function) share its work.
    """

    mapping: ToMessage

    @property
    def preamble(self) -> bytes:
        return b""

    def events(self, events: Iterable[FeedEvent]) -> bytes:
        return b"".join([self._frame(from_json(event.envelope)) for event in events])

    def control(
        self, event: str, data: Mapping[str, Any], *, event_id: str | None, retry_ms: int | None = None
    ) -> bytes:
        return self._frame(_control_envelope(event, data, event_id, retry_ms))

    def advance(self, cursor: str) -> bytes:
        return self._frame({"id": cursor, "eventType": "advance", "data": {}})

    def _frame(self, envelope: dict[str, Any]) -> bytes:
        message = self.mapping(envelope)
        return b"" if message is None else text_frame(to_json(message))


def _control_envelope(
    event: str, data: Mapping[str, Any], event_id: str | None, retry_ms: int | None
) -> dict[str, Any]:
    envelope: dict[str, Any] = {} if event_id is None else {"id": event_id}
    return envelope | {"eventType": event, "data": data if retry_ms is None else {**data, "retryMs": retry_ms}}


SSE = ServerSentEvents()
GZIPPED = GzippedEvents()
MESSAGES = Messages()
