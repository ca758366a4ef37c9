"""Devices: what guests of a games or net café sit at, with a clock that runs and orders that add up.

A till starts and stops a device's clock, puts orders on it, moves all of it to another device, or clears it. Source:
seed 003, domain-more.md B. On ``/ws`` its messages are the seed's (sync_server/devices); here it is named as the rest.
"""

from datetime import datetime
from typing import Annotated, Any, ClassVar

from pydantic import Field

from sync_core.domain.changes import Changes, RuleConflict
from sync_core.domain.command import CommandInput, command
from sync_core.domain.device_orders import MAX_ORDERS, DeviceOrder, GivenOrder, OrderIndex, Quantity, check_orders
from sync_core.domain.document import Document
from sync_core.domain.fields import (
    Amount,
    DocumentID,
    Label,
    LocalTimestamp,
    Made,
    Names,
    Omittable,
    ShortText,
    StrictBool,
    Whole,
)
from sync_core.events import EventType
from sync_core.problems import FieldError, NotFound, Unprocessable
from sync_core.times import iso_from_ms, ms_from_datetime

__all__ = ["COMMANDS", "EVENT_TYPES", "Device", "NoSuchOrder"]

MAX_ELAPSED_S = 366 * 24 * 3600

DeviceID = Annotated[DocumentID, Names("device")]
Elapsed = Annotated[Whole, Field(ge=0, le=MAX_ELAPSED_S)]
Customers = Annotated[Whole, Field(ge=0, le=10_000)]


class NoSuchOrder(NotFound):
    """The device is there, and has no order at that place."""


class Device(Document):
    """One device. While it is running, *elapsedSeconds* is what had passed at *countedAt*."""

    kind: ClassVar[str] = "device"
    plural: ClassVar[str] = "devices"
    id_key: ClassVar[str] = "deviceID"
    view_permission: ClassVar[str] = "view_devices"

    deviceID: DocumentID
    name: Label
    isRunning: StrictBool = False
    elapsedSeconds: Whole = 0
    countedAt: str | None = None
    mode: Label = "single"
    customerCount: Whole = 1
    notes: ShortText = ""
    orders: tuple[DeviceOrder, ...] = ()

    @property
    def state(self) -> str:
        return "running" if self.isRunning else "stopped"

    def elapsed_s(self, now_ms: int) -> int:
        """Whole seconds on its clock at *now_ms* (Unix time)."""
        return self.elapsedSeconds + self._uncounted_s(now_ms)

    def counted(self, now_ms: int) -> "Device":
        """The same with its clock read at *now_ms*; the rest of a second is not lost."""
        seconds = self._uncounted_s(now_ms)
        if not seconds or self.countedAt is None:
            return self
        at = iso_from_ms(_ms(self.countedAt) + seconds * 1000)
        return self.model_copy(update={"elapsedSeconds": self.elapsedSeconds + seconds, "countedAt": at})

    def with_clock(self, now_ms: int, *, running: bool | None, elapsed_s: int | None) -> "Device":
        """Started or stopped at *now_ms*, or set to *elapsed_s*; None leaves either as it is."""
        device = self.counted(now_ms)
        wanted: dict[str, Any] = {}
        if elapsed_s is not None:
            wanted["elapsedSeconds"] = elapsed_s
        if running is not None:
            wanted["isRunning"] = running
        if wanted.get("isRunning", device.isRunning):
            if elapsed_s is not None or not device.isRunning:
                wanted["countedAt"] = iso_from_ms(now_ms)
        else:
            wanted["countedAt"] = None
        return device.model_copy(update=wanted)

    def with_orders(self, orders: tuple[DeviceOrder, ...]) -> "Device":
        return self.model_copy(update={"orders": orders})

    def cleared(self) -> "Device":
        """As when it was new, name and whatever a newer server has written apart."""
        fields = ("isRunning", "elapsedSeconds", "countedAt", "mode", "customerCount", "notes", "orders")
        return self.model_copy(update={name: type(self).model_fields[name].default for name in fields})

    def _uncounted_s(self, now_ms: int) -> int:
        if not self.isRunning or self.countedAt is None:
            return 0
        return max(0, min(now_ms - _ms(self.countedAt), MAX_ELAPSED_S * 1000)) // 1000


