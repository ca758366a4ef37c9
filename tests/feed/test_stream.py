"""The event stream over a real socket, on both stores."""

import asyncio
import json
from typing import Any, cast

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response

from sync_core.paths import STREAM_PATH
from sync_server.api.health import Health
from sync_server.api.publish import Publish
from sync_server.asgi import Application
from sync_server.feed.feed import Feed
from sync_server.feed.hub import Hub
from sync_server.log.base import EventLog
from sync_server.log.open import new_epoch
from tests.feed.conftest import Start
from tests.serving import Served, stage_change
from tests.streams import Stream, eventually, seqs, stream


def data(event: Any) -> dict[str, Any]:
    return dict(json.loads(event.data))


async def read_live(opened: Stream) -> None:
    await opened.until("caught_up")


async def test_head_opening_and_live_events(start: Start) -> None:
    async with start() as served, stream(served.port, clientID="till-3#1") as opened:
        assert opened.status == 200
        assert opened.headers["content-type"].startswith("text/event-stream")
        assert opened.headers["cache-control"] == "no-store, no-transform"
        assert opened.headers["x-accel-buffering"] == "no"
        assert opened.headers["x-content-type-options"] == "nosniff"
        assert opened.headers["x-request-id"]
        connected = await opened.next()
        assert connected is not None
        assert connected.event == "connected"
        assert data(connected)["clientId"] == "till-3#1"
        assert data(connected)["resume"] == "now"
        assert data(connected)["cursor"] == connected.id == data(connected)["head"]
        assert data(connected)["protocol"] == 1
        assert 2000 <= (opened.decoder.retry_ms or 0) <= 6000
        caught_up = await opened.next()
        assert caught_up is not None
        assert (caught_up.event, caught_up.id) == ("caught_up", connected.id)
        (event_id,) = await served.publish(stage_change(1))
        event = await opened.next()
        assert event is not None
        assert event.event == "stage_change"
        assert event.id == event_id
        assert data(event)["id"] == event_id
        assert data(event)["orderID"] == "ORDER-001"
        assert data(event)["data"]["n"] == 1


async def test_the_opening_names_configured_types(start_sqlite: Start) -> None:
    door = {"name": "door_opened"}
    async with start_sqlite(events={"custom": [door, "lamp_lit"]}) as served, stream(served.port) as opened:
        assert data(await opened.until("connected"))["customTypes"] == ["door_opened", "lamp_lit"]
    async with start_sqlite() as served, stream(served.port) as opened:
        assert "customTypes" not in data(await opened.until("connected"))


async def test_replays_after_the_cursor_then_goes_live(start: Start) -> None:
    async with start() as served:
        ids = await served.stages(50)
        async with stream(served.port, last_event_id=str(ids[19])) as opened:
            await read_live(opened)
            assert seqs(opened.envelopes) == list(range(21, 51))
            await served.stages(1, first=50)
            await opened.until("stage_change")
            assert seqs(opened.envelopes) == list(range(21, 52))


