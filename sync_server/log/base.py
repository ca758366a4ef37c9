"""The event log: one dense, ordered, durable sequence of events per tenant. What every store has to be.

Theory of operation. All that is written to a tenant goes through ``transact``: one transaction that first
takes the tenant's head (the lock, and the only source of seqs), then reads what the group's members need,
lets them decide in memory (``group.decide``), writes, and commits. So

- commit order = seq order, and there are no holes: an aborted transaction gives its seqs back;
- a member's refusal is an answer, not an abort: its neighbours are not touched by it;
- what ``transact`` returned is durable, and ``read`` shows nothing that can still be taken back.

Retries, grouping and deadlines are the appender's; stores translate their driver's errors to the ones here.
Source: architecture.md (the event log), eventlog-evidence.md.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sync_core.domain.document import Ref
from sync_core.problems import SyncError
from sync_server.log.group import Committed, Group
from sync_server.log.records import StoredDocument, StoredEvent

__all__ = [
    "Bell",
    "Bounds",
    "CommitUnknown",
    "DocumentPage",
    "EventLog",
    "LogError",
    "LogMisconfigured",
    "LogUnavailable",
    "Selection",
    "Signal",
    "TransientFailure",
    "WriteConflict",
]


class LogError(SyncError):
    """Base of what a store raises on purpose."""


class LogUnavailable(LogError):
    """The store does not answer now. Nothing was written. It may come back by itself."""


class LogMisconfigured(LogUnavailable):
    """The store cannot work as it is set up; the message says what to change. Ends a program that starts."""


class TransientFailure(LogError):
    """This transaction was surely not committed; the whole of it may be repeated."""


class WriteConflict(TransientFailure):
    """Another writer held the tenant's head; repeat soon."""


class CommitUnknown(LogError):
    """Whether the transaction was committed could not be found out in time."""


class Bounds(NamedTuple):
    """Epoch, last trimmed seq and last seq of a tenant's log. Events are floor+1 ... head."""

    epoch: str
    floor: int
    head: int


@dataclass(frozen=True, slots=True)
class Bell:
    """Something was committed to *tenant* (None: perhaps to any). It may ring twice, early, or not at all.

    *head* is the seq that was seen there, where it was.
    """

    tenant: str | None
    head: int | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """Ephemeral events of another process; their seq is 0. They are judged by documents as of the seq *as_of*."""

    tenant: str
    events: tuple[StoredEvent, ...]
    as_of: int | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which documents a list or snapshot is to hold: of *kinds*, in that order, each by id.

    Those about any of *tags* (empty: all), in any of *states* (empty: all), changed at or after *updated_since_ms*,
    and open or changed at or after *finished_since_ms*. Deleted ones only with *deleted*.
    """

    kinds: tuple[str, ...]
    tags: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()
    updated_since_ms: int | None = None
    finished_since_ms: int | None = None
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """Documents as they were at *bounds*.head or later. *next* is where the following page begins, None at the end."""

    bounds: Bounds
    documents: list[StoredDocument]
    next: Ref | None


class EventLog(Protocol):
    """One store. All methods may raise LogUnavailable; none blocks the event loop."""

    async def open(self) -> None:
        """Connect, check that the store can do what is needed, migrate. Raises LogMisconfigured."""

    async def aclose(self) -> None:
        """Let go of everything. Idempotent."""

    async def ensure(self, tenant: str) -> Bounds:
        """The tenant's bounds, current at majority; its log is created if there is none."""

    async def bounds(self, tenants: Collection[str]) -> dict[str, Bounds]:
        """Current bounds of those *tenants* that exist. One query whatever their number."""

    async def tenants(self) -> list[str]:
        """All tenants that have a log, sorted."""

    async def read(self, tenant: str, *, after: int, limit: int) -> list[StoredEvent]:
        """Events with seq > *after*, oldest first: at most *limit*, fewer if they are large, none at head.

        The first one is *after* + 1 unless that was trimmed or the caller's *after* is beyond the head.
        """

    async def transact(self, tenant: str, group: Group, *, now_ms: int, deadline_s: float) -> Committed:
        """Commit *group* once, its members in order. Repeating it with the same object is safe.

        *deadline_s* is a time of the event loop's clock. Raises TransientFailure, WriteConflict,
        CommitUnknown, LogUnavailable, or whatever a poisoned member provokes (nothing is written then).
        """

    async def load(self, tenant: str, refs: Collection[Ref]) -> DocumentPage:
        """Those of *refs* that exist, tombstones included, and the bounds, from one state of the log.

        This, ``documents`` and ``sweep`` raise LogMisconfigured for a tenant that has no log.
        """

    async def documents(self, tenant: str, selection: Selection, *, after: Ref | None, limit: int) -> DocumentPage:
        """At most *limit* documents of *selection* behind *after*, fewer if they are large or many were passed over.

        A page is one read transaction: its documents are those of exactly *bounds*.head. It may be empty and have a
        *next*. Raises ValueError where *after* is of a kind that is not selected.
        """

    async def signal(self, tenant: str, events: Sequence[StoredEvent], *, as_of: int | None = None) -> None:
        """Hand ephemeral events to the other processes of this log, see Signal. They are not logged."""

    def wakeups(self) -> AsyncIterator[Bell | Signal]:
        """What other processes did, until cancelled. Reopens itself; a missed bell is caught by polling."""

    async def trim(self, tenant: str, floor: int) -> Bounds:
        """Move the floor up to *floor* (never down, never beyond head), then delete what lies below."""

    async def new_epoch(self, tenant: str, epoch: str) -> Bounds:
        """Give the log a new epoch: all cursors from before lead nowhere. The last step of a restore."""

    async def sweep(self, tenant: str, *, now_ms: int) -> int:
        """Forget outcomes whose time is over and tombstones at or below the floor, through the head; how many."""

    async def describe(self) -> dict[str, str]:
        """Facts for `doctor` and `log info`, name to text."""
