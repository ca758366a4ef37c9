"""The connection, over real sockets, through a proxy that misbehaves."""

import asyncio
import time

from e2e.client.harness import HEARTBEAT_S, Shop, eventually, numbers
from sync_client import State
from sync_client.states import Policy


async def test_events_come_as_they_are_published(shop: Shop) -> None:
    async with shop.following() as (client, got):
        await shop.publish(20)
        await eventually(lambda: len(got) == 20)
        assert numbers(got) == list(range(20))
        assert client.health.status == "healthy"
        assert client.health.transport == "sse"


async def test_a_server_killed_in_the_middle_of_an_event_hands_out_nothing_of_it(shop: Shop) -> None:
    async with shop.following() as (client, got):
        await shop.publish(1)
        await eventually(lambda: len(got) == 1)
        head_bytes = 700  # beyond the head and the opening, inside the replayed events
        shop.proxy.stream.cut_after_bytes = 4000 + head_bytes
        shop.proxy.cut_all()
        await shop.publish(100)
        await eventually(lambda: len(shop.proxy.stream_requests) >= 3)
        seen = len(got)
        assert numbers(got) == list(range(seen))
        shop.proxy.stream.clear()
        await eventually(lambda: len(got) == 101)
        assert numbers(got) == list(range(101))
        assert client.metrics.duplicates_suppressed == 0


async def test_a_reset_connection_is_resumed(shop: Shop) -> None:
    async with shop.following() as (client, got):
        for _ in range(3):
            await shop.publish(5)
            await eventually(lambda: len(got) == shop.published)
            shop.proxy.cut_all(reset=True)
            await client.wait_for(State.RECONNECTING, timeout_s=10)
            await shop.publish(5)
        await eventually(lambda: len(got) == 30)
        assert numbers(got) == list(range(30))


async def test_silence_of_two_and_a_half_heartbeats_ends_the_stream(shop: Shop) -> None:
    async with shop.following() as (client, got):
        await eventually(lambda: client.health.caught_up)
        attempts = len(shop.proxy.stream_requests)
        shop.proxy.stream.stalled = True
        began_s = time.monotonic()
        await shop.publish(3)
        await client.wait_for(State.RECONNECTING, timeout_s=10)
        noticed_s = time.monotonic() - began_s
        assert 2.5 * HEARTBEAT_S * 0.5 < noticed_s < 2.5 * HEARTBEAT_S + 1
        await eventually(lambda: len(shop.proxy.stream_requests) > attempts, within_s=2)
        assert len(shop.proxy.requests) - attempts <= 2
        shop.proxy.stream.stalled = False
        await eventually(lambda: len(got) == 3)


async def test_a_buffering_proxy_leads_to_polling_and_back(shop: Shop) -> None:
    policy = Policy(probe_first_s=3.0)
    async with shop.following(policy=policy) as (client, got):
        await shop.publish(5)
        await eventually(lambda: len(got) == 5)
        shop.proxy.stream.buffered = True
        began_s, asked = time.monotonic(), len(shop.proxy.requests)
        shop.proxy.cut_all()
        await client.wait_for(State.POLLING, timeout_s=20)
        assert time.monotonic() - began_s < 10
        assert len(shop.proxy.requests) - asked <= 5  # two streams, a plain request beside each, the first poll
        await shop.publish(5)
        await eventually(lambda: len(got) == 10)
        assert got[-1].source == "polling"
        publishing = asyncio.create_task(publish_slowly(shop, 40))
        await eventually(lambda: client.metrics.attempts and shop.published > 20)
        shop.proxy.stream.clear()
        mended_s = time.monotonic()
        await client.wait_for(State.CONNECTED, timeout_s=30)
        assert time.monotonic() - mended_s < policy.probe_first_s * 2 * 1.2 + 4
        await publishing
        await eventually(lambda: len(got) >= shop.published)
        assert numbers(got) == list(range(shop.published))


async def publish_slowly(shop: Shop, count: int) -> None:
    for _ in range(count):
        await shop.publish(1)
        await asyncio.sleep(0.05)


async def test_known_events_that_come_again_reach_no_handler(shop: Shop) -> None:
    async with shop.following() as (client, got):
        await shop.publish(100)
        await eventually(lambda: len(got) == 100)
        envelopes = [event.envelope for event in got]
        page = {"events": envelopes, "cursor": client.cursor, "head": client.cursor}
        await client._intake.take_page(page)
        await shop.publish(1)
        await eventually(lambda: len(got) == 101)
        assert client.metrics.duplicates_suppressed == 100


async def test_a_planned_goodbye_is_no_failure(own_shop: Shop) -> None:
    shop = own_shop
    async with shop.following() as (client, got):
        await asyncio.to_thread(shop.server.terminate)
        await asyncio.to_thread(shop.server.start)
        await client.wait_for(State.CONNECTED, timeout_s=30)
        await shop.publish(2)
        await eventually(lambda: len(got) == 2)
        assert any(change.reason == "shutdown" for change in client.transitions)
