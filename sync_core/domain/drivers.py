"""Drivers: who may drive a vehicle. A profile stands under the id of its user. Source: domain-more.md D."""

from typing import Annotated, ClassVar

from pydantic import StringConstraints

from sync_core.domain.changes import Changes, RuleConflict
from sync_core.domain.command import CommandInput, command
from sync_core.domain.document import Document
from sync_core.domain.fields import DocumentID, Label, Names, Omittable
from sync_core.events import EventType
from sync_core.filters import tag
from sync_core.labels import person_label, role_label

__all__ = ["COMMANDS", "EVENT_TYPES", "OFFICE", "OFFICE_ROLES", "Driver", "DriverID"]

DriverID = Annotated[
    str, StringConstraints(pattern=r"^\.*[A-Za-z0-9_-][A-Za-z0-9._@+:-]*$", max_length=64), Names("driver")
]
"""The UserID of who drives. Like a DocumentID it can stand in a path."""

OFFICE_ROLES = ("admin", "dispatcher")
OFFICE = tuple(role_label(role) for role in OFFICE_ROLES)
"""Who sees all of logistics; beside them everybody sees what is theirs."""


class Driver(Document):
    """One driver's profile."""

    kind: ClassVar[str] = "driver"
    plural: ClassVar[str] = "drivers"
    id_key: ClassVar[str] = "userID"
    view_permission: ClassVar[str] = "view_drivers"

    userID: str
    name: Label
    phone: Label | None = None
    licence: Label | None = None
    vehicleID: DocumentID | None = None

    def tags(self) -> tuple[str, ...]:
        own = (tag("userID", self.userID),)
        return own if self.vehicleID is None else (*own, tag("vehicleID", self.vehicleID))

    def audience(self) -> tuple[str, ...]:
        return (*OFFICE, person_label(self.userID))

    @property
    def state(self) -> str:
        return "driving" if self.vehicleID is not None else "free"


EVENT_TYPES = (EventType("driver_updated", document="driver"),)


class CreateDriver(CommandInput):
    userID: DriverID
    name: Label
    phone: Label | None = None
    licence: Label | None = None


@command("POST", "/drivers", target=Driver, permission="dispatch", emits=["driver_updated"], creates=True)
def create(shop: Changes, given: CreateDriver) -> None:
    """Add the profile of a user who drives."""
    shop.create(Driver.model_validate(given.model_dump()), "driver_updated", {"change": "created"})


class EditDriver(CommandInput):
    userID: DriverID
    name: Omittable[Label] = None
    phone: Label | None = None
    licence: Label | None = None


@command("PATCH", "/drivers/{userID}", target=Driver, permission="dispatch", emits=["driver_updated"], guarded=True)
def edit(shop: Changes, given: EditDriver) -> None:
    """Change a driver's name, phone or licence; what is null is taken away, what is absent stays."""
    driver = shop.get(Driver, given.userID)
    wanted = {name: value for name, value in given if name in given.model_fields_set}
    shop.put(driver.model_copy(update=wanted), "driver_updated", {"change": "edited"})


class DeleteDriver(CommandInput):
    userID: DriverID


@command("DELETE", "/drivers/{userID}", target=Driver, permission="dispatch", emits=["driver_updated"])
def delete(shop: Changes, given: DeleteDriver) -> None:
    """Take away the profile of who drives no vehicle now."""
    driver = shop.get(Driver, given.userID)
    if driver.vehicleID is not None:
        raise RuleConflict(f"{driver.name} drives vehicle {driver.vehicleID}; assign another driver first.", driver)
    shop.delete(driver, "driver_updated")


COMMANDS = (create, edit, delete)
