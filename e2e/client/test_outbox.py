"""The outbox against a real server: lost answers, kills, refusals, tokens, and what disks do to it."""

import asyncio
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.client.cashier import NAME, make_client
from e2e.client.harness import Shop, eventually
from e2e.fault_proxy import response
from sync_client import CacheLocked, Event, State, SyncClient
from sync_client.errors import CommandFailed
from sync_client.options import Options, outbox_path

ROOT = Path(__file__).resolve().parents[2]
ITEM = {"sku": "W1", "name": "Wash", "quantity": 1, "unitPrice": "3.00"}


@asynccontextmanager
async def cashier(shop: Shop, order: str, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The cashier's program; killed with the block."""
    argv = [sys.executable, "-m", "e2e.client.cashier", shop.proxy.url, str(shop.directory / "cache"), order, *options]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, stdin=pipe, stdout=pipe)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: asyncio.subprocess.Process, *, within_s: float = 30) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), within_s)).decode().strip()


def till(shop: Shop, **options: Any) -> SyncClient:
    return shop.client("till", replica=True, **options)


async def ready(client: SyncClient) -> None:
    """Connected, and nothing of its own under way: what goes through the proxy now are commands."""
    await client.wait_for(State.CONNECTED, timeout_s=10)
    await eventually(lambda: client.orders.fresh, what="the snapshot")


async def log_of(shop: Shop, order: str) -> list[dict[str, Any]]:
    """The events of an order, as the server has them."""
    params = {"after": "earliest", "orderID": order, "limit": "1000"}
    events: list[dict[str, Any]] = []
    while True:
        page = (await shop.http.get("/api/v1/sync/poll", params=params)).json()
        events += page["events"]
        params["after"] = page["cursor"]
        if not page["hasMore"]:
            return events


async def statuses(shop: Shop, order: str) -> list[str]:
    return [event["data"]["status"] for event in await log_of(shop, order) if event["eventType"] == "status_update"]


def commands(shop: Shop) -> list[str]:
    """The idempotency keys that came through the proxy, in order."""
    return [key for request in shop.proxy.requests if (key := request.headers.get("idempotency-key"))]


# -- answers that do not come -----------------------------------------------------------------------------


async def test_a_command_whose_answer_is_lost_is_applied_once(any_shop: Shop, order_id: str) -> None:
    shop = any_shop
    async with till(shop) as client:
        await ready(client)
        await (await client.orders.create(order_id)).done(10)
        shop.proxy.plain.cut_after_bytes = 0  # the server has it, and its answer goes nowhere
        sent = await client.orders.set_status(order_id, "ready")
        await eventually(lambda: len(set(commands(shop))) == 2 and len(commands(shop)) > 2, what="a second try")
        (entry,) = client.outbox.in_flight
        assert entry.key == sent.key
        # The feed is faster than the answer; an edit now is on top of what was seen, and no conflict.
        await eventually(lambda: client._shop.replica.truth(entry.command.target).version == 2)
        shown = client.orders.get(order_id)
        assert (shown.document.version, shown.document.status, shown.pending) == (2, "ready", False)
        later = await client.orders.edit(order_id, notes="and this")
        shop.proxy.plain.clear()
        answer = await sent.done(20)
        assert (answer["order"]["version"], answer["order"]["status"]) == (2, "ready")
        assert (await later.done(10))["order"]["version"] == 3
        assert await statuses(shop, order_id) == ["ready"]
        entry = client.orders.get(order_id)
        assert (entry.document.version, entry.pending) == (3, False)


async def test_a_screen_sees_a_command_once_whether_answer_or_feed_is_first(shop: Shop, order_id: str) -> None:
    async with till(shop) as client:
        await ready(client)
        await (await client.orders.create(order_id)).done(10)
        await eventually(lambda: not client.orders.get(order_id).pending)
        looks: list[tuple[int, str | None, bool]] = []

        async def look() -> None:
            async for entry in client.orders.watch(order_id):
                looks.append((entry.document.version, entry.document.status, entry.pending))

        looking = asyncio.create_task(look())
        await eventually(lambda: looks)
        await (await client.orders.set_status(order_id, "first")).done(10)
        shop.proxy.plain.stalled = True  # what is answered stays on the way; the stream does not
        sent = await client.orders.set_status(order_id, "second")
        await eventually(lambda: looks[-1] == (3, "second", False), what="the feed's word")
        assert [entry.key for entry in client.outbox.in_flight] == [sent.key]
        shop.proxy.plain.clear()
        shop.proxy.cut_all()
        await sent.done(20)
        await client.outbox.flush(10)
        looking.cancel()
        done = [(version, status) for version, status, _ in looks]
        assert (done, set(done)) == (sorted(done), {(1, None), (2, "first"), (3, "second")})


