"""From the cache to the program: order, repetition, parking, bounded memory."""

import asyncio
import contextlib
import resource
from typing import Any

import pytest

from e2e.client.harness import Shop, eventually, numbers
from sync_client import ConfigurationError, Event, HandlerPolicy, State, SyncClient, Transaction
from sync_client.backoff import Backoff

QUICK = HandlerPolicy(retries=2, backoff=Backoff(base_s=0.01, cap_s=0.02))


async def test_a_handler_that_raises_is_called_again_and_then_the_event_is_parked(shop: Shop) -> None:
    client = shop.client(handler_policy=QUICK)
    calls: list[int] = []
    done: list[int] = []

    @client.on("stage_change")
    async def picky(event: Event) -> None:
        n = event.data["n"]
        calls.append(n)
        if n == 1 or (n == 2 and calls.count(2) < 3):
            raise ValueError(n)
        done.append(n)

    async with client:
        await client.wait_for(State.CONNECTED, timeout_s=10)
        await shop.publish(4)
        await eventually(lambda: done == [0, 2, 3])
        assert calls == [0, 1, 1, 1, 2, 2, 2, 3]
        assert (client.metrics.parked, client.metrics.handler_errors) == (1, 5)
        assert [event.data["n"] for event in await client.parked()] == [1]
    again = shop.client(handler_policy=QUICK)
    got: list[Event] = []
    again.on()(got.append)
    async with again:
        await again.wait_for(State.CONNECTED, timeout_s=10)
        await shop.publish(1)
        await eventually(lambda: got)
        assert numbers(got) == [4]
        assert len(await again.parked()) == 1


async def test_handlers_get_what_they_asked_for(shop: Shop) -> None:
    client = shop.client()
    heard: list[tuple[Any, ...]] = []
    client.on_order("ORDER-001")(lambda e: heard.append(("order", e.data["n"])))
    client.on_order("ORDER-002")(lambda e: heard.append(("other order",)))
    client.on("payment_update")(lambda e: heard.append(("payment",)))
    client.on_stage_change("ORDER-001")(lambda e, old, new: heard.append(("stage", old, new)))
    client.on_stage_change("ORDER-002")(lambda e, old, new: heard.append(("other stage",)))
    client.on("connected")(lambda e: heard.append(("connected", e.data["protocol"])))
    async with client:
        await eventually(lambda: heard)
        await shop.publish(1, data={"previousStage": "empty", "newStage": "initiated", "n": 0})
        await eventually(lambda: len(heard) == 3)
    assert heard == [("connected", 1), ("stage", "empty", "initiated"), ("order", 0)]


async def test_heartbeats_reach_handlers_that_ask_for_them_by_name(shop: Shop) -> None:
    client = shop.client()
    heard: list[Event] = []
    client.on("heartbeat")(heard.append)
    async with client:
        await eventually(lambda: heard)
        assert heard[0].id is None
        assert "tailAgeMs" in heard[0].data
        assert (await client.export())["events"] == []


async def test_a_dashboard_refreshes_once_for_a_burst(shop: Shop) -> None:
    client = shop.client()
    refreshes: list[int] = []

    @client.on_dashboard_change("stage_change", debounce_s=0.2)
    async def refresh() -> None:
        refreshes.append(1)

    async with client:
        await client.wait_for(State.CONNECTED, timeout_s=10)
        for _ in range(10):
            await shop.publish(5)
        await eventually(lambda: refreshes)
        await eventually(lambda: client.metrics.delivered == 50)
        await asyncio.sleep(0.3)
        assert 1 <= len(refreshes) <= 3


async def test_a_refresh_that_is_registered_after_the_start_counts_its_errors(shop: Shop) -> None:
    async with shop.following() as (client, _):

        @client.on_dashboard_change(debounce_s=0.01)
        def refresh() -> None:
            raise ValueError

        await shop.publish(1)
        await eventually(lambda: client.metrics.handler_errors == 1)


async def test_an_iterator_gets_everything_and_what_it_did_not_finish_comes_again(shop: Shop) -> None:
    async with shop.client() as client:
        await client.wait_for(State.CONNECTED, timeout_s=10)
        await shop.publish(10)
        got = []
        async for event in client.events():
            got.append(event)
            if len(got) == 4:
                break
        async for event in client.events():
            got.append(event)
            if len(got) == 8:
                break
        assert numbers(got) == [0, 1, 2, 3, 3, 4, 5, 6]
    async with shop.client() as client:
        rest = []
        async for event in client.events():
            rest.append(event)
            if event.data["n"] == 9:
                break
        assert numbers(rest) == [6, 7, 8, 9]


