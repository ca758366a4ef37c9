"""A look into a client's cache that changes nothing: no lock, no recovery, no file made, renamed or written to.

So it may be taken while the client runs, and of files that its client would set aside. A file without a write-ahead
log beside it was closed in order, and nobody writes to it: it is read as it is. With one, the log's index is mapped
read-only; where that is missing too (somebody copied the files), a copy is read.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sync_client.cache import APPLICATION_ID, EVENT_COLUMNS, FORMAT_VERSION, OLDEST_VERSION, cache_files, record_of
from sync_client.errors import CacheError
from sync_client.records import Mark, Record

__all__ = ["CacheUnreadable", "CacheView", "look", "opened"]

BUSY_S = 2.0


class CacheUnreadable(CacheError):
    """It cannot be shown; the message says why, and what its client will do with it."""


@dataclass(frozen=True, slots=True)
class CacheView:
    """A cache at one moment."""

    path: Path
    size_bytes: int
    meta: Mapping[str, str]
    """Cursor and resync mark, configuration and metrics, as they are stored."""
    counts: Mapping[Mark, int]
    records: tuple[Record, ...]
    """The newest ones, oldest of them first."""
    documents: Mapping[str, int]
    """How many there are of each kind that a replica shows."""

    @property
    def cursor(self) -> str | None:
        return self.meta.get("cursor")


def look(path: Path, *, limit: int) -> CacheView:
    """The cache at *path* with its newest *limit* events. Raises CacheUnreadable."""
    try:
        with opened(path) as db:
            _check_format(db, path)
            counts = dict(db.execute("SELECT mark, count(*) FROM events GROUP BY mark"))
            rows = db.execute(f"SELECT {EVENT_COLUMNS} FROM events ORDER BY n DESC LIMIT ?", (limit,)).fetchall()
            meta = dict(db.execute("SELECT key, value FROM meta"))
            documents = _documents(db)
    except sqlite3.OperationalError as exc:
        raise CacheUnreadable(f"{path} cannot be read just now: {exc}") from exc
    except sqlite3.DatabaseError as exc:
        raise CacheUnreadable(f"{path} is damaged ({exc}). Its client will set it aside and begin anew.") from exc
    except OSError as exc:
        raise CacheUnreadable(f"{path} cannot be read: {exc}") from exc
    records = tuple(record_of(row) for row in reversed(rows))
    marks = {mark: counts.get(mark.value, 0) for mark in Mark}
    return CacheView(path, _size_bytes(path), meta, marks, records, documents)


def _documents(db: sqlite3.Connection) -> dict[str, int]:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'documents'").fetchone():
        return {}  # the file of a version before replicas
    return dict(db.execute("SELECT kind, count(*) FROM documents WHERE state = 0 GROUP BY kind ORDER BY kind"))


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """One consistent moment of a SQLite file. Raises sqlite3.Error, OSError."""
    database, log, index, _ = cache_files(path)
    if not log.exists():
        options = "immutable=1"
    elif index.exists():
        options = "readonly_shm=1"
    else:
        with tempfile.TemporaryDirectory(prefix="sync-client-") as name:
            for file in (database, log):
                shutil.copy(file, name)
            with _read(Path(name) / database.name, "") as db:
                yield db
        return
    with _read(path, options) as db:
        yield db


@contextmanager
def _read(path: Path, options: str) -> Iterator[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?mode=ro&{options}"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_S)) as db:
        db.execute("BEGIN")
        yield db


def _check_format(db: sqlite3.Connection, path: Path) -> None:
    """Raises CacheUnreadable for what is not ours to read."""
    application_id = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise CacheUnreadable(f"{path} is empty: its client was ended while it made it.")
    if application_id != APPLICATION_ID:
        raise CacheUnreadable(f"{path} is not a cache of this program. Its client will set it aside and begin anew.")
    if not OLDEST_VERSION <= version <= FORMAT_VERSION:
        raise CacheUnreadable(
            f"{path} was made by another version (format {version}; this one knows {FORMAT_VERSION}): look at it with "
            "that one. A client of this version will set it aside and begin anew."
        )


def _size_bytes(path: Path) -> int:
    size_bytes = 0
    for file in cache_files(path)[:2]:
        with suppress(OSError):
            size_bytes += file.stat().st_size
    return size_bytes
