"""Fuel logs: what was filled into a vehicle, and where its odometer stood.

Consumption is counted by full tanks: what was filled in after the first log, over the way since then. The vehicle
carries the sum, moved in the same batch as the log, so nobody has to add up logs. Source: domain-more.md D.
"""

from decimal import Decimal
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from sync_core.domain.changes import Changes, RuleConflict
from sync_core.domain.command import CommandInput, command
from sync_core.domain.document import Document
from sync_core.domain.drivers import OFFICE
from sync_core.domain.fields import Amount, DocumentID, Made, Names, Timestamp, Whole
from sync_core.domain.vehicles import Fuel, Vehicle, VehicleID, with_fuel
from sync_core.events import EventType
from sync_core.filters import tag
from sync_core.labels import person_label

__all__ = ["COMMANDS", "EVENT_TYPES", "FuelLog"]

MAX_LITERS = 10_000


def _filled(liters: Decimal) -> Decimal:
    if not 0 < liters <= MAX_LITERS:
        raise ValueError(f"more than 0 and at most {MAX_LITERS} litres")
    return liters


Liters = Annotated[Amount, AfterValidator(_filled), Field(examples=["52.25"])]
FuelLogID = Annotated[DocumentID, Names("fuel_log")]


class FuelLog(Document):
    """One filling. *odometer* in km; *before* is what the vehicle had taken until then."""

    kind: ClassVar[str] = "fuel_log"
    plural: ClassVar[str] = "fuel_logs"
    id_key: ClassVar[str] = "fuelLogID"
    view_permission: ClassVar[str] = "view_fuel_logs"

    fuelLogID: DocumentID
    vehicleID: DocumentID
    driverID: str | None = None
    liters: Amount
    odometer: Whole
    at: str
    before: Fuel | None = None

    def tags(self) -> tuple[str, ...]:
        return (tag("fuelLogID", self.fuelLogID), tag("vehicleID", self.vehicleID))

    def grants(self) -> tuple[str, ...]:
        return self.tags()

    def audience(self) -> tuple[str, ...]:
        return OFFICE if self.driverID is None else (*OFFICE, person_label(self.driverID))

    @property
    def is_open(self) -> bool:
        return False  # done when it is made: a replica keeps the last day's, lists give all


EVENT_TYPES = (
    EventType("fuel_logged", document="fuel_log"),
    EventType("fuel_log_deleted", document="fuel_log"),
)


class LogFuel(CommandInput):
    fuelLogID: Annotated[FuelLogID | None, Made()] = None
    vehicleID: VehicleID
    liters: Liters
    odometer: Whole = Field(ge=0, le=10_000_000)
    at: Timestamp | None = None


@command(
    "POST", "/fuel-logs", target=FuelLog, permission="drive", emits=["fuel_logged", "vehicle_updated"], creates=True
)
def create(shop: Changes, given: LogFuel) -> None:
    """Note what was filled in, and where the odometer stands; the vehicle's consumption follows."""
    vehicle = shop.get(Vehicle, given.vehicleID, field="vehicleID")
    before = vehicle.fuel
    if before is not None and given.odometer < before.lastOdometer:
        raise RuleConflict(f"The odometer of vehicle {vehicle.vehicleID} was at {before.lastOdometer} km.", vehicle)
    assert given.fuelLogID is not None
    log = FuelLog(
        fuelLogID=given.fuelLogID,
        vehicleID=vehicle.vehicleID,
        driverID=vehicle.driverID,
        liters=given.liters,
        odometer=given.odometer,
        at=given.at or shop.context.now,
        before=before,
    )
    shop.create(log, "fuel_logged")
    if before is None:
        fuel = Fuel(
            logs=1, lastLogID=log.id, firstOdometer=given.odometer, lastOdometer=given.odometer, liters=Decimal("0.00")
        )
    else:
        fuel = before.model_copy(
            update={
                "logs": before.logs + 1,
                "lastLogID": log.id,
                "lastOdometer": given.odometer,
                "liters": before.liters + given.liters,
            }
        )
    shop.put(with_fuel(vehicle, fuel), "vehicle_updated", {"change": "fuel"})


class DeleteFuelLog(CommandInput):
    fuelLogID: FuelLogID


@command(
    "DELETE",
    "/fuel-logs/{fuelLogID}",
    target=FuelLog,
    permission="dispatch",
    emits=["fuel_log_deleted", "vehicle_updated"],
)
def delete(shop: Changes, given: DeleteFuelLog) -> None:
    """Take back the newest log of a vehicle, which was a mistake; the vehicle's consumption follows."""
    log = shop.get(FuelLog, given.fuelLogID)
    vehicle = shop.find(Vehicle, log.vehicleID)
    if vehicle is not None:
        if vehicle.fuel is None or vehicle.fuel.lastLogID != log.id:
            raise RuleConflict(f"Fuel log {log.id} is not the newest of vehicle {vehicle.vehicleID}.", log, vehicle)
        shop.put(with_fuel(vehicle, log.before), "vehicle_updated", {"change": "fuel"})
    shop.delete(log, "fuel_log_deleted")


COMMANDS = (create, delete)
