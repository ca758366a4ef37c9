"""A command as the appender takes it: decided in the transaction, on the documents as they are there.

From the rule's changes it makes what the log holds: each event rendered once, each document stored as the very
JSON text that its event carries.
"""

from dataclasses import dataclass
from functools import partial

import structlog
from pydantic import ValidationError
from pydantic_core import to_json

from sync_core.cursor import Cursor
from sync_core.domain.changes import Changes, Context, DomainEvent, RuleConflict
from sync_core.domain.command import Command, CommandInput, Domain
from sync_core.domain.document import Document, Known, Ref
from sync_core.envelope import ENVELOPE_HEAD_BYTES, envelope_tail
from sync_core.events import MAX_EVENT_BYTES
from sync_core.problems import Conflict, FieldError, Forbidden, NotFound, TooLarge, Unprocessable
from sync_server.access.rights import Rights
from sync_server.commands.answer import Answer, Carried, Refusal
from sync_server.log.group import Decision, View
from sync_server.log.records import OUTCOME_TTL_MS, NewEvent, Outcome, OutcomeKey, Reach, StoredDocument

__all__ = ["CommandWrite", "Guard", "Lookup", "Stale"]

log = structlog.get_logger("sync_server")


class Unreadable(Conflict):
    """A newer server wrote it, and this one cannot judge what a change of it means. Readers are given it as it is."""

    type = "unreadable"


class Stale(RuleConflict):
    """``If-Match`` names another version than there is: whoever asks should look again, and may then ask again."""

    type = "stale"


@dataclass(frozen=True, slots=True)
class Guard:
    """What ``If-Match`` asks for: one of these *versions* of the target, or (empty) that there is one at all.

    With *upto_seq* it is also good as it was last changed up to there: of who followed the feed that far.
    """

    versions: frozenset[int]
    upto_seq: int | None = None

    def check(self, target: Document | None, *, what: str, seq: int = 0) -> None:
        """*seq* is the target's last change. Raises NotFound, or Stale with the target as it is."""
        if target is None:
            raise NotFound(f"There is no {what}, which If-Match asks for.")
        if self.upto_seq is not None and seq <= self.upto_seq:
            return
        if (self.versions or self.upto_seq is not None) and target.version not in self.versions:
            raise Stale(f"The {what} has changed; it is at version {target.version}.", target)


@dataclass(frozen=True, slots=True)
class CommandWrite:
    """One call of a command (a Write). *key* and *fingerprint* where it is to take effect at most once.

    Of the documents that it names those do not exist for it which *rights* do not let its caller see.
    """

    domain: Domain
    command: Command
    given: CommandInput
    principal: str
    rights: Rights
    client_id: str | None
    guard: Guard | None
    key: OutcomeKey | None
    fingerprint: str
    size_bytes: int

    @property
    def reserve(self) -> int:
        return self.command.max_events

    @property
    def keys(self) -> tuple[OutcomeKey, ...]:
        return () if self.key is None else (self.key,)

    @property
    def refs(self) -> list[Ref]:
        return self.command.refs(self.given)

    def decide(self, view: View) -> Decision[Answer]:
        if self.key is not None and (known := view.outcomes.get(self.key)) is not None:
            return Decision([], {}, self._again(known))
        hidden = self._hidden(view)
        changes = Changes(
            load=lambda ref: Known(None, 0) if ref in hidden else self._known(view, ref),
            context=self._context(view),
            kinds=self.domain.kinds,
        )
        try:
            self._check_guard(changes, view)
            self.command.rule(changes, self.given)
        except (Conflict, Unprocessable) as refusal:
            answer = Answer(str(Cursor(view.epoch, view.next_seq - 1)), refusal=Refusal.of(refusal))
            return Decision([], self._outcome(view, answer), answer)
        return self._accepted(view, changes)

    def _context(self, view: View) -> Context:
        is_open = self.rights.permissions is None  # whoever calls may do everything
        guard = None
        if self.guard is not None and self.command.finds_target:
            guard = partial(self.guard.check, what=self.command.target.noun())
        return Context(
            view.time_ms, self.principal, frozenset({"admin"}) if is_open else self.rights.roles, guard
        )  # fmt: skip

    def _hidden(self, view: View) -> frozenset[Ref]:
        """What it names and its caller may not see; not the id under which it is to create, which may be taken, nor
        that of a target which may be ``unseen``."""
        if self.rights.permissions is None:
            return frozenset()
        command = self.command
        named_freely = command.target_ref(self.given) if command.makes_target or command.unseen else None
        hidden = set()
        for ref in self.refs:
            document = self._known(view, ref).document
            if document is None or ref == named_freely:
                continue
            if self.rights.sees_document(type(document), document.grants(), document.audience()):
                continue
            if document.owner_key:
                raise Forbidden(f"The {document.noun()} {ref.id} is not yours.")
            hidden.add(ref)
        return frozenset(hidden)

    def _again(self, known: Outcome) -> Answer:
        answer = Answer.parse(known.result) if known.fingerprint == self.fingerprint else None
        if answer is None:
            fault = FieldError("Idempotency-Key", "was used with another request; a new command needs a new key")
            raise Unprocessable("The idempotency key was used before with another request.", errors=(fault,))
        return answer

    def _known(self, view: View, ref: Ref) -> Known:
        stored = view.document(ref)
        if stored is None:
            return Known(None, 0)
        if stored.deleted:
            return Known(None, stored.version)
        document = view.parsed.get(ref)
        if document is None:
            document = view.parsed[ref] = _read(self.domain.kinds[ref.kind], stored)
        return Known(document, stored.version)

    def _check_guard(self, changes: Changes, view: View) -> None:
        if self.guard is None or self.command.finds_target:
            return
        ref = self.command.target_ref(self.given)
        target = changes.known(ref).document if ref is not None else None
        stored = view.document(ref) if ref is not None else None
        seq = stored.seq if stored is not None else 0
        self.guard.check(
            target, seq=seq, what=f"{self.command.target.noun()} {ref.id}" if ref else self.command.target.noun()
        )

    def _accepted(self, view: View, changes: Changes) -> Decision[Answer]:
        events: list[NewEvent] = []
        documents: list[StoredDocument] = []
        changed: dict[Ref, Carried] = {}
        parsed: dict[Ref, Document] = {}
        for event in changes.events:
            document, reach, body = event.document, _reach(event), _body(event)
            events.append(self._event(event, body, reach))
            if document is None:
                continue
            ref = document.ref
            documents.append(
                _stored(event, document, reach, body, seq=view.next_seq + len(events) - 1, time_ms=view.time_ms)
            )
            changed[ref] = Carried(*ref, document.version, event.deleted, reach.grants, reach.audience, body)
            parsed.pop(ref, None)
            if not event.deleted:
                parsed[ref] = document
        answer = Answer(str(Cursor(view.epoch, view.next_seq + len(events) - 1)), tuple(changed.values()))
        return Decision(events, self._outcome(view, answer), answer, documents, tuple(parsed.values()))

    def _outcome(self, view: View, answer: Answer) -> dict[OutcomeKey, Outcome]:
        if self.key is None:
            return {}
        return {self.key: Outcome(self.fingerprint, answer.text(), view.time_ms + OUTCOME_TTL_MS)}

    def _event(self, event: DomainEvent, body: str, reach: Reach) -> NewEvent:
        document = event.document
        data_json = _data_json(event, body)
        tail = envelope_tail(
            data_json,
            tags=event.tags,
            client_id=self.client_id,
            version=document.version if document is not None else None,
        )
        if len(tail.encode()) + ENVELOPE_HEAD_BYTES > MAX_EVENT_BYTES:
            raise TooLarge(f"The {document.kind if document else 'event'} would have over {MAX_EVENT_BYTES} bytes.")
        return NewEvent(event.event_type, event.tags, self.client_id, self.principal, tail, reach)


