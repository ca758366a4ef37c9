"""What fuelers do with fuel orders: claim, move along, acknowledge changes, complete by meter readings.

Of many who claim one order, one gets it. While a change of customer service is not acknowledged the order stands
still. Source: domain-more.md A, seed 000.
"""

from decimal import Decimal

from pydantic import Field

from sync_core.domain.changes import Changes, RuleConflict
from sync_core.domain.command import CommandInput, command
from sync_core.domain.fields import Amount, UserID, Whole
from sync_core.domain.fuel_orders import FuelOrder, FuelOrderID, FuelStatus, changed, offer, require_open
from sync_core.domain.fuel_trucks import FuelTruck, TruckID
from sync_core.labels import user_of
from sync_core.problems import FieldError, Unprocessable

__all__ = ["COMMANDS", "dispensed"]

NEXT_STATUSES: dict[FuelStatus, frozenset[FuelStatus]] = {
    FuelStatus.UNASSIGNED: frozenset({FuelStatus.CLAIMED}),
    FuelStatus.CLAIMED: frozenset({FuelStatus.EN_ROUTE, FuelStatus.UNASSIGNED}),
    FuelStatus.EN_ROUTE: frozenset({FuelStatus.FUELING, FuelStatus.UNASSIGNED}),
    FuelStatus.FUELING: frozenset(),
    FuelStatus.COMPLETED: frozenset(),
    FuelStatus.CANCELLED: frozenset(),
}
"""Where its assignee may move it. Completion takes the readings; to cancel is for customer service."""


def _caller(yard: Changes) -> str | None:
    """Who calls, as assignees are named; None where the rule cannot know: on a replica, or without access control."""
    principal = yard.context.principal
    return user_of(principal) if ":" in principal else None


def _own(order: FuelOrder, caller: str | None) -> None:
    """Raises RuleConflict where somebody else has it. Who has is not for the caller to know."""
    if caller is not None and order.assigneeID is not None and order.assigneeID != caller:
        raise RuleConflict(f"Fuel order {order.fuelOrderID} has been claimed by somebody else.", order)


def _acknowledged(order: FuelOrder) -> None:
    if order.is_changed:
        pending = f"acknowledge change {order.changeVersion} first"
        raise RuleConflict(f"Customer service has changed fuel order {order.fuelOrderID}; {pending}.", order)


class ChangeFuelStatus(CommandInput):
    fuelOrderID: FuelOrderID
    status: FuelStatus
    truckID: TruckID | None = None
    """The truck that is taken."""
    assigneeID: UserID | None = None
    """Who does it, where the server cannot know: without access control, and in a client's own picture."""


@command(
    "PATCH",
    "/fuel-orders/{fuelOrderID}/status",
    target=FuelOrder,
    permission="fuel",
    emits=["order_claimed", "order_update", "new_unclaimed_order"],
    unseen=True,
)
def change_status(yard: Changes, given: ChangeFuelStatus) -> None:
    """Claim a fuel order, move one's own along, or give it back; of many who claim, one gets it."""
    order = yard.get(FuelOrder, given.fuelOrderID)
    caller = _caller(yard)
    if caller is not None and given.assigneeID not in (None, caller):
        fault = FieldError("assigneeID", "you can do this in your own name only")
        raise Unprocessable("The fuel order cannot be changed in another's name.", errors=(fault,))
    who = caller or given.assigneeID
    _own(order, who)
    if given.status not in NEXT_STATUSES[order.status]:
        raise RuleConflict(_no_way(order, given.status), order)
    _acknowledged(order)
    if given.truckID is not None:
        yard.get(FuelTruck, given.truckID, field="truckID")
        order = order.model_copy(update={"truckID": given.truckID})
    data = {"previousStatus": order.status.value, "newStatus": given.status.value}
    if given.status is FuelStatus.UNASSIGNED:
        offer(yard, order.model_copy(update={"status": given.status, "assigneeID": None}), new=False)
    elif given.status is FuelStatus.CLAIMED:
        claimed = changed(yard, order, status=given.status, assigneeID=who or yard.context.principal or None)
        yard.put(claimed, "order_claimed", data)
    else:
        yard.put(changed(yard, order, status=given.status), "order_update", data)