async def test_a_killed_client_learns_the_fate_of_what_was_in_flight_before_it_is_fresh(
    shop: Shop, order_id: str
) -> None:
    await shop.http.post("/api/v1/orders", json={"orderID": order_id})
    async with make_client(shop.proxy.url, shop.directory / "cache") as client:
        await ready(client)
    async with cashier(shop, order_id, "--give", "1") as process:
        assert await said(process) == "given"
        shop.proxy.plain.stalled = True
        async with asyncio.timeout(20):
            while await statuses(shop, order_id) != ["0"]:
                await asyncio.sleep(0.01)
        process.kill()
    client = make_client(shop.proxy.url, shop.directory / "cache")
    async with client:
        await client.wait_for(State.CONNECTED, timeout_s=10)
        entry = client.orders.get(order_id)
        await eventually(lambda: client.health.caught_up)
        await asyncio.sleep(0.2)
        assert (len(client.outbox.in_flight), client.orders.fresh) == (1, False)
        assert entry.document.status == "0"
        shop.proxy.plain.clear()
        shop.proxy.cut_all()
        await eventually(lambda: client.orders.fresh, what="the fate")
        assert len(client.outbox) == 0
        entry = client.orders.get(order_id)
        assert (entry.document.status, entry.document.version, entry.pending) == ("0", 2, False)
    assert await statuses(shop, order_id) == ["0"]


@pytest.mark.timeout(180)
async def test_500_commands_given_offline_survive_kills_and_arrive_in_order_each_once(
    any_shop: Shop, order_id: str
) -> None:
    shop = any_shop
    shop.proxy.plain.refused = shop.proxy.stream.refused = True
    async with cashier(shop, order_id, "--give", "497", "--poison") as process:
        assert await said(process, within_s=60) == "given"
        process.kill()
    shop.proxy.plain.clear()
    shop.proxy.stream.clear()
    async with cashier(shop, order_id) as process:  # and once more in the middle of sending
        await eventually(lambda: len(set(commands(shop))) >= 200, within_s=60)
        process.kill()
    async with cashier(shop, order_id) as process:
        assert [await said(process), await said(process, within_s=60)] == ["given", "flushed"]
        process.kill()
    assert await statuses(shop, order_id) == [str(n) for n in range(497)]
    assert [event["eventType"] for event in await log_of(shop, order_id)].count("order_created") == 1
    assert len(set(commands(shop))) == 500
    async with make_client(shop.proxy.url, shop.directory / "cache") as client:
        (failed,) = client.outbox.failed
        assert (failed.name, failed.problem["status"]) == ("queue.enter", 422)
        await ready(client)
        assert client.orders.get(order_id).document.status == "496"


# -- refusals ---------------------------------------------------------------------------------------------


async def test_a_poisoned_command_does_not_hold_up_the_rest(shop: Shop, order_id: str) -> None:
    told: list[Event] = []
    client = till(shop, filter={"eventTypes": ["payment_update"]})
    client.on("sync_failed")(told.append)
    async with client:
        await ready(client)
        await client.orders.create(order_id)
        await client.queues.create("Line", queueID=f"Q-{order_id}")
        poison = await client.queues.enter(f"Q-{order_id}", "no-such-order")
        last = await client.orders.set_status(order_id, "after")
        await last.done(10)
        with pytest.raises(CommandFailed) as failed:
            await poison.done(10)
        assert failed.value.problem["status"] == 422
        assert failed.value.problem["errors"][0]["path"] == "orderID"
        (kept,) = client.outbox.failed
        await eventually(lambda: told)
        assert (told[0].data["key"], told[0].data["problem"]["status"]) == (kept.key, 422)
        assert (client.health.commands_failed, client.metrics.commands_refused) == (1, 1)
        await client.outbox.discard(kept.key)
    async with till(shop) as client:
        assert list(client.outbox) == []


