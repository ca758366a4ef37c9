"""A replica beside an in-memory shop (tests/core/domain/shop.py) whose events, answers and snapshots it is given."""

import itertools
import json
from collections.abc import Callable, Iterable
from typing import Any

from pydantic_core import from_json, to_json

from sync_client import documents
from sync_client.pending import PendingCommand
from sync_client.records import StoredDocument
from sync_client.replica import Replica
from sync_core.cursor import Cursor
from sync_core.domain.catalog import DOMAIN
from sync_core.domain.command import Command
from sync_core.domain.document import Document, Ref, by_kind
from sync_core.filters import Filter
from tests.core.domain.shop import START_MS, Shop

EPOCH = "k3f9a2c1"
_keys = itertools.count(1)


def make_replica(*, due: str = "", complete_to: int = 0, view: Filter | None = None) -> Replica:
    """An empty one; complete up to *complete_to* unless something is *due*."""
    replica = Replica(DOMAIN, view=view)
    replica.load([], complete_to=Cursor(EPOCH, complete_to), due=due)
    return replica


def envelopes(shop: Shop, first: int = 0) -> list[dict[str, Any]]:
    """The events of its log behind seq *first*."""
    return [from_json(text) for text in shop.log[first:]]


def tell(replica: Replica, events: Iterable[dict[str, Any]]) -> list[StoredDocument]:
    """Give the replica *events* as one chunk of the feed; what it took as news."""
    found = [document for event in events if (document := replica.of_event(event)) is not None]
    news = replica.newer(found)
    replica.apply(news)
    return news


def answer_of(shop: Shop, change: Callable[[], Any]) -> dict[str, Any]:
    """What the server answers to the command that *change* runs on *shop*."""
    changed: dict[Ref, tuple[type[Document], Any]] = {}
    for event in change():
        if event.document is not None:
            document = event.document
            content = {document.id_key: document.id, "version": document.version, "deleted": True}
            changed[document.ref] = (type(document), content if event.deleted else document.content())
    return by_kind(changed.values()) | {"cursor": f"{EPOCH}.{len(shop.log)}"}


def page_of(shop: Shop, *, seq: int | None = None) -> list[StoredDocument]:
    """All documents of *shop* as a snapshot of one page."""
    cursor = Cursor(EPOCH, len(shop.log) if seq is None else seq)
    page = {kind.plural: [from_json(body) for ref, body in shop.bodies.items() if ref.kind == kind.kind]
            for kind in DOMAIN.kinds.values()}  # fmt: skip
    return documents.of_page(page, DOMAIN.kinds, cursor=cursor)


def given(command: Command, *, created_ms: int = START_MS, **fields: Any) -> PendingCommand:
    """A command that waits."""
    checked = command.input.model_validate_json(to_json(fields), strict=True)
    return PendingCommand(f"key-{next(_keys)}", command, checked, created_ms)


def seen(replica: Replica) -> dict[str, Any]:
    """All that a screen sees: the JSON of each document by "kind id", and whether it is pending."""
    shown = {}
    for kind in DOMAIN.kinds:
        for ref in replica.refs(kind):
            entry = replica.get(ref)
            if entry is not None:
                shown[f"{kind} {ref.id}"] = (json.loads(entry.document.render()), entry.pending)
    return shown
