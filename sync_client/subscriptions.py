"""Iterators over events, and what delivery knows of each: the piece that it was offered, how far it is through.

An iterator takes from its piece without asking anybody, so it costs next to nothing; delivery is told when it has
asked for the next event. A loop that is left by `break` drops its iterator without a word, possibly in another
thread: only the flag is set there, the loop is woken in its own.
"""

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

from sync_client.errors import ClientError
from sync_client.event import Event

__all__ = ["Events", "Piece", "Subscription", "Subscriptions"]

TELL_EVERY_S = 0.05


class Subscription:
    """One iterator, as delivery sees it."""

    def __init__(self, owner: "Subscriptions") -> None:
        self._owner = owner
        self._piece: Sequence[Event] = ()
        self._taken = 0
        self._filled = asyncio.Event()
        self._moved: Callable[[bool], None] = lambda _: None
        self.finished = 0
        """How many of the piece are done with: the next one was asked for."""
        self.is_closed = False

    @property
    def is_through(self) -> bool:
        """Whether nothing more of the piece will be taken."""
        return self.is_closed or self.finished == len(self._piece)

    def offer(self, piece: Sequence[Event], *, moved: Callable[[bool], None]) -> None:
        """The next events for it. *moved* is called each time one more is done with, with ``is_through``."""
        self._piece, self._taken, self.finished, self._moved = piece, 0, 0, moved
        self._filled.set()

    async def next(self) -> Event | None:
        """The next event; None when there will be no more. What was taken before counts as done with."""
        while True:
            if self.finished < self._taken and not self.is_closed:
                self.finished = self._taken
                self._moved(self.is_through)
            if self.is_closed or self._owner.has_ended:
                return None
            if self._taken < len(self._piece):
                self._taken += 1
                return self._piece[self._taken - 1]
            self._owner.check()
            self._filled.clear()
            await self._filled.wait()

    def close(self) -> None:
        """No more for this one; from any thread."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._owner.loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
                self._owner.loop.call_soon_threadsafe(self._wake_all)

    def _wake_all(self) -> None:
        self._filled.set()
        self._moved(True)

    def end(self) -> None:
        """The owner has ended."""
        self._filled.set()


class Piece:
    """Events that iterators have in their hands, and how far all of them are."""

    def __init__(self, events: Sequence[Event], readers: Sequence[Subscription]) -> None:
        self._readers = readers
        self._timer: asyncio.TimerHandle | None = None
        self._progress = asyncio.Event()
        self.has_ended = False
        for reader in readers:
            reader.offer(events, moved=self._moved)

    @property
    def is_through(self) -> bool:
        """Whether no iterator will take more of it."""
        return all(reader.is_through for reader in self._readers)

    @property
    def finished(self) -> int:
        """How many events all that are still there have finished; where all have gone, the one that came furthest."""
        there = [reader.finished for reader in self._readers if not reader.is_closed]
        return min(there) if there else max(reader.finished for reader in self._readers)

    async def moves(self) -> None:
        """Wait for progress: told at once when an iterator is through, else every 50 ms."""
        await self._progress.wait()
        self._progress.clear()

    def _moved(self, is_through: bool) -> None:
        if self.has_ended:
            return
        if is_through:
            self._progress.set()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TELL_EVERY_S, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._progress.set()

    def end(self) -> None:
        """Nobody waits for it any more."""
        self.has_ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Subscriptions:
    """All iterators of a client."""

    def __init__(self) -> None:
        self._all: list[Subscription] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        """Where delivery runs; None before the start."""
        self.has_ended = False
        self.changed: Callable[[], None] = lambda: None

    def add(self) -> "Events":
        """A new iterator."""
        subscription = Subscription(self)
        if not self.has_ended:
            self._all.append(subscription)
            self.changed()
        return Events(subscription)

    def begin(self) -> None:
        """Delivery begins, in the running loop."""
        self.loop = asyncio.get_running_loop()

    def check(self) -> None:
        """Raises ClientError if nothing can come."""
        if self.loop is None:
            raise ClientError("the client has not been started: use `async with`, or await start()")

    def end(self) -> None:
        """No more events will be handed out; iterators stop."""
        self.has_ended = True
        for subscription in self._all:
            subscription.end()

    def open(self) -> list[Subscription]:
        """Those that still want events."""
        if any(subscription.is_closed for subscription in self._all):
            self._all = [subscription for subscription in self._all if not subscription.is_closed]
        return list(self._all)


class Events(AsyncIterator[Event]):
    """``async for event in client.events()``. An event counts as processed when the next one is asked for.

    So the last one before a ``break`` comes again with the next iterator, or after a restart. One that is kept and
    not read holds up everything behind its event: let it go with ``close``.
    """

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        # A loop that is left by `break` drops the iterator without a word.
        weakref.finalize(self, subscription.close).atexit = False

    def __aiter__(self) -> "Events":
        return self

    async def __anext__(self) -> Event:
        event = await self._subscription.next()
        if event is None:
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        """Let go, from any thread. Idempotent."""
        self._subscription.close()

    async def aclose(self) -> None:
        """The same, for ``contextlib.aclosing``."""
        self.close()
