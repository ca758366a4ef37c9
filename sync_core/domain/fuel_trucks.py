"""Fuel trucks: what fuels aircraft, and how far its meter has come. Source: domain-more.md A."""

from typing import Annotated, Any, ClassVar

from sync_core.domain.changes import Changes
from sync_core.domain.command import CommandInput, command
from sync_core.domain.document import Document
from sync_core.domain.fields import Amount, DocumentID, Label, Made, Names, Omittable, two_places
from sync_core.events import EventType

__all__ = ["COMMANDS", "EVENT_TYPES", "FuelTruck", "TruckID"]

ZERO = two_places("0.00")


class FuelTruck(Document):
    """One truck. *currentMeterReading* is in gallons, what its meter showed when it last fuelled."""

    kind: ClassVar[str] = "fuel_truck"
    plural: ClassVar[str] = "fuel_trucks"
    id_key: ClassVar[str] = "truckID"
    view_permission: ClassVar[str] = "view_fuel_trucks"

    truckID: DocumentID
    name: Label
    currentMeterReading: Amount = ZERO


EVENT_TYPES = (EventType("truck_updated", document="fuel_truck"),)

TruckID = Annotated[DocumentID, Names("fuel_truck")]


class CreateTruck(CommandInput):
    truckID: Annotated[TruckID | None, Made()] = None
    name: Label
    currentMeterReading: Amount = ZERO


@command(
    "POST", "/fuel-trucks", target=FuelTruck, permission="manage_fuel_trucks", emits=["truck_updated"], creates=True
)
def create(yard: Changes, given: CreateTruck) -> None:
    """Add a fuel truck."""
    assert given.truckID is not None
    truck = FuelTruck(truckID=given.truckID, name=given.name, currentMeterReading=given.currentMeterReading)
    yard.create(truck, "truck_updated", {"change": "created"})


class EditTruck(CommandInput):
    truckID: TruckID
    name: Omittable[Label] = None
    currentMeterReading: Omittable[Amount] = None


@command(
    "PATCH",
    "/fuel-trucks/{truckID}",
    target=FuelTruck,
    permission="manage_fuel_trucks",
    emits=["truck_updated"],
    guarded=True,
)
def edit(yard: Changes, given: EditTruck) -> None:
    """Rename a fuel truck, or put its meter right."""
    truck = yard.get(FuelTruck, given.truckID)
    wanted: dict[str, Any] = {name: value for name, value in given if value is not None}
    yard.put(truck.model_copy(update=wanted), "truck_updated", {"change": "edited"})


class DeleteTruck(CommandInput):
    truckID: TruckID


@command("DELETE", "/fuel-trucks/{truckID}", target=FuelTruck, permission="manage_fuel_trucks", emits=["truck_updated"])
def delete(yard: Changes, given: DeleteTruck) -> None:
    """Take a fuel truck away; orders that name it need another one to be completed."""
    yard.delete(yard.get(FuelTruck, given.truckID), "truck_updated")


COMMANDS = (create, edit, delete)
