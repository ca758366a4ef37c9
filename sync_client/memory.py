"""The cache of a client that keeps nothing: the same promises, until the process ends."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from sync_client.records import (
    DEFAULT_RETENTION_EVENTS,
    MAX_PARKED,
    Batch,
    Mark,
    Record,
    Saved,
    StagingLost,
    StoredDocument,
    Transaction,
)
from sync_core.cursor import Cursor

__all__ = ["MemoryCache"]


class MemoryCache:
    """See records.Cache. Of the processed events it keeps *retention_events*, without waiting for ``trim``."""

    def __init__(self, *, retention_events: int = DEFAULT_RETENTION_EVENTS) -> None:
        self._retention_events = retention_events
        self._n = 0
        self._waiting: dict[int, Record] = {}
        self._ids: set[str] = set()
        self._done: deque[Record] = deque()
        self._parked: deque[Record] = deque(maxlen=MAX_PARKED)
        self._saved = Saved()
        self._values: dict[str, str] = {}
        self._documents: dict[tuple[str, str], StoredDocument] = {}
        self._staged: dict[tuple[str, str], StoredDocument] = {}
        self._bytes = 0

    @property
    def where(self) -> str:
        return "memory"

    @property
    def backlog(self) -> int:
        return len(self._waiting)

    @property
    def backlog_bytes(self) -> int:
        return self._bytes

    @property
    def parked(self) -> int:
        return len(self._parked)

    def load(self) -> Saved:
        return replace(self._saved, meta=dict(self._saved.meta))

    def commit(self, batch: Batch) -> int:
        new = 0
        for arrival in batch.arrivals:
            if arrival.id is not None:
                if arrival.id in self._ids:
                    continue
                self._ids.add(arrival.id)
            self._n += 1
            new += 1
            record = Record(
                self._n, arrival.id, arrival.event_type, arrival.envelope, batch.received_at_ms, batch.source,
                arrival.mark, False,
            )  # fmt: skip
            if arrival.mark is Mark.WAITING:
                self._waiting[self._n] = record
                self._bytes += len(arrival.envelope)
            elif arrival.mark is Mark.PARKED:
                self._park(record)
        saved = self._saved
        if batch.cursor is not None:
            saved.cursor = batch.cursor
        if batch.filter is not None:
            saved.filter = batch.filter
        if batch.access is not None:
            saved.access = batch.access
        if batch.resync is not None:
            saved.resync = batch.resync
        if batch.known is not None:
            saved.known = batch.known
        if batch.snapshot_due is not None:
            saved.snapshot_due = batch.snapshot_due
        if batch.complete_to is not None:
            saved.complete_to = batch.complete_to
        self._documents.update(((document.kind, document.id), document) for document in batch.documents)
        for ref in batch.forgotten:
            self._documents.pop(ref, None)
        return new

    def set_meta(self, key: str, value: str) -> None:
        self._saved.meta[key] = value

    def waiting(self, *, after: int, limit: int) -> list[Record]:
        # Insertion order is the order of n; what lies at or before `after` is being delivered right now.
        return list(islice((r for r in self._waiting.values() if r.n > after), limit))

    def mark(self, numbers: Iterable[int], mark: Mark) -> None:
        for n in numbers:
            record = self._waiting.pop(n, None)
            if record is None:
                continue
            self._bytes -= len(record.envelope)
            if record.id is None:
                continue  # it was only passing through
            record = replace(record, mark=mark)
            if mark is Mark.PARKED:
                self._park(record)
            else:
                self._done.append(record)
                self._forget_above(self._retention_events)

    def _park(self, record: Record) -> None:
        if len(self._parked) == MAX_PARKED:
            self._forget(self._parked.popleft())
        self._parked.append(record)

    def _forget_above(self, max_events: int) -> int:
        count = max(len(self._done) - max_events, 0)
        for _ in range(count):
            self._forget(self._done.popleft())
        return count

    def _forget(self, record: Record) -> None:
        if record.id is not None:
            self._ids.discard(record.id)

    def transact(self, record: Record, work: Callable[[Transaction], None], mark: Mark = Mark.PROCESSED) -> None:
        before = dict(self._values)
        try:
            work(_Values(self._values))
        except BaseException:
            self._values = before
            raise
        self.mark([record.n], mark)

    def acknowledge(self, event_id: str) -> bool:
        for n, record in self._waiting.items():
            if record.id == event_id:
                self._waiting[n] = replace(record, acknowledged=True)
                return True
        for index, record in enumerate(self._done):
            if record.id == event_id:
                self._done[index] = replace(record, acknowledged=True)
                return True
        return False

    def get_value(self, key: str, default: Any = None) -> Any:
        return _Values(self._values).get(key, default)

    def events(self, *, limit: int, mark: Mark | None = None) -> list[Record]:
        everything = sorted([*self._done, *self._parked, *self._waiting.values()], key=lambda r: r.n)
        return [r for r in everything if r.id is not None and (mark is None or r.mark is mark)][-limit:]

    def trim(self, *, now_ms: int, max_age_s: float, max_events: int) -> int:
        oldest_ms = now_ms - int(max_age_s * 1000)
        removed = self._forget_above(max_events)
        while self._done and self._done[0].received_at_ms < oldest_ms:
            self._forget(self._done.popleft())
            removed += 1
        return removed

    def documents(self) -> list[StoredDocument]:
        return [self._documents[ref] for ref in sorted(self._documents)]

    def stage(self, documents: Sequence[StoredDocument], *, first: bool) -> None:
        if first:
            self._staged.clear()
        self._staged.update(((document.kind, document.id), document) for document in documents)

    def install(self, cursor: Cursor, *, count: int) -> list[StoredDocument]:
        if len(self._staged) != count:
            raise StagingLost
        for ref in list(self._documents):
            known = self._documents[ref]
            if ref not in self._staged and not _is_behind(cursor, known):
                del self._documents[ref]
        for ref, staged in self._staged.items():
            known = self._documents.get(ref, staged)
            is_newer = (known.version, _is_behind(cursor, known)) > (staged.version, False)
            if known.epoch != cursor.epoch or not is_newer:
                self._documents[ref] = staged
        self._staged = {}
        self._saved.complete_to, self._saved.snapshot_due = str(cursor), ""
        return self.documents()

    def size_bytes(self) -> int:
        return self._bytes

    def clear(self) -> None:
        meta = self._saved.meta
        self._waiting.clear()
        self._ids.clear()
        self._done.clear()
        self._parked.clear()
        self._documents.clear()
        self._staged.clear()
        self._bytes = 0
        self._saved = Saved(meta=meta)

    def close(self) -> None:
        pass


def _is_behind(cursor: Cursor, document: StoredDocument) -> bool:
    """Whether it became known behind *cursor*."""
    return document.epoch == cursor.epoch and document.seq > cursor.seq


class _Values:
    def __init__(self, values: dict[str, str]) -> None:
        self._values = values

    def get(self, key: str, default: Any = None) -> Any:
        text = self._values.get(key)
        return default if text is None else json.loads(text)

    def put(self, key: str, value: Any) -> None:
        self._values[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        self._values.pop(key, None)
