"""Transport orders: along their statuses, and together with the vehicle that has them."""

from typing import Any

import pytest
from pydantic import ValidationError

from sync_core.domain import assignments, transport_orders, vehicles
from sync_core.domain.assignments import MAX_ORDERS
from sync_core.domain.changes import RuleConflict
from sync_core.domain.transport_orders import TransportOrder
from sync_core.problems import Forbidden, NotFound, Unprocessable
from tests.core.domain.road import BEIRUT, TRIPOLI, open_yard, order_of, vehicle_of
from tests.core.domain.shop import Shop, replay, types_of


def assign(shop: Shop, order_id: str = "t1", vehicle_id: str | None = "v1") -> list[str]:
    return types_of(shop.do(assignments.assign_vehicle, transportOrderID=order_id, vehicleID=vehicle_id))


def move(shop: Shop, status: str, order_id: str = "t1") -> None:
    shop.do(transport_orders.set_status, transportOrderID=order_id, status=status)


def test_the_way_of_an_order() -> None:
    shop = open_yard(orders=1)
    assert (order_of(shop).status, order_of(shop).state) == ("new", "new")
    assert assign(shop) == ["vehicle_updated", "transport_order_updated"]
    assert (order_of(shop).status, order_of(shop).driverID, vehicle_of(shop).orderIDs) == ("assigned", "dan", ("t1",))
    move(shop, "in_progress")
    assert vehicle_of(shop).orderIDs == ("t1",)
    move(shop, "delivered")
    done = order_of(shop)
    assert (done.status, done.is_open, done.vehicleID, vehicle_of(shop).orderIDs) == ("delivered", False, "v1", ())
    assert done.deliveredAt is not None
    documents, _ = replay(shop.log)
    assert documents == {ref: shop.known(ref).document.content() for ref in shop.bodies}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("before", "status"),
    [
        ((), "in_progress"),
        ((), "delivered"),
        (("in_progress",), "in_progress"),
        (("in_progress", "delivered"), "delivered"),
    ],
)
def test_only_along_the_statuses(before: tuple[str, ...], status: str) -> None:
    shop = open_yard(orders=1)
    if before:
        assign(shop)
    for step in before:
        move(shop, step)
    with pytest.raises(RuleConflict, match="cannot become"):
        move(shop, status)


@pytest.mark.parametrize("status", ["new", "assigned", "cancelled"])
def test_what_is_no_step_of_a_driver_is_refused(status: str) -> None:
    with pytest.raises(ValidationError):
        move(open_yard(orders=1), status)


def test_an_order_that_waits_can_go_to_another_vehicle_or_to_none() -> None:
    shop = open_yard(orders=1)
    assign(shop)
    assert assign(shop, vehicle_id="v2") == ["vehicle_updated", "vehicle_updated", "transport_order_updated"]
    assert (vehicle_of(shop).orderIDs, vehicle_of(shop, "v2").orderIDs) == ((), ("t1",))
    assert order_of(shop).driverID is None
    assign(shop, vehicle_id=None)
    assert (order_of(shop).status, order_of(shop).vehicleID) == ("new", None)
    with pytest.raises(RuleConflict):
        assign(shop, vehicle_id=None)
    with pytest.raises(Unprocessable):
        assign(shop, vehicle_id="v9")
    assign(shop)
    move(shop, "in_progress")
    with pytest.raises(RuleConflict, match="is in_progress with vehicle v1"):
        assign(shop, vehicle_id="v2")


