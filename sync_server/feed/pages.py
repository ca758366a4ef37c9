"""Older events, read from the log in pages that all readers at nearby cursors share.

Pages begin at multiples of PAGE_EVENTS, so that 5,000 readers that come back with cursors within the last
10,000 events cost 20 reads and not 5,000. A page that is being read is waited for, not read again.
"""

import asyncio

from sync_core.problems import SyncError
from sync_server.access.rights import AccessTable
from sync_server.feed.memory import Kept
from sync_server.feed.window import FeedEvent, encode, piece, size_of
from sync_server.log.base import EventLog
from sync_server.metrics import Metrics

__all__ = ["Hole", "LogPages"]

PAGE_EVENTS = 512
PAGE_BYTES = 1024 * 1024


class Hole(SyncError):
    """The log did not give the event that should come next: trimmed meanwhile, or missing."""


class LogPages:
    """Pages of one epoch of one tenant's log, among those of all tenants that are *kept*."""

    def __init__(
        self,
        event_log: EventLog,
        tenant: str,
        epoch: str,
        *,
        table: AccessTable,
        kept: Kept[list[FeedEvent]],
        metrics: Metrics,
    ) -> None:
        self._log = event_log
        self._table = table
        self._tenant = tenant
        self._epoch = epoch
        self._metrics = metrics
        self._kept = kept
        self._reading: dict[int, asyncio.Task[list[FeedEvent]]] = {}

    async def after(self, seq: int, *, floor: int) -> list[FeedEvent]:
        """Events from *seq* + 1 on, to the end of the page that holds it; *seq* is at least *floor*.

        Raises Hole if the next event is not there, LogError.
        """
        if seq < floor:
            raise Hole(f"tenant {self._tenant}: {seq} is below the floor {floor}")
        start = max(seq - seq % PAGE_EVENTS, floor)
        try:
            page = await self._page(start)
        except Hole:
            if start == seq:
                raise
            return await self._page(seq)  # only the page's beginning was trimmed, which *floor* did not know yet
        if page[-1].seq > seq:
            return page[seq - start :]
        # The page was cut short, by its bytes or by what was then the head: go on behind its end.
        return await self._page(seq)

    async def _page(self, start: int) -> list[FeedEvent]:
        """The page after *start*, kept or read."""
        page = self._kept.get((self, start))
        if page is not None:
            self._metrics.replays.labels("pages").inc()
            return page
        reading = self._reading.get(start)
        if reading is None:
            reading = asyncio.get_running_loop().create_task(self._read(start), name="feed-page")
            self._reading[start] = reading
        # A reader that leaves must not take the page away from the others that wait for it.
        return await asyncio.shield(reading)

    async def _read(self, start: int) -> list[FeedEvent]:
        try:
            limit = PAGE_EVENTS - start % PAGE_EVENTS
            rows = await self._log.read(self._tenant, after=start, limit=limit)
            self._metrics.log_reads.labels("replay").inc()
            self._metrics.replays.labels("log").inc()
            if not rows or rows[0].seq != start + 1 or rows[-1].seq != start + len(rows):
                raise Hole(f"tenant {self._tenant}: no event {start + 1}")
            page = piece([encode(self._epoch, row, self._table) for row in rows], max_bytes=PAGE_BYTES)
            self._kept.keep((self, start), page, size_bytes=sum(map(size_of, page)))
            return page
        finally:
            del self._reading[start]
