"""The way out: hands stored events to handlers and iterators, in order, and marks what was handed out.

Everything waits in the cache, never in a queue in memory: a page of records is all that delivery holds. So a
slow handler costs disk (or, without a cache, the bounded memory), and the intake goes on until there is too much.

An event is marked processed after all its handlers returned and all iterators asked for the next one. Marks are
written in batches of at most 50 ms; a kill in between hands those events out again (at least once). For a
transactional handler the mark is part of its transaction (exactly once). A handler that raises is called again,
then the event is parked, and delivery goes on. Source: architecture.md (delivery).
"""

import asyncio
import inspect
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sync_client.backoff import Backoff, Rng
from sync_client.errors import CacheUnwritable
from sync_client.event import Event
from sync_client.handlers import Handlers, Route
from sync_client.keeper import Keeper
from sync_client.logs import get_logger
from sync_client.records import Mark, Record, Transaction

__all__ = ["Delivery", "DeliveryCounts", "Events", "HandlerPolicy"]

PAGE = 256
MARK_EVERY_S = 0.05
DISK_RETRY_S = 2.0

log = get_logger()


@dataclass(frozen=True, slots=True)
class HandlerPolicy:
    """What happens to an event whose handler raises: called again *retries* times, then parked."""

    retries: int = 3
    backoff: Backoff = Backoff(base_s=0.1, cap_s=5.0)  # noqa: RUF009 - frozen


@dataclass(slots=True)
class DeliveryCounts:
    """Counted since the start."""

    delivered: int = 0
    handler_errors: int = 0
    retried: int = 0
    parked: int = 0
    own: int = 0
    """Events that this instance caused itself, not handed out."""


class _Subscription:
    """What delivery knows of one iterator."""

    def __init__(self) -> None:
        self.page: Sequence[Event] = ()
        self.taken = 0
        """How many of the page were asked for."""
        self.finished = 0
        """How many of the page are done with: the next one was asked for."""
        self.closed = False
        self.ended = False
        self.filled = asyncio.Event()
        self.drained = asyncio.Event()

    def offer(self, page: Sequence[Event]) -> None:
        self.page, self.taken, self.finished = page, 0, 0
        self.drained.clear()
        self.filled.set()

    def close(self) -> None:
        self.closed = True
        self.filled.set()
        self.drained.set()

    def end(self) -> None:
        """No more will come."""
        self.ended = True
        self.filled.set()


class Events(AsyncIterator[Event]):
    """``async for event in client.events()``. An event counts as processed when the next one is asked for.

    So the last one before a ``break`` comes again with the next iterator, or after a restart.
    """

    def __init__(self, subscription: _Subscription) -> None:
        self._subscription = subscription
        # A loop that is left by `break` drops the iterator without a word.
        weakref.finalize(self, subscription.close).atexit = False

    def __aiter__(self) -> "Events":
        return self

    async def __anext__(self) -> Event:
        sub = self._subscription
        while True:
            sub.finished = sub.taken
            if sub.closed or sub.ended:
                raise StopAsyncIteration
            if sub.taken < len(sub.page):
                sub.taken += 1
                return sub.page[sub.taken - 1]
            if sub.page:
                sub.page = ()
                sub.taken = 0
                sub.drained.set()
            sub.filled.clear()
            await sub.filled.wait()

    async def aclose(self) -> None:
        """Let go. Idempotent."""
        self._subscription.close()