def _ms(text: str) -> int:
    return ms_from_datetime(datetime.fromisoformat(text))


EVENT_TYPES = tuple(
    EventType(name, document="device")
    for name in (
        "device_created",
        "device_updated",
        "order_added",
        "order_modified",
        "order_removed",
        "device_transferred",
        "device_cleared",
        "device_removed",
    )
)


class CreateDevice(CommandInput):
    deviceID: Annotated[DeviceID | None, Made()] = None
    name: Label | None = None
    mode: Label = "single"
    customerCount: Customers = 1
    notes: ShortText = ""


@command("POST", "/devices", target=Device, permission="manage_devices", emits=["device_created"], creates=True)
def create(cafe: Changes, given: CreateDevice) -> None:
    """Add a device; its clock stands. Without a name it is called by its id."""
    assert given.deviceID is not None
    device = Device(
        deviceID=given.deviceID,
        name=given.name or given.deviceID,
        mode=given.mode,
        customerCount=given.customerCount,
        notes=given.notes,
    )
    cafe.create(device, "device_created")


class UpdateDevice(CommandInput):
    deviceID: DeviceID
    name: Omittable[Label] = None
    isRunning: Omittable[StrictBool] = None
    elapsedSeconds: Omittable[Elapsed] = None
    mode: Omittable[Label] = None
    customerCount: Omittable[Customers] = None
    notes: Omittable[ShortText] = None


@command("PATCH", "/devices/{deviceID}", target=Device, permission="use_devices", emits=["device_updated"])
def update(cafe: Changes, given: UpdateDevice) -> None:
    """Start or stop a device's clock, or set it; change its name, mode, customers or notes. What is absent stays."""
    device = cafe.get(Device, given.deviceID)
    device = device.with_clock(cafe.context.now_ms, running=given.isRunning, elapsed_s=given.elapsedSeconds)
    wanted = given.model_dump(include={"name", "mode", "customerCount", "notes"}, exclude_none=True)
    changed = sorted(given.model_fields_set - {"deviceID"})
    cafe.put(device.model_copy(update=wanted), "device_updated", {"changed": changed})


class PlaceOrders(CommandInput):
    deviceID: DeviceID
    orders: Annotated[tuple[GivenOrder, ...], Field(min_length=1, max_length=MAX_ORDERS)]


@command("POST", "/devices/{deviceID}/orders", target=Device, permission="use_devices", emits=["order_added"])
def place_orders(cafe: Changes, given: PlaceOrders) -> None:
    """Put orders on a device, behind those that are there."""
    device = cafe.get(Device, given.deviceID)
    orders = tuple(order.timed(cafe.context.now) for order in given.orders)
    data = {"orders": [order.model_dump(mode="json", exclude_none=True) for order in orders]}
    _change_orders(cafe, device, (*device.orders, *orders), "order_added", data)


class EditDeviceOrder(CommandInput):
    deviceID: DeviceID
    orderIndex: OrderIndex
    name: Omittable[Label] = None
    price: Omittable[Amount] = None
    quantity: Omittable[Quantity] = None
    notes: Omittable[ShortText] = None
    firstOrderTime: Omittable[LocalTimestamp] = None
    lastOrderTime: Omittable[LocalTimestamp] = None


@command(
    "PATCH",
    "/devices/{deviceID}/orders/{orderIndex}",
    target=Device,
    permission="use_devices",
    emits=["order_modified"],
    guarded=True,
)
def edit_order(cafe: Changes, given: EditDeviceOrder) -> None:
    """Change one of a device's orders. What is absent stays; its time becomes now."""
    device, order = _ordered(cafe, given.deviceID, given.orderIndex)
    wanted = {name: value for name, value in given if name not in ("deviceID", "orderIndex") and value is not None}
    order = order.model_copy(update={"lastOrderTime": cafe.context.now, **wanted})
    at = given.orderIndex
    orders = (*device.orders[:at], order, *device.orders[at + 1 :])
    changed = sorted(given.model_fields_set - {"deviceID", "orderIndex"})
    data = {"orderIndex": at, "order": order.model_dump(mode="json", exclude_none=True), "changed": changed}
    _change_orders(cafe, device, orders, "order_modified", data)


