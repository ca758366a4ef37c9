"""Rights under a live feed: who shares what is sent, and how it ends when access does."""

import asyncio
import json
from time import time
from typing import Any, cast

from starlette.types import Message

from sync_core.filters import Filter
from sync_core.sse import ServerSentEvent, SSEDecoder
from sync_server.access.caller import Caller
from sync_server.access.rights import Rights
from sync_server.feed.connection import Blocked, Chunk
from sync_server.feed.control import Goodbye
from sync_server.feed.feed import Feed
from sync_server.feed.hub import Hub
from sync_server.feed.stream import EventStream
from sync_server.log.records import NewEvent, Reach
from tests.feed.conftest import Start
from tests.feed.hubs import OneHub, Socket, begin, memory_hub, poll_page, scope_for, view_of
from tests.log.writes import TENANT
from tests.streams import eventually, stream

SEES = frozenset({"view_orders", "view_events"})
CSR = Rights(SEES, frozenset({"role:csr"}))


def user(n: int, *roles: str, bound: frozenset[str] = frozenset()) -> Rights:
    return Rights(SEES, frozenset({f"user:{n}", *roles}), bound)


def order_event(*audience: str, order: str = "A", sample: float | None = None, version: int = 1) -> NewEvent:
    entity = f"orderID={order}"
    reach = Reach("order", order, version, grants=(entity,), audience=audience, sample=sample)
    return NewEvent("order_updated", (entity,), None, "anna", f'"data":{{}},"version":{version}}}', reach)


def later(hub: Hub, by_s: float) -> None:
    """Set the hub's clock forward."""
    now_s = hub.now() + by_s
    hub.now = lambda: now_s