async def test_a_failed_command_can_be_given_again_when_the_reason_is_gone(shop: Shop, order_id: str) -> None:
    async with till(shop) as client:
        await ready(client)
        sent = await client.orders.set_status(order_id, "ready")
        with pytest.raises(CommandFailed, match="There is no order"):
            await sent.done(10)
        await (await client.orders.create(order_id)).done(10)
        again = await client.outbox.retry(client.outbox.failed[0].key)
        assert (await again.done(10))["order"]["status"] == "ready"
        assert list(client.outbox) == []


async def test_a_conflict_rolls_back_to_what_the_server_has(shop: Shop, order_id: str) -> None:
    await shop.http.post("/api/v1/orders", json={"orderID": order_id, "items": [ITEM]})
    async with till(shop) as client:
        await ready(client)
        shop.proxy.plain.refused = shop.proxy.stream.refused = True
        shop.proxy.cut_all()
        await client.wait_for(State.RECONNECTING, State.POLLING, timeout_s=10)
        mine = await client.orders.edit(order_id, notes="mine")
        assert client.orders.get(order_id).document.notes == "mine"
        await shop.http.patch(f"/api/v1/orders/{order_id}", json={"notes": "theirs"})
        shop.proxy.plain.clear()
        shop.proxy.stream.clear()
        client.connect()
        with pytest.raises(CommandFailed) as failed:
            await mine.done(20)
        assert failed.value.problem["type"] == "stale"
        entry = client.orders.get(order_id)
        assert (entry.document.notes, entry.document.version, entry.pending) == ("theirs", 2, False)


# -- waiting ----------------------------------------------------------------------------------------------


async def test_without_a_good_token_commands_wait_for_another(shop: Shop, order_id: str) -> None:
    async with till(shop, token="old") as client:
        await ready(client)
        shop.proxy.plain.status = 401
        await client.orders.create(order_id)
        await eventually(lambda: client.health.commands_held_by == "another token is needed")
        count = len(commands(shop))
        await client.orders.set_status(order_id, "ready")
        await asyncio.sleep(0.1)
        assert len(commands(shop)) == count
        assert (client.state, len(client.outbox.queued)) == (State.CONNECTED, 2)
        shop.proxy.plain.clear()
        client.set_token("new")
        await client.outbox.flush(10)
        assert client.health.commands_held_by == ""
        last = [request for request in shop.proxy.requests if "idempotency-key" in request.headers][-1]
        assert last.headers["authorization"] == "Bearer new"
    assert await statuses(shop, order_id) == ["ready"]


async def test_a_token_function_is_asked_again_and_the_command_goes_out(shop: Shop, order_id: str) -> None:
    asked: list[str] = []

    async def token() -> str:
        asked.append(f"token-{len(asked)}")
        return asked[-1]

    async with till(shop, token=token) as client:
        await ready(client)
        shop.proxy.plain.answers.append(response(401, headers={"WWW-Authenticate": "Bearer"}))
        await (await client.orders.create(order_id)).done(10)
        assert asked == ["token-0", "token-1"]
        assert client.state is State.CONNECTED


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_server_is_left_alone_for_as_long_as_it_says(shop: Shop, order_id: str, status: int) -> None:
    async with till(shop, rng=lambda: 0.01) as client:
        await ready(client)
        shop.proxy.plain.answers.append(response(status, headers={"Retry-After": "1"}))
        sent = await client.orders.create(order_id)
        await sent.done(10)
        first, second = [r.at_s for r in shop.proxy.requests if "idempotency-key" in r.headers]
        assert 1.0 <= second - first < 2.5


async def test_a_portal_in_the_server_s_place_loses_nothing(shop: Shop, order_id: str) -> None:
    async with till(shop, rng=lambda: 0.01) as client:
        await ready(client)
        html = {"Content-Type": "text/html"}
        shop.proxy.plain.answers += [
            response(200, headers=html, body=b"<h1>Welcome to our network</h1>"),
            response(302, headers={"Location": "http://127.0.0.1:9/login"}),
            response(303, headers={"Location": "/api/v1/orders"}),
            response(404, headers=html, body=b"<h1>not here</h1>"),
        ]
        sent = await client.orders.create(order_id)
        assert (await sent.done(20))["order"]["orderID"] == order_id


