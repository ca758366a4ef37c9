"""What JSON from the server says about documents: an event, a page of the snapshot, a command's answer. Pure.

All of it comes down to ``StoredDocument``: which document, in which version, as of where in the log. What cannot be
understood gives nothing: an event that carries no whole document is no news to a replica.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeGuard

from pydantic_core import to_json

from sync_client.errors import NotAStream
from sync_client.records import DocumentState, StoredDocument
from sync_client.wire import is_text
from sync_core.cursor import Cursor, MalformedCursor
from sync_core.domain.document import Document
from sync_core.domain.fields import MAX_WHOLE
from sync_core.times import ms_from_datetime

__all__ = ["Kinds", "cursor_of", "of_answer", "of_event", "of_page", "time_ms"]

Kinds = Mapping[str, type[Document]]
"""All kinds by name."""


def of_event(envelope: Mapping[str, Any], kinds: Kinds) -> StoredDocument | None:
    """The document that an event carries whole, deletes, or takes out of this reader's view."""
    data = envelope.get("data")
    if not isinstance(data, dict):
        return None
    if envelope.get("eventType") == "removed":
        return _removed(data, envelope, kinds)
    version = envelope.get("version")
    if not _is_version(version):
        return None
    for name, kind in kinds.items():
        content = data.get(name)
        if isinstance(content, dict) and _is_id(document_id := content.get(kind.id_key)):
            state = DocumentState.DELETED if data.get("deleted") is True else DocumentState.LIVE
            return _stored(name, document_id, version, state, content, envelope)
    return None


def _removed(data: Mapping[str, Any], envelope: Mapping[str, Any], kinds: Kinds) -> StoredDocument | None:
    kind, document_id, version = data.get("kind"), data.get("id"), data.get("version")
    if not isinstance(kind, str) or kind not in kinds or not _is_id(document_id) or not _is_version(version):
        return None
    return _stored(kind, document_id, version, DocumentState.REMOVED, None, envelope)


def _stored(
    kind: str, document_id: str, version: int, state: DocumentState, content: Any, envelope: Mapping[str, Any]
) -> StoredDocument | None:
    try:
        cursor = Cursor.parse(str(envelope.get("id")))
    except MalformedCursor:
        return None
    body = _text(content) if state is DocumentState.LIVE else ""
    if body is None:
        return None
    at_ms = time_ms(envelope.get("timestamp"))
    return StoredDocument(kind, document_id, version, state, cursor.epoch, cursor.seq, at_ms, body)


def of_page(page: Mapping[str, Any], kinds: Kinds, *, cursor: Cursor) -> list[StoredDocument]:
    """The documents of one page of the snapshot at *cursor*. Raises NotAStream for what is no page."""
    found = []
    for kind in kinds.values():
        contents = page.get(kind.plural, [])
        if not isinstance(contents, list):
            raise NotAStream(f"the snapshot's {kind.plural} are no list", status=200)
        for content in contents:
            stored = _whole(kind, content, cursor)
            if stored is None:
                raise NotAStream(f"the snapshot has a {kind.kind} without id or version", status=200)
            found.append(stored)
    return found


def of_answer(answer: Mapping[str, Any], kinds: Kinds, *, cursor: Cursor) -> Iterator[StoredDocument]:
    """The documents of a command's answer, or of a refusal's ``current``, by kind: one, or several as a list."""
    for kind in kinds.values():
        for content in (answer.get(kind.kind), *_list(answer.get(kind.plural))):
            stored = _whole(kind, content, cursor)
            if stored is not None:
                yield stored


def _whole(kind: type[Document], content: Any, cursor: Cursor) -> StoredDocument | None:
    if not isinstance(content, dict):
        return None
    document_id, version = content.get(kind.id_key), content.get("version")
    is_deleted = content.get("deleted") is True
    body = "" if is_deleted else _text(content)
    if not _is_id(document_id) or not _is_version(version) or body is None:
        return None
    state = DocumentState.DELETED if is_deleted else DocumentState.LIVE
    at_ms = time_ms(content.get("updatedAt"))
    return StoredDocument(kind.kind, document_id, version, state, cursor.epoch, cursor.seq, at_ms, body)


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else ()


def _is_id(value: Any) -> TypeGuard[str]:
    return bool(value) and is_text(value)


def _is_version(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 < value <= MAX_WHOLE


def _text(content: Any) -> str | None:
    """Its JSON; None for what cannot be written: JSON can hold halves of characters, UTF-8 can not."""
    try:
        return to_json(content).decode()
    except ValueError:
        return None


def time_ms(text: Any) -> int:
    """A time of the server's in Unix milliseconds; 0 for what is none."""
    try:
        return ms_from_datetime(datetime.fromisoformat(text))
    except (TypeError, ValueError, OverflowError):
        return 0


def cursor_of(answer: Mapping[str, Any]) -> Cursor | None:
    """Where the log stood behind *answer*."""
    try:
        return Cursor.parse(str(answer.get("cursor")))
    except MalformedCursor:
        return None