async def test_an_iterator_beside_a_transactional_handler_misses_nothing_over_a_restart(shop: Shop) -> None:
    def till() -> SyncClient:
        client = shop.client()

        @client.on("stage_change", transactional=True)
        def book(event: Event, tx: Transaction) -> None:
            tx.put("count", tx.get("count", 0) + 1)

        return client

    async with till() as client:
        events = client.events()
        await client.wait_for(State.CONNECTED, timeout_s=10)
        await shop.publish(10)
        first = [await anext(events) for _ in range(5)]
    async with till() as client, asyncio.timeout(10):
        events = client.events()
        rest = [await anext(events) for _ in range(6)]
        events.close()
        await eventually(lambda: client.idle)
        assert await client.value("count") == 10
    assert (numbers(first), numbers(rest)) == ([0, 1, 2, 3, 4], [4, 5, 6, 7, 8, 9])


async def test_an_iterator_made_before_the_start_shares_what_an_earlier_run_left_with_the_handlers(shop: Shop) -> None:
    async with shop.client() as client:  # nobody takes anything
        await client.wait_for(State.CONNECTED, timeout_s=10)
        await shop.publish(5)
        await eventually(lambda: client.health.queue_depth == 5)
    client = shop.client()
    got: list[Event] = []
    client.on()(got.append)
    events = client.events()
    async with client, asyncio.timeout(10):
        await client.wait_for(State.CONNECTED)
        await eventually(lambda: len(got) == 5)
        assert numbers([await anext(events) for _ in range(5)]) == [0, 1, 2, 3, 4]


async def test_leaving_an_iterator_repeats_no_handlers_call(shop: Shop) -> None:
    async with shop.following() as (client, got):
        events = client.events()
        await shop.publish(20)
        async for event in events:
            if event.data["n"] == 3:
                break
        del events
        await eventually(lambda: len(got) == 20 and client.idle)
        assert numbers(got) == shop.sent


async def test_a_failing_handler_keeps_nobody_else_from_the_event(shop: Shop) -> None:
    client = shop.client(handler_policy=QUICK)
    good: list[Event] = []

    @client.on("stage_change")
    def fails(event: Event) -> None:
        if event.data["n"] == 1:
            raise ValueError

    @client.on("stage_change", transactional=True)
    def book(event: Event, tx: Transaction) -> None:
        tx.put("count", tx.get("count", 0) + 1)

    client.on()(good.append)
    async with client:
        await client.wait_for(State.CONNECTED, timeout_s=10)
        await shop.publish(3)
        await eventually(lambda: len(good) == 3 and client.idle)
        assert numbers(good) == [0, 1, 2]
        assert await client.value("count") == 3
        assert numbers(await client.parked()) == [1]
        assert (client.metrics.parked, client.metrics.handler_errors) == (1, 3)


async def test_iterators_end_when_the_client_closes(shop: Shop) -> None:
    client = shop.client()
    async with client:
        events = client.events()
        waiting = asyncio.create_task(anext(events, None))
        await asyncio.sleep(0)
    assert await asyncio.wait_for(waiting, 2) is None


async def test_events_wait_until_somebody_takes_them(shop: Shop) -> None:
    async with shop.client() as client:
        await client.wait_for(State.CONNECTED, timeout_s=10)
        await shop.publish(5)
        await eventually(lambda: client.health.queue_depth == 5)
        got: list[Event] = []
        client.on()(got.append)
        await eventually(lambda: len(got) == 5)


async def test_a_transactional_handler_counts_exactly_once_though_it_raises_in_between(shop: Shop) -> None:
    client = shop.client(handler_policy=QUICK)
    failing = {3, 5}

    @client.on("stage_change", transactional=True)
    def count(event: Event, tx: Transaction) -> None:
        tx.put("count", tx.get("count", 0) + 1)
        if event.data["n"] in failing:
            failing.discard(event.data["n"])
            raise RuntimeError("after the change")

    async with client:
        await client.wait_for(State.CONNECTED, timeout_s=10)
        await shop.publish(20)
        await eventually(lambda: client.metrics.delivered == 20)
        assert await client.value("count") == 20


def test_a_transactional_handler_cannot_be_async(shop: Shop) -> None:
    client = shop.client()

    async def handler(event: Event, tx: Transaction) -> None: ...

    with pytest.raises(ConfigurationError):
        client.on("x", transactional=True)(handler)