class KeepingSocket(Socket):
    """Keeps the very chunks that it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[Chunk] = []

    def write(self, chunk: Chunk) -> Blocked | None:
        self.chunks.append(chunk)
        return super().write(chunk)


# -- what is shared -----------------------------------------------------------------------------------


async def test_a_thousand_users_of_one_role_are_one_channel_and_sent_the_same_bytes() -> None:
    async with memory_hub() as (event_log, hub):
        sockets = [KeepingSocket() for _ in range(1000)]
        for n, socket in enumerate(sockets):
            begin(hub, view_of(principal=f"u{n}", rights=user(n, "role:csr")), socket=socket)
        assert len(hub.channels) == 1
        hub.tail.offer(event_log.append(order_event("role:csr"), order_event()))
        hub.flush()
        assert len({id(socket.chunks[-1]) for socket in sockets}) == 1
        assert all(socket.count("order_updated") == 2 for socket in sockets)


async def test_readers_of_other_rights_who_are_sent_the_same_are_sent_the_same_bytes() -> None:
    async with memory_hub() as (event_log, hub):
        sockets = [KeepingSocket() for _ in range(60)]
        for n, socket in enumerate(sockets):
            begin(hub, view_of(principal=f"u{n}", rights=user(n, "role:all", f"role:r{n % 20}")), socket=socket)
        assert len(hub.channels) == 20
        hub.tail.offer(event_log.append(order_event("role:all"), order_event("role:r7"), order_event("role:all")))
        hub.flush()
        chunks = {id(socket.chunks[-1]): socket.count("order_updated") for socket in sockets}
        assert sorted(chunks.values()) == [2, 3]


async def test_what_is_for_one_user_by_name_reaches_that_one_in_order() -> None:
    async with memory_hub() as (event_log, hub):
        sockets = [begin(hub, view_of(principal=f"u{n}", rights=user(n, "role:csr")))[1] for n in range(5)]
        hub.tail.offer(event_log.append(order_event(), order_event("user:3"), order_event("role:csr", "user:3")))
        hub.flush()
        for n, socket in enumerate(sockets):
            seen = [int(event.id.partition(".")[2]) for event in socket.seen if event.event == "order_updated"]
            assert seen == ([1, 2, 3] if n == 3 else [1, 3])


async def test_who_left_is_forgotten_by_name_as_well() -> None:
    async with memory_hub() as (event_log, hub):
        reader, _ = begin(hub, view_of(rights=user(3)))
        reader.discard()
        assert hub.channels._persons == {}
        hub.tail.offer(event_log.append(order_event("user:3")))
        hub.flush()
        assert len(hub.channels) == 0


async def test_a_long_poll_is_woken_by_what_is_for_its_caller_by_name() -> None:
    async with memory_hub() as (event_log, hub):
        caller = Caller(TENANT, "u3", user(3))
        waiting = asyncio.create_task(poll_page(hub, "after=earliest&wait=20", caller=caller))
        await eventually(lambda: len(hub.polls) == 1)
        hub.tail.offer(event_log.append(order_event("user:4")))
        hub.tail.offer(event_log.append(order_event("user:3")))
        async with asyncio.timeout(5):
            assert [event["id"] for event in (await waiting)["events"]] == [hub.cursor_text(2)]


async def test_who_is_not_drawn_for_a_sample_still_gets_its_heartbeats() -> None:
    async with memory_hub() as (event_log, hub):
        drawn, passed_over = (begin(hub, view_of(principal=name, rights=CSR)) for name in ("f0", "f2"))
        reader, socket = passed_over
        due_s = reader.channel.heartbeat_due_s
        hub.tail.offer(event_log.append(order_event("role:csr", sample=0.5)))
        hub.flush()
        assert (drawn[1].count("order_updated"), socket.count("order_updated")) == (1, 0)
        assert reader.channel.heartbeat_due_s == due_s
        reader.channel.heartbeat_due_s = 0
        hub.clock.sweep()
        assert socket.last_event_id == hub.cursor_text(1)


async def test_published_events_are_not_for_who_is_bound() -> None:
    async with memory_hub() as (event_log, hub):
        _, bound = begin(hub, view_of(rights=user(1, bound=frozenset({"orderID=A"}))))
        _, free = begin(hub, view_of(rights=CSR))
        published = NewEvent("qr_generated", ("orderID=A",), None, "anna", '"data":{}}')
        hub.tail.offer(event_log.append(published, order_event(), order_event(order="B")))
        hub.flush()
        assert (free.count("qr_generated"), free.count("order_updated")) == (1, 2)
        assert (bound.count("qr_generated"), bound.count("order_updated")) == (0, 1)


# -- how it ends --------------------------------------------------------------------------------------


async def test_dismissed_callers_are_told_and_nobody_else() -> None:
    async with memory_hub() as (event_log, hub):
        sockets = [begin(hub, view_of(principal=name, rights=CSR))[1] for name in ("anna", "anna", "bert")]
        changed = Caller(TENANT, "anna", CSR)
        assert hub.callers == {changed, Caller(TENANT, "bert", CSR)}
        hub.dismiss({changed})
        hub.tail.offer(event_log.append(order_event()))
        hub.flush()
        assert [socket.data("goodbye") for socket in sockets] == [[{"reason": "access_changed"}]] * 2 + [[]]
        assert [socket.count("order_updated") for socket in sockets] == [0, 0, 1]
        assert hub.callers == {Caller(TENANT, "bert", CSR)}


async def test_a_dismissed_reader_in_catch_up_is_sent_nothing_more() -> None:
    async with memory_hub() as (event_log, hub):
        hub.tail.offer(event_log.append(*(order_event(version=n) for n in range(1, 3000))))
        reader, socket = begin(hub, view_of(rights=CSR), cursor=0)
        await asyncio.sleep(0)
        assert not reader.live
        hub.dismiss({reader.view.caller})
        seen = len(socket.seen)
        await asyncio.sleep(0.02)
        assert len(socket.seen) == seen
        assert socket.seen[-1].event == "goodbye"


async def test_a_dismissed_long_poll_ends_at_once_without_looking_again() -> None:
    async with memory_hub() as (event_log, hub):
        caller = Caller(TENANT, "anna", CSR)
        waiting = asyncio.create_task(poll_page(hub, "after=earliest&wait=30", caller=caller))
        await eventually(lambda: len(hub.polls) == 1)
        hub.dismiss({caller})
        hub.tail.offer(event_log.append(order_event()))
        async with asyncio.timeout(5):
            assert (await waiting)["events"] == []
        assert not hub.polls


async def test_a_reader_whose_time_is_over_is_told_why() -> None:
    async with memory_hub() as (_, hub):
        readers = [begin(hub, view_of(rights=CSR)) for _ in range(2)]
        hub.clock.forget(readers[0][0])
        hub.clock.admit(readers[0][0], lifetime_s=0.1, farewell=Goodbye.TOKEN_EXPIRED)
        later(hub, 1.2)
        hub.clock.sweep()
        assert [socket.data("goodbye") for _, socket in readers] == [[{"reason": "token_expired"}], []]


class Served:
    """One run of the event stream's endpoint, without a socket."""

    def __init__(self, hub: Hub, caller: Caller, query: str = "", **scope: Any) -> None:
        self.seen: list[ServerSentEvent] = []
        self._decoder = SSEDecoder()
        self._gone = asyncio.Event()
        endpoint = EventStream(cast(Feed, OneHub(hub)))
        scope = scope_for(query, caller=caller) | scope
        self.task = asyncio.create_task(endpoint(scope, self._receive, self._send, begin=self._send))

    @property
    def retry_ms(self) -> int:
        return self._decoder.retry_ms or 0

    async def _receive(self) -> Message:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.seen += self._decoder.feed(message.get("body", b""))
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._gone.set()

    async def said(self, event: str) -> dict[str, Any]:
        """What the first event of that name said."""
        await eventually(lambda: any(one.event == event for one in self.seen))
        return dict(json.loads(next(one.data for one in self.seen if one.event == event)))

    async def end(self) -> None:
        self._gone.set()
        await self.task


