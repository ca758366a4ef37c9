"""The cache of a client that keeps nothing: the same promises, until the process ends."""

import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

from sync_client.records import Batch, Mark, Record, Saved, Transaction

__all__ = ["MemoryCache"]

KEPT_EVENTS = 100


class MemoryCache:
    """See records.Cache."""

    def __init__(self) -> None:
        self._n = 0
        self._waiting: dict[int, Record] = {}
        self._ids: set[str] = set()
        self._done: deque[Record] = deque(maxlen=KEPT_EVENTS)
        self._parked: deque[Record] = deque(maxlen=1000)
        self._saved = Saved()
        self._values: dict[str, str] = {}
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
        before = len(self._waiting)
        for arrival in batch.arrivals:
            if arrival.id is not None:
                if arrival.id in self._ids:
                    continue
                self._ids.add(arrival.id)
            self._n += 1
            self._bytes += len(arrival.envelope)
            self._waiting[self._n] = Record(
                self._n, arrival.id, arrival.event_type, arrival.envelope, batch.received_at_ms, batch.source,
                Mark.WAITING, False,
            )  # fmt: skip
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
        return len(self._waiting) - before

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
            record = replace(record, mark=mark)
            if mark is Mark.PARKED:
                self._parked.append(record)
            else:
                self._keep(record)

    def _keep(self, record: Record) -> None:
        if len(self._done) == KEPT_EVENTS:
            forgotten = self._done.popleft().id
            if forgotten is not None:
                self._ids.discard(forgotten)
        self._done.append(record)

    def transact(self, record: Record, work: Callable[[Transaction], None]) -> None:
        before = dict(self._values)
        try:
            work(_Values(self._values))
        except BaseException:
            self._values = before
            raise
        self.mark([record.n], Mark.PROCESSED)

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
        return [r for r in everything if mark is None or r.mark is mark][-limit:]

    def trim(self, *, now_ms: int, max_age_s: float, max_events: int) -> int:
        oldest_ms = now_ms - int(max_age_s * 1000)
        before = len(self._done)
        while self._done and (len(self._done) > max_events or self._done[0].received_at_ms < oldest_ms):
            forgotten = self._done.popleft().id
            if forgotten is not None:
                self._ids.discard(forgotten)
        return before - len(self._done)

    def size_bytes(self) -> int:
        return self._bytes

    def clear(self) -> None:
        meta = self._saved.meta
        self._waiting.clear()
        self._ids.clear()
        self._done.clear()
        self._parked.clear()
        self._bytes = 0
        self._saved = Saved(meta=meta)

    def close(self) -> None:
        pass


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
