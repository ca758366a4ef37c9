"""Many at the same moment: one gets it, the others are told how things stand. On both stores."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2

from tests.fixtures import MongoDatabase
from tests.server.shop import API, ITEM, Shop, new_id
from tests.servers import SyncServer

CALLERS = 50

Call = tuple[str, str, dict[str, Any], dict[str, str]]


async def at_once(*shops: Shop, calls: Sequence[Call]) -> list[httpx2.Response]:
    """The replies to *calls*, all of them sent at the same time, to one of the *shops* after the other."""
    limits = httpx2.Limits(max_connections=len(calls), max_keepalive_connections=len(calls))
    urls = [str(shop.http.base_url) for shop in shops] * len(calls)
    async with httpx2.AsyncClient(trust_env=False, timeout=60, limits=limits) as client:
        await asyncio.gather(*(client.get(f"{url}/healthz") for url in urls[: len(calls)]))  # connected beforehand
        return await asyncio.gather(
            *(
                client.request(method, f"{url}{API}{path}", json=body, headers=headers)
                for url, (method, path, body, headers) in zip(urls, calls, strict=False)
            )
        )


async def make(shop: Shop, path: str, bodies: Sequence[dict[str, Any]]) -> None:
    replies = await at_once(shop, calls=[("POST", path, body, {}) for body in bodies])
    assert {reply.status_code for reply in replies} == {201}


def statuses(replies: Sequence[httpx2.Response]) -> Counter[int]:
    return Counter(reply.status_code for reply in replies)


async def call_next_fifty_times(*shops: Shop) -> None:
    """Orders wait, five bays are free, and fifty call, at one of *shops* after the other."""
    shop = shops[0]
    queue = shop.queue()
    bays = [new_id("bay") for _ in range(5)]
    orders = [new_id("order") for _ in range(CALLERS)]
    await make(shop, "/bays", [{"bayID": bay, "name": "Bay"} for bay in bays])
    await make(shop, "/orders", [{"orderID": order, "items": [ITEM]} for order in orders])
    await make(shop, f"/queues/{queue}/entries", [{"orderID": order} for order in orders])
    waiting = [entry["orderID"] for entry in shop.get(f"/queues/{queue}")["queue"]["entries"]]
    before = shop.head()

    calls: list[Call] = [
        ("POST", f"/queues/{queue}/call-next", {"bayID": bays[number // 2 % 5]}, {}) for number in range(CALLERS)
    ]
    replies = await at_once(*shops, calls=calls)

    assert statuses(replies) == {200: 5, 409: 45}
    won = [reply.json() for reply in replies if reply.status_code == 200]
    assert {answer["order"]["orderID"] for answer in won} == set(waiting[:5])
    assert {answer["bay"]["bayID"] for answer in won} == set(bays)
    for reply, call in zip(replies, calls, strict=True):
        if reply.status_code == 409:
            current = reply.json()["current"]
            assert current["bay"]["bayID"] == call[2]["bayID"]
            assert current["bay"]["status"] == "occupied"
            assert current["queue"]["queueID"] == queue
    assert [e["orderID"] for e in shop.get(f"/queues/{queue}")["queue"]["entries"]] == waiting[5:]
    events = Counter(event["eventType"] for event in shop.events(after=before))
    assert events == dict.fromkeys(
        ("queue_updated", "bay_updated", "job_started", "stage_change", "order_stage_change"), 5
    )


async def test_fifty_call_the_next_into_five_bays(shop: Shop) -> None:
    await call_next_fifty_times(shop)


async def test_fifty_call_the_next_at_two_servers(mongodb_database: MongoDatabase, tmp_path: Path) -> None:
    log = f'uri = "{mongodb_database.uri}"\ndatabase = "{mongodb_database.name}"\n'
    config = f'[log]\nstore = "mongodb"\n[log.mongodb]\n{log}'
    with (
        SyncServer(tmp_path / "a", config=config) as a,
        SyncServer(tmp_path / "b", config=config) as b,
        Shop(a.base_url) as first,
        Shop(b.base_url) as second,
    ):
        await call_next_fifty_times(first, second)


async def test_fifty_start_a_job_in_one_bay(shop: Shop) -> None:
    bay = shop.bay()
    orders = [new_id("order") for _ in range(CALLERS)]
    await make(shop, "/orders", [{"orderID": order, "items": [ITEM]} for order in orders])
    before = shop.head()
    replies = await at_once(shop, calls=[("POST", f"/bays/{bay}/jobs", {"orderID": order}, {}) for order in orders])
    assert statuses(replies) == {201: 1, 409: 49}
    (won,) = (reply.json() for reply in replies if reply.status_code == 201)
    for reply, order in zip(replies, orders, strict=True):
        if reply.status_code == 409:
            current = reply.json()["current"]
            assert current["bay"] == won["bay"]
            assert current["order"]["orderID"] == order
            assert current["order"]["stage"] == "initiated"
    assert shop.get(f"/bays/{bay}")["bay"] == won["bay"]
    assert len(shop.events(after=before)) == 4


async def test_fifty_change_the_version_that_they_have_seen(shop: Shop) -> None:
    order = shop.order()
    before = shop.head()
    stages = ["in_progress", "cancelled"] * (CALLERS // 2)
    replies = await at_once(
        shop, calls=[("POST", f"/orders/{order}/stage", {"newStage": stage}, {"If-Match": '"1"'}) for stage in stages]
    )
    assert statuses(replies) == {200: 1, 409: 49}
    (won,) = (reply.json() for reply in replies if reply.status_code == 200)
    assert won["order"]["version"] == 2
    for reply in replies:
        if reply.status_code == 409:
            assert reply.json()["type"] == "stale"
            assert reply.json()["current"]["order"] == won["order"]
    assert [event["eventType"] for event in shop.events(after=before)] == ["stage_change", "order_stage_change"]


async def test_contention_alone_refuses_nobody(shop: Shop) -> None:
    order = shop.order()
    before = shop.head()
    replies = await at_once(
        shop, calls=[("POST", f"/orders/{order}/status", {"status": str(number)}, {}) for number in range(CALLERS)]
    )
    assert statuses(replies) == {200: CALLERS}
    versions = [reply.json()["order"]["version"] for reply in replies]
    assert sorted(versions) == list(range(2, CALLERS + 2))
    by_version = {reply.json()["order"]["version"]: reply.json()["order"]["status"] for reply in replies}
    events = shop.events(after=before)
    assert [(event["version"], event["data"]["order"]["status"]) for event in events] == sorted(by_version.items())
