"""The embedded event log: one SQLite file, one process, nothing to install.

All access is on two threads of its own, a writer and a reader, each with one connection (WAL: they do not
wait for each other). Durable means ``synchronous=FULL``: a commit returns after its fsync.
"""

import asyncio
import errno
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from sync_core.domain.document import Ref
from sync_server.log.base import Bell, Bounds, DocumentPage, LogMisconfigured, LogUnavailable, Selection, Signal
from sync_server.log.group import Committed, Group, Plan, View, decide
from sync_server.log.paging import Paging
from sync_server.log.records import StoredEvent
from sync_server.log.seal import HeadSeal
from sync_server.log.sqlite_connection import Connection, transaction
from sync_server.log.sqlite_documents import delete_tombstones, fill_page, load_documents, write_documents
from sync_server.log.sqlite_rows import insert_events, insert_outcomes, read_events, read_outcomes
from sync_server.log.sqlite_schema import SCHEMA_VERSION, migrate, stored_version

__all__ = ["SQLiteLog"]

_CHUNK = 5000
"""Rows that upkeep deletes in one transaction."""
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


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
        self._writer = Connection(path, "sqlite-writer")
        self._reader = Connection(path, "sqlite-reader")
        self._opened = False
        self._closed = False

    async def open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._exclusive and self._lock_file is None:
                self._lock_file = self._take_lock()
        except ValueError as exc:
            raise LogMisconfigured(f"[log.sqlite] path: {exc}") from exc
        except OSError as exc:
            raise self._unwritable(exc) from exc
        await self._writer.run(self._prepare)
        self._opened = True

    async def _ready(self) -> None:
        """Open if that could not be done at start (a full disk): a log that comes back needs no restart."""
        if not self._opened:
            await self.open()

    def _unwritable(self, error: OSError) -> LogUnavailable:
        kind = LogUnavailable if error.errno in _NO_SPACE else LogMisconfigured
        return kind(f"[log.sqlite] path: cannot write to {self._path.parent} ({error.strerror})")

    def _take_lock(self) -> IO[bytes]:
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
        with suppress(OSError):  # a full disk: the number is information only, the lock is what counts
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        return file

    def _prepare(self, db: sqlite3.Connection) -> None:
        version = stored_version(db, self._path)
        if 0 < version < SCHEMA_VERSION and self._lock_file is None:
            try:
                with self._take_lock():  # a server that runs with the older schema could not write any more
                    migrate(db, self._path)
            except OSError as exc:
                raise self._unwritable(exc) from exc
        elif version < SCHEMA_VERSION:
            migrate(db, self._path)

        def heads() -> dict[str, tuple[str, int]]:
            return {t: (e, s) for t, e, s in db.execute("SELECT tenant, epoch, seq FROM heads")}

        if self._check_seal:
            self._seal.check(heads, log_name=str(self._path))
        else:  # `log new-epoch` is how a refused log is made servable again, tenant by tenant
            self._seal.keep(heads())

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
            with transaction(db):
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
        return await self._reader.run(lambda db: read_events(db, tenant, after, limit))

    async def transact(self, tenant: str, group: Group, *, now_ms: int, deadline_s: float) -> Committed:
        # A local commit either returns or raises, so a try is never doubtful; busy_timeout bounds it.
        del deadline_s
        await self._ready()
        return await self._writer.run(lambda db: self._transact(db, tenant, group, now_ms))

    def _transact(self, db: sqlite3.Connection, tenant: str, group: Group, now_ms: int) -> Committed:
        with transaction(db):
            row = db.execute("SELECT epoch, seq, time_ms FROM heads WHERE tenant = ?", (tenant,)).fetchone()
            if row is None:
                row = (self._new_epoch(), 0, 0)
                db.execute("INSERT INTO heads VALUES (?, ?, 0, 0, 0)", (tenant, row[0]))
            epoch, seq, last_ms = row
            time_ms = max(now_ms, last_ms)
            view = View(epoch, seq + 1, time_ms, read_outcomes(db, tenant, group.keys))
            plan, refs, read = Plan(), group.refs, set[Ref]()
            while True:
                view.load(refs, load_documents(db, tenant, refs))
                read.update(refs)
                if not (refs := decide(group, view, plan)):
                    break
            insert_events(db, tenant, plan.events)
            write_documents(db, tenant, plan.documents.values(), read=read)
            insert_outcomes(db, tenant, plan.outcomes)
            if plan.events:
                db.execute(
                    "UPDATE heads SET seq = ?, time_ms = ? WHERE tenant = ?",
                    (view.next_seq - 1, time_ms, tenant),
                )
        self._seal.advance(tenant, epoch, view.next_seq - 1, now_s=time.monotonic())
        return Committed(epoch, plan.events, plan.results)

    async def load(self, tenant: str, refs: Collection[Ref]) -> DocumentPage:
        def load(db: sqlite3.Connection) -> DocumentPage:
            with transaction(db, "DEFERRED"):
                return DocumentPage(_bounds(db, tenant), load_documents(db, tenant, refs), None)

        await self._ready()
        return await self._reader.run(load)

    async def documents(self, tenant: str, selection: Selection, *, after: Ref | None, limit: int) -> DocumentPage:
        def fill(db: sqlite3.Connection) -> DocumentPage:
            with transaction(db, "DEFERRED"):
                bounds = _bounds(db, tenant)
                fill_page(db, tenant, selection, paging)
            return DocumentPage(bounds, paging.documents, paging.next)

        paging = Paging(selection, after=after, limit=limit)
        await self._ready()
        return await self._reader.run(fill)

    async def signal(self, tenant: str, events: Sequence[StoredEvent], *, as_of: int | None = None) -> None:
        """Nothing to do: a SQLite log has one process, and that one delivers its own."""

    async def wakeups(self) -> AsyncIterator[Bell | Signal]:
        """Never yields: nobody else writes."""
        await asyncio.Event().wait()
        yield Bell(None)  # pragma: no cover - makes this an async generator

    async def trim(self, tenant: str, floor: int) -> Bounds:
        def move_floor(db: sqlite3.Connection) -> Bounds:
            with transaction(db):
                db.execute("UPDATE heads SET floor = max(floor, min(?, seq)) WHERE tenant = ?", (floor, tenant))
                return _bounds(db, tenant)

        def delete_chunk(db: sqlite3.Connection) -> int:
            with transaction(db):
                return db.execute(
                    "DELETE FROM events WHERE tenant = ?1 AND seq IN"
                    " (SELECT seq FROM events WHERE tenant = ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3)",
                    (tenant, bounds.floor, _CHUNK),
                ).rowcount

        await self._ready()
        bounds = await self._writer.run(move_floor)
        while await self._writer.run(delete_chunk) == _CHUNK:
            pass
        return bounds

    async def new_epoch(self, tenant: str, epoch: str) -> Bounds:
        def rename(db: sqlite3.Connection) -> Bounds:
            with transaction(db):
                db.execute("UPDATE heads SET epoch = ? WHERE tenant = ?", (epoch, tenant))
                bounds = _bounds(db, tenant)
            self._seal.replace(tenant, epoch, bounds.head)
            return bounds

        await self._ready()
        return await self._writer.run(rename)

    async def sweep(self, tenant: str, *, now_ms: int) -> int:
        def sweep(db: sqlite3.Connection) -> int:
            with transaction(db):
                outcomes = db.execute(
                    "DELETE FROM outcomes WHERE (tenant, principal, key) IN (SELECT tenant, principal, key"
                    " FROM outcomes WHERE tenant = ? AND expires_ms < ? LIMIT ?)",
                    (tenant, now_ms, _CHUNK),
                ).rowcount
                return outcomes + delete_tombstones(db, tenant, _bounds(db, tenant).floor, _CHUNK)

        await self._ready()
        return await self._writer.run(sweep)

    async def describe(self) -> dict[str, str]:
        await self._ready()
        (documents,) = await self._reader.run(lambda db: db.execute("SELECT count(*) FROM documents").fetchone())
        size = 0
        for file in self._path.parent.glob(self._path.name + "*"):
            with suppress(FileNotFoundError):  # a checkpoint may take one away
                size += file.stat().st_size
        return {
            "store": f"SQLite {sqlite3.sqlite_version}",
            "file": str(self._path),
            "size": f"{size / 1e6:.1f} MB",
            "documents": str(documents),
        }


def _bounds(db: sqlite3.Connection, tenant: str) -> Bounds:
    row = db.execute("SELECT epoch, floor, seq FROM heads WHERE tenant = ?", (tenant,)).fetchone()
    if row is None:
        raise LogMisconfigured(f"There is no tenant {tenant!r} in this log.")
    return Bounds(*row)
