"""The hub of one tenant: takes what was committed, in order, and pushes it to all live readers.

Theory of operation. What has come in at the tail is noted in the channels that it is for. ``flush`` then writes each
of those channels' pending events as one piece to all its readers, and moves ``flushed`` up to the tail. Everything
between two awaits is one step for everybody, so a reader that copies the window up to ``flushed`` and joins its
channel in the same step misses nothing and gets nothing twice. Source: protocol.md 2.1, architecture.md (the hub).
"""

import asyncio
import random
from collections.abc import Callable, Collection, Coroutine, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog

from sync_core.events import EventRegistry
from sync_core.paths import SNAPSHOT_PATH
from sync_core.problems import Unavailable
from sync_server.access.caller import Caller
from sync_server.access.rights import AccessTable
from sync_server.feed.channel import Channel, ChannelIndex
from sync_server.feed.clock import REJOIN_MS, Clock
from sync_server.feed.connection import Chunk
from sync_server.feed.control import Goodbye, Reset
from sync_server.feed.framing import Framing
from sync_server.feed.memory import Memory
from sync_server.feed.newest import Newest
from sync_server.feed.reader import Reader
from sync_server.feed.replays import Replays
from sync_server.feed.tail import Tail
from sync_server.feed.turns import Turns
from sync_server.feed.window import FeedEvent, thin
from sync_server.log.base import Bounds, EventLog
from sync_server.log.records import StoredEvent
from sync_server.metrics import Metrics

__all__ = ["FeedSettings", "Hub"]

FLUSH_INTERVAL_S = 0.010
"""Under load flushes begin at least this far apart, so that what arrives meanwhile leaves in one piece."""
FLUSH_PAUSE_S = 0.005
"""From the end of one to the next, where many readers make a flush last: others have their turn, and more arrives."""
FLUSH_BYTES = 1024 * 1024
"""So much pending leaves at once: a flush's pieces are in memory twice."""

log = structlog.get_logger("sync_server.feed")


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """What the feed can be tuned by; see config.example.toml."""

    heartbeat_s: float = 15.0
    max_age_s: float = 600.0
    window_bytes: int = 16 * 1024 * 1024
    slow_close_s: float = 30.0
    compression: bool = False


class Made(NamedTuple):
    """A piece of a flush: so many events. *pending* is held, or its events' ids could come to be those of others."""

    chunk: Chunk
    event_count: int
    pending: list[FeedEvent]


