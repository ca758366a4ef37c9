"""The end of one tenant's log, as this process knows it: what has come in, in order and without a gap.

Theory of operation. ``seq`` is the last event that has come in; it only ever grows by exactly the next one. What
comes in is encoded once, put into the window, and handed on.

Where events come from: the appender of this process hands over what it committed (``offer``); for what other
processes wrote, and for gaps, ``_follow`` reads on from ``seq``. Wake-ups only say "look", never where.
Source: protocol.md 2.1, architecture.md (the hub).
"""

import asyncio
import math
import random
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from sync_server.access.rights import AccessTable
from sync_server.feed.control import Reset
from sync_server.feed.memory import Memory
from sync_server.feed.pages import LogPages
from sync_server.feed.window import FeedEvent, Window, encode
from sync_server.log.base import Bounds, EventLog, LogError
from sync_server.log.group import Committed
from sync_server.log.records import StoredEvent
from sync_server.metrics import Metrics

__all__ = ["Tail"]

FOLLOW_LIMIT = 1000
FOLLOW_RETRY_S = 0.2
FUTURE_PATIENCE_S = 2.0

log = structlog.get_logger("sync_server.feed")


class Tail:
    """Follows one tenant's log. *arrived* is given the next events, *restarted* is told that the log is another one."""

    def __init__(
        self,
        tenant: str,
        bounds: Bounds,
        *,
        event_log: EventLog,
        table: AccessTable,
        memory: Memory,
        metrics: Metrics,
        spawn: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"],
        arrived: Callable[[list[FeedEvent]], None],
        restarted: Callable[[Reset], None],
    ) -> None:
        self.tenant = tenant
        self._log = event_log
        self._table = table
        self._memory = memory
        self._metrics = metrics
        self._arrived = arrived
        self._restarted = restarted
        self._now = asyncio.get_running_loop().time
        self.read_s = self._now()
        """When the log was last seen to hold nothing that is not in here (monotonic): the age of the data."""
        self._begin_epoch(bounds)
        self._bell = asyncio.Event()
        self._told: float = 0
        """The seq up to which there is something to be read, as far as that is known; inf where it is not."""
        self._refreshing: asyncio.Task[Bounds | None] | None = None
        self._back_since_s: float | None = None
        self._following = spawn(self._follow())

    def _begin_epoch(self, bounds: Bounds) -> None:
        self.epoch = bounds.epoch
        self.floor = bounds.floor
        self.seq = bounds.head
        self.window = Window(start=bounds.head, order=self._memory.windows)
        self.pages = LogPages(
            self._log,
            self.tenant,
            self.epoch,
            table=self._table,
            kept=self._memory.pages,
            metrics=self._metrics,
        )

    @property
    def age_ms(self) -> int:
        """How old the data is: time since the log was last seen to hold no more."""
        return round((self._now() - self.read_s) * 1000)

    def close(self) -> None:
        """Nobody asks any more."""
        self._following.cancel()
        self.window.close()

    def encode(self, event: StoredEvent) -> FeedEvent:
        return encode(self.epoch, event, self._table)

    # -- own commits --------------------------------------------------------------------------------

    def offer(self, committed: Committed) -> None:
        """A group that this process has committed. Ignored as far as it is known, a bell beyond a gap."""
        events = committed.events
        if committed.epoch != self.epoch:
            self.look()
            return
        if not events:
            return
        if events[0].seq == self.seq + 1:
            self._was_read()  # the log has just shown that it is alive and where it ends
            self._take(events)
        elif self._contradicts(events[0]):
            log.error("log_went_back", tenant=self.tenant, tail=self.seq, head=events[-1].seq)
            self._restart(Bounds(self.epoch, min(self.floor, events[-1].seq), events[-1].seq), Reset.FUTURE)
        else:
            self.ring(events[-1].seq)

    def _contradicts(self, stored: StoredEvent) -> bool:
        """Whether readers were shown another event with the seq of this one, which was committed now."""
        if not self.window.before < stored.seq <= self.window.last:
            return False
        (known,) = self.window.after(stored.seq - 1, upto=stored.seq)
        return known.block != self.encode(stored).block

    def _take(self, events: list[StoredEvent]) -> None:
        """The next events, the first of them being seq + 1."""
        encoded = [self.encode(stored) for stored in events]
        for event in encoded:
            self.window.append(event)
        self.seq = events[-1].seq
        self._arrived(encoded)

    # -- what others wrote --------------------------------------------------------------------------

    def ring(self, head: int | None = None) -> None:
        """Somebody may have written, up to *head* if that is known: read on."""
        if head is None or head > self.seq:
            self._told = max(self._told, math.inf if head is None else head)
            self._bell.set()

    async def _follow(self) -> None:
        """Read on from the tail whenever the bell rings."""
        failing = False
        while True:
            await self._bell.wait()
            self._bell.clear()
            told, self._told = self._told, 0
            try:
                while await self._read_on() and self.seq < told:
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
            self.ring()

    async def _read_on(self) -> bool:
        """One page from the tail on; whether there may be more."""
        epoch = self.epoch
        rows = await self._log.read(self.tenant, after=self.seq, limit=FOLLOW_LIMIT)
        self._metrics.log_reads.labels("follow").inc()
        if self.epoch != epoch:
            return True
        # Own commits may have been offered while the log was read.
        rows = [row for row in rows if row.seq > self.seq]
        if not rows:
            return False
        first = rows[0].seq
        if first != self.seq + 1 or rows[-1].seq != first + len(rows) - 1:
            return await self._skip_trimmed(first)
        self._take(rows)
        self._was_read()
        return True

    async def _skip_trimmed(self, first: int) -> bool:
        """The next event is missing: trimmed away under a tail that lags, or a hole, which stops the feed."""
        bounds = await self.refresh()
        if bounds is not None and bounds.floor > self.seq:
            self._restart(bounds, Reset.EXPIRED)
            return True
        self._metrics.log_holes.inc()
        log.error("log_hole", tenant=self.tenant, after=self.seq, found=first)
        await asyncio.sleep(0.2)
        return True

    # -- where the log begins and ends --------------------------------------------------------------

    async def refresh(self) -> Bounds | None:
        """The log's bounds, fresh and observed; one query for all who ask. None if it cannot be read now."""
        return await asyncio.shield(self.look())

    def look(self) -> "asyncio.Task[Bounds | None]":
        """A look at the log's bounds, begun now unless one is under way."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh(), name="feed-refresh")
        return self._refreshing

    async def _refresh(self) -> Bounds | None:
        seq_before = self.seq
        try:
            bounds = (await self._log.bounds([self.tenant])).get(self.tenant)
        except LogError:
            return None
        if bounds is not None:
            self.observe(bounds, seq_before=seq_before)
        return bounds

    async def found_hole(self, after: int) -> None:
        """A page did not begin where it should: usually the floor moved, of which this finds out."""
        if self._refreshing is not None and not self._refreshing.done():
            await self.refresh()  # it may have been asked before the floor moved
        bounds = await self.refresh()
        if bounds is not None and bounds.floor <= after:
            self._metrics.log_holes.inc()
            log.error("log_hole", tenant=self.tenant, after=after)

    def observe(self, bounds: Bounds, *, seq_before: int) -> None:
        """Fresh *bounds* of the log, asked for when ``seq`` was *seq_before*."""
        if bounds.epoch != self.epoch:
            self._was_read()
            self._restart(bounds, Reset.EPOCH)
            return
        if bounds.head < seq_before:
            self._went_back(bounds)
            return
        if bounds.head <= self.seq:  # else it is older than that: what is missing has not been read yet
            self._was_read()
        self._back_since_s = None
        self.floor = max(self.floor, bounds.floor)
        self.ring(bounds.head)

    def _went_back(self, bounds: Bounds) -> None:
        """The log ends before what was shown: restored without a new epoch, if that is so for long.

        A primary that has just been deposed may answer from its past for a moment.
        """
        now = self._now()
        self._back_since_s = self._back_since_s or now
        if now - self._back_since_s >= FUTURE_PATIENCE_S:
            log.error("log_went_back", tenant=self.tenant, tail=self.seq, head=bounds.head)
            self._back_since_s = None
            self._restart(bounds, Reset.FUTURE)

    def _was_read(self) -> None:
        self.read_s = self._now()

    def _restart(self, bounds: Bounds, reason: Reset) -> None:
        """The log is another one than before: all readers begin again."""
        log.warning("feed_restarts", tenant=self.tenant, epoch=bounds.epoch, reason=reason.value)
        self.window.close()
        self._begin_epoch(bounds)
        self._restarted(reason)
        self.ring()  # an own commit to the new one may have been offered before *bounds* were known here
