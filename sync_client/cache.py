"""The cache on disk: one SQLite file, where an event and the cursor behind it are one commit.

WAL with ``synchronous=NORMAL``: a kill at any moment loses nothing that was committed; a power cut may lose the
last commits, but events, received cursor, filter, access digest and resync mark together, so what comes back is
an earlier consistent moment and the server sends the rest again. Source: architecture.md (the client).

What can be wrong with the file, and what follows:

    damaged or cut            set aside as NAME.damaged-N, a new one is begun, a resync is due
    another program's file    set aside as NAME.foreign-N, likewise
    made by a newer version   likewise (foreign): an older program must not write into it
    in use                    CacheLocked
    locked by a program that knows nothing of us (a backup, the sqlite3 shell)
                              CacheLocked when it is opened, CacheUnwritable from a commit; never "damaged"
    directory not writable    CacheUnwritable
    disk full                 CacheUnwritable from the commit; nothing of it is stored
    removed while in use      begun anew with its directory at the next commit, a resync is due
    another file in its place CacheUnwritable: somebody else works there
"""

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sync_client import document_rows
from sync_client.errors import CacheLocked, CacheUnwritable
from sync_client.filelock import FileLock
from sync_client.identity import identity_of
from sync_client.records import MAX_PARKED, Batch, Mark, Record, Saved, StoredDocument, Transaction
from sync_core.cursor import Cursor

__all__ = [
    "APPLICATION_ID",
    "EVENT_COLUMNS",
    "FORMAT_VERSION",
    "OLDEST_VERSION",
    "CacheDamaged",
    "SQLiteCache",
    "cache_files",
    "record_of",
]

APPLICATION_ID = 0x6F73796E  # "osyn"
FORMAT_VERSION = 2
OLDEST_VERSION = 1
"""That can be brought up to date; a look at it works as it is."""
_SCHEMA = """
CREATE TABLE events (
  n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, type TEXT NOT NULL, envelope TEXT NOT NULL,
  received_at_ms INTEGER NOT NULL, source TEXT NOT NULL, mark INTEGER NOT NULL, acknowledged INTEGER NOT NULL
);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE handler_values (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_MIGRATIONS = {1: document_rows.SCHEMA}
"""What makes the next version out of each."""
EVENT_COLUMNS = "n, id, type, envelope, received_at_ms, source, mark, acknowledged"
_STATE_KEYS = ("cursor", "filter", "access", "resync", "known", "snapshot_due", "complete_to")
# Names, where Python knows them, of what SQLite says about a place that cannot be written.
_UNWRITABLE = {
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM,
}  # fmt: skip
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class CacheDamaged(sqlite3.DatabaseError):
    """The file's content is not what was written; internal, handled by setting it aside."""


class HandlerRaised(Exception):
    """A transactional handler raised an error of SQLite's, about a database of its own."""


