"""The shop's documents as this client knows them: the truth from the server, and on top what its own commands make
of it until they are answered. In memory; pure.

What is true of the truth

    1. Newest wins: of a document no older version of the same log comes back. Deletes, and documents that went out of
       view, leave their version behind. (document_rows.py keeps the same rule on disk.)
    2. ``complete_to``: everything up to that cursor is in here, so what an event or answer from before it says is
       known, or gone for good. A replayed log does not bring deleted documents back.
    3. While a snapshot is ``due``, documents may be missing, or be here that are none any more; the snapshot's
       installation ends that. Whoever looks is told by ``fresh``.
    4. A change is made here after it was committed to the cache, in the same step of the event loop.

What a screen sees is a function of truth and commands, worked out when somebody looks. Source: protocol.md 1, 2.3, 4.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from sync_client import documents
from sync_client.logs import get_logger
from sync_client.overlay import Overlay
from sync_client.pending import PendingCommand
from sync_client.records import DocumentState, StoredDocument
from sync_core.cursor import Cursor
from sync_core.domain.changes import Unloaded
from sync_core.domain.command import Domain
from sync_core.domain.document import Document, Known, Ref
from sync_core.filters import Filter

__all__ = ["FINISHED_FOR_MS", "Entry", "Replica"]

FINISHED_FOR_MS = 24 * 3600 * 1000
"""How long what is finished is kept, as in the server's snapshot."""
MAX_EXPIRED = 2000
"""At once: whether a document is finished may take reading it."""

log = get_logger()


D_co = TypeVar("D_co", bound=Document, covariant=True)


@dataclass(frozen=True, slots=True)
class Entry(Generic[D_co]):
    """A document as a screen sees it. *pending*: a command of this client has changed it, and neither its answer nor
    the feed has told so yet."""

    document: D_co
    pending: bool


class _Held:
    """What is known of one document. *content* is its JSON until somebody looks, then the document."""

    __slots__ = ("content", "epoch", "seq", "state", "time_ms", "version")

    def __init__(self, stored: StoredDocument) -> None:
        self.version = stored.version
        self.state = stored.state
        self.epoch = stored.epoch
        self.seq = stored.seq
        self.time_ms = stored.time_ms
        self.content: str | Document | None = stored.body


