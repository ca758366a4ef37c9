"""Runs the cache in a thread of its own, so that a slow disk never stops the event loop.

SQLite's connection belongs to that one thread. A cache in memory is called directly.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from sync_client.cache import CacheDamaged, SQLiteCache
from sync_client.errors import CacheUnwritable
from sync_client.logs import get_logger
from sync_client.memory import MemoryCache
from sync_client.records import DEFAULT_RETENTION_EVENTS, Batch

__all__ = ["Keeper", "open_keeper"]

CLOSE_S = 0.2

log = get_logger()

P = ParamSpec("P")
T = TypeVar("T")


class _Opener(Protocol):
    def __call__(self) -> SQLiteCache | MemoryCache: ...


class Keeper:
    """The cache, awaited. *threaded* for a cache that can block."""

    cache: SQLiteCache | MemoryCache

    def __init__(self, opener: _Opener, *, threaded: bool) -> None:
        self._opener = opener
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sync-client-cache") if threaded else None
        self._closed = False
        self.recovered = 0
        """How often the file turned out damaged while in use."""
        self.note = ""
        """What people should know of this cache."""

    async def open(self) -> None:
        """Raises CacheLocked, CacheUnwritable."""
        try:
            self.cache = await self._call(self._opener)
        except BaseException:
            self._shut(wait=True)
            raise

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of the cache. Raises CacheUnwritable. A damaged file is replaced, and it is tried again."""
        try:
            return await self._call(work, *args, **kwargs)
        except CacheDamaged:
            if not isinstance(self.cache, SQLiteCache):
                raise
            await self._call(self.cache.recover)
            self.recovered += 1
            return await self._call(work, *args, **kwargs)

    async def _call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._thread is None:
            return work(*args, **kwargs)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: work(*args, **kwargs))

    async def commit(self, batch: Batch) -> int:
        """See records.Cache.commit."""
        return await self.run(self.cache.commit, batch)

    @property
    def backlog_bytes(self) -> int:
        return self.cache.backlog_bytes

    @property
    def backlog(self) -> int:
        return self.cache.backlog

    async def aclose(self) -> None:
        """Close the cache and end the thread. Idempotent. A handler that hangs in the thread is left to itself."""
        if self._closed:
            return
        self._closed = True
        if not hasattr(self, "cache"):
            return
        if self._thread is None:
            self.cache.close()
            return
        # Waited for, but never cancelled: what is in the thread's queue is done after the handler that hangs.
        closing = asyncio.wrap_future(self._thread.submit(self.cache.close))
        done, _ = await asyncio.wait([closing], timeout=CLOSE_S)
        self._shut(wait=bool(done))

    def _shut(self, *, wait: bool) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=wait)


async def open_keeper(path: Path | None, *, retention_events: int = DEFAULT_RETENTION_EVENTS) -> Keeper:
    """The cache at *path*; one in memory where there is no path, or nothing can be written. Raises CacheLocked."""
    if path is None:
        keeper = Keeper(lambda: MemoryCache(retention_events=retention_events), threaded=False)
        await keeper.open()
        return keeper
    keeper = Keeper(lambda: SQLiteCache(path), threaded=True)
    try:
        await keeper.open()
    except CacheUnwritable as exc:
        log.warning("cache_unwritable", error=str(exc))
        keeper = await open_keeper(None, retention_events=retention_events)
        keeper.note = str(exc)
    set_aside = getattr(keeper.cache, "set_aside", None)
    if set_aside is not None:
        log.warning("cache_set_aside", path=str(set_aside))
        keeper.note = f"the unusable one was kept as {set_aside.name}"
    return keeper
