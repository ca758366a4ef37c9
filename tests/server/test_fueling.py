"""Fueling over HTTP with access control, on both stores: who gets an order, who is told of it, what goes together."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import httpx2
import pytest
from pymongo import MongoClient

from tests.access.credentials import CONFIG, bearer, token
from tests.mongod import External, ReplicaSet
from tests.server.publishing import POLL
from tests.server.shop import API, Shop, new_id
from tests.servers import SyncServer
from tests.streams import Stream, stream

FUELERS = 100
OFFER_S = 2
MORE = f"""
[fueling]
offer_share = 0.4
offer_to_all_after = "{OFFER_S}s"
[limits]
commands = "100000/second"
reads = "100000/second"
connects = "100000/second"
"""
CSR, BOSS = bearer("csr", sub="carla"), bearer("admin", sub="boss")
ANN, BEN = bearer("fueler", sub="ann"), bearer("fueler", sub="ben")
OFFER = "new_unclaimed_order"
READINGS = {"startMeterReading": "100.00", "endMeterReading": "350.25"}


class Airport(NamedTuple):
    """The servers of one log."""

    servers: list[SyncServer]


@pytest.fixture(scope="module", params=["sqlite", "mongodb"])
def airport(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airport]:
    """One server on SQLite, two on MongoDB."""
    directory = tmp_path_factory.mktemp(f"fuel-{request.param}")
    if request.param == "sqlite":
        with SyncServer(directory, config=CONFIG + MORE) as server:
            yield Airport([server])
            assert "Traceback" not in server.log_text()
        return
    mongod: ReplicaSet | External = request.getfixturevalue("mongod")
    name = f"test_{uuid.uuid4().hex}"
    config = f'{CONFIG}{MORE}[log]\nstore = "mongodb"\n[log.mongodb]\nuri = "{mongod.uri}"\ndatabase = "{name}"\n'
    with SyncServer(directory / "one", config=config) as one, SyncServer(directory / "two", config=config) as two:
        yield Airport([one, two])
        assert "Traceback" not in one.log_text() + two.log_text()
    with MongoClient[dict[str, Any]](mongod.uri) as client:
        client.drop_database(name)


@pytest.fixture
async def http(airport: Airport) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=airport.servers[0].base_url, timeout=60, trust_env=False) as client:
        yield client


async def do(
    http: httpx2.AsyncClient, who: dict[str, str], method: str, path: str, body: Any = None, **headers: str
) -> dict[str, Any]:
    """The answer to a command that has to succeed."""
    reply = await http.request(method, API + path, json=body, headers=who | headers)
    assert reply.status_code in (200, 201), reply.text
    answer: dict[str, Any] = reply.json()
    return answer


async def refused(http: httpx2.AsyncClient, who: dict[str, str], method: str, path: str, body: Any) -> dict[str, Any]:
    """What the one is told whose command conflicts."""
    reply = await http.request(method, API + path, json=body, headers=who)
    assert reply.status_code == 409, reply.text
    problem: dict[str, Any] = reply.json()
    return problem


async def new_truck(http: httpx2.AsyncClient) -> str:
    answer = await do(http, BOSS, "POST", "/fuel-trucks", {"truckID": new_id("truck"), "name": "Truck"})
    return str(answer["fuel_truck"]["truckID"])


async def new_order(http: httpx2.AsyncClient, **more: Any) -> str:
    body = {"fuelOrderID": new_id("fuel"), "aircraft": "N1", "offerShare": 1, **more}
    return str((await do(http, CSR, "POST", "/fuel-orders", body))["fuel_order"]["fuelOrderID"])


async def head(http: httpx2.AsyncClient) -> str:
    return str((await http.get(POLL, headers=BOSS)).json()["head"])


async def told(http: httpx2.AsyncClient, who: dict[str, str], *, after: str, **wanted: str) -> list[dict[str, Any]]:
    """The events that the one finds by polling."""
    page = (await http.get(POLL, params={"after": after, "limit": "1000", **wanted}, headers=who)).json()
    assert page["upToDate"]
    return list(page["events"])


# -- claiming -----------------------------------------------------------------------------------------------


async def test_of_a_hundred_fuelers_one_gets_the_order(airport: Airport, http: httpx2.AsyncClient) -> None:
    order = await new_order(http)
    path = f"{API}/fuel-orders/{order}/status"
    fuelers = [bearer("fueler", sub=f"fueler-{n}") for n in range(FUELERS)]
    urls = [server.base_url for server in airport.servers] * FUELERS
    limits = httpx2.Limits(max_connections=FUELERS, max_keepalive_connections=FUELERS)
    async with httpx2.AsyncClient(trust_env=False, timeout=60, limits=limits) as client:
        await asyncio.gather(*(client.get(f"{url}/healthz") for url in urls[:FUELERS]))  # connected beforehand
        replies = await asyncio.gather(
            *(
                client.patch(url + path, json={"status": "claimed"}, headers=who)
                for who, url in zip(fuelers, urls, strict=False)
            )
        )
    assert Counter(reply.status_code for reply in replies) == {200: 1, 409: FUELERS - 1}
    (winner,) = (n for n, reply in enumerate(replies) if reply.status_code == 200)
    won = replies[winner].json()["fuel_order"]
    assert (won["status"], won["assigneeID"], won["version"]) == ("claimed", f"fueler-{winner}", 2)
    for reply in replies:
        if reply.status_code == 409:
            assert reply.json()["current"] == {}, "whose it is now is not for the others"
            assert "fueler-" not in reply.text
    found = await do(http, CSR, "GET", f"/fuel-orders/{order}")
    assert found["fuel_order"] == won
    seen = await do(http, fuelers[winner], "GET", f"/fuel-orders/{order}")
    assert seen["fuel_order"] == won
    assert (await http.get(f"{API}/fuel-orders/{order}", headers=fuelers[winner - 1])).status_code == 404


async def test_who_is_told_of_a_claim(airport: Airport, http: httpx2.AsyncClient) -> None:
    port = airport.servers[-1].port
    async with AsyncExitStack() as stack:
        watching: dict[str, Stream] = {}
        for name, role in (("ann", "fueler"), ("ben", "fueler"), ("carla", "csr"), ("boss", "admin")):
            watching[name] = await stack.enter_async_context(stream(port, token=token(role, sub=name)))
            await watching[name].until("caught_up")
        order = await new_order(http)
        await do(http, ANN, "PATCH", f"/fuel-orders/{order}/status", {"status": "claimed"})
        for name, seen in watching.items():
            await seen.until(lambda event: event.event == OFFER and order in event.data)
            claim = await seen.until(lambda event: order in event.data)
            assert claim.event == ("removed" if name == "ben" else "order_claimed")
            assert name != "ben" or "assigneeID" not in claim.data
        # From here on it is between customer service and ann.
        await do(http, CSR, "PATCH", f"/fuel-orders/{order}/csr-update", {"notes": "Hurry"})
        other = await new_order(http)
        for name, seen in watching.items():
            change = await seen.until(lambda event: order in event.data or other in event.data)
            assert change.event == (OFFER if name == "ben" else "order_details_updated")


async def test_an_order_for_somebody_is_no_offer(http: httpx2.AsyncClient) -> None:
    before = await head(http)
    order = await new_order(http, assigneeID="ann")
    kinds = {
        name: [e["eventType"] for e in await told(http, who, after=before, fuelOrderID=order)]
        for name, who in (("ann", ANN), ("ben", BEN), ("csr", CSR), ("viewer", bearer("viewer", sub="vera")))
    }
    assert kinds == {"ann": ["fuel_order_created"], "ben": [], "csr": ["fuel_order_created"], "viewer": []}


# -- changes, completion ------------------------------------------------------------------------------------


async def test_a_change_holds_everything_up_until_it_is_acknowledged(http: httpx2.AsyncClient) -> None:
    order, truck = await new_order(http), await new_truck(http)
    path = f"/fuel-orders/{order}"
    await do(http, ANN, "PATCH", f"{path}/status", {"status": "claimed", "truckID": truck})
    for gallons in ("300", "310"):
        await do(http, CSR, "PATCH", f"{path}/csr-update", {"requestedGallons": gallons})
    for method, way, body in (
        ("PATCH", "status", {"status": "en_route"}),
        ("PUT", "submit-data", READINGS),
        ("POST", "acknowledge-change", {"change_version": 1}),
        ("POST", "acknowledge-change", {"change_version": 3}),
    ):
        problem = await refused(http, ANN, method, f"{path}/{way}", body)
        assert problem["current"]["fuel_order"]["changeVersion"] == 2
    reply = await http.post(f"{API}{path}/acknowledge-change", json={}, headers=ANN)
    assert (reply.status_code, reply.json()["errors"][0]["path"]) == (422, "change_version")
    for who in (BEN, CSR):
        reply = await http.post(f"{API}{path}/acknowledge-change", json={"change_version": 2}, headers=who)
        assert reply.status_code == (404 if who is BEN else 403)
    answer = await do(http, ANN, "POST", f"{path}/acknowledge-change", {"change_version": 2})
    assert answer["fuel_order"]["acknowledgedBy"] == "ann"
    await do(http, ANN, "PATCH", f"{path}/status", {"status": "en_route"})


@pytest.mark.parametrize("status", ["claimed", "unassigned"])
async def test_a_change_of_nothing_is_none(http: httpx2.AsyncClient, status: str) -> None:
    """Nobody has to acknowledge it, and nobody is told of it."""
    order = await new_order(http)
    path = f"/fuel-orders/{order}"
    if status == "claimed":
        await do(http, ANN, "PATCH", f"{path}/status", {"status": status})
    before = await head(http)
    for key in ("", new_id("key")):
        reply = await http.patch(
            f"{API}{path}/csr-update", json={}, headers=CSR | ({"Idempotency-Key": key} if key else {})
        )
        assert (reply.status_code, reply.headers["content-type"]) == (422, "application/problem+json")
        assert reply.json()["detail"] == "There is nothing to change: name at least one field."
    assert await head(http) == before
    shown = (await http.get(f"{API}{path}", headers=CSR)).json()["fuel_order"]
    assert (shown["status"], shown["changeVersion"]) == (status, 0)
    await do(http, CSR, "PATCH", f"{path}/csr-update", {"notes": None})  # to take something away is a change


async def test_order_and_truck_are_completed_by_one_command(http: httpx2.AsyncClient) -> None:
    truck = await new_truck(http)
    order = await new_order(http, truckID=truck)
    path = f"/fuel-orders/{order}"
    for status in ("claimed", "en_route", "fueling"):
        await do(http, ANN, "PATCH", f"{path}/status", {"status": status})
    backwards = {"startMeterReading": "350.25", "endMeterReading": "100.00"}
    reply = await http.put(f"{API}{path}/submit-data", json=backwards, headers=ANN)
    assert (reply.status_code, [e["path"] for e in reply.json()["errors"]]) == (422, ["endMeterReading"])
    before = await head(http)
    key = {"Idempotency-Key": str(uuid.uuid4())}
    first = await http.put(f"{API}{path}/submit-data", json=READINGS, headers=ANN | key)
    again = await http.put(f"{API}{path}/submit-data", json=READINGS, headers=ANN | key)
    assert (first.status_code, first.content) == (200, again.content)
    answer = first.json()
    assert answer["fuel_order"]["gallonsDispensed"] == "250.25"
    assert answer["fuel_truck"]["currentMeterReading"] == "350.25"
    for who in (ANN, CSR):
        events = await told(http, who, after=before, truckID=truck)
        assert [event["eventType"] for event in events] == ["order_completed", "truck_updated"]
    assert [e["eventType"] for e in await told(http, BEN, after=before, truckID=truck)] == ["truck_updated"]
    await refused(http, ANN, "PUT", f"{path}/submit-data", READINGS)


# -- offers -------------------------------------------------------------------------------------------------


async def test_the_same_fuelers_are_offered_an_order_in_every_process(
    airport: Airport, http: httpx2.AsyncClient
) -> None:
    before = await head(http)
    orders = [await new_order(http, offerShare=0.3) for _ in range(20)]
    offered: list[set[tuple[int, str]]] = []
    for server in airport.servers * (2 if len(airport.servers) == 1 else 1):
        async with httpx2.AsyncClient(base_url=server.base_url, timeout=60, trust_env=False) as client:
            drawn = set()
            for n in range(FUELERS):
                who = bearer("fueler", sub=f"fueler-{n}")
                events = await told(client, who, after=before, fuelOrderID=",".join(orders))
                drawn |= {(n, event["fuelOrderID"]) for event in events if event["version"] == 1}
            offered.append(drawn)
    assert offered[0] == offered[1]
    # 2,000 draws: 600 on average, 20 in standard deviation.
    assert 500 < len(offered[0]) < 700
    by_order = Counter(order for _, order in offered[0])
    assert set(by_order) == set(orders)
    assert len({frozenset(n for n, order in offered[0] if order == one) for one in orders}) == len(orders), (
        "each time others"
    )
    for who in (CSR, BOSS):  # they are not fuelers who wait for work
        events = await told(http, who, after=before, fuelOrderID=",".join(orders))
        assert {event["fuelOrderID"] for event in events if event["version"] == 1} == set(orders)
    listed = await do(http, bearer("fueler", sub="fueler-0"), "GET", "/fuel-orders?status=unassigned&limit=1000")
    assert {order["fuelOrderID"] for order in listed["fuel_orders"]} >= set(orders), "a sample is no access"


async def test_who_gives_an_order_back_is_told_so_whether_drawn_for_it_or_not(
    airport: Airport, http: httpx2.AsyncClient
) -> None:
    """Another tablet of hers would show it as hers until it is offered to all."""
    async with (
        stream(airport.servers[0].port, token=token("fueler", sub="ann")) as hers,
        stream(airport.servers[-1].port, token=token("fueler", sub="ben")) as his,
    ):
        before = await head(http)
        order = await new_order(http, assigneeID="ann", offerShare=1e-9)
        await do(http, ANN, "PATCH", f"/fuel-orders/{order}/status", {"status": "unassigned"})
        truck = await new_truck(http)  # for all: what was to come before it has come
        for seen in (hers, his):
            await seen.until(lambda event: truck in event.data)
        live = [[e for e in seen.envelopes if e.get("fuelOrderID") == order] for seen in (hers, his)]
    polled = [await told(http, who, after=before, fuelOrderID=order) for who in (ANN, BEN)]
    for events in (live, polled):  # the third version is the offer to all, which comes by itself
        assert [[event["version"] for event in seen if event["version"] < 3] for seen in events] == [[1, 2], []]
        assert events[0][1]["data"]["fuel_order"]["status"] == "unassigned"


async def test_what_nobody_claims_is_offered_to_everybody(airport: Airport, http: httpx2.AsyncClient) -> None:
    async with AsyncExitStack() as stack:
        watching = [
            await stack.enter_async_context(
                stream(
                    airport.servers[n % len(airport.servers)].port,
                    token=token("fueler", sub=f"waiter-{n}"),
                    eventTypes=OFFER,
                )
            )
            for n in range(20)
        ]
        before = await head(http)
        order = await new_order(http, offerShare=None)  # the share that is configured
        claimed = await new_order(http, offerShare=0.01)
        await do(http, ANN, "PATCH", f"/fuel-orders/{claimed}/status", {"status": "claimed"})
        for seen in watching:
            await seen.until(lambda event: order in event.data and '"offeredToAll":true' in event.data)
        early = [sum(order in e["fuelOrderID"] and e["version"] == 1 for e in seen.envelopes) for seen in watching]
        assert 0 < sum(early) < 20, "at first it was offered to some"
        assert all(claimed not in event.data or '"version":1' in event.data for s in watching for event in s.seen)
    stored = (await do(http, CSR, "GET", f"/fuel-orders/{order}"))["fuel_order"]
    assert (stored["offeredToAll"], stored["offerShare"], stored["version"]) == (True, 0.4, 2)
    # However many processes looked: once.
    events = await told(http, CSR, after=before, fuelOrderID=order)
    assert [event["eventType"] for event in events] == [OFFER, OFFER]


async def test_the_feed_of_offers_is_for_who_has_the_permission(airport: Airport, http: httpx2.AsyncClient) -> None:
    for who, status in ((ANN, 200), (CSR, 200), (BOSS, 200), (bearer("viewer"), 403), (bearer("driver"), 403)):
        assert (await http.get(POLL, params={"eventTypes": OFFER}, headers=who)).status_code == status
        assert (await http.get(f"{API}/fuel-orders", headers=who)).status_code == status
    async with stream(airport.servers[0].port, token=token("viewer"), eventTypes=f"stage_change,{OFFER}") as refusal:
        assert refusal.status == 403


# -- without access control -----------------------------------------------------------------------------------


def test_without_access_control_who_claims_says_who_it_is(shop: Shop) -> None:
    truck = shop.do("POST", "/fuel-trucks", {"name": "Truck"})["fuel_truck"]["truckID"]
    with shop.emitting(OFFER, "order_claimed", "order_details_updated", "change_acknowledged", "order_completed",
                       "truck_updated"):  # fmt: skip
        order = shop.do("POST", "/fuel-orders", {"truckID": truck})["fuel_order"]["fuelOrderID"]
        path = f"/fuel-orders/{order}"
        shop.do("PATCH", f"{path}/status", {"status": "claimed", "assigneeID": "ann"})
        assert shop.call("PATCH", f"{path}/status", {"status": "claimed", "assigneeID": "ben"}).status_code == 409
        shop.do("PATCH", f"{path}/csr-update", {"notes": "Hurry"})
        assert shop.call("PATCH", f"{path}/status", {"status": "en_route"}).status_code == 409
        shop.do("POST", f"{path}/acknowledge-change", {"change_version": 1})
        answer = shop.do("PUT", f"{path}/submit-data", READINGS)
    assert answer["fuel_order"]["assigneeID"] == "ann"
    assert shop.get(f"/fuel-trucks/{truck}")["fuel_truck"]["currentMeterReading"] == "350.25"
