"""The outbox on disk: commands that were given and not yet answered, and those that the server refused.

A file of its own beside the cache, with ``synchronous=FULL``: the cache can be fetched again, what a person did
cannot. A command stands here, with its key and all that its picture needs, before it is shown or sent; it leaves
only by its answer, or by a person's hand. Source: architecture.md (the client), protocol.md 4 and 6.

    queued --> in flight --> (answered: gone)
      ^            |
      |            +--> failed      refused for good, or in flight for over six days
      +--- retry --+

A damaged file is set aside, never thrown away, and a new one begun; ``set_aside`` says where it is.
"""

import contextlib
import enum
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sync_client.errors import CacheUnwritable, OutboxFull
from sync_client.pending import PendingCommand
from sync_core.domain.command import Command, Domain

__all__ = ["MAX_BYTES", "MAX_COMMANDS", "Outbox", "OutboxEntry", "OutboxState"]

APPLICATION_ID = 0x6F736F62  # "osob"
FORMAT_VERSION = 1
MAX_COMMANDS = 10_000
MAX_BYTES = 64 * 1024 * 1024
_SCHEMA = """
CREATE TABLE commands (
  place REAL PRIMARY KEY, key TEXT UNIQUE NOT NULL, name TEXT NOT NULL, given TEXT NOT NULL,
  created_ms INTEGER NOT NULL, guard INTEGER, state TEXT NOT NULL, first_sent_ms INTEGER, attempts INTEGER NOT NULL,
  problem TEXT
);
"""
_COLUMNS = "place, key, name, given, created_ms, guard, state, first_sent_ms, attempts, problem"


class OutboxState(enum.StrEnum):
    QUEUED = "queued"
    IN_FLIGHT = "in_flight"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """One command of the outbox. *place* orders them; *first_sent_ms* (Unix time) is when it was first sent.

    *problem* is the server's problem document where it failed.
    """

    place: float
    command: PendingCommand
    state: OutboxState
    first_sent_ms: int | None = None
    attempts: int = 0
    problem: Mapping[str, Any] | None = None

    @property
    def key(self) -> str:
        return self.command.key


