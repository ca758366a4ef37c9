"""The documents of a client against a real server, on both stores: from snapshot and feed, through whatever happens."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.client.harness import Shop, eventually
from e2e.client.test_resync import new_epoch, trim
from sync_client import Event, State, SyncClient
from sync_client.errors import NoReplica

ROOT = Path(__file__).resolve().parents[2]
ITEM = {"sku": "W1", "name": "Wash", "quantity": 1, "unitPrice": "3.00"}
KINDS = {"order": "orders", "queue": "queues", "bay": "bays"}


@asynccontextmanager
async def board(shop: Shop, name: str = "board", **options: Any) -> AsyncIterator[SyncClient]:
    """A client with all documents, up to date."""
    async with shop.client(name, replica=True, **options) as client:
        await is_fresh(client)
        yield client


async def is_fresh(client: SyncClient) -> None:
    await eventually(lambda: client.orders.fresh and client.health.caught_up, what="the snapshot")


async def do(shop: Shop, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """A command of somebody else's, past the proxy."""
    reply = await shop.http.request(method, f"/api/v1{path}", json=body)
    assert reply.status_code in (200, 201), reply.text
    answer: dict[str, Any] = reply.json()
    return answer


async def order(shop: Shop, order_id: str, **fields: Any) -> None:
    await do(shop, "POST", "/orders", {"orderID": order_id, "items": [ITEM], **fields})


async def bay(shop: Shop, bay_id: str) -> None:
    await do(shop, "POST", "/bays", {"bayID": bay_id, "name": "Bay"})


def shown(client: SyncClient, among: str = "") -> dict[str, Any]:
    """What a screen shows, of ids that have *among* in them: the documents' JSON by kind and id."""
    return {
        f"{kind} {entry.document.id}": entry.document.content()
        for kind, plural in KINDS.items()
        for entry in getattr(client, plural)
        if among in entry.document.id
    }


async def stored(shop: Shop, among: str = "", **filters: str) -> dict[str, Any]:
    """What the server has."""
    found, token = {}, ""
    while True:
        params = {**filters, "limit": "1000", **({"pageToken": token} if token else {})}
        page = (await shop.http.get("/api/v1/sync/snapshot", params=params)).json()
        for kind, plural in KINDS.items():
            found |= {f"{kind} {d[f'{kind}ID']}": d for d in page[plural] if among in d[f"{kind}ID"]}
        token = page.get("pageToken", "")
        if not token:
            return found


async def is_even(client: SyncClient, shop: Shop, among: str = "", **filters: str) -> None:
    """Wait until the client has heard all; then it shows what the server has."""
    head = (await shop.http.get("/api/v1/sync/poll", params={"limit": "1"})).json()["head"]
    await eventually(lambda: seq(client.cursor) >= seq(head) and client.orders.fresh, what=f"cursor {head}")
    assert shown(client, among) == await stored(shop, among, **filters)


def seq(cursor: str) -> int:
    return int(cursor.partition(".")[2] or -1)


# -- following the shop -----------------------------------------------------------------------------------


async def test_what_was_there_before_comes_by_the_snapshot_and_what_follows_by_the_feed(
    any_shop: Shop, order_id: str
) -> None:
    shop = any_shop
    await order(shop, order_id)
    async with board(shop) as client:
        entry = client.orders.get(order_id)
        assert entry is not None
        assert (entry.document.stage, entry.pending) == ("initiated", False)
        watch = client.orders.watch(order_id)
        await anext(watch)
        await do(shop, "POST", f"/orders/{order_id}/status", {"status": "dry"})
        async with asyncio.timeout(10):
            assert (await anext(watch)).document.status == "dry"
            await do(shop, "DELETE", f"/orders/{order_id}")
            assert await anext(watch) is None
        assert client.orders.get(order_id) is None
        assert client.orders.age_s is not None
        assert client.orders.age_s < 10


async def test_a_bay_is_followed_with_its_job(any_shop: Shop, order_id: str) -> None:
    """The seed's useWashingBaySync."""
    shop, bay_id = any_shop, f"B-{order_id}"
    await order(shop, order_id)
    await bay(shop, bay_id)
    async with board(shop, filter={"bayID": bay_id}) as client:
        watch, states = client.bays.watch(bay_id), []
        async with asyncio.timeout(10):
            states.append(await anext(watch))
            await do(shop, "POST", f"/bays/{bay_id}/jobs", {"orderID": order_id, "jobID": "j1"})
            states.append(await anext(watch))
            await do(shop, "PATCH", f"/bays/{bay_id}/jobs/j1", {"progress": 40})
            states.append(await anext(watch))
            assert [entry.document.id for entry in client.orders] == [order_id]
            await do(shop, "POST", f"/bays/{bay_id}/jobs/j1/finish")
            states.append(await anext(watch))
        found = [(s.document.status, s.document.job and s.document.job.progress) for s in states if s]
        assert found == [("available", None), ("occupied", 0), ("occupied", 40), ("cleaning", None)]
        await eventually(lambda: len(client.orders) == 0, what="the order leaves with the bay")


