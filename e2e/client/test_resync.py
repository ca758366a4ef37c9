"""Resets, other filters, other rights: listeners are told, what is still there comes, nothing comes twice."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.client.harness import Shop, eventually, numbers, open_shop
from sync_client import Event, Resync, State, SyncClient
from tests.servers import clean_environment


def trim(shop: Shop, *, keep: int) -> None:
    """Remove all but the newest events, in the server's own log."""
    subprocess.run(
        [sys.executable, "-m", "sync_server", "log", "trim", "--keep", str(keep)],
        cwd=shop.server.directory, env=clean_environment(), check=True, capture_output=True,
    )  # fmt: skip


def new_epoch(shop: Shop) -> None:
    subprocess.run(
        [sys.executable, "-m", "sync_server", "log", "new-epoch"],
        cwd=shop.server.directory, env=clean_environment(), check=True, capture_output=True,
    )  # fmt: skip


def watched(client: SyncClient) -> tuple[list[Event], list[str]]:
    got: list[Event] = []
    told: list[str] = []
    client.on()(got.append)
    client.on_resync(told.append)
    return got, told


async def away_while_trimmed(shop: Shop, *, keep: int) -> None:
    """A client reads 10 events and leaves; 20 more come; only *keep* stay."""
    async with shop.following() as (_, got):
        await shop.publish(10)
        await eventually(lambda: len(got) == 10)
    await shop.publish(20)
    await asyncio.to_thread(shop.server.kill)
    await asyncio.to_thread(trim, shop, keep=keep)
    await asyncio.to_thread(shop.server.start)


async def test_an_expired_cursor_goes_on_at_the_oldest_event(own_shop: Shop) -> None:
    await away_while_trimmed(own_shop, keep=5)
    client = own_shop.client()
    got, told = watched(client)
    async with client:
        await own_shop.publish(1)
        await eventually(lambda: len(got) == 6)
        await eventually(lambda: told)
    assert numbers(got) == [25, 26, 27, 28, 29, 30]
    assert told == ["expired"]


async def test_an_expired_cursor_goes_on_at_head_if_so_configured(own_shop: Shop) -> None:
    await away_while_trimmed(own_shop, keep=5)
    client = own_shop.client(on_reset=Resync.NOW)
    got, told = watched(client)
    async with client:
        await eventually(lambda: told)
        await own_shop.publish(1)
        await eventually(lambda: got)
        assert len(own_shop.proxy.stream_requests) == 2
    assert numbers(got) == [30]
    assert told == ["expired"]


async def test_another_epoch_resyncs(own_shop: Shop) -> None:
    async with own_shop.following() as (_, got):
        await own_shop.publish(3)
        await eventually(lambda: len(got) == 3)
    await asyncio.to_thread(own_shop.server.kill)
    await asyncio.to_thread(new_epoch, own_shop)
    await asyncio.to_thread(own_shop.server.start)
    client = own_shop.client()
    got, told = watched(client)
    async with client:
        await eventually(lambda: told == ["epoch"])
        await own_shop.publish(1)
        await eventually(lambda: 3 in numbers(got))
    assert numbers(got)[-1] == 3


async def test_a_410_while_polling_resyncs(own_shop: Shop) -> None:
    await away_while_trimmed(own_shop, keep=5)
    own_shop.proxy.stream.status = 500
    client = own_shop.client(max_reconnect_attempts=1, rng=lambda: 0.05)
    got, told = watched(client)
    async with client:
        await client.wait_for(State.POLLING, timeout_s=20)
        await eventually(lambda: numbers(got) == [25, 26, 27, 28, 29])
        assert told == ["expired"]
        assert len(own_shop.proxy.plain_requests) < 10


async def test_a_kill_between_reset_and_resync_resyncs_after_the_restart(own_shop: Shop) -> None:
    await away_while_trimmed(own_shop, keep=5)
    first = own_shop.client()
    hanging = asyncio.Event()
    reasons = []

    @first.on_resync
    async def hang(reason: str) -> None:
        reasons.append(reason)
        hanging.set()
        await asyncio.Event().wait()

    got_first: list[Event] = []
    first.on()(got_first.append)
    async with first:
        await asyncio.wait_for(hanging.wait(), 20)
        assert got_first == []  # held until the listeners know
    second = own_shop.client()
    got, told = watched(second)
    async with second:
        await eventually(lambda: len(got) == 5)
    assert told == reasons == ["expired"]
    assert numbers(got) == [25, 26, 27, 28, 29]
    third = own_shop.client()
    got, told = watched(third)
    async with third:
        await own_shop.publish(1)
        await eventually(lambda: got)
    assert (numbers(got), told) == ([30], [])


