"""The outbox on disk: commands that were given and not yet answered, and those that the server refused.

A file of its own beside the cache, with ``synchronous=FULL``: the cache can be fetched again, what a person did
cannot. Only that a command was answered may be forgotten by a power cut: it stands there as sent, so it is sent again,
and the server, which knows its key, says the same again. Whoever has the cache's lock may open it.
Source: architecture.md (the client).

    damaged, cut, another program's, a newer version's
                              set aside as NAME.damaged-N or NAME.foreign-N, a new one is begun; ``set_aside`` names
                              all that lie there, at every start, until somebody takes them away
    damaged while in use      likewise, and what it held is written anew from memory: nothing is lost
    removed while in use      written anew, with its directory, as soon as something is written
    another file in its place CacheUnwritable: somebody else works there
    directory not writable    CacheUnwritable
    disk full                 CacheUnwritable; nothing of the commit is stored
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sync_client.errors import CacheUnwritable
from sync_client.identity import identity_of
from sync_client.pending import OutboxEntry, OutboxState, PendingCommand
from sync_core.domain.command import Domain

__all__ = ["APPLICATION_ID", "FORMAT_VERSION", "OUTBOX_COLUMNS", "OutboxDamaged", "OutboxFile"]

APPLICATION_ID = 0x6F736F62  # "osob"
FORMAT_VERSION = 1
_SCHEMA = """
CREATE TABLE commands (
  key TEXT PRIMARY KEY, place INTEGER NOT NULL, name TEXT NOT NULL, given TEXT NOT NULL, created_ms INTEGER NOT NULL,
  guard INTEGER, state TEXT NOT NULL, first_sent_ms INTEGER, attempts INTEGER NOT NULL, rebases INTEGER NOT NULL,
  leans TEXT NOT NULL, problem TEXT
) WITHOUT ROWID;
CREATE INDEX by_place ON commands (place);
"""
OUTBOX_COLUMNS = (
    "key, place, name, given, created_ms, guard, state, first_sent_ms, attempts, rebases, leans, problem"
)  # fmt: skip
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class OutboxDamaged(sqlite3.DatabaseError):
    """The file's content is not what was written; internal, handled by ``begin_anew``."""


class _Foreign(sqlite3.DatabaseError):
    """The file is sound and not of this format."""


