"""What a rule works with: the documents as they are, who asks and when, and the changes and events that it makes.

A rule is pure. Where it asks for a document that is not at hand it is broken off (Unloaded), and run again with it: the
same on a server, inside the log's transaction, and on a client's replica. Source: architecture.md (commands).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from sync_core.domain.document import Document, Known, Ref, by_kind
from sync_core.labels import user_of
from sync_core.problems import Conflict, FieldError, NotFound, SyncError, Unprocessable
from sync_core.times import iso_from_ms

__all__ = ["Changes", "Context", "DomainEvent", "RuleConflict", "Unloaded"]

D = TypeVar("D", bound=Document)


class RuleConflict(Conflict):
    """The rules or the state forbid it; *documents* are how things stand."""

    def __init__(self, detail: str, *documents: Document) -> None:
        super().__init__(detail)
        self.documents = documents

    def document(self) -> dict[str, Any]:
        return super().document() | {"current": by_kind((type(d), d.content()) for d in self.documents)}


class Unloaded(SyncError):
    """A rule asked for documents that were not loaded; load *refs* and run it again."""

    def __init__(self, refs: frozenset[Ref]) -> None:
        super().__init__(", ".join(f"{ref.kind} {ref.id}" for ref in sorted(refs)))
        self.refs = refs


@dataclass(frozen=True, slots=True)
class Context:
    """What a rule may know beside documents and input. *now_ms* is the event's own time.

    *principal* is "" in a client's picture, where the server will judge. *guard* checks a document against the
    ``If-Match`` of a command that ``finds_target``; None where there was none.
    """

    now_ms: int
    principal: str
    roles: frozenset[str] = frozenset()
    guard: Callable[[Document | None], None] | None = None

    @property
    def user(self) -> str:
        """Who calls, as documents name people."""
        return user_of(self.principal)

    def acts_for(self, user: str) -> bool:
        """Whether the caller may do what *user* may: it is that user, or an admin."""
        return not self.principal or self.user == user or "admin" in self.roles

    @property
    def now(self) -> str:
        return iso_from_ms(self.now_ms)


@dataclass(frozen=True, slots=True)
class DomainEvent:
    """What a command makes known. With *document* it carries that one whole, and *before* is how it was.

    *tags* are the entities it is about, those of its document included. One that carries no document is shown
    to who may see *judged_by*.
    """

    event_type: str
    data: Mapping[str, Any]
    tags: tuple[str, ...]
    document: Document | None = None
    before: Document | None = None
    deleted: bool = False
    judged_by: Document | None = None
    sample: float | None = None


@dataclass(slots=True)
class Changes:
    """The working set of one command: reads documents, collects their new versions and the events.

    Every change of a document goes with exactly one event that carries it.
    """

    load: Callable[[Ref], Known]
    context: Context
    kinds: Mapping[str, type[Document]]
    events: list[DomainEvent] = field(default_factory=list)
    _known: dict[Ref, Known] = field(default_factory=dict)

    def known(self, ref: Ref) -> Known:
        """What is known under *ref*, with the changes of this command. Raises Unloaded."""
        known = self._known.get(ref)
        if known is None:
            known = self._known[ref] = self.load(ref)
        return known

    def find(self, kind: type[D], document_id: str) -> D | None:
        """The document, or None if there is none (any more). Raises Unloaded."""
        return cast("D | None", self.known(Ref(kind.kind, document_id)).document)

    def get(self, kind: type[D], document_id: str, *, field: str | None = None) -> D:
        """The document. Raises NotFound, or Unprocessable at *field* where the id came in the body."""
        found = self.find(kind, document_id)
        if found is not None:
            return found
        if field is None:
            raise NotFound(f"There is no {kind.noun()} {document_id}.")
        fault = FieldError(field, f"there is no {kind.noun()} {document_id}")
        raise Unprocessable(f"There is no {kind.noun()} {document_id}.", errors=(fault,))

    def preload(self, refs: Iterable[Ref]) -> None:
        """Have all of *refs* at hand: one round to the store for many, in place of one for each. Raises Unloaded."""
        missing: set[Ref] = set()
        for ref in refs:
            try:
                self.known(ref)
            except Unloaded as more:
                missing |= more.refs
        if missing:
            raise Unloaded(frozenset(missing))

    def create(self, document: D, event_type: str, data: Mapping[str, Any] | None = None) -> D:
        """A new document, its version continuing behind a tombstone. Raises RuleConflict if it exists."""
        existing = self.known(document.ref).document
        if existing is not None:
            raise RuleConflict(f"There is already {document.a_noun()} {document.id}.", existing)
        return self.put(document, event_type, data)

    def put(
        self,
        document: D,
        event_type: str,
        data: Mapping[str, Any] | None = None,
        *,
        sample: float | None = None,
    ) -> D:
        """The next version of *document*, with the event that carries it and further *data*.

        The event stands under the document's own tags and no others: a reader who is given a document is told of
        every change of it, or its copy would grow old unseen. *sample* thins delivery to a share of the readers.
        """
        known = self.known(document.ref)
        changed = document.model_copy(update={"version": known.version + 1})
        self.events.append(DomainEvent(event_type, data or {}, changed.tags(), changed, known.document, sample=sample))
        self._known[changed.ref] = Known(changed, changed.version)
        return changed

    def delete(self, document: Document, event_type: str) -> None:
        """Leave a tombstone of *document*."""
        known = self.known(document.ref)
        gone = document.model_copy(update={"version": known.version + 1})
        self.events.append(DomainEvent(event_type, {}, document.tags(), gone, known.document, deleted=True))
        self._known[gone.ref] = Known(None, gone.version)

    def emit(self, event_type: str, data: Mapping[str, Any], *, about: Iterable[str], of: Document) -> None:
        """An event beside the documents' own, seen by those who may see *of*."""
        self.events.append(DomainEvent(event_type, data, tuple(dict.fromkeys(about)), judged_by=of))
