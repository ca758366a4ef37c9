"""The AsyncAPI document: valid, complete, and true of what the feed sends."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sync_core.domain.catalog import DOMAIN, REGISTRY
from sync_core.domain.vehicles import LOCATION_EVENT
from sync_core.events import CONTROL_EVENTS
from sync_server.reference.asyncapi import asyncapi_document
from sync_server.reference.schemas import Schemas
from tests.server.publishing import CONFIG, published
from tests.server.shop import TRANSPORT, Shop, new_id
from tests.servers import SyncServer

SCHEMA = json.loads((Path(__file__).parent / "schemas" / "asyncapi-3.0.0.json").read_text())


@pytest.fixture(scope="module")
def asyncapi() -> dict[str, Any]:
    """The document, as JSON."""
    schemas = Schemas(DOMAIN, REGISTRY)
    return json.loads(json.dumps(asyncapi_document(REGISTRY, schemas, version="1")))  # type: ignore[no-any-return]


def payload(asyncapi: dict[str, Any], event_type: str) -> dict[str, Any]:
    """The JSON Schema of what *event_type* carries, with what it refers to."""
    message = asyncapi["components"]["messages"][event_type]
    return {**message["payload"], "components": asyncapi["components"]}


def test_the_document_is_valid_asyncapi(asyncapi: dict[str, Any]) -> None:
    jsonschema.Draft7Validator(SCHEMA).validate(asyncapi)


def test_it_holds_every_event_type_and_control_event(asyncapi: dict[str, Any]) -> None:
    names = {event_type.name for event_type in REGISTRY} | CONTROL_EVENTS
    assert set(asyncapi["channels"]["feed"]["messages"]) == names
    assert set(asyncapi["components"]["messages"]) == names | {"publish"}


def test_it_tells_how_each_is_delivered_what_it_carries_and_who_makes_it(asyncapi: dict[str, Any]) -> None:
    for event_type in REGISTRY:
        message = asyncapi["components"]["messages"][event_type.name]
        assert message["x-delivery"] == event_type.delivery.value
        assert message.get("x-latest-of") == event_type.entity
        assert message.get("x-document") == event_type.document
        assert message["x-publishable"] == event_type.publishable
        assert ("version" in message["payload"]["required"]) == (event_type.document is not None)
        makers = {f"{c.target.plural}_{c.name}" for c in DOMAIN.commands if event_type.name in c.emits}
        assert set(message["x-made-by"]) == makers
        made_elsewhere = event_type.name == LOCATION_EVENT  # by who reports positions
        assert event_type.publishable or makers or made_elsewhere, f"nobody makes {event_type.name}"


def test_every_example_is_as_the_schema_says(asyncapi: dict[str, Any]) -> None:
    for event_type in REGISTRY:
        (example,) = asyncapi["components"]["messages"][event_type.name]["examples"]
        jsonschema.Draft202012Validator(payload(asyncapi, event_type.name)).validate(example["payload"])


def test_what_commands_emit_is_as_the_schema_says(shop: Shop, asyncapi: dict[str, Any]) -> None:
    before = shop.head()
    queue, bay = shop.queue(), shop.bay()
    order, other = shop.waiting(queue, 2)
    job = shop.do("POST", f"/queues/{queue}/call-next", {"bayID": bay})["bay"]["job"]["jobID"]
    shop.do("PATCH", f"/bays/{bay}/jobs/{job}", {"progress": 5})
    shop.do("POST", f"/bays/{bay}/jobs/{job}/finish")
    shop.do("PATCH", f"/bays/{bay}", {"status": "available"})
    aborted = shop.job(bay, other)
    shop.do("POST", f"/bays/{bay}/jobs/{aborted}/abort", {"reason": "x"})
    shop.do("POST", f"/orders/{order}/payment", {"status": "paid", "amount": "1"})
    shop.do("POST", f"/orders/{order}/status", {"status": "x"})
    for path in (f"/orders/{order}", f"/queues/{queue}", f"/bays/{bay}"):
        shop.do("DELETE", path)
    _cafe(shop)
    _cart(shop)
    _fuel(shop)
    _road(shop)
    seen = set()
    for event in shop.events(after=before):
        jsonschema.Draft202012Validator(payload(asyncapi, event["eventType"])).validate(event)
        seen.add(event["eventType"])
    assert seen == {name for command in DOMAIN.commands for name in command.emits}


def _cafe(shop: Shop) -> None:
    """Everything that devices and the catalog make known."""
    one, two, catalog = new_id("pc"), new_id("pc"), new_id("catalog")
    for device in (one, two):
        shop.do("POST", "/devices", {"deviceID": device})
    shop.do("PATCH", f"/devices/{one}", {"isRunning": True})
    shop.do("POST", f"/devices/{one}/orders", {"orders": [{"name": "كولا", "price": "1000"}] * 2})
    shop.do("PATCH", f"/devices/{one}/orders/0", {"quantity": 3})
    shop.do("DELETE", f"/devices/{one}/orders/1")
    shop.do("POST", f"/devices/{one}/transfer", {"toDeviceID": two})
    shop.do("POST", f"/devices/{two}/reset")
    shop.do("DELETE", f"/devices/{two}")
    shop.do("PUT", f"/catalog/{catalog}/categories", {"categories": [{"name": "Drinks"}]})
    shop.do("PUT", f"/catalog/{catalog}/prices", {"prices": [{"name": "كولا", "category": "Drinks", "price": "1000"}]})


def _cart(shop: Shop) -> None:
    """Everything that sessions, tabs and transactions make known."""
    user, tab = new_id("user"), shop.do("POST", "/tabs", {"name": "Table 7"})["tab"]["tabID"]
    item = {"sku": "C", "name": "كولا", "quantity": 1, "unitPrice": "2.50"}
    one, two, three = (new_id("session") for _ in range(3))
    for session in (one, two, three):
        shop.do("POST", "/order-sessions", {"sessionID": session, "userId": user, "items": [item], "tillId": 1})
        shop.do("POST", f"/order-sessions/{session}/logout")
    shop.do("POST", f"/order-sessions/{one}/recover")
    shop.do("POST", f"/order-sessions/{one}/complete")
    shop.do("POST", f"/order-sessions/{two}/recover")
    shop.do("POST", f"/order-sessions/{two}/assign-to-tab", {"tabId": tab})
    shop.do("DELETE", f"/order-sessions/{three}")
    shop.do("POST", f"/tabs/{tab}/settle")


def _fuel(shop: Shop) -> None:
    """Everything that fuel orders and trucks make known."""
    truck, order = new_id("truck"), new_id("fuel")
    shop.do("POST", "/fuel-trucks", {"truckID": truck, "name": "Truck"})
    shop.do("POST", "/fuel-orders", {"fuelOrderID": order, "truckID": truck, "offerShare": 0.5})
    for status in ("claimed", "en_route"):
        shop.do("PATCH", f"/fuel-orders/{order}/status", {"status": status, "assigneeID": "ann"})
    shop.do("PATCH", f"/fuel-orders/{order}/csr-update", {"requestedGallons": "300"})
    shop.do("POST", f"/fuel-orders/{order}/acknowledge-change", {"change_version": 1})
    shop.do("PUT", f"/fuel-orders/{order}/submit-data", {"startMeterReading": "1", "endMeterReading": "2.5"})
    other = shop.do("POST", "/fuel-orders", {"assigneeID": "ben"})["fuel_order"]["fuelOrderID"]
    shop.do("POST", f"/fuel-orders/{other}/cancel", {"reason": "No flight"})
    shop.do("DELETE", f"/fuel-orders/{other}")


def test_custom_types_are_in_it(tmp_path: Path) -> None:
    with SyncServer(tmp_path, config=CONFIG) as server, Shop(server.base_url) as shop:
        reply = shop.http.get("/asyncapi.json")
        messages = reply.json()["components"]["messages"]
        assert messages["note"]["x-delivery"] == "every"
        assert (messages["level"]["x-delivery"], messages["level"]["x-latest-of"]) == ("latest", "deviceID")
        assert messages["blip"]["x-delivery"] == "ephemeral"
        assert "id" not in messages["blip"]["payload"]["required"]
        assert published(shop.http, {"eventType": "note", "data": {}})


def _road(shop: Shop) -> None:
    """Everything that logistics makes known, but where vehicles are."""
    van = shop.vehicle()
    order = shop.do("POST", "/transport-orders", TRANSPORT)["transport_order"]["transportOrderID"]
    shop.do("POST", f"/transport-orders/{order}/vehicle", {"vehicleID": van})
    shop.do("POST", f"/vehicles/{van}/driver", {"driverID": shop.driver()})
    shop.do("POST", f"/transport-orders/{order}/cancel")
    shop.do("DELETE", f"/transport-orders/{order}")
    log = shop.do("POST", "/fuel-logs", {"vehicleID": van, "liters": "40", "odometer": 1})["fuel_log"]["fuelLogID"]
    shop.do("DELETE", f"/fuel-logs/{log}")
    shop.do("DELETE", f"/vehicles/{van}")