async def test_header_beats_parameter(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        ids = await served.stages(3)
        async with stream(served.port, last_event_id=str(ids[1]), lastEventId=str(ids[0])) as opened:
            await read_live(opened)
            assert seqs(opened.envelopes) == [3]


async def test_earliest_replays_everything_from_log_and_window(start: Start) -> None:
    async with start() as served:
        await served.stages(2500)
    async with start() as served:  # a new process's window is empty
        await served.stages(700, first=2500)
        async with stream(served.port, lastEventId="earliest") as opened:
            await read_live(opened)
            assert seqs(opened.envelopes) == list(range(1, 3201))
            assert [e["data"]["n"] for e in opened.envelopes] == list(range(3200))


@pytest.mark.parametrize(
    ("cursor", "reason"),
    [
        ("garbage", "malformed"),
        ("k3f9a2c1.-1", "malformed"),
        ("k3f9a2c1.00", "malformed"),
        ("zzzzzzzz.1", "epoch"),
    ],
)
async def test_a_cursor_that_leads_nowhere_is_reset(start: Start, cursor: str, reason: str) -> None:
    async with start() as served:
        ids = await served.stages(5)
        async with stream(served.port, last_event_id=cursor) as opened:
            reset = await opened.until("reset")
            assert opened.status == 200
            assert data(opened.seen[0])["resume"] == "reset"
            assert data(reset)["reason"] == reason
            assert reset.id == data(reset)["head"] == ids[-1]
            await read_live(opened)
            await served.stages(1)
            await opened.until("stage_change")
            assert seqs(opened.envelopes) == [6]


async def test_a_cursor_beyond_head_is_reset_only_after_looking_for_two_seconds(start: Start) -> None:
    async with start() as served:
        ids = await served.stages(5)
        began = asyncio.get_running_loop().time()
        async with stream(served.port, last_event_id=f"{str(ids[0])[:8]}.99") as opened:
            assert data(await opened.until("reset"))["reason"] == "future"
        assert asyncio.get_running_loop().time() - began >= 1.9


async def test_a_cursor_below_the_floor_is_reset(start: Start) -> None:
    async with start() as served:
        ids = await served.stages(50)
        event_log = served.application.event_log
        await event_log.trim("default", 30)
        await (await served.hub()).tail.refresh()
        async with stream(served.port, last_event_id=str(ids[10])) as opened:
            reset = data(await opened.until("reset"))
            assert (reset["reason"], reset["floor"], reset["head"]) == ("expired", ids[29], ids[49])
        async with stream(served.port, last_event_id=str(ids[29])) as opened:  # the floor itself is a good cursor
            await read_live(opened)
            assert seqs(opened.envelopes) == list(range(31, 51))


async def test_earliest_is_the_floor_even_before_the_hub_knows_it(start: Start) -> None:
    async with start() as served:
        await served.stages(20)
    async with start() as served:
        await served.hub()
        await served.application.event_log.trim("default", 15)
        async with stream(served.port, lastEventId="earliest") as opened:
            await read_live(opened)
            assert [e.event for e in opened.seen if e.event != "stage_change"] == ["connected", "caught_up"]
            assert seqs(opened.envelopes) == [16, 17, 18, 19, 20]


async def test_a_floor_that_overtakes_a_reader_in_catch_up_resets_it_once(start: Start) -> None:
    async with start() as served:
        await served.stages(3000)
    async with start() as served:
        hub = await served.hub()
        await served.application.event_log.trim("default", 2000)  # unknown to the hub as yet
        assert hub.tail.floor == 0
        async with stream(served.port, lastEventId=hub.cursor_text(0)) as opened:
            reset = await opened.until("reset")
            assert data(reset)["reason"] == "expired"
            assert data(reset)["head"] == hub.cursor_text(3000)
            await read_live(opened)
            await served.stages(1, first=3000)
            await opened.until("stage_change")
            assert [e.event for e in opened.seen].count("reset") == 1
            assert seqs(opened.envelopes) == [3001]


async def test_a_new_epoch_resets_live_readers(start: Start) -> None:
    async with start() as served:
        await served.stages(5)
        async with stream(served.port) as opened:
            await read_live(opened)
            await served.application.event_log.new_epoch("default", new_epoch())
            reset = await opened.until("reset")
            assert data(reset)["reason"] == "epoch"
            (event_id,) = await served.stages(1)
            event = await opened.until("stage_change")
            assert event.id == event_id == f"{data(reset)['head'][:8]}.6"


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"orderID": "A"}, [0, 3]),
        ({"orderID": "A,B"}, [0, 1, 3]),
        ({"orderID": "A", "bayID": "7"}, [0, 2, 3]),
        ({"eventTypes": "qr_generated"}, [2, 3]),
        ({"eventTypes": "qr_generated", "orderID": "A,B"}, [3]),
        ({}, [0, 1, 2, 3]),
    ],
)
async def test_filters_live_and_replayed_alike(
    start_sqlite: Start, parameters: dict[str, str], expected: list[int]
) -> None:
    events = [
        stage_change(0, order="A"),
        stage_change(1, order="B"),
        {"eventType": "qr_generated", "data": {"n": 2}, "bayID": "7"},
        {"eventType": "qr_generated", "data": {"n": 3}, "orderID": "A", "bayID": "7"},
    ]
    async with start_sqlite() as served, stream(served.port, **parameters) as live:
        await read_live(live)
        await served.publish(*events)
        while len(live.envelopes) < len(expected):
            await live.next()
        async with stream(served.port, lastEventId="earliest", **parameters) as replayed:
            await read_live(replayed)
        assert [e["data"]["n"] for e in live.envelopes] == expected
        assert live.envelopes == replayed.envelopes


