"""What a command is answered with, and how that is kept for the one who asks again.

What is kept is not parsed again: a document leaves the second time as the very text that it left as the first
time, whatever its model has become since. Source: protocol.md 4.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

from pydantic_core import from_json, to_json

from sync_core.domain.changes import RuleConflict
from sync_core.domain.document import Document, by_kind
from sync_core.problems import Conflict, FieldError, Problem, Unprocessable

__all__ = ["Answer", "Carried", "Refusal"]


class Carried(NamedTuple):
    """A document in an answer: *body* is its JSON text, *grants* and *audience* say who may see it."""

    kind: str
    id: str
    version: int
    deleted: bool
    grants: tuple[str, ...]
    audience: tuple[str, ...]
    body: str

    @classmethod
    def of(cls, document: Document) -> Self:
        return cls(*document.ref, document.version, False, document.grants(), document.audience(), document.render())


Sees = Callable[[Carried], bool]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal by the rules; *current* is how the documents in question stand."""

    status: int
    problem_type: str
    detail: str
    errors: tuple[FieldError, ...] = ()
    current: tuple[Carried, ...] = ()

    @classmethod
    def of(cls, problem: Conflict | Unprocessable) -> Self:
        documents = problem.documents if isinstance(problem, RuleConflict) else ()
        current = tuple(Carried.of(document) for document in documents)
        return cls(problem.status, problem.type, problem.detail, problem.errors, current)

    def problem(self, kinds: Mapping[str, type[Document]]) -> Problem:
        """As it is told."""
        extensions: dict[str, Any] = {"type": self.problem_type}
        if self.status == Conflict.status:
            extensions["current"] = by_kind((kinds[item.kind], from_json(item.body)) for item in self.current)
            return Conflict(self.detail, errors=self.errors, extensions=extensions)
        return Unprocessable(self.detail, errors=self.errors, extensions=extensions)


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a command that was decided: *changed* at the log's *cursor*, or refused.

    *repeated* if it had been decided before.
    """

    cursor: str
    changed: Sequence[Carried] = ()
    refusal: Refusal | None = None
    repeated: bool = False

    def seen_by(self, sees: Sees) -> "Answer":
        """The answer with those documents only that *sees* lets through."""
        refusal = self.refusal
        if refusal is not None and not all(map(sees, refusal.current)):
            refusal = replace(refusal, current=tuple(filter(sees, refusal.current)))
        changed = self.changed if all(map(sees, self.changed)) else tuple(filter(sees, self.changed))
        return Answer(self.cursor, changed, refusal, self.repeated)

    def text(self) -> str:
        """As it is stored with the idempotency key: a line about it, then a line for each document."""
        head: dict[str, Any] = {"cursor": self.cursor}
        carried = self.changed
        if self.refusal is not None:
            refusal = self.refusal
            carried = refusal.current
            errors = [[fault.path, fault.message] for fault in refusal.errors]
            head["refusal"] = [refusal.status, refusal.problem_type, refusal.detail, errors]
        head["documents"] = [item[:-1] for item in carried]
        return "\n".join([to_json(head).decode(), *(item.body for item in carried)])

    @classmethod
    def parse(cls, text: str) -> "Answer | None":
        """The answer that was stored as *text*; None if that is the outcome of something else."""
        if not text.startswith("{"):
            return None
        first, *bodies = text.split("\n")
        head = from_json(first)
        carried = tuple(_carried(head["documents"], bodies))
        if "refusal" not in head:
            return cls(head["cursor"], carried, repeated=True)
        status, problem_type, detail, errors = head["refusal"]
        refusal = Refusal(status, problem_type, detail, tuple(FieldError(*fault) for fault in errors), carried)
        return cls(head["cursor"], (), refusal, repeated=True)


def _carried(heads: Iterable[Any], bodies: Iterable[str]) -> Iterable[Carried]:
    for (kind, document_id, version, deleted, grants, audience), body in zip(heads, bodies, strict=True):
        yield Carried(kind, document_id, version, deleted, tuple(grants), tuple(audience), body)