async def test_it_follows_by_polling_too(shop: Shop, order_id: str) -> None:
    shop.proxy.stream.refused = True
    async with shop.client("poller", replica=True, max_reconnect_attempts=1) as client:
        await client.wait_for(State.POLLING, timeout_s=20)
        await is_fresh(client)
        await order(shop, order_id)
        await eventually(lambda: order_id in client.orders)


async def test_a_handler_finds_at_least_the_document_that_its_event_tells_of(shop: Shop, order_id: str) -> None:
    client = shop.client("till", replica=True, filter={"orderID": order_id})
    pairs: list[tuple[int | None, int]] = []

    @client.on("status_update")
    def look(event: Event) -> None:
        entry = client.orders.get(order_id)
        pairs.append((event.version, entry.document.version if entry else -1))

    async with client:
        await is_fresh(client)
        await order(shop, order_id)
        for n in range(20):
            await do(shop, "POST", f"/orders/{order_id}/status", {"status": str(n)})
        await eventually(lambda: len(pairs) == 20)
    assert all(version is not None and version <= found for version, found in pairs)


# -- views ------------------------------------------------------------------------------------------------


async def test_an_order_that_is_deleted_and_made_again_and_moves_ends_right_everywhere(
    any_shop: Shop, order_id: str
) -> None:
    shop, bays = any_shop, [f"B1-{order_id}", f"B2-{order_id}"]
    for bay_id in bays:
        await bay(shop, bay_id)
    filters: list[dict[str, str]] = [{}, {"orderID": order_id}, {"bayID": bays[0]}, {"bayID": bays[1]}]
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(board(shop, f"b{n}", filter=f)) for n, f in enumerate(filters)]
        for round_ in range(2):
            await order(shop, order_id, notes=str(round_))
            await do(shop, "DELETE", f"/orders/{order_id}")
            await order(shop, order_id, notes=f"again {round_}")
            for bay_id in bays:
                await do(shop, "POST", f"/bays/{bay_id}/jobs", {"orderID": order_id, "jobID": "j"})
                await do(shop, "POST", f"/bays/{bay_id}/jobs/j/abort", {"reason": "moves"})
                await do(shop, "PATCH", f"/bays/{bay_id}", {"status": "available"})
            if round_ == 0:
                await do(shop, "DELETE", f"/orders/{order_id}")
        await do(shop, "POST", f"/bays/{bays[1]}/jobs", {"orderID": order_id, "jobID": "last"})
        for client, chosen in zip(clients, filters, strict=True):
            await is_even(client, shop, order_id, **chosen)
        assert f"order {order_id}" in shown(clients[3])
        assert f"order {order_id}" not in shown(clients[2])


async def test_a_filter_by_type_is_for_handlers_and_the_documents_are_complete(shop: Shop, order_id: str) -> None:
    client, got = shop.client("till", replica=True, filter={"orderID": order_id, "eventTypes": "payment_update"}), []
    client.on()(got.append)
    async with client:
        await is_fresh(client)
        await order(shop, order_id)
        await do(shop, "POST", f"/orders/{order_id}/status", {"status": "x"})
        await do(shop, "POST", f"/orders/{order_id}/payment", {"status": "paid", "amount": "3.00"})
        await eventually(lambda: got)
        assert [event.event_type for event in got] == ["payment_update"]
        entry = client.orders.get(order_id)
        assert entry is not None
        assert (entry.document.status, entry.document.version) == ("x", 3)


# -- offline, killed, beginning again ----------------------------------------------------------------------


async def test_it_is_all_there_offline_right_after_the_start(shop: Shop, order_id: str) -> None:
    await order(shop, order_id)
    async with board(shop) as client:
        before = shown(client)
    shop.proxy.stream.refused = shop.proxy.plain.refused = True
    async with shop.client("board", replica=True) as client:
        assert shown(client) == before
        assert client.orders.fresh
        assert client.orders.age_s is not None
        assert client.orders.age_s < 60
        await order(shop, f"{order_id}-missed")
        assert f"{order_id}-missed" not in client.orders
        shop.proxy.stream.clear()
        shop.proxy.plain.clear()
        client.connect()
        await eventually(lambda: f"{order_id}-missed" in client.orders)
    snapshots = [request for request in shop.proxy.plain_requests if "/snapshot" in request.target]
    assert len(snapshots) == 1


async def test_without_a_cache_a_restart_fetches_it_again(shop: Shop, order_id: str) -> None:
    await order(shop, order_id)
    for _ in range(2):
        async with board(shop, cache=False) as client:
            assert order_id in client.orders


async def test_what_was_missed_for_good_comes_by_another_snapshot(own_shop: Shop) -> None:
    """Deleted and made while it was away, and the log does not know any more."""
    shop = own_shop
    for name in ("stays", "goes"):
        await order(shop, name)
    async with board(shop):
        pass
    await do(shop, "DELETE", "/orders/goes")
    await order(shop, "comes")
    await do(shop, "POST", "/orders/stays/status", {"status": "new"})
    await asyncio.to_thread(shop.server.kill)
    await asyncio.to_thread(trim, shop, keep=1)
    await asyncio.to_thread(shop.server.start)
    async with shop.client("board", replica=True) as client:
        reasons: list[str] = []
        client.on_resync(reasons.append)
        await eventually(lambda: "comes" in client.orders)
        await is_even(client, shop)
        assert sorted(shown(client)) == ["order comes", "order stays"]
        assert reasons == ["expired"]


