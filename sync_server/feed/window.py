"""The recent events of one tenant, encoded once, kept in memory for those who were away for a moment."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sync_core.envelope import envelope
from sync_core.times import iso_from_ms
from sync_server.log.group import StoredEvent

__all__ = ["FeedEvent", "Window", "encode", "joined", "piece", "thin"]

PIECE_EVENTS = 1024
PIECE_BYTES = 64 * 1024
"""Most that a reader in catch-up is written in one go: as much as a socket's buffer takes before it says stop.
A thousand readers that come back and do not read hold a thousand of these."""
EVENT_OVERHEAD_BYTES = 400
"""About what an event takes beside its block: the tuple, its tags, its strings."""


class FeedEvent(NamedTuple):
    """An event ready to leave. *block* is its SSE block; the JSON envelope in it begins at *envelope_at*."""

    seq: int
    event_type: str
    tags: tuple[str, ...]
    client_id: str | None
    principal: str
    block: bytes
    envelope_at: int

    @property
    def envelope(self) -> bytes:
        """The envelope's JSON, as polls return it."""
        return self.block[self.envelope_at : -2]


def encode(epoch: str, event: StoredEvent) -> FeedEvent:
    """*event* as every reader of it will get it. An ephemeral one (seq 0) has no id, in no place."""
    seq, time_ms, event_type, tags, client_id, principal, tail = event
    if seq:
        event_id = f"{epoch}.{seq}"
        head = f"event: {event_type}\nid: {event_id}\ndata: "
        text = envelope(event_id, event_type, iso_from_ms(time_ms), tail)
    else:
        head = f"event: {event_type}\ndata: "
        text = f'{{"eventType":"{event_type}","timestamp":"{iso_from_ms(time_ms)}",{tail}'
    return FeedEvent(seq, event_type, tags, client_id, principal, f"{head}{text}\n\n".encode(), len(head))


def thin(events: list[FeedEvent], latest: Mapping[str, str]) -> list[FeedEvent]:
    """*events* without those of delivery ``latest`` that a later one of the same entity makes worthless.

    *latest* maps such event types to the tag prefix of their entity. What is kept stays at its seq.
    """
    if not latest or len(events) < 2 or not any(e.event_type in latest for e in events):
        return events
    kept: list[FeedEvent] = []
    seen: set[tuple[str, str]] = set()
    for event in reversed(events):
        prefix = latest.get(event.event_type)
        if prefix is not None:
            entity = next((t for t in event.tags if t.startswith(prefix)), None)
            if entity is not None:
                if (event.event_type, entity) in seen:
                    continue
                seen.add((event.event_type, entity))
        kept.append(event)
    kept.reverse()
    return kept


class Window:
    """A contiguous run of events, *before* + 1 up to *last*, bounded by the bytes it takes."""

    def __init__(self, *, start: int, max_bytes: int) -> None:
        self.before = start
        """Seq of the last event that is not held any more; readers from here on are served from memory."""
        self.last = start
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._events: list[FeedEvent | None] = []
        self._dropped = 0
        """Entries at the list's front that are given up but not yet cut off: cutting one by one is O(n)."""

    def append(self, event: FeedEvent) -> None:
        """Take *event* in, which must be the next one, and give up the oldest ones beyond the bound."""
        if event.seq != self.last + 1:
            raise ValueError(f"event {event.seq} does not follow {self.last}")
        self._events.append(event)
        self.last = event.seq
        self._size_bytes += len(event.block) + EVENT_OVERHEAD_BYTES
        while self._size_bytes > self._max_bytes and self.before < self.last:
            oldest = self._events[self._dropped]
            assert oldest is not None
            self._size_bytes -= len(oldest.block) + EVENT_OVERHEAD_BYTES
            self._events[self._dropped] = None
            self._dropped += 1
            self.before += 1
        if self._dropped > 1024 and self._dropped * 2 > len(self._events):
            del self._events[: self._dropped]
            self._dropped = 0

    def after(self, seq: int, *, upto: int) -> list[FeedEvent]:
        """Events seq+1 ... *upto*, cut to a piece. *seq* must not be less than ``before``."""
        if seq < self.before:
            raise ValueError(f"{seq} has left the window, which begins after {self.before}")
        start = self._dropped + seq - self.before
        end = start + min(PIECE_EVENTS, max(upto - seq, 0))
        return piece([event for event in self._events[start:end] if event is not None])


def piece(events: list[FeedEvent], *, max_bytes: int = PIECE_BYTES) -> list[FeedEvent]:
    """As many of *events* as fit *max_bytes*: at least one."""
    size_bytes = 0
    for count, event in enumerate(events):
        size_bytes += len(event.block)
        if size_bytes > max_bytes and count:
            return events[:count]
    return events


def joined(events: Iterable[FeedEvent]) -> bytes:
    """The blocks of *events* in one piece."""
    return b"".join([event.block for event in events])
