"""The cashier's messages by themselves: the seed's own examples, there and back."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_core.domain import devices, products
from sync_core.domain.catalog import CASHIER
from sync_core.domain.command import Command
from sync_core.domain.devices import Device, NoSuchOrder
from sync_core.problems import Conflict, FieldError, Forbidden, NotFound, TooLarge, TooManyRequests, Unprocessable
from sync_server.devices.incoming import Hello, InvalidMessage, Wish, parse
from sync_server.devices.outgoing import about, code_of, device_made, message_of, text_of
from sync_server.devices.talk import to_all, to_some
from sync_server.feed.framing import ToMessage
from tests.core.domain.shop import Shop

SEED = {
    message["type"]: message
    for message in map(json.loads, (Path(__file__).parents[1] / "seeds" / "seed003.jsonl").read_text().splitlines())
}
COLA = SEED["order_placed"]["orders"][0]
BESIDE = {"cursor", "version", "fromVersion"}
"""What we say beside the seed's members."""


def wish(sent: dict[str, Any]) -> Wish:
    found = parse(sent)
    assert isinstance(found, Wish)
    return found


@pytest.mark.parametrize(
    ("kind", "command", "given"),
    [
        ("device_update", devices.update, {"deviceID": "pc1", **SEED["device_update"]["data"]}),
        ("order_placed", devices.place_orders, {"deviceID": "pc1", "orders": [COLA | {"price": "1000.00"}]}),
        (
            "order_updated",
            devices.edit_order,
            {"deviceID": "pc1", "orderIndex": 0, **SEED["order_updated"]["data"], "price": "1000.00"},
        ),
        ("order_deleted", devices.remove_order, {"deviceID": "pc1", "orderIndex": 0}),
        ("device_transfer", devices.transfer, {"deviceID": "pc1", "toDeviceID": "pc5"}),
        ("device_deleted", devices.delete, {"deviceID": "pc1"}),
        ("device_reset", devices.reset, {"deviceID": "pc1"}),
    ],
)
def test_every_message_of_the_seed_is_its_command(kind: str, command: Command, given: dict[str, Any]) -> None:
    found = wish(SEED[kind])
    assert (found.command, found.type, found.device_id) == (command, kind, "pc1")
    assert found.given.model_dump(mode="json", exclude_none=True) == given
    assert found.adds == (kind == "order_placed")


def test_connect_is_a_greeting() -> None:
    assert parse(SEED["connect"]) == Hello(
        type="connect", clientId="cashier-client-1", timestamp="2026-02-03T02:25:33+03:00"
    )


def evening() -> Shop:
    """A shop in which all that the seed tells of has happened."""
    shop = Shop()
    for device_id in ("pc1", "pc5", "pc10"):
        shop.do(devices.create, deviceID=device_id)
    for kind in ("device_update", "order_placed", "order_updated"):
        found = wish(SEED[kind])
        shop.do(found.command, **found.given.model_dump(mode="json", exclude_unset=True))
    shop.do(devices.place_orders, deviceID="pc10", orders=[{"name": "tea", "price": "0.25"}])
    shop.do(devices.remove_order, deviceID="pc10", orderIndex=0)
    shop.do(devices.transfer, deviceID="pc1", toDeviceID="pc5")
    shop.do(devices.reset, deviceID="pc5")
    shop.do(devices.delete, deviceID="pc1")
    shop.do(products.set_categories, catalogID="main", categories=[])
    shop.do(products.set_prices, catalogID="main", prices=[])
    return shop


def test_every_event_is_told_as_the_seed_has_it() -> None:
    told: dict[str, dict[str, Any]] = {}
    for text in evening().log:
        envelope = json.loads(text)
        message = message_of(envelope)
        if message is None:
            assert (envelope["eventType"], envelope["deviceID"]) == ("device_cleared", "pc1"), "the transfer says so"
            continue
        assert message["cursor"] == envelope["id"]
        assert message["timestamp"] == envelope["timestamp"]
        told[message["type"]] = message
    assert set(told) == {event_type.name for event_type in CASHIER.event_types}
    places = {"device_created": "pc10", "order_added": "pc10", "order_removed": "pc10", "device_cleared": "pc5"}
    for kind, message in told.items():
        expected = SEED[kind] | {"timestamp": message["timestamp"]}
        if "deviceId" in expected:
            expected["deviceId"] = places.get(kind, "pc1")
        if kind == "order_added":
            (order,) = message["orders"]
            expected["orders"] = [order]
            assert (order["price"], set(order)) == (0.25, set(COLA))
        assert {name: message[name] for name in message if name not in BESIDE} == expected
        assert next(iter(message)) == "type"


