"""Devices: their clock, their orders, and where all of it goes."""

from typing import Any

import pytest
from pydantic import ValidationError

from sync_core.domain import devices
from sync_core.domain.changes import RuleConflict
from sync_core.domain.device_orders import MAX_ORDERS
from sync_core.domain.devices import MAX_ELAPSED_S, Device
from sync_core.domain.document import Ref
from sync_core.events import MAX_EVENT_BYTES
from sync_core.problems import NotFound, Unprocessable
from tests.core.domain.shop import Shop, data_of, types_of

COLA: dict[str, Any] = {
    "name": "كولا", "price": "1000", "quantity": 2, "notes": "بارد",
    "firstOrderTime": "2026-02-03T02:25:33+03:00", "lastOrderTime": "2026-02-03T02:25:33+03:00",
}  # fmt: skip
KEPT = COLA | {"price": "1000.00"}
WORST = "\x01"


def cafe(*ids: str) -> Shop:
    shop = Shop()
    for device_id in ids or ("pc1", "pc5"):
        shop.do(devices.create, deviceID=device_id)
    return shop


def device(shop: Shop, device_id: str = "pc1") -> Device:
    found = shop.find(Device, device_id)
    assert found is not None
    return found


def test_a_new_device_stands_and_is_called_by_its_id() -> None:
    shop = Shop()
    (event,) = shop.do(devices.create, deviceID="pc10")
    assert (event.event_type, event.tags) == ("device_created", ("deviceID=pc10",))
    assert device(shop, "pc10").content() == {
        "version": 1, "deviceID": "pc10", "name": "pc10", "isRunning": False, "elapsedSeconds": 0, "mode": "single",
        "customerCount": 1, "notes": "", "orders": [],
    }  # fmt: skip
    assert data_of(event) == {"device": device(shop, "pc10").content()}
    with pytest.raises(RuleConflict, match="already"):
        shop.do(devices.create, deviceID="pc10")


def test_the_clock_runs_from_when_it_was_started() -> None:
    shop = cafe()
    start_ms = shop.now_ms
    (event,) = shop.do(devices.update, deviceID="pc1", isRunning=True)
    assert (event.event_type, device(shop).state) == ("device_updated", "running")
    assert device(shop).elapsed_s(start_ms + 61_999) == 61
    assert device(shop).elapsed_s(start_ms - 5_000) == 0, "a till whose clock is behind"


def test_the_clock_is_read_at_every_change_and_loses_no_part_of_a_second() -> None:
    shop = cafe()
    start_ms = shop.now_ms
    shop.do(devices.update, deviceID="pc1", isRunning=True)
    for number in range(1, 11):
        shop.now_ms = start_ms + number * 1_700
        shop.do(devices.update, deviceID="pc1", notes=f"{number}")
        assert device(shop).elapsedSeconds == number * 1_700 // 1000
    shop.now_ms = start_ms + 20_000
    shop.do(devices.update, deviceID="pc1", isRunning=False)
    assert (device(shop).elapsedSeconds, device(shop).countedAt, device(shop).state) == (20, None, "stopped")
    assert device(shop).elapsed_s(start_ms + 99_000) == 20


def test_the_clock_is_read_when_something_is_ordered() -> None:
    shop = cafe()
    shop.do(devices.update, deviceID="pc1", isRunning=True)
    shop.now_ms += 9_000
    (event,) = shop.do(devices.place_orders, deviceID="pc1", orders=[COLA])
    assert data_of(event)["device"]["elapsedSeconds"] == 9, "what the event shows is right at its time"


def test_a_till_may_set_the_clock() -> None:
    shop = cafe()
    shop.do(devices.update, deviceID="pc1", isRunning=True)
    shop.now_ms += 10_000
    set_ms = shop.now_ms
    shop.do(devices.update, deviceID="pc1", isRunning=True, elapsedSeconds=3600)
    assert device(shop).elapsed_s(set_ms + 2_000) == 3602
    shop.do(devices.update, deviceID="pc1", isRunning=False, elapsedSeconds=7)
    assert device(shop).elapsed_s(set_ms + 90_000) == 7


def test_the_clock_goes_on_where_it_was_stopped() -> None:
    shop = cafe()
    shop.do(devices.update, deviceID="pc1", isRunning=False, elapsedSeconds=100)
    start_ms = shop.now_ms
    shop.do(devices.update, deviceID="pc1", isRunning=True)
    assert device(shop).elapsed_s(start_ms + 5_000) == 105


def test_a_clock_that_ran_for_ever_has_an_end() -> None:
    shop = cafe()
    shop.do(devices.update, deviceID="pc1", isRunning=True)
    assert device(shop).elapsed_s(2**52) == MAX_ELAPSED_S


