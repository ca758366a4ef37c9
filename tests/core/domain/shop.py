"""A shop in memory: commands run as a server or a replica runs them, on nothing but a dict of documents.

Documents are kept as the JSON text that their events carry and are read again for each command, as from a store.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic_core import from_json, to_json

from sync_core.domain import bays, orders, queues, waiting
from sync_core.domain.bays import Bay
from sync_core.domain.catalog import DOMAIN
from sync_core.domain.changes import Changes, Context, DomainEvent, Unloaded
from sync_core.domain.command import Command, CommandInput, Domain
from sync_core.domain.document import Document, Known, Ref
from sync_core.domain.orders import Order
from sync_core.domain.queues import Queue
from sync_core.envelope import envelope, envelope_tail
from sync_core.times import iso_from_ms

D = TypeVar("D", bound=Document)

START_MS = 1_795_000_000_000
ITEM: dict[str, Any] = {"sku": "W1", "name": "Wash", "quantity": 2, "unitPrice": "12.50"}


@dataclass
class Shop:
    """*bodies* are the documents' JSON by Ref, *versions* also those of deleted ones, *log* the events' envelopes."""

    domain: Domain = DOMAIN
    bodies: dict[Ref, str] = field(default_factory=dict)
    versions: dict[Ref, int] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    now_ms: int = START_MS
    made: int = 0
    principal: str = "tester"
    roles: frozenset[str] = frozenset()

    def do(self, command: Command, **given: Any) -> list[DomainEvent]:
        """Run *command* on the input that *given* is as JSON. All of it, or what the rule raised."""
        checked = command.complete(command.input.model_validate_json(to_json(given), strict=True), self.new_id)
        events = self._decided(command, checked)
        for event in events:
            self.log.append(wire(event, len(self.log) + 1, self.now_ms))
            if event.document is not None:
                self.keep(event.document, deleted=event.deleted)
        self.now_ms += 1
        return events

    def _decided(self, command: Command, given: CommandInput) -> list[DomainEvent]:
        """As a server does it: what *given* names is loaded, and the rule run again with what else it asks for."""
        loaded = {ref: self.known(ref) for ref in command.refs(given)}

        def load(ref: Ref) -> Known:
            if ref not in loaded:
                raise Unloaded(frozenset({ref}))
            return loaded[ref]

        for _ in range(3):
            changes = Changes(
                load=load, context=Context(self.now_ms, self.principal, self.roles), kinds=self.domain.kinds
            )
            try:
                command.rule(changes, given)
            except Unloaded as more:
                loaded |= {ref: self.known(ref) for ref in more.refs}
            else:
                return changes.events
        raise AssertionError(f"{command.name} is never content with what is loaded")

    def keep(self, document: Document, *, deleted: bool = False) -> None:
        """Put *document* there as it is."""
        self.versions[document.ref] = document.version
        if deleted:
            del self.bodies[document.ref]
        else:
            self.bodies[document.ref] = document.render()

    def known(self, ref: Ref) -> Known:
        body = self.bodies.get(ref)
        document = None if body is None else self.domain.kinds[ref.kind].model_validate_json(body)
        return Known(document, self.versions.get(ref, 0))

    def find(self, kind: type[D], document_id: str) -> D | None:
        found = self.known(Ref(kind.kind, document_id)).document
        assert found is None or isinstance(found, kind)
        return found

    def all(self, kind: type[D]) -> list[D]:
        return [d for ref in self.bodies if isinstance(d := self.known(ref).document, kind)]

    def order(self, order_id: str = "o1") -> Order:
        found = self.find(Order, order_id)
        assert found is not None
        return found

    def queue(self, queue_id: str = "q1") -> Queue:
        found = self.find(Queue, queue_id)
        assert found is not None
        return found

    def bay(self, bay_id: str = "b1") -> Bay:
        found = self.find(Bay, bay_id)
        assert found is not None
        return found

    def new_id(self) -> str:
        self.made += 1
        return f"made-{self.made}"


def open_shop(*, orders_in: Iterable[str] = ("o1",), waiting_in: Iterable[str] = (), job: str | None = None) -> Shop:
    """Queue q1 and bay b1; initiated orders, those of *waiting_in* in the queue; *job* an order in the bay (job j1)."""
    shop = Shop()
    shop.do(queues.create, queueID="q1", name="Main")
    shop.do(bays.create, bayID="b1", name="Bay 1")
    for order_id in dict.fromkeys([*orders_in, *waiting_in, *([job] if job else [])]):
        shop.do(orders.create, orderID=order_id, items=[ITEM])
    for order_id in waiting_in:
        shop.do(waiting.enter, queueID="q1", orderID=order_id)
    if job is not None:
        shop.do(bays.start_job, bayID="b1", orderID=job, jobID="j1")
    return shop


def data_of(event: DomainEvent) -> dict[str, Any]:
    """An event's data as readers get it."""
    document = event.document
    if document is None:
        return dict(event.data)
    if event.deleted:
        return {"deleted": True, document.kind: {document.id_key: document.id}}
    return {document.kind: document.content(), **event.data}


def wire(event: DomainEvent, seq: int, now_ms: int) -> str:
    """The event's envelope."""
    version = None if event.document is None else event.document.version
    tail = envelope_tail(to_json(data_of(event)).decode(), tags=event.tags, client_id="till-1#7f3a", version=version)
    return envelope(f"k3f9a2c1.{seq}", event.event_type, iso_from_ms(now_ms), tail)


def replay(log: Iterable[str], *, domain: Domain = DOMAIN) -> tuple[dict[Ref, Any], dict[Ref, int]]:
    """The documents (and versions, those of deleted ones too) that a replica has after those envelopes."""
    documents: dict[Ref, Any] = {}
    versions: dict[Ref, int] = {}
    for text in log:
        event: Mapping[str, Any] = from_json(text)
        if "version" not in event:
            continue
        kind = next(k for name, k in domain.kinds.items() if name in event["data"])
        content = event["data"][kind.kind]
        ref = Ref(kind.kind, content[kind.id_key])
        assert event["version"] == versions.get(ref, 0) + 1, "versions are dense"
        versions[ref] = event["version"]
        if event["data"].get("deleted"):
            del documents[ref]
        else:
            assert content["version"] == event["version"]
            documents[ref] = content
    return documents, versions


def types_of(events: Iterable[DomainEvent]) -> list[str]:
    return [event.event_type for event in events]