def _no_way(order: FuelOrder, wanted: FuelStatus) -> str:
    detail = f"Fuel order {order.fuelOrderID} is {order.status} and cannot become {wanted}"
    if not order.is_open:
        return f"{detail}."
    if wanted is FuelStatus.COMPLETED:
        return f"{detail} by this; submit the meter readings."
    return f"{detail} by this; customer service cancels." if wanted is FuelStatus.CANCELLED else f"{detail}."


class AcknowledgeChange(CommandInput):
    fuelOrderID: FuelOrderID
    change_version: Whole = Field(ge=0)
    """The change that was read."""


@command(
    "POST",
    "/fuel-orders/{fuelOrderID}/acknowledge-change",
    target=FuelOrder,
    permission="fuel",
    emits=["change_acknowledged"],
)
def acknowledge_change(yard: Changes, given: AcknowledgeChange) -> None:
    """Say that the newest change of customer service was read; of an order that nobody has, any fueler may."""
    order = yard.get(FuelOrder, given.fuelOrderID)
    caller = _caller(yard)
    _own(order, caller)
    require_open(order, "acknowledged")
    if given.change_version != order.changeVersion:
        raise RuleConflict(f"The newest change of fuel order {order.fuelOrderID} is {order.changeVersion}.", order)
    acknowledged = changed(
        yard,
        order,
        acknowledgedVersion=order.changeVersion,
        pendingChanges=(),
        acknowledgedBy=caller or yard.context.principal or None,
        acknowledgedAt=yard.context.now,
    )
    yard.put(acknowledged, "change_acknowledged", {"change_version": order.changeVersion})


class SubmitData(CommandInput):
    fuelOrderID: FuelOrderID
    startMeterReading: Amount
    endMeterReading: Amount
    truckID: TruckID | None = None
    """The truck that fuelled, where the order does not say or another one did."""


@command(
    "PUT",
    "/fuel-orders/{fuelOrderID}/submit-data",
    target=FuelOrder,
    permission="fuel",
    emits=["order_completed", "truck_updated"],
)
def submit_data(yard: Changes, given: SubmitData) -> None:
    """Complete one's own fuel order by the meter readings; the truck's meter moves with it, or nothing does.

    From any status that its assignee has it in: fuel that has flowed is to be written down.
    """
    order = yard.get(FuelOrder, given.fuelOrderID)
    _own(order, _caller(yard))
    require_open(order, "completed")
    if order.status is FuelStatus.UNASSIGNED:
        raise RuleConflict(f"Fuel order {order.fuelOrderID} is unassigned; claim it first.", order)
    _acknowledged(order)
    if given.endMeterReading < given.startMeterReading:
        fault = FieldError("endMeterReading", f"not less than startMeterReading, {given.startMeterReading}")
        raise Unprocessable("The meter cannot run backwards.", errors=(fault,))
    truck = _truck(yard, order, given)
    completed = changed(
        yard,
        order,
        status=FuelStatus.COMPLETED,
        truckID=truck.truckID,
        startMeterReading=given.startMeterReading,
        endMeterReading=given.endMeterReading,
        gallonsDispensed=dispensed(given.startMeterReading, given.endMeterReading),
    )
    yard.put(completed, "order_completed")
    moved = truck.model_copy(update={"currentMeterReading": given.endMeterReading})
    yard.put(moved, "truck_updated", {"change": "fuelled", "fuelOrderID": order.fuelOrderID})


def dispensed(start: Decimal, end: Decimal) -> Decimal:
    """Gallons between two readings, exactly."""
    return end - start  # both of two places and at most 12 digits: no context rounds that


def _truck(yard: Changes, order: FuelOrder, given: SubmitData) -> FuelTruck:
    if given.truckID is not None:
        return yard.get(FuelTruck, given.truckID, field="truckID")
    truck = None if order.truckID is None else yard.find(FuelTruck, order.truckID)
    if truck is None:
        said = "names no truck" if order.truckID is None else f"names truck {order.truckID}, which is no more"
        fault = FieldError("truckID", "which truck fuelled")
        raise Unprocessable(f"Fuel order {order.fuelOrderID} {said}.", errors=(fault,))
    return truck


COMMANDS = (change_status, acknowledge_change, submit_data)
