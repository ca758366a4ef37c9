"""Positions over HTTP: ``POST /vehicles/{vehicleID}/location``, ``GET /vehicles?near=`` and ``GET /vehicle-locations``.

Who may see a vehicle may see where it is. Source: domain-more.md D.
"""

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_core.cursor import Cursor
from sync_core.domain.fields import DocumentID
from sync_core.domain.places import Position
from sync_core.domain.vehicles import Vehicle
from sync_core.faults import faults_of
from sync_core.paths import PREFIX
from sync_core.problems import FieldError, InvalidRequest, Unavailable, Unprocessable
from sync_core.times import ms_from_datetime
from sync_server.access.caller import Caller, caller_of
from sync_server.api.body import client_id_of, json_body
from sync_server.api.paging import Query
from sync_server.log.base import EventLog, LogError
from sync_server.log.records import StoredDocument
from sync_server.positions.base import Found, Place, PositionStore, nearest_of
from sync_server.positions.intake import PERMISSION, Intake, location_of
from sync_server.positions.sphere import HALF_ROUND_M
from sync_server.positions.vehicles import Known, Vehicles, may_see, own_tags

__all__ = ["LOCATIONS_PATH", "LOCATION_PATH", "MAX_NEAR", "VEHICLES_PATH", "Positions", "place_of"]

VEHICLES_PATH = f"{PREFIX}/{Vehicle.path()}"
LOCATION_PATH = f"{VEHICLES_PATH}/{{vehicleID}}/location"
LOCATIONS_PATH = f"{PREFIX}/vehicle-locations"

DEFAULT_NEAR = 100
MAX_NEAR = 500
MAX_LOOKED_AT = 10_000
"""Of the nearest, where many are of vehicles that are no more."""
PAGE = 1000
AHEAD_MS = 60_000
"""So far a tracker's clock may be ahead; beyond that its positions would stand in the way of right ones."""
RETRY_AFTER_S = 2

_VEHICLE_ID: TypeAdapter[str] = TypeAdapter(DocumentID)
T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]


def place_of(vehicle_id: str, body: bytes, *, now_ms: int) -> Place:
    """The place in the JSON *body*. Raises Unprocessable with every fault of *vehicle_id*, or else of the body."""
    try:
        _VEHICLE_ID.validate_python(vehicle_id)  # or a batch of them would be more than a store takes
    except ValidationError as exc:
        faults = tuple(FieldError("vehicleID", fault.message) for fault in faults_of(exc))
        raise Unprocessable("The position cannot be accepted.", errors=faults) from None
    try:
        given = Position.model_validate_json(body, strict=True)
    except ValidationError as exc:
        raise Unprocessable("The position cannot be accepted.", errors=tuple(faults_of(exc))) from None
    at_ms = now_ms if given.at is None else ms_from_datetime(datetime.fromisoformat(given.at))
    if at_ms > now_ms + AHEAD_MS:
        fault = FieldError("at", f"is over {AHEAD_MS // 1000} s in the future; set the clock")
        raise Unprocessable("The position cannot be accepted.", errors=(fault,))
    return Place(vehicle_id, given.lon, given.lat, at_ms, given.heading, given.speed)