class Hub:
    """One tenant's feed in this process."""

    def __init__(
        self,
        tenant: str,
        bounds: Bounds,
        *,
        event_log: EventLog,
        registry: EventRegistry,
        table: AccessTable,
        settings: FeedSettings,
        memory: Memory,
        metrics: Metrics,
        turns: Turns,
        spawn: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"],
    ) -> None:
        self.tenant = tenant
        self.settings = settings
        self.metrics = metrics
        self.latest = registry.latest
        self.custom_types = [event_type.name for event_type in registry if event_type.custom]
        self.spawn = spawn
        self.turns = turns
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self.channels = ChannelIndex()
        self.newest = Newest(registry.latest)
        self.readers: set[Reader] = set()
        self.polls: dict[asyncio.Future[bool], Caller] = {}
        """Long polls that wait, and for whom."""
        self._newcomers: set[Reader] = set()
        self.clock = Clock(self)
        self.tail = Tail(
            tenant,
            bounds,
            event_log=event_log,
            table=table,
            memory=memory,
            metrics=metrics,
            spawn=spawn,
            arrived=self._spread,
            restarted=self._restart,
        )
        self._memory = memory
        self.replays = Replays(memory.replays)
        self.used_s = self.now()
        """When somebody last asked for it, or was still there (monotonic)."""
        self.closed = False
        self.flushed = self.tail.seq
        self._dirty: list[Channel] = []
        self._pending_bytes = 0
        self._flush_handle: asyncio.Handle | None = None
        self._flush_due_s = float("-inf")
        """Before then there is no other flush, except for how much is pending."""
        self._delivered = 0

    def cursor_text(self, seq: int) -> str:
        return f"{self.tail.epoch}.{seq}"

    # -- what comes in ------------------------------------------------------------------------------

    def signal(self, events: Iterable[StoredEvent], *, as_of: int | None = None) -> None:
        """Ephemeral events: to who is live now, and gone, but for the newest of entities of which only that counts.

        Where they are judged by documents *as_of* that seq, those are dropped of whose entity readers here have
        been told something later: who was told that it is not theirs any more is not told where it is.
        """
        encoded = [self.tail.encode(stored) for stored in events]
        if as_of is not None:
            encoded = self.newest.standing(encoded, self.tail.window.since(as_of))
        self.newest.keep(encoded)
        self._spread(encoded)

    def _spread(self, events: list[FeedEvent]) -> None:
        """Note *events* with who is to be sent them."""
        if self.newest:
            self.newest.outdate(events)
        channels = self.channels
        for event in events:
            for channel in channels.matching(event):
                self._note(channel, event)
            for reader in channels.named(event):
                self._note(reader.channel, event, named=reader)
        if self._pending_bytes >= FLUSH_BYTES:
            self.flush()
        else:
            self._schedule_flush()

    def _note(self, channel: Channel, event: FeedEvent, *, named: Reader | None = None) -> None:
        if not channel.waiting:
            self._dirty.append(channel)
        channel.note(event, named=named)
        self._pending_bytes += len(event.block)

    def _restart(self, reason: Reset) -> None:
        """The log is another one than before: all readers begin again."""
        for channel in self._dirty:
            channel.take()
        self._dirty.clear()
        self._pending_bytes = 0
        self.flushed = self.tail.seq
        self.replays = Replays(self._memory.replays)
        self.wake_polls()
        for reader in list(self.readers):
            try:
                reader.rewind(reason)
            except Exception:
                log.exception("reader_rewind_failed", tenant=self.tenant)
                reader.discard()

    # -- what goes out ------------------------------------------------------------------------------

    def _schedule_flush(self) -> None:
        if self._flush_handle is None:
            if self._flush_due_s <= self.now():
                self._flush_handle = self._loop.call_soon(self.flush)
            else:
                self._flush_handle = self._loop.call_at(self._flush_due_s, self.flush)

    def flush(self) -> None:
        """Write what is pending to all live readers; afterwards ``flushed`` is the tail's seq."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        began_s = self.now()
        dirty, self._dirty = self._dirty, []
        self._pending_bytes = 0
        # Before the first write: a reader that falls behind in this flush has its whole piece in the socket.
        self.flushed = self.tail.seq
        made: dict[Hashable, Made] = {}
        for channel in dirty:
            try:
                self._flush_channel(channel, made)
            except Exception:  # what it was to get is taken: its readers come back for it, the others go on
                log.exception("flush_failed", tenant=self.tenant)
                for reader in list(channel.readers):
                    reader.abandon()
        self._flush_due_s = max(began_s + FLUSH_INTERVAL_S, self.now() + FLUSH_PAUSE_S)
        if self._delivered:
            self.metrics.deliveries.inc(self._delivered)
            self._delivered = 0

    def _flush_channel(self, channel: Channel, made: dict[Hashable, Made]) -> None:
        pieces = channel.take()
        if channel.unused:
            self.channels.release(channel)
            return
        if sum(len(readers) for readers, _ in pieces) == len(channel.readers):
            # Else those who got nothing keep the channel's timers running, for all of it.
            channel.heartbeat_due_s = self.clock.heartbeat_due()
            channel.sent_seq = max(channel.sent_seq, min(events[-1].seq for _, events in pieces))
        for readers, pending in pieces:
            chunk, event_count, _ = self._make(channel.framing, pending, made)
            self._delivered += event_count * len(readers)
            self.write(readers, chunk)

    def _make(self, framing: Framing, pending: list[FeedEvent], made: dict[Hashable, Made]) -> Made:
        """What those are sent for whom *pending* is: in one flush once for all channels that are sent the same."""
        key = (framing, *map(id, pending))
        found = made.get(key)
        if found is None:
            # Thinned after what is not for them is out, or one of that could take the place of what is.
            events = thin(pending, self.latest)
            found = made[key] = Made(Chunk(framing.events(events)), len(events), pending)
            self.metrics.flush_events.observe(len(events))
        return found

    def write(self, readers: Iterable[Reader], chunk: Chunk) -> None:
        """Push *chunk* to live *readers*; one that cannot be written to is let go."""
        for reader in readers:
            try:
                reader.write(chunk)
            except Exception:
                log.warning("reader_write_failed", tenant=self.tenant, exc_info=True)
                reader.discard()

    def count_deliveries(self, count: int) -> None:
        self._delivered += count

    # -- readers ------------------------------------------------------------------------------------

    def reset_document(self, reason: Reset, *, root_path: str) -> dict[str, Any]:
        """What a reader whose cursor leads nowhere is told. Source: protocol.md 2.1."""
        return {
            "reason": reason.value,
            "head": self.cursor_text(self.flushed),
            "floor": self.cursor_text(self.tail.floor),
            "snapshot": root_path + SNAPSHOT_PATH,
        }

    def admit(self, reader: Reader, *, lifetime_s: float, farewell: Goodbye = Goodbye.MAX_AGE) -> None:
        """*reader* is one of ours from here on, for *lifetime_s* at most, and is then told *farewell*.

        Raises Unavailable if it has taken so long to come that the hub is closed.
        """
        if self.closed:
            raise Unavailable("The stream took too long to begin.", retry_after_s=0)
        self.readers.add(reader)
        if reader.view.caller.credential:
            self._newcomers.add(reader)
        self.metrics.readers.inc()
        self.clock.admit(reader, lifetime_s=lifetime_s, farewell=farewell)

    def join(self, reader: Reader) -> None:
        """*reader* goes live with everything up to ``flushed``."""
        self.channels.join(reader)
        channel = reader.channel
        if channel.heartbeat_due_s < self.now():
            channel.heartbeat_due_s = self.clock.heartbeat_due()
        if len(channel.readers) == 1:
            channel.sent_seq = self.flushed

    def wake_polls(self) -> None:
        """Let the long polls answer what they have."""
        for channel in self.channels:
            channel.wake()

    def close_some(self, share: float, reason: Goodbye, *, retry_ms: tuple[int, int]) -> None:
        """Say goodbye to about that *share* of the readers, drawn at random; to all if it is 1."""
        count = len(self.readers) * share
        count = int(count) + (random.random() < count % 1)
        for reader in random.sample(list(self.readers), min(count, len(self.readers))):
            reader.close(reason, retry_ms=random.randint(*retry_ms))

    def dismiss(self, callers: Collection[Caller]) -> None:
        """End what *callers* are being sent: their access is no longer what it was."""
        for reader in list(self.readers):
            if reader.view.caller in callers:
                reader.close(Goodbye.ACCESS_CHANGED, retry_ms=random.randint(*REJOIN_MS))
        for poll, caller in list(self.polls.items()):
            if caller in callers and not poll.done():
                poll.set_result(False)

    @property
    def callers(self) -> set[Caller]:
        """All whom this hub sends something."""
        return {reader.view.caller for reader in self.readers} | set(self.polls.values())

    def newcomers(self) -> set[Caller]:
        """Those of ``callers`` who may have come since this was last asked."""
        found = {reader.view.caller for reader in self._newcomers} | set(self.polls.values())
        self._newcomers.clear()
        return found

    @property
    def in_use(self) -> bool:
        """Whether somebody is being sent something."""
        return bool(self.readers or self.polls)

    def close(self) -> None:
        """Nobody has been here for long: keep nothing in memory, follow the log no more."""
        self.closed = True
        if self._flush_handle is not None:
            self._flush_handle.cancel()
        self.tail.close()

    def forget(self, reader: Reader) -> None:
        """*reader* is gone."""
        if reader in self.readers:
            self.readers.discard(reader)
            self._newcomers.discard(reader)
            self.metrics.readers.dec()
            self.clock.forget(reader)
        self.channels.release(reader.channel)
