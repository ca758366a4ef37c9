"""The sockets with protocols of their own, for the AsyncAPI document: every message, in both directions.

What a till sends is described by the models and the commands that check it (devices/incoming.py), what it is told by
the documents and events that it is told of; positions by their model. Source: docs/devices.md, docs/logistics.md.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sync_core.domain.devices import Device
from sync_core.domain.places import Position
from sync_core.domain.vehicles import LOCATION_EVENT
from sync_server.devices.incoming import MESSAGES, Message
from sync_server.devices.outgoing import ERROR_CODES as CASHIER_ERROR_CODES
from sync_server.devices.outgoing import STATE
from sync_server.devices.talk import CASHIER_SOCKET_PATH
from sync_server.positions.tracking import LOCATIONS, MAX_LOCATIONS, TRACKING_PATH
from sync_server.reference.operation import Schema
from sync_server.reference.schemas import CURSOR, TIME, VERSION, Schemas, ref
from sync_server.sockets.errors import ERROR_CODES

__all__ = ["feed_socket_messages", "socket_channels", "socket_operations"]

_RECEIVED = "receive."
_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_PRICE: Schema = {"type": "number", "minimum": 0, "maximum": 9_999_999_999.99, "description": "Exact to two places."}
_FAULTS: Schema = {
    "type": "array",
    "items": {"type": "object", "properties": {"path": _TEXT, "message": _TEXT}, "required": ["path", "message"]},
}
_TOKEN: Schema = {"description": "A credential, where the handshake showed none."}


def socket_channels(schemas: Schemas, goodbye: Schema) -> dict[str, Any]:
    """``/ws`` and ``/ws/tracking``; *goodbye* is the payload of the feed's."""
    cashier = _channel(
        CASHIER_SOCKET_PATH,
        "WebSocket for tills: each hears what others change, and changes devices itself.",
        received=_from_tills(schemas),
        sent=_to_tills(schemas),
    )
    tracking = _channel(
        TRACKING_PATH,
        "WebSocket for vehicles and maps: positions in and out, filtered by the handshake's query.",
        received=_from_trackers(),
        sent=_to_maps(goodbye),
    )
    return {"cashierDevices": cashier, "tracking": tracking}


def feed_socket_messages() -> dict[str, Any]:
    """What is said over the feed's socket beside the feed itself."""
    return _messages({}, {"error": _error(ERROR_CODES)}, kind_key="eventType")


def socket_operations(channels: Mapping[str, Any]) -> dict[str, Any]:
    """Which of their messages the server receives, and which (all others) it sends."""
    operations = {}
    for name, channel in channels.items():
        received = [key for key in channel["messages"] if key.startswith(_RECEIVED)]
        sent = [key for key in channel["messages"] if key not in received]
        for action, keys in (("receive", received), ("send", sent)):
            operations[f"{action}{name[0].upper()}{name[1:]}"] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "messages": [{"$ref": f"#/channels/{name}/messages/{key}"} for key in keys],
            }
    return operations


def _channel(
    address: str, description: str, *, received: Mapping[str, Schema], sent: Mapping[str, Schema]
) -> dict[str, Any]:
    bindings = {"ws": {"method": "GET", "bindingVersion": "0.1.0"}}
    return {"address": address, "description": description, "bindings": bindings, "messages": _messages(received, sent)}


def _messages(received: Mapping[str, Schema], sent: Mapping[str, Schema], *, kind_key: str = "type") -> dict[str, Any]:
    """*received* by the server, and *sent* by it; both also what every socket understands."""
    payloads = {f"{_RECEIVED}{kind}": part for kind, part in {**received, "ping": _object({}, {})}.items()}
    payloads |= {f"send.{kind}": part for kind, part in {**sent, "pong": _object({"timestamp": TIME}, {})}.items()}
    messages = {}
    for key, payload in payloads.items():
        kind = key.partition(".")[2]
        properties = {kind_key: {}, **payload["properties"]} | {kind_key: {"const": kind}}
        required = [kind_key, *(name for name in payload.get("required", ()) if name != kind_key)]
        typed = {**payload, "properties": properties, "required": required}
        messages[key] = {"name": kind, "payload": typed}
    return messages


def _object(required: Mapping[str, Schema], optional: Mapping[str, Schema]) -> dict[str, Any]:
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


def _error(codes: Iterable[str], **more: Schema) -> dict[str, Any]:
    return _object(
        {"code": {"enum": sorted(codes)}, "message": {**_TEXT, "description": "For people."}, "timestamp": TIME},
        {"id": {**_TEXT, "description": "Of the message that it is about."}, "errors": _FAULTS, **more},
    )


# -- /ws ------------------------------------------------------------------------------------------------------


def _from_tills(schemas: Schemas) -> dict[str, Schema]:
    return {kind: _asking(message, schemas) for kind, message in MESSAGES.items()}


