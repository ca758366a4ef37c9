"""Logistics over HTTP, on each store: the rules inside the log's transaction, and where vehicles are."""

import math
from collections import Counter
from typing import Any

import httpx2
import pytest

from tests.server.publishing import assert_problem
from tests.server.shop import TRANSPORT, Shop, new_id, new_vin
from tests.server.test_commands_races import Call, at_once

CALLERS = 50
BEIRUT = {"lon": 35.5018, "lat": 33.8938}


def statuses(replies: list[httpx2.Response]) -> Counter[int]:
    return Counter(reply.status_code for reply in replies)


@pytest.mark.parametrize("field", ["vin", "plateNumber"])
async def test_of_many_who_register_one_vin_or_plate_at_once_one_gets_it(shop: Shop, field: str) -> None:
    taken = new_vin() if field == "vin" else new_id("PLATE")[:24]
    calls: list[Call] = []
    for number in range(CALLERS):
        given = {"vehicleID": new_id("van"), "vin": new_vin(), "plateNumber": new_id("B")[:28]}
        wanted = taken.lower() if number % 2 else taken
        calls.append(("POST", "/vehicles", given | {"make": "x", "model": "y", "fuelNorm": "9", field: wanted}, {}))
    replies = await at_once(shop, calls=calls)
    assert statuses(replies) == {201: 1, 409: CALLERS - 1}
    (winner,) = [reply.json()["vehicle"]["vehicleID"] for reply in replies if reply.status_code == 201]
    losers = [call[2]["vehicleID"] for call in calls if call[2]["vehicleID"] != winner]
    assert all(shop.call("GET", f"/vehicles/{loser}").status_code == 404 for loser in losers)
    for reply in replies:
        if reply.status_code == 409:
            assert reply.json()["current"]["vehicle_mark"]["vehicleID"] == winner
    shop.do("DELETE", f"/vehicles/{winner}")
    shop.vehicle(**{field: taken})


async def test_of_many_who_give_a_driver_a_vehicle_at_once_one_does(shop: Shop) -> None:
    driver, vans = shop.driver(), [shop.vehicle() for _ in range(10)]
    replies = await at_once(shop, calls=[("POST", f"/vehicles/{van}/driver", {"driverID": driver}, {}) for van in vans])
    assert statuses(replies) == {200: 1, 409: 9}
    drives = shop.get(f"/drivers/{driver}")["driver"]["vehicleID"]
    assert [van for van in vans if shop.get(f"/vehicles/{van}")["vehicle"].get("driverID") == driver] == [drives]


async def test_of_many_drivers_who_set_out_with_an_order_one_does(shop: Shop) -> None:
    van = shop.vehicle()
    order = shop.do("POST", "/transport-orders", TRANSPORT)["transport_order"]["transportOrderID"]
    shop.do("POST", f"/transport-orders/{order}/vehicle", {"vehicleID": van})
    path = f"/transport-orders/{order}/status"
    replies = await at_once(shop, calls=[("PATCH", path, {"status": "in_progress"}, {})] * CALLERS)
    assert statuses(replies) == {200: 1, 409: CALLERS - 1}
    answer = shop.do("PATCH", path, {"status": "delivered"})
    assert answer["vehicle"].get("orderIDs") == []
    assert answer["transport_order"]["status"] == "delivered"


def test_lists_know_statuses_and_vehicles(shop: Shop) -> None:
    van, other = shop.vehicle(), shop.vehicle()
    orders = [shop.do("POST", "/transport-orders", TRANSPORT)["transport_order"]["transportOrderID"] for _ in range(3)]
    for order, vehicle in zip(orders, (van, van, other), strict=True):
        shop.do("POST", f"/transport-orders/{order}/vehicle", {"vehicleID": vehicle})
    shop.do("PATCH", f"/transport-orders/{orders[0]}/status", {"status": "in_progress"})
    found = shop.get("/transport-orders", vehicleID=van)["transport_orders"]
    assert {order["transportOrderID"] for order in found} == set(orders[:2])
    found = shop.get("/transport-orders", vehicleID=van, status="assigned")["transport_orders"]
    assert [order["transportOrderID"] for order in found] == [orders[1]]


def test_the_consumption_follows_the_fuel_logs(shop: Shop) -> None:
    van = shop.vehicle(fuelNorm="10")
    for liters, odometer in (("50", 1000), ("33.30", 1300)):
        shop.do("POST", "/fuel-logs", {"vehicleID": van, "liters": liters, "odometer": odometer})
    fuel = shop.get(f"/vehicles/{van}")["vehicle"]["fuel"]
    assert (fuel["consumption"], fuel["overNorm"]) == ("11.10", "1.10")
    assert len(shop.get("/fuel-logs", vehicleID=van)["fuel_logs"]) == 2


