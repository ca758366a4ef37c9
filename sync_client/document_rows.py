"""The replica's documents as rows of the cache: what is known of each, and a snapshot that is being fetched.

A snapshot is staged page by page and installed in one commit, so that a kill leaves either the documents of before
or those of the snapshot. Called inside the cache's transactions. Source: protocol.md 2.3.
"""

import sqlite3
from collections.abc import Iterable, Sequence

from sync_client.records import DocumentState, StagingLost, StoredDocument
from sync_core.cursor import Cursor

__all__ = ["SCHEMA", "TABLES", "forget", "install", "load", "put", "stage"]

TABLES = ("documents", "staged")
_COLUMNS = "kind, id, version, state, epoch, seq, time_ms, body"
SCHEMA = "".join(
    f"CREATE TABLE {table} ("
    " kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, state INTEGER NOT NULL, epoch TEXT NOT NULL,"
    " seq INTEGER NOT NULL, time_ms INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, id));\n"
    for table in TABLES
)
_PUT = "INSERT OR REPLACE INTO {} (" + _COLUMNS + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
# Newest wins. At the same version the snapshot wins over what was known before it: a document may have been out of
# view then. Versions of different epochs do not compare; the snapshot's is the log that there is now.
_INSTALL = f"""
INSERT INTO documents ({_COLUMNS}) SELECT {_COLUMNS} FROM staged WHERE true
ON CONFLICT (kind, id) DO UPDATE SET version = excluded.version, state = excluded.state, epoch = excluded.epoch,
  seq = excluded.seq, time_ms = excluded.time_ms, body = excluded.body
WHERE documents.epoch <> excluded.epoch OR excluded.version > documents.version
  OR (excluded.version = documents.version AND documents.seq <= excluded.seq)
"""
_DROP = """
DELETE FROM documents WHERE (epoch <> ? OR seq <= ?)
  AND NOT EXISTS (SELECT 1 FROM staged WHERE staged.kind = documents.kind AND staged.id = documents.id)
"""


def load(db: sqlite3.Connection) -> list[StoredDocument]:
    """All of them, by kind and id."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM documents ORDER BY kind, id")
    return [StoredDocument(row[0], row[1], row[2], DocumentState(row[3]), *row[4:]) for row in rows]


def put(db: sqlite3.Connection, documents: Iterable[StoredDocument]) -> None:
    """In the place of what was known of them."""
    db.executemany(_PUT.format("documents"), documents)


def forget(db: sqlite3.Connection, refs: Iterable[tuple[str, str]]) -> None:
    """Nothing is known of them any more."""
    db.executemany("DELETE FROM documents WHERE kind = ? AND id = ?", refs)


def stage(db: sqlite3.Connection, documents: Sequence[StoredDocument], *, first: bool) -> None:
    """Put a page of a snapshot aside; *first* begins anew."""
    if first:
        db.execute("DELETE FROM staged")
    db.executemany(_PUT.format("staged"), documents)


def install(db: sqlite3.Connection, cursor: Cursor, *, count: int) -> None:
    """Make what is staged the truth as of *cursor*. Raises StagingLost unless *count* documents are."""
    if db.execute("SELECT count(*) FROM staged").fetchone()[0] != count:
        raise StagingLost
    db.execute(_INSTALL)
    db.execute(_DROP, (cursor.epoch, cursor.seq))
    db.execute("DELETE FROM staged")