class OutboxFile:
    """Made, used and closed in one thread at a time. *domain* says what the commands in it mean."""

    def __init__(self, path: Path, domain: Domain, *, busy_s: float = 5.0) -> None:
        """Open or make *path*. Raises CacheUnwritable."""
        self.path = path
        self._busy_s = busy_s
        self._commands = {f"{command.target.kind}.{command.name}": command for command in domain.commands}
        self.newly_set_aside: Path | None = None
        """A file that could not be used and was moved there just now."""
        self._is_lost = self._is_moved = False
        """Whether the one in use was damaged and is not written anew yet; whether it has been set aside."""
        self.unknown = 0
        """Commands that this version of the program does not know: they stay in the file, and are not sent."""
        self._make_directory()
        self._db = self._open()

    # -- opening ----------------------------------------------------------------------------------------

    def _make_directory(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise CacheUnwritable(f"The outbox {self.path} cannot be written: {exc}") from exc

    def _open(self) -> sqlite3.Connection:
        with self._mapped():
            try:
                return self._try_open()
            except sqlite3.DatabaseError as exc:
                if not isinstance(exc, _Foreign | OutboxDamaged) and _code(exc) not in _DAMAGED:
                    raise
                self._move_aside("foreign" if isinstance(exc, _Foreign) else "damaged")
                return self._try_open()

    def _try_open(self) -> sqlite3.Connection:
        """The database, if it is ours and whole. Raises sqlite3.DatabaseError."""
        db = sqlite3.connect(self.path, isolation_level=None, timeout=self._busy_s, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            application_id = db.execute("PRAGMA application_id").fetchone()[0]
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if tables and (application_id, version) != (APPLICATION_ID, FORMAT_VERSION):
                raise _Foreign("it belongs to another program or a newer version")
            if not tables:
                db.executescript(
                    f"BEGIN;{_SCHEMA}PRAGMA application_id={APPLICATION_ID};"
                    f"PRAGMA user_version={FORMAT_VERSION};COMMIT;"
                )
            if (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise OutboxDamaged(found)
            db.execute(f"SELECT {OUTBOX_COLUMNS} FROM commands LIMIT 1").fetchall()
            self._identity = identity_of(self.path)
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                db.close()
            raise
        return db

    def _move_aside(self, what: str) -> None:
        number = 1
        while (target := self.path.with_name(f"{self.path.name}.{what}-{number}")).exists():
            number += 1
        try:
            self.path.rename(target)
            for suffix in ("-wal", "-shm"):
                side = self.path.with_name(self.path.name + suffix)
                if side.exists():
                    side.rename(target.with_name(target.name + suffix))
        except OSError as exc:
            raise CacheUnwritable(f"The unusable outbox {self.path} cannot be set aside: {exc}") from exc
        self.newly_set_aside = target

    @property
    def set_aside(self) -> list[Path]:
        """Files that could not be used and still lie there: what was given then was not sent."""
        found = (self.path.parent.glob(f"{self.path.name}.{what}-*") for what in ("damaged", "foreign"))
        return sorted(path for paths in found for path in paths if not path.name.endswith(("-wal", "-shm")))

    def begin_anew(self, entries: Iterable[OutboxEntry]) -> None:
        """It turned out damaged while in use, or gone: set it aside, and write *entries* into a new one.

        Raises CacheUnwritable; until it has been called with success, ``write`` raises OutboxDamaged.
        """
        self._is_lost = True
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        self._make_directory()
        if not self._is_moved:
            if self.path.exists():
                self._move_aside("damaged")
            self._is_moved = True
        with self._mapped():
            self._db = self._try_open()
            self._commit(put=entries, drop=(), lazily=False)
        self._is_lost = self._is_moved = False

    # -- what is in it ----------------------------------------------------------------------------------

    def load(self) -> list[OutboxEntry]:
        """All that this program understands, in order. Raises CacheUnwritable, OutboxDamaged."""
        with self._mapped():
            rows = self._db.execute(f"SELECT {OUTBOX_COLUMNS} FROM commands ORDER BY place").fetchall()
        entries = [self._entry(row) for row in rows]
        self.unknown = entries.count(None)
        return [entry for entry in entries if entry is not None]

    def _entry(self, row: tuple[Any, ...]) -> OutboxEntry | None:
        key, place, name, given, created_ms, guard, state, first_sent_ms, attempts, rebases, leans, problem = row
        command = self._commands.get(name)
        if command is None:
            return None
        try:
            pending = PendingCommand(key, command, command.input.model_validate_json(given), created_ms, guard)
            return OutboxEntry(
                place, pending, OutboxState(state), first_sent_ms, attempts, rebases, json.loads(leans),
                None if problem is None else json.loads(problem),
            )  # fmt: skip
        except ValueError:
            return None

    def write(self, *, put: Iterable[OutboxEntry] = (), drop: Iterable[str] = (), lazily: bool = False) -> None:
        """One commit: without the commands with the keys *drop*, with *put* as they are now.

        Durable when it returns; *lazily*, against a kill of the process at once, against a power cut with the next
        commit. Raises CacheUnwritable with nothing changed, or OutboxDamaged.
        """
        if self._is_lost:
            raise OutboxDamaged("it was damaged, and there was no room for a new one")
        with self._mapped():
            self._check_place()
            self._commit(put=put, drop=drop, lazily=lazily)

    def _check_place(self) -> None:
        """What is written is to be there for the next run."""
        found = identity_of(self.path)
        if found == self._identity:
            return
        if found is None:
            raise OutboxDamaged("it was removed")
        raise CacheUnwritable(f"The outbox {self.path} cannot be written: another file is in its place")

    def _commit(self, *, put: Iterable[OutboxEntry], drop: Iterable[str], lazily: bool) -> None:
        rows = [_row(entry) for entry in put]
        marks = ", ".join("?" * len(OUTBOX_COLUMNS.split(",")))
        self._db.execute(f"PRAGMA synchronous={'NORMAL' if lazily else 'FULL'}")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("DELETE FROM commands WHERE key = ?", [(key,) for key in drop])
            self._db.executemany(f"INSERT OR REPLACE INTO commands ({OUTBOX_COLUMNS}) VALUES ({marks})", rows)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Idempotent."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        """SQLite's errors become ours here."""
        try:
            yield
        except sqlite3.DatabaseError as exc:
            if _code(exc) in _DAMAGED or isinstance(exc, OutboxDamaged):
                raise OutboxDamaged(str(exc)) from exc
            raise CacheUnwritable(f"The outbox {self.path} cannot be written: {exc}") from exc
        except OSError as exc:
            raise CacheUnwritable(f"The outbox {self.path} cannot be written: {exc}") from exc


def _row(entry: OutboxEntry) -> tuple[Any, ...]:
    command = entry.command
    return (
        command.key, entry.place, command.name, command.given.model_dump_json(exclude_unset=True), command.created_ms,
        command.guard, entry.state.value, entry.first_sent_ms, entry.attempts, entry.rebases, json.dumps(entry.leans),
        None if entry.problem is None else json.dumps(entry.problem),
    )  # fmt: skip


def _code(exc: sqlite3.Error) -> int:
    """The primary result code, without the extension in its upper bits."""
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF
