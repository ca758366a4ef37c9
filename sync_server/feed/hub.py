"""The hub of one tenant: takes what was committed, in order, and pushes it to all live readers.

Theory of operation. ``tail`` is the last seq that has come in; it only ever grows by exactly the next event.
What comes in is encoded once, put into the window, and noted in the channels whose filter it passes. ``flush``
then writes each of those channels' pending events as one piece to all its readers, and moves ``flushed`` up to
``tail``. Everything between two awaits is one step for everybody, so a reader that copies the window up to
``flushed`` and joins its channel in the same step misses nothing and gets nothing twice.

Where events come from: the appender of this process hands over what it committed (``offer``); for what other
processes wrote, and for gaps, ``_follow`` reads on from ``tail``. Wake-ups only say "look", never where.
Source: protocol.md 2.1, architecture.md (the hub).
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from time import time_ns
from typing import Any

import structlog

from sync_core.cursor import EARLIEST, NOW, Cursor, MalformedCursor
from sync_core.events import EventRegistry
from sync_core.problems import Unavailable
from sync_core.sse import encode_id
from sync_core.times import iso_from_ms
from sync_server.feed.channel import Channel, ChannelIndex
from sync_server.feed.connection import Chunk
from sync_server.feed.control import Goodbye, Reset, control_event
from sync_server.feed.pages import LogPages
from sync_server.feed.reader import Reader
from sync_server.feed.window import Window, encode, joined, thin
from sync_server.log.base import Bounds, EventLog, LogError
from sync_server.log.group import Committed, StoredEvent
from sync_server.metrics import Metrics

__all__ = ["FeedSettings", "Hub", "Pin"]

FLUSH_INTERVAL_S = 0.005
"""Under load flushes are at least this far apart, so that what arrives meanwhile leaves in one piece."""
FLUSH_BYTES = 1024 * 1024
"""So much pending leaves at once: a flush's pieces are in memory twice."""
FOLLOW_LIMIT = 1000
FOLLOW_RETRY_S = 0.2
FUTURE_PATIENCE_S = 2.0
ADVANCE_SEQS = 1000
ADVANCE_S = 5.0
OWN_COMMIT_GRACE_S = 0.002

log = structlog.get_logger("sync_server.feed")


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """What the feed can be tuned by; see config.example.toml."""

    heartbeat_s: float = 15.0
    max_age_s: float = 600.0
    window_bytes: int = 16 * 1024 * 1024
    slow_close_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Pin:
    """Where a reader begins. *reset* is set where its cursor led nowhere; then *seq* is the head."""

    epoch: str
    seq: int
    resume: str
    reset: Reset | None = None


