"""``/ws/tracking`` on each store: positions in and out over one socket."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.access.credentials import ACCESS, bearer, token
from tests.feed.conftest import Start
from tests.positions.fleet import OFFICE, Fleet, fleet
from tests.serving import Served
from tests.sockets.client import Client, closed_with, refused, socket

PATH = "/ws/tracking"


@pytest.fixture
async def served(start: Start) -> AsyncIterator[Served]:
    async with start() as served:
        yield served


@pytest.fixture
async def office(served: Served) -> AsyncIterator[Fleet]:
    made = fleet(served)
    for vehicle in ("v1", "v2"):
        await made.vehicle(vehicle)
    yield made
    await made.http.aclose()


async def position(client: Client) -> tuple[str, float]:
    message = await client.until("vehicle_location")
    return message["vehicleID"], message["lon"]


async def test_what_one_says_the_others_are_told(served: Served, office: Fleet) -> None:
    async with socket(served, PATH) as tracker, socket(served, PATH) as viewer:
        for client in (tracker, viewer):
            assert (await client.until("vehicle_locations"))["locations"] == []
        said = {"type": "vehicle_location", "vehicleID": "v1", "lon": 35.5, "lat": 33.9, "heading": 12.5, "speed": 40}
        at = "2026-11-20T10:00:00.000Z"
        await tracker.say({**said, "at": at, "id": "m1"})
        told = await viewer.until("vehicle_location")
        assert {name: told[name] for name in said} == said
        assert told["at"] == at
        assert await tracker.until("ack") == {"type": "ack", "id": "m1", "locations": 1}
        await office.move("v2", 7)
        assert await position(viewer) == ("v2", 7)


async def test_who_names_itself_does_not_hear_itself(served: Served, office: Fleet) -> None:
    async with socket(served, PATH, clientID="phone-1") as tracker:
        await tracker.until("vehicle_locations")
        for lon in (1, 2):
            await tracker.say({"type": "vehicle_location", "vehicleID": "v1", "lon": lon, "lat": 0, "id": "m"})
            await tracker.until("ack")
        await office.move("v2", 3)
        assert await position(tracker) == ("v2", 3)
        assert tracker.kinds.count("vehicle_location") == 1


async def test_who_comes_is_told_where_all_are(served: Served, office: Fleet) -> None:
    await office.move("v1", 1)
    await office.move("v2", 2)
    async with socket(served, PATH) as viewer, socket(served, PATH, vehicleID="v2") as of_one:
        known = (await viewer.until("vehicle_locations"))["locations"]
        assert {(one["vehicleID"], one["lon"]) for one in known} == {("v1", 1), ("v2", 2)}
        assert [one["vehicleID"] for one in (await of_one.until("vehicle_locations"))["locations"]] == ["v2"]
        await office.move("v1", 3)
        await office.move("v2", 4)
        assert await position(of_one) == ("v2", 4)


async def test_a_gateway_says_many_at_once(served: Served, office: Fleet) -> None:
    async with socket(served, PATH) as gateway:
        await gateway.until("vehicle_locations")
        locations = [{"vehicleID": vehicle, "lon": lon, "lat": 1} for lon, vehicle in enumerate(("v1", "v2"))]
        await gateway.say({"type": "vehicle_locations", "locations": locations, "id": "x"})
        assert (await gateway.until("ack"))["locations"] == 2
        found = (await office.do("GET", "/vehicle-locations"))["locations"]
        assert {(one["vehicleID"], one["lon"]) for one in found} == {("v1", 0), ("v2", 1)}


@pytest.mark.parametrize(
    ("message", "code", "path"),
    [
        ({"type": "vehicle_location", "vehicleID": "v1", "lon": 181, "lat": 0}, "INVALID_MESSAGE", "lon"),
        ({"type": "vehicle_location", "lon": 1, "lat": 0}, "INVALID_MESSAGE", "vehicleID"),
        ({"type": "vehicle_location", "vehicleID": "v9", "lon": 1, "lat": 0}, "NOT_FOUND", None),
        ({"type": "vehicle_location", "vehicleID": "v" * 64, "lon": 1, "lat": 0}, "NOT_FOUND", None),
        ({"type": "vehicle_location", "vehicleID": "v" * 65, "lon": 1, "lat": 0}, "INVALID_MESSAGE", "vehicleID"),
        ({"type": "vehicle_location", "vehicleID": "v 1", "lon": 1, "lat": 0}, "INVALID_MESSAGE", "vehicleID"),
        ({"type": "vehicle_locations", "locations": [{"vehicleID": "v1"}]}, "INVALID_MESSAGE", "locations.0.lon"),
        ({"type": "vehicle_locations", "locations": [5]}, "INVALID_MESSAGE", "locations.0.vehicleID"),
        ({"type": "vehicle_locations", "locations": [{}] * 1001}, "INVALID_MESSAGE", None),
        ({"type": "vehicle_locations", "locations": "all"}, "INVALID_MESSAGE", None),
        ({"type": "what"}, "INVALID_MESSAGE", None),
        ("no JSON", "INVALID_MESSAGE", None),
    ],
)
async def test_what_cannot_be_taken_is_told_and_the_socket_goes_on(
    served: Served, office: Fleet, message: Any, code: str, path: str | None
) -> None:
    async with socket(served, PATH) as client:
        await client.until("vehicle_locations")
        error = await client.ask({**message, "id": "m7"} if isinstance(message, dict) else message)
        assert (error["type"], error["code"]) == ("error", code)
        assert [fault["path"] for fault in error.get("errors", ())][:1] == ([] if path is None else [path])
        assert error.get("id") == ("m7" if isinstance(message, dict) else None)
        await office.move("v1", 5)
        assert await position(client) == ("v1", 5)


async def test_ids_of_a_megabyte_are_refused_and_spoil_nothing_that_comes_with_them(
    served: Served, office: Fleet
) -> None:
    """More than a store takes in one question, if they were looked up."""
    async with AsyncExitStack() as sockets:
        huge, good = [
            [await sockets.enter_async_context(socket(served, PATH)) for _ in range(count)] for count in (20, 1)
        ]
        for client in (*huge, *good):
            await client.until("vehicle_locations")
        said = {"type": "vehicle_location", "lon": 1, "lat": 1, "id": "m"}
        for client in huge:
            await client.say(said | {"vehicleID": "v" * 900_000})
        await good[0].say(said | {"vehicleID": "v1"})
        for client in huge:
            error = await client.until("error")
            assert (error["code"], error["errors"][0]["path"], len(str(error)) < 500) == (
                "INVALID_MESSAGE", "vehicleID", True,
            )  # fmt: skip
        await good[0].until("ack")
    reply = await office.call("POST", f"/vehicles/{'v' * 65}/location", {"lon": 1, "lat": 1})
    assert (reply.status_code, reply.json()["errors"][0]["path"]) == (422, "vehicleID")


async def test_rights_hold_on_the_socket(start: Start) -> None:
    async with start(access=ACCESS) as served:
        office = fleet(served, OFFICE)
        await office.vehicle("v1", driver="dan")
        await office.vehicle("v2", driver="eve")
        await office.move("v1", 1)
        await office.move("v2", 2)
        assert (await refused(served, PATH, headers=bearer("driver", lifetime_s=-5)))[0] == 401
        async with socket(served, PATH, headers=bearer("driver", sub="dan")) as dan, socket(served, PATH) as late:
            assert [one["vehicleID"] for one in (await dan.until("vehicle_locations"))["locations"]] == ["v1"]
            await late.say({"type": "connect", "token": token("driver", sub="eve")})
            assert [one["vehicleID"] for one in (await late.until("vehicle_locations"))["locations"]] == ["v2"]
            error = await dan.ask({"type": "vehicle_location", "vehicleID": "v2", "lon": 9, "lat": 9})
            assert error["code"] == "NOT_FOUND"
            await late.say({"type": "vehicle_location", "vehicleID": "v2", "lon": 8, "lat": 8})
            assert await position(late) == ("v2", 8)
            await dan.say({"type": "vehicle_location", "vehicleID": "v1", "lon": 7, "lat": 7})
            assert await position(dan) == ("v1", 7)
            assert dan.kinds.count("vehicle_location") == 1
        async with socket(served, PATH, headers=bearer("client", sub="acme")) as acme:
            error = await acme.ask({"type": "vehicle_location", "vehicleID": "v2", "lon": 9, "lat": 9})
            assert error["code"] == "FORBIDDEN"
            await acme.say({"type": "connect"})
            assert await closed_with(acme) == ("FORBIDDEN", 1008)
        async with socket(served, PATH) as late:
            await late.say({"type": "connect", "token": token("client", sub="acme")})
            assert await closed_with(late) == ("FORBIDDEN", 1008)
            assert "view_vehicles or drive" in late.seen[-1]["message"]
        await office.http.aclose()
