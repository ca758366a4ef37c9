"""Events and outcomes as rows of a SQLite log.

CPython's sqlite3 gives the GIL away at every row it steps to, and has to win it back from an event loop that
is busy with readers. So rows are moved in bulk inside single steps: pages are read as one aggregated text,
events and documents are written by multi-row inserts.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from sync_server.log.reach import reach_from_text, reach_text
from sync_server.log.records import Outcome, OutcomeKey, StoredEvent

__all__ = ["COLUMN", "ROW", "BulkInsert", "insert_events", "insert_outcomes", "read_events", "read_outcomes"]

PAGE_BYTES = 1024 * 1024
"""A page of large events is cut here, so that no reader can ask for gigabytes."""

# Rows and columns of what is read as one text. No field can hold them: JSON escapes control characters,
# and ids and types are refused with them.
ROW, COLUMN = "\x1e", "\x1f"

_READ_PAGE = """
SELECT group_concat(
  seq || char(31) || time_ms || char(31) || type || char(31) || tags || char(31) || client_id
  || char(31) || principal || char(31) || tail || char(31) || reach, char(30))
FROM (SELECT * FROM events WHERE tenant = ? AND seq > ? ORDER BY seq LIMIT ?)
"""
_READ_SIZES = """
SELECT group_concat(bytes) FROM (SELECT bytes FROM events WHERE tenant = ? AND seq > ? ORDER BY seq LIMIT ?)
"""

T = TypeVar("T")


class BulkInsert:
    """Puts rows into *table*, many in one statement."""

    _SIZES = (64, 8, 1)

    def __init__(self, table: str, *, columns: int, verb: str = "INSERT") -> None:
        row = "(" + ",".join("?" * columns) + ")"
        self._statements = [(n, f"{verb} INTO {table} VALUES " + ",".join([row] * n)) for n in self._SIZES]

    def __call__(self, db: sqlite3.Connection, rows: Sequence[T], values: Callable[[T], Sequence[Any]]) -> None:
        """Insert *rows*, each with the *values* of its columns."""
        start = 0
        for size, statement in self._statements:
            while len(rows) - start >= size:
                flat: list[Any] = []
                for row in rows[start : start + size]:
                    flat += values(row)
                db.execute(statement, flat)
                start += size


_insert_events = BulkInsert("events", columns=10)
_insert_outcomes = BulkInsert("outcomes", columns=6)


def insert_events(db: sqlite3.Connection, tenant: str, events: Sequence[StoredEvent]) -> None:
    """Write *events*."""

    def values(e: StoredEvent) -> tuple[Any, ...]:
        return (
            tenant, e.seq, len(e.tail), e.time_ms, e.event_type, "\n".join(e.tags), e.client_id or "",
            e.principal, e.tail, reach_text(e.reach),
        )  # fmt: skip

    _insert_events(db, events, values)


def read_events(db: sqlite3.Connection, tenant: str, after: int, limit: int) -> list[StoredEvent]:
    """At most *limit* events after the seq *after*, fewer if they are large."""
    sizes = db.execute(_READ_SIZES, (tenant, after, limit)).fetchone()[0]
    if sizes is None:
        return []
    (page,) = db.execute(_READ_PAGE, (tenant, after, _fitting(sizes))).fetchone()
    events = []
    for row in page.split(ROW) if page is not None else ():  # None: trimmed between the two statements
        seq, time_ms, event_type, tags, client_id, principal, tail, reach = row.split(COLUMN)
        events.append(
            StoredEvent(
                int(seq),
                int(time_ms),
                event_type,
                tuple(tags.split("\n")) if tags else (),
                client_id or None,
                principal,
                tail,
                reach_from_text(reach) if reach else None,
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


def insert_outcomes(db: sqlite3.Connection, tenant: str, outcomes: dict[OutcomeKey, Outcome]) -> None:
    """Write *outcomes*, which are new."""
    _insert_outcomes(db, list(outcomes.items()), lambda item: (tenant, *item[0], *item[1]))


def read_outcomes(db: sqlite3.Connection, tenant: str, keys: Iterable[OutcomeKey]) -> dict[OutcomeKey, Outcome]:
    """Those of *keys* that are known."""
    wanted = [[key.principal, key.key] for key in keys]
    if not wanted:
        return {}
    # CROSS JOIN: in this order. The planner would rather go through all outcomes than through the few keys.
    rows = db.execute(
        "SELECT o.principal, o.key, o.fingerprint, o.result, o.expires_ms FROM json_each(?) AS w"
        " CROSS JOIN outcomes AS o ON o.tenant = ? AND o.principal = json_extract(w.value, '$[0]')"
        " AND o.key = json_extract(w.value, '$[1]')",
        (json.dumps(wanted), tenant),
    ).fetchall()
    return {OutcomeKey(*row[:2]): Outcome(*row[2:]) for row in rows}
