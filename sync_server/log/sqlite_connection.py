"""A SQLite connection with a thread of its own, and its transactions."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, TypeVar

from sync_server.log.base import LogMisconfigured, LogUnavailable

__all__ = ["Connection", "transaction"]

BUSY_TIMEOUT_MS = 5000

T = TypeVar("T")


class Connection:
    """One SQLite connection and the only thread that uses it.

    Not an executor of one thread: with its futures, and asyncio's around them, the way there and back took 34 us in a
    trial, and takes 18.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._db: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._closed = False

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """*work*'s result, done on the connection's thread. Raises LogUnavailable."""
        if self._closed:
            raise LogUnavailable(f"The event log {self._path} is closed.")
        if self._thread is None:
            # A daemon: a process that ends without aclose is not held up by a thread that waits for work.
            thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            thread.start()
            self._thread = thread
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((loop, future, work))
        try:
            return await future
        except sqlite3.OperationalError as exc:
            raise LogUnavailable(f"The event log {self._path} cannot be used now: {exc}") from exc
        except sqlite3.DatabaseError as exc:
            if isinstance(exc, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.DataError):
                raise  # a fault of the statement, not of the file
            raise LogMisconfigured(
                f"The event log {self._path} is damaged or no SQLite file: {exc}. Put a backup in its place, then "
                "run `sync-server log new-epoch`."
            ) from exc

    def _serve(self) -> None:
        """The thread."""
        while (job := self._jobs.get()) is not None:
            loop, future, work = job
            result, error = None, None
            if not future.cancelled():
                try:
                    result = self._work(work)
                except BaseException as exc:  # noqa: BLE001 - it is the caller's
                    error = exc
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, future, result, error)
            del job, loop, future, work, result, error  # nothing is held while it waits
        if self._db is not None:
            self._db.close()

    def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._db is None:
            self._db = _connect(self._path)
            self._inode = _inode(self._path)
        if self._inode is None or self._inode != _inode(self._path):
            # SQLite goes on writing to a file that has no name any more: acknowledged, and lost with the process.
            raise LogUnavailable(f"The event log {self._path} was deleted or replaced; restart the server.")
        return work(self._db)

    async def aclose(self) -> None:
        """Finish what was asked for, and close. Idempotent."""
        self._closed = True
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None


_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[sqlite3.Connection], Any]]


def _settle(future: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
    if future.done():  # its caller has left
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):  # which no future takes
        future.set_exception(RuntimeError(f"work on the log's thread raised {error!r}"))
    else:
        future.set_exception(error)


class transaction:  # noqa: N801 - reads as the statement it stands for
    """BEGIN ... COMMIT; rolls back on any exception, that of a failed commit included.

    IMMEDIATE takes the file's write lock, DEFERRED is for reading: all of it sees one state.
    """

    def __init__(self, db: sqlite3.Connection, mode: Literal["IMMEDIATE", "DEFERRED"] = "IMMEDIATE") -> None:
        self._db = db
        self._begin = f"BEGIN {mode}"

    def __enter__(self) -> None:
        self._db.execute(self._begin)

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    try:
        db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cache_size = -16384")
    except BaseException:
        db.close()
        raise
    return db


def _inode(path: Path) -> int | None:
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - before every work
    except OSError:
        return None
