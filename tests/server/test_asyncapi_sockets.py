"""What the AsyncAPI document says of the sockets: every message in both directions, and true of what they do."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sync_core.domain.catalog import CASHIER, DOMAIN, REGISTRY
from sync_server.devices.incoming import MESSAGES, InvalidMessage, parse
from sync_server.log.open import new_epoch
from sync_server.reference.asyncapi import asyncapi_document
from sync_server.reference.schemas import Schemas
from tests.devices.tills import COLA, office, till
from tests.feed.conftest import Start, start, start_sqlite
from tests.positions.fleet import fleet
from tests.sockets.client import Client, socket

__all__ = ["start", "start_sqlite"]

SEED = {
    message["type"]: message
    for message in map(json.loads, (Path(__file__).parents[1] / "seeds" / "seed003.jsonl").read_text().splitlines())
}
AT = {"vehicleID": "v1", "lon": 35.5, "lat": 33.9, "heading": 12.5, "speed": 40, "at": "2026-11-20T10:00:00.000Z"}
CHANNELS = [("cashierDevices", "/ws"), ("tracking", "/ws/tracking"), ("feedSocket", "/api/v1/sync/ws")]


class Told:
    """What the document tells of one socket."""

    def __init__(self, document: dict[str, Any], channel: str) -> None:
        self._components = document["components"]
        self.channel = document["channels"][channel]
        self.messages: dict[str, Any] = self.channel["messages"]

    def types(self, action: str) -> set[str]:
        return {message["name"] for key, message in self.messages.items() if key.startswith(f"{action}.")}

    def payload(self, action: str, message: dict[str, Any], *, kind_key: str = "type") -> dict[str, Any]:
        found: dict[str, Any] = self.messages[f"{action}.{message[kind_key]}"]["payload"]
        return {**found, "components": self._components}

    def allows(self, action: str, message: dict[str, Any]) -> bool:
        return jsonschema.Draft202012Validator(self.payload(action, message)).is_valid(message)

    def check(self, client: Client) -> set[str]:
        """That all that *client* was sent is as it says, and has no other member; the types of it."""
        for message in client.seen:
            payload = self.payload("send", message)
            jsonschema.Draft202012Validator(payload).validate(message)
            assert message.keys() <= payload["properties"].keys(), message
        return {message["type"] for message in client.seen}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(json.dumps(asyncapi_document(REGISTRY, Schemas(DOMAIN, REGISTRY), version="1")))  # type: ignore[no-any-return]


@pytest.fixture
def cashier(document: dict[str, Any]) -> Told:
    return Told(document, "cashierDevices")


@pytest.fixture
def tracking(document: dict[str, Any]) -> Told:
    return Told(document, "tracking")


@pytest.mark.parametrize(("channel", "address"), CHANNELS)
def test_a_socket_is_in_it_with_what_it_receives_and_sends(
    document: dict[str, Any], channel: str, address: str
) -> None:
    told = Told(document, channel)
    assert told.channel["address"] == address
    for action in ("receive", "send"):
        (operation,) = (
            operation
            for operation in document["operations"].values()
            if (operation["action"], operation["channel"]["$ref"]) == (action, f"#/channels/{channel}")
        )
        named = {ref["$ref"].rpartition("/")[2] for ref in operation["messages"]}
        assert named == {key for key in told.messages if key.startswith("receive.") == (action == "receive")}
    for message in told.messages.values():
        if "payload" in message:
            jsonschema.Draft202012Validator.check_schema(message["payload"])


def test_it_holds_every_message_that_a_till_may_send(cashier: Told) -> None:
    assert cashier.types("receive") == {*MESSAGES, "ping"}
    for kind in MESSAGES:
        assert cashier.allows("receive", SEED[kind] | {"id": "m-1"})
        assert not cashier.allows("receive", SEED[kind] | {"id": ""})


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "connect", "session": "a b"},
        {"type": "connect", "cursor": 7},
        {"type": "device_update", "deviceId": "pc1"},
        {"type": "device_update", "deviceId": "", "data": {}},
        {"type": "device_update", "deviceId": "pc1", "data": {"isRuning": True}},
        {"type": "device_update", "deviceId": "pc1", "data": {}, "baseVersion": -1},
        {"type": "device_update", "deviceId": "pc1", "data": {"deviceID": "pc2"}},
        {"type": "order_placed", "deviceId": "pc1", "orders": []},
        {"type": "order_placed", "deviceId": "pc1", "orders": [COLA | {"price": -1}]},
        {"type": "order_placed", "deviceId": "pc1", "orders": [COLA | {"price": 1e300}]},
        {"type": "order_placed", "deviceId": "pc1", "orders": [COLA | {"quantity": 0}]},
        {"type": "order_updated", "deviceId": "pc1", "orderIndex": -1, "data": {}},
        {"type": "order_updated", "deviceId": "pc1", "orderIndex": 0, "data": {"price": True}},
        {"type": "order_deleted", "deviceId": "pc1", "orderIndex": 500},
        {"type": "device_transfer", "fromDeviceId": "pc1"},
        {"type": "device_reset"},
    ],
)
def test_what_is_refused_is_not_as_it_says_either(cashier: Told, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        parse(wrong)
    assert not cashier.allows("receive", wrong)


async def test_tills_are_told_what_it_says_and_nothing_else(start_sqlite: Start, cashier: Told) -> None:
    async with start_sqlite() as served, office(served) as shop:
        await shop.create("pc1", "pc5")
        async with till(served) as hears, till(served) as does:
            await shop.create("pc7")
            for number, kind in enumerate(kind for kind in MESSAGES if kind != "connect"):
                message = SEED[kind] | ({"orderIndex": 0} if "orderIndex" in SEED[kind] else {}) | {"id": f"{number}"}
                assert cashier.allows("receive", message)
                await does.say(message)
                await does.until("ack")
                if kind == "device_deleted":
                    await shop.create("pc1")
                    await does.until(lambda m: (m["type"], m.get("deviceId")) == ("device_created", "pc1"))
            await shop.do("PATCH", "/devices/pc5", {"name": "Door"})
            for what in ("categories", "prices"):
                await shop.do("PUT", f"/catalog/main/{what}", {what: []})
            await does.until("prices_updated")  # it has seen all that was done, so that nothing conflicts
            for wrong, code in (
                ({"type": "nonsense", "id": "x"}, "INVALID_MESSAGE"),
                ({"type": "order_updated", "deviceId": "pc5", "orderIndex": -1, "data": {}}, "INVALID_MESSAGE"),
                ({"type": "device_reset", "deviceId": "nowhere"}, "DEVICE_NOT_FOUND"),
                ({"type": "order_deleted", "deviceId": "pc5", "orderIndex": 7}, "ORDER_NOT_FOUND"),
                ({"type": "device_reset", "deviceId": "pc5", "baseVersion": 99}, "CONFLICT"),
            ):
                await does.say(wrong)
                assert (await does.until("error"))["code"] == code
            await does.say({"type": "ping"})
            await does.until("pong")
            await hears.until("prices_updated")
            seen = cashier.check(hears) | cashier.check(does)
        assert seen == cashier.types("send")
        assert {event_type.name for event_type in CASHIER.event_types} < seen


async def test_vehicles_and_maps_say_and_are_told_what_it_says(start_sqlite: Start, tracking: Told) -> None:
    async with start_sqlite() as served, socket(served, "/ws/tracking") as client:
        made = fleet(served)
        await made.vehicle("v1")
        await client.until("vehicle_locations")
        said: list[dict[str, Any]] = [
            {"type": "connect"},
            {"type": "ping"},
            {"type": "vehicle_location", **AT, "id": "1"},
            {"type": "vehicle_locations", "locations": [AT | {"at": "2026-11-20T10:00:01.000Z"}], "id": "2"},
        ]
        assert {message["type"] for message in said} == tracking.types("receive")
        for message in said:
            assert tracking.allows("receive", message)
            await client.say(message)
        for _ in range(2):
            await client.until("ack")
        assert "error" not in client.kinds
        wrong: list[dict[str, Any]] = [
            {"type": "vehicle_location", **AT, "lon": 181},
            {"type": "vehicle_location", "lon": 1, "lat": 1},
            {"type": "vehicle_location", **AT, "colour": "red"},
            {"type": "vehicle_locations", "locations": [AT] * 1001},
        ]
        for message in wrong:
            assert not tracking.allows("receive", message)
            await client.say(message)
            assert (await client.until("error"))["code"] == "INVALID_MESSAGE"
        await made.http.aclose()
        await served.application.event_log.new_epoch("default", new_epoch())
        await client.until("reset")
        await served.application.feed.drain(0)
        await client.end()
        assert tracking.check(client) == tracking.types("send")


async def test_the_feed_s_socket_has_a_few_words_of_its_own(start_sqlite: Start, document: dict[str, Any]) -> None:
    told = Told(document, "feedSocket")
    assert (told.types("receive"), set(document["channels"]["feed"]["messages"]) < set(told.messages)) == (
        {"ping"},
        True,
    )
    async with start_sqlite() as served, socket(served) as client:
        for kind, answer in (("ping", "pong"), ("nonsense", "error")):
            await client.say({"eventType": kind})
            message = await client.until(answer)
            payload = told.payload("send", message, kind_key="eventType")
            jsonschema.Draft202012Validator(payload).validate(message)
            assert message.keys() <= payload["properties"].keys()
