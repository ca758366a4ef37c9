"""Vehicles: what there is to drive, who drives it, and how much fuel it takes against its norm.

No two vehicles have the same VIN or the same plate. What keeps that is a small document of its own for each of them,
the mark, which exists as long as somebody has that VIN or plate: two vehicles with one plate would make the same
mark, and the log's transaction lets one of them do that. Where a vehicle is stands in no document: positions come
every second and are worth nothing a minute later (docs/logistics.md). Source: domain-more.md D.
"""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, ClassVar
from unicodedata import category, normalize

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema

from sync_core.domain.changes import Changes, RuleConflict
from sync_core.domain.command import CommandInput, command
from sync_core.domain.document import Document, Part, Ref
from sync_core.domain.drivers import OFFICE, Driver
from sync_core.domain.fields import EXACT, Amount, DocumentID, Label, Made, Names, Omittable, Whole, two_places
from sync_core.domain.places import Latitude, Longitude
from sync_core.events import Delivery, EventType
from sync_core.filters import tag
from sync_core.labels import person_label

__all__ = [
    "COMMANDS",
    "EVENT_TYPES",
    "LOCATION_EVENT",
    "Fuel",
    "Vehicle",
    "VehicleID",
    "VehicleMark",
    "let_go",
    "with_fuel",
]

LOCATION_EVENT = "vehicle_location"
_CENT = Decimal("0.01")
_VIN = re.compile(r"[A-HJ-NPR-Z0-9]{17}")
_BETWEEN = re.compile(r"[\s.\-_/·\u034f\u2010-\u2015\ufe00-\ufe0f]+")
"""Spaces, points and dashes of all kinds; and what changes only how the sign before it looks."""
_DIGITS = {zero + digit: str(digit) for zero in (0x660, 0x6F0) for digit in range(10)}
"""Arabic and Persian ones: a plate has the others beside them."""
MAX_PLATE_BYTES = 28
"""Of a plate without its spaces, so that its mark's id fits; no country has more than a dozen characters."""

MAX_NORM = 1000

VehicleID = Annotated[DocumentID, Names("vehicle")]


def _vin(value: str) -> str:
    vin = value.strip().upper()
    if not _VIN.fullmatch(vin):
        raise ValueError("a VIN has 17 letters and digits, without I, O and Q (ISO 3779)")
    return vin


def _plate(value: str) -> str:
    if not 1 <= len(_bare(value).encode()) <= MAX_PLATE_BYTES:
        raise ValueError(f"a plate takes 1 to {MAX_PLATE_BYTES} bytes without its spaces and hyphens")
    return value.strip()


def _bare(plate: str) -> str:
    """What makes two plates the same, however they are written, and in whatever form of Unicode: the very characters
    that are seen. Source: UAX 15 (NFKC); barePlate in dashboard/js/logistics.js does the same."""
    seen = _BETWEEN.sub("", "".join(sign for sign in plate if category(sign) != "Cf"))
    text = normalize("NFKC", normalize("NFKC", seen).upper())  # capitals of composed letters may be decomposed
    return _BETWEEN.sub("", text).translate(_DIGITS)


def _norm(value: Decimal) -> Decimal:
    if value > MAX_NORM:
        raise ValueError(f"at most {MAX_NORM} litres per 100 km")
    return value


VIN = Annotated[Label, AfterValidator(_vin), Field(examples=["WDB9066331S123456"])]
Norm = Annotated[Amount, AfterValidator(_norm), Field(examples=["9.50"])]
Plate = Annotated[Label, AfterValidator(_plate), Field(examples=["B 123 456"])]
Signed = Annotated[
    Decimal,
    PlainValidator(two_places),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^-?[0-9]{1,10}(\.[0-9]{1,2})?$", "examples": ["-0.40"]}),
]


class Fuel(Part):
    """What a vehicle took, from its first fuel log on. *consumption* is in litres per 100 km, of what was filled in
    after the first log: what was in the tank before is not known. *overNorm* is how much that is above the norm."""

    logs: Whole
    lastLogID: DocumentID
    firstOdometer: Whole
    lastOdometer: Whole
    liters: Amount
    consumption: Amount | None = None
    overNorm: Signed | None = None

    def measured(self, norm: Decimal) -> "Fuel":
        """With what the numbers come to against *norm*."""
        distance = self.lastOdometer - self.firstOdometer
        if distance <= 0:
            return self.model_copy(update={"consumption": None, "overNorm": None})
        taken = EXACT.divide(self.liters * 100, Decimal(distance)).quantize(_CENT, context=EXACT)
        return self.model_copy(update={"consumption": taken, "overNorm": taken - norm})


class Vehicle(Document):
    """One vehicle. *fuelNorm* in litres per 100 km; *orderIDs* are its transport orders that are under way."""

    kind: ClassVar[str] = "vehicle"
    plural: ClassVar[str] = "vehicles"
    id_key: ClassVar[str] = "vehicleID"
    view_permission: ClassVar[str] = "view_vehicles"

    vehicleID: DocumentID
    vin: Label
    plateNumber: Label
    make: Label
    model: Label
    fuelNorm: Amount
    driverID: str | None = None
    orderIDs: tuple[DocumentID, ...] = ()
    fuel: Fuel | None = None
    createdAt: str
    updatedAt: str

    def tags(self) -> tuple[str, ...]:
        own = (tag("vehicleID", self.vehicleID),)
        return own if self.driverID is None else (*own, tag("userID", self.driverID))

    def audience(self) -> tuple[str, ...]:
        return OFFICE if self.driverID is None else (*OFFICE, person_label(self.driverID))

    @property
    def state(self) -> str:
        return "busy" if self.orderIDs else "free"

    @property
    def marks(self) -> dict[str, str]:
        """The ids of its marks, and what each stands for."""
        return {
            f"vin.{self.vin}": f"VIN {self.vin}",
            f"plate.{_bare(self.plateNumber).encode().hex()}": f"plate {self.plateNumber}",
        }


