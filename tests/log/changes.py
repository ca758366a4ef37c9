"""Writes that change documents, as commands do, and whether the documents are what the log tells of them."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sync_core.domain.document import Ref
from sync_core.filters import tag
from sync_core.problems import Conflict
from sync_server.log.base import EventLog, Selection
from sync_server.log.group import Decision, View
from sync_server.log.records import OUTCOME_TTL_MS, NewEvent, Outcome, OutcomeKey, Reach, StoredDocument, StoredEvent
from tests.log.writes import TENANT, read_all, text_of

KINDS = ("order", "queue", "bay")
State = dict[Ref, tuple[int, int, dict[str, Any]]]
"""Version, seq and content of documents."""


@dataclass(frozen=True)
class Change:
    """Writes *text* into the documents *ids*, each its next version with the event that carries it.

    Answers with the versions. *also* are changed as well, but named only in ``decide``; *at_version* refuses
    where the first is not at that version.
    """

    text: str
    ids: tuple[str, ...]
    also: tuple[str, ...] = ()
    kind: str = "order"
    delete: bool = False
    is_open: bool = True
    state: str = ""
    tags: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()
    at_version: int | None = None
    key: OutcomeKey | None = None
    padding: str = ""
    meanwhile: Callable[[], None] = lambda: None

    @property
    def reserve(self) -> int:
        return len(self.ids) + len(self.also) + 1  # one more than it needs, as with real commands

    @property
    def size_bytes(self) -> int:
        return 200 + len(self.padding)

    @property
    def keys(self) -> tuple[OutcomeKey, ...]:
        return () if self.key is None else (self.key,)

    @property
    def refs(self) -> list[Ref]:
        return [Ref(self.kind, document_id) for document_id in self.ids]

    def decide(self, view: View) -> Decision[tuple[int, ...]]:
        if self.key is not None and (known := view.outcomes.get(self.key)) is not None:
            return Decision([], {}, tuple(json.loads(known.result)))
        before = [(ref, view.document(ref)) for ref in (*self.refs, *(Ref(self.kind, more) for more in self.also))]
        self.meanwhile()
        versions = tuple((known.version if known else 0) + 1 for _, known in before)
        if self.at_version is not None and versions[0] - 1 != self.at_version:
            raise Conflict(f"{self.ids[0]} is at version {versions[0] - 1}.")
        events, documents = [], []
        for seq, ((ref, _), version) in enumerate(zip(before, versions, strict=True), view.next_seq):
            document = self._document(ref, version, seq, view.time_ms)
            documents.append(document)
            events.append(_event(document))
        result = json.dumps(versions)
        outcomes = {} if self.key is None else {self.key: Outcome("f", result, view.time_ms + OUTCOME_TTL_MS)}
        return Decision(events, outcomes, versions, documents)

    def _document(self, ref: Ref, version: int, seq: int, time_ms: int) -> StoredDocument:
        content: dict[str, Any] = {"id": ref.id, "version": version}
        content |= {"deleted": True} if self.delete else {"text": self.text, "padding": self.padding}
        own = (tag("orderID", ref.id),)
        return StoredDocument(
            ref.kind, ref.id, version, self.delete, self.is_open and not self.delete, self.state, own + self.tags, own,
            self.audience, seq, time_ms, json.dumps(content),
        )  # fmt: skip


def _event(document: StoredDocument) -> NewEvent:
    reach = Reach(document.kind, document.id, document.version, grants=document.grants, audience=document.audience)
    tail = f'"data":{{"{document.kind}":{document.body}}},"version":{document.version}}}'
    return NewEvent(f"{document.kind}_updated", document.tags, None, "anna", tail, reach)


def changes(text: str, *ids: str, **more: Any) -> list[Change]:
    """One Change for each of *ids*."""
    return [Change(text, (document_id,), **more) for document_id in ids]


async def all_documents(
    event_log: EventLog, tenant: str = TENANT, *, kinds: Sequence[str] = KINDS, limit: int = 500, **more: Any
) -> list[StoredDocument]:
    """What a selection holds, page by page."""
    documents: list[StoredDocument] = []
    after: Ref | None = None
    while True:
        page = await event_log.documents(tenant, Selection(tuple(kinds), **more), after=after, limit=limit)
        documents += page.documents
        after = page.next
        if after is None:
            return documents


def told(events: Iterable[StoredEvent], before: State | None = None) -> State:
    """The documents as *events* tell of them, going on from those *before* (none)."""
    documents = dict(before or {})
    for event in events:
        if event.reach is None or not event.reach.version:
            continue
        ref, version = Ref(event.reach.kind, event.reach.id), event.reach.version
        assert version == documents.get(ref, (0,))[0] + 1, f"{ref} goes on by one version"
        documents[ref] = version, event.seq, json.loads("{" + event.tail)["data"][ref.kind]
    return documents


def held(documents: Sequence[StoredDocument]) -> State:
    """The same of stored *documents*."""
    return {d.ref: (d.version, d.seq, json.loads(d.body)) for d in documents}


def said(event: StoredEvent, epoch: str) -> tuple[str, str]:
    """What *event* is acknowledged by (its id, or the document's id and version), and its text."""
    if event.reach is None:
        return f"{epoch}.{event.seq}", text_of(event)
    content = json.loads("{" + event.tail)["data"][event.reach.kind]
    return f"{event.reach.id}@{event.reach.version}", content["text"]


async def check_documents(event_log: EventLog, tenant: str = TENANT) -> None:
    """The log, replayed from its first event, rebuilds exactly the stored documents."""
    assert held(await all_documents(event_log, tenant, deleted=True)) == told(await read_all(event_log, tenant))
