"""What a log holds: events, documents, outcomes. Values only, the same for every store."""

from typing import NamedTuple

from sync_core.domain.document import Ref

__all__ = [
    "OUTCOME_TTL_MS",
    "NewEvent",
    "Outcome",
    "OutcomeKey",
    "Reach",
    "StoredDocument",
    "StoredEvent",
]

OUTCOME_TTL_MS = 7 * 24 * 3600 * 1000
"""How long an outcome is remembered, so that a re-send with the same key is answered and not repeated."""


class Reach(NamedTuple):
    """Whom an event concerns beyond its tags: what stands on those that commands make.

    *kind*, *id* and *version* name the document it carries (version 0: that it is judged by). Readers bound to entities
    see it by *grants*, everybody else by *audience* (empty: all who may see its kind). *left*, *grants_left* and
    *audience_left* are tags, grants and audience as they were, whole, where the change took something from any of
    them, else empty: who finds or may see it only as it was is told ``removed``. *sample* thins its delivery to a
    share of the readers.
    """

    kind: str
    id: str
    version: int
    left: tuple[str, ...] = ()
    grants: tuple[str, ...] = ()
    grants_left: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()
    audience_left: tuple[str, ...] = ()
    sample: float | None = None


class NewEvent(NamedTuple):
    """An accepted event that has no seq yet. *tail* is its envelope from "data" on (sync_core.envelope)."""

    event_type: str
    tags: tuple[str, ...]
    client_id: str | None
    principal: str
    tail: str
    reach: Reach | None = None


class StoredEvent(NamedTuple):
    """An event as the log holds it; *time_ms* is the server's, never less than that of its predecessor."""

    seq: int
    time_ms: int
    event_type: str
    tags: tuple[str, ...]
    client_id: str | None
    principal: str
    tail: str
    reach: Reach | None = None


class StoredDocument(NamedTuple):
    """A document as the log holds it, beside the events that brought it there.

    *body* is its JSON, of a deleted one what is left to tell. *seq* is the last event that carried it, *time_ms*
    when that was. *tags*, *state* and *is_open* are what lists and snapshots select by, *grants* and *audience* who
    may see it.
    """

    kind: str
    id: str
    version: int
    deleted: bool
    is_open: bool
    state: str
    tags: tuple[str, ...]
    grants: tuple[str, ...]
    audience: tuple[str, ...]
    seq: int
    time_ms: int
    body: str

    @property
    def ref(self) -> Ref:
        return Ref(self.kind, self.id)


class OutcomeKey(NamedTuple):
    """An idempotency key; unique within tenant and principal."""

    principal: str
    key: str


class Outcome(NamedTuple):
    """What became of a key: *fingerprint* of the request, *result* as text, when it is forgotten."""

    fingerprint: str
    result: str
    expires_ms: int
