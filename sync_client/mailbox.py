"""Calls on their way from the client's thread to the program's, which makes them when it drains the mailbox."""

import asyncio
import inspect
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from sync_client.errors import ClientError, ConfigurationError
from sync_client.logs import get_logger

__all__ = ["Mailbox"]

NEXT_S = 0.003
"""How long ``drain`` waits for the call after the one it has just made: the way through the other thread."""
KEPT_NEWS = 100

log = get_logger()


class Mailbox:
    """Bounded: of handlers there is one call at a time, of news the last hundred."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._news: deque[Callable[[], Any]] = deque(maxlen=KEPT_NEWS)
        self._lock = threading.Lock()
        self.failures = 0
        """News whose listener raised."""

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, None]]:
        """*function*, called in the draining thread; awaited in the client's. Raises what it raises."""
        if inspect.iscoroutinefunction(function):
            raise ConfigurationError("a blocking client calls plain functions; async ones are for SyncClient")

        async def call(*args: Any) -> None:
            loop = asyncio.get_running_loop()
            # What was raised is a result here: an exception of any kind, passed on, could end this thread's loop.
            finished: asyncio.Future[Exception | None] = loop.create_future()

            def settle(raised: Exception | None) -> None:
                if not finished.done():
                    finished.set_result(raised)

            def here() -> None:
                if finished.done():
                    return  # the client was closed meanwhile: the event comes again
                raised: Exception | None = ClientError("the callback was interrupted")
                try:
                    raised = _call(function, *args)
                finally:
                    if not loop.is_closed():
                        loop.call_soon_threadsafe(settle, raised)

            self._queue.put(here)
            if (raised := await finished) is not None:
                raise raised

        call.__qualname__ = getattr(function, "__qualname__", "callback")
        return call

    def post(self, news: Callable[[], Any]) -> None:
        """To be called when the mailbox is drained; nobody waits for it. When there is too much, the oldest goes."""
        with self._lock:
            is_first = not self._news
            self._news.append(news)
        if is_first:
            self._queue.put(self._tell_news)

    def _tell_news(self) -> None:
        with self._lock:
            news = list(self._news)
            self._news.clear()
        for tell in news:
            if (raised := _call(tell)) is not None:
                self.failures += 1
                log.warning("listener_failed", error=type(raised).__name__)

    def wake(self) -> None:
        """Whoever waits in ``next`` has something to look at."""
        self._queue.put(None)

    def next(self, wait_s: float) -> bool:
        """Make one call, waiting for it for up to *wait_s*; whether there was one."""
        try:
            call = self._queue.get(timeout=wait_s) if wait_s > 0 else self._queue.get_nowait()
        except queue.Empty:
            return False
        if call is None:
            return False
        call()
        return True

    def drain(self, budget_s: float) -> int:
        """Make the calls that wait, for up to *budget_s* and at least one; how many."""
        end_s = time.monotonic() + budget_s
        count = 0
        while self.next(NEXT_S if count else 0.0):
            count += 1
            if time.monotonic() >= end_s:
                break
        return count


def _call(function: Callable[..., Any], *args: Any) -> Exception | None:
    """What it raised, if anything; what ends programs (KeyboardInterrupt, SystemExit) is raised."""
    try:
        result = function(*args)
        if inspect.iscoroutine(result):
            result.close()
            raise ConfigurationError("a blocking client calls plain functions; async ones are for SyncClient")
    except Exception as exc:  # noqa: BLE001 - the program's own code; told, counted and repeated
        return exc
    return None