def test_prices_are_numbers_and_exact() -> None:
    for price, amount in ((1000, "1000.00"), (0.1, "0.10"), (1e3, "1000.00"), (9999999999.99, "9999999999.99")):
        found = wish({"type": "order_placed", "deviceId": "pc1", "orders": [{"name": "x", "price": price}]})
        assert found.given.model_dump(mode="json")["orders"][0]["price"] == amount
        shop = Shop()
        shop.do(devices.create, deviceID="pc1")
        shop.do(found.command, **found.given.model_dump(mode="json"))
        message = message_of(json.loads(shop.log[-1]))
        assert message is not None
        assert message["orders"][0]["price"] == price
        assert isinstance(message["orders"][0]["price"], int) == float(price).is_integer()


def test_a_name_and_a_first_time_are_told_when_they_change() -> None:
    shop = Shop()
    shop.do(devices.create, deviceID="pc1")
    shop.do(devices.place_orders, deviceID="pc1", orders=[{"name": "tea", "price": "1"}])
    shop.do(devices.update, deviceID="pc1", name="Door")
    message = message_of(json.loads(shop.log[-1]))
    assert message is not None
    assert message["data"]["name"] == "Door"
    shop.do(devices.edit_order, deviceID="pc1", orderIndex=0, firstOrderTime="2026-02-03T02:25:33Z")
    message = message_of(json.loads(shop.log[-1]))
    assert message is not None
    assert message["data"]["firstOrderTime"] == "2026-02-03T02:25:33Z"


def test_who_sees_some_devices_only_is_told_that_one_was_cleared_by_a_transfer() -> None:
    cleared = next(json.loads(text) for text in evening().log if '"device_cleared"' in text)
    assert message_of(cleared) is None
    message = message_of(cleared, whole=False)
    assert message is not None
    assert (message["type"], message["deviceId"]) == ("device_cleared", "pc1")


def test_what_left_a_reader_s_view_is_removed() -> None:
    removed = {"id": "k3f9a2c1.7", "eventType": "removed", "data": {"kind": "device", "id": "pc1", "version": 3}}
    assert message_of(removed) == {"type": "device_removed", "deviceId": "pc1", "version": 3, "cursor": "k3f9a2c1.7"}
    assert message_of(removed | {"data": {"kind": "order", "id": "A", "version": 3}}) is None


@pytest.mark.parametrize("name", ["connected", "caught_up", "heartbeat", "advance", "goodbye", "stage_change"])
def test_what_is_nothing_to_tills_is_not_told(name: str) -> None:
    assert message_of({"id": "k3f9a2c1.7", "eventType": name, "data": {}}) is None


@pytest.mark.parametrize("tell", [to_all, to_some])
def test_what_a_newer_server_tells_otherwise_is_an_error_in_its_place(tell: ToMessage) -> None:
    told = []
    for text in evening().log:
        envelope = json.loads(text)
        if "device" in envelope["data"]:
            envelope["data"] = {"device": {"shape": "another one"}}
            told.append(tell(envelope))
    assert {message["code"] for message in told if message is not None} == {"UNREADABLE"}
    error = told[0]
    assert error is not None
    assert (error["type"], error["deviceId"], error["cursor"][-2:]) == ("error", "pc1", ".1")


def test_a_device_is_shown_with_its_clock_read() -> None:
    shop = Shop()
    shop.do(devices.create, deviceID="pc10")
    shop.do(devices.update, deviceID="pc10", isRunning=True, elapsedSeconds=10)
    device = shop.find(Device, "pc10")
    assert device is not None
    message = device_made(device, now_ms=shop.now_ms - 1 + 5_000, now="2026-02-03T02:25:33.000Z")
    data = SEED["device_created"]["data"] | {"isRunning": True, "elapsedSeconds": 15}
    expected = SEED["device_created"] | {"timestamp": "2026-02-03T02:25:33.000Z", "data": data, "version": 2}
    assert message == expected


