"""What the cache keeps, and the two things one can ask of any cache, whatever it is made of. Only data."""

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from sync_core.cursor import Cursor

__all__ = [
    "Arrival",
    "Batch",
    "Cache",
    "DocumentState",
    "Mark",
    "Record",
    "Saved",
    "StagingLost",
    "StoredDocument",
    "Transaction",
]

DEFAULT_RETENTION_EVENTS = 100
MAX_PARKED = 1000
"""Events that handlers failed on; the oldest go first."""


class Mark(enum.IntEnum):
    """How far delivery has come with an event."""

    WAITING = 0
    PROCESSED = 1
    PARKED = 2
    """A handler failed for good; it is kept aside for a person."""


class DocumentState(enum.IntEnum):
    """What is known of a document beside its version."""

    LIVE = 0
    DELETED = 1
    REMOVED = 2
    """Out of this client's view; it may live on."""


class StoredDocument(NamedTuple):
    """A document of the replica, as of *seq* in the log *epoch*; *time_ms* (Unix time) is when it was changed.

    *body* is its JSON text; "" unless it is live: then what counts is that no older version comes back.
    """

    kind: str
    id: str
    version: int
    state: DocumentState
    epoch: str
    seq: int
    time_ms: int
    body: str


class StagingLost(Exception):
    """What was staged of a snapshot is not all there; internal, handled by fetching it again."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event as it came. *id* is None for an ephemeral one. *envelope* is its JSON text."""

    id: str | None
    event_type: str
    envelope: str
    mark: Mark = Mark.WAITING
    """PARKED for what no handler could use."""
    document: StoredDocument | None = None
    """What it says about a document, for clients with a replica."""
    is_asked_for: bool = True
    """False for what only the replica has a use for."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one network chunk brought; stored in one commit, or not at all. None leaves a value as it was."""

    arrivals: Sequence[Arrival] = ()
    source: str = "sse"
    received_at_ms: int = 0
    cursor: str | None = None
    filter: str | None = None
    access: str | None = None
    resync: str | None = None
    """The reason why a resync is needed from here on; "" clears it."""
    known: str | None = None
    snapshot_due: str | None = None
    """The reason why the replica needs a snapshot from here on; "" clears it."""
    complete_to: str | None = None
    """The cursor up to which the documents hold everything (but for a snapshot that is due)."""
    documents: Sequence[StoredDocument] = ()
    """Replace what was known of them: whoever commits has made sure that they are newer."""
    forgotten: Sequence[tuple[str, str]] = ()
    """Kind and id of documents that need not be known any more."""


@dataclass(frozen=True, slots=True)
class Record:
    """An event of the cache. *n* is its place in the order of arrival."""

    n: int
    id: str | None
    event_type: str
    envelope: str
    received_at_ms: int
    source: str
    mark: Mark
    acknowledged: bool


@dataclass(slots=True)
class Saved:
    """What a client finds of its earlier life."""

    cursor: str | None = None
    filter: str | None = None
    access: str | None = None
    resync: str = ""
    known: str = ""
    snapshot_due: str | None = None
    """None where there has never been a replica."""
    complete_to: str = ""
    meta: dict[str, str] = field(default_factory=dict)


class Transaction(Protocol):
    """What a transactional handler may change, together with the event's mark: values by key, as JSON."""

    def get(self, key: str, default: Any = None) -> Any: ...

    def put(self, key: str, value: Any) -> None: ...

    def delete(self, key: str) -> None: ...


class Cache(Protocol):
    """Calls are made one at a time, all from the same thread; each is durable when it returns."""

    @property
    def where(self) -> str:
        """For people: the file's path, or "memory"."""

    @property
    def backlog_bytes(self) -> int:
        """Size of the events that wait for delivery."""

    @property
    def backlog(self) -> int:
        """Number of the events that wait for delivery."""

    def load(self) -> Saved: ...

    def commit(self, batch: Batch) -> int:
        """Store it; the number of events that were new. Raises CacheUnwritable."""

    def waiting(self, *, after: int, limit: int) -> list[Record]:
        """Undelivered events behind *after*, oldest first."""

    def mark(self, numbers: Iterable[int], mark: Mark) -> None:
        """How far delivery has come with them. What has no id is forgotten when it is done with."""

    def transact(self, record: Record, work: Callable[[Transaction], None], mark: Mark = Mark.PROCESSED) -> None:
        """Run *work* and mark the event, both or neither."""

    def acknowledge(self, event_id: str) -> bool:
        """Set the flag; False if the event is not here (any more)."""

    def events(self, *, limit: int, mark: Mark | None = None) -> list[Record]:
        """The newest ones, oldest of them first. Not what has no id: that only passes through."""

    def trim(self, *, now_ms: int, max_age_s: float, max_events: int) -> int:
        """Remove processed events above either bound; how many."""

    def set_meta(self, key: str, value: str) -> None: ...

    def get_value(self, key: str, default: Any = None) -> Any:
        """What transactional handlers put under *key*."""

    def documents(self) -> list[StoredDocument]:
        """All that is known of documents."""

    def stage(self, documents: Sequence[StoredDocument], *, first: bool) -> None:
        """Put a page of a snapshot aside, behind those before it; *first* begins anew."""

    def install(self, cursor: Cursor, *, count: int) -> list[StoredDocument]:
        """Make the staged snapshot of *cursor* the truth, in one commit; all documents as they are then.

        Of each document the newest version wins. What is not in the snapshot and was known before it is
        forgotten. Raises StagingLost if not *count* documents were staged.
        """

    def size_bytes(self) -> int: ...

    def clear(self) -> None:
        """Forget events, cursor and documents; metrics and configuration stay."""

    def close(self) -> None: ...
