"""The embedded event log: one SQLite file, one process, nothing to install.

All access is on two threads of its own, a writer and a reader, each with one connection (WAL: they do not
wait for each other). Durable means ``synchronous=FULL``: a commit returns after its fsync.

CPython's sqlite3 gives the GIL away at every row it steps to, and has to win it back from an event loop that
is busy with readers. So rows are moved in bulk inside single steps: pages are read as one aggregated text,
events are written by multi-row inserts.
"""

import asyncio
import errno
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar

import structlog

from sync_server.log.base import Bell, Bounds, LogMisconfigured, LogUnavailable, Signal
from sync_server.log.group import Committed, Group, Plan, View, decide
from sync_server.log.records import Outcome, OutcomeKey, StoredEvent
from sync_server.log.seal import HeadSeal

__all__ = ["SQLiteLog"]

SCHEMA_VERSION = 1
PAGE_BYTES = 1024 * 1024
"""A page of large events is cut here, so that no reader can ask for gigabytes."""
BUSY_TIMEOUT_MS = 5000
_TRIM_CHUNK = 5000
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})

_SCHEMA = """
CREATE TABLE IF NOT EXISTS heads (
  tenant TEXT PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL, floor INTEGER NOT NULL,
  time_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
  tenant TEXT NOT NULL, seq INTEGER NOT NULL, bytes INTEGER NOT NULL, time_ms INTEGER NOT NULL,
  type TEXT NOT NULL, tags TEXT NOT NULL, client_id TEXT NOT NULL, principal TEXT NOT NULL, tail TEXT NOT NULL,
  PRIMARY KEY (tenant, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outcomes (
  tenant TEXT NOT NULL, principal TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL,
  result TEXT NOT NULL, expires_ms INTEGER NOT NULL, PRIMARY KEY (tenant, principal, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS outcomes_expiry ON outcomes (tenant, expires_ms);
"""

# Rows and columns of a page read as one text. No field can hold them: JSON escapes control characters,
# and ids and types are refused with them.
_ROW, _COLUMN = "\x1e", "\x1f"
_READ_PAGE = """
SELECT group_concat(
  seq || char(31) || time_ms || char(31) || type || char(31) || tags || char(31) || client_id
  || char(31) || principal || char(31) || tail, char(30))
FROM (SELECT * FROM events WHERE tenant = ? AND seq > ? ORDER BY seq LIMIT ?)
"""
_READ_SIZES = """
SELECT group_concat(bytes) FROM (SELECT bytes FROM events WHERE tenant = ? AND seq > ? ORDER BY seq LIMIT ?)
"""
_COLUMNS = 9
_INSERT_SIZES = (64, 8, 1)
_INSERTS = {
    n: "INSERT INTO events VALUES " + ",".join(["(" + ",".join("?" * _COLUMNS) + ")"] * n) for n in _INSERT_SIZES
}

log = structlog.get_logger("sync_server.sqlite")
T = TypeVar("T")


