"""The recent events of one tenant, encoded once, kept in memory for those who were away for a moment."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pydantic_core import to_json

from sync_core.envelope import envelope
from sync_core.sse import encode_event
from sync_core.times import iso_from_ms
from sync_server.access.rights import Access, AccessTable
from sync_server.feed.memory import Order
from sync_server.log.records import StoredEvent

__all__ = ["FeedEvent", "Window", "encode", "joined", "piece", "size_of", "thin"]

PIECE_EVENTS = 1024
PIECE_BYTES = 64 * 1024
"""Most that a reader in catch-up is written in one go: as much as a socket's buffer takes before it says stop.
A thousand readers that come back and do not read hold a thousand of these."""
EVENT_OVERHEAD_BYTES = 400
"""About what an event takes beside its block: the tuple, its tags, its strings."""
_ID = b"\nid: "
_DATA = b"\ndata: "


class FeedEvent(NamedTuple):
    """An event ready to leave. *block* is its SSE block; the JSON envelope in it begins at *envelope_at*.

    *access* is what it takes to see it; *sample* the share of its readers that it is delivered to, beside all those
    with the permission *spares*. *removal* stands for it with those who might see the document before the change and
    may not any more, or do not look for it there: an event of its own, whose *tags* and *access* are what they were
    before.
    """

    seq: int
    event_type: str
    tags: tuple[str, ...]
    client_id: str | None
    principal: str
    block: bytes
    envelope_at: int
    access: Access
    sample: float | None = None
    removal: "FeedEvent | None" = None
    spares: str | None = None

    @property
    def is_removal(self) -> bool:
        return not self.envelope_at

    @property
    def event_id(self) -> bytes:
        """``<epoch>.<seq>``. Only logged events have one."""
        begin = self.block.index(_ID) + len(_ID)
        return self.block[begin : self.block.index(b"\n", begin)]

    @property
    def envelope(self) -> bytes:
        """The envelope's JSON, as polls return it."""
        if self.is_removal:
            data = self.block[self.block.index(_DATA) + len(_DATA) : -2]
            return b'{"id":"%b","eventType":"removed","data":%b}' % (self.event_id, data)
        return self.block[self.envelope_at : -2]


def encode(epoch: str, event: StoredEvent, table: AccessTable) -> FeedEvent:
    """*event* as every reader of it will get it. An ephemeral one (seq 0) has no id, in no place."""
    seq, time_ms, event_type, tags, client_id, principal, tail, reach = event
    if seq:
        event_id = f"{epoch}.{seq}"
        head = f"event: {event_type}\nid: {event_id}\ndata: "
        text = envelope(event_id, event_type, iso_from_ms(time_ms), tail)
    else:
        head = f"event: {event_type}\ndata: "
        text = f'{{"eventType":"{event_type}","timestamp":"{iso_from_ms(time_ms)}",{tail}'
    block = f"{head}{text}\n\n".encode()
    if reach is None:
        access = table.of_type(event_type)
        return FeedEvent(seq, event_type, tags, client_id, principal, block, len(head), access)
    access = Access(table.permission(reach.kind, event_type), reach.grants, reach.audience)
    removal = None
    if reach.left:
        before = Access(access.permission, reach.grants_left, reach.audience_left)
        data = to_json({"kind": reach.kind, "id": reach.id, "version": reach.version}).decode()
        removed = encode_event(event="removed", id=f"{epoch}.{seq}", data=data)
        removal = FeedEvent(seq, event_type, reach.left, client_id, principal, removed, 0, before)
    return FeedEvent(
        seq, event_type, tags, client_id, principal, block, len(head), access, reach.sample, removal,
        table.spares.get(event_type),
    )  # fmt: skip


def thin(events: list[FeedEvent], latest: Mapping[str, str]) -> list[FeedEvent]:
    """*events* without those of delivery ``latest`` that a later one of the same entity makes worthless.

    *latest* maps such event types to the tag prefix of their entity. What is kept stays at its seq. A removal is
    no news of the entity: it stays, and takes nobody's place.
    """
    if not latest or len(events) < 2 or not any(e.event_type in latest for e in events):
        return events
    kept: list[FeedEvent] = []
    seen: set[tuple[str, str]] = set()
    for event in reversed(events):
        prefix = None if event.is_removal else latest.get(event.event_type)
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
    """A contiguous run of events, *before* + 1 up to *last*. *order* bounds the bytes of all windows together."""

    def __init__(self, *, start: int, order: Order) -> None:
        self.before = start
        """Seq of the last event that is not held any more; readers from here on are served from memory."""
        self.last = start
        self._order = order
        self._events: list[FeedEvent | None] = []
        self._dropped = 0
        """Entries at the list's front that are given up but not yet cut off: cutting one by one is O(n)."""

    def append(self, event: FeedEvent) -> None:
        """Take *event* in, which must be the next one; of all windows the oldest beyond the bound are given up."""
        if event.seq != self.last + 1:
            raise ValueError(f"event {event.seq} does not follow {self.last}")
        self._events.append(event)
        self.last = event.seq
        self._order.took(self, size_of(event))

    def give_up_oldest(self) -> int:
        """Let go of the oldest event. The bytes that this frees."""
        oldest = self._events[self._dropped]
        assert oldest is not None
        self._events[self._dropped] = None
        self._dropped += 1
        self.before += 1
        if self._dropped > 1024 and self._dropped * 2 > len(self._events):
            del self._events[: self._dropped]
            self._dropped = 0
        return size_of(oldest)

    def close(self) -> None:
        """Let go of all events, for good."""
        held = [event for event in self._events if event is not None]
        self._events.clear()
        self._dropped = 0
        self.before = self.last
        self._order.left(self, events=len(held), size_bytes=sum(map(size_of, held)))

    def after(self, seq: int, *, upto: int) -> list[FeedEvent]:
        """Events seq+1 ... *upto*, cut to a piece. *seq* must not be less than ``before``."""
        if seq < self.before:
            raise ValueError(f"{seq} has left the window, which begins after {self.before}")
        start = self._dropped + seq - self.before
        end = start + min(PIECE_EVENTS, max(upto - seq, 0))
        return piece([event for event in self._events[start:end] if event is not None])

    def since(self, seq: int) -> list[FeedEvent] | None:
        """All events after *seq*, none if that is still to come; None where some of them are not held any more."""
        if seq < self.before:
            return None
        return [event for event in self._events[self._dropped + seq - self.before :] if event is not None]


def size_of(event: FeedEvent) -> int:
    """About what *event* takes in memory."""
    return len(event.block) + EVENT_OVERHEAD_BYTES


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
