"""The feed over a WebSocket, on both stores."""

import asyncio

import pytest

from sync_server.feed.control import Goodbye
from sync_server.log.open import new_epoch
from tests.feed.conftest import Start
from tests.serving import stage_change
from tests.sockets.client import Client, refused, socket
from tests.streams import eventually, seqs, stream


async def live(client: Client) -> None:
    await client.until("caught_up")


async def test_opening_and_live_events(start: Start) -> None:
    async with start() as served, socket(served, clientID="till-3#1") as client:
        connected = await client.next()
        assert connected["eventType"] == "connected"
        data = connected["data"]
        assert (data["clientId"], data["resume"], data["protocol"]) == ("till-3#1", "now", 1)
        assert connected["id"] == data["cursor"] == data["head"]
        assert 2000 <= data["retryMs"] <= 6000
        assert await client.next() == {"id": connected["id"], "eventType": "caught_up", "data": {}}
        (event_id,) = await served.publish(stage_change(1, data={"newStage": "مغسول", "n": 1}))
        event = await client.next()
        assert event["id"] == event_id
        assert event["eventType"] == "stage_change"
        assert event["orderID"] == "ORDER-001"
        assert event["data"] == {"newStage": "مغسول", "n": 1}
        assert event["timestamp"].endswith("Z")


async def test_resumes_after_its_cursor_from_log_and_window(start: Start) -> None:
    async with start() as served:
        await served.stages(2500)
    async with start() as served:  # a new process's window is empty
        await served.stages(300, first=2500)
        hub = await served.hub()
        async with socket(served, lastEventId=hub.cursor_text(17)) as client:
            await live(client)
            assert client.seen[0]["data"]["resume"] == "resumed"
            assert seqs(client.envelopes) == list(range(18, 2801))
            await served.stages(1, first=2800)
            await client.until("stage_change")
            assert seqs(client.envelopes)[-2:] == [2800, 2801]
            assert client.cursor == hub.cursor_text(2801)


@pytest.mark.parametrize(("cursor", "reason"), [("garbage", "malformed"), ("zzzzzzzz.1", "epoch")])
async def test_a_cursor_that_leads_nowhere_is_reset(start: Start, cursor: str, reason: str) -> None:
    async with start() as served:
        ids = await served.stages(5)
        async with socket(served, lastEventId=cursor) as client:
            await live(client)
            reset = client.seen[1]
            assert (reset["eventType"], reset["data"]["reason"]) == ("reset", reason)
            assert reset["id"] == reset["data"]["head"] == ids[-1]
            await served.stages(1)
            await client.until("stage_change")
            assert seqs(client.envelopes) == [6]


async def test_a_new_epoch_resets_live_readers(start: Start) -> None:
    async with start() as served, socket(served) as client:
        await live(client)
        await served.application.event_log.new_epoch("default", new_epoch())
        assert (await client.until("reset"))["data"]["reason"] == "epoch"
        (event_id,) = await served.stages(1)
        assert (await client.until("stage_change"))["id"] == event_id


async def test_filter_and_echo_are_those_of_the_stream(start: Start) -> None:
    wanted = {"clientID": "till-1", "orderID": "A,B", "eventTypes": "stage_change"}
    async with start(feed={"heartbeat_s": 0.3}) as served, socket(served, **wanted) as client:
        await live(client)
        await served.publish(stage_change(0, order="A"), client_id="till-1")
        await served.publish(stage_change(1, order="C"))
        await served.publish({"eventType": "qr_generated", "data": {}, "orderID": "A"})
        await served.publish(stage_change(3, order="B"))
        (last,) = await served.publish(stage_change(4, order="C"))
        # What is hidden moves the cursor on.
        await client.until(lambda message: message["eventType"] == "heartbeat" and message["id"] == last)
        assert seqs(client.envelopes) == [4]


async def test_hidden_events_move_the_cursor_by_an_id_alone(start_sqlite: Start) -> None:
    async with start_sqlite() as served, socket(served, orderID="nobody") as client:
        await live(client)
        ids = await served.stages(1500)
        message = await client.until(lambda message: "eventType" not in message)
        assert message == {"id": ids[-1]}


async def test_maximum_age_ends_with_a_planned_goodbye(start_sqlite: Start) -> None:
    async with start_sqlite(feed={"max_age_s": 1}) as served, socket(served) as client:
        assert await client.end() == (1001, "")
        goodbye = client.seen[-1]
        assert goodbye["eventType"] == "goodbye"
        assert goodbye["data"]["reason"] == "max_age"
        assert 100 <= goodbye["data"]["retryMs"] <= 1000
        await eventually(lambda: served.application.feed.reader_count == 0)


