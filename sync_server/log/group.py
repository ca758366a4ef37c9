"""A group: the submissions that one transaction commits, and the pure decision about each of them.

Members decide in order of arrival. Each sees what the ones before it did, so two submissions with one key
in the same group behave as if they had come one after the other, and two commands on one document follow each
other. Nothing here does I/O or looks at a clock.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, NamedTuple, Protocol, TypeVar
from uuid import UUID, uuid4

from sync_core.domain.changes import Unloaded
from sync_core.domain.document import Document, Ref
from sync_core.problems import Problem
from sync_server.log.records import NewEvent, Outcome, OutcomeKey, StoredDocument, StoredEvent

__all__ = ["Committed", "Decision", "Group", "Plan", "View", "Write", "decide"]

T_co = TypeVar("T_co", covariant=True)


@dataclass(slots=True)
class View:
    """What a member may look at: the state that its group's transaction holds, moved on by each member."""

    epoch: str
    next_seq: int
    time_ms: int
    outcomes: dict[OutcomeKey, Outcome]
    documents: dict[Ref, StoredDocument | None] = field(default_factory=dict)
    """What was loaded; None where there is none."""
    parsed: dict[Ref, Document] = field(default_factory=dict)
    """Documents that a member has read out of their JSON or made, for the ones after it."""

    def document(self, ref: Ref) -> StoredDocument | None:
        """What the log holds under *ref*. Raises Unloaded."""
        try:
            return self.documents[ref]
        except KeyError:
            raise Unloaded(frozenset({ref})) from None

    def load(self, refs: Iterable[Ref], found: Iterable[StoredDocument]) -> None:
        """Take in what was *found* under *refs*."""
        self.documents |= dict.fromkeys(refs)
        self.documents |= {document.ref: document for document in found}


class Decision(NamedTuple, Generic[T_co]):
    """What a member wants written, and its *answer* once that is durable."""

    events: Sequence[NewEvent]
    outcomes: dict[OutcomeKey, Outcome]
    answer: T_co
    documents: Sequence[StoredDocument] = ()
    parsed: Sequence[Document] = ()
    """The same documents as values; not those that are deleted."""


class Write(Protocol[T_co]):
    """One all-or-nothing submission, answered with a T."""

    @property
    def reserve(self) -> int:
        """Most events that it can emit."""

    @property
    def size_bytes(self) -> int:
        """About what it takes in the transaction."""

    @property
    def keys(self) -> Sequence[OutcomeKey]:
        """The outcomes that ``decide`` has to see."""

    @property
    def refs(self) -> Sequence[Ref]:
        """The documents that ``decide`` will surely ask for; it may ask for more."""

    def decide(self, view: View) -> Decision[T_co]:
        """Pure. Raises Problem to refuse; then nothing of it is written. Raises Unloaded to be asked again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the store writes for a group: events with their seqs, documents, outcomes, and each member's answer."""

    events: list[StoredEvent] = field(default_factory=list)
    documents: dict[Ref, StoredDocument] = field(default_factory=dict)
    outcomes: dict[OutcomeKey, Outcome] = field(default_factory=dict)
    results: list[Any | Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Committed:
    """A committed group: its events, dense and in order, and one answer per member, in their order."""

    epoch: str
    events: list[StoredEvent]
    results: list[Any | Problem]


@dataclass
class Group:
    """Submissions to be committed together, and what is known of the tries so far.

    *doubtful* is what a try would have committed whose result was not learnt. A later try that holds the
    tenant's head can tell, by *id* on the first event of it, whether that had happened.
    """

    members: Sequence[Write[Any]]
    doubtful: Committed | None = None

    @cached_property
    def id(self) -> UUID:
        """The same for all tries. Made when a store asks for it: an embedded one has no doubts."""
        return uuid4()

    @property
    def reserve(self) -> int:
        """Most events that the group can emit."""
        return sum(member.reserve for member in self.members)

    @property
    def keys(self) -> list[OutcomeKey]:
        """The outcomes that its members have to see."""
        return [key for member in self.members for key in member.keys]

    @property
    def refs(self) -> list[Ref]:
        """The documents that its members name, each once."""
        return list(dict.fromkeys([ref for member in self.members for ref in member.refs]))


def decide(group: Group, view: View, plan: Plan) -> list[Ref]:
    """Let the members of *group* decide, in order; *view* starts at the first free seq.

    Returns the documents that are still to be loaded into *view* before it goes on with the same *plan*; none
    once all have decided.
    """
    undecided = group.members[len(plan.results) :]
    for position, member in enumerate(undecided):
        try:
            decision = member.decide(view)
        except Unloaded as more:
            if not more.refs - view.documents.keys():
                raise RuntimeError(f"a member asks again for what was loaded: {more}") from None
            return _wanted(more, undecided[position + 1 :] if not plan.results else (), view)
        except Problem as refusal:
            plan.results.append(refusal)
            continue
        seq, time_ms = view.next_seq, view.time_ms
        for event in decision.events:
            plan.events.append(StoredEvent(seq, time_ms, *event))
            seq += 1
        view.next_seq = seq
        if decision.documents:
            changed = {document.ref: document for document in decision.documents}
            view.documents.update(changed)
            plan.documents.update(changed)
            for ref in changed:
                view.parsed.pop(ref, None)
            view.parsed.update({document.ref: document for document in decision.parsed})
        view.outcomes.update(decision.outcomes)
        plan.outcomes.update(decision.outcomes)
        plan.results.append(decision.answer)
    return []


def _wanted(more: Unloaded, others: Sequence[Write[Any]], view: View) -> list[Ref]:
    """What *more* asks for, and what *others* would: one read for all of a group, in place of one for each."""
    refs = set(more.refs)
    for member in others:
        try:
            member.decide(view)
        except Unloaded as also:
            refs |= also.refs
        except Problem:
            pass
    return sorted(refs)
