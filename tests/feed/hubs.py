"""A hub by itself, on a real SQLite log, with readers whose sockets take everything and remember it."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from prometheus_client import CollectorRegistry
from starlette.requests import Request

from sync_core.domain.catalog import DOMAIN, REGISTRY
from sync_core.filters import Filter, tag
from sync_core.sse import ServerSentEvent, SSEDecoder
from sync_server.access.caller import Caller
from sync_server.access.rights import OPEN_RIGHTS, AccessTable, Rights
from sync_server.feed.connection import Blocked, Chunk
from sync_server.feed.feed import Feed
from sync_server.feed.hub import FeedSettings, Hub
from sync_server.feed.memory import Memory
from sync_server.feed.poll import Poll
from sync_server.feed.reader import Reader
from sync_server.feed.turns import Turns
from sync_server.feed.view import Sight, View
from sync_server.log.base import Bounds, EventLog
from sync_server.log.group import Committed
from sync_server.log.open import new_epoch
from sync_server.log.records import NewEvent, StoredEvent
from sync_server.log.sqlite import SQLiteLog
from sync_server.metrics import Metrics
from tests.log.writes import TENANT, commit, note, submission, wall_ms

PRINCIPAL = "anna"
TABLE = AccessTable(REGISTRY, DOMAIN)


def view_of(
    wanted: Filter = Filter(),  # noqa: B008 - a value
    *,
    client_id: str | None = None,
    principal: str = PRINCIPAL,
    rights: Rights = OPEN_RIGHTS,
) -> View:
    """What a reader asks for, of this tenant."""
    return View(Sight(wanted, rights), client_id, Caller(TENANT, principal, rights))


class Socket:
    """A connection that is never full."""

    def __init__(self) -> None:
        self.seen: list[ServerSentEvent] = []
        self._decoder = SSEDecoder()

    @property
    def last_event_id(self) -> str:
        return self._decoder.last_event_id

    def count(self, event: str) -> int:
        return [one.event for one in self.seen].count(event)

    def data(self, event: str) -> list[dict[str, Any]]:
        """What the events of that name say."""
        return [json.loads(one.data) for one in self.seen if one.event == event]

    def write(self, chunk: Chunk) -> Blocked | None:
        self.seen += self._decoder.feed(chunk.body)
        return None

    def finish(self, body: bytes) -> None:
        self.seen += self._decoder.feed(body)

    def abort(self) -> None: ...


class Bench:
    """The hub, and what a test does to it."""

    def __init__(self, event_log: EventLog, hub: Hub) -> None:
        self.event_log = event_log
        self.hub = hub

    @property
    def bounds(self) -> Bounds:
        """What the hub knows of the log."""
        return Bounds(self.hub.tail.epoch, self.hub.tail.floor, self.hub.tail.seq)

    async def write(self, count: int, *, client_id: str | None = None) -> None:
        """Into the log, beneath the hub: it is not told."""
        await commit(self.event_log, submission(*(note(client_id=client_id) for _ in range(count))))

    async def publish(self, count: int, *, client_id: str | None = None) -> None:
        """As this process's appender does, flushed at once."""
        events = (note(client_id=client_id) for _ in range(count))
        self.hub.tail.offer(await commit(self.event_log, submission(*events)))
        self.hub.flush()

    def read(self, *, cursor: int | None = None, order: str | None = None, client_id: str | None = None) -> Socket:
        """A reader from *cursor* on, or from now."""
        return self.admit(cursor=cursor, order=order, client_id=client_id)[1]

    def admit(
        self, *, cursor: int | None = None, order: str | None = None, client_id: str | None = None
    ) -> tuple[Reader, Socket]:
        """The same, with the reader itself."""
        wanted = Filter() if order is None else Filter(tags=frozenset({tag("orderID", order)}))
        return begin(self.hub, view_of(wanted, client_id=client_id), cursor=cursor)

    def sample(self, name: str, **labels: str) -> float:
        """The metric of that name; 0 if it has not been counted yet."""
        return self.hub.metrics.registry.get_sample_value(name, labels) or 0


