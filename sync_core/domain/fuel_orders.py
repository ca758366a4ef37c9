"""Fuel orders: offered, claimed by one fueler, changed by customer service meanwhile, completed by meter readings.

    unassigned <--> claimed --> en_route --> fueling --> completed
                       every one of these ----------> cancelled

Customer service may change what is to be done as long as it is not done; its change counts *changeVersion* up, and
until somebody has acknowledged that very version the order stands still. What fuelers do is in fuelers.py.
Source: domain-more.md A, seed 000.
"""

import enum
from datetime import datetime
from typing import Annotated, Any, ClassVar

from pydantic import Field

from sync_core.domain.changes import Changes, RuleConflict
from sync_core.domain.command import CommandInput, command
from sync_core.domain.document import Document
from sync_core.domain.fields import Amount, DocumentID, Label, Made, Names, Omittable, ShortText, Text, UserID, Whole
from sync_core.domain.fuel_trucks import FuelTruck, TruckID
from sync_core.events import EventType
from sync_core.filters import tag
from sync_core.labels import ADMINS, person_label, role_label
from sync_core.problems import Unprocessable
from sync_core.times import ms_from_datetime

__all__ = [
    "COMMANDS",
    "EVENT_TYPES",
    "CreateFuelOrder",
    "FuelOrder",
    "FuelOrderID",
    "FuelStatus",
    "OfferToAll",
    "changed",
    "offer",
    "offer_is_due",
    "offer_to_all",
    "require_open",
]

OFFER_PERMISSION = "access_fueler_dashboard"
CSR_PERMISSION = "edit_fuel_order"
TO_ALL = (role_label("csr"), ADMINS)
"""Who is told of every order, whoever has claimed it."""


class FuelStatus(enum.StrEnum):
    UNASSIGNED = "unassigned"
    CLAIMED = "claimed"
    EN_ROUTE = "en_route"
    FUELING = "fueling"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


Share = Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)]


class FuelOrder(Document):
    """One order. Readings and gallons are decimals of two places; a change of customer service is pending while
    *changeVersion* is larger than *acknowledgedVersion*, and *pendingChanges* names the fields."""

    kind: ClassVar[str] = "fuel_order"
    plural: ClassVar[str] = "fuel_orders"
    id_key: ClassVar[str] = "fuelOrderID"
    view_permission: ClassVar[str] = "view_fuel_orders"

    fuelOrderID: DocumentID
    status: FuelStatus
    assigneeID: UserID | None = None
    truckID: DocumentID | None = None
    aircraft: Label | None = None
    location: Label | None = None
    requestedGallons: Amount | None = None
    notes: ShortText | None = None
    changeVersion: Whole = 0
    acknowledgedVersion: Whole = 0
    pendingChanges: tuple[str, ...] = ()
    acknowledgedBy: str | None = None
    acknowledgedAt: str | None = None
    offerShare: float | None = None
    offeredAt: str | None = None
    offeredToAll: bool = True
    startMeterReading: Amount | None = None
    endMeterReading: Amount | None = None
    gallonsDispensed: Amount | None = None
    reason: ShortText | None = None
    """Why it was cancelled."""
    createdAt: str
    updatedAt: str

    def tags(self) -> tuple[str, ...]:
        keys = (("fuelOrderID", self.fuelOrderID), ("truckID", self.truckID), ("userID", self.assigneeID))
        return tuple(tag(key, value) for key, value in keys if value is not None)

    def audience(self) -> tuple[str, ...]:
        """An order that nobody has is for every fueler, one that somebody has for customer service and that fueler."""
        if self.status is FuelStatus.UNASSIGNED:
            return ()
        return TO_ALL if self.assigneeID is None else (*TO_ALL, person_label(self.assigneeID))

    @property
    def state(self) -> str:
        return self.status.value

    @property
    def is_open(self) -> bool:
        return self.status not in (FuelStatus.COMPLETED, FuelStatus.CANCELLED)

    @property
    def is_changed(self) -> bool:
        """Whether a change of customer service waits to be acknowledged."""
        return self.changeVersion > self.acknowledgedVersion


EVENT_TYPES = (
    EventType("new_unclaimed_order", document="fuel_order", asks=OFFER_PERMISSION, spares=CSR_PERMISSION),
    EventType("fuel_order_created", document="fuel_order"),
    EventType("order_claimed", document="fuel_order"),
    EventType("order_update", document="fuel_order"),
    EventType("order_details_updated", document="fuel_order"),
    EventType("change_acknowledged", document="fuel_order"),
    EventType("order_completed", document="fuel_order"),
    EventType("fuel_order_deleted", document="fuel_order"),
)

FuelOrderID = Annotated[DocumentID, Names("fuel_order")]


def changed(yard: Changes, order: FuelOrder, **changes: Any) -> FuelOrder:
    """*order* with *changes*, made now."""
    return order.model_copy(update={**changes, "updatedAt": yard.context.now})


def offer(yard: Changes, order: FuelOrder, *, new: bool) -> None:
    """Offer *order* to its share of the fuelers. Raises RuleConflict where a *new* one exists."""
    known = yard.find(FuelOrder, order.fuelOrderID) if new else None
    if known is not None:
        raise RuleConflict(f"There is a fuel order {order.fuelOrderID} already.", known)
    share = order.offerShare
    to_all = share is None or share >= 1
    offered = changed(yard, order, offeredAt=yard.context.now, offeredToAll=to_all)
    yard.put(offered, "new_unclaimed_order", sample=None if to_all else share)


def require_open(order: FuelOrder, wish: str) -> None:
    """Raises RuleConflict where *order* is completed or cancelled."""
    if not order.is_open:
        raise RuleConflict(f"Fuel order {order.fuelOrderID} is {order.status} and cannot be {wish}.", order)


