"""A group: the submissions that one transaction commits, and the pure decision about each of them.

Members decide in order of arrival. Each sees what the ones before it did, so two submissions with one key
in the same group behave as if they had come one after the other. Nothing here does I/O or looks at a clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from uuid import UUID

from sync_core.problems import Problem

__all__ = [
    "OUTCOME_TTL_MS",
    "Committed",
    "Decision",
    "Group",
    "NewEvent",
    "Outcome",
    "OutcomeKey",
    "Plan",
    "Receipt",
    "StoredEvent",
    "View",
    "Write",
    "decide",
]

OUTCOME_TTL_MS = 7 * 24 * 3600 * 1000
"""How long an outcome is remembered, so that a re-send with the same key is answered and not repeated."""


class NewEvent(NamedTuple):
    """An accepted event that has no seq yet. *tail* is its envelope from "data" on (sync_core.envelope)."""

    event_type: str
    tags: tuple[str, ...]
    client_id: str | None
    principal: str
    tail: str


class StoredEvent(NamedTuple):
    """An event as the log holds it; *time_ms* is the server's, never less than that of its predecessor."""

    seq: int
    time_ms: int
    event_type: str
    tags: tuple[str, ...]
    client_id: str | None
    principal: str
    tail: str


class OutcomeKey(NamedTuple):
    """An idempotency key; unique within tenant and principal."""

    principal: str
    key: str


class Outcome(NamedTuple):
    """What became of a key: *fingerprint* of the request, *result* as JSON text, when it is forgotten."""

    fingerprint: str
    result: str
    expires_ms: int


class Receipt(NamedTuple):
    """Answer for one published event; *event_id* is None for an ephemeral one."""

    event_id: str | None
    event_type: str
    duplicate: bool


@dataclass(slots=True)
class View:
    """What a member may look at: the state that its group's transaction holds, moved on by each member."""

    epoch: str
    next_seq: int
    time_ms: int
    outcomes: dict[OutcomeKey, Outcome]


class Decision(NamedTuple):
    """What a member wants written, and its answer once that is durable."""

    events: Sequence[NewEvent]
    outcomes: dict[OutcomeKey, Outcome]
    receipts: tuple[Receipt, ...]


class Write(Protocol):
    """One all-or-nothing submission."""

    @property
    def reserve(self) -> int:
        """Most events that it can emit."""

    @property
    def size_bytes(self) -> int:
        """About what it takes in the transaction."""

    @property
    def keys(self) -> Sequence[OutcomeKey]:
        """The outcomes that ``decide`` has to see."""

    def decide(self, view: View) -> Decision:
        """Pure. Raises Problem to refuse; then nothing of it is written."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the store writes for a group: events with their seqs, outcomes, and each member's answer."""

    events: list[StoredEvent] = field(default_factory=list)
    outcomes: dict[OutcomeKey, Outcome] = field(default_factory=dict)
    results: list[tuple[Receipt, ...] | Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Committed:
    """A committed group: its events, dense and in order, and one answer per member, in their order."""

    epoch: str
    events: list[StoredEvent]
    results: list[tuple[Receipt, ...] | Problem]


@dataclass(slots=True)
class Group:
    """Submissions to be committed together, and what is known of the tries so far.

    *doubtful* is what a try would have committed whose result was not learnt. A later try that holds the
    tenant's head can tell, by *id* on the first event of it, whether that had happened.
    """

    id: UUID
    members: Sequence[Write]
    doubtful: Committed | None = None

    @property
    def reserve(self) -> int:
        """Most events that the group can emit."""
        return sum(member.reserve for member in self.members)

    @property
    def keys(self) -> list[OutcomeKey]:
        """The outcomes that its members have to see."""
        return [key for member in self.members for key in member.keys]


def decide(group: Group, view: View) -> Plan:
    """Let every member of *group* decide, in order; *view* starts at the first free seq."""
    plan = Plan()
    for member in group.members:
        try:
            decision = member.decide(view)
        except Problem as refusal:
            plan.results.append(refusal)
            continue
        seq, time_ms = view.next_seq, view.time_ms
        for event in decision.events:
            plan.events.append(StoredEvent(seq, time_ms, *event))
            seq += 1
        view.next_seq = seq
        view.outcomes.update(decision.outcomes)
        plan.outcomes.update(decision.outcomes)
        plan.results.append(decision.receipts)
    return plan
