"""Sees to it that whoever wants to know of a resync is told, and that it stays due until then.

A resync is done when every ``on_resync`` handler has returned once since; it is written down as due before that
(intake.py), so a kill at any moment repeats the telling. Handlers that have returned are not called again while the
process lives. One that raises is called again as the handlers' policy says; then delivery goes on, because a fault
in one handler must not keep a till from its events, and it is tried again after pauses that double to 5 minutes.
Where nobody has asked to be told, the resync waits for somebody who does.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from sync_client.attempts import Attempts
from sync_client.backoff import Backoff, Rng, around
from sync_client.errors import CacheUnwritable
from sync_client.handlers import Handlers
from sync_client.logs import get_logger

__all__ = ["Resyncs"]

AGAIN = Backoff(base_s=5.0, cap_s=300.0)
"""Between the rounds for handlers that raised: a fault in a program does not go away within a second."""
DISK_RETRY_S = 5.0

log = get_logger()


class Resyncs:
    """*due*: the reason of the resync that is due, "" for none; *number*: which one it is; *done* is told of it."""

    def __init__(
        self,
        handlers: Handlers,
        attempts: Attempts,
        *,
        due: Callable[[], str],
        number: Callable[[], int],
        done: Callable[[int], Awaitable[None]],
        wake: Callable[[], None],
        rng: Rng = random.random,
        again: Backoff = AGAIN,
    ) -> None:
        self._handlers = handlers
        self._attempts = attempts
        self._due = due
        self._number = number
        self._done = done
        self._wake = wake
        self._rng = rng
        self._again = again
        self._told_of: int | None = None
        """The resync that the rest is about."""
        self._told: set[int] = set()
        """Handlers and dashboards that know of it, by identity: they stay registered."""
        self._failed: set[int] = set()
        """Handlers that raised, and are not called before the timer is due."""
        self._rounds = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_news(self) -> bool:
        """Whether there is one that nobody has been told of."""
        return bool(self._due()) and self._told_of != self._number()

    async def tell(self) -> None:
        """Tell those who do not know yet. Returns, with a timer set, when one of them keeps raising."""
        reason, number = self._due(), self._number()
        while reason and not self._attempts.has_ended:
            if self._told_of != number:
                self.stop()
                self._told_of, self._told, self._rounds = number, set(), 0
            await self._tell(reason, number)
            if not self.is_news:  # no other one came meanwhile
                return
            reason, number = self._due(), self._number()

    async def _tell(self, reason: str, number: int) -> None:
        failed = []
        for handler in self._handlers.resync:
            if id(handler) in self._told or id(handler) in self._failed:
                continue
            name = f"on_resync {getattr(handler, '__qualname__', '')}".strip()
            if await self._attempts.call(name, handler, reason) or await self._attempts.again(name, handler, reason):
                self._told.add(id(handler))
            else:
                self._failed.add(id(handler))
                failed.append(name)
            if self._attempts.has_ended:
                return
        for refresh in self._handlers.debounced:
            if id(refresh) not in self._told:
                self._told.add(id(refresh))
                refresh.trigger()
        if failed:
            self._rounds += 1
            # Never next to nothing, as a draw from the whole window might be: nobody stands in line here.
            pause_s = around(self._again.delay_s(self._rounds, rng=lambda: 1.0), rng=self._rng)
            log.error("resync_not_told", reason=reason, handlers=", ".join(failed), again_in_s=round(pause_s, 1))
            self._wait(pause_s)
        if self._told and not self._failed:
            try:
                await self._done(number)
            except CacheUnwritable as exc:  # all know; only that they do could not be written down
                log.warning("cache_unwritable", error=str(exc))
                self._wait(DISK_RETRY_S)

    def _wait(self, pause_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(pause_s, self._try_now)

    def _try_now(self) -> None:
        self.stop()
        self._wake()

    def stop(self) -> None:
        """No timer any more."""
        self._failed = set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