class Delivery:
    """Runs as one task, ``run``. *resync* is asked for the reason of a due resync and told when it is done."""

    def __init__(
        self,
        keeper: Keeper,
        handlers: Handlers,
        *,
        policy: HandlerPolicy,
        rng: Rng,
        own_client_id: str | None,
        resync_due: Callable[[], str],
        resync_done: Callable[[int], Any],
        progressed: Callable[[], None],
        resets: Callable[[], int],
    ) -> None:
        self._resets = resets
        self._keeper = keeper
        self._handlers = handlers
        self._policy = policy
        self._rng = rng
        self._own_client_id = own_client_id
        self._resync_due = resync_due
        self._resync_done = resync_done
        self._progressed = progressed
        self._wake = asyncio.Event()
        self._position = 0
        self._subscriptions: list[_Subscription] = []
        self._done: list[int] = []
        self._flushed_s = 0.0
        self._ending = False
        self._offered: Sequence[Event] = ()
        self._readers: Sequence[_Subscription] = ()
        self.counts = DeliveryCounts()
        self.idle = asyncio.Event()
        """Set while nothing waits that could be handed out."""

    def wake(self) -> None:
        """There may be something to do."""
        self.idle.clear()
        self._wake.set()

    def subscribe(self) -> Events:
        """A new iterator."""
        subscription = _Subscription()
        if self._ending:
            subscription.end()
        else:
            self._subscriptions.append(subscription)
            self.wake()
        return Events(subscription)

    async def run(self) -> None:
        """Deliver until cancelled."""
        for refresh in self._handlers.debounced:
            refresh.failed = lambda exc: self._note_error("refresh", exc, None)
        while not self._ending:
            await self._wake.wait()
            self._wake.clear()
            while not self._ending and await self._safe_round():
                self._progressed()
            self._progressed()
            if not self._wake.is_set():
                self.idle.set()

    def end(self) -> None:
        """No more events will be handed out; iterators stop."""
        self._ending = True
        for subscription in self._subscriptions:
            subscription.end()

    async def aclose(self) -> None:
        """After ``run`` was cancelled: write the last marks, end iterators and refreshes."""
        self.end()
        self._note_consumed()
        for refresh in self._handlers.debounced:
            await refresh.stop()
        if self._done:
            await self._keeper.run(self._keeper.cache.mark, self._done, Mark.PROCESSED)
            self._done = []

    # -- a round ----------------------------------------------------------------------------------------

    async def _safe_round(self) -> bool:
        """A round. What nobody foresaw must not end the delivery in silence; it is tried again after a pause."""
        try:
            return await self._round()
        except Exception:
            log.exception("delivery_failed")
            await asyncio.sleep(DISK_RETRY_S)
            self.wake()
            return False

    async def _round(self) -> bool:
        """One page; whether there may be more."""
        if reason := self._resync_due():
            await self._tell_resync(reason)
        self._subscriptions = [s for s in self._subscriptions if not s.closed]
        if not self._handlers and not self._subscriptions:
            return False
        cache = self._keeper.cache
        page = await self._keeper.run(cache.waiting, after=self._position, limit=PAGE)
        if not page:
            return False
        # Those that come while this page is out get the next one.
        readers = list(self._subscriptions)
        events = []
        for record in page:
            event = Event(record)
            if self._own_client_id is not None and self._own_client_id in record.envelope and self._is_own(event):
                self.counts.own += 1
                self._done.append(record.n)
            elif await self._hand_out(event, record, iterated=bool(readers)):
                events.append(event)
            if self._ending:
                return False  # a handler closed the client: its event comes again
            if not readers:
                self._position = record.n
                await self._flush_marks(force=False)
        if readers:
            await self._iterate(page, events, readers)
        else:
            await self._flush_marks(force=True)
        return True

    def _is_own(self, event: Event) -> bool:
        return event.client_id == self._own_client_id

    async def _iterate(self, page: Sequence[Record], events: Sequence[Event], readers: Sequence[_Subscription]) -> None:
        """Let the iterators have the page, and wait until they are through with it."""
        if events:
            self._offered, self._readers = events, readers
            for reader in readers:
                reader.offer(events)
            for reader in readers:
                await reader.drained.wait()
        # Where all of them left in the middle, what none has seen waits for the next one.
        finished = max((r.finished if r.closed else len(events)) for r in readers)
        self._done.extend(event.n for event in events[:finished])
        if finished == len(events):
            self._position = page[-1].n
        else:
            self._position = events[finished - 1].n if finished else events[0].n - 1
        self._offered = ()
        await self._flush_marks(force=True)

    def _note_consumed(self) -> None:
        """On the way out: what all iterators have finished of the page they hold."""
        if self._offered:
            finished = min(reader.finished for reader in self._readers)
            self._done.extend(event.n for event in self._offered[:finished])
            self._offered = ()

    async def _flush_marks(self, *, force: bool) -> None:
        """Write what was handed out."""
        now_s = asyncio.get_running_loop().time()
        if not self._done or (not force and now_s - self._flushed_s < MARK_EVERY_S):
            return
        await self._persist(self._keeper.cache.mark, self._done, Mark.PROCESSED)
        self._done = []
        self._flushed_s = now_s
        self._progressed()

    async def _persist(self, work: Callable[..., Any], *args: Any) -> None:
        """Call the cache; while it cannot be written, wait: what is not marked would come again."""
        warned = False
        while True:
            try:
                await self._keeper.run(work, *args)
            except CacheUnwritable as exc:
                if not warned:
                    log.warning("cache_unwritable", error=str(exc))
                warned = True
                await asyncio.sleep(DISK_RETRY_S)
            else:
                return

    # -- handlers ---------------------------------------------------------------------------------------

    async def _hand_out(self, event: Event, record: Record, *, iterated: bool) -> bool:
        """Call its handlers. False if it was parked. *iterated*: it is not done with yet."""
        plain: list[Route] = []
        transactional: list[Route] = []
        try:
            for route in self._handlers.routes(event.event_type):
                if route.wants is None or route.wants(event):
                    (transactional if route.transactional else plain).append(route)
        except Exception as exc:  # noqa: BLE001 - what the server sent is not what handlers may expect
            self._note_error("wants", exc, event)
            self.counts.parked += 1
            await self._persist(self._keeper.cache.mark, [event.n], Mark.PARKED)
            return False
        for route in plain:
            if not await self._tried(route.name, event, lambda route=route: self._call(route, event)):  # type: ignore[misc]
                return False
        if transactional:
            name = transactional[0].name
            if not await self._tried(name, event, lambda: self._transact(transactional, event, record)):
                return False
        elif not iterated:
            self._done.append(record.n)
        self.counts.delivered += 1
        return True

    async def _call(self, route: Route, event: Event) -> None:
        result = route.call(event)
        if inspect.isawaitable(result):
            await result

    async def _transact(self, routes: Sequence[Route], event: Event, record: Record) -> None:
        def work(tx: Transaction) -> None:
            for route in routes:
                route.call(event, tx)

        # Its failure to write is the disk's, not the handler's.
        await self._persist(self._keeper.cache.transact, record, work)

    async def _tried(self, name: str, event: Event, call: Callable[[], Any]) -> bool:
        """Call until it returns; after the last retry the event is parked."""
        for attempt in range(1, self._policy.retries + 2):
            try:
                await call()
            except Exception as exc:  # noqa: BLE001 - the program's own code; told, counted and parked
                self._note_error(name, exc, event)
                if attempt <= self._policy.retries:
                    self.counts.retried += 1
                    await asyncio.sleep(self._policy.backoff.delay_s(attempt, rng=self._rng))
            else:
                return True
        log.error("event_parked", handler=name, id=event.id, event_type=event.event_type)
        self.counts.parked += 1
        await self._persist(self._keeper.cache.mark, [event.n], Mark.PARKED)
        return False

    def _note_error(self, name: str, exc: BaseException, event: Event | None) -> None:
        # Not the exception's text: it may quote what is in the event.
        self.counts.handler_errors += 1
        log.warning("handler_failed", handler=name, error=type(exc).__name__, id=event.id if event else None)

    async def _tell_resync(self, reason: str) -> None:
        resets = self._resets()
        """The listeners first: what comes behind the reset is held until they know."""
        for listener in self._handlers.resync:
            for attempt in range(1, self._policy.retries + 2):
                try:
                    result = listener(reason)
                    if inspect.isawaitable(result):
                        await result
                except Exception as exc:  # noqa: BLE001 - the program's own code; told and counted
                    self._note_error("on_resync", exc, None)
                    await asyncio.sleep(self._policy.backoff.delay_s(attempt, rng=self._rng))
                else:
                    break
        for refresh in self._handlers.debounced:
            refresh.trigger()
        await self._resync_done(resets)