class RemoveDeviceOrder(CommandInput):
    deviceID: DeviceID
    orderIndex: OrderIndex


@command(
    "DELETE",
    "/devices/{deviceID}/orders/{orderIndex}",
    target=Device,
    permission="use_devices",
    emits=["order_removed"],
    guarded=True,
)
def remove_order(cafe: Changes, given: RemoveDeviceOrder) -> None:
    """Take one of a device's orders away; those behind it move up."""
    device, _ = _ordered(cafe, given.deviceID, given.orderIndex)
    at = given.orderIndex
    orders = (*device.orders[:at], *device.orders[at + 1 :])
    _change_orders(cafe, device, orders, "order_removed", {"orderIndex": at})


class TransferDevice(CommandInput):
    deviceID: DeviceID
    toDeviceID: DeviceID


@command(
    "POST",
    "/devices/{deviceID}/transfer",
    target=Device,
    permission="use_devices",
    emits=["device_transferred", "device_cleared"],
    guarded=True,
)
def transfer(cafe: Changes, given: TransferDevice) -> None:
    """Move clock, mode, customers, notes and orders of a device to one that is not in use; it is cleared by that."""
    device = cafe.get(Device, given.deviceID)
    target = cafe.get(Device, given.toDeviceID, field="toDeviceID")
    if target.deviceID == device.deviceID:
        fault = FieldError("toDeviceID", "has to be another device")
        raise Unprocessable("A device cannot be transferred to itself.", errors=(fault,))
    if target.isRunning or target.orders:
        what = "is running" if target.isRunning else "has orders"
        raise RuleConflict(f"Device {target.deviceID} {what}; clear it before.", device, target)
    device = device.counted(cafe.context.now_ms)
    fields = ("isRunning", "elapsedSeconds", "countedAt", "mode", "customerCount", "notes", "orders")
    ends = {"fromDeviceID": device.deviceID, "toDeviceID": target.deviceID}
    moved = target.model_copy(update={name: getattr(device, name) for name in fields})
    cafe.put(moved, "device_transferred", {**ends, "fromVersion": device.version + 1})
    cafe.put(device.cleared(), "device_cleared", ends)


class ResetDevice(CommandInput):
    deviceID: DeviceID


@command(
    "POST",
    "/devices/{deviceID}/reset",
    target=Device,
    permission="use_devices",
    emits=["device_cleared"],
    guarded=True,
)
def reset(cafe: Changes, given: ResetDevice) -> None:
    """Clear a device's clock, orders and notes; the device stays."""
    cafe.put(cafe.get(Device, given.deviceID).cleared(), "device_cleared")


class DeleteDevice(CommandInput):
    deviceID: DeviceID


@command(
    "DELETE",
    "/devices/{deviceID}",
    target=Device,
    permission="manage_devices",
    emits=["device_removed"],
    guarded=True,
)
def delete(cafe: Changes, given: DeleteDevice) -> None:
    """Take a device away, with whatever is on it."""
    cafe.delete(cafe.get(Device, given.deviceID), "device_removed")


def _ordered(cafe: Changes, device_id: str, index: int) -> tuple[Device, DeviceOrder]:
    device = cafe.get(Device, device_id)
    if index >= len(device.orders):
        raise NoSuchOrder(f"There is no order {index} on device {device_id}; it has {len(device.orders)}.")
    return device, device.orders[index]


def _change_orders(
    cafe: Changes, device: Device, orders: tuple[DeviceOrder, ...], event_type: str, data: dict[str, Any]
) -> None:
    try:
        check_orders(orders)
    except ValueError as exc:
        raise RuleConflict(f"Device {device.deviceID} is full: its orders would be too many ({exc}).", device) from None
    # The clock is read along: its picture on every screen is right at the time that the event carries.
    cafe.put(device.counted(cafe.context.now_ms).with_orders(orders), event_type, data)


COMMANDS = (create, update, place_orders, edit_order, remove_order, transfer, reset, delete)