class CreateFuelOrder(CommandInput):
    fuelOrderID: Annotated[FuelOrderID | None, Made()] = None
    assigneeID: UserID | None = None
    truckID: TruckID | None = None
    aircraft: Label | None = None
    location: Label | None = None
    requestedGallons: Amount | None = None
    notes: ShortText | None = None
    offerShare: Share | None = None
    """The share of the connected fuelers that it is offered to at first; without it the server's (``[fueling]``)."""


@command(
    "POST",
    "/fuel-orders",
    target=FuelOrder,
    permission=CSR_PERMISSION,
    emits=["new_unclaimed_order", "fuel_order_created"],
    creates=True,
)
def create(yard: Changes, given: CreateFuelOrder) -> None:
    """Take a new fuel order: offered to the fuelers, or given to one of them."""
    assert given.fuelOrderID is not None
    if given.truckID is not None:
        yard.get(FuelTruck, given.truckID, field="truckID")
    order = FuelOrder(
        status=FuelStatus.UNASSIGNED if given.assigneeID is None else FuelStatus.CLAIMED,
        createdAt=yard.context.now,
        updatedAt=yard.context.now,
        **given.model_dump(),
    )
    if given.assigneeID is None:
        offer(yard, order, new=True)
    else:
        yard.create(order, "fuel_order_created")


class CSRUpdate(CommandInput):
    fuelOrderID: FuelOrderID
    aircraft: Label | None = None
    location: Label | None = None
    requestedGallons: Amount | None = None
    notes: ShortText | None = None
    truckID: TruckID | None = None


@command(
    "PATCH",
    "/fuel-orders/{fuelOrderID}/csr-update",
    target=FuelOrder,
    permission=CSR_PERMISSION,
    emits=["order_details_updated"],
    guarded=True,
)
def csr_update(yard: Changes, given: CSRUpdate) -> None:
    """Change what is to be done; the fueler has to acknowledge it. What is null is taken away, what is absent stays."""
    order = yard.get(FuelOrder, given.fuelOrderID)
    require_open(order, "changed")
    if given.truckID is not None:
        yard.get(FuelTruck, given.truckID, field="truckID")
    wanted = {name: value for name, value in given if name in given.model_fields_set and name != "fuelOrderID"}
    if not wanted:
        raise Unprocessable("There is nothing to change: name at least one field.")
    pending = dict.fromkeys([*(order.pendingChanges if order.is_changed else ()), *wanted])
    updated = changed(
        yard, order, **wanted, changeVersion=order.changeVersion + 1, pendingChanges=tuple(pending)
    )  # fmt: skip
    yard.put(updated, "order_details_updated", {"changed": list(wanted)})


class CancelFuelOrder(CommandInput):
    fuelOrderID: FuelOrderID
    reason: Omittable[Text] = None


@command(
    "POST",
    "/fuel-orders/{fuelOrderID}/cancel",
    target=FuelOrder,
    permission=CSR_PERMISSION,
    emits=["order_update"],
)
def cancel(yard: Changes, given: CancelFuelOrder) -> None:
    """Call a fuel order off that is not completed."""
    order = yard.get(FuelOrder, given.fuelOrderID)
    require_open(order, "cancelled")
    data = {"previousStatus": order.status.value, "newStatus": FuelStatus.CANCELLED.value}
    cancelled = changed(
        yard,
        order,
        status=FuelStatus.CANCELLED,
        reason=given.reason,
        acknowledgedVersion=order.changeVersion,
        pendingChanges=(),
    )
    yard.put(cancelled, "order_update", data)


class DeleteFuelOrder(CommandInput):
    fuelOrderID: FuelOrderID


@command(
    "DELETE", "/fuel-orders/{fuelOrderID}", target=FuelOrder, permission=CSR_PERMISSION, emits=["fuel_order_deleted"]
)
def delete(yard: Changes, given: DeleteFuelOrder) -> None:
    """Delete a fuel order that nobody has or that was cancelled; what was fuelled stays on record."""
    order = yard.get(FuelOrder, given.fuelOrderID)
    if order.status not in (FuelStatus.UNASSIGNED, FuelStatus.CANCELLED):
        raise RuleConflict(f"Fuel order {order.fuelOrderID} is {order.status} and cannot be deleted.", order)
    yard.delete(order, "fuel_order_deleted")


class OfferToAll(CommandInput):
    fuelOrderID: FuelOrderID
    waitedSeconds: float = Field(ge=0)


@command(
    "POST",
    "/fuel-orders/{fuelOrderID}/offer-to-all",
    target=FuelOrder,
    permission=CSR_PERMISSION,
    emits=["new_unclaimed_order"],
)
def offer_to_all(yard: Changes, given: OfferToAll) -> None:
    """Offer a fuel order to every fueler that nobody has claimed for so long; the server's own, it has no route."""
    order = yard.get(FuelOrder, given.fuelOrderID)
    if offer_is_due(order, now_ms=yard.context.now_ms, after_ms=int(given.waitedSeconds * 1000)):
        yard.put(changed(yard, order, offeredToAll=True), "new_unclaimed_order")


def offer_is_due(order: FuelOrder, *, now_ms: int, after_ms: int) -> bool:
    """Whether *order* was offered to a share only, and that *after_ms* ago or earlier."""
    if order.status is not FuelStatus.UNASSIGNED or order.offeredToAll or order.offeredAt is None:
        return False
    return now_ms - ms_from_datetime(datetime.fromisoformat(order.offeredAt)) >= after_ms


COMMANDS = (create, csr_update, cancel, delete)