def move(shop: Shop, van: str, lon: float, lat: float, **more: Any) -> dict[str, Any]:
    return shop.do("POST", f"/vehicles/{van}/location", {"lon": lon, "lat": lat, **more})


def near(shop: Shop, lon: float, lat: float, within_m: float, **more: Any) -> list[dict[str, Any]]:
    reply = shop.http.get("/api/v1/vehicles", params={"near": f"{lon},{lat}", "withinMeters": within_m, **more})
    assert reply.status_code == 200, reply.text
    return list(reply.json()["vehicles"])


def test_a_position_is_found_again(shop: Shop) -> None:
    van = shop.vehicle()
    at = "2026-01-02T03:04:05.678+02:00"
    answer = move(shop, van, -12.3456789, 45.0, heading=90, speed=33.3, at=at)
    place = {"lon": -12.3456789, "lat": 45.0, "heading": 90.0, "speed": 33.3, "at": "2026-01-02T01:04:05.678Z"}
    assert answer == {"vehicleID": van, "location": place}
    shown = {one.pop("vehicleID"): one for one in shop.get("/vehicle-locations")["locations"]}
    assert shown[van] == place
    (vehicle,) = near(shop, -12.3456789, 45.0, 5)
    assert (vehicle["vehicleID"], vehicle["location"], vehicle["distanceMeters"]) == (van, place, 0)
    assert vehicle["version"] == 1, "a position is no change of the vehicle"
    move(shop, van, 0, 0, at="2026-01-02T01:00:00Z")
    assert shop.get("/vehicle-locations")["locations"]
    assert len(near(shop, -12.3456789, 45.0, 5)) == 1, "an older one changes nothing"


def test_the_nearest_come_first(shop: Shop) -> None:
    vans = [shop.vehicle() for _ in range(4)]
    for number, van in enumerate(vans):
        move(shop, van, 100 + number / 10, 60)
    found = near(shop, 100.31, 60, 10_000)
    assert [vehicle["vehicleID"] for vehicle in found] == [vans[3], vans[2]]
    tenth_m = math.radians(0.1) * math.cos(math.radians(60)) * 6_371_008.8
    assert found[0]["distanceMeters"] == pytest.approx(tenth_m / 10, rel=1e-3)
    assert len(near(shop, 100.31, 60, 1e9, limit=1)) == 1
    shop.do("DELETE", f"/vehicles/{vans[3]}")
    assert [vehicle["vehicleID"] for vehicle in near(shop, 100.31, 60, 10_000)] == [vans[2]]


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("near=1,2", "withinMeters"), ("near=1,2&withinMeters=0", "withinMeters"),
        ("near=1,2&withinMeters=-5", "withinMeters"), ("near=1,2&withinMeters=nan", "withinMeters"),
        ("near=1&withinMeters=5", "near"), ("near=181,0&withinMeters=5", "near"), ("near=0,91&withinMeters=5", "near"),
        ("near=a,b&withinMeters=5", "near"), ("near=1,2,3&withinMeters=5", "near"),
        ("near=1,2&withinMeters=5&limit=501", "limit"), ("near=1,2&withinMeters=5&vehicleID=x", "vehicleID"),
        ("near=1,2&withinMeters=5&stage=x", "stage"), ("withinMeters=5", "withinMeters"),
    ],
)  # fmt: skip
def test_a_query_for_the_nearest_that_makes_no_sense_is_refused(shop: Shop, query: str, where: str) -> None:
    assert_problem(shop.call("GET", f"/vehicles?{query}"), 400, where)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lon": 181}, {"lat": -91}, {"lon": "1"}, {"lon": None}, {"heading": 360}, {"heading": -1}, {"speed": -1},
        {"at": "yesterday"}, {"at": "2099-01-01T00:00:00Z"}, {"at": 5}, {"nonsense": 1},
    ],
)  # fmt: skip
def test_what_is_no_position_is_refused(shop: Shop, wrong: dict[str, Any]) -> None:
    van = shop.vehicle()
    assert_problem(shop.call("POST", f"/vehicles/{van}/location", BEIRUT | wrong), 422, *wrong)
    assert_problem(shop.call("POST", f"/vehicles/{new_id('none')}/location", BEIRUT), 404)


async def test_the_log_takes_one_position_of_a_vehicle_in_an_interval(shop: Shop) -> None:
    """The default is 30 s; a hundred positions of ten vehicles take less."""
    before, vans = shop.head(), [shop.vehicle() for _ in range(10)]
    for number in range(10):
        calls: list[Call] = [("POST", f"/vehicles/{van}/location", {"lon": number / 10, "lat": 10}, {}) for van in vans]
        assert statuses(await at_once(shop, calls=calls)) == {200: 10}
    logged = [event for event in shop.events(after=before) if event["eventType"] == "vehicle_location"]
    assert Counter(event["vehicleID"] for event in logged) == dict.fromkeys(vans, 1)
    assert all("version" not in event for event in logged)