class SQLiteLog:
    """An EventLog in the file *path*. ``exclusive=True`` (serve) holds the file's lock for life."""

    def __init__(
        self, path: Path, *, new_epoch: Callable[[], str], exclusive: bool = True, check_seal: bool = True
    ) -> None:
        self._path = path
        self._exclusive = exclusive
        self._check_seal = check_seal
        self._new_epoch = new_epoch
        self._seal = HeadSeal(path.with_name(path.name + ".head"))
        self._lock_file: IO[bytes] | None = None
        self._writer = _Connection(path, "sqlite-writer")
        self._reader = _Connection(path, "sqlite-reader")
        self._opened = False
        self._closed = False

    async def open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._exclusive and self._lock_file is None:
                self._take_lock()
        except ValueError as exc:
            raise LogMisconfigured(f"[log.sqlite] path: {exc}") from exc
        except OSError as exc:
            error = LogUnavailable if exc.errno in _NO_SPACE else LogMisconfigured
            raise error(f"[log.sqlite] path: cannot write to {self._path.parent} ({exc.strerror})") from exc
        await self._writer.run(self._migrate)
        self._opened = True

    async def _ready(self) -> None:
        """Open if that could not be done at start (a full disk): a log that comes back needs no restart."""
        if not self._opened:
            await self.open()

    def _take_lock(self) -> None:
        file = self._path.with_name(self._path.name + ".lock").open("ab+", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().decode(errors="replace").strip() or "unknown"
            file.close()
            raise LogMisconfigured(
                f"The log {self._path} is in use by another sync-server (process {holder}). A SQLite log has "
                'one process; stop that one, use its HTTP address, or move to [log] store = "mongodb".'
            ) from None
        self._lock_file = file
        with suppress(OSError):  # a full disk: the number is information only, the lock is what counts
            file.truncate(0)
            file.write(str(os.getpid()).encode())

    def _migrate(self, db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        db.execute("INSERT OR IGNORE INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION),))
        version = int(db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise LogMisconfigured(
                f"{self._path} was written by a newer order-sync (schema {version}, this one knows "
                f"{SCHEMA_VERSION}). Update order-sync."
            )
        db.executescript(_SCHEMA)  # not before: a newer file is left as it is
        heads = {t: (e, s) for t, e, s in db.execute("SELECT tenant, epoch, seq FROM heads")}
        if self._check_seal:
            self._seal.check(heads, log_name=str(self._path))
        else:  # `log new-epoch` is how a refused log is made servable again, tenant by tenant
            self._seal.keep(heads)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._reader.aclose()
        if self._opened:
            with suppress(LogUnavailable):
                await self._writer.run(lambda _db: self._seal.write())
        await self._writer.aclose()
        if self._lock_file is not None:
            self._lock_file.close()

    async def ensure(self, tenant: str) -> Bounds:
        def ensure(db: sqlite3.Connection) -> Bounds:
            with _transaction(db):
                db.execute("INSERT OR IGNORE INTO heads VALUES (?, ?, 0, 0, 0)", (tenant, self._new_epoch()))
                return _bounds(db, tenant)

        await self._ready()
        return await self._writer.run(ensure)

    async def bounds(self, tenants: Collection[str]) -> dict[str, Bounds]:
        def bounds(db: sqlite3.Connection) -> dict[str, Bounds]:
            rows = db.execute(
                "SELECT tenant, epoch, floor, seq FROM heads WHERE tenant IN (SELECT value FROM json_each(?))",
                (json.dumps(list(tenants)),),
            ).fetchall()
            return {row[0]: Bounds(*row[1:]) for row in rows}

        await self._ready()
        return await self._reader.run(bounds)

    async def tenants(self) -> list[str]:
        await self._ready()
        return await self._reader.run(
            lambda db: [row[0] for row in db.execute("SELECT tenant FROM heads ORDER BY tenant")]
        )

    async def read(self, tenant: str, *, after: int, limit: int) -> list[StoredEvent]:
        await self._ready()
        return await self._reader.run(lambda db: _read(db, tenant, after, limit))

    async def transact(self, tenant: str, group: Group, *, now_ms: int, deadline_s: float) -> Committed:
        # A local commit either returns or raises, so a try is never doubtful; busy_timeout bounds it.
        del deadline_s
        await self._ready()
        return await self._writer.run(lambda db: self._transact(db, tenant, group, now_ms))

    def _transact(self, db: sqlite3.Connection, tenant: str, group: Group, now_ms: int) -> Committed:
        with _transaction(db):
            row = db.execute("SELECT epoch, seq, time_ms FROM heads WHERE tenant = ?", (tenant,)).fetchone()
            if row is None:
                row = (self._new_epoch(), 0, 0)
                db.execute("INSERT INTO heads VALUES (?, ?, 0, 0, 0)", (tenant, row[0]))
            epoch, seq, last_ms = row
            time_ms = max(now_ms, last_ms)
            view = View(epoch, seq + 1, time_ms, _read_outcomes(db, tenant, group.keys))
            plan, refs = Plan(), group.refs
            view.load(refs, _load(db, tenant, refs))
            while refs := decide(group, view, plan):
                view.load(refs, _load(db, tenant, refs))
            _insert_events(db, tenant, plan.events)
            if plan.outcomes:
                db.executemany(
                    "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?)",
                    [(tenant, *key, *outcome) for key, outcome in plan.outcomes.items()],
                )
            if plan.events:
                db.execute(
                    "UPDATE heads SET seq = ?, time_ms = ? WHERE tenant = ?",
                    (view.next_seq - 1, time_ms, tenant),
                )
        self._seal.advance(tenant, epoch, view.next_seq - 1, now_s=time.monotonic())
        return Committed(epoch, plan.events, plan.results)

    async def signal(self, tenant: str, events: Sequence[StoredEvent]) -> None:
        """Nothing to do: a SQLite log has one process, and that one delivers its own."""

    async def wakeups(self) -> AsyncIterator[Bell | Signal]:
        """Never yields: nobody else writes."""
        await asyncio.Event().wait()
        yield Bell(None)  # pragma: no cover - makes this an async generator

    async def trim(self, tenant: str, floor: int) -> Bounds:
        def move_floor(db: sqlite3.Connection) -> Bounds:
            with _transaction(db):
                db.execute("UPDATE heads SET floor = max(floor, min(?, seq)) WHERE tenant = ?", (floor, tenant))
                return _bounds(db, tenant)

        def delete_chunk(db: sqlite3.Connection) -> int:
            with _transaction(db):
                return db.execute(
                    "DELETE FROM events WHERE tenant = ?1 AND seq IN"
                    " (SELECT seq FROM events WHERE tenant = ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3)",
                    (tenant, bounds.floor, _TRIM_CHUNK),
                ).rowcount

        await self._ready()
        bounds = await self._writer.run(move_floor)
        while await self._writer.run(delete_chunk) == _TRIM_CHUNK:
            pass
        return bounds

    async def new_epoch(self, tenant: str, epoch: str) -> Bounds:
        def rename(db: sqlite3.Connection) -> Bounds:
            with _transaction(db):
                db.execute("UPDATE heads SET epoch = ? WHERE tenant = ?", (epoch, tenant))
                bounds = _bounds(db, tenant)
            self._seal.replace(tenant, epoch, bounds.head)
            return bounds

        await self._ready()
        return await self._writer.run(rename)

    async def expire_outcomes(self, tenant: str, *, now_ms: int) -> int:
        def expire(db: sqlite3.Connection) -> int:
            with _transaction(db):
                return db.execute(
                    "DELETE FROM outcomes WHERE (tenant, principal, key) IN (SELECT tenant, principal, key"
                    " FROM outcomes WHERE tenant = ? AND expires_ms < ? LIMIT ?)",
                    (tenant, now_ms, _TRIM_CHUNK),
                ).rowcount

        await self._ready()
        return await self._writer.run(expire)

    async def describe(self) -> dict[str, str]:
        await self._ready()
        size = 0
        for file in self._path.parent.glob(self._path.name + "*"):
            with suppress(FileNotFoundError):  # a checkpoint may take one away
                size += file.stat().st_size
        return {
            "store": f"SQLite {sqlite3.sqlite_version}",
            "file": str(self._path),
            "size": f"{size / 1e6:.1f} MB",
        }


class _Connection:
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


class _transaction:  # noqa: N801 - reads as the statement it stands for
    """BEGIN IMMEDIATE ... COMMIT; rolls back on any exception, that of a failed commit included."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

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


def _bounds(db: sqlite3.Connection, tenant: str) -> Bounds:
    row = db.execute("SELECT epoch, floor, seq FROM heads WHERE tenant = ?", (tenant,)).fetchone()
    if row is None:
        raise LogMisconfigured(f"There is no tenant {tenant!r} in this log.")
    return Bounds(*row)


def _read(db: sqlite3.Connection, tenant: str, after: int, limit: int) -> list[StoredEvent]:
    sizes = db.execute(_READ_SIZES, (tenant, after, limit)).fetchone()[0]
    if sizes is None:
        return []
    (page,) = db.execute(_READ_PAGE, (tenant, after, _fitting(sizes))).fetchone()
    events = []
    for row in page.split(_ROW) if page is not None else ():  # None: trimmed between the two statements
        seq, time_ms, event_type, tags, client_id, principal, tail = row.split(_COLUMN)
        events.append(
            StoredEvent(
                int(seq),
                int(time_ms),
                event_type,
                tuple(tags.split("\n")) if tags else (),
                client_id or None,
                principal,
                tail,
            )
        )
    return events


def _fitting(sizes: str) -> int:
    """How many rows of these *sizes* make a page: as many as fit, at least one."""
    count = total = 0
    for size in map(int, sizes.split(",")):
        total += size
        if count and total > PAGE_BYTES:
            break
        count += 1
    return count


def _read_outcomes(db: sqlite3.Connection, tenant: str, keys: Iterable[OutcomeKey]) -> dict[OutcomeKey, Outcome]:
    wanted = json.dumps([[key.principal, key.key] for key in keys])
    if wanted == "[]":
        return {}
    rows = db.execute(
        "SELECT o.principal, o.key, o.fingerprint, o.result, o.expires_ms FROM json_each(?) AS w"
        " JOIN outcomes AS o ON o.tenant = ? AND o.principal = json_extract(w.value, '$[0]')"
        " AND o.key = json_extract(w.value, '$[1]')",
        (wanted, tenant),
    ).fetchall()
    return {OutcomeKey(*row[:2]): Outcome(*row[2:]) for row in rows}


def _insert_events(db: sqlite3.Connection, tenant: str, events: list[StoredEvent]) -> None:
    start = 0
    for size in _INSERT_SIZES:
        while len(events) - start >= size:
            values: list[Any] = []
            for e in events[start : start + size]:
                values += (
                    tenant, e.seq, len(e.tail), e.time_ms, e.event_type, "\n".join(e.tags),
                    e.client_id or "", e.principal, e.tail,
                )  # fmt: skip
            db.execute(_INSERTS[size], values)
            start += size