class MemoryLog:
    """A log that is but a list: what a hub needs of one, its events as the test wants them."""

    def __init__(self) -> None:
        self.epoch = "k3f9a2c1"
        self.events: list[StoredEvent] = []

    async def bounds(self, tenants: Collection[str]) -> dict[str, Bounds]:
        return {tenant: Bounds(self.epoch, 0, len(self.events)) for tenant in tenants}

    async def read(self, tenant: str, *, after: int, limit: int) -> list[StoredEvent]:
        await asyncio.sleep(0)
        return self.events[after : after + limit]

    def append(self, *events: NewEvent) -> Committed:
        """*events* with their seqs, as an appender hands them to the feed."""
        first = len(self.events) + 1
        stored = [StoredEvent(first + n, wall_ms(), *event) for n, event in enumerate(events)]
        self.events += stored
        return Committed(self.epoch, stored, [])


class OneHub:
    """Stands for the feed where there is but one hub."""

    draining = log_lost = False

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.metrics = hub.metrics
        self.settings = hub.settings

    async def hub(self, tenant: str) -> Hub:
        assert tenant == self._hub.tenant
        return self._hub


def scope_for(query: str = "", *, caller: Caller | None = None, path: str = "/") -> dict[str, Any]:
    """The ASGI scope of a request by *caller*, or by who may see everything."""
    return {
        "type": "http", "http_version": "1.1", "method": "GET", "path": path, "headers": [],
        "query_string": query.encode(), "state": {"caller": caller or Caller(TENANT, PRINCIPAL, OPEN_RIGHTS)},
    }  # fmt: skip


async def poll_page(hub: Hub, query: str, *, caller: Caller | None = None) -> dict[str, Any]:
    """One page of the polling endpoint."""
    reply = await Poll(cast(Feed, OneHub(hub)))(Request(scope_for(query, caller=caller)))
    assert reply.status_code == 200
    return dict(json.loads(bytes(reply.body)))


@asynccontextmanager
async def bench(
    directory: Path,
    *,
    events: int = 0,
    settings: FeedSettings | None = None,
    log_class: type[SQLiteLog] = SQLiteLog,
) -> AsyncIterator[Bench]:
    """A hub on a log that holds *events* already, none of them in the window."""
    event_log = log_class(directory / "hub.db", new_epoch=new_epoch)
    await event_log.open()
    try:
        bounds = await event_log.ensure(TENANT)
        if events:
            await commit(event_log, submission(*(note() for _ in range(events))))
            bounds = await event_log.ensure(TENANT)
        async with hub_on(event_log, bounds, settings=settings) as hub:
            yield Bench(event_log, hub)
    finally:
        await event_log.aclose()


@asynccontextmanager
async def hub_on(
    event_log: EventLog | MemoryLog, bounds: Bounds, *, settings: FeedSettings | None = None
) -> AsyncIterator[Hub]:
    """A hub on *event_log*, which ends with *bounds*."""
    tasks: set[asyncio.Task[None]] = set()

    def spawn(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        return task

    try:
        yield Hub(
            TENANT,
            bounds,
            event_log=cast(EventLog, event_log),
            registry=REGISTRY,
            table=TABLE,
            settings=settings or FeedSettings(),
            memory=Memory(window_bytes=(settings or FeedSettings()).window_bytes),
            metrics=Metrics(CollectorRegistry()),
            turns=Turns(),
            spawn=spawn,
        )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def memory_hub(*, settings: FeedSettings | None = None) -> AsyncIterator[tuple[MemoryLog, Hub]]:
    """An empty log in memory and its hub."""
    event_log = MemoryLog()
    async with hub_on(event_log, Bounds(event_log.epoch, 0, 0), settings=settings) as hub:
        yield event_log, hub


def begin(hub: Hub, view: View, *, cursor: int | None = None, socket: Socket | None = None) -> tuple[Reader, Socket]:
    """A reader with *view* from *cursor* on, or from now."""
    socket = socket or Socket()
    reader = Reader(hub, socket, view=view, cursor=hub.flushed if cursor is None else cursor)
    hub.admit(reader, lifetime_s=600)
    reader.begin(b"")
    return reader, socket
