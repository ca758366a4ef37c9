"""A SQLite connection with a thread of its own, and its transactions."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from sync_server.log.base import LogMisconfigured, LogUnavailable

__all__ = ["Connection", "transaction"]

BUSY_TIMEOUT_MS = 5000

T = TypeVar("T")


class Connection:
    """One SQLite connection and the only thread that uses it."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._db: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._closed = False

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """*work*'s result, done on the connection's thread. Raises LogUnavailable."""
        if self._closed:
            raise LogUnavailable(f"The event log {self._path} is closed.")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._work, work)
        except sqlite3.OperationalError as exc:
            raise LogUnavailable(f"The event log {self._path} cannot be used now: {exc}") from exc
        except sqlite3.DatabaseError as exc:
            if isinstance(exc, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.DataError):
                raise  # a fault of the statement, not of the file
            raise LogMisconfigured(
                f"The event log {self._path} is damaged or no SQLite file: {exc}. Put a backup in its place, then "
                "run `sync-server log new-epoch`."
            ) from exc

    def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._db is None:
            self._db = _connect(self._path)
            self._inode = self._path.stat().st_ino
        elif self._inode != _inode(self._path):
            # SQLite goes on writing to a file that has no name any more: acknowledged, and lost with the process.
            raise LogUnavailable(f"The event log {self._path} was deleted or replaced; restart the server.")
        return work(self._db)

    async def aclose(self) -> None:
        def close() -> None:
            if self._db is not None:
                self._db.close()

        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._threads, close)
        self._threads.shutdown(wait=False)


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
        return path.stat().st_ino
    except OSError:
        return None