async def test_commands_go_out_while_polling(shop: Shop, order_id: str) -> None:
    shop.proxy.stream.refused = True
    async with till(shop, max_reconnect_attempts=1) as client:
        await client.wait_for(State.POLLING, timeout_s=20)
        await (await client.orders.create(order_id)).done(10)
        assert client.state is State.POLLING


# -- files ------------------------------------------------------------------------------------------------


def outbox_of(shop: Shop) -> Path:
    return outbox_path(shop.proxy.url, Options(client_name=NAME, cache_dir=shop.directory / "cache"))


async def test_what_was_in_flight_for_over_six_days_is_for_a_person(shop: Shop, order_id: str) -> None:
    await shop.http.post("/api/v1/orders", json={"orderID": order_id})
    async with make_client(shop.proxy.url, shop.directory / "cache") as client:
        await ready(client)
        shop.proxy.plain.stalled = True
        await client.orders.set_status(order_id, "long ago")
        await client.orders.set_status(order_id, "today")
        await eventually(lambda: client.outbox.in_flight)
    with sqlite3.connect(outbox_of(shop)) as db:
        db.execute("UPDATE commands SET first_sent_ms = first_sent_ms - ?", (6 * 24 * 3600 * 1000 + 1,))
    db.close()
    shop.proxy.plain.clear()
    seen = len(commands(shop))
    async with make_client(shop.proxy.url, shop.directory / "cache") as client:
        await client.outbox.flush(20)
        (failed,) = client.outbox.failed
        assert (failed.given.status, failed.problem["type"]) == ("long ago", "in-flight-too-long")
        await ready(client)
        assert client.orders.get(order_id).document.status == "today"
        assert failed.key not in commands(shop)[seen:]


async def test_a_damaged_outbox_is_set_aside_and_told(shop: Shop, order_id: str) -> None:
    shop.proxy.plain.refused = shop.proxy.stream.refused = True
    async with make_client(shop.proxy.url, shop.directory / "cache") as client:
        await client.orders.create(order_id)
    path = outbox_of(shop)
    path.write_bytes(b"\x00" * 9000)
    told: list[Event] = []
    client = make_client(shop.proxy.url, shop.directory / "cache")
    client.on()(told.append)
    async with client:
        await eventually(lambda: told)
        assert (told[0].event_type, told[0].data["problem"]["type"]) == ("sync_failed", "outbox-damaged")
        assert any("damaged-1" in text for _, text in client.errors)
        assert path.with_name(path.name + ".damaged-1").read_bytes() == b"\x00" * 9000
        assert client.orders.get(order_id) is None


async def test_when_its_directory_is_removed_under_it_what_was_given_survives_a_kill(shop: Shop, order_id: str) -> None:
    shop.proxy.plain.refused = shop.proxy.stream.refused = True
    async with cashier(shop, order_id, "--give", "3", "--more") as process:
        assert await said(process) == "given"
        shutil.rmtree(shop.directory / "cache")
        assert process.stdin is not None
        process.stdin.write(b"\n")
        assert await said(process) == "given more"
        process.kill()
    shop.proxy.plain.clear()
    shop.proxy.stream.clear()
    async with make_client(shop.proxy.url, shop.directory / "cache") as client:
        await client.outbox.flush(20)
        assert await statuses(shop, order_id) == ["0", "1", "2", "more"]
        await ready(client)
        assert client.orders.get(order_id).document.status == "more"


async def test_a_damaged_cache_leaves_the_outbox_alone(shop: Shop, order_id: str) -> None:
    shop.proxy.plain.refused = shop.proxy.stream.refused = True
    async with make_client(shop.proxy.url, shop.directory / "cache") as client:
        await client.orders.create(order_id)
    outbox_of(shop).with_suffix("").with_suffix(".db").write_bytes(b"scrap" * 2000)
    shop.proxy.plain.clear()
    shop.proxy.stream.clear()
    async with make_client(shop.proxy.url, shop.directory / "cache") as client:
        await client.outbox.flush(20)
        await ready(client)
        assert client.orders.get(order_id).pending is False


async def test_a_client_that_was_locked_out_takes_commands_once_it_has_started(shop: Shop, order_id: str) -> None:
    other = till(shop)
    async with till(shop):
        with pytest.raises(CacheLocked):
            await other.start()
    async with other:
        await (await other.orders.create(order_id)).done(10)
    async with till(shop) as client:
        assert client.orders.get(order_id) is not None
