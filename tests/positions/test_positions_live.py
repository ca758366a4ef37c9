"""Positions from a vehicle to a map, on each store: live, logged now and then, and who may see them."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, cast

import httpx2
import pytest

from sync_core.domain.catalog import DOMAIN
from sync_core.problems import Unavailable
from sync_core.sse import SSEDecoder
from sync_server.access.caller import OPEN_CALLER
from sync_server.console.verify import verify
from sync_server.log.appender import Appender
from sync_server.positions.base import Place
from sync_server.positions.intake import Intake
from sync_server.positions.sqlite import SQLitePositions
from tests.access.credentials import ACCESS, bearer
from tests.feed.conftest import Start
from tests.fixtures import MongoDatabase
from tests.positions.fleet import OFFICE, fleet, logged
from tests.serving import Served, mongodb_settings, serving

DEADLINE_S = 20.0


@asynccontextmanager
async def watching(
    served: Served, query: str = "eventTypes=vehicle_location", *, headers: dict[str, str] | None = None
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The positions that a reader of the stream is sent."""
    async with (
        httpx2.AsyncClient(base_url=served.url, trust_env=False, timeout=DEADLINE_S) as http,
        http.stream("GET", f"/api/v1/sync/events?{query}", headers=headers) as reply,
    ):
        assert reply.status_code == 200, await reply.aread()

        async def events() -> AsyncIterator[dict[str, Any]]:
            decoder = SSEDecoder()
            async for chunk in reply.aiter_raw():
                for event in decoder.feed(chunk):
                    if event.event in ("connected", "vehicle_location"):
                        yield json.loads(event.data)

        async with aclosing(events()) as positions:
            await anext(positions)  # connected: nothing is missed from here on
            yield positions


async def next_lon(positions: AsyncIterator[dict[str, Any]]) -> tuple[str, float, bool]:
    """Vehicle, longitude, and whether it is in the log."""
    async with asyncio.timeout(DEADLINE_S):
        event = await anext(positions)
    return event["vehicleID"], event["data"]["lon"], "id" in event


async def test_every_position_is_live_and_the_log_takes_one_in_an_interval(start: Start) -> None:
    async with start(positions={"log_interval": "1s"}) as served:
        office = fleet(served)
        await office.vehicle("v1")
        async with watching(served) as positions:
            seen, begin_s = [], monotonic()
            while monotonic() < begin_s + 2.5:
                await office.move("v1", len(seen))
                seen.append(await next_lon(positions))
            most = (monotonic() - begin_s) // 1 + 1
        assert [lon for _, lon, _ in seen] == list(range(len(seen)))
        kept = [lon for _, lon, is_logged in seen if is_logged]
        assert 3 <= len(kept) <= most < len(seen)
        assert await logged(served) == [("v1", lon) for lon in kept]
        await office.http.aclose()


async def test_who_stops_is_logged_where_it_stopped(start: Start) -> None:
    """Within the interval, or two seconds where that is shorter; also by a server that was started only then."""
    async with start(positions={"log_interval": "60s"}) as served:
        office = fleet(served)
        await office.vehicle("v1")
        await office.move("v1", 1)
        await office.move("v1", 2)
        assert await logged(served) == [("v1", 1)]
        await office.http.aclose()
    async with start(positions={"log_interval": "1s"}) as served:
        office = fleet(served)
        async with watching(served) as positions:
            assert await next_lon(positions) == ("v1", 2, True)
        assert await logged(served) == [("v1", 1), ("v1", 2)]
        await office.http.aclose()


async def test_positions_of_vehicles_that_do_not_move_any_more_are_logged_once(start_sqlite: Start) -> None:
    async with start_sqlite(positions={"log_interval": "1s"}) as served:
        office = fleet(served)
        await office.vehicle("v1")
        await office.vehicle("v2")
        async with watching(served) as positions:
            for lon in (1, 2):
                for vehicle in ("v1", "v2"):
                    await office.move(vehicle, lon)
            seen = [await next_lon(positions) for _ in range(6)]
            assert sorted(seen[4:]) == [("v1", 2, True), ("v2", 2, True)]
        assert sorted(await logged(served)) == [("v1", 1), ("v1", 2), ("v2", 1), ("v2", 2)]
        await office.http.aclose()


