"""What a server wrote, read with care: whatever it is, it neither raises nor stops the feed. Pure."""

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from sync_client.errors import NotAStream
from sync_client.records import Arrival, Mark
from sync_core.cursor import Cursor, MalformedCursor
from sync_core.filters import Filter

__all__ = [
    "age_s",
    "cursor_of",
    "is_event",
    "is_text",
    "json_of",
    "kept_aside",
    "object_of",
    "page_events",
    "passing",
    "read_known",
    "text_of",
    "write_known",
]

MAX_AGE_MS = 1e12
"""Thirty years: more is nonsense, and JSON can write numbers that no float holds."""
KEPT_OF_MALFORMED = 16 * 1024
"""Characters; enough to see what it was, and a thousand of them are no burden for a disk."""


def object_of(text: str) -> dict[str, Any]:
    """What *text* writes, if it is an object; else an empty one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def is_event(envelope: Any) -> bool:
    """Whether handlers can make something of it."""
    return isinstance(envelope, dict) and isinstance(envelope.get("data"), dict)


def is_text(value: Any) -> bool:
    """Whether it can be written to disk: JSON can hold halves of characters, UTF-8 can not."""
    return isinstance(value, str) and text_of(value) == value


def text_of(value: Any) -> str:
    """As a text that can be written to disk."""
    return str(value).encode("utf-8", "replace").decode()


def json_of(envelope: Any) -> str:
    """Its JSON, with escapes only where there have to be."""
    text = json.dumps(envelope, ensure_ascii=False, separators=(",", ":"))
    return text if is_text(text) else json.dumps(envelope, separators=(",", ":"))


def age_s(age_ms: Any) -> float | None:
    """Milliseconds that the server wrote, in seconds; None for what is no age."""
    if not isinstance(age_ms, int | float) or not 0 <= age_ms <= MAX_AGE_MS:
        return None
    return age_ms / 1000


def page_events(page: dict[str, Any]) -> list[Any]:
    """The page's events, unchecked. Raises NotAStream for what no server of ours says."""
    events, cursor = page.get("events"), page.get("cursor")
    if not isinstance(events, list) or not isinstance(cursor, str) or cursor_of(cursor) is None:
        raise NotAStream("the answer is not a page of events", status=200)
    return events


def passing(kind: str, data: str) -> Arrival:
    """A control event as handlers get it: without an id, so it is not kept."""
    return Arrival(None, kind, json.dumps({"eventType": kind, "data": object_of(data)}))


def kept_aside(event_type: str, text: str) -> Arrival:
    """What should be an event and is none, for a person to look at.

    Its id is its content's, so that it is kept once, however often it comes.
    """
    event_id = f"malformed-{sha256(text.encode('utf-8', 'replace')).hexdigest()[:16]}"
    envelope = {"id": event_id, "eventType": event_type, "data": {"malformed": text[:KEPT_OF_MALFORMED]}}
    return Arrival(event_id, event_type, json.dumps(envelope), mark=Mark.PARKED)


def cursor_of(text: str) -> Cursor | None:
    try:
        return Cursor.parse(text)
    except MalformedCursor:
        return None


def read_known(text: str) -> list[tuple[Cursor, Filter]]:
    """What ``write_known`` wrote: up to where what was received through which filter."""
    known = []
    for cursor_text, document in json.loads(text or "[]"):
        cursor = cursor_of(cursor_text)
        if cursor is not None:
            known.append((cursor, Filter.parse(document)))
    return known


def write_known(known: Sequence[tuple[Cursor, Filter]]) -> str:
    return json.dumps([[str(cursor), old.document()] for cursor, old in known])