def _asking(message: Message, schemas: Schemas) -> dict[str, Any]:
    """The message's own members, and in the one that carries them those of its command."""
    schema = _plain(message.model.model_json_schema())
    if message.command is None:
        return schema
    named = _plain(message.command.input.model_json_schema())["properties"]
    schema["properties"] |= {name: named[name] for name in named if name in schema["properties"]}
    if message.carries is not None:
        body = _priced(schemas.components[message.command.input.__name__], schemas)
        schema["properties"][message.carries] = body["properties"].get(message.carries, body)
    return schema


def _to_tills(schemas: Schemas) -> dict[str, Schema]:
    device = _priced(schemas.components[Device.__name__], schemas)["properties"]
    order = device["orders"]["items"]
    state = {name: device[name] for name in STATE}
    whole = _object({"name": device["name"], **state, "orders": device["orders"]}, {})
    one = {"deviceId": device["deviceID"]}
    place = {"orderIndex": _COUNT}
    ends = {"fromDeviceId": device["deviceID"], "toDeviceId": device["deviceID"]}
    seen = {"timestamp": TIME, "version": VERSION}
    logged, cursor = {**seen, "cursor": CURSOR}, {"cursor": CURSOR}
    unversioned = {"timestamp": TIME, **cursor}
    return {
        "connected": _object(
            {
                "success": {"const": True}, "message": _TEXT, **unversioned, "session": _TEXT,
                "resume": {"enum": ["resumed", "snapshot", "reset"]},
                "devices": {**_COUNT, "description": "How many `device_created` follow."},
            },
            {},
        ),
        "device_created": _object({**one, "data": whole, **seen}, cursor),
        "device_updated": _object({**one, "data": _object(state, {"name": device["name"]}), **logged}, {}),
        "device_cleared": _object({**one, **logged}, {}),
        "device_removed": _object({**one, **logged}, {}),
        "device_transferred": _object({**ends, "message": _TEXT, **logged, "fromVersion": VERSION}, {}),
        "order_added": _object({**one, "orders": {"type": "array", "items": order}, **logged}, {}),
        "order_modified": _object({**one, **place, "data": order, **logged}, {}),
        "order_removed": _object({**one, **place, **logged}, {}),
        "categories_updated": _object(unversioned, {}),
        "prices_updated": _object(unversioned, {}),
        "ack": _object(
            {"id": _TEXT, "timestamp": TIME, "versions": {"type": "object", "additionalProperties": VERSION}}, {}
        ),
        "error": _error(
            CASHIER_ERROR_CODES, request=_TEXT, deviceId=_TEXT, version=VERSION, data=whole, **cursor
        ),
    }  # fmt: skip


def _priced(schema: Schema, schemas: Schemas) -> dict[str, Any]:
    """*schema* as this wire has it: prices are numbers, also in the orders that it holds."""
    properties = dict(schema["properties"])
    if "price" in properties:
        properties["price"] = _PRICE
    if "orders" in properties:
        orders = properties["orders"]
        held = schemas.components[orders["items"]["$ref"].rpartition("/")[2]]
        properties["orders"] = {**orders, "items": _priced(held, schemas)}
    return {**schema, "properties": properties}


def _plain(schema: Schema) -> dict[str, Any]:
    """A model's *schema* as a payload: what is absent is absent, and no titles that were made of names."""
    properties = {name: dict(part) for name, part in schema["properties"].items()}
    for name, part in properties.items():
        part.pop("title", None)
        options = [option for option in part.pop("anyOf", ()) if option != {"type": "null"}]
        if options:
            part.pop("default", None)
            properties[name] = {**part, **options[0]}
    rest = {name: value for name, value in schema.items() if name not in ("title", "description", "$defs")}
    return {**rest, "properties": properties}


# -- /ws/tracking ---------------------------------------------------------------------------------------------


def _from_trackers() -> dict[str, Schema]:
    position, numbered = _position(), {"id": {**_TEXT, "description": "It is answered with `ack`."}}
    return {
        "connect": _object({}, {"token": {**_TEXT, **_TOKEN}}),
        LOCATION_EVENT: {**position, "properties": {**position["properties"], **numbered}},
        LOCATIONS: _object({"locations": {"type": "array", "maxItems": MAX_LOCATIONS, "items": position}}, numbered),
    }


def _to_maps(goodbye: Schema) -> dict[str, Schema]:
    position = _position()
    shown = {**position, "required": [*position["required"], "at"]}
    place = {"id": {**CURSOR, "description": "Where in the log it is."}}
    logged = {**shown, "properties": {**shown["properties"], **place}}
    return {
        LOCATIONS: _object({"locations": {"type": "array", "items": shown}}, {}),
        LOCATION_EVENT: logged,
        "connected": _object({"cursor": CURSOR}, {}),
        "reset": _object({"cursor": CURSOR}, {}),
        "goodbye": goodbye,
        "ack": _object({"id": _TEXT, "locations": _COUNT}, {}),
        "error": _error(ERROR_CODES),
    }


def _position() -> dict[str, Any]:
    schema = _plain(Position.model_json_schema())
    properties = {"vehicleID": ref("EntityID"), **schema["properties"]}
    return {**schema, "properties": properties, "required": ["vehicleID", *schema["required"]]}
