"""An event in plain words, for a terminal: what `sync-server demo` prints where no live board can be drawn."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from rich.text import Text

__all__ = ["describe", "line_of"]

Data = dict[str, Any]


def describe(event_type: str, data: Data) -> str:
    """What an event of *event_type* with that *data* says; whatever *data* holds, there is a text."""
    words = _WORDS.get(event_type)
    try:
        return words(data) if words is not None else _json(data)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return _json(data)  # of the user's own making: shown as it is


def line_of(envelope: Data) -> Text:
    """One line: when (by this machine's clock), what, about whom, and what it says."""
    at = datetime.fromisoformat(envelope["occurredAt" if "occurredAt" in envelope else "timestamp"])
    event_type = envelope["eventType"]
    about = next((envelope[key] for key in _about(envelope) if key in envelope), "")
    return Text.assemble(
        (f"{at.astimezone():%H:%M}  ", "dim"),
        (f"{event_type:<19} ", _STYLES.get(event_type.partition("_")[0], "white")),
        (f"{about:<10} ", "bold"),
        describe(event_type, envelope["data"]),
    )


def _about(envelope: Data) -> tuple[str, ...]:
    """Whose id to show, first the one that the event is most about."""
    first = {"bay": "bayID", "job": "bayID", "queue": "queueID"}.get(envelope["eventType"].partition("_")[0], "orderID")
    return first, "orderID", "bayID", "deviceID", "catalogID"


def _json(data: Data) -> str:
    return json.dumps(data, ensure_ascii=False) if data else ""


def _stage(data: Data) -> str:
    stages = [data["previousStage"], data["newStage"]] if data.get("previousStage") else [data["newStage"]]
    return " → ".join(stage.replace("_", " ") for stage in stages)


def _payment(data: Data) -> str:
    amount = f" {float(data['amount']):,.0f} {data['currency']}" if "amount" in data else ""
    method = f" by {data['method']}" if data.get("method") else ""
    return f"{data['status']}{amount}{method}"


def _status(data: Data) -> str:
    return f"{data['status']}: {data['note']}" if data.get("note") else str(data["status"])


def _device(data: Data) -> str:
    if data.get("deleted"):
        return "taken away"
    device = data["device"]
    hours, minutes = divmod(int(device["elapsedSeconds"]) // 60, 60)
    people = f"{device['customerCount']} customer{'' if device['customerCount'] == 1 else 's'}"
    note = f", {device['notes']}" if device["notes"] else ""
    return f"{'running' if device['isRunning'] else 'stopped'} at {hours}:{minutes:02} h, {people}{note}"


def _item(item: Data) -> str:
    note = f" ({item['notes']})" if item.get("notes") else ""
    return f"{item['quantity']} × {item['name']}{note} at {item['price']}"


def _order(data: Data) -> str:
    if data.get("deleted"):
        return "deleted"
    order = data["order"]
    names = ", ".join(item["name"] for item in order["items"]) or "no items"
    return f"{order['stage'].replace('_', ' ')}: {names}, {order['payment']['amount']} {order['payment']['currency']}"


def _queue(data: Data) -> str:
    if data.get("deleted"):
        return "deleted"
    queue = data["queue"]
    waiting = ", ".join(entry["orderID"] for entry in queue["entries"][:6]) or "nobody"
    return f"{queue['name']}: {len(queue['entries'])} waiting ({waiting})"


def _bay(data: Data) -> str:
    if data.get("deleted"):
        return "taken away"
    bay = data["bay"]
    job = bay.get("job")
    doing = f": {job['orderID']} at {job['progress']} %" if job else ""
    return f"{bay['name']} {bay['status'].replace('_', ' ')}{doing}"


def _job(data: Data) -> str:
    reason = f", {data['reason']}" if data.get("reason") else ""
    return f"{data['job']['orderID']} in {data['bayID']}{reason}"


_STYLES = {
    "stage": "green", "payment": "yellow", "status": "blue", "whatsapp": "bright_green", "qr": "bright_black",
    "device": "magenta", "bay": "magenta", "job": "bright_magenta", "queue": "bright_cyan", "order": "cyan",
    "prices": "red", "categories": "red",
}  # fmt: skip

_WORDS: dict[str, Callable[[Data], str]] = {
    "stage_change": _stage,
    "order_created": _order,
    "order_updated": _order,
    "order_deleted": _order,
    "order_stage_change": _order,
    "queue_updated": _queue,
    "bay_updated": _bay,
    "job_progress": _bay,
    "job_started": _job,
    "job_completed": _job,
    "job_aborted": _job,
    "payment_update": _payment,
    "status_update": _status,
    "whatsapp_connected": lambda data: f"WhatsApp {data['status']}, {data['phone']}",
    "qr_generated": lambda data: f"QR code for {data['url']}",
    "device_updated": _device,
    "device_created": lambda data: f"new device, {data['device']['mode']} mode",
    "device_removed": _device,
    "device_cleared": lambda _: "cleared for the next customer",
    "device_transferred": lambda data: f"takes over everything from {data['fromDeviceID']}",
    "order_added": lambda data: ", ".join(map(_item, data["orders"])),
    "order_modified": lambda data: f"item {data['orderIndex'] + 1} is now {_item(data['order'])}",
    "order_removed": lambda data: f"item {data['orderIndex'] + 1} taken off",
    "prices_updated": lambda _: "new prices for everybody",
    "categories_updated": lambda _: "new categories for everybody",
}