class Replica:
    """See the module. *view* is what of the shop this client asks for."""

    def __init__(self, domain: Domain, *, view: Filter | None = None) -> None:
        self.domain = domain
        self._tags = (view or Filter()).tags
        self._held: dict[str, dict[str, _Held]] = {kind: {} for kind in domain.kinds}
        self._overlay = Overlay(domain, truth=self.known)
        self._stirred: set[Ref] = set()
        self.complete_to: Cursor | None = None
        self.due = "first"
        """Why a snapshot is needed; "" if none is."""
        self.demands = 0
        """How often one became due."""
        self.server_ms = 0
        """The newest time of the server's that was seen (Unix time)."""
        self.unreadable = 0
        """Documents that this version of the program cannot read."""
        self.changed: Callable[[], None] = lambda: None
        """Called after every change."""
        self.client_id = ""
        """What events carry as clientID that this instance has caused."""
        self.in_flight: Callable[[], str | None] = lambda: None
        """The key of the command that was sent and is not answered; there is at most one."""
        self._own: dict[Ref, int] = {}
        """Versions that the feed says are of this instance's command in flight."""
        self._answered_to: Cursor | None = None
        """The place in the log behind the last command that was answered."""

    # -- what arrives -----------------------------------------------------------------------------------

    def load(self, stored: Iterable[StoredDocument], *, complete_to: Cursor | None, due: str | None) -> None:
        """Begin with what an earlier run has left; *due* is None where there was none."""
        self.complete_to = complete_to
        self.due = "first" if due is None else due
        self._replace(stored)

    def of_event(self, envelope: Mapping[str, Any]) -> StoredDocument | None:
        """What an event says about a document."""
        found = documents.of_event(envelope, self.domain.kinds)
        if found is not None and self.client_id and envelope.get("clientID") == self.client_id:
            answered = self._answered_to
            if answered is None or answered.epoch != found.epoch or answered.seq < found.seq:
                self._own[Ref(found.kind, found.id)] = found.version
        return found

    def of_answer(self, answer: Mapping[str, Any], *, at: Cursor | None) -> list[StoredDocument]:
        """The documents of a command's answer; none where it is about another log than the one the feed is *at*.

        Those that this client does not ask for have gone out of its view.
        """
        cursor = documents.cursor_of(answer)
        if cursor is None or (at is not None and at.epoch != cursor.epoch):
            return []
        self._answered_to = cursor
        self._own.clear()
        return [self._in_view(found) for found in documents.of_answer(answer, self.domain.kinds, cursor=cursor)]

    def of_refusal(self, current: Mapping[str, Any]) -> list[StoredDocument]:
        """How documents stood when a command was refused. It may be long ago, so it only tells of known ones.

        Nothing while a snapshot is due: the one that is under way may be older, and would take them back.
        """
        if self.due:
            return []
        found = []
        for stored in documents.of_answer(current, self.domain.kinds, cursor=Cursor("", 0)):
            held = self._held[stored.kind].get(stored.id)
            if held is not None and held.state is DocumentState.LIVE:
                found.append(self._in_view(stored._replace(epoch=held.epoch, seq=held.seq)))
        return found

    def newer(self, found: Iterable[StoredDocument]) -> list[StoredDocument]:
        """What of it is news, the newest of each document: to be committed, then to be applied."""
        news: dict[tuple[str, str], StoredDocument] = {}
        for one in found:
            ref = (one.kind, one.id)
            if self._is_news(one) and (ref not in news or _supersedes(one, news[ref])):
                news[ref] = one
        return list(news.values())

    def _is_news(self, one: StoredDocument) -> bool:
        held = self._held[one.kind].get(one.id)
        complete_to = self.complete_to
        if complete_to is not None and complete_to.epoch == one.epoch and one.seq <= complete_to.seq:
            # A refusal's documents stand at the place of those that they are newer than.
            return held is not None and held.epoch == one.epoch and held.seq == one.seq and one.version > held.version
        return held is None or _supersedes(one, held)

    def apply(
        self,
        news: Sequence[StoredDocument],
        *,
        forgotten: Iterable[tuple[str, str]] = (),
        pending: Sequence[PendingCommand] | None = None,
    ) -> None:
        """Make *news* the truth, and *pending* (if given) the commands that wait, in one step for whoever looks."""
        refs = {Ref(one.kind, one.id) for one in news}
        own = {Ref(one.kind, one.id) for one in news if self._is_own(one)}
        for one in news:
            self._held[one.kind][one.id] = _Held(one)
            self.server_ms = max(self.server_ms, one.time_ms)
        for kind, document_id in forgotten:
            self._held[kind].pop(document_id, None)
            refs.add(Ref(kind, document_id))
        self._overlay.changed(refs)
        if pending is not None:
            self._overlay.replace(pending)
        if own and (sent := self.in_flight()) is not None:
            self._overlay.land(sent, own)
        self._stirred |= refs
        self.changed()

    def _is_own(self, one: StoredDocument) -> bool:
        """Whether *one* is, or stands on, a version of this instance's that is news."""
        ref = Ref(one.kind, one.id)
        own = self._own.get(ref, 0)
        if not self._version_of(ref) < own <= one.version:
            return False
        del self._own[ref]
        return True

    def _version_of(self, ref: Ref) -> int:
        held = self._find(ref)
        return 0 if held is None else held.version

    def set_pending(self, commands: Sequence[PendingCommand]) -> None:
        """These wait for their answers, in this order, and no others."""
        self.apply((), pending=commands)

    def demand(self, reason: str, *, at: Cursor | None) -> None:
        """A snapshot is due. *at* is how far the feed had come, in order, until now."""
        self.complete_to = self.completed(at)
        self.due = reason
        self.demands += 1
        self.changed()

    def completed(self, at: Cursor | None) -> Cursor | None:
        """How far it is complete when the feed has come to *at* in order."""
        done = self.complete_to
        is_further = at is not None and done is not None and at.epoch == done.epoch and at.seq > done.seq
        return at if is_further and not self.due else done

    def install(self, stored: Iterable[StoredDocument], *, cursor: Cursor) -> None:
        """The cache has installed a snapshot: this is all there is now."""
        self.complete_to, self.due = cursor, ""
        self._replace(stored)
        self.changed()

    def note_time(self, text: Any) -> None:
        """The server's clock says *text* (ISO 8601)."""
        self.server_ms = max(self.server_ms, documents.time_ms(text))

    def stands(self, text: Any) -> None:
        """The feed has come to stand somewhere: a snapshot may be fetched. The server's clock says *text*."""
        self.note_time(text)
        if self.due:
            self.changed()

    def _replace(self, stored: Iterable[StoredDocument]) -> None:
        before = self._held
        self._held = {kind: {} for kind in self.domain.kinds}
        self._own.clear()
        for one in stored:
            if one.kind not in self._held:
                continue  # of a newer version of this program
            held = before[one.kind].pop(one.id, None)
            ref = Ref(one.kind, one.id)
            if held is None or (held.version, held.state, held.epoch) != (one.version, one.state, one.epoch):
                self._stirred.add(ref)
                held = _Held(one)
            held.seq = one.seq
            self._held[one.kind][one.id] = held
            self.server_ms = max(self.server_ms, one.time_ms)
        self._stirred |= {Ref(kind, document_id) for kind, gone in before.items() for document_id in gone}
        self._overlay.changed(self._stirred)

    def expired(self, at: Cursor | None) -> list[tuple[str, str]]:
        """What need not be known any more, by kind and id, when the feed has come to *at*; at most MAX_EXPIRED.

        What was finished a day ago, as the snapshot leaves it out; and the versions of what is gone, where nothing
        older can come any more.
        """
        if self.due or at is None:
            return []
        before_ms = self.server_ms - FINISHED_FOR_MS
        expired = (
            (kind, document_id)
            for kind, all_held in self._held.items()
            for document_id, held in all_held.items()
            if (held.state is not DocumentState.LIVE and held.epoch == at.epoch and held.seq <= at.seq)
            or (held.state is DocumentState.LIVE and held.time_ms < before_ms and self._is_finished(kind, held))
        )
        return list(islice(expired, MAX_EXPIRED))

    def _is_finished(self, kind: str, held: _Held) -> bool:
        document = self._read(kind, held)
        return document is not None and not document.is_open

    # -- what a screen sees -----------------------------------------------------------------------------

    @property
    def fresh(self) -> bool:
        """Whether everything is in here that the feed has told."""
        return not self.due

    def get(self, ref: Ref) -> Entry[Document] | None:
        """The document with what waiting commands make of it; None if there is none in view."""
        self._settle()
        known = self._overlay.get(ref)
        if known is None:
            document = self.truth(ref)
            return None if document is None else Entry(document, pending=False)
        if known.document is None or not self._shows(known.document):
            return None
        return Entry(known.document, pending=True)

    def seen(self, ref: Ref) -> tuple[Known, Mapping[str, int]]:
        """What a person sees of it, and which waiting commands (by key) have added how many versions to that."""
        self._settle()
        truth = Known(self.truth(ref), self._version_of(ref))
        known = self._overlay.get(ref)
        return truth if known is None else known, self._overlay.added(ref)

    def refs(self, kind: str) -> list[Ref]:
        """What may be shown of *kind*, by id; ``get`` says."""
        self._settle()
        ids = {document_id for document_id, held in self._held[kind].items() if held.state is DocumentState.LIVE}
        ids |= {ref.id for ref in self._overlay.refs if ref.kind == kind}
        return [Ref(kind, document_id) for document_id in sorted(ids)]

    def stirred(self) -> set[Ref]:
        """The documents whose look may be another than when this was last asked."""
        self._settle()
        stirred, self._stirred = self._stirred, set()
        return stirred

    def truth(self, ref: Ref) -> Document | None:
        """The document as the server last told it; None if there is none in view."""
        held = self._find(ref)
        return None if held is None or held.state is not DocumentState.LIVE else self._read(ref.kind, held)

    def known(self, ref: Ref) -> Known:
        """The truth as rules take it. Raises Unloaded for what is out of view, not kept, or cannot be read."""
        held = self._find(ref)
        if held is None and ref.kind in self._held:
            return Known(None, 0)
        if held is None:
            raise Unloaded(frozenset({ref}))
        if held.state is DocumentState.DELETED:
            return Known(None, held.version)
        document = self._read(ref.kind, held) if held.state is DocumentState.LIVE else None
        if document is None:
            raise Unloaded(frozenset({ref}))
        return Known(document, held.version)

    def _find(self, ref: Ref) -> _Held | None:
        return self._held.get(ref.kind, {}).get(ref.id)

    @property
    def landed(self) -> Mapping[str, bool]:
        """Waiting commands, by key, that the feed has told of before their answer came; whether of all that they do."""
        return self._overlay.landed

    def _settle(self) -> None:
        self._stirred |= self._overlay.settle()

    def _read(self, kind: str, held: _Held) -> Document | None:
        """The document; None for what a newer server wrote and this program cannot read."""
        if isinstance(held.content, str):
            try:
                held.content = self.domain.kinds[kind].model_validate_json(held.content)
            except ValidationError as exc:
                log.error("document_unreadable", kind=kind, faults=exc.error_count())
                held.content = None
                self.unreadable += 1
        return held.content

    def _in_view(self, stored: StoredDocument) -> StoredDocument:
        """*stored*, out of view if this client does not ask for it."""
        if not self._tags or stored.state is not DocumentState.LIVE:
            return stored
        try:
            document = self.domain.kinds[stored.kind].model_validate_json(stored.body)
        except ValidationError:
            return stored
        return stored if self._shows(document) else stored._replace(state=DocumentState.REMOVED, body="")

    def _shows(self, document: Document) -> bool:
        return not self._tags or not self._tags.isdisjoint(document.tags())


def _supersedes(one: StoredDocument, other: StoredDocument | _Held) -> bool:
    return one.epoch != other.epoch or one.version > other.version