async def test_a_stream_ends_with_its_callers_token() -> None:
    async with memory_hub() as (_, hub):
        served = Served(hub, Caller(TENANT, "anna", CSR, expires_ms=int(time() * 1000) + 1200))
        connected = await served.said("connected")
        assert 0 < connected["maxAgeSeconds"] <= 1.2
        later(hub, 2.5)
        hub.clock.sweep()
        assert await served.said("goodbye") == {"reason": "token_expired"}
        assert 100 <= served.retry_ms <= 1000
        await served.task
        assert not hub.readers


async def test_a_long_poll_ends_with_its_callers_token() -> None:
    async with memory_hub() as (_, hub):
        caller = Caller(TENANT, "anna", CSR, expires_ms=int(time() * 1000) + 200)
        async with asyncio.timeout(5):
            assert (await poll_page(hub, "wait=30", caller=caller))["events"] == []


async def test_connected_says_what_access_it_is_and_reset_where_the_state_is() -> None:
    async with memory_hub() as (_, hub):
        served = Served(hub, Caller(TENANT, "anna", CSR), "lastEventId=garbage", root_path="/shop")
        assert (await served.said("connected"))["access"] == CSR.digest
        assert (await served.said("reset"))["snapshot"] == "/shop/api/v1/sync/snapshot"
        await served.end()


async def test_a_reset_in_mid_stream_says_where_the_state_is_too() -> None:
    async with memory_hub() as (event_log, hub):
        served = Served(hub, Caller(TENANT, "anna", CSR), root_path="/shop")
        await served.said("caught_up")
        event_log.epoch = "00000000"
        await hub.tail.refresh()
        reset = await served.said("reset")
        assert (reset["reason"], reset["snapshot"]) == ("epoch", "/shop/api/v1/sync/snapshot")
        await served.end()


async def test_over_http_everybody_may_see_everything(start_sqlite: Start) -> None:
    async with start_sqlite() as served, stream(served.port, lastEventId="garbage") as opened:
        assert json.loads((await opened.until("connected")).data)["access"] == "open"
        assert json.loads((await opened.until("reset")).data)["snapshot"] == "/api/v1/sync/snapshot"


async def test_what_is_for_somebody_by_name_who_did_not_ask_for_it_is_no_work() -> None:
    async with memory_hub() as (event_log, hub):
        begin(hub, view_of(Filter(tags=frozenset({"orderID=B"})), rights=user(3)))
        hub.tail.offer(event_log.append(order_event("user:3")))
        assert not any(channel.waiting for channel in hub.channels)