def test_what_is_absent_stays_and_what_is_null_is_refused() -> None:
    shop = cafe()
    shop.do(devices.update, deviceID="pc1", mode="multi", customerCount=4, notes="VIP", name="PC 1")
    shop.do(devices.update, deviceID="pc1", customerCount=3)
    found = device(shop)
    assert (found.mode, found.customerCount, found.notes, found.name) == ("multi", 3, "VIP", "PC 1")
    for name in ("mode", "customerCount", "notes", "name", "isRunning", "elapsedSeconds"):
        with pytest.raises(ValidationError, match="cannot be null"):
            shop.do(devices.update, deviceID="pc1", **{name: None})


@pytest.mark.parametrize(
    "wrong",
    [{"elapsedSeconds": -1}, {"elapsedSeconds": 1.5}, {"customerCount": -1}, {"mode": ""}, {"isRunning": 1},
     {"notes": "x" * 2001}, {"customercount": 1}],
)  # fmt: skip
def test_a_wrong_value_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        cafe().do(devices.update, deviceID="pc1", **wrong)


def test_orders_are_added_behind_the_others() -> None:
    shop = cafe()
    shop.do(devices.place_orders, deviceID="pc1", orders=[COLA])
    (event,) = shop.do(devices.place_orders, deviceID="pc1", orders=[COLA | {"name": "شاي"}])
    assert data_of(event) == {"device": device(shop).content(), "orders": [KEPT | {"name": "شاي"}]}
    assert device(shop).content()["orders"] == [KEPT, KEPT | {"name": "شاي"}]


def test_an_order_without_times_was_ordered_now() -> None:
    shop = cafe()
    (event,) = shop.do(devices.place_orders, deviceID="pc1", orders=[{"name": "tea", "price": "5"}])
    (order,) = event.data["orders"]
    assert order["firstOrderTime"] == order["lastOrderTime"] == "2026-11-18T11:06:40.002Z"
    assert (order["quantity"], order["notes"], order["price"]) == (1, "", "5.00")


@pytest.mark.parametrize(
    "wrong",
    [{"price": 1000}, {"price": "-1"}, {"price": "0.001"}, {"quantity": 0}, {"name": ""},
     {"firstOrderTime": "2026-02-03T02:25:33"}, {"lastOrderTime": "yesterday"},
     {"lastOrderTime": "2026-13-03T02:25:33Z"}],
)  # fmt: skip
def test_a_wrong_order_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        cafe().do(devices.place_orders, deviceID="pc1", orders=[COLA | wrong])


def test_fields_that_nobody_knows_stay_with_an_order() -> None:
    shop = cafe()
    shop.do(devices.place_orders, deviceID="pc1", orders=[COLA | {"station": "bar"}])
    shop.do(devices.edit_order, deviceID="pc1", orderIndex=0, quantity=3)
    assert device(shop).content()["orders"][0]["station"] == "bar"


def test_an_order_is_changed_and_taken_away_by_its_place() -> None:
    shop = cafe()
    shop.do(devices.place_orders, deviceID="pc1", orders=[COLA, COLA | {"name": "b"}, COLA | {"name": "c"}])
    (event,) = shop.do(devices.edit_order, deviceID="pc1", orderIndex="1", quantity=3, notes="بارد جداً")
    order = device(shop).content()["orders"][1]
    assert order == KEPT | {
        "name": "b", "quantity": 3, "notes": "بارد جداً", "lastOrderTime": "2026-11-18T11:06:40.003Z",
    }  # fmt: skip
    assert (event.data, event.event_type) == (
        {"orderIndex": 1, "order": order, "changed": ["notes", "quantity"]}, "order_modified",
    )  # fmt: skip
    (event,) = shop.do(devices.remove_order, deviceID="pc1", orderIndex=0)
    assert (event.data, event.event_type) == ({"orderIndex": 0}, "order_removed")
    assert [order.name for order in device(shop).orders] == ["b", "c"]
    for command in (devices.edit_order, devices.remove_order):
        with pytest.raises(NotFound, match="no order 2 on device pc1; it has 2"):
            shop.do(command, deviceID="pc1", orderIndex=2)


@pytest.mark.parametrize("index", [-1, MAX_ORDERS, "x", "1.0", "١", None, True])
def test_a_place_is_a_number_from_0(index: Any) -> None:
    with pytest.raises(ValidationError):
        cafe().do(devices.remove_order, deviceID="pc1", orderIndex=index)


def test_a_device_takes_so_many_orders_and_no_more() -> None:
    shop = cafe()
    shop.do(devices.place_orders, deviceID="pc1", orders=[{"name": "x", "price": "1"}] * MAX_ORDERS)
    with pytest.raises(RuleConflict, match="Device pc1 is full") as caught:
        shop.do(devices.place_orders, deviceID="pc1", orders=[COLA])
    assert caught.value.documents == (device(shop),)


