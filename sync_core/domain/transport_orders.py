"""Transport orders: what is to be brought from one place to another, for whom, and who does it.

    new <--> assigned --> in_progress --> delivered
      \\_________|____________/
                +--> cancelled

An order is ``assigned`` as long as it waits with a vehicle (assignments.py); its driver is the vehicle's. While it is
assigned or in progress the vehicle knows it, so that both change together. Source: domain-more.md D.
"""

import enum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sync_core.domain.changes import Changes, RuleConflict
from sync_core.domain.command import CommandInput, command
from sync_core.domain.document import Document
from sync_core.domain.drivers import OFFICE, OFFICE_ROLES
from sync_core.domain.fields import Amount, Currency, DocumentID, Made, Names, Omittable, ShortText, UserID
from sync_core.domain.places import GivenPoint, Point
from sync_core.domain.vehicles import Vehicle
from sync_core.events import EventType
from sync_core.filters import tag
from sync_core.labels import person_label
from sync_core.problems import Forbidden

__all__ = ["COMMANDS", "EVENT_TYPES", "TransportOrder", "TransportStatus", "leave_vehicle"]


class TransportStatus(enum.StrEnum):
    NEW = "new"
    ASSIGNED = "assigned"
    IN_PROGRESS = "in_progress"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"


FORWARD = {
    TransportStatus.ASSIGNED: TransportStatus.IN_PROGRESS,
    TransportStatus.IN_PROGRESS: TransportStatus.DELIVERED,
}
"""What a driver does."""

TransportOrderID = Annotated[DocumentID, Names("transport_order")]


class TransportOrder(Document):
    """One transport order. *customerID* is the user who ordered it, *driverID* who drives its vehicle."""

    kind: ClassVar[str] = "transport_order"
    plural: ClassVar[str] = "transport_orders"
    id_key: ClassVar[str] = "transportOrderID"
    view_permission: ClassVar[str] = "view_transport_orders"

    transportOrderID: DocumentID
    status: TransportStatus
    customerID: str
    pickup: Point
    delivery: Point
    price: Amount | None = None
    currency: Currency = "USD"
    vehicleID: DocumentID | None = None
    driverID: str | None = None
    notes: ShortText | None = None
    reason: ShortText | None = None
    createdAt: str
    updatedAt: str
    deliveredAt: str | None = None

    def tags(self) -> tuple[str, ...]:
        keys = (
            ("transportOrderID", self.transportOrderID),
            ("vehicleID", self.vehicleID),
            ("userID", self.customerID),
        )
        return tuple(tag(key, value) for key, value in keys if value is not None)

    def grants(self) -> tuple[str, ...]:
        own = (tag("transportOrderID", self.transportOrderID),)
        return own if self.vehicleID is None else (*own, tag("vehicleID", self.vehicleID))

    def audience(self) -> tuple[str, ...]:
        persons = (self.customerID, self.driverID)
        return tuple(dict.fromkeys((*OFFICE, *(person_label(user) for user in persons if user is not None))))

    @property
    def state(self) -> str:
        return self.status.value

    @property
    def is_open(self) -> bool:
        return self.status not in (TransportStatus.DELIVERED, TransportStatus.CANCELLED)


EVENT_TYPES = (
    EventType("transport_order_created", document="transport_order"),
    EventType("transport_order_updated", document="transport_order"),
    EventType("transport_order_deleted", document="transport_order"),
)


class CreateTransportOrder(CommandInput):
    transportOrderID: Annotated[TransportOrderID | None, Made()] = None
    customerID: UserID | None = None
    pickup: GivenPoint
    delivery: GivenPoint
    price: Amount | None = None
    currency: Currency = "USD"
    notes: ShortText | None = None


@command(
    "POST",
    "/transport-orders",
    target=TransportOrder,
    permission="request_transport",
    emits=["transport_order_created"],
    creates=True,
)
def create(shop: Changes, given: CreateTransportOrder) -> None:
    """Take a transport order, of the caller unless the office names another customer; only it names a price."""
    context = shop.context
    is_office = not context.principal or not context.roles.isdisjoint(OFFICE_ROLES)
    if not is_office and (given.price is not None or given.customerID not in (None, context.user)):
        raise Forbidden("Only a dispatcher orders for others, or names the price.")
    order = TransportOrder.model_validate(
        given.model_dump()
        | {
            "customerID": given.customerID or context.user,
            "status": TransportStatus.NEW,
            "createdAt": context.now,
            "updatedAt": context.now,
        }
    )
    shop.create(order, "transport_order_created")


