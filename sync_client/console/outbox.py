"""``sync-client outbox``: the commands that a client has not got rid of. Showing them changes nothing."""

import json
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from sync_client.conflicts import current_version
from sync_client.console.cache_view import opened
from sync_client.console.screen import err, out
from sync_client.errors import CacheError, ClientError
from sync_client.filelock import FileLock
from sync_client.outbox_file import APPLICATION_ID, FORMAT_VERSION, OutboxFile
from sync_client.pending import OutboxEntry, OutboxState
from sync_client.refusals import current_of
from sync_core.domain.catalog import DOMAIN
from sync_core.times import iso_from_ms

__all__ = ["discard", "retry", "show"]

MIN_KEY = 4
"""Characters of a key that are enough, if they name one command."""


@dataclass(frozen=True, slots=True)
class Row:
    """A command as it stands in the file, whether this program knows it or not."""

    key: str
    command: str
    given: Any
    createdAt: str  # noqa: N815 - as it is printed
    state: str
    attempts: int
    problem: Any

    @property
    def why(self) -> str:
        """In words, where it failed."""
        problem = self.problem if isinstance(self.problem, dict) else {}
        return f"{problem.get('status') or ''} {problem.get('detail') or problem.get('title') or ''}".strip()


def show(path: Path, *, as_json: bool) -> None:
    """What is in it. Raises CacheError."""
    rows = _rows(path)
    aside = [file.name for file in _set_aside(path)]
    if as_json:
        document = {"file": str(path), "setAside": aside, "commands": [_document(row) for row in rows]}
        print(json.dumps(document, indent=2, ensure_ascii=False), flush=True)  # noqa: T201 - for programs
        return
    out.print(f"outbox {path}: {_count(rows)}", markup=False)
    if aside:
        out.print(
            f"Could not be read and were set aside, with what was not sent then: {', '.join(aside)}", markup=False
        )
    if rows:
        out.print(_table(rows))


def _document(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in Row.__dataclass_fields__}


def _count(rows: Sequence[Row]) -> str:
    counts = {state: sum(row.state == state for row in rows) for state in OutboxState}
    return ", ".join(f"{count} {state.value.replace('_', ' ')}" for state, count in counts.items())


def _table(rows: Sequence[Row]) -> Table:
    table = Table("key", "command", "given", "since", "state", "tries", "why")
    for row in rows:
        given = ", ".join(f"{name}={value}" for name, value in row.given.items()) if isinstance(row.given, dict) else ""
        state = row.state.replace("_", " ")
        table.add_row(*map(Text, (row.key, row.command, given, row.createdAt, state, str(row.attempts), row.why)))
    return table


def _rows(path: Path) -> list[Row]:
    try:
        with opened(path) as db:
            found = (
                db.execute("PRAGMA application_id").fetchone()[0],
                db.execute("PRAGMA user_version").fetchone()[0],
            )
            if found != (APPLICATION_ID, FORMAT_VERSION):
                raise CacheError(
                    f"{path} is not an outbox of this version. A client of this version will set it aside."
                )
            rows = db.execute(
                "SELECT key, name, given, created_ms, state, attempts, problem FROM commands ORDER BY place"
            ).fetchall()
    except (sqlite3.Error, OSError) as exc:
        raise CacheError(f"{path} cannot be read: {exc}") from exc
    return [
        Row(key, name, json.loads(given), iso_from_ms(created_ms), state, attempts, json.loads(problem or "null"))
        for key, name, given, created_ms, state, attempts, problem in rows
    ]


def _set_aside(path: Path) -> list[Path]:
    return [file for file in sorted(path.parent.glob(f"{path.name}.*-*")) if not file.name.endswith(("-wal", "-shm"))]


# -- changing ---------------------------------------------------------------------------------------------


def retry(path: Path, lock: Path, key: str) -> None:
    """Give a failed command once more, at the end of the queue; sent when the client runs. Raises ClientError."""
    with _held(path, lock) as file:
        entries = file.load()
        entry = _one(entries, key)
        if entry.is_pending:
            raise ClientError(f"{entry.name} has not failed; it is {entry.state.value.replace('_', ' ')}")
        guard = entry.command.guard
        if guard is not None:  # who gives it again has seen what the server answered
            guard = current_version(entry.command, current_of(entry.problem or {})) or guard
        command = replace(
            entry.command, key=str(uuid.uuid4()), created_ms=time.time_ns() // 1_000_000, guard=guard
        )  # fmt: skip
        file.write(put=[OutboxEntry(entries[-1].place + 1, command)], drop=[entry.key])
    err.print(f"{entry.name} is queued again.", markup=False)


def discard(path: Path, lock: Path, key: str, *, ask: bool) -> None:
    """Forget a command. Raises ClientError."""
    with _held(path, lock) as file:
        entry = _one(file.load(), key)
        if ask and entry.is_pending:
            typer.confirm(f"{entry.name} waits to be sent, or for its answer. Discard it?", abort=True)
        file.write(drop=[entry.key])
    err.print(f"{entry.name} is discarded.", markup=False)


@contextmanager
def _held(path: Path, lock: Path) -> Iterator[OutboxFile]:
    """The file, while no client has it. Raises CacheLocked."""
    held = FileLock(lock)
    try:
        _rows(path)  # says what is wrong with it, and leaves it where it is
        file = OutboxFile(path, DOMAIN)
        try:
            yield file
        finally:
            file.close()
    finally:
        held.close()


def _one(entries: Sequence[OutboxEntry], key: str) -> OutboxEntry:
    """The command that *key* names, or begins the key of."""
    found = [entry for entry in entries if entry.key == key or (len(key) >= MIN_KEY and entry.key.startswith(key))]
    if len(found) != 1:
        how_many = "no command" if not found else f"{len(found)} commands"
        raise ClientError(f"{how_many} of the outbox has a key that is or begins with {key!r}; see `outbox show`")
    return found[0]