def test_every_event_about_the_fullest_device_fits() -> None:
    shop = cafe()
    order = {"name": WORST * 200, "price": "1", "notes": WORST * 2000, "more": "x" * 12_000}
    shop.do(devices.update, deviceID="pc1", notes=WORST * 2000, mode=WORST * 200, name=WORST * 200)
    shop.do(devices.place_orders, deviceID="pc1", orders=[order] * 3)
    with pytest.raises(RuleConflict, match="bytes as JSON"):
        shop.do(devices.place_orders, deviceID="pc1", orders=[order])
    shop.do(devices.edit_order, deviceID="pc1", orderIndex=0, quantity=2)
    shop.do(devices.transfer, deviceID="pc1", toDeviceID="pc5")
    sizes = [len(text.encode()) for text in shop.log]
    assert 150_000 < max(sizes) < MAX_EVENT_BYTES - 4096


def test_everything_moves_to_another_device() -> None:
    shop = cafe()
    shop.do(devices.update, deviceID="pc5", name="By the window")
    shop.do(devices.place_orders, deviceID="pc1", orders=[COLA])
    shop.do(devices.update, deviceID="pc1", isRunning=True, mode="multi", customerCount=4, notes="VIP")
    shop.now_ms += 5_500
    events = shop.do(devices.transfer, deviceID="pc1", toDeviceID="pc5")
    assert types_of(events) == ["device_transferred", "device_cleared"]
    assert [event.tags for event in events] == [("deviceID=pc5",), ("deviceID=pc1",)]
    to, left = device(shop, "pc5"), device(shop)
    ends = {"fromDeviceID": "pc1", "toDeviceID": "pc5"}
    assert [event.data for event in events] == [{**ends, "fromVersion": left.version}, ends]
    assert (to.name, to.isRunning, to.elapsedSeconds, to.mode, to.customerCount, to.notes) == (
        "By the window", True, 5, "multi", 4, "VIP",
    )  # fmt: skip
    assert to.content()["orders"] == [KEPT]
    fresh = cafe("pc1")
    assert left.content() == device(fresh).content() | {"version": left.version}


def test_a_device_in_use_is_not_written_over() -> None:
    for use in ({"isRunning": True}, None):
        shop = cafe()
        if use is None:
            shop.do(devices.place_orders, deviceID="pc5", orders=[COLA])
        else:
            shop.do(devices.update, deviceID="pc5", **use)
        with pytest.raises(RuleConflict, match="Device pc5") as caught:
            shop.do(devices.transfer, deviceID="pc1", toDeviceID="pc5")
        assert caught.value.documents == (device(shop), device(shop, "pc5"))


def test_a_device_moves_to_another_one_that_is_there() -> None:
    with pytest.raises(Unprocessable, match="to itself"):
        cafe().do(devices.transfer, deviceID="pc1", toDeviceID="pc1")
    with pytest.raises(Unprocessable) as caught:
        cafe().do(devices.transfer, deviceID="pc1", toDeviceID="pc9")
    assert caught.value.errors[0].path == "toDeviceID"


def test_a_device_is_cleared_and_stays() -> None:
    shop = cafe()
    shop.do(devices.place_orders, deviceID="pc1", orders=[COLA])
    shop.do(devices.update, deviceID="pc1", isRunning=True, name="Door", notes="x")
    (event,) = shop.do(devices.reset, deviceID="pc1")
    assert (event.event_type, event.data) == ("device_cleared", {})
    found = device(shop)
    assert (found.isRunning, found.elapsedSeconds, found.orders, found.notes, found.name) == (False, 0, (), "", "Door")


def test_a_device_is_taken_away() -> None:
    shop = cafe()
    (event,) = shop.do(devices.delete, deviceID="pc1")
    assert data_of(event) == {"deleted": True, "device": {"deviceID": "pc1"}}
    assert Ref("device", "pc1") not in shop.bodies


@pytest.mark.parametrize(
    ("command", "given"),
    [(devices.update, {}), (devices.place_orders, {"orders": [COLA]}), (devices.edit_order, {"orderIndex": 0}),
     (devices.remove_order, {"orderIndex": 0}), (devices.transfer, {"toDeviceID": "pc5"}), (devices.reset, {}),
     (devices.delete, {})],
)  # fmt: skip
def test_what_is_not_there_is_told(command: Any, given: dict[str, Any]) -> None:
    with pytest.raises(NotFound, match="no device nowhere"):
        cafe().do(command, deviceID="nowhere", **given)
