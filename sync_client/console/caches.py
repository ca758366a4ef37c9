"""``sync-client cache``: what a client keeps on this machine. Showing and exporting change nothing."""

import json
from pathlib import Path
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from sync_client.cache import SQLiteCache, cache_files
from sync_client.console.cache_view import CacheUnreadable, CacheView, look
from sync_client.console.screen import err, out, table
from sync_client.errors import CacheError, ClientError
from sync_client.filelock import FileLock
from sync_client.persistence import Imported, export_document, import_document
from sync_client.records import Batch, Mark

__all__ = ["clear", "export", "import_file", "show", "view_rows"]

SHOWN_EVENTS = 100
EVERYTHING = 1_000_000


def view_rows(view: CacheView) -> dict[str, str]:
    """A cache in words."""
    metrics = json.loads(view.meta.get("connectionMetrics", "{}"))
    return {
        "cursor": view.cursor or "-",
        "waiting for handlers": str(view.counts[Mark.WAITING]),
        "processed": str(view.counts[Mark.PROCESSED]),
        "parked": str(view.counts[Mark.PARKED]),
        "resync due": view.meta.get("resync") or "no",
        "documents": _documents(view),
        "last connection": view.meta.get("lastConnectionTime", "-"),
        "connections": str(metrics.get("totalConnections", 0)),
        "events": str(metrics.get("totalEvents", 0)),
        "size": f"{view.size_bytes} bytes",
    }


def _documents(view: CacheView) -> str:
    """Those of a replica, and whether they are all there."""
    due = view.meta.get("snapshot_due")
    if due is None and not view.documents:
        return "-"
    counts = ", ".join(f"{count} {kind}" for kind, count in view.documents.items()) or "none"
    return counts if due == "" else f"{counts} (a snapshot is due: {due or 'first'})"


def show(path: Path) -> None:
    """What is in it. Raises CacheUnreadable."""
    view = look(path, limit=SHOWN_EVENTS)
    out.print(table("cache", {"file": view.path, **view_rows(view)}))
    if not view.records:
        return
    events = Table("id", "event", "mark", "acknowledged", "source")
    for record in view.records:
        cells = (record.id or "-", record.event_type, record.mark.name.lower(), "yes" if record.acknowledged else "",
                 record.source)  # fmt: skip
        events.add_row(*(Text(cell) for cell in cells))
    out.print(events)
    if (total := sum(view.counts.values())) > len(view.records):
        out.print(f"The newest {len(view.records)} of {total} events.")


def export(path: Path, file: str) -> None:
    """Write it to *file*, - for standard output. Raises CacheUnreadable, ClientError."""
    view = look(path, limit=EVERYTHING)
    document = export_document(view.records, view.meta, cursor=view.cursor)
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if file == "-":
        print(text, flush=True)  # noqa: T201 - for programs: no wrapping, no markup
        return
    try:
        Path(file).write_text(text + "\n", encoding="utf-8")
    except OSError as exc:
        raise ClientError(f"the export cannot be written: {exc}") from exc


def import_file(path: Path, file: Path) -> None:
    """Read an export into the cache at *path*, which must be without a cursor. Raises ClientError."""
    imported = _read(file)
    cache = SQLiteCache(path)
    try:
        if (cursor := cache.load().cursor) is not None:
            raise CacheError(
                f"{path} goes on at {cursor} already; an import could leave events out. "
                "Clear it first, or import under another --name."
            )
        for record in imported.records:
            cache.insert(record)
        for key, value in imported.meta.items():
            cache.set_meta(key, value)
        if imported.cursor is not None:
            cache.commit(Batch(cursor=imported.cursor))
    finally:
        cache.close()
    if cache.set_aside is not None:
        err.print(f"What was there could not be used; it is kept as {cache.set_aside}.", markup=False)
    err.print(f"{len(imported.records)} events read; goes on at {imported.cursor or 'now'}.", markup=False)


def _read(file: Path) -> Imported:
    try:
        document: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise ClientError(f"{file}: {exc}") from exc
    try:
        return import_document(document)
    except ClientError as exc:
        raise ClientError(f"{file}: {exc}") from exc


def clear(path: Path, *, ask: bool) -> None:
    """Remove it, whatever it is. Raises CacheLocked, ClientError."""
    # Held to the end, so that no client starts on what is about to go; its file stays, as locks do.
    lock = FileLock(path.with_suffix(".lock"))
    try:
        if ask and (question := _question(path)):
            typer.confirm(question, abort=True)
        for file in cache_files(path)[:3]:
            file.unlink(missing_ok=True)
    except OSError as exc:
        raise ClientError(f"{path} cannot be removed: {exc}") from exc
    finally:
        lock.close()
    err.print("removed.")


def _question(path: Path) -> str:
    """What to ask before it is removed; "" for nothing."""
    try:
        waiting = look(path, limit=0).counts[Mark.WAITING]
    except CacheUnreadable as exc:
        return f"{exc} Remove it?"
    return f"{waiting} events wait for their handlers and would be lost. Remove them?" if waiting else ""