class EditTransportOrder(CommandInput):
    transportOrderID: TransportOrderID
    pickup: Omittable[GivenPoint] = None
    delivery: Omittable[GivenPoint] = None
    price: Amount | None = None
    currency: Omittable[Currency] = None
    notes: ShortText | None = None


_UPDATED = ["transport_order_updated"]
_WITH_VEHICLE = ["transport_order_updated", "vehicle_updated"]


@command(
    "PATCH",
    "/transport-orders/{transportOrderID}",
    target=TransportOrder,
    permission="dispatch",
    emits=_UPDATED,
    guarded=True,
)
def edit(shop: Changes, given: EditTransportOrder) -> None:
    """Change what is to be brought, and for how much; what is null is taken away, what is absent stays."""
    order = _open(shop, given.transportOrderID)
    wanted = {name: value for name, value in given if name in given.model_fields_set}
    changed = order.model_copy(update={**wanted, "updatedAt": shop.context.now})
    shop.put(changed, "transport_order_updated", {"change": "edited"})


class SetTransportStatus(CommandInput):
    transportOrderID: TransportOrderID
    status: Literal["in_progress", "delivered"] = Field(examples=["in_progress"])


@command(
    "PATCH",
    "/transport-orders/{transportOrderID}/status",
    target=TransportOrder,
    permission="drive",
    emits=_WITH_VEHICLE,
)
def set_status(shop: Changes, given: SetTransportStatus) -> None:
    """Say that an assigned order is under way, or delivered."""
    order = shop.get(TransportOrder, given.transportOrderID)
    if FORWARD.get(order.status) != given.status:
        raise RuleConflict(
            f"Transport order {order.transportOrderID} is {order.status} and cannot become {given.status}.", order
        )
    _enter(shop, order, TransportStatus(given.status))


class CancelTransportOrder(CommandInput):
    transportOrderID: TransportOrderID
    reason: ShortText | None = None


@command(
    "POST",
    "/transport-orders/{transportOrderID}/cancel",
    target=TransportOrder,
    permission="dispatch",
    emits=_WITH_VEHICLE,
)
def cancel(shop: Changes, given: CancelTransportOrder) -> None:
    """Give up an order that is not delivered; its vehicle is free of it."""
    order = _open(shop, given.transportOrderID)
    _enter(shop, order, TransportStatus.CANCELLED, reason=given.reason)


class DeleteTransportOrder(CommandInput):
    transportOrderID: TransportOrderID


@command(
    "DELETE",
    "/transport-orders/{transportOrderID}",
    target=TransportOrder,
    permission="dispatch",
    emits=["transport_order_deleted"],
)
def delete(shop: Changes, given: DeleteTransportOrder) -> None:
    """Delete an order that no vehicle has."""
    order = shop.get(TransportOrder, given.transportOrderID)
    if order.status in FORWARD:
        raise RuleConflict(f"Vehicle {order.vehicleID} has transport order {order.transportOrderID}.", order)
    shop.delete(order, "transport_order_deleted")


def leave_vehicle(shop: Changes, order: TransportOrder) -> None:
    """The order's vehicle knows it no longer."""
    vehicle = None if order.vehicleID is None else shop.find(Vehicle, order.vehicleID)
    if vehicle is not None:
        left = tuple(order_id for order_id in vehicle.orderIDs if order_id != order.transportOrderID)
        shop.put(vehicle.model_copy(update={"orderIDs": left}), "vehicle_updated", {"change": "orders"})


def _open(shop: Changes, order_id: str) -> TransportOrder:
    order = shop.get(TransportOrder, order_id)
    if not order.is_open:
        raise RuleConflict(f"Transport order {order.transportOrderID} is {order.status}.", order)
    return order


def _enter(shop: Changes, order: TransportOrder, status: TransportStatus, **changes: object) -> None:
    now = shop.context.now
    update = {**changes, "status": status, "updatedAt": now}
    if status is TransportStatus.DELIVERED:
        update["deliveredAt"] = now
    changed = order.model_copy(update=update)
    if order.status in FORWARD and status not in FORWARD:
        leave_vehicle(shop, order)
    shop.put(changed, "transport_order_updated", {"change": "status", "previousStatus": order.status.value})


COMMANDS = (create, edit, set_status, cancel, delete)