class SQLiteCache:
    """See records.Cache. Made, used and closed in one thread."""

    def __init__(self, path: Path, *, busy_s: float = 5.0) -> None:
        """Open or make *path*. *busy_s*: how long another program's lock is waited for.

        Raises CacheLocked, CacheUnwritable.
        """
        self._path = path
        self._busy_s = busy_s
        self._last_n = 0
        self._is_lost = False
        """Whether the file in use was damaged and could not be made anew yet."""
        self._is_moved = False
        """Whether the lost one has been set aside."""
        self.set_aside: Path | None = None
        """Where a file that could not be used was moved to, if that happened."""
        self._lock = self._take_lock()
        try:
            self._db = self._open()
        except BaseException:
            self._lock.close()
            raise

    @property
    def where(self) -> str:
        return str(self._path)

    # -- opening ----------------------------------------------------------------------------------------

    def _take_lock(self) -> FileLock:
        """Raises CacheLocked, CacheUnwritable."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return FileLock(self._path.with_suffix(".lock"))
        except OSError as exc:
            raise CacheUnwritable(f"The cache {self._path} cannot be written: {exc}") from exc

    def _open(self) -> sqlite3.Connection:
        try:
            return self._try_open()
        except sqlite3.DatabaseError as exc:
            if _code(exc) in _UNWRITABLE:
                raise CacheUnwritable(f"The cache {self._path} cannot be written: {exc}") from exc
            if _code(exc) in _BUSY:
                raise CacheLocked(f"The cache {self._path} is locked by another program: {exc}") from exc
            self._move_aside("damaged")
            return self._try_open_anew(str(exc))

    def _try_open(self) -> sqlite3.Connection:
        """The database, if it is ours and whole. Raises sqlite3.DatabaseError."""
        db = sqlite3.connect(self._path, isolation_level=None, timeout=self._busy_s, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("PRAGMA temp_store=MEMORY")
            tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            application_id = db.execute("PRAGMA application_id").fetchone()[0]
            version = db.execute("PRAGMA user_version").fetchone()[0]
            is_ours = application_id == APPLICATION_ID and OLDEST_VERSION <= version <= FORMAT_VERSION
            if tables and not is_ours:
                db.close()
                self._move_aside("foreign")
                return self._try_open_anew("it belongs to another program or a newer version")
            if not tables:
                self._create(db)
            elif version < FORMAT_VERSION:
                self._migrate(db, version)
            if (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise CacheDamaged(found)
            # A look at every table: a cut file may pass the check and fail here.
            for table in ("events", "meta", "handler_values", *document_rows.TABLES):
                db.execute(f"SELECT * FROM {table} LIMIT 1").fetchall()
            self._count_backlog(db)
            self._identity = identity_of(self._path)
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                db.close()
            raise
        return db

    def _try_open_anew(self, why: str) -> sqlite3.Connection:
        try:
            db = self._try_open()
            try:
                db.execute("INSERT OR REPLACE INTO meta VALUES ('resync', ?)", ("cache_lost",))
                # Numbers that are under way in the delivery must not mean other events.
                db.execute("INSERT INTO sqlite_sequence VALUES ('events', ?)", (self._last_n,))
            except BaseException:
                db.close()
                raise
        except sqlite3.Error as exc:
            raise CacheUnwritable(f"The cache {self._path} cannot be made anew ({why}): {exc}") from exc
        return db

    def _create(self, db: sqlite3.Connection) -> None:
        schema = _SCHEMA + document_rows.SCHEMA
        db.executescript(
            f"BEGIN;{schema}PRAGMA application_id={APPLICATION_ID};PRAGMA user_version={FORMAT_VERSION};COMMIT;"
        )

    def _migrate(self, db: sqlite3.Connection, version: int) -> None:
        steps = "".join(_MIGRATIONS[before] for before in range(version, FORMAT_VERSION))
        db.executescript(f"BEGIN;{steps}PRAGMA user_version={FORMAT_VERSION};COMMIT;")

    def _move_aside(self, what: str) -> None:
        number = 1
        while (target := self._path.with_name(f"{self._path.name}.{what}-{number}")).exists():
            number += 1
        try:
            self._path.rename(target)
            for suffix in ("-wal", "-shm"):
                side = self._path.with_name(self._path.name + suffix)
                if side.exists():
                    side.rename(target.with_name(target.name + suffix))
        except OSError as exc:
            raise CacheUnwritable(f"The unusable cache {self._path} cannot be set aside: {exc}") from exc
        self.set_aside = target

    def recover(self) -> None:
        """The file turned out damaged while in use, or gone: set it aside and begin anew.

        Raises CacheUnwritable; until it has been called with success, everything else raises CacheDamaged.
        """
        self._is_lost = True
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        if not self._path.with_suffix(".lock").exists():  # gone as well: anybody could take another one
            try:
                lock = self._take_lock()
            except CacheLocked as exc:
                raise CacheUnwritable(f"The cache {self._path} was removed, and made anew by another program") from exc
            self._lock.close()
            self._lock = lock
        if not self._is_moved:
            if self._path.exists():
                self._move_aside("damaged")
            self._is_moved = True
        self._db = self._try_open_anew("it is damaged")
        self._is_lost = self._is_moved = False

    def _count_backlog(self, db: sqlite3.Connection) -> None:
        # What had no id was worth something only at its moment.
        db.execute("DELETE FROM events WHERE id IS NULL")
        row = db.execute("SELECT count(*), coalesce(sum(length(envelope)), 0) FROM events WHERE mark = 0").fetchone()
        self._backlog, self._backlog_bytes = int(row[0]), int(row[1])
        self._parked = int(db.execute("SELECT count(*) FROM events WHERE mark = 2").fetchone()[0])
        row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        self._last_n = max(self._last_n, int(row[0]) if row is not None else 0)

    # -- the client's state -----------------------------------------------------------------------------

    @property
    def backlog(self) -> int:
        return self._backlog

    @property
    def backlog_bytes(self) -> int:
        return self._backlog_bytes

    @property
    def parked(self) -> int:
        return self._parked

    def load(self) -> Saved:
        meta = dict(self._rows("SELECT key, value FROM meta"))
        return Saved(
            cursor=meta.pop("cursor", None),
            filter=meta.pop("filter", None),
            access=meta.pop("access", None),
            resync=meta.pop("resync", ""),
            known=meta.pop("known", ""),
            snapshot_due=meta.pop("snapshot_due", None),
            complete_to=meta.pop("complete_to", ""),
            meta=meta,
        )

    def commit(self, batch: Batch) -> int:
        with self._transaction() as db:
            new = []
            for arrival in batch.arrivals:
                row = (
                    arrival.id, arrival.event_type, arrival.envelope, batch.received_at_ms, batch.source,
                    int(arrival.mark),
                )  # fmt: skip
                cursor = db.execute(
                    "INSERT INTO events (id, type, envelope, received_at_ms, source, mark, acknowledged)"
                    " VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT (id) DO NOTHING", row,
                )  # fmt: skip
                if cursor.rowcount > 0:
                    new.append(arrival)
                    self._last_n = cursor.lastrowid or self._last_n
            for key in _STATE_KEYS:
                value = getattr(batch, key)
                if value is not None:
                    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
            if batch.documents:
                document_rows.put(db, batch.documents)
            if batch.forgotten:
                document_rows.forget(db, batch.forgotten)
        # Not before the commit: others read these counts, and what they count is to be there.
        waiting = [arrival for arrival in new if arrival.mark is Mark.WAITING]
        self._backlog += len(waiting)
        self._backlog_bytes += sum(len(arrival.envelope) for arrival in waiting)
        self._parked += sum(arrival.mark is Mark.PARKED for arrival in new)
        return len(new)

    def set_meta(self, key: str, value: str) -> None:
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    # -- delivery ---------------------------------------------------------------------------------------

    def waiting(self, *, after: int, limit: int) -> list[Record]:
        rows = self._rows(
            f"SELECT {EVENT_COLUMNS} FROM events WHERE n > ? AND mark = 0 ORDER BY n LIMIT ?", after, limit
        )
        return [record_of(row) for row in rows]

    def mark(self, numbers: Iterable[int], mark: Mark) -> None:
        with self._transaction() as db:
            for n in numbers:
                self._set_mark(db, n, mark)

    def _set_mark(self, db: sqlite3.Connection, n: int, mark: Mark) -> None:
        row = db.execute("SELECT mark, length(envelope), id FROM events WHERE n = ?", (n,)).fetchone()
        if row is None or row[0] == mark:
            return
        if row[2] is None and mark is not Mark.WAITING:
            db.execute("DELETE FROM events WHERE n = ?", (n,))  # it was only passing through
            mark = Mark.PROCESSED
        else:
            db.execute("UPDATE events SET mark = ? WHERE n = ?", (int(mark), n))
        if row[0] == Mark.WAITING:
            self._backlog -= 1
            self._backlog_bytes -= row[1]
        elif mark is Mark.WAITING:
            self._backlog += 1
            self._backlog_bytes += row[1]
        self._parked += (mark is Mark.PARKED) - (row[0] == Mark.PARKED)

    def transact(self, record: Record, work: Callable[[Transaction], None], mark: Mark = Mark.PROCESSED) -> None:
        with self._transaction() as db:
            try:
                work(_Values(db, self._mapped))
            except CacheDamaged:
                raise
            except sqlite3.Error as exc:  # of the handler's own database, not ours
                raise HandlerRaised(f"{type(exc).__name__}: {exc}") from exc
            self._set_mark(db, record.n, mark)

    def acknowledge(self, event_id: str) -> bool:
        with self._transaction() as db:
            return db.execute("UPDATE events SET acknowledged = 1 WHERE id = ?", (event_id,)).rowcount > 0

    def get_value(self, key: str, default: Any = None) -> Any:
        with self._mapped():
            return _Values(self._db, self._mapped).get(key, default)

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._mapped():
            return self._db.execute(sql, values).fetchall()

    # -- documents --------------------------------------------------------------------------------------

    def documents(self) -> list[StoredDocument]:
        with self._mapped():
            return document_rows.load(self._db)

    def stage(self, documents: Sequence[StoredDocument], *, first: bool) -> None:
        with self._transaction() as db:
            document_rows.stage(db, documents, first=first)

    def install(self, cursor: Cursor, *, count: int) -> list[StoredDocument]:
        with self._transaction() as db:
            document_rows.install(db, cursor, count=count)
            for key, value in (("complete_to", str(cursor)), ("snapshot_due", "")):
                db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
            return document_rows.load(db)

    # -- looking after ----------------------------------------------------------------------------------

    def events(self, *, limit: int, mark: Mark | None = None) -> list[Record]:
        rows = self._rows(
            f"SELECT {EVENT_COLUMNS} FROM events WHERE id IS NOT NULL AND (?1 IS NULL OR mark = ?1)"
            " ORDER BY n DESC LIMIT ?2", None if mark is None else int(mark), limit,
        )  # fmt: skip
        return [record_of(row) for row in reversed(rows)]

    def insert(self, record: Record) -> None:
        """Put an event in as it is, for an import."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO events (id, type, envelope, received_at_ms, source, mark, acknowledged)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (record.id, record.event_type, record.envelope, record.received_at_ms, record.source,
                 int(record.mark), int(record.acknowledged)),
            )  # fmt: skip
        self._count_backlog(self._db)

    def trim(self, *, now_ms: int, max_age_s: float, max_events: int) -> int:
        with self._transaction() as db:
            removed = db.execute(
                "DELETE FROM events WHERE mark = 1 AND (received_at_ms < ? OR n <= coalesce("
                "(SELECT n FROM events WHERE mark = 1 ORDER BY n DESC LIMIT 1 OFFSET ?), 0))",
                (now_ms - int(max_age_s * 1000), max_events),
            ).rowcount
            if self._parked > MAX_PARKED:
                db.execute(
                    "DELETE FROM events WHERE mark = 2 AND n <="
                    " (SELECT n FROM events WHERE mark = 2 ORDER BY n DESC LIMIT 1 OFFSET ?)",
                    (MAX_PARKED,),
                )
                self._parked = MAX_PARKED
        return removed

    def size_bytes(self) -> int:
        total = 0
        for suffix in ("", "-wal"):
            with contextlib.suppress(OSError):
                total += self._path.with_name(self._path.name + suffix).stat().st_size
        return total

    def clear(self) -> None:
        with self._transaction() as db:
            for table in ("events", *document_rows.TABLES):
                db.execute(f"DELETE FROM {table}")
            db.executemany("DELETE FROM meta WHERE key = ?", [(key,) for key in _STATE_KEYS])
        self._count_backlog(self._db)

    def close(self) -> None:
        """Idempotent."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        self._lock.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        counts = (self._backlog, self._backlog_bytes, self._parked)
        with self._mapped():
            self._check_place()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._backlog, self._backlog_bytes, self._parked = counts
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _check_place(self) -> None:
        """What is written is to be there for the next run. Raises CacheDamaged, CacheUnwritable."""
        try:
            found = identity_of(self._path)
        except OSError as exc:
            raise CacheUnwritable(f"The cache {self._path} cannot be written: {exc}") from exc
        if found == self._identity:
            return
        if found is None:
            raise CacheDamaged("it was removed")
        raise CacheUnwritable(f"The cache {self._path} cannot be written: another file is in its place")

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        """SQLite's errors become ours here."""
        if self._is_lost:
            raise CacheDamaged("it was damaged, and there was no room for a new one")
        try:
            yield
        except sqlite3.DatabaseError as exc:
            code = _code(exc)
            if code in _UNWRITABLE | _BUSY:
                raise CacheUnwritable(f"The cache {self._path} cannot be written: {exc}") from exc
            if code in _DAMAGED:
                raise CacheDamaged(str(exc)) from exc
            raise


class _Values:
    """See records.Transaction."""

    def __init__(self, db: sqlite3.Connection, mapped: Callable[[], Any]) -> None:
        self._db = db
        self._mapped = mapped

    def get(self, key: str, default: Any = None) -> Any:
        with self._mapped():
            row = self._db.execute("SELECT value FROM handler_values WHERE key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row[0])

    def put(self, key: str, value: Any) -> None:
        with self._mapped():
            self._db.execute("INSERT OR REPLACE INTO handler_values VALUES (?, ?)", (key, json.dumps(value)))

    def delete(self, key: str) -> None:
        with self._mapped():
            self._db.execute("DELETE FROM handler_values WHERE key = ?", (key,))


def record_of(row: tuple[Any, ...]) -> Record:
    n, event_id, event_type, envelope, received_at_ms, source, mark, acknowledged = row
    return Record(n, event_id, event_type, envelope, received_at_ms, source, Mark(mark), bool(acknowledged))


def _code(exc: sqlite3.Error) -> int:
    """The primary result code, without the extension in its upper bits."""
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF


def cache_files(path: Path) -> list[Path]:
    """What belongs to the cache at *path*, for removing it."""
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")] + [path.with_suffix(".lock")]