HANGING = """
import asyncio, sys
from pathlib import Path
from sync_client import SyncClient

async def main():
    client = SyncClient(sys.argv[1], client_name="till", cache_dir=Path(sys.argv[2]), trust_env=False)

    @client.on_resync
    async def hang(reason):
        print(reason, flush=True)
        await asyncio.Event().wait()

    client.on()(lambda event: print(event.id, flush=True))
    async with client:
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_till_that_is_killed_while_its_handlers_learn_of_a_reset_tells_them_in_its_next_life(
    own_shop: Shop,
) -> None:
    await away_while_trimmed(own_shop, keep=5)
    argv = [sys.executable, "-c", HANGING, own_shop.proxy.url, str(own_shop.directory / "cache")]
    till = await asyncio.create_subprocess_exec(
        *argv, cwd=Path(__file__).parents[2], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert till.stdout is not None
    try:
        assert await asyncio.wait_for(till.stdout.readline(), 20) == b"expired\n"
    finally:
        till.kill()
        left, _ = await till.communicate()
    assert left == b""  # no event before it was known
    client = own_shop.client()
    got, told = watched(client)
    async with client:
        await eventually(lambda: len(got) == 5)
    assert (told, numbers(got)) == (["expired"], [25, 26, 27, 28, 29])


async def test_a_wider_filter_brings_what_it_adds_and_nothing_twice(own_shop: Shop) -> None:
    async def publish(kind: str, order: str) -> None:
        event = {"eventType": kind, "orderID": order, "data": {"newStage": "x", "status": "x"}}
        reply = await own_shop.http.post("/api/v1/sync/events", json=event)
        assert reply.status_code == 201

    narrow = own_shop.client(filter={"orderID": "A"}, retention_events=0)
    got, told = watched(narrow)
    async with narrow:
        await narrow.wait_for(State.CONNECTED, timeout_s=10)
        for order in "ABABA":
            await publish("stage_change", order)
        await eventually(lambda: len(got) == 3)
        await eventually(lambda: narrow.idle)
        cache = narrow._keeper.cache
        await narrow._keeper.run(cache.trim, now_ms=2**50, max_age_s=0, max_events=0)  # the cache knows no id any more
    wide = own_shop.client(filter={"orderID": ["A", "B"]})
    got, told = watched(wide)
    async with wide:
        await publish("stage_change", "A")
        await eventually(lambda: len(got) == 3)
        assert [event.order_id for event in got] == ["B", "B", "A"]
        assert told == ["filter"]
        assert len(own_shop.proxy.requests) == 2  # one for each client
        assert wide._intake.facts.known == []
    same = own_shop.client(filter={"orderID": ["B", "A"]})
    got, told = watched(same)
    async with same:
        await publish("stage_change", "B")
        await eventually(lambda: len(got) == 1)
    assert told == []


async def test_other_rights_resync(own_shop: Shop) -> None:
    shop = own_shop
    async with shop.following() as (client, got):
        await shop.publish(3)
        await eventually(lambda: len(got) == 3)
        # What an earlier life noted under other rights.
        client._intake._access = "other"
        told: list[str] = []
        client.on_resync(told.append)
        shop.proxy.cut_all()
        await eventually(lambda: told == ["access"])
        assert len(shop.proxy.requests) <= 3
        await shop.publish(1)
        await eventually(lambda: 3 in numbers(got))
        assert numbers(got) == [0, 1, 2, 3]  # the ids are still in the cache


@pytest.mark.parametrize("cursor", ["zzzzzzzz.9", "1042"], ids=["foreign epoch", "malformed"])
async def test_a_cursor_from_elsewhere_resyncs_once(own_shop: Shop, cursor: str) -> None:
    await own_shop.publish(3)
    client = own_shop.client()
    got, told = watched(client)
    await client._open_cache()
    from sync_client.records import Batch

    await client._keeper.commit(Batch(cursor=cursor, filter="{}"))
    await client._keeper.aclose()
    async with client:
        await eventually(lambda: len(got) == 3)
        await eventually(lambda: told)
    assert told == ["epoch" if "." in cursor else "malformed"]
    assert len(own_shop.proxy.requests) == 2


async def test_a_reset_in_mid_stream_is_taken_up(tmp_path: Path) -> None:
    async with open_shop(tmp_path, max_events=50) as shop:
        client = shop.client(start="earliest")
        got, _ = watched(client)
        async with client:
            await shop.publish(300)
            await eventually(lambda: 299 in numbers(got))
            assert numbers(got) == sorted(set(numbers(got)))
