"""The tables of a SQLite log, and the way there from every older version."""

import sqlite3
from pathlib import Path

from sync_server.log.base import LogMisconfigured
from sync_server.log.sqlite_connection import transaction

__all__ = ["SCHEMA_VERSION", "migrate", "stored_version"]

_STEPS = (
    (  # 1: events and outcomes. It was not made in one step: a full disk may have left its number without its tables
        """
        CREATE TABLE IF NOT EXISTS heads (
          tenant TEXT PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL, floor INTEGER NOT NULL,
          time_ms INTEGER NOT NULL
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE IF NOT EXISTS events (
          tenant TEXT NOT NULL, seq INTEGER NOT NULL, bytes INTEGER NOT NULL, time_ms INTEGER NOT NULL,
          type TEXT NOT NULL, tags TEXT NOT NULL, client_id TEXT NOT NULL, principal TEXT NOT NULL, tail TEXT NOT NULL,
          PRIMARY KEY (tenant, seq)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE IF NOT EXISTS outcomes (
          tenant TEXT NOT NULL, principal TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL,
          result TEXT NOT NULL, expires_ms INTEGER NOT NULL, PRIMARY KEY (tenant, principal, key)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX IF NOT EXISTS outcomes_expiry ON outcomes (tenant, expires_ms)",
    ),
    (  # 2: documents, and whom an event concerns
        "ALTER TABLE events ADD COLUMN reach TEXT NOT NULL DEFAULT ''",
        """
        CREATE TABLE documents (
          tenant TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL,
          deleted INTEGER NOT NULL, is_open INTEGER NOT NULL, state TEXT NOT NULL, tags TEXT NOT NULL,
          grants TEXT NOT NULL, audience TEXT NOT NULL, seq INTEGER NOT NULL, time_ms INTEGER NOT NULL,
          bytes INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (tenant, kind, id)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX documents_tombstones ON documents (tenant, seq) WHERE deleted",
    ),
)
SCHEMA_VERSION = len(_STEPS)


def stored_version(db: sqlite3.Connection, path: Path) -> int:
    """The schema that the file has, 0 where it has none yet. Raises LogMisconfigured where it is a newer one."""
    meta = db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta'").fetchone()
    row = db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone() if meta else None
    version = 0 if row is None else int(row[0])
    if version > SCHEMA_VERSION:
        raise LogMisconfigured(
            f"{path} was written by a newer order-sync (schema {version}, this one knows {SCHEMA_VERSION}). "
            "Update order-sync."
        )
    return version


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring the file to this version's schema, in one step or not at all. Raises LogMisconfigured."""
    with transaction(db):
        version = stored_version(db, path)
        for step in _STEPS[version if version > 1 else 0 :]:
            for statement in step:
                db.execute(statement)
        if version != SCHEMA_VERSION:
            db.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
            db.execute("REPLACE INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION),))