async def test_verify_leaves_positions_out(start: Start) -> None:
    async with start() as served:
        office = fleet(served)
        await office.vehicle("v1", driver="dan")
        await office.move("v1", 1)
        assert await logged(served) == [("v1", 1)]
        report = await verify(served.application.event_log, "default", DOMAIN)
        assert report.findings == []
        vehicle = await office.do("GET", "/vehicles/v1")
        assert "location" not in vehicle["vehicle"]
        await office.http.aclose()


@pytest.fixture
async def guarded(start: Start) -> AsyncIterator[Served]:
    """dan drives v1, eve v2; t1 is an order of acme with v1."""
    async with start(access=ACCESS) as served:
        office = fleet(served, OFFICE)
        await office.vehicle("v1", driver="dan")
        await office.vehicle("v2", driver="eve")
        point = {"coordinates": [1, 2]}
        await office.do(
            "POST",
            "/transport-orders",
            {"transportOrderID": "t1", "customerID": "acme", "pickup": point, "delivery": point, "price": "9"},
        )
        await office.do("POST", "/transport-orders/t1/vehicle", {"vehicleID": "v1"})
        await office.http.aclose()
        yield served


async def test_a_driver_says_and_sees_where_his_own_vehicle_is(guarded: Served) -> None:
    dan, office = fleet(guarded, bearer("driver", sub="dan")), fleet(guarded, OFFICE)
    async with (
        watching(guarded, headers=bearer("driver", sub="dan")) as dans,
        watching(guarded, headers=OFFICE) as all_positions,
    ):
        assert (await dan.call("POST", "/vehicles/v2/location", {"lon": 5, "lat": 5})).status_code == 404
        await office.move("v2", 7)
        await dan.move("v1", 1)
        assert await next_lon(dans) == ("v1", 1, True)
        assert [await next_lon(all_positions) for _ in range(2)] == [("v2", 7, True), ("v1", 1, True)]
        await office.move("v2", 8)
        await dan.move("v1", 2)
        assert await next_lon(dans) == ("v1", 2, False)
    for path, key in (("/vehicle-locations", "locations"), ("/vehicles?near=2,0&withinMeters=1e9", "vehicles")):
        assert [one["vehicleID"] for one in (await dan.do("GET", path))[key]] == ["v1"]
        assert {one["vehicleID"] for one in (await office.do("GET", path))[key]} == {"v1", "v2"}
    await dan.http.aclose()
    await office.http.aclose()


async def test_with_another_vehicle_a_driver_sees_another_position(guarded: Served) -> None:
    dan, office = fleet(guarded, bearer("driver", sub="dan")), fleet(guarded, OFFICE)
    await office.do("POST", "/vehicles/v1/driver", {"driverID": None})
    assert (await dan.call("POST", "/vehicles/v1/location", {"lon": 5, "lat": 5})).status_code == 404
    await office.do("POST", "/vehicles/v2/driver", {"driverID": "dan"})
    async with watching(guarded, headers=bearer("driver", sub="dan")) as dans:
        await office.move("v1", 1)
        await dan.move("v2", 2)
        assert await next_lon(dans) == ("v2", 2, True)
    await dan.http.aclose()
    await office.http.aclose()