def _read(kind: type[Document], stored: StoredDocument) -> Document:
    """Raises Unreadable."""
    try:
        return kind.model_validate_json(stored.body)
    except ValidationError as exc:
        log.error("document_unreadable", kind=stored.kind, id=stored.id, faults=exc.error_count())
        detail = f"{kind.noun().capitalize()} {stored.id} was written by a newer version of this server."
        raise Unreadable(f"{detail} It can be read here, and not changed.") from None


@dataclass(frozen=True, slots=True)
class Lookup:
    """Asks what became of a key (a Write that writes nothing). It goes through the appender, so whatever is being
    committed under that key has been decided by then."""

    key: OutcomeKey
    reserve: int = 0
    size_bytes: int = 0

    @property
    def keys(self) -> tuple[OutcomeKey, ...]:
        return (self.key,)

    @property
    def refs(self) -> tuple[Ref, ...]:
        return ()

    def decide(self, view: View) -> Decision[Answer | None]:
        known = view.outcomes.get(self.key)
        return Decision([], {}, None if known is None else Answer.parse(known.result))


def _body(event: DomainEvent) -> str:
    """The JSON of the document that *event* carries; none, nothing."""
    document = event.document
    if document is None:
        return ""
    if not event.deleted:
        return document.render()
    return to_json({document.id_key: document.id, "version": document.version, "deleted": True}).decode()


def _data_json(event: DomainEvent, body: str) -> str:
    document = event.document
    if document is None:
        return to_json(event.data).decode()
    if event.deleted:
        return to_json({"deleted": True, document.kind: {document.id_key: document.id}}).decode()
    more = to_json(event.data).decode()[1:-1]
    return f'{{"{document.kind}":{body}{"," if more else ""}{more}}}'


def _reach(event: DomainEvent) -> Reach:
    document, before = event.document, event.before
    if document is None:
        of = event.judged_by
        return Reach("", "", 0) if of is None else Reach(of.kind, of.id, 0, grants=of.grants(), audience=of.audience())
    reach = Reach(
        document.kind, document.id, document.version, grants=document.grants(), audience=document.audience(),
        sample=event.sample,
    )  # fmt: skip
    if before is None or event.deleted:
        return reach
    tags, grants, audience = before.tags(), before.grants(), before.audience()
    narrowed = _lost(audience, reach.audience) or (not audience and reach.audience)
    if narrowed or _lost(tags, event.tags) or _lost(grants, reach.grants):
        return reach._replace(left=tags, grants_left=grants, audience_left=audience)
    return reach


def _lost(before: tuple[str, ...], after: tuple[str, ...]) -> bool:
    """Whether something of *before* is not there any more: who went by that finds or sees it no longer."""
    return before != after and not set(before) <= set(after)


def _stored(
    event: DomainEvent, document: Document, reach: Reach, body: str, *, seq: int, time_ms: int
) -> StoredDocument:
    return StoredDocument(
        kind=document.kind,
        id=document.id,
        version=document.version,
        deleted=event.deleted,
        is_open=document.is_open and not event.deleted,
        state=document.state,
        tags=event.tags,
        grants=reach.grants,
        audience=reach.audience,
        seq=seq,
        time_ms=time_ms,
        body=body,
    )