async def test_another_log_takes_the_place_of_all_that_was_known(own_shop: Shop) -> None:
    shop = own_shop
    await order(shop, "o1")
    async with board(shop) as client:
        await do(shop, "POST", "/orders/o1/status", {"status": "x"})
        await is_even(client, shop)
        await asyncio.to_thread(shop.server.kill)
        await asyncio.to_thread(new_epoch, shop)
        await asyncio.to_thread(shop.server.start)
        await client.wait_for(State.CONNECTED, timeout_s=30)
        await do(shop, "POST", "/orders/o1/status", {"status": "in the new epoch"})
        await eventually(lambda: client.orders.fresh and "new epoch" in str(shown(client)))
        await is_even(client, shop)


async def test_documents_that_nobody_kept_up_to_date_are_fetched_anew(shop: Shop, order_id: str) -> None:
    """One run of the program without them; the cursor has gone on."""
    await order(shop, order_id)
    async with board(shop, filter={"orderID": order_id}):
        pass
    async with shop.following("board", filter={"orderID": order_id}) as (_, got):
        await do(shop, "DELETE", f"/orders/{order_id}")
        await eventually(lambda: got)
    async with shop.client("board", replica=True, filter={"orderID": order_id}) as client:
        assert not client.orders.fresh
        await is_fresh(client)
        assert len(client.orders) == 0


PROGRAM = """
import asyncio, sys
from pathlib import Path
from sync_client import SyncClient
async def main():
    client = SyncClient(sys.argv[1], client_name="board", cache_dir=Path(sys.argv[2]), replica=True, trust_env=False)
    async with client:
        print("started", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_killed_at_any_moment_it_ends_right(own_shop: Shop) -> None:
    """While the snapshot comes, while it is installed, while the feed goes on: kill -9, five times."""
    shop, rng = own_shop, random.Random(7)
    for n in range(30):
        await order(shop, f"o{n}")
    for round_ in range(5):
        argv = [sys.executable, "-c", PROGRAM, shop.proxy.url, str(shop.directory / "cache")]
        process = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), 30)
        for n in range(rng.randint(0, 8)):
            await do(shop, "POST", f"/orders/o{rng.randint(5, 29)}/status", {"status": f"{round_}.{n}"})
        if round_ < 4:
            await do(shop, "DELETE", f"/orders/o{round_}")
        process.kill()
        await process.wait()
    async with shop.client("board", replica=True) as client:
        await is_fresh(client)
        await is_even(client, shop)


async def test_boards_that_join_at_any_moment_of_a_busy_day_show_the_same_in_the_end(
    any_shop: Shop, order_id: str
) -> None:
    """A snapshot under load, and the feed from its cursor."""
    shop, rng, have_joined = any_shop, random.Random(11), asyncio.Event()
    bay_id = f"{order_id}-bay"
    await bay(shop, bay_id)

    async def work() -> None:
        n = 0
        while not have_joined.is_set() or n % 3:
            one = f"{order_id}-{n}"
            await order(shop, one)
            if n % 3 == 0:
                await do(shop, "DELETE", f"/orders/{one}")
            elif n % 3 == 1:
                await do(shop, "POST", f"/bays/{bay_id}/jobs", {"orderID": one, "jobID": f"j{n}"})
                await do(shop, "POST", f"/bays/{bay_id}/jobs/j{n}/finish")
                await do(shop, "PATCH", f"/bays/{bay_id}", {"status": "available"})
            n += 1

    async with AsyncExitStack() as stack:
        working = asyncio.create_task(work())
        clients = []
        for n in range(8):
            client = shop.client(f"b{n}", replica=True, cache=n % 2 == 0)
            clients.append(await stack.enter_async_context(client))
            await asyncio.sleep(rng.random() * 0.1)
        have_joined.set()
        await working
        for client in clients:
            await is_even(client, shop, order_id)


# -- those who do without -----------------------------------------------------------------------------------


async def test_a_client_without_documents_asks_for_none(shop: Shop, order_id: str) -> None:
    async with shop.following() as (client, got):
        await order(shop, order_id)
        await eventually(lambda: got)
        for name in ("orders", "queues", "bays", "outbox"):
            with pytest.raises(NoReplica, match="replica=True"):
                getattr(client, name)
        assert not any("snapshot" in request.target for request in shop.proxy.requests)


async def test_events_that_nobody_wants_are_not_kept(shop: Shop, order_id: str) -> None:
    """A board has documents only; what waits for handlers would fill its disk, and then stop its feed."""
    async with board(shop) as client:
        await order(shop, order_id)
        await eventually(lambda: order_id in client.orders)
        assert client.health.queue_depth == 0
        assert await client.recent() == []
        events = client.events()
        await do(shop, "POST", f"/orders/{order_id}/status", {"status": "x"})
        assert (await asyncio.wait_for(anext(events), 10)).event_type == "status_update"
