"""What tills are told on ``/ws`` (seed 003), as values and nothing else: no I/O, no clock.

    message_of    an event's envelope -> what all but its sender are told, or None
    device_made   a device as it is   -> the same, for who has just connected
    code_of, text_of, about           -> what an `error` says

Every message has the seed's members, and a few beside them for those who want to resume and to guard what they
change: ``cursor``, ``version``. Prices are JSON numbers here, and amounts (decimals as text) in documents. Source:
seed 003, docs/devices.md.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from sync_core.domain import devices
from sync_core.domain.devices import Device, NoSuchOrder
from sync_core.problems import FieldError, NotFound, Problem, Unprocessable
from sync_server.devices.incoming import InvalidMessage, Wish
from sync_server.sockets.errors import ERROR_CODES as SOCKET_ERROR_CODES
from sync_server.sockets.errors import code_of as sockets_code_of

__all__ = [
    "ERROR_CODES",
    "RESYNC",
    "STATE",
    "UNREADABLE",
    "about",
    "code_of",
    "device_made",
    "message_of",
    "text_of",
    "unreadable_text",
]

Data = Mapping[str, Any]
STATE = ("isRunning", "elapsedSeconds", "mode", "customerCount", "notes")
"""What the seed's ``device_updated`` tells of a device."""


RESYNC = "RESYNC"
"""The error that says: what was missed is not kept any more, send ``connect`` without a cursor."""


UNREADABLE = "UNREADABLE"
"""The error that says: a newer server wrote this device, and this one cannot tell of it."""


ERROR_CODES = SOCKET_ERROR_CODES | {"DEVICE_NOT_FOUND", "ORDER_NOT_FOUND", RESYNC, UNREADABLE}
"""All that an ``error`` may have here."""


def unreadable_text(device_id: str) -> str:
    """What to tell people of a device that is UNREADABLE."""
    return f"Device {device_id} was written by a newer version of this server and is not shown here; run that version."


def code_of(problem: Problem) -> str:
    """Which error code tells of *problem*: those of all sockets, and the seed's own."""
    if isinstance(problem, NoSuchOrder):
        return "ORDER_NOT_FOUND"
    missing = isinstance(problem, Unprocessable) and any(fault.path == "toDeviceID" for fault in problem.errors)
    if missing or isinstance(problem, NotFound):  # `parse` has seen to all else that can be wrong with a toDeviceID
        return "DEVICE_NOT_FOUND"
    return sockets_code_of(problem)


def message_of(envelope: Mapping[str, Any], *, whole: bool = True) -> dict[str, Any] | None:
    """What is told of an event with that *envelope*; None for one that means nothing to tills.

    *whole* is for who sees all devices: a transfer is one message then, which clears the other device by itself.
    """
    data, told = envelope["data"], {"timestamp": envelope.get("timestamp"), "cursor": envelope.get("id")}
    match envelope["eventType"]:
        case "device_created" | "device_updated" | "order_added" | "order_modified" | "order_removed" as name:
            content = data["device"]
            message = {"type": name, "deviceId": content["deviceID"], **_TELL[name](data)}
            told["version"] = content["version"]
        case "device_transferred":
            ends = {"fromDeviceId": data["fromDeviceID"], "toDeviceId": data["toDeviceID"]}
            text = f"Device data transferred from {data['fromDeviceID']} to {data['toDeviceID']}"
            message = {"type": "device_transferred", **ends, "message": text}
            told |= {"version": data["device"]["version"], "fromVersion": data["fromVersion"]}
        case "device_cleared" if whole and "toDeviceID" in data:
            return None
        case "device_cleared":
            message = {"type": "device_cleared", "deviceId": data["device"]["deviceID"]}
            told["version"] = data["device"]["version"]
        case "device_removed":
            message = {"type": "device_removed", "deviceId": data["device"]["deviceID"]}
            told["version"] = envelope["version"]
        case "removed" if data["kind"] == Device.kind:  # out of this reader's view
            message = {"type": "device_removed", "deviceId": data["id"]}
            told["version"] = data["version"]
        case "categories_updated" | "prices_updated" as name:
            message = {"type": name}
        case _:
            return None
    return message | {name: value for name, value in told.items() if value is not None}


def device_made(device: Device, *, now_ms: int, now: str) -> dict[str, Any]:
    """*device* as it is at *now*, its clock included."""
    content = device.content() | {"elapsedSeconds": device.elapsed_s(now_ms)}
    message = {"type": "device_created", "deviceId": device.deviceID, "data": _whole(content)}
    return message | {"timestamp": now, "version": device.version}


def _whole(device: Mapping[str, Any]) -> dict[str, Any]:
    state = {name: device[name] for name in ("name", *STATE)}
    return state | {"orders": [_told(order) for order in device["orders"]]}


def _state(data: Mapping[str, Any]) -> dict[str, Any]:
    names = ("name", *STATE) if "name" in data.get("changed", ()) else STATE
    return {"data": {name: data["device"][name] for name in names}}


def _modified(data: Mapping[str, Any]) -> dict[str, Any]:
    order = _told(data["order"])
    if "firstOrderTime" not in data.get("changed", ()):
        del order["firstOrderTime"]
    return {"orderIndex": data["orderIndex"], "data": order}


_TELL: Mapping[str, Callable[[Data], dict[str, Any]]] = {
    "device_created": lambda data: {"data": _whole(data["device"])},
    "device_updated": _state,
    "order_added": lambda data: {"orders": [_told(order) for order in data["orders"]]},
    "order_modified": _modified,
    "order_removed": lambda data: {"orderIndex": data["orderIndex"]},
}


def _told(order: Mapping[str, Any]) -> dict[str, Any]:
    """*order* with its price as a JSON number. At most twelve digits: a float holds them exactly."""
    price = Decimal(order["price"])
    return {**order, "price": int(price) if price == price.to_integral_value() else float(price)}


# -- what went wrong -----------------------------------------------------------------------------------------


def text_of(problem: Problem, wish: Wish) -> str:
    """What to tell people of *problem*, in the seed's words where it has some."""
    if code_of(problem) == "DEVICE_NOT_FOUND" and wish.command is not devices.transfer:
        return f"Device {wish.device_id} does not exist"
    return problem.detail


def about(of: Wish | InvalidMessage, errors: Iterable[FieldError] = (), device: Data | None = None) -> dict[str, Any]:
    """What an ``error`` says beside code and message: *of* which message, where in it, how the *device* stands."""
    told = {"request": of.type, "deviceId": of.device_id, "id": of.id}
    more: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    if faults := [{"path": fault.path, "message": fault.message} for fault in errors]:
        more["errors"] = faults
    if device is not None:
        more |= {"version": device["version"], "data": _whole(device)}
    return more
