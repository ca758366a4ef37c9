"""Who drives what: drivers to vehicles, transport orders to vehicles. Everybody concerned changes in one batch.

Source: domain-more.md D.
"""

from sync_core.domain.changes import Changes, RuleConflict
from sync_core.domain.command import CommandInput, command
from sync_core.domain.document import Ref
from sync_core.domain.drivers import Driver, DriverID
from sync_core.domain.transport_orders import TransportOrder, TransportOrderID, TransportStatus, leave_vehicle
from sync_core.domain.vehicles import Vehicle, VehicleID, let_go

__all__ = ["COMMANDS", "MAX_ORDERS"]

MAX_ORDERS = 50
"""Transport orders of one vehicle at a time: all of them change with its driver, in one batch."""


class AssignDriver(CommandInput):
    vehicleID: VehicleID
    driverID: DriverID | None


@command(
    "POST",
    "/vehicles/{vehicleID}/driver",
    target=Vehicle,
    permission="dispatch",
    emits=["vehicle_updated", "driver_updated", "transport_order_updated"],
    max_events=MAX_ORDERS + 3,
)
def assign_driver(shop: Changes, given: AssignDriver) -> None:
    """Give a vehicle to a driver, or (null) to nobody; its transport orders go with it."""
    vehicle = shop.get(Vehicle, given.vehicleID)
    concerned = [Ref(TransportOrder.kind, order_id) for order_id in vehicle.orderIDs]
    if vehicle.driverID is not None:
        concerned.append(Ref(Driver.kind, vehicle.driverID))
    shop.preload(concerned)
    if given.driverID is None and vehicle.driverID is None:
        raise RuleConflict(f"Nobody drives vehicle {vehicle.vehicleID}.", vehicle)
    if given.driverID is not None:
        driver = shop.get(Driver, given.driverID, field="driverID")
        if driver.vehicleID is not None:
            raise RuleConflict(f"{driver.name} drives vehicle {driver.vehicleID} already.", vehicle, driver)
        shop.put(driver.model_copy(update={"vehicleID": vehicle.vehicleID}), "driver_updated", {"change": "vehicle"})
    let_go(shop, vehicle.driverID)
    now = shop.context.now
    update = {"driverID": given.driverID, "updatedAt": now}
    shop.put(vehicle.model_copy(update=update), "vehicle_updated", {"change": "driver"})
    for order_id in vehicle.orderIDs:
        order = shop.find(TransportOrder, order_id)
        if order is not None:
            shop.put(order.model_copy(update=update), "transport_order_updated", {"change": "driver"})


class AssignVehicle(CommandInput):
    transportOrderID: TransportOrderID
    vehicleID: VehicleID | None


@command(
    "POST",
    "/transport-orders/{transportOrderID}/vehicle",
    target=TransportOrder,
    permission="dispatch",
    emits=["transport_order_updated", "vehicle_updated"],
)
def assign_vehicle(shop: Changes, given: AssignVehicle) -> None:
    """Give a transport order that is not under way to a vehicle, or (null) to none: it is new again."""
    order = shop.get(TransportOrder, given.transportOrderID)
    if order.status not in (TransportStatus.NEW, TransportStatus.ASSIGNED) or given.vehicleID == order.vehicleID:
        where = "" if order.vehicleID is None else f" with vehicle {order.vehicleID}"
        raise RuleConflict(f"Transport order {order.transportOrderID} is {order.status}{where}.", order)
    leave_vehicle(shop, order)
    update: dict[str, object] = {"vehicleID": None, "driverID": None, "status": TransportStatus.NEW}
    if given.vehicleID is not None:
        vehicle = shop.get(Vehicle, given.vehicleID, field="vehicleID")
        if len(vehicle.orderIDs) >= MAX_ORDERS:
            raise RuleConflict(f"Vehicle {vehicle.vehicleID} has {MAX_ORDERS} transport orders.", order, vehicle)
        orders = (*vehicle.orderIDs, order.transportOrderID)
        shop.put(vehicle.model_copy(update={"orderIDs": orders}), "vehicle_updated", {"change": "orders"})
        update = {"vehicleID": vehicle.vehicleID, "driverID": vehicle.driverID, "status": TransportStatus.ASSIGNED}
    changed = order.model_copy(update={**update, "updatedAt": shop.context.now})
    shop.put(changed, "transport_order_updated", {"change": "status", "previousStatus": order.status.value})


COMMANDS = (assign_driver, assign_vehicle)