class VehicleMark(Document):
    """That a VIN or a plate is taken, and by which vehicle."""

    kind: ClassVar[str] = "vehicle_mark"
    plural: ClassVar[str] = "vehicle_marks"
    id_key: ClassVar[str] = "vehicleMarkID"
    view_permission: ClassVar[str] = "dispatch"

    vehicleMarkID: DocumentID
    vehicleID: DocumentID

    def tags(self) -> tuple[str, ...]:
        return (tag("vehicleMarkID", self.vehicleMarkID), tag("vehicleID", self.vehicleID))

    def audience(self) -> tuple[str, ...]:
        return OFFICE


class LocationData(BaseModel):
    """Where a vehicle is; see Position."""

    model_config = ConfigDict(extra="allow")
    lon: Longitude
    lat: Latitude
    heading: float | None = None
    speed: float | None = None
    at: str


EVENT_TYPES = (
    EventType("vehicle_updated", document="vehicle"),
    EventType("vehicle_mark_updated", document="vehicle_mark"),
    EventType(LOCATION_EVENT, LocationData, delivery=Delivery.LATEST, entity="vehicleID", command_only=True),
)


class CreateVehicle(CommandInput):
    vehicleID: Annotated[VehicleID | None, Made()] = None
    vin: VIN
    plateNumber: Plate
    make: Label
    model: Label
    fuelNorm: Norm


_UPDATES = ["vehicle_updated", "vehicle_mark_updated"]


@command("POST", "/vehicles", target=Vehicle, permission="dispatch", emits=_UPDATES, creates=True)
def create(shop: Changes, given: CreateVehicle) -> None:
    """Add a vehicle; its VIN and its plate are nobody else's."""
    now = shop.context.now
    vehicle = Vehicle.model_validate(given.model_dump() | {"createdAt": now, "updatedAt": now})
    _preload_marks(shop, vehicle.marks)
    shop.create(vehicle, "vehicle_updated", {"change": "created"})
    _take_marks(shop, vehicle, vehicle.marks)


class EditVehicle(CommandInput):
    vehicleID: VehicleID
    vin: Omittable[VIN] = None
    plateNumber: Omittable[Plate] = None
    make: Omittable[Label] = None
    model: Omittable[Label] = None
    fuelNorm: Omittable[Norm] = None


@command("PATCH", "/vehicles/{vehicleID}", target=Vehicle, permission="dispatch", emits=_UPDATES, guarded=True)
def edit(shop: Changes, given: EditVehicle) -> None:
    """Change what is said of a vehicle."""
    vehicle = shop.get(Vehicle, given.vehicleID)
    wanted = {name: value for name, value in given if value is not None}
    changed = vehicle.model_copy(update={**wanted, "updatedAt": shop.context.now})
    if changed.fuel is not None:
        changed = with_fuel(changed, changed.fuel)
    _preload_marks(shop, vehicle.marks | changed.marks)
    shop.put(changed, "vehicle_updated", {"change": "edited"})
    _take_marks(shop, changed, [mark for mark in changed.marks if mark not in vehicle.marks])
    _drop_marks(shop, [mark for mark in vehicle.marks if mark not in changed.marks])


class DeleteVehicle(CommandInput):
    vehicleID: VehicleID


@command("DELETE", "/vehicles/{vehicleID}", target=Vehicle, permission="dispatch", emits=[*_UPDATES, "driver_updated"])
def delete(shop: Changes, given: DeleteVehicle) -> None:
    """Take away a vehicle that has no transport orders under way."""
    vehicle = shop.get(Vehicle, given.vehicleID)
    if vehicle.orderIDs:
        raise RuleConflict(
            f"Vehicle {vehicle.vehicleID} has transport orders under way: {len(vehicle.orderIDs)}.", vehicle
        )
    _preload_marks(shop, vehicle.marks)
    let_go(shop, vehicle.driverID)
    shop.delete(vehicle, "vehicle_updated")
    _drop_marks(shop, vehicle.marks)


def with_fuel(vehicle: Vehicle, fuel: Fuel | None) -> Vehicle:
    """*vehicle* with *fuel*, measured against its norm."""
    return vehicle.model_copy(update={"fuel": None if fuel is None else fuel.measured(vehicle.fuelNorm)})


def let_go(shop: Changes, driver_id: str | None) -> None:
    """That driver drives no vehicle any more."""
    driver = None if driver_id is None else shop.find(Driver, driver_id)
    if driver is not None:
        shop.put(driver.model_copy(update={"vehicleID": None}), "driver_updated", {"change": "vehicle"})


def _preload_marks(shop: Changes, marks: Iterable[str]) -> None:
    shop.preload([Ref(VehicleMark.kind, mark) for mark in marks])


def _take_marks(shop: Changes, vehicle: Vehicle, marks: Iterable[str]) -> None:
    for mark in marks:
        taken = shop.find(VehicleMark, mark)
        if taken is not None:
            raise RuleConflict(f"Vehicle {taken.vehicleID} has the {vehicle.marks[mark]} already.", taken)
        shop.put(VehicleMark(vehicleMarkID=mark, vehicleID=vehicle.vehicleID), "vehicle_mark_updated")


def _drop_marks(shop: Changes, marks: Iterable[str]) -> None:
    for mark in marks:
        taken = shop.find(VehicleMark, mark)
        if taken is not None:
            shop.delete(taken, "vehicle_mark_updated")


COMMANDS = (create, edit, delete)
