"""Devices and the catalog over HTTP, on both stores: what is answered, emitted, and there afterwards."""

import itertools
import threading
from typing import Any

import pytest

from tests.server.shop import Shop, new_id

COLA: dict[str, Any] = {
    "name": "كولا", "price": "1000.00", "quantity": 2, "notes": "بارد",
    "firstOrderTime": "2026-02-03T02:25:33+03:00", "lastOrderTime": "2026-02-03T02:25:33+03:00",
}  # fmt: skip


@pytest.fixture
def pc(shop: Shop) -> str:
    """A new device's id."""
    return new_device(shop)


def new_device(shop: Shop) -> str:
    return str(shop.do("POST", "/devices", {"deviceID": new_id("pc")})["device"]["deviceID"])


def assert_as_told(shop: Shop, answer: dict[str, Any], events: list[dict[str, Any]], kind: str, path: str) -> None:
    """The answer's document is what the last event of it carried, and what a read gives."""
    carried = [event for event in events if event["data"].get(kind, {}).get("version") == answer[kind]["version"]]
    assert carried[-1]["data"][kind] == answer[kind] == shop.get(path)[kind]
    assert answer["cursor"] == events[-1]["id"]


def test_a_device_is_made_at_its_place(shop: Shop) -> None:
    device_id = new_id("pc")
    with shop.emitting("device_created") as events:
        reply = shop.call("POST", "/devices", {"deviceID": device_id, "name": "Door"})
    assert (reply.status_code, reply.headers["location"]) == (201, f"/api/v1/devices/{device_id}")
    assert_as_told(shop, reply.json(), events, "device", f"/devices/{device_id}")
    assert shop.call("POST", "/devices", {"deviceID": device_id}).status_code == 409


def test_a_device_through_an_evening(shop: Shop, pc: str) -> None:
    path, other = f"/devices/{pc}", new_device(shop)
    steps: list[tuple[str, str, Any, tuple[str, ...]]] = [
        ("PATCH", path, {"isRunning": True, "customerCount": 2, "notes": "VIP"}, ("device_updated",)),
        ("POST", f"{path}/orders", {"orders": [COLA, COLA]}, ("order_added",)),
        ("PATCH", f"{path}/orders/0", {"quantity": 3, "notes": "بارد جداً"}, ("order_modified",)),
        ("DELETE", f"{path}/orders/1", None, ("order_removed",)),
        ("POST", f"{path}/transfer", {"toDeviceID": other}, ("device_transferred", "device_cleared")),
    ]
    for method, where, body, types in steps:
        with shop.emitting(*types) as events:
            answer = shop.do(method, where, body)
        if "device" in answer:
            assert_as_told(shop, answer, events, "device", path)
    moved = shop.get(f"/devices/{other}")["device"]
    assert answer["devices"] == [moved, shop.get(path)["device"]]
    assert (moved["isRunning"], moved["customerCount"], moved["notes"]) == (True, 2, "VIP")
    (order,) = moved["orders"]
    assert (order["quantity"], order["notes"], order["price"]) == (3, "بارد جداً", "1000.00")
    with shop.emitting("device_cleared") as events:
        answer = shop.do("POST", f"/devices/{other}/reset")
    assert (answer["device"]["orders"], answer["device"]["isRunning"]) == ([], False)
    with shop.emitting("device_removed"):
        assert shop.do("DELETE", path)["device"]["deleted"] is True
    assert shop.call("GET", path).status_code == 404


def test_lists_tell_those_that_run_from_those_that_do_not(shop: Shop, pc: str) -> None:
    shop.do("PATCH", f"/devices/{pc}", {"isRunning": True})
    running = [device["deviceID"] for device in shop.get("/devices", state="running")["devices"]]
    assert pc in running
    assert pc not in [device["deviceID"] for device in shop.get("/devices", state="stopped")["devices"]]
    assert [device["deviceID"] for device in shop.get("/devices", deviceID=pc)["devices"]] == [pc]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "fault"),
    [
        ("PATCH", "/orders/7", {"quantity": 1}, 404, None),
        ("DELETE", "/orders/0", None, 404, None),
        ("PATCH", "/orders/x", {"quantity": 1}, 422, "orderIndex"),
        ("PATCH", "", {"orders": []}, 422, "orders"),
        ("POST", "/orders", {"orders": []}, 422, "orders"),
        ("POST", "/orders", {"orders": [COLA | {"price": 1000}]}, 422, "orders[0].price"),
        ("POST", "/transfer", {"toDeviceID": "nowhere"}, 422, "toDeviceID"),
    ],
)
def test_what_cannot_be_is_refused(
    shop: Shop, pc: str, method: str, path: str, body: Any, status: int, fault: str | None
) -> None:
    with shop.emitting():
        reply = shop.call(method, f"/devices/{pc}{path}", body)
    assert reply.status_code == status, reply.text
    assert fault is None or fault in [error["path"] for error in reply.json()["errors"]]


def test_a_conflict_shows_how_things_stand(shop: Shop, pc: str) -> None:
    other = new_device(shop)
    shop.do("PATCH", f"/devices/{other}", {"isRunning": True})
    reply = shop.call("POST", f"/devices/{pc}/transfer", {"toDeviceID": other})
    assert reply.status_code == 409
    assert [d["deviceID"] for d in reply.json()["current"]["devices"]] == [pc, other]
    stale = shop.call("DELETE", f"/devices/{other}", headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["current"]["device"]["version"]) == (409, 2)


def test_tills_that_order_at_one_device_at_the_same_moment_lose_nothing(shop: Shop, pc: str) -> None:
    names = [f"order {number}" for number in range(24)]
    left = itertools.count()

    def till() -> None:
        with Shop(str(shop.http.base_url)) as mine:
            while (number := next(left)) < len(names):
                mine.do("POST", f"/devices/{pc}/orders", {"orders": [COLA | {"name": names[number]}]})

    threads = [threading.Thread(target=till) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(order["name"] for order in shop.get(f"/devices/{pc}")["device"]["orders"]) == sorted(names)


def test_the_catalog_is_set_and_read(shop: Shop) -> None:
    path = f"/catalog/{new_id('catalog')}"
    with shop.emitting("categories_updated"):
        shop.do("PUT", f"{path}/categories", {"categories": [{"name": "مشروبات"}]})
    with shop.emitting("prices_updated") as events:
        answer = shop.do(
            "PUT", f"{path}/prices", {"prices": [{"name": "كولا", "category": "مشروبات", "price": "1000"}]}
        )
    assert_as_told(shop, answer, events, "catalog", path)
    assert answer["catalog"]["prices"][0]["price"] == "1000.00"
    assert path.rpartition("/")[2] in [catalog["catalogID"] for catalog in shop.get("/catalog")["catalogs"]]
    assert shop.call("PUT", f"{path}/categories", {"categories": []}).status_code == 409
    stale = shop.call("PUT", f"{path}/prices", {"prices": []}, headers={"If-Match": '"1"'})
    assert stale.status_code == 409


def test_a_snapshot_holds_devices_and_the_catalog(shop: Shop, pc: str) -> None:
    shop.do("PUT", "/catalog/main/prices", {"prices": []})
    snapshot = shop.get("/sync/snapshot", kinds="devices,catalogs")
    assert pc in [device["deviceID"] for device in snapshot["devices"]]
    assert "main" in [catalog["catalogID"] for catalog in snapshot["catalogs"]]
