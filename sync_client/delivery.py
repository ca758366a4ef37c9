"""The way out: hands stored events to handlers and iterators, in order, and marks what was handed out.

Everything waits in the cache, never in a queue in memory: a page of records is all that delivery holds. So a
slow handler costs disk (or, without a cache, the bounded memory), and the intake goes on until there is too much.

An event passes, one behind the other,

    1. its plain handlers: each is called once; those that raised are called again afterwards
    2. the iterators: until each of them has asked for the next event, or has gone
    3. its transactional handlers: in one transaction, which also sets the event's mark

and is then done with. What can be repeated without harm comes first, and the mark comes last: a kill anywhere
repeats plain handlers and iterators (at least once) and has either all of the transaction or nothing of it (exactly
once). Marks without a transaction are written in batches of at most 50 ms.

A handler that raises keeps nobody else from the event. When it has failed for good the event's mark is "parked"
instead of "processed". Which handlers had which events is known while the process lives, so that nothing is
repeated because an iterator was left. Source: architecture.md (delivery).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sync_client.attempts import Attempts
from sync_client.calls import Calls
from sync_client.errors import CacheUnwritable
from sync_client.event import CONTROL_TYPES, Event
from sync_client.handlers import Handlers, Route
from sync_client.keeper import Keeper
from sync_client.logs import get_logger
from sync_client.records import Mark, Record, Transaction
from sync_client.resyncs import Resyncs
from sync_client.subscriptions import Piece, Subscription, Subscriptions

__all__ = ["Delivery"]

PAGE = 256
MARK_EVERY_S = 0.05
DISK_RETRY_S = 2.0
END_S = 0.1

log = get_logger()


@dataclass(frozen=True, slots=True)
class _Turn:
    """One event whose plain handlers are through with it."""

    event: Event
    record: Record
    transactional: Sequence[Route]


@dataclass(slots=True)
class _Out:
    """What iterators have in their hands. The first *settled* of it are done with."""

    turns: Sequence[_Turn]
    piece: Piece
    settled: int = 0

    def finished(self) -> Sequence[_Turn]:
        """What the iterators are through with and is not settled."""
        return self.turns[self.settled : self.piece.finished]


class Delivery:
    """Runs as one task, ``run``. *resync* is asked for the reason of a due resync, and told when it is done."""

    def __init__(
        self,
        keeper: Keeper,
        handlers: Handlers,
        subscriptions: Subscriptions,
        *,
        attempts: Attempts,
        own_client_id: str | None,
        resync_due: Callable[[], str],
        resync_done: Callable[[int], Any],
        progressed: Callable[[], None],
        resets: Callable[[], int],
    ) -> None:
        self._keeper = keeper
        self._handlers = handlers
        self._subscriptions = subscriptions
        self._attempts = attempts
        self._own_client_id = own_client_id
        self._resyncs = Resyncs(handlers, attempts, due=resync_due, number=resets, done=resync_done, wake=self.wake)
        self._progressed = progressed
        self._wake = asyncio.Event()
        self._position = 0
        """Everything up to this number is done with."""
        self._calls = Calls(handlers, attempts)
        self._done: list[int] = []
        """What is done with and not marked."""
        self._out: _Out | None = None
        self._flushed_s = 0.0
        self._ending = False
        self.counts = attempts.counts
        self.idle = asyncio.Event()
        """Set while nothing waits that could be handed out."""
        handlers.changed = subscriptions.changed = self.wake
        handlers.refresh_failed = attempts.note_error
        subscriptions.begin()

    def wake(self) -> None:
        """There may be something to do."""
        self.idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while not self._ending:
            await self._wake.wait()
            self._wake.clear()
            while not self._ending and await self._safe_round():
                self._progressed()
            self._progressed()
            if not self._wake.is_set():
                self.idle.set()

    def end(self, *, spare: asyncio.Task[Any] | None = None) -> None:
        """No more events will be handed out; iterators stop. *spare*: a task of the program's own that asks."""
        self._ending = True
        self._attempts.has_ended = True
        self._subscriptions.end()
        self._resyncs.stop()
        for refresh in self._handlers.debounced:
            refresh.stop(spare=spare)

    async def aclose(self, *, spare: asyncio.Task[Any] | None = None) -> None:
        """After ``run`` was cancelled: end what is left, write the last marks."""
        self.end(spare=spare)
        # What waits for a transaction comes again; there is no time for it now.
        consumed = [turn.record.n for turn in (self._out.finished() if self._out else ()) if not turn.transactional]
        self._out = None
        parked = [n for n in consumed if self._calls.failed(n)]
        self._done += [n for n in consumed if n not in parked]
        for numbers, mark in ((self._done, Mark.PROCESSED), (parked, Mark.PARKED)):
            if numbers:
                await self._keeper.run(self._keeper.cache.mark, numbers, mark)
        self._done = []
        refreshes = [refresh.task for refresh in self._handlers.debounced if refresh.task is not None]
        if left := [task for task in refreshes if task is not spare]:
            await asyncio.wait(left, timeout=END_S)

    # -- a round ----------------------------------------------------------------------------------------

    async def _safe_round(self) -> bool:
        """A round. What nobody foresaw must not end the delivery in silence; it is tried again after a pause."""
        try:
            return await self._round()
        except Exception:
            if self._ending:
                return False
            log.exception("delivery_failed")
            await asyncio.sleep(DISK_RETRY_S)
            self.wake()
            return False

    async def _round(self) -> bool:
        """One page; whether there may be more."""
        self._out = None
        await self._resyncs.tell()
        if self._ending or not (self._handlers or self._subscriptions.open()):
            return False
        page = await self._keeper.run(self._keeper.cache.waiting, after=self._position, limit=PAGE)
        if not page:
            return False
        if self._resyncs.is_news:
            return True  # it came while the page was read, and what is behind it is held until they know
        # Iterators that come while this page is out get the next one.
        readers = self._subscriptions.open()
        if not (self._handlers or readers):
            return False  # the last one was left while the page was read: it waits for the next
        more = await self._deliver(page, readers)
        await self._flush_marks(force=True)
        return more

    async def _deliver(self, page: Sequence[Record], readers: Sequence[Subscription]) -> bool:
        """Hand it out; whether there may be more."""
        piece: list[_Turn] = []
        for record in page:
            event = Event(record)
            if self._is_own(event):
                self.counts.own += 1
                self._done.append(record.n)
                continue
            turn = _Turn(event, record, await self._calls.plain(event))
            if self._ending:
                return False  # a handler closed the client: its event comes again
            if readers and event.event_type not in CONTROL_TYPES:
                piece.append(turn)
                if turn.transactional:  # it is booked before anybody gets the next one
                    if not await self._pass(piece, readers):
                        return True
                    piece = []
                continue
            await self._settle(turn)
            if not readers:
                self._position = record.n
                await self._flush_marks(force=False)
        if piece and not await self._pass(piece, readers):
            return True
        self._position = page[-1].n
        return True

    def _is_own(self, event: Event) -> bool:
        if self._own_client_id is None or self._own_client_id not in event.envelope_json:
            return False
        try:
            return event.client_id == self._own_client_id
        except ValueError:
            return False  # not JSON: whoever handles it will say so

    async def _pass(self, turns: Sequence[_Turn], readers: Sequence[Subscription]) -> bool:
        """Let the iterators have *turns*, and settle those that they are through with; whether that is all.

        Where all of them left in the middle, what none has finished waits for the next one.
        """
        out = self._out = _Out(turns, Piece([turn.event for turn in turns], readers))
        try:
            while True:
                is_through = out.piece.is_through
                for turn in out.finished():
                    await self._settle(turn)
                    self._position = turn.record.n
                    out.settled += 1
                await self._flush_marks(force=True)
                if is_through:
                    self._out = None
                    return out.settled == len(turns)
                await out.piece.moves()
        finally:
            out.piece.end()

    async def _settle(self, turn: _Turn) -> None:
        """Everybody else is through with it: the transactional handlers, and the mark."""
        n = turn.record.n
        if not (turn.transactional and await self._book(turn)):
            if self._calls.failed(n):
                await self._persist(self._keeper.cache.mark, [n], Mark.PARKED)
            else:
                self._done.append(n)
        if failed := self._calls.forget(n):
            self.counts.parked += 1
            id_, event_type = turn.event.id, turn.event.event_type
            log.error("event_parked", handlers=", ".join(sorted(failed)), id=id_, event_type=event_type)
        else:
            self.counts.delivered += 1

    async def _book(self, turn: _Turn) -> bool:
        """Its transactional handlers, and the mark in the same commit; False if all of them failed for good."""

        def transact(work: Callable[[Transaction], None], mark: Mark) -> Awaitable[None]:
            # Its failure to write is the disk's, not the handler's.
            return self._persist(self._keeper.cache.transact, turn.record, work, mark)

        return await self._calls.transactional(turn.transactional, turn.event, transact=transact)

    async def _flush_marks(self, *, force: bool) -> None:
        """Write what was handed out, and let others have a turn: every 50 ms, or now."""
        now_s = asyncio.get_running_loop().time()
        if not force and now_s - self._flushed_s < MARK_EVERY_S:
            return
        self._flushed_s = now_s
        if self._done:
            await self._persist(self._keeper.cache.mark, self._done, Mark.PROCESSED)
            self._done = []
            self._progressed()
        await asyncio.sleep(0)  # neither handlers nor a cache in memory need wait for anything

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
