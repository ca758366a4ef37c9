"""What a command is answered with, and how that is kept for the one who asks again. Source: protocol.md 4."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from sync_core.domain.command import Domain, RuleConflict
from sync_core.domain.document import Document
from sync_core.problems import Conflict, FieldError, Problem, Unprocessable

__all__ = ["Answer", "Changed"]


class Changed(NamedTuple):
    """A document that a command changed, or deleted; *body* is its JSON text."""

    document: Document
    deleted: bool
    body: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a command that was decided: *changed* at the log's *cursor*, or refused by *refusal*.

    *repeated* if it had been decided before.
    """

    cursor: str
    changed: Sequence[Changed] = ()
    refusal: Conflict | Unprocessable | None = None
    repeated: bool = False

    def text(self) -> str:
        """As it is stored with the idempotency key."""
        if self.refusal is not None:
            return to_json({"cursor": self.cursor, "refusal": _refusal_content(self.refusal)}).decode()
        changed = ",".join(f'["{c.document.kind}",{"true" if c.deleted else "false"},{c.body}]' for c in self.changed)
        return f'{{"cursor":"{self.cursor}","changed":[{changed}]}}'

    @classmethod
    def parse(cls, text: str, domain: Domain) -> "Answer | None":
        """The answer that was stored as *text*; None if that is the outcome of something else."""
        if not text.startswith("{"):
            return None
        content = from_json(text)
        if "refusal" in content:
            return cls(content["cursor"], (), _refusal(content["refusal"], domain), repeated=True)
        changed = [
            Changed(domain.kinds[kind].model_construct(**body), deleted, to_json(body).decode())
            if deleted
            else Changed(domain.kinds[kind].model_validate(body), deleted, to_json(body).decode())
            for kind, deleted, body in content["changed"]
        ]
        return cls(content["cursor"], changed, repeated=True)


def _refusal_content(refusal: Problem) -> dict[str, Any]:
    documents = refusal.documents if isinstance(refusal, RuleConflict) else ()
    return {
        "status": refusal.status,
        "detail": refusal.detail,
        "errors": [[fault.path, fault.message] for fault in refusal.errors],
        "current": [[document.kind, document.content()] for document in documents],
    }


def _refusal(content: dict[str, Any], domain: Domain) -> Conflict | Unprocessable:
    if content["status"] == Conflict.status:
        current = [domain.kinds[kind].model_validate(body) for kind, body in content["current"]]
        return RuleConflict(content["detail"], *current)
    return Unprocessable(content["detail"], errors=tuple(FieldError(*fault) for fault in content["errors"]))