class Outbox:
    """The commands, in order. In memory where *path* is None. Made, used and closed in one thread.

    All methods raise CacheUnwritable where the disk does not take it; nothing has changed then.
    """

    def __init__(self, path: Path | None, domain: Domain) -> None:
        self._path = path
        self._commands = {f"{c.target.kind}.{c.name}": c for c in domain.commands}
        self.set_aside: Path | None = None
        """Where a file that could not be read was moved to, if that happened."""
        self._db = self._open()
        self.entries: list[OutboxEntry] = []
        """All of them, in order."""
        self.unknown = 0
        """Commands of another version of this program: kept in the file, and not shown."""
        self._bytes = 0
        self._load()

    # -- opening ----------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if self._path is None:
            return self._try_open(":memory:")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return self._try_open(str(self._path))
        except sqlite3.DatabaseError as exc:
            if isinstance(exc, sqlite3.OperationalError):
                raise CacheUnwritable(f"The outbox {self._path} cannot be used: {exc}") from exc
            self._move_aside(self._path)
            return self._open()
        except OSError as exc:
            raise CacheUnwritable(f"The outbox {self._path} cannot be written: {exc}") from exc

    def _try_open(self, where: str) -> sqlite3.Connection:
        db = sqlite3.connect(where, isolation_level=None, timeout=5, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            found = (
                db.execute("PRAGMA application_id").fetchone()[0],
                db.execute("PRAGMA user_version").fetchone()[0],
            )
            if tables and found != (APPLICATION_ID, FORMAT_VERSION):
                raise sqlite3.DatabaseError("it belongs to another program or a newer version")
            if not tables:
                db.executescript(
                    f"BEGIN;{_SCHEMA}PRAGMA application_id={APPLICATION_ID};"
                    f"PRAGMA user_version={FORMAT_VERSION};COMMIT;"
                )
            if (check := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(check)
        except BaseException:
            db.close()
            raise
        return db

    def _move_aside(self, path: Path) -> None:
        number = 1
        while (target := path.with_name(f"{path.name}.damaged-{number}")).exists():
            number += 1
        try:
            path.rename(target)
            for suffix in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    path.with_name(path.name + suffix).rename(target.with_name(target.name + suffix))
        except OSError as exc:
            raise CacheUnwritable(f"The unusable outbox {path} cannot be set aside: {exc}") from exc
        self.set_aside = target

    def _load(self) -> None:
        for row in self._db.execute(f"SELECT {_COLUMNS} FROM commands ORDER BY place"):
            entry = self._entry(row)
            if entry is None:
                self.unknown += 1
            else:
                self.entries.append(entry)
            self._bytes += len(row[3])

    def _entry(self, row: tuple[Any, ...]) -> OutboxEntry | None:
        place, key, name, given, created_ms, guard, state, first_sent_ms, attempts, problem = row
        command: Command | None = self._commands.get(name)
        if command is None:
            return None
        try:
            pending = PendingCommand(key, command, command.input.model_validate_json(given), created_ms, guard)
        except ValidationError:
            return None
        document = None if problem is None else json.loads(problem)
        return OutboxEntry(place, pending, OutboxState(state), first_sent_ms, attempts, document)

    # -- what happens to a command ----------------------------------------------------------------------

    def add(self, command: PendingCommand) -> OutboxEntry:
        """At the end of the queue, on disk. Raises OutboxFull."""
        given = command.given.model_dump_json(exclude_unset=True)
        if len(self.entries) >= MAX_COMMANDS or self._bytes + len(given) > MAX_BYTES:
            raise OutboxFull(f"{len(self.entries)} commands wait to be sent; connect, or discard some.")
        place = max((entry.place for entry in self.entries), default=0.0) + 1.0
        entry = OutboxEntry(place, command, OutboxState.QUEUED)
        with self._transaction():
            self._insert(entry, given)
        self.entries.append(entry)
        self._bytes += len(given)
        return entry

    def sending(self, entry: OutboxEntry, *, now_ms: int) -> OutboxEntry:
        """It goes out now, as far as anybody can know from here on."""
        first_ms = entry.first_sent_ms if entry.first_sent_ms is not None else now_ms
        return self._update(
            replace(entry, state=OutboxState.IN_FLIGHT, first_sent_ms=first_ms, attempts=entry.attempts + 1)
        )

    def back(self, entry: OutboxEntry) -> OutboxEntry:
        """It surely was not taken: queued as before."""
        return self._update(replace(entry, state=OutboxState.QUEUED))

    def fail(self, entry: OutboxEntry, problem: Mapping[str, Any]) -> OutboxEntry:
        """Refused for good; it stays for a person to look at."""
        return self._update(replace(entry, state=OutboxState.FAILED, problem=problem))

    def remove(self, entry: OutboxEntry) -> None:
        """Answered, or discarded."""
        with self._transaction():
            self._db.execute("DELETE FROM commands WHERE key = ?", (entry.key,))
        self.entries = [other for other in self.entries if other.key != entry.key]
        self._bytes -= len(entry.command.given.model_dump_json(exclude_unset=True))

    def replace(self, entry: OutboxEntry, command: PendingCommand) -> OutboxEntry:
        """*command*, which has another key, in the place of *entry*: a rebased one, or one tried again."""
        given = command.given.model_dump_json(exclude_unset=True)
        new = OutboxEntry(entry.place, command, OutboxState.QUEUED)
        with self._transaction():
            self._db.execute("DELETE FROM commands WHERE key = ?", (entry.key,))
            self._insert(new, given)
        self.entries = [new if other.key == entry.key else other for other in self.entries]
        return new

    def _update(self, entry: OutboxEntry) -> OutboxEntry:
        problem = None if entry.problem is None else json.dumps(entry.problem)
        with self._transaction():
            self._db.execute(
                "UPDATE commands SET state = ?, first_sent_ms = ?, attempts = ?, problem = ? WHERE key = ?",
                (entry.state.value, entry.first_sent_ms, entry.attempts, problem, entry.key),
            )
        self.entries = [entry if other.key == entry.key else other for other in self.entries]
        return entry

    def _insert(self, entry: OutboxEntry, given: str) -> None:
        command = entry.command
        self._db.execute(
            f"INSERT INTO commands ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
            (
                entry.place, command.key, command.name, given, command.created_ms, command.guard,
                entry.state.value, entry.first_sent_ms, entry.attempts,
            ),
        )  # fmt: skip

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as exc:
            raise CacheUnwritable(f"The outbox {self._path or 'in memory'} cannot be written: {exc}") from exc

    # -- looking ----------------------------------------------------------------------------------------

    def of(self, *states: OutboxState) -> list[OutboxEntry]:
        """The commands in those states, in order."""
        return [entry for entry in self.entries if entry.state in states]

    def get(self, key: str) -> OutboxEntry | None:
        return next((entry for entry in self.entries if entry.key == key), None)

    @property
    def pending(self) -> list[PendingCommand]:
        """What has no answer yet: what a screen shows on top of what is known."""
        return [entry.command for entry in self.of(OutboxState.IN_FLIGHT, OutboxState.QUEUED)]

    def close(self) -> None:
        self._db.close()