@pytest.mark.parametrize(
    ("sent", "path"),
    [
        ({"type": "device_update", "deviceId": "pc1"}, "data"),
        ({"type": "device_update", "deviceId": "", "data": {}}, "deviceId"),
        ({"type": "device_update", "data": {}}, "deviceId"),
        ({"type": "device_update", "deviceId": "pc1", "data": {"elapsedSeconds": 1.5}}, "data.elapsedSeconds"),
        ({"type": "device_update", "deviceId": "pc1", "data": {"isRuning": True}}, "data.isRuning"),
        ({"type": "device_update", "deviceId": "pc1", "data": {}, "baseVersion": -1}, "baseVersion"),
        ({"type": "order_placed", "deviceId": "pc1", "orders": []}, "orders"),
        ({"type": "order_placed", "deviceId": "pc1", "orders": [COLA | {"price": -1}]}, "orders[0].price"),
        ({"type": "order_placed", "deviceId": "pc1", "orders": [COLA | {"price": True}]}, "orders[0].price"),
        ({"type": "order_placed", "deviceId": "pc1", "orders": [COLA | {"price": 1e300}]}, "orders[0].price"),
        ({"type": "order_placed", "deviceId": "pc1", "orders": [COLA | {"quantity": 0}]}, "orders[0].quantity"),
        ({"type": "order_updated", "deviceId": "pc1", "orderIndex": -1, "data": {}}, "orderIndex"),
        ({"type": "order_deleted", "deviceId": "pc1"}, "orderIndex"),
        ({"type": "device_transfer", "fromDeviceId": "pc1"}, "toDeviceId"),
        ({"type": "connect", "session": "a b"}, "session"),
        ({"type": "connect", "cursor": 7}, "cursor"),
    ],
)
def test_a_wrong_message_is_refused_with_the_place_of_the_fault(sent: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        parse(sent | {"id": "m-1"})
    assert path in [fault.path for fault in caught.value.errors]
    assert path in caught.value.detail
    assert (caught.value.id, caught.value.type) == ("m-1", sent["type"])


@pytest.mark.parametrize("price", ["1,50", "1000 IQD", True, None, [], 1e300])
def test_a_price_that_is_no_number_is_asked_for_as_one(price: Any) -> None:
    with pytest.raises(InvalidMessage) as caught:
        parse({"type": "order_placed", "deviceId": "pc1", "orders": [COLA | {"price": price}]})
    said = "has to be a number from 0 to 9999999999.99, such as 12.5"
    assert caught.value.errors == (FieldError("orders[0].price", said),)


def test_of_a_list_that_is_far_too_long_the_elements_are_not_looked_at() -> None:
    with pytest.raises(InvalidMessage) as caught:
        parse({"type": "order_placed", "deviceId": "pc1", "id": "m-1", "orders": [{}] * 300_000})
    assert [fault.path for fault in caught.value.errors] == ["orders"]
    assert (caught.value.id, caught.value.device_id) == ("m-1", "pc1")


@pytest.mark.parametrize(
    "sent",
    [
        {"type": "device_created", "deviceId": "pc1"},
        {"type": ""},
        {"type": "device_update", "deviceId": "pc1", "data": {"deviceID": "pc2"}},
        {"type": "device_transfer", "fromDeviceId": "pc1", "toDeviceId": "pc1"},
        {"type": "order_placed", "deviceId": "pc1", "orders": [COLA | {"price": 10**400}]},
        {"type": "order_placed", "deviceId": "pc1", "orders": [COLA | {"note": "\ud800"}]},
    ],
)
def test_what_makes_no_sense_is_refused(sent: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        parse(sent)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["pc1", "pc5", 0]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([*COLA, "isRunning", "x"]), inner),
    max_leaves=6,
)


@given(
    st.sampled_from(sorted(SEED)), st.dictionaries(st.sampled_from(["deviceId", "orderIndex", "id"]), junk), st.data()
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_no_message_brings_the_server_to_fall(kind: str, more: dict[str, Any], data: st.DataObject) -> None:
    """It is understood or refused; and what is understood, the rules accept or refuse."""
    sent = SEED[kind] | more
    for name in ("data", "orders", "cursor", "baseVersion", "toDeviceId"):
        if data.draw(st.booleans()):
            sent[name] = data.draw(junk | st.dictionaries(st.sampled_from([*COLA, "mode"]), junk) | st.just([COLA]))
    try:
        found = parse(sent)
    except InvalidMessage:
        return
    if isinstance(found, Wish):
        shop = Shop()
        for device_id in ("pc1", "pc5"):
            shop.do(devices.create, deviceID=device_id)
        with suppress(Conflict, NotFound, Unprocessable):
            shop.do(found.command, **found.given.model_dump(mode="json", exclude_unset=True))
        for text in shop.log:
            json.dumps(message_of(json.loads(text)), allow_nan=False)


def test_whole_numbers_may_be_written_with_a_point_and_members_that_nobody_knows_are_let_be() -> None:
    found = wish({"type": "device_update", "deviceId": "pc1", "data": {"elapsedSeconds": 3600.0}, "app": {"v": 1.5}})
    assert found.given.model_dump(exclude_none=True) == {"deviceID": "pc1", "elapsedSeconds": 3600}


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (NotFound("x"), "DEVICE_NOT_FOUND"),
        (NoSuchOrder("x"), "ORDER_NOT_FOUND"),
        (Unprocessable("x", errors=(FieldError("toDeviceID", "x"),)), "DEVICE_NOT_FOUND"),
        (Unprocessable("x"), "INVALID_MESSAGE"),
        (Conflict("x"), "CONFLICT"),
        (Forbidden("x"), "FORBIDDEN"),
        (TooManyRequests("x"), "RATE_LIMITED"),
        (TooLarge("x"), "TOO_LARGE"),
    ],
)
def test_every_refusal_has_its_code(problem: Any, code: str) -> None:
    assert code_of(problem) == code


def test_a_device_that_is_not_there_is_told_in_the_seed_s_words() -> None:
    error = SEED["error"]
    problem = NotFound("There is no device pc1.")
    assert (code_of(problem), text_of(problem, wish(SEED["device_reset"]))) == (error["code"], error["message"])
    assert about(wish(SEED["device_reset"] | {"id": "7"})) == {"request": "device_reset", "deviceId": "pc1", "id": "7"}