async def test_what_is_whose(guarded: Served) -> None:
    """A driver his vehicle, its orders and his fuel logs; a client her orders; nobody else anything."""
    dan, acme = fleet(guarded, bearer("driver", sub="dan")), fleet(guarded, bearer("client", sub="acme"))
    other = fleet(guarded, bearer("client", sub="other"))

    async def ids(who: Any, path: str, key: str) -> list[str]:
        reply = await who.call("GET", path)
        listed = reply.json().get(path.strip("/").replace("-", "_"), []) if reply.status_code == 200 else []
        return [one[key] for one in listed]

    assert await ids(dan, "/vehicles", "vehicleID") == ["v1"]
    assert await ids(dan, "/drivers", "userID") == ["dan"]
    assert await ids(dan, "/transport-orders", "transportOrderID") == ["t1"]
    assert await ids(acme, "/transport-orders", "transportOrderID") == ["t1"]
    assert await ids(other, "/transport-orders", "transportOrderID") == []
    for who in (acme, other):
        assert (await who.call("GET", "/vehicles")).status_code == 403
        assert (await who.call("GET", "/vehicle-locations")).status_code == 403
    assert (await other.call("GET", "/transport-orders/t1")).status_code == 404
    await dan.do("PATCH", "/transport-orders/t1/status", {"status": "in_progress"})
    assert (await acme.call("PATCH", "/transport-orders/t1/status", {"status": "delivered"})).status_code == 403
    assert (await dan.call("POST", "/transport-orders/t1/cancel")).status_code == 403
    filled = {"vehicleID": "v2", "liters": "5", "odometer": 5}
    assert (await dan.call("POST", "/fuel-logs", filled)).status_code == 422
    await dan.do("POST", "/fuel-logs", filled | {"vehicleID": "v1"})
    made = await acme.do(
        "POST", "/transport-orders", {"pickup": {"coordinates": [1, 1]}, "delivery": {"coordinates": [2, 2]}}
    )
    assert made["transport_order"]["customerID"] == "acme"
    for more in ({"price": "1"}, {"customerID": "other"}):
        body = {"pickup": {"coordinates": [1, 1]}, "delivery": {"coordinates": [2, 2]}, **more}
        assert (await acme.call("POST", "/transport-orders", body)).status_code == 403
    for who in (dan, acme, other):
        await who.http.aclose()


async def test_positions_reach_the_readers_of_other_processes(mongodb_database: MongoDatabase) -> None:
    """By the change stream that carries all signals; and the log takes one of a vehicle, whoever reports it."""
    settings = mongodb_settings(mongodb_database.uri, mongodb_database.name)
    async with serving(settings) as here, serving(settings) as there:
        office, other = fleet(here), fleet(there)
        await office.vehicle("v1")
        async with watching(there) as positions:
            seen = []
            for lon in range(6):
                await (office if lon % 2 else other).move("v1", lon)
                seen.append(await next_lon(positions))
        assert [lon for _, lon, _ in seen] == list(range(6))
        assert [is_logged for _, _, is_logged in seen] == [True] + [False] * 5
        for client in (office, other):
            await client.http.aclose()


class Refusing:
    """An appender whose log does not answer."""

    async def append(self, tenant: str, write: object) -> None:
        raise Unavailable("not now", retry_after_s=1)


async def test_what_cannot_be_logged_now_passes_and_is_due_again(start_sqlite: Start, tmp_path: Path) -> None:
    async with start_sqlite() as served:
        office, feed = fleet(served), served.application.feed
        await office.vehicle("v1")
        store = SQLitePositions(tmp_path / "other.db")
        clock = itertools.count(1_795_000_000_000, 10_000)
        intake = Intake(
            store,
            served.application.event_log,
            cast(Appender, Refusing()),
            feed,
            interval_ms=1000,
            wall_ms=lambda: next(clock),
            spawn=feed.spawn,
        )
        async with watching(served) as positions:
            for lon in (1, 2):
                await intake.report(OPEN_CALLER, [Place("v1", lon, 0, at_ms=lon)])
                assert await next_lon(positions) == ("v1", lon, False)
        (due,) = await store.overdue("default", now_ms=next(clock), interval_ms=1000, quiet_ms=0)
        assert due.lon == 2
        await store.aclose()
        await office.http.aclose()