async def test_every_reason_to_leave_is_told(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        for reason in Goodbye:
            async with socket(served) as client:
                await live(client)
                (reader,) = (await served.hub()).readers
                reader.close(reason, retry_ms=100)
                assert await client.end() == (1001, "")
                assert client.seen[-1]["data"]["reason"] == reason.value


async def test_ping_is_answered_and_nothing_else_understood(start_sqlite: Start) -> None:
    async with start_sqlite() as served, socket(served) as client:
        await live(client)
        assert (await client.ask({"eventType": "ping"}))["eventType"] == "pong"
        for wrong in ({"eventType": "publish"}, {"type": "ping"}, [], "{", '"ping"', b"ping", '{"eventType": NaN}'):
            error = await client.ask(wrong)
            assert (error["eventType"], error["code"]) == ("error", "INVALID_MESSAGE")
        await served.stages(1)
        await client.until("stage_change")


async def test_a_disconnect_is_noticed_and_forgotten(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        async with socket(served, orderID="A") as client:
            await live(client)
            assert served.application.feed.reader_count == 1
            client.connection.transport.abort()
        hub = await served.hub()
        await eventually(lambda: served.application.feed.reader_count == 0 and len(hub.channels) == 0)
        registry = served.application.feed.metrics.registry
        assert registry.get_sample_value("sync_sockets", {"path": "/api/v1/sync/ws"}) == 0


@pytest.mark.parametrize(
    ("parameters", "status"), [({"orderId": "A"}, 400), ({"eventTypes": "a b"}, 400), ({"orderID": "x" * 9000}, 414)]
)
async def test_a_handshake_that_cannot_be_served_gets_its_status(
    start_sqlite: Start, parameters: dict[str, str], status: int
) -> None:
    async with start_sqlite() as served:
        if status == 414:  # said by the library, in plain text
            with pytest.raises(ValueError, match="Expecting value"):
                await refused(served, **parameters)
        else:
            assert (await refused(served, **parameters))[1]["status"] == status
        assert (await refused(served, "/api/v1/sync/events"))[0] == 404


async def test_a_draining_server_takes_no_sockets(start_sqlite: Start) -> None:
    async with start_sqlite() as served, socket(served) as client:
        await live(client)
        await served.application.feed.drain(0)
        assert await client.end() == (1001, "")
        assert client.seen[-1]["data"]["reason"] == "shutdown"
        assert (await refused(served))[0] == 503


async def test_a_slow_reader_is_a_cursor_and_gets_all_of_it(start: Start) -> None:
    text = "x" * 5000
    async with start() as served, socket(served, max_queue=1) as client:
        await live(client)
        hub = await served.hub()
        (reader,) = hub.readers
        for begin in range(0, 4000, 200):
            await served.publish(*(stage_change(n, data={"newStage": text, "n": n}) for n in range(begin, begin + 200)))
        await eventually(lambda: not reader.live)
        assert hub.metrics.registry.get_sample_value("sync_readers_behind") == 1
        await client.until(lambda message: message.get("id") == hub.cursor_text(4000))
        assert seqs(client.envelopes) == list(range(1, 4001))
        await eventually(lambda: reader.live)


async def test_who_does_not_read_at_all_is_cut(start_sqlite: Start) -> None:
    text = "x" * 100_000
    async with start_sqlite(feed={"slow_close_s": 0.3}) as served, socket(served, max_queue=1) as client:
        await live(client)
        for n in range(100):
            await served.publish(stage_change(n, data={"newStage": text}))
        await eventually(lambda: served.application.feed.reader_count == 0)
        assert served.application.feed.metrics.registry.get_sample_value("sync_slow_closes_total") == 1


async def test_streams_and_sockets_share_nothing_but_the_hub(start: Start) -> None:
    """The very same envelopes in the same order, whichever way."""
    async with start() as served, socket(served, orderID="A") as first, stream(served.port, orderID="A") as second:
        await live(first)
        await second.until("caught_up")
        hub = await served.hub()
        assert len(hub.channels) == 2
        for n in range(20):
            await served.publish(stage_change(n, order="A"), stage_change(n, order="B"))
        async with asyncio.timeout(10):
            while len(first.envelopes) < 20:
                await first.next()
            while len(second.envelopes) < 20:
                await second.next()
        assert first.envelopes == second.envelopes
