"""What log tests write and how they look at the result."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry

from sync_core.domain.catalog import REGISTRY
from sync_core.events import Delivery
from sync_core.filters import tag
from sync_server.api.submission import Item, Receipt, Submission, parse_submission
from sync_server.log.appender import DEADLINE_S, Appender
from sync_server.log.base import EventLog, TransientFailure
from sync_server.log.group import Committed, Group, Write
from sync_server.log.records import NewEvent, OutcomeKey, StoredEvent
from sync_server.metrics import Metrics

TENANT = "shop-1"
PATIENCE_S = 30.0
"""For what takes milliseconds on a quiet machine."""


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def note(text: str = "x", *, order: str | None = None, client_id: str | None = None) -> NewEvent:
    """An event that carries *text*."""
    tags = () if order is None else (tag("orderID", order),)
    return NewEvent("status_update", tags, client_id, "anna", f'"data":{json.dumps({"text": text})}}}')


def submission(
    *events: NewEvent, key: str | None = None, fingerprint: str = "f", principal: str = "anna"
) -> Submission:
    """A publish request of *events*; with *key*, the first one has it."""
    keys = () if key is None else (OutcomeKey(principal, key),)
    items = [Item(event, Delivery.EVERY, None, "", path="") for event in events]
    if keys:
        items[0] = items[0]._replace(key=keys[0], fingerprint=fingerprint)
    return Submission.of(items)


def texts(*values: str) -> Submission:
    """A publish request with one event for each text."""
    return submission(*(note(value) for value in values))


async def parsed(*events: dict[str, Any]) -> Submission:
    """A publish request as the endpoint makes it from its body."""
    body = json.dumps({"events": events}).encode()
    return Submission.of(await parse_submission(REGISTRY, body, principal="anna", client_id=None))


def text_of(event: StoredEvent) -> str:
    return str(json.loads("{" + event.tail)["data"]["text"])


async def commit(
    event_log: EventLog, *members: Write[Any], tenant: str = TENANT, now_ms: int | None = None
) -> Committed:
    """Commit *members* as one group, without an appender."""
    group = Group(members)
    deadline_s = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        try:
            return await event_log.transact(
                tenant, group, now_ms=wall_ms() if now_ms is None else now_ms, deadline_s=deadline_s
            )
        except TransientFailure:  # another writer was faster, or the tenant was just made
            if asyncio.get_running_loop().time() >= deadline_s:
                raise


def receipts(committed: Committed, member: int = 0) -> tuple[Receipt, ...]:
    """The answer to an accepted member."""
    result = committed.results[member]
    assert isinstance(result, tuple), result
    return result


async def read_all(
    event_log: EventLog, tenant: str = TENANT, *, after: int = 0, limit: int = 1000
) -> list[StoredEvent]:
    """Every event after *after*, page by page."""
    events: list[StoredEvent] = []
    while page := await event_log.read(tenant, after=after, limit=limit):
        events += page
        after = page[-1].seq
    return events


async def until(condition: Callable[[], Awaitable[bool]], *, timeout_s: float = PATIENCE_S) -> None:
    """Returns when *condition* holds."""
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.01)


def seqs(events: Sequence[StoredEvent]) -> list[int]:
    return [event.seq for event in events]


def make_appender(
    event_log: EventLog,
    *,
    on_commit: Callable[[str, Committed], None] = lambda _tenant, _committed: None,
    deadline_s: float = DEADLINE_S,
) -> Appender:
    return Appender(
        event_log, on_commit=on_commit, metrics=Metrics(CollectorRegistry()), wall_ms=wall_ms, deadline_s=deadline_s
    )
