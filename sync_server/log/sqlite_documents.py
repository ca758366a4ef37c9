"""Documents as rows of a SQLite log."""

import json
import sqlite3
from collections.abc import Collection, Iterable
from typing import Any

from pydantic_core import from_json, to_json

from sync_core.domain.document import Ref
from sync_server.log.base import Selection
from sync_server.log.paging import SCAN_ROWS, Paging, Range
from sync_server.log.records import StoredDocument
from sync_server.log.sqlite_rows import COLUMN, ROW, BulkInsert

__all__ = ["delete_tombstones", "fill_page", "load_documents", "write_documents"]

_LOAD = """
SELECT group_concat(
  d.kind || char(31) || d.id || char(31) || d.version || char(31) || d.deleted || char(31) || d.is_open
  || char(31) || d.state || char(31) || d.tags || char(31) || d.grants || char(31) || d.audience
  || char(31) || d.seq || char(31) || d.time_ms || char(31) || d.body, char(30))
FROM json_each(?) AS w CROSS JOIN documents AS d
  ON d.tenant = ? AND d.kind = json_extract(w.value, '$[0]') AND d.id = json_extract(w.value, '$[1]')
"""
_SCAN = """
SELECT group_concat(bytes || char(31) || id, char(30)) FROM (
  SELECT id, bytes FROM (
    SELECT id, bytes, deleted, is_open, state, tags, time_ms FROM documents
    WHERE tenant = :tenant AND kind = :kind AND id > :after ORDER BY id LIMIT :scan)
  WHERE {conditions} LIMIT :limit)
"""
_SCANNED_TO = """
SELECT id FROM documents WHERE tenant = :tenant AND kind = :kind AND id > :after ORDER BY id LIMIT 1 OFFSET :scan - 1
"""
_replace = BulkInsert("documents", columns=14, verb="REPLACE")


def load_documents(db: sqlite3.Connection, tenant: str, refs: Iterable[Ref]) -> list[StoredDocument]:
    """Those of *refs* that exist."""
    wanted = list(refs)
    if not wanted:
        return []
    (rows,) = db.execute(_LOAD, (json.dumps(wanted), tenant)).fetchone()
    return [_document(row) for row in rows.split(ROW)] if rows is not None else []


def write_documents(
    db: sqlite3.Connection, tenant: str, documents: Collection[StoredDocument], *, read: Collection[Ref]
) -> None:
    """Put *documents* in the place of what was *read*, in the same transaction.

    The file's lock is held, so a document is still as it was read. One that was not is a mistake of ours.
    """
    if unread := [d.ref for d in documents if d.ref not in read]:
        raise sqlite3.IntegrityError(f"documents to be written that were not read: {unread}")

    def values(d: StoredDocument) -> tuple[Any, ...]:
        return (
            tenant, d.kind, d.id, d.version, d.deleted, d.is_open, d.state, _text(d.tags), _text(d.grants),
            _text(d.audience), d.seq, d.time_ms, len(d.body), d.body,
        )  # fmt: skip

    _replace(db, list(documents), values)


def fill_page(db: sqlite3.Connection, tenant: str, selection: Selection, paging: Paging) -> None:
    """Look where *paging* wants to until it is complete."""
    conditions, values = _conditions(selection)
    while (place := paging.wanted()) is not None:
        given = {
            **values, "tenant": tenant, "kind": place.kind, "after": place.after, "limit": place.limit,
            "scan": SCAN_ROWS,
        }  # fmt: skip
        (rows,) = db.execute(_SCAN.format(conditions=conditions), given).fetchone()
        found = [row.split(COLUMN) for row in rows.split(ROW)] if rows is not None else []
        refs = [Ref(place.kind, document_id) for _, document_id in found]
        refs = refs[: paging.fitting(int(size) for size, _ in found)]
        documents = {document.ref: document for document in load_documents(db, tenant, refs)}
        paging.take([documents[ref] for ref in refs], upto=_upto(db, place, given, refs, len(found)))


def _upto(db: sqlite3.Connection, place: Range, given: dict[str, Any], taken: list[Ref], found: int) -> str | None:
    """The last id that was looked at; None if nothing is behind it."""
    if len(taken) < found or found == place.limit:
        return taken[-1].id if taken else place.after
    row = db.execute(_SCANNED_TO, given).fetchone()
    return None if row is None else str(row[0])


def delete_tombstones(db: sqlite3.Connection, tenant: str, floor: int, limit: int) -> int:
    """Forget deleted documents whose delete is at or below *floor*; how many, at most *limit*."""
    return db.execute(
        "DELETE FROM documents WHERE (tenant, kind, id) IN"
        " (SELECT tenant, kind, id FROM documents WHERE tenant = ? AND deleted AND seq <= ? LIMIT ?)",
        (tenant, floor, limit),
    ).rowcount


def _conditions(selection: Selection) -> tuple[str, dict[str, Any]]:
    """What *selection* asks for beside kinds, as SQL and its parameters."""
    conditions = ["true"]
    values: dict[str, Any] = {}
    if not selection.deleted:
        conditions.append("NOT deleted")
    if selection.tags:
        values["tags"] = json.dumps(sorted(selection.tags))
        conditions.append("EXISTS (SELECT 1 FROM json_each(tags) WHERE value IN (SELECT value FROM json_each(:tags)))")
    if selection.states:
        values["states"] = json.dumps(sorted(selection.states))
        conditions.append("state IN (SELECT value FROM json_each(:states))")
    if selection.updated_since_ms is not None:
        values["updated_since_ms"] = selection.updated_since_ms
        conditions.append("time_ms >= :updated_since_ms")
    if selection.finished_since_ms is not None:
        values["finished_since_ms"] = selection.finished_since_ms
        conditions.append("(is_open OR time_ms >= :finished_since_ms)")
    return " AND ".join(conditions), values


def _text(items: tuple[str, ...]) -> str:
    return to_json(items).decode() if items else "[]"


def _items(text: str) -> tuple[str, ...]:
    return tuple(from_json(text)) if text != "[]" else ()


def _document(row: str) -> StoredDocument:
    kind, document_id, version, deleted, is_open, state, tags, grants, audience, seq, time_ms, body = row.split(COLUMN)
    return StoredDocument(
        kind, document_id, int(version), deleted == "1", is_open == "1", state, _items(tags), _items(grants),
        _items(audience), int(seq), int(time_ms), body,
    )  # fmt: skip