async def test_echo_is_hidden_live_and_replayed_and_the_cursor_moves_on(start: Start) -> None:
    async with start(feed={"heartbeat_s": 0.3}) as served, stream(served.port, clientID="till-1") as mine:
        async with stream(served.port, clientID="till-2") as other:
            await read_live(mine)
            await read_live(other)
            await served.publish(stage_change(0), client_id="till-1")
            (last,) = await served.publish(stage_change(1, clientID="till-1"))
            await other.until(lambda e: e.id == last)
            heartbeat = await mine.until(lambda e: e.event == "heartbeat" and e.id == last)
            assert data(heartbeat)["head"] == last
            assert mine.envelopes == []
            assert len(other.envelopes) == 2
        async with stream(served.port, lastEventId="earliest", clientID="till-1") as again:
            caught_up = await again.until("caught_up")
            assert again.envelopes == []
            assert caught_up.id == last


async def test_hidden_events_move_the_cursor_by_a_block_of_id_alone(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        async with stream(served.port, orderID="nobody") as opened:
            await read_live(opened)
            ids = await served.stages(1500)
            while opened.decoder.last_event_id != ids[-1]:
                async with asyncio.timeout(10):
                    opened.decoder.feed(await opened._chunk())
            assert opened.envelopes == []
        # and the reconnect replays nothing
        async with stream(served.port, orderID="nobody", last_event_id=opened.decoder.last_event_id) as opened:
            assert data(await opened.until("connected"))["resume"] == "resumed"
            await read_live(opened)
            assert [e.event for e in opened.seen] == ["connected", "caught_up"]


async def test_heartbeats_come_when_nothing_else_does(start: Start) -> None:
    async with start(feed={"heartbeat_s": 0.5}) as served, stream(served.port) as opened:
        await served.stages(1)
        first = await opened.until("heartbeat", timeout_s=5)
        began = asyncio.get_running_loop().time()
        await opened.until("heartbeat", timeout_s=5)
        assert asyncio.get_running_loop().time() - began >= 0.4
        assert data(first)["head"] == first.id
        assert data(first)["tailAgeMs"] < 3000
        assert data(first)["timestamp"].endswith("Z")


async def test_maximum_age_ends_with_a_planned_goodbye(start_sqlite: Start) -> None:
    async with start_sqlite(feed={"max_age_s": 1}) as served, stream(served.port) as opened:
        assert 0.8 <= data(await opened.until("connected"))["maxAgeSeconds"] <= 1.2
        goodbye = await opened.until("goodbye", timeout_s=5)
        assert data(goodbye) == {"reason": "max_age"}
        assert 100 <= (opened.decoder.retry_ms or 0) <= 1000
        await opened.until_closed()
        await eventually(lambda: served.application.feed.reader_count == 0)


async def test_head_request_answers_headers_only(start_sqlite: Start) -> None:
    async with start_sqlite() as served, stream(served.port, method="HEAD") as opened:
        assert opened.status == 200
        assert opened.headers["content-type"].startswith("text/event-stream")
        assert served.application.feed.reader_count == 0


class Silent:
    """Stands for the other endpoints."""

    async def alive(self, http: Request) -> Response:
        return Response()

    ready = metrics = __call__ = alive


class BrokenFeed:
    """Stands for a feed with a fault that nobody thought of."""

    draining = log_lost = False

    async def hub(self, tenant: str) -> Hub:
        raise RuntimeError("hunter2")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_fault_before_the_head_is_a_500_with_an_id(method: str) -> None:
    application = Application(
        cast(EventLog, None), cast(Feed, BrokenFeed()), cast(Publish, Silent()), cast(Health, Silent())
    )
    transport = httpx2.ASGITransport(application)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        reply = await client.request(method, STREAM_PATH, headers={"X-Request-ID": "abc"})
    assert reply.status_code == 500
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["x-request-id"] == "abc"
    assert "hunter2" not in reply.text


@pytest.mark.parametrize(
    "parameters",
    [
        {"orderId": "A"},
        {"orderID": ""},
        {"orderID": "a\nb"},
        {"orderID": ",".join(map(str, range(201)))},
        {"eventTypes": "a b"},
        {"clientID": "a\nb"},
    ],
)
async def test_a_query_that_cannot_be_understood_is_400(start_sqlite: Start, parameters: dict[str, str]) -> None:
    async with start_sqlite() as served, stream(served.port, **parameters) as opened:
        assert opened.status == 400
        assert opened.headers["content-type"] == "application/problem+json"
        assert json.loads(await opened.body())["errors"]


LATEST = {"custom": [{"name": "position", "delivery": "latest", "entity": "bayID"}]}


async def test_latest_delivery_drops_what_is_superseded_in_the_same_flush(start: Start) -> None:
    def position(n: int, bay: str) -> dict[str, Any]:
        return {"eventType": "position", "data": {"n": n}, "bayID": bay}

    batch = [position(0, "1"), position(1, "2"), stage_change(2), position(3, "1"), position(4, "1")]
    async with start(events=LATEST) as served, stream(served.port) as live:
        await read_live(live)
        await served.publish(*batch)
        await live.until(lambda e: e.event == "position" and json.loads(e.data)["data"]["n"] == 4)
        async with stream(served.port, lastEventId="earliest") as replayed:
            await read_live(replayed)
        for opened in (live, replayed):
            assert [e["data"]["n"] for e in opened.envelopes] == [1, 2, 4]
            assert seqs(opened.envelopes) == [2, 3, 5]


async def test_an_own_event_takes_no_place_of_a_latest_one(start_sqlite: Start) -> None:
    def position(n: int, client_id: str) -> dict[str, Any]:
        return {"eventType": "position", "data": {"n": n}, "bayID": "1", "clientID": client_id}

    batch = [position(0, "till-2"), position(1, "till-2"), position(2, "till-1"), stage_change(3)]
    async with start_sqlite(events=LATEST) as served, stream(served.port, clientID="till-1") as live:
        await read_live(live)
        await served.publish(*batch)
        await live.until("stage_change")
        async with stream(served.port, lastEventId="earliest", clientID="till-1") as replayed:
            await read_live(replayed)
        assert [e["data"]["n"] for e in live.envelopes] == [1, 3]
        assert live.envelopes == replayed.envelopes


async def test_ephemeral_events_have_no_id_and_are_not_replayed(start: Start) -> None:
    events = {"custom": [{"name": "typing", "delivery": "ephemeral"}]}
    async with start(events=events) as served, stream(served.port, orderID="A") as opened:
        await read_live(opened)
        (before,) = await served.publish(stage_change(0, order="A"))
        assert await served.publish({"eventType": "typing", "data": {}, "orderID": "A"}) == [None]
        event = await opened.until("typing")
        assert "id" not in data(event)
        assert event.id == before  # the decoder keeps the last id it saw
        async with stream(served.port, lastEventId="earliest") as replayed:
            await read_live(replayed)
            assert seqs(replayed.envelopes) == [1]


async def test_a_disconnect_is_noticed_and_forgotten(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        async with stream(served.port, orderID="A") as opened:
            await read_live(opened)
            assert served.application.feed.reader_count == 1
        hub = await served.hub()
        await eventually(lambda: served.application.feed.reader_count == 0 and len(hub.channels) == 0)


async def publish_steadily(served: Served, count: int, *, order: str) -> None:
    for n in range(count):
        await served.publish(stage_change(n, order=order))


async def test_events_published_while_joining_are_neither_lost_nor_doubled(start: Start) -> None:
    async with start() as served:
        await served.stages(2000)
        publishing = asyncio.create_task(publish_steadily(served, 150, order="B"))

        async def join(cursor: str) -> list[int]:
            async with stream(served.port, lastEventId=cursor) as opened:
                while not opened.envelopes or seqs(opened.envelopes[-1:]) != [2150]:
                    await opened.next()
                return seqs(opened.envelopes)

        hub = await served.hub()
        cursors = [hub.cursor_text(n) for n in (0, 1, 511, 512, 513, 1999, 2000)] * 3
        results = await asyncio.gather(*map(join, cursors))
        await publishing
        for cursor, result in zip(cursors, results, strict=True):
            assert result == list(range(int(cursor[9:]) + 1, 2151))
