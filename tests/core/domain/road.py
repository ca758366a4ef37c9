"""What the tests of logistics share: a yard with two vehicles and their drivers, in memory."""

from typing import Any

from sync_core.domain import assignments, drivers, transport_orders, vehicles
from sync_core.domain.transport_orders import TransportOrder
from sync_core.domain.vehicles import Vehicle
from tests.core.domain.shop import Shop

VINS = {"v1": "WDB9066331S123456", "v2": "VF1MA000064123457"}
BEIRUT: dict[str, Any] = {"type": "Point", "coordinates": [35.5018, 33.8938]}
TRIPOLI: dict[str, Any] = {"type": "Point", "coordinates": [35.8497, 34.4367]}


def vehicle(vehicle_id: str, **more: Any) -> dict[str, Any]:
    """What ``vehicles.create`` takes."""
    given = {"vin": VINS.get(vehicle_id, ""), "plateNumber": f"B 10{vehicle_id[1:]}"}
    return {"vehicleID": vehicle_id, "make": "MB", "model": "Sprinter", "fuelNorm": "9.50", **given, **more}


def open_yard(*, orders: int = 0, driven: bool = True) -> Shop:
    """Vehicles v1 and v2; dan drives v1 if *driven*, eve is free; new transport orders t1 ... for acme."""
    shop = Shop(roles=frozenset({"dispatcher"}))
    for vehicle_id in VINS:
        shop.do(vehicles.create, **vehicle(vehicle_id))
    for user in ("dan", "eve"):
        shop.do(drivers.create, userID=user, name=user.title())
    if driven:
        shop.do(assignments.assign_driver, vehicleID="v1", driverID="dan")
    for number in range(1, orders + 1):
        shop.do(
            transport_orders.create,
            transportOrderID=f"t{number}",
            customerID="acme",
            pickup=BEIRUT,
            delivery=TRIPOLI,
            price="120",
        )
    return shop


def vehicle_of(shop: Shop, vehicle_id: str = "v1") -> Vehicle:
    found = shop.find(Vehicle, vehicle_id)
    assert found is not None
    return found


def order_of(shop: Shop, order_id: str = "t1") -> TransportOrder:
    found = shop.find(TransportOrder, order_id)
    assert found is not None
    return found
