"""The persistence format of the first product, version 1.0.0: written exactly, and read back.

{"events": [{id, eventType, data, orderID, timestamp, metadata: {receivedAt, processed, acknowledged, source}}],
 "configuration": {orderID, eventTypes, autoReconnect, maxReconnectAttempts},
 "lastConnectionTime", "connectionMetrics": {totalConnections, totalEvents, uptime}, "lastEventId", "version"}
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sync_client.errors import ClientError
from sync_client.records import Mark, Record
from sync_core.cursor import Cursor, MalformedCursor
from sync_core.filters import ENTITY_KEYS
from sync_core.times import iso_from_ms, ms_from_datetime

__all__ = ["FORMAT_VERSION", "ImportRefused", "Imported", "configuration", "export_document", "import_document"]

FORMAT_VERSION = "1.0.0"


class ImportRefused(ClientError):
    """The document is not of this format; the message says where."""


class Imported:
    """What a document holds, checked."""

    def __init__(self, records: Sequence[Record], meta: Mapping[str, str], cursor: str | None) -> None:
        self.records = records
        self.meta = meta
        self.cursor = cursor
        """None for a foreign lastEventId: one that no log of ours can have given."""


def configuration(filter_document: Mapping[str, Sequence[str]], *, max_reconnect_attempts: int) -> dict[str, Any]:
    """The seed's configuration block. One id is written as text, several as a list."""
    document: dict[str, Any] = {}
    for key in ENTITY_KEYS:
        values = filter_document.get(key)
        if values:
            document[key] = values[0] if len(values) == 1 else list(values)
    document["eventTypes"] = list(filter_document.get("eventTypes", ()))
    document["autoReconnect"] = True
    document["maxReconnectAttempts"] = max_reconnect_attempts
    return document


def export_document(records: Sequence[Record], meta: Mapping[str, str], *, cursor: str | None) -> dict[str, Any]:
    """The whole document out of what a cache holds."""
    return {
        "events": [_event(record) for record in records if record.id is not None],
        "configuration": json.loads(meta.get("configuration", "{}")),
        "lastConnectionTime": meta.get("lastConnectionTime"),
        "connectionMetrics": json.loads(
            meta.get("connectionMetrics", '{"totalConnections": 0, "totalEvents": 0, "uptime": 0}')
        ),
        "lastEventId": cursor,
        "version": FORMAT_VERSION,
    }


def _event(record: Record) -> dict[str, Any]:
    envelope = json.loads(record.envelope)
    document = {
        key: envelope.pop(key) for key in ("id", "eventType", "data", "orderID", "timestamp") if key in envelope
    }
    document.update(envelope)
    document["metadata"] = {
        "receivedAt": iso_from_ms(record.received_at_ms),
        "processed": record.mark is Mark.PROCESSED,
        "acknowledged": record.acknowledged,
        "source": record.source,
    }
    return document


def import_document(document: Any) -> Imported:
    """Take a document apart. Raises ImportRefused."""
    if not isinstance(document, dict) or document.get("version") != FORMAT_VERSION:
        raise ImportRefused(f'not a document of version "{FORMAT_VERSION}"')
    events = document.get("events")
    if not isinstance(events, list):
        raise ImportRefused("events: a list is expected")
    meta = {}
    for key in ("configuration", "connectionMetrics"):
        value = document.get(key, {})
        if not isinstance(value, dict):
            raise ImportRefused(f"{key}: an object is expected")
        meta[key] = json.dumps(value)
    if isinstance(document.get("lastConnectionTime"), str):
        meta["lastConnectionTime"] = document["lastConnectionTime"]
    records = [_record(number, event) for number, event in enumerate(events)]
    return Imported(records, meta, _own_cursor(document.get("lastEventId")))


def _record(number: int, event: Any) -> Record:
    where = f"events[{number}]"
    if not isinstance(event, dict):
        raise ImportRefused(f"{where}: an object is expected")
    envelope = dict(event)
    metadata = envelope.pop("metadata", {})
    if not isinstance(metadata, dict) or not isinstance(envelope.get("data", {}), dict):
        raise ImportRefused(f"{where}: metadata and data are objects")
    event_id, event_type = envelope.get("id"), envelope.get("eventType")
    if not isinstance(event_id, str) or not isinstance(event_type, str):
        raise ImportRefused(f"{where}: id and eventType are texts")
    return Record(
        n=number,
        id=event_id,
        event_type=event_type,
        envelope=json.dumps(envelope, ensure_ascii=False, separators=(",", ":")),
        received_at_ms=_time_ms(metadata.get("receivedAt"), f"{where}.metadata.receivedAt"),
        source=str(metadata.get("source", "sse")),
        mark=Mark.PROCESSED if metadata.get("processed") is True else Mark.WAITING,
        acknowledged=metadata.get("acknowledged") is True,
    )


def _time_ms(value: Any, where: str) -> int:
    try:
        moment = datetime.fromisoformat(value)
        return ms_from_datetime(moment)
    except (TypeError, ValueError) as exc:
        raise ImportRefused(f"{where}: a time with its offset is expected") from exc


def _own_cursor(value: Any) -> str | None:
    try:
        return str(Cursor.parse(value)) if isinstance(value, str) else None
    except MalformedCursor:
        return None