def test_a_cancelled_order_leaves_its_vehicle() -> None:
    shop = open_yard(orders=2)
    assign(shop)
    shop.do(transport_orders.cancel, transportOrderID="t1", reason="changed their mind")
    assert (order_of(shop).status, order_of(shop).reason, vehicle_of(shop).orderIDs) == (
        "cancelled",
        "changed their mind",
        (),
    )
    with pytest.raises(RuleConflict, match="is cancelled"):
        shop.do(transport_orders.cancel, transportOrderID="t1")
    with pytest.raises(RuleConflict, match="is cancelled"):
        shop.do(transport_orders.edit, transportOrderID="t1", price="1")
    assign(shop, "t2")
    with pytest.raises(RuleConflict, match="v1 has transport order t2"):
        shop.do(transport_orders.delete, transportOrderID="t2")
    with pytest.raises(RuleConflict, match="transport orders under way: 1"):
        shop.do(vehicles.delete, vehicleID="v1")
    shop.do(transport_orders.delete, transportOrderID="t1")
    with pytest.raises(NotFound):
        shop.do(transport_orders.cancel, transportOrderID="t1")


def test_all_orders_of_a_vehicle_go_with_its_driver_in_one_batch() -> None:
    shop = open_yard(orders=MAX_ORDERS + 1)
    for number in range(1, MAX_ORDERS + 1):
        assign(shop, f"t{number}")
    with pytest.raises(RuleConflict, match="has 50 transport orders"):
        assign(shop, f"t{MAX_ORDERS + 1}")
    events = shop.do(assignments.assign_driver, vehicleID="v1", driverID="eve")
    assert len(events) == MAX_ORDERS + 3 == assignments.assign_driver.max_events
    assert {order.driverID for order in shop.all(TransportOrder) if order.vehicleID} == {"eve"}


def test_who_may_see_an_order() -> None:
    shop = open_yard(orders=1)
    assert order_of(shop).audience() == ("role:admin", "role:dispatcher", "user:acme")
    assign(shop)
    assert order_of(shop).audience() == ("role:admin", "role:dispatcher", "user:acme", "user:dan")
    assert order_of(shop).tags() == ("transportOrderID=t1", "vehicleID=v1", "userID=acme")
    assert order_of(shop).grants() == ("transportOrderID=t1", "vehicleID=v1")


def test_who_is_not_of_the_office_orders_for_oneself_and_names_no_price() -> None:
    shop = open_yard()
    shop.roles = frozenset({"client"})
    shop.do(transport_orders.create, transportOrderID="r1", pickup=BEIRUT, delivery=TRIPOLI)
    assert (order_of(shop, "r1").customerID, order_of(shop, "r1").price) == ("tester", None)
    for more in ({"customerID": "acme"}, {"price": "1"}):
        with pytest.raises(Forbidden):
            shop.do(transport_orders.create, pickup=BEIRUT, delivery=TRIPOLI, **more)
    shop.do(transport_orders.edit, transportOrderID="r1", price="99.5", notes="two pallets")
    shop.do(transport_orders.edit, transportOrderID="r1", notes=None)
    assert order_of(shop, "r1").content()["price"] == "99.50"
    assert order_of(shop, "r1").notes is None


@pytest.mark.parametrize(
    "point",
    [
        {"type": "Polygon", "coordinates": [1, 2]}, {"type": "Point", "coordinates": [181, 0]},
        {"type": "Point", "coordinates": [0, -90.1]}, {"type": "Point", "coordinates": [0]},
        {"type": "Point", "coordinates": ["1", "2"]}, {"type": "Point", "coordinates": [1, 2, 3]}, {"type": "Point"},
        {"type": "Point", "coordinates": [1, 2], "altitude": 3.5}, [1, 2],
    ],
)  # fmt: skip
def test_what_is_no_point_is_refused(point: Any) -> None:
    with pytest.raises(ValidationError):
        open_yard().do(transport_orders.create, pickup=point, delivery=TRIPOLI)


def test_points_are_kept_to_a_centimetre() -> None:
    shop = open_yard()
    shop.do(
        transport_orders.create, transportOrderID="r", pickup={"coordinates": [-1e-9, 89.123456789]}, delivery=TRIPOLI
    )  # fmt: skip
    assert order_of(shop, "r").content()["pickup"] == {"type": "Point", "coordinates": [0.0, 89.1234568]}
