"""Vehicles and drivers: what may be said of them, and that no VIN and no plate is there twice."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from sync_core.domain import assignments, drivers, fuel_logs, vehicles
from sync_core.domain.changes import RuleConflict
from sync_core.domain.drivers import Driver
from sync_core.domain.fuel_logs import FuelLog
from sync_core.domain.vehicles import Vehicle, VehicleMark
from sync_core.problems import NotFound, Unprocessable
from tests.core.domain.road import VINS, open_yard, vehicle, vehicle_of
from tests.core.domain.shop import Shop, replay, types_of


def marks(shop: Shop) -> dict[str, str]:
    return {mark.id: mark.vehicleID for mark in shop.all(VehicleMark)}


def test_a_vehicle_is_made_with_its_marks() -> None:
    shop = Shop()
    events = shop.do(vehicles.create, **vehicle("v1", vin=" wdb9066331s123456", plateNumber="b 1-01 "))
    assert types_of(events) == ["vehicle_updated", "vehicle_mark_updated", "vehicle_mark_updated"]
    found = vehicle_of(shop)
    assert (found.vin, found.plateNumber, found.fuelNorm) == ("WDB9066331S123456", "b 1-01", Decimal("9.50"))
    assert marks(shop) == {"vin.WDB9066331S123456": "v1", "plate.42313031": "v1"}


@pytest.mark.parametrize(
    ("taken", "what"),
    [
        ({"vin": VINS["v1"].lower()}, "VIN"),
        ({"plateNumber": "b-101"}, "plate"),
    ],
)
def test_a_vin_or_plate_is_there_once_however_it_is_written(taken: dict[str, Any], what: str) -> None:
    shop = open_yard()
    before = dict(shop.bodies)
    with pytest.raises(RuleConflict, match=f"v1 has the {what}"):
        shop.do(vehicles.create, **vehicle("v3", vin="1HGCM82633A004352") | taken)
    with pytest.raises(RuleConflict, match=f"v1 has the {what}"):
        shop.do(vehicles.edit, vehicleID="v2", **taken)
    assert shop.bodies == before


def test_what_an_edit_or_a_deletion_gives_up_is_free_again() -> None:
    shop = open_yard()
    shop.do(vehicles.edit, vehicleID="v1", plateNumber="ب ٧٧٧")
    assert marks(shop)["plate." + "ب777".encode().hex()] == "v1"
    shop.do(vehicles.edit, vehicleID="v2", plateNumber="B 101")
    shop.do(vehicles.delete, vehicleID="v2")
    shop.do(vehicles.create, **vehicle("v3", vin=VINS["v2"], plateNumber="B101"))
    assert marks(shop) == {key: mark for v in shop.all(Vehicle) for key, mark in dict.fromkeys(v.marks, v.id).items()}
    assert len(marks(shop)) == 4


def test_writing_a_plate_otherwise_keeps_its_mark() -> None:
    shop = open_yard()
    events = shop.do(vehicles.edit, vehicleID="v1", plateNumber="b101", model="Vito")
    assert types_of(events) == ["vehicle_updated"]
    assert vehicle_of(shop).plateNumber == "b101"


@pytest.mark.parametrize(
    "wrong",
    [
        {"vin": "WDB906633IS123456"},  # an I
        {"vin": "SHORT"},
        {"plateNumber": " - "},
        {"plateNumber": "\u200b\u2060"},
        {"plateNumber": "ﷺﷺ"},  # 18 letters each
        {"plateNumber": "x" * 29},
        {"plateNumber": "ش" * 15},
        {"fuelNorm": "-1"},
        {"fuelNorm": "1000.01"},
        {"fuelNorm": 9.5},
        {"location": {"lon": 1, "lat": 2}},
    ],
)
def test_what_is_no_vehicle_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Shop().do(vehicles.create, **vehicle("v1") | wrong)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ö 1", "O\u0308 1"),
        ("é1", "e\u200b\u0301-1"),
        ("B\u200b 1\u2060\ufeff", "b1"),
        ("B\u00ad1", "B1"),
        ("ب ٧٧٧", "ب-777"),
        ("ب ۷۷۷", "ب ٧٧٧"),
        ("Ｂ－１２", "B 12"),
        ("B\u201112", "B – 12"),
        ("ΐ1", "\u0399\u0308\u03011"),
        ("ﻻ1", "لا1"),
        ("ß1", "SS1"),
        ("❤1", "❤\ufe0f1"),
    ],
)
def test_plates_that_look_the_same_are_the_same(one: str, other: str) -> None:
    shop = Shop()
    shop.do(vehicles.create, **vehicle("v1", plateNumber=one))
    with pytest.raises(RuleConflict, match="v1 has the plate"):
        shop.do(vehicles.create, **vehicle("v2", plateNumber=other))
    assert vehicle_of(shop).plateNumber == one


def test_the_longest_plate_has_a_mark() -> None:
    shop = Shop()
    shop.do(vehicles.create, **vehicle("v1", plateNumber="ش" * 14))
    assert all(len(mark) <= 64 for mark in marks(shop))


def test_a_driver_has_one_vehicle_and_a_vehicle_one_driver() -> None:
    shop = open_yard()
    with pytest.raises(RuleConflict, match="Dan drives vehicle v1 already"):
        shop.do(assignments.assign_driver, vehicleID="v2", driverID="dan")
    with pytest.raises(Unprocessable, match="no driver nobody"):
        shop.do(assignments.assign_driver, vehicleID="v2", driverID="nobody")
    events = shop.do(assignments.assign_driver, vehicleID="v1", driverID="eve")
    assert types_of(events) == ["driver_updated", "driver_updated", "vehicle_updated"]
    assert {driver.id: driver.vehicleID for driver in shop.all(Driver)} == {"dan": None, "eve": "v1"}
    assert vehicle_of(shop).driverID == "eve"


def test_a_vehicle_can_stand_without_a_driver() -> None:
    shop = open_yard()
    shop.do(assignments.assign_driver, vehicleID="v1", driverID=None)
    assert vehicle_of(shop).driverID is None
    assert [driver.vehicleID for driver in shop.all(Driver)] == [None, None]
    with pytest.raises(RuleConflict, match="Nobody drives"):
        shop.do(assignments.assign_driver, vehicleID="v1", driverID=None)


def test_a_driver_who_drives_cannot_be_deleted_and_a_deleted_vehicle_lets_its_driver_go() -> None:
    shop = open_yard()
    with pytest.raises(RuleConflict, match="Dan drives"):
        shop.do(drivers.delete, userID="dan")
    shop.do(vehicles.delete, vehicleID="v1")
    shop.do(drivers.edit, userID="dan", phone="+961 1", licence=None)
    found = shop.find(Driver, "dan")
    assert found is not None
    assert (found.vehicleID, found.phone) == (None, "+961 1")
    shop.do(drivers.delete, userID="dan")
    with pytest.raises(NotFound):
        shop.do(drivers.edit, userID="dan", name="x")


def test_who_may_see_a_vehicle_and_a_driver() -> None:
    shop = open_yard()
    assert vehicle_of(shop).audience() == ("role:admin", "role:dispatcher", "user:dan")
    assert vehicle_of(shop, "v2").audience() == ("role:admin", "role:dispatcher")
    assert vehicle_of(shop).grants() == ("vehicleID=v1",)
    assert vehicle_of(shop).tags() == ("vehicleID=v1", "userID=dan")
    (dan,) = [driver for driver in shop.all(Driver) if driver.id == "dan"]
    assert dan.audience() == ("role:admin", "role:dispatcher", "user:dan")
    assert dan.tags() == ("userID=dan", "vehicleID=v1")
    assert shop.all(VehicleMark)[0].audience() == ("role:admin", "role:dispatcher")


def fill(shop: Shop, liters: str, odometer: int, **more: Any) -> None:
    shop.do(fuel_logs.create, vehicleID="v1", liters=liters, odometer=odometer, **more)


def test_consumption_counts_what_was_filled_in_after_the_first_log() -> None:
    shop = open_yard()
    fill(shop, "60", 10_000)
    fuel = vehicle_of(shop).fuel
    assert fuel is not None
    assert (fuel.consumption, fuel.overNorm, fuel.liters) == (None, None, Decimal("0.00"))
    fill(shop, "40.00", 10_400)
    fill(shop, "30.05", 10_737)
    fuel = vehicle_of(shop).fuel
    assert fuel is not None
    # (40 + 30.05) litres over 737 km are 9.504748... L/100 km
    assert (fuel.consumption, fuel.overNorm, fuel.logs) == (Decimal("9.50"), Decimal("0.00"), 3)
    shop.do(vehicles.edit, vehicleID="v1", fuelNorm="11")
    fuel = vehicle_of(shop).fuel
    assert fuel is not None
    assert fuel.overNorm == Decimal("-1.50"), "a new norm is measured by at once"


def test_the_odometer_does_not_go_back() -> None:
    shop = open_yard()
    fill(shop, "60", 10_000)
    with pytest.raises(RuleConflict, match="at 10000 km"):
        fill(shop, "1", 9_999)
    fill(shop, "1", 10_000)
    fuel = vehicle_of(shop).fuel
    assert fuel is not None
    assert fuel.consumption is None, "nothing was driven"


def test_the_newest_log_can_be_taken_back() -> None:
    shop = open_yard()
    fill(shop, "60", 10_000, fuelLogID="f1")
    fill(shop, "40", 10_400, fuelLogID="f2")
    before = vehicle_of(shop).fuel
    fill(shop, "999", 10_401, fuelLogID="f3", at="2026-11-20T10:00:00+02:00")
    log = shop.find(FuelLog, "f3")
    assert log is not None
    assert (log.at, log.driverID, log.audience()[-1]) == ("2026-11-20T08:00:00.000Z", "dan", "user:dan")
    with pytest.raises(RuleConflict, match="not the newest"):
        shop.do(fuel_logs.delete, fuelLogID="f2")
    shop.do(fuel_logs.delete, fuelLogID="f3")
    assert vehicle_of(shop).fuel == before
    for log_id in ("f2", "f1"):
        shop.do(fuel_logs.delete, fuelLogID=log_id)
    assert vehicle_of(shop).fuel is None
    assert replay(shop.log)[0] == {ref: shop.known(ref).document.content() for ref in shop.bodies}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "wrong",
    [{"liters": "0"}, {"liters": "10000.01"}, {"odometer": -1}, {"at": "yesterday"}, {"at": "2026-11-20T10:00:00"}],
)
def test_what_is_no_filling_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        open_yard().do(fuel_logs.create, **{"vehicleID": "v1", "liters": "1", "odometer": 1} | wrong)