class Hub:
    """One tenant's feed in this process."""

    def __init__(
        self,
        tenant: str,
        bounds: Bounds,
        *,
        event_log: EventLog,
        registry: EventRegistry,
        settings: FeedSettings,
        metrics: Metrics,
        spawn: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"],
        is_writing: Callable[[str], bool],
    ) -> None:
        self.tenant = tenant
        self.settings = settings
        self.metrics = metrics
        self.latest = registry.latest
        self.spawn = spawn
        self._log = event_log
        self._is_writing = is_writing
        self.now = asyncio.get_running_loop().time
        self.read_s = self.now()
        """When the log was last seen to hold nothing that is not in here (monotonic): the age of the data."""
        self.channels = ChannelIndex()
        self.readers: set[Reader] = set()
        self._begin_epoch(bounds)
        self._dirty: list[Channel] = []
        self._pending_bytes = 0
        self._flush_handle: asyncio.Handle | None = None
        self._flushed_s = float("-inf")
        self._bell = asyncio.Event()
        self._following = spawn(self._follow())
        self._refreshing: asyncio.Task[Bounds | None] | None = None
        self._expiring: dict[int, set[Reader]] = {}
        self._expired_tick = int(self.now())
        self._delivered = 0
        self._back_since_s: float | None = None

    def _begin_epoch(self, bounds: Bounds) -> None:
        self.epoch = bounds.epoch
        self.floor = bounds.floor
        self.tail = self.flushed = bounds.head
        self.window = Window(start=bounds.head, max_bytes=self.settings.window_bytes)
        self.pages = LogPages(
            self._log,
            self.tenant,
            self.epoch,
            max_bytes=self.settings.window_bytes,
            metrics=self.metrics,
        )

    @property
    def heartbeat_s(self) -> float:
        return self.settings.heartbeat_s

    @property
    def slow_close_s(self) -> float:
        return self.settings.slow_close_s

    def cursor_text(self, seq: int) -> str:
        return f"{self.epoch}.{seq}"

    # -- what comes in ------------------------------------------------------------------------------

    def offer(self, committed: Committed) -> None:
        """A group that this process has committed. Ignored as far as it is known, a bell beyond a gap."""
        events = committed.events
        if committed.epoch != self.epoch:
            self.look()
            return
        if not events:
            return
        if events[0].seq == self.tail + 1:
            self.read_s = self.now()  # the log has just shown that it is alive and where it ends
            self._take(events)
        elif self._contradicts(events[0]):
            log.error("log_went_back", tenant=self.tenant, tail=self.tail, head=events[-1].seq)
            self._restart(Bounds(self.epoch, min(self.floor, events[-1].seq), events[-1].seq), Reset.FUTURE)
        elif events[-1].seq > self.tail:
            self._bell.set()

    def _contradicts(self, stored: StoredEvent) -> bool:
        """Whether readers were shown another event with the seq of this one, which was committed now."""
        if not self.window.before < stored.seq <= self.window.last:
            return False
        (known,) = self.window.after(stored.seq - 1, upto=stored.seq)
        return known.block != encode(self.epoch, stored).block

    def signal(self, events: Iterable[StoredEvent]) -> None:
        """Ephemeral events: to who is live now, and gone."""
        for stored in events:
            event = encode(self.epoch, stored)
            for channel in self.channels.matching(event):
                self._note(channel, event)
        self._schedule_flush()

    def ring(self, head: int | None = None) -> None:
        """Somebody may have written, up to *head* if that is known: read on.

        Most bells are echoes of what this process is committing and will be offered in a moment; those are
        waited for, or every commit would be read back.
        """
        if head is not None and head <= self.tail:
            return
        if head is not None and self._is_writing(self.tenant):
            asyncio.get_running_loop().call_later(OWN_COMMIT_GRACE_S, self._ring_if_behind, head)
        else:
            self._bell.set()

    def _ring_if_behind(self, head: int) -> None:
        if head > self.tail:
            self._bell.set()

    def observe(self, bounds: Bounds, *, tail_before: int) -> None:
        """Fresh *bounds* of the log, asked for when ``tail`` was *tail_before*."""
        if bounds.epoch != self.epoch:
            self._was_read()
            self._restart(bounds, Reset.EPOCH)
            return
        if bounds.head < tail_before:
            self._went_back(bounds)
            return
        if bounds.head <= self.tail:  # else it is older than that: what is missing has not been read yet
            self._was_read()
        self._back_since_s = None
        self.floor = max(self.floor, bounds.floor)
        if bounds.head > self.tail:
            self._bell.set()

    def _went_back(self, bounds: Bounds) -> None:
        """The log ends before what was shown: restored without a new epoch, if that is so for long.

        A primary that has just been deposed may answer from its past for a moment.
        """
        now = self.now()
        self._back_since_s = self._back_since_s or now
        if now - self._back_since_s >= FUTURE_PATIENCE_S:
            log.error("log_went_back", tenant=self.tenant, tail=self.tail, head=bounds.head)
            self._back_since_s = None
            self._restart(bounds, Reset.FUTURE)

    def _was_read(self) -> None:
        self.read_s = self.now()

    def _restart(self, bounds: Bounds, reason: Reset) -> None:
        """The log is another one than before: all readers begin again."""
        log.warning("feed_restarts", tenant=self.tenant, epoch=bounds.epoch, reason=reason.value)
        for channel in self._dirty:
            channel.take_pending()
        self._dirty.clear()
        self._pending_bytes = 0
        self._begin_epoch(bounds)
        self.wake_polls()
        for reader in list(self.readers):
            try:
                reader.rewind(reason)
            except Exception:
                log.exception("reader_rewind_failed", tenant=self.tenant)
                reader.discard()

    def _take(self, events: list[StoredEvent]) -> None:
        """The next events, the first of them being tail + 1."""
        epoch, window, channels = self.epoch, self.window, self.channels
        for stored in events:
            event = encode(epoch, stored)
            window.append(event)
            for channel in channels.matching(event):
                self._note(channel, event)
        self.tail = events[-1].seq
        if self._pending_bytes >= FLUSH_BYTES:
            self.flush()
        else:
            self._schedule_flush()

    def _note(self, channel: Channel, event: Any) -> None:
        if not channel.pending:
            self._dirty.append(channel)
        channel.pending.append(event)
        self._pending_bytes += len(event.block)

    async def _follow(self) -> None:
        """Read on from the tail whenever the bell rings."""
        failing = False
        while True:
            await self._bell.wait()
            self._bell.clear()
            try:
                while await self._read_on():
                    pass
            except LogError as exc:
                pause_s = FOLLOW_RETRY_S
                if not failing:
                    log.warning("follow_unavailable", tenant=self.tenant, error=str(exc))
                failing = True
            except Exception:
                log.exception("follow_failed", tenant=self.tenant)
                pause_s = FOLLOW_RETRY_S * 5
            else:
                failing = False
                continue
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
            self._bell.set()

    async def _read_on(self) -> bool:
        """One page from the tail on; whether there may be more."""
        epoch, tail = self.epoch, self.tail
        rows = await self._log.read(self.tenant, after=tail, limit=FOLLOW_LIMIT)
        self.metrics.log_reads.labels("follow").inc()
        if self.epoch != epoch:
            return True
        # Own commits may have been offered while the log was read.
        rows = [row for row in rows if row.seq > self.tail]
        if not rows:
            return False
        first = rows[0].seq
        if first != self.tail + 1 or rows[-1].seq != first + len(rows) - 1:
            return await self._skip_trimmed(first)
        self._take(rows)
        self._was_read()
        return True

    async def _skip_trimmed(self, first: int) -> bool:
        """The next event is missing: trimmed away under a tail that lags, or a hole, which stops the feed."""
        bounds = await self.refresh()
        if bounds is not None and bounds.floor > self.tail:
            self._restart(bounds, Reset.EXPIRED)
            return True
        self.metrics.log_holes.inc()
        log.error("log_hole", tenant=self.tenant, after=self.tail, found=first)
        await asyncio.sleep(0.2)
        return True

    async def found_hole(self, after: int) -> None:
        """A page did not begin where it should: usually the floor moved, of which this finds out."""
        if self._refreshing is not None and not self._refreshing.done():
            await self.refresh()  # it may have been asked before the floor moved
        bounds = await self.refresh()
        if bounds is not None and bounds.floor <= after:
            self.metrics.log_holes.inc()
            log.error("log_hole", tenant=self.tenant, after=after)

    async def refresh(self) -> Bounds | None:
        """The log's bounds, fresh and observed; one query for all who ask. None if it cannot be read now."""
        return await asyncio.shield(self.look())

    def look(self) -> "asyncio.Task[Bounds | None]":
        """A look at the log's bounds, begun now unless one is under way."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh(), name="feed-refresh")
        return self._refreshing

    async def _refresh(self) -> Bounds | None:
        tail_before = self.tail
        try:
            bounds = (await self._log.bounds([self.tenant])).get(self.tenant)
        except LogError:
            return None
        if bounds is not None:
            self.observe(bounds, tail_before=tail_before)
        return bounds

    # -- what goes out ------------------------------------------------------------------------------

    def _schedule_flush(self) -> None:
        if self._flush_handle is None:
            loop = asyncio.get_running_loop()
            due_s = self._flushed_s + FLUSH_INTERVAL_S
            if due_s <= self.now():
                self._flush_handle = loop.call_soon(self.flush)
            else:
                self._flush_handle = loop.call_at(due_s, self.flush)

    def flush(self) -> None:
        """Write what is pending to all live readers; afterwards ``flushed`` is ``tail``."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        dirty, self._dirty = self._dirty, []
        self._pending_bytes = 0
        # Before the first write: a reader that falls behind in this flush has its whole piece in the socket.
        self.flushed = self.tail
        for channel in dirty:
            self._flush_channel(channel)
        self._flushed_s = self.now()
        if self._delivered:
            self.metrics.deliveries.inc(self._delivered)
            self._delivered = 0

    def _flush_channel(self, channel: Channel) -> None:
        pending = channel.take_pending()
        if not (channel.readers or channel.echo):
            self.channels.release(channel)
            return
        events = thin(pending, self.latest)
        chunk = Chunk(joined(events))
        now = self.now()
        channel.heartbeat_due_s = self._heartbeat_due(now)
        self.metrics.flush_events.observe(len(events))
        self._delivered += len(events) * len(channel.readers)
        for reader in list(channel.readers):
            self._write(reader, chunk)
        everybody = True
        for reader in list(channel.echo):
            visible = channel.visible_to(reader, pending)
            if not visible:
                everybody = False
                continue
            # Thinned after its own are out, or one of those could take the place of what it may see.
            own = events if visible is pending else thin(visible, self.latest)
            self._delivered += len(own)
            reader.heartbeat_due_s = channel.heartbeat_due_s
            self._write(reader, chunk if own is events else Chunk(joined(own)))
        if everybody:
            channel.sent_seq = max(channel.sent_seq, events[-1].seq)

    def _write(self, reader: Reader, chunk: Chunk) -> None:
        try:
            reader.write(chunk)
        except Exception:
            log.warning("reader_write_failed", tenant=self.tenant, exc_info=True)
            reader.discard()

    def _heartbeat_due(self, now: float) -> float:
        return now + self.heartbeat_s * random.uniform(0.9, 1.1)

    def count_deliveries(self, count: int) -> None:
        self._delivered += count

    def sweep(self) -> None:
        """What time brings: heartbeats, silent advances, readers whose time is over. About every second."""
        now = self.now()
        heartbeat: Chunk | None = None
        for channel in self.channels:
            if not channel.readers and not channel.echo:
                continue
            if now >= channel.heartbeat_due_s:
                heartbeat = heartbeat or self._heartbeat()
                channel.heartbeat_due_s = self._heartbeat_due(now)
                if not channel.echo:
                    channel.sent_seq = self.flushed
                for reader in list(channel.readers):
                    self._write(reader, heartbeat)
            elif self.flushed - channel.sent_seq > ADVANCE_SEQS and now - channel.advanced_s >= ADVANCE_S:
                channel.advanced_s = now
                channel.sent_seq = self.flushed
                advance = Chunk(encode_id(self.cursor_text(self.flushed)))
                for reader in channel:
                    self._write(reader, advance)
            for reader in list(channel.echo):
                if now >= reader.heartbeat_due_s:
                    heartbeat = heartbeat or self._heartbeat()
                    reader.heartbeat_due_s = self._heartbeat_due(now)
                    self._write(reader, heartbeat)
        self._expire(int(now))

    def _heartbeat(self) -> Chunk:
        self.flush()  # its id must not run ahead of what is pending
        return Chunk(self.heartbeat_block(self.flushed))

    def heartbeat_block(self, seq: int) -> bytes:
        data = {
            "timestamp": iso_from_ms(time_ns() // 1_000_000),
            "head": self.cursor_text(self.tail),
            "tailAgeMs": round((self.now() - self.read_s) * 1000),
        }
        return control_event("heartbeat", data, event_id=self.cursor_text(seq))

    def _expire(self, tick: int) -> None:
        while self._expired_tick < tick:
            self._expired_tick += 1
            for reader in self._expiring.pop(self._expired_tick, ()):
                reader.close(Goodbye.MAX_AGE, retry_ms=random.randint(100, 1000))

    # -- readers ------------------------------------------------------------------------------------

    async def pin(self, text: str | None) -> Pin:
        """Where a reader with the cursor *text* begins. In memory, but for cursors that are ahead of us.

        Raises Unavailable if it cannot be told in time.
        """
        if text is None or text == NOW:
            self.flush()
            return Pin(self.epoch, self.flushed, "now")
        if text == EARLIEST:
            await self.refresh()  # the floor may have moved since it was last looked at
            return Pin(self.epoch, self.floor, "start")
        try:
            cursor = Cursor.parse(text)
        except MalformedCursor:
            return self.reset_pin(Reset.MALFORMED)
        if cursor.epoch != self.epoch or cursor.seq > self.tail:
            # Perhaps it comes from a process that is ahead of this one: only the log itself can tell.
            await self._catch_sight_of(cursor)
        if cursor.epoch != self.epoch:
            return self.reset_pin(Reset.EPOCH)
        if cursor.seq > self.tail:
            return self.reset_pin(Reset.FUTURE)
        if cursor.seq < self.floor:
            return self.reset_pin(Reset.EXPIRED)
        return Pin(self.epoch, cursor.seq, "resumed")

    async def _catch_sight_of(self, cursor: Cursor) -> None:
        """Wait until the tail has come to *cursor*, as long as fresh reads of the log say that it may."""
        deadline_s = self.now() + FUTURE_PATIENCE_S
        while True:
            bounds = await self.refresh()
            if bounds is None:
                raise Unavailable("The event log cannot be read now.", retry_after_s=2)
            if cursor.epoch != self.epoch or cursor.seq <= self.tail:
                return
            if self.now() >= deadline_s:
                if bounds.head >= cursor.seq:
                    raise Unavailable("This server is behind the event log.", retry_after_s=2)
                return
            await asyncio.sleep(0.05)

    def reset_pin(self, reason: Reset) -> Pin:
        """At head, for a reader whose cursor leads nowhere."""
        self.flush()
        return Pin(self.epoch, self.flushed, "reset", reason)

    def reset_document(self, reason: Reset) -> dict[str, Any]:
        """What a reader whose cursor leads nowhere is told. Source: protocol.md 2.1."""
        return {
            "reason": reason.value,
            "head": self.cursor_text(self.flushed),
            "floor": self.cursor_text(self.floor),
            "snapshot": None,
        }

    def admit(self, reader: Reader, *, lifetime_s: float) -> None:
        """*reader* is one of ours from here on, for *lifetime_s* at most."""
        self.readers.add(reader)
        self.metrics.readers.inc()
        reader.expires_tick = max(int(self.now() + lifetime_s), self._expired_tick + 1)
        self._expiring.setdefault(reader.expires_tick, set()).add(reader)

    def joined(self, reader: Reader) -> None:
        """*reader* has gone live with everything up to ``flushed``."""
        channel, now = reader.channel, self.now()
        if channel.heartbeat_due_s < now:
            channel.heartbeat_due_s = self._heartbeat_due(now)
        reader.heartbeat_due_s = self._heartbeat_due(now)
        if len(channel.readers) + len(channel.echo) == 1:
            channel.sent_seq = self.flushed

    def wake_polls(self) -> None:
        """Let the long polls answer what they have."""
        for channel in self.channels:
            channel.take_waiters()

    def close_some(self, share: float, reason: Goodbye, *, retry_ms: tuple[int, int]) -> None:
        """Say goodbye to about that *share* of the readers, drawn at random; to all if it is 1."""
        count = len(self.readers) * share
        count = int(count) + (random.random() < count % 1)
        for reader in random.sample(list(self.readers), min(count, len(self.readers))):
            reader.close(reason, retry_ms=random.randint(*retry_ms))

    def forget(self, reader: Reader) -> None:
        """*reader* is gone."""
        if reader in self.readers:
            self.readers.discard(reader)
            self.metrics.readers.dec()
            self._expiring.get(reader.expires_tick, set()).discard(reader)
        self.channels.release(reader.channel)
