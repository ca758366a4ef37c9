"""What positions of vehicles look like over HTTP. Source: docs/logistics.md."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from sync_core.domain.places import Position
from sync_core.domain.vehicles import Vehicle
from sync_server.positions.intake import PERMISSION
from sync_server.positions.routes import DEFAULT_NEAR, LOCATION_PATH, LOCATIONS_PATH, MAX_NEAR, PAGE
from sync_server.reference.commands import CLIENT_ID, path_parameters
from sync_server.reference.operation import Operation, Parameter, Reply
from sync_server.reference.schemas import CURSOR, TIME, ref

__all__ = ["position_operations", "with_near"]

_NUMBER = {"type": "number"}
_LOCATION: dict[str, Any] = {
    "type": "object",
    "properties": {"lon": _NUMBER, "lat": _NUMBER, "heading": _NUMBER, "speed": _NUMBER, "at": TIME},
    "required": ["lon", "lat", "at"],
}
_EXAMPLE = {"lon": 35.5018, "lat": 33.8938, "heading": 270, "speed": 48.5}


def with_near(operations: Iterable[Operation]) -> Iterator[Operation]:
    """*operations*, of which the list of vehicles knows ``near`` as well."""
    for operation in operations:
        if operation.id != f"{Vehicle.plural}_list":
            yield operation
            continue
        near = Parameter(
            "near", "query", "Longitude and latitude: the nearest first by great circle, each with its `location` and "
            f"`distanceMeters`, at most {MAX_NEAR} ({DEFAULT_NEAR}). Goes with `withinMeters` and `limit` only.",
            {"type": "string", "examples": ["35.5018,33.8938"]},
        )  # fmt: skip
        within = Parameter(
            "withinMeters", "query", "With `near`: how far away.", {"type": "number", "exclusiveMinimum": 0}
        )
        yield replace(operation, parameters=(near, within, *operation.parameters))


def position_operations() -> Iterator[Operation]:
    """Reporting a position, and where everybody is."""
    tag, id_field = Vehicle.heading(), {"vehicleID": ref("EntityID")}
    yield Operation(
        "POST", LOCATION_PATH, "vehicles_report_location", tag, "Say where a vehicle is.",
        description="`heading` in degrees clockwise from north, `speed` in km/h, `at` now. One that is older than what "
        "is known changes nothing. Readers get `vehicle_location`.",
        parameters=(*path_parameters(("vehicleID",)), CLIENT_ID),
        body=_position(), body_example=_EXAMPLE,
        replies=(
            Reply(200, "It is stored, and on its way to who watches.", _object({**id_field, "location": _LOCATION})),
        ),
        problems=(400, 401, 403, 404, 413, 415, 422, 429, 503),
        extensions={"x-permission": PERMISSION, "x-emits": ["vehicle_location"]},
    )  # fmt: skip
    place = {"type": "object", "properties": {**id_field, **_LOCATION["properties"]},
             "required": ["vehicleID", *_LOCATION["required"]]}  # fmt: skip
    page = _object({"locations": {"type": "array", "items": place}, "cursor": CURSOR})
    page["properties"]["nextAfter"] = {"type": "string", "description": "Where it goes on; absent at the end."}
    yield Operation(
        "GET", LOCATIONS_PATH, "vehicles_locations", tag, "Where all vehicles are: what a map begins with.",
        parameters=(
            Parameter("after", "query", "`nextAfter` of the page before.", {"type": "string"}),
            Parameter("limit", "query", "Most vehicles of a page.",
                      {"type": "integer", "minimum": 1, "maximum": PAGE, "default": PAGE}),
        ),
        replies=(Reply(200, "A page, by the vehicle's id.", page),),
        problems=(400, 401, 403, 429, 503),
        extensions={"x-permission": Vehicle.view_permission},
    )  # fmt: skip


def _position() -> dict[str, Any]:
    schema = Position.model_json_schema()
    for part in schema["properties"].values():
        part.pop("title", None)
    return schema


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}