class Positions:
    """The endpoints."""

    def __init__(self, intake: Intake, event_log: EventLog, *, wall_ms: Callable[[], int]) -> None:
        self._intake = intake
        self._store: PositionStore = intake.store
        self._vehicles = Vehicles(event_log)
        self._wall_ms = wall_ms

    def routes(self) -> list[Route]:
        return [Route(LOCATION_PATH, self.report, methods=["POST"]), Route(LOCATIONS_PATH, self.locations)]

    def in_front_of(self, routes: Iterable[Route]) -> list[Route]:
        """*routes*, of which the list of vehicles understands ``near`` as well."""
        return [
            Route(route.path, self._near_or(route.endpoint)) if route.path == VEHICLES_PATH else route
            for route in routes
        ]

    async def report(self, http: Request) -> Response:
        """One position of one vehicle. Raises Forbidden, NotFound, Unprocessable, Unavailable."""
        caller, client_id = caller_of(http.scope), client_id_of(http)
        caller.rights.require(PERMISSION)  # before the body is looked at
        place = place_of(http.path_params["vehicleID"], await json_body(http), now_ms=self._wall_ms())
        await self._intake.report(caller, [place], client_id=client_id)
        return _answer({"vehicleID": place.vehicle_id, "location": location_of(place)})

    async def locations(self, http: Request) -> Response:
        """Where all vehicles are that the caller sees: a page by id, with the log's cursor to read on from."""
        caller, query = caller_of(http.scope), Query.parse(http.scope, {"after", "limit"})
        caller.rights.require(Vehicle.view_permission)
        limit = query.limit(default=PAGE, high=PAGE)
        places = await _reading(self._store.all(caller.tenant, after=query.one("after") or "", limit=limit))
        bounds, vehicles = await self._seen(caller, places)
        shown = [{"vehicleID": one.vehicle_id, **location_of(one)} for one in places if one.vehicle_id in vehicles]
        more = {"nextAfter": places[-1].vehicle_id} if len(places) == limit else {}
        return _answer({"locations": shown, "cursor": str(Cursor(bounds.epoch, bounds.head)), **more})

    def _near_or(self, listed: Endpoint) -> Endpoint:
        async def list_vehicles(http: Request) -> Response:
            return await (self.near(http) if "near" in http.query_params else listed(http))

        return list_vehicles

    async def near(self, http: Request) -> Response:
        """Vehicles by their distance. Raises InvalidRequest, Forbidden, Unavailable."""
        caller, query = caller_of(http.scope), Query.parse(http.scope, {"near", "withinMeters", "limit"})
        caller.rights.require(Vehicle.view_permission)
        if query.filter.tags:
            faults = tuple(
                FieldError(tag.partition("=")[0], "does not go with near") for tag in sorted(query.filter.tags)
            )
            raise InvalidRequest("The query cannot be understood.", errors=faults)
        lon, lat = _coordinates(query.one("near") or "")
        within_m = _meters(query.one("withinMeters"))
        limit = query.limit(default=DEFAULT_NEAR, high=MAX_NEAR)
        tags = own_tags(caller.rights)
        if tags is None:
            (bounds, vehicles), seen = await self._near_of_all(caller, lon, lat, within_m=within_m, limit=limit)
        else:  # or the few that they see would be looked for among all others
            bounds, vehicles = await _reading(self._vehicles.own(caller, tags))
            places = await _reading(self._store.get(caller.tenant, vehicles))
            seen = nearest_of(places, lon, lat, within_m=within_m, limit=limit)
        bodies = ",".join(_with_location(vehicles[one.place.vehicle_id], one) for one in seen)
        cursor = Cursor(bounds.epoch, bounds.head)
        body = f'{{"vehicles":[{bodies}],"cursor":"{cursor}"}}'
        return Response(body, media_type="application/json", headers={"Cache-Control": "private, no-store"})

    async def _near_of_all(
        self, caller: Caller, lon: float, lat: float, *, within_m: float, limit: int
    ) -> tuple[Known, list[Found]]:
        look = limit
        while True:
            found = await _reading(self._store.near(caller.tenant, lon, lat, within_m=within_m, limit=look))
            known = await self._seen(caller, [one.place for one in found])
            seen = [one for one in found if one.place.vehicle_id in known.vehicles][:limit]
            if len(seen) == limit or len(found) < look or look >= MAX_LOOKED_AT:
                return known, seen
            look = min(look * 8, MAX_LOOKED_AT)

    async def _seen(self, caller: Caller, places: Sequence[Place]) -> Known:
        """Those of the places' vehicles that *caller* sees. Places of vehicles that are no more are forgotten."""

        bounds, vehicles = await _reading(self._vehicles.known(caller.tenant, [one.vehicle_id for one in places]))
        gone = [one.vehicle_id for one in places if one.vehicle_id not in vehicles]
        if gone:
            await _reading(self._store.forget(caller.tenant, gone))
        return Known(bounds, {key: vehicle for key, vehicle in vehicles.items() if may_see(caller, vehicle)})


async def _reading(read: Awaitable[T]) -> T:
    """What *read* gives. Raises Unavailable."""
    try:
        return await read
    except LogError as exc:
        raise Unavailable("Positions cannot be read now.", retry_after_s=RETRY_AFTER_S) from exc


def _with_location(vehicle: StoredDocument, found: Found) -> str:
    more = to_json({"location": location_of(found.place), "distanceMeters": round(found.distance_m, 2)}).decode()
    return f"{vehicle.body[:-1]},{more[1:]}"


def _coordinates(text: str) -> tuple[float, float]:
    try:
        lon, lat = (float(part) for part in text.split(","))
    except ValueError:
        lon = lat = math.nan
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):
        raise _bad("near", "longitude and latitude in degrees, such as 35.5018,33.8938")
    return lon, lat


def _meters(text: str | None) -> float:
    try:
        meters = float(text or "nan")
    except ValueError:
        meters = math.nan
    if not 0 < meters < math.inf:
        raise _bad("withinMeters", "how far away, in metres: a number above 0")
    return min(meters, HALF_ROUND_M)


def _bad(name: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"The parameter {name} cannot be used.", errors=(FieldError(name, message),))


def _answer(content: object) -> Response:
    return Response(to_json(content), media_type="application/json", headers={"Cache-Control": "private, no-store"})