async def test_ephemeral_events_are_handed_out_and_not_kept(shop: Shop) -> None:
    async with shop.following() as (client, got):
        reply = await shop.http.post("/api/v1/sync/events", json={"eventType": "tick", "data": {"x": 1}})
        assert reply.status_code == 201
        await eventually(lambda: got)
        assert (got[0].id, got[0].event_type, got[0].data) == (None, "tick", {"x": 1})
        assert client.cursor
        document = await client.export()
        assert document["events"] == []


async def test_own_events_are_not_handed_out(shop: Shop) -> None:
    async with shop.following() as (client, got):
        body = {"eventType": "stage_change", "data": {"newStage": "x", "n": -1}}
        await shop.http.post("/api/v1/sync/events", json=body, headers={"X-Client-ID": client.client_id})
        await shop.publish(1)
        await eventually(lambda: got)
        assert numbers(got) == [0]


async def test_a_slow_handler_is_waited_for_without_filling_memory(shop: Shop) -> None:
    client = shop.client(cache_max_mb=0.2)
    got: list[int] = []
    gate = asyncio.Event()

    @client.on("stage_change")
    async def slow(event: Event) -> None:
        got.append(event.data["n"])
        if len(got) == 3:
            await gate.wait()

    async with client:
        await client.wait_for(State.CONNECTED, timeout_s=10)
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await shop.publish(10_000)
        await eventually(lambda: client.health.held)
        assert client.health.reason == "consumer_behind"
        assert client.health.queue_depth < 10_000
        assert shop.proxy.open_streams == 0
        asked = len(shop.proxy.requests)
        gate.set()
        await eventually(lambda: len(got) == 10_000, within_s=60)
        assert got == list(range(10_000))
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 60_000
        assert client.metrics.attempts <= asked + 60


async def test_without_a_cache_a_slow_handler_holds_the_stream_too(shop: Shop) -> None:
    client = shop.client(cache=False, cache_max_mb=0.1)
    got: list[int] = []
    gate = asyncio.Event()

    @client.on("stage_change")
    async def slow(event: Event) -> None:
        await gate.wait()
        got.append(event.data["n"])

    async with client:
        await client.wait_for(State.CONNECTED, timeout_s=10)
        await shop.publish(3000)
        await eventually(lambda: client.health.held)
        gate.set()
        await eventually(lambda: len(got) == 3000, within_s=60)
        assert got == list(range(3000))


async def test_the_export_is_the_seeds_format(shop: Shop) -> None:
    async with shop.following(filter={"orderID": "ORDER-001", "eventTypes": ["stage_change"]}) as (client, got):
        await shop.publish(2)
        await eventually(lambda: len(got) == 2)
        await eventually(lambda: client.idle)
        assert await client.acknowledge(got[1])
        document = await client.export()
        assert document["version"] == "1.0.0"
        assert document["configuration"] == {
            "orderID": "ORDER-001", "eventTypes": ["stage_change"], "autoReconnect": True, "maxReconnectAttempts": 5,
        }  # fmt: skip
        assert document["lastEventId"] == got[1].id == document["events"][-1]["id"]
        metadata = document["events"][1]["metadata"]
        assert (metadata["processed"], metadata["acknowledged"], metadata["source"]) == (True, True, "sse")
        assert document["connectionMetrics"]["totalEvents"] == 2
        assert document["connectionMetrics"]["totalConnections"] == 1
        assert document["lastConnectionTime"].endswith("Z")


async def test_counts_go_on_after_a_restart(shop: Shop) -> None:
    for _ in range(2):
        async with shop.following() as (client, got):
            await shop.publish(3)
            await eventually(lambda: len(got) >= 3)
    async with shop.following() as (client, _):
        assert client.metrics.total_events == 6
        assert client.metrics.total_connections == 3


async def test_an_unknown_event_type_reaches_handlers_as_it_is(shop: Shop) -> None:
    async with shop.following() as (client, got):
        text = '{"id":"aaaaaaaa.7","eventType":"from_the_future","data":{"a":[1]},"newField":5}'
        from sync_core.sse import ServerSentEvent

        event = ServerSentEvent("from_the_future", text, "aaaaaaaa.7")
        with contextlib.suppress(AssertionError):
            await client._intake.take([event], last_event_id=client.cursor)
        await eventually(lambda: got)
        assert (got[0].event_type, got[0].envelope["newField"]) == ("from_the_future", 5)
