"""All tenants' hubs of one process, and what they share: the doorbell, the safety poll, the clock, the end.

Everything runs in one task group, which ``run`` holds open. Nothing here grows with readers: one change
stream, one query a second over the heads of the tenants that have a hub. A tenant has one from its first reader on
until nobody has asked for it in a while.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

import structlog

from sync_core.domain.catalog import DOMAIN
from sync_core.domain.command import Domain
from sync_core.events import EventRegistry
from sync_core.problems import Unavailable
from sync_server.access.caller import Caller
from sync_server.access.rights import AccessTable
from sync_server.feed.control import Goodbye
from sync_server.feed.hub import FeedSettings, Hub
from sync_server.feed.memory import Memory
from sync_server.feed.turns import Turns
from sync_server.log.base import Bell, EventLog, LogError
from sync_server.log.group import Committed
from sync_server.log.records import StoredEvent
from sync_server.metrics import Metrics

__all__ = ["Feed"]

SAFETY_POLL_S = 1.0
PIN_PATIENCE_S = 2.0
LOG_LOST_HEARTBEATS = 3
LOG_LOST_SPREAD_S = 60.0
DRAIN_STEP_S = 0.05
RETRY_AFTER_S = 2
UNUSED_HUB_S = 120.0
"""Longer than any request takes between asking for a hub and using it, and than most clients stay away."""

log = structlog.get_logger("sync_server.feed")


class Guest(Protocol):
    """Somebody with an open connection who may act over it, whether or not it is sent the feed."""

    @property
    def known_caller(self) -> Caller | None:
        """Who it is, as far as that is known."""

    def dismiss(self) -> None:
        """End the connection."""


class Feed:
    """The feed of this process. Use inside ``async with feed.run():``."""

    def __init__(
        self,
        event_log: EventLog,
        *,
        registry: EventRegistry,
        settings: FeedSettings,
        metrics: Metrics,
        domain: Domain = DOMAIN,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.draining = False
        self.guests: set[Guest] = set()
        """Who is dismissed like readers, where it is none."""
        self._log = event_log
        self._registry = registry
        self._table = AccessTable(registry, domain)
        self._turns = Turns()
        self._memory = Memory(window_bytes=settings.window_bytes)
        self._hubs: dict[str, Hub] = {}
        self._opening: dict[str, asyncio.Task[Hub]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._read_s = float("-inf")
        self._log_failing = False

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Hold the feed's tasks; they end with the block."""
        failure: Exception | None = None
        async with asyncio.TaskGroup() as group:
            self._group = group
            with suppress(TimeoutError):
                async with asyncio.timeout(PIN_PATIENCE_S):
                    await self._look()
            for work in (self._listen, self._poll, self._keep_time):
                self.spawn(_forever(work))
            try:
                yield
            except Exception as exc:  # noqa: BLE001 - raised below: the group would wrap it
                failure = exc
            finally:
                self._group = None
                await self._end_tasks()
        if failure is not None:
            raise failure

    async def _end_tasks(self) -> None:
        # Again and again: a driver that is just opening a connection may swallow a cancellation.
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=0.5)

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run *work* in the feed's task group."""
        if self._group is None:
            work.close()
            raise Unavailable("The server is shutting down.", retry_after_s=RETRY_AFTER_S)
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def hub(self, tenant: str) -> Hub:
        """The tenant's hub, opened at first use. Raises Unavailable if the log does not answer in 2 s."""
        hub = self._hubs.get(tenant)
        if hub is not None:
            hub.used_s = hub.now()
            return hub
        opening = self._opening.get(tenant)
        if opening is None:
            opening = asyncio.get_running_loop().create_task(self._open(tenant), name="feed-open")
            self._opening[tenant] = opening
            opening.add_done_callback(lambda _: self._opening.pop(tenant, None))
            # Whether anybody still waits for it or not, its error has been seen.
            opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            async with asyncio.timeout(PIN_PATIENCE_S):
                return await asyncio.shield(opening)
        except TimeoutError:
            raise Unavailable("The event log does not answer.", retry_after_s=RETRY_AFTER_S) from None
        except LogError as exc:
            raise Unavailable("The event log cannot be read now.", retry_after_s=RETRY_AFTER_S) from exc

    async def _open(self, tenant: str) -> Hub:
        bounds = await self._log.ensure(tenant)
        hub = Hub(
            tenant,
            bounds,
            event_log=self._log,
            registry=self._registry,
            table=self._table,
            settings=self.settings,
            memory=self._memory,
            metrics=self.metrics,
            turns=self._turns,
            spawn=self.spawn,
        )
        self._hubs[tenant] = hub
        # Between reading the bounds and now an own commit may have passed by.
        hub.tail.ring()
        return hub

    def committed(self, tenant: str, committed: Committed) -> None:
        """A group of this process's appender; see Tail.offer."""
        self._read_s = asyncio.get_running_loop().time()
        hub = self._hubs.get(tenant)
        if hub is not None:
            hub.tail.offer(committed)

    async def signal(self, tenant: str, events: list[StoredEvent], *, as_of: int | None = None) -> None:
        """Ephemeral events of this process, see Hub.signal: to its own readers now, and to the other processes."""
        hub = self._hubs.get(tenant)
        if hub is not None:
            hub.signal(events, as_of=as_of)
        try:
            await self._log.signal(tenant, events, as_of=as_of)
        except LogError as exc:
            raise Unavailable("The event log cannot be read now.", retry_after_s=RETRY_AFTER_S) from exc

    @property
    def callers(self) -> set[Caller]:
        """All who are being sent something now, by a stream or a poll that waits, and all guests."""
        return {caller for hub in self._hubs.values() for caller in hub.callers} | self._guest_callers()

    def newcomers(self) -> set[Caller]:
        """Those of ``callers`` who may have come since this was last asked.

        Whoever grants access compares all with what it grants when that changes, and these every second: a request
        that was let in before a change may begin its stream after it.
        """
        return {caller for hub in self._hubs.values() for caller in hub.newcomers()} | self._guest_callers()

    def _guest_callers(self) -> set[Caller]:
        return {guest.known_caller for guest in self.guests if guest.known_caller is not None}

    def dismiss(self, callers: Collection[Caller]) -> None:
        """End what *callers*, as they are, are being sent: their access has changed. They may come back."""
        for hub in list(self._hubs.values()):
            hub.dismiss(callers)
        for guest in list(self.guests):
            if guest.known_caller in callers:
                guest.dismiss()

    @property
    def reader_count(self) -> int:
        """Open streams of this process."""
        return sum(len(hub.readers) for hub in self._hubs.values())

    @property
    def tail_age_s(self) -> float:
        """Age of the oldest data that readers are given: how long ago the log was last seen to hold no more."""
        read_s = min([self._read_s, *(hub.tail.read_s for hub in self._hubs.values())])
        return asyncio.get_running_loop().time() - read_s

    @property
    def log_lost(self) -> bool:
        """Whether the log has been silent for so long that readers are better off elsewhere."""
        return self.tail_age_s > LOG_LOST_HEARTBEATS * self.settings.heartbeat_s

    # -- tasks --------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """The doorbell: what other processes did."""
        async for wakeup in self._log.wakeups():
            hubs = self._hubs
            if isinstance(wakeup, Bell):
                ringing = hubs.values() if wakeup.tenant is None else [hubs.get(wakeup.tenant)]
                for hub in list(ringing):
                    if hub is not None:
                        hub.tail.ring(wakeup.head)
            elif wakeup.tenant in hubs:
                hubs[wakeup.tenant].signal(wakeup.events, as_of=wakeup.as_of)

    async def _poll(self) -> None:
        """Beside the doorbell, since a bell may fail; also what tells that the log is alive."""
        while True:
            await asyncio.sleep(SAFETY_POLL_S * random.uniform(0.8, 1.0))
            await self._look()

    async def _look(self) -> None:
        """One look at the bounds of all tenants that have a hub."""
        hubs = dict(self._hubs)
        seqs = {tenant: hub.tail.seq for tenant, hub in hubs.items()}
        try:
            bounds = await self._log.bounds(seqs)
        except LogError as exc:
            if not self._log_failing:
                log.warning("log_unavailable", error=str(exc))
            self._log_failing = True
        else:
            if self._log_failing:
                log.warning("log_available_again")
            self._log_failing = False
            self._read_s = asyncio.get_running_loop().time()
            for tenant, found in bounds.items():
                hubs[tenant].tail.observe(found, seq_before=seqs[tenant])

    async def _keep_time(self) -> None:
        """Heartbeats, ages, and a spread goodbye where the log is gone for good."""
        step_s = min(1.0, self.settings.heartbeat_s / 15)
        lost_steps = 0
        while True:
            await asyncio.sleep(step_s)
            for hub in list(self._hubs.values()):
                hub.clock.sweep()
            self._close_unused()
            lost_steps = lost_steps + 1 if self.log_lost else 0
            if lost_steps:
                steps_left = max(LOG_LOST_SPREAD_S / step_s - lost_steps, 1)
                self._close_some(1 / steps_left, Goodbye.LOG_UNAVAILABLE, retry_ms=(10_000, 30_000))
            self.metrics.tail_age.set(self.tail_age_s)
            self.metrics.channels.set(sum(len(hub.channels) for hub in self._hubs.values()))

    def _close_unused(self) -> None:
        """A tenant that nobody reads costs neither memory nor a part of the query."""
        for tenant, hub in list(self._hubs.items()):
            if hub.in_use:
                hub.used_s = hub.now()
            elif hub.now() - hub.used_s > UNUSED_HUB_S:
                del self._hubs[tenant]
                hub.close()

    def _close_some(self, share: float, reason: Goodbye, *, retry_ms: tuple[int, int]) -> None:
        for hub in list(self._hubs.values()):
            hub.close_some(share, reason, retry_ms=retry_ms)

    async def drain(self, window_s: float) -> None:
        """Take no new readers, and tell all there are goodbye, spread over *window_s*."""
        self.draining = True
        loop = asyncio.get_running_loop()
        end_s = loop.time() + window_s
        for hub in self._hubs.values():
            hub.wake_polls()
        while self.reader_count:
            left_s = max(end_s - loop.time(), 0.0)
            share = 1.0 if left_s < DRAIN_STEP_S else DRAIN_STEP_S / left_s
            self._close_some(share, Goodbye.SHUTDOWN, retry_ms=(100, 1000))
            await asyncio.sleep(DRAIN_STEP_S)
        for guest in list(self.guests):
            guest.dismiss()


async def _forever(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run *work* again if it fails: one unforeseen error must not end the feed of all readers."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("feed_task_failed", task=work.__name__)
        await asyncio.sleep(1)
