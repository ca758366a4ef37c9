"""``/ws/tracking``: positions in and out over one socket (seed 001). Its messages: docs/logistics.md.

Who may see vehicles is told where they are when the socket opens, and every position from then on, at its own pace:
what goes out is the feed, with its rights, its slow-reader rule and its cursors. Who may drive says where vehicles are;
it is not told its own words again if it named itself (``?clientID=``). Of a vehicle the position with the later ``at``
counts: what was under way when the socket opened may come before an older one.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import structlog
from pydantic_core import to_json

from sync_core.domain.vehicles import LOCATION_EVENT, Vehicle
from sync_core.problems import FieldError, Forbidden, Problem, Unavailable, Unprocessable
from sync_server.access.rights import Rights
from sync_server.feed.admission import Admission
from sync_server.feed.feed import Feed
from sync_server.feed.framing import MappedMessages
from sync_server.feed.request import FeedRequest
from sync_server.log.base import EventLog, LogError
from sync_server.positions.base import Place
from sync_server.positions.intake import PERMISSION, Intake, location_of
from sync_server.positions.routes import RETRY_AFTER_S, place_of
from sync_server.positions.vehicles import Vehicles, may_see
from sync_server.sockets.door import SocketRoute
from sync_server.sockets.errors import POLICY_VIOLATION, code_of
from sync_server.sockets.limits import MessageRate, SocketLimits, Verdict
from sync_server.sockets.socket import MAX_AGE_S, Socket, SocketLost

__all__ = ["TRACKING_PATH", "Tracking"]

TRACKING_PATH = "/ws/tracking"
LOCATIONS = "vehicle_locations"
MAX_LOCATIONS = 1000
"""In one message."""
MAX_UNDER_WAY = 2 * MAX_LOCATIONS
"""Positions of one socket that are not stored yet; more wait in the socket."""
MAX_PER_S = 5 * MAX_LOCATIONS
"""Positions of one socket: a vehicle's every second, of a fleet that is larger than most."""

log = structlog.get_logger("sync_server.positions")


def to_message(envelope: dict[str, Any]) -> Mapping[str, Any] | None:
    """What a map is told of an event: a position, or where in the log it stands."""
    match envelope["eventType"]:
        case "vehicle_location":
            more = {"id": envelope["id"]} if "id" in envelope else {}
            return {"type": LOCATION_EVENT, "vehicleID": envelope["vehicleID"], **envelope["data"], **more}
        case "connected" | "reset" as name:
            return {"type": name, "cursor": envelope["id"]}
        case "goodbye":
            return {"type": "goodbye", "reason": envelope["data"]["reason"]}
        case _:
            return None


class Tracking:
    """What the sockets at ``/ws/tracking`` have in common."""

    def __init__(self, intake: Intake, feed: Feed, event_log: EventLog, *, wall_ms: Callable[[], int]) -> None:
        self._intake = intake
        self._feed = feed
        self._vehicles = Vehicles(event_log)
        self._wall_ms = wall_ms

    def route(self, limits: SocketLimits) -> SocketRoute:
        """To be given to the door."""
        return SocketRoute(TRACKING_PATH, self.talk, limits, late=True)

    async def talk(self, socket: Socket) -> None:
        """One client, to its end. Raises Problem before the socket is accepted, SocketLost."""
        following = socket.is_identified
        if following:
            request_of(socket)  # refused while the answer may still be one of HTTP
        await socket.accept()
        said = _Said(socket, self._intake, spawn=self._feed.spawn, wall_ms=self._wall_ms)
        try:
            if following:
                await self._follow(socket)
            async for message in socket:
                if message["type"] != "connect":
                    await said.take(message)
                    continue
                require_any(socket.caller.rights)
                if not following:
                    following = True
                    await self._follow(socket)
        finally:
            said.cancel()

    async def _follow(self, socket: Socket) -> None:
        """Send what is known, and from now on what comes. Who may not see vehicles only says where they are."""
        request = request_of(socket)
        if socket.caller.rights.allows(Vehicle.view_permission):
            socket.attach(await Admission.of(self._feed, request), MappedMessages(to_message), max_age_s=MAX_AGE_S)
            await self._send_known(socket, request)

    async def _send_known(self, socket: Socket, request: FeedRequest) -> None:
        caller, wanted, after = socket.caller, request.view.sight.filter.tags, ""
        while True:
            try:
                places = await self._intake.store.all(caller.tenant, after=after, limit=MAX_LOCATIONS)
                known = await self._vehicles.known(caller.tenant, [place.vehicle_id for place in places])
            except LogError as exc:
                raise Unavailable("Positions cannot be read now.", retry_after_s=RETRY_AFTER_S) from exc
            seen = {
                vehicle.id
                for vehicle in known.vehicles.values()
                if (not wanted or not wanted.isdisjoint(vehicle.tags)) and may_see(caller, vehicle)
            }
            shown = [{"vehicleID": one.vehicle_id, **location_of(one)} for one in places if one.vehicle_id in seen]
            await socket.send({"type": LOCATIONS, "locations": shown})
            if len(places) < MAX_LOCATIONS:
                return
            after = places[-1].vehicle_id


class _Said:
    """What one client says. It is done beside what comes next, and answered when it is done."""

    def __init__(
        self,
        socket: Socket,
        intake: Intake,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"],
        wall_ms: Callable[[], int],
    ) -> None:
        self._socket = socket
        self._intake = intake
        self._spawn = spawn
        self._wall_ms = wall_ms
        self._rate = MessageRate(MAX_PER_S)
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way = 0
        """Positions."""

    async def take(self, message: dict[str, Any]) -> None:
        """Do what *message* says, once there is room for it. Raises SocketLost."""
        about = {"id": message["id"]} if isinstance(message.get("id"), str) else {}
        verdict = self._rate.count(_count(message))  # before they are looked at, which is what costs
        if verdict is not Verdict.ACCEPTED:
            await self._socket.error("RATE_LIMITED", f"At most {MAX_PER_S} positions a second.", **about)
            if verdict is Verdict.FLOOD:
                await self._socket.close(POLICY_VIOLATION)
            return
        try:
            places = list(places_in(message, now_ms=self._wall_ms()))
        except Unprocessable as refusal:
            await self._refuse(refusal, about)
            return
        while self._tasks and self._under_way + len(places) > MAX_UNDER_WAY:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        task = self._spawn(self._report(places, about))
        self._under_way += len(places)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.sleep(0)  # begun before the client's leaving, which may be what comes next, ends it

    async def _report(self, places: Sequence[Place], about: Mapping[str, str]) -> None:
        with suppress(SocketLost):
            try:
                client_id = request_of(self._socket).view.client_id
                await self._intake.report(self._socket.caller, places, client_id=client_id)
            except Problem as problem:
                await self._refuse(problem, about)
            except Exception:
                log.exception("position_failed")
                await self._socket.error("INTERNAL", "This is a fault of the server.", **about)
            else:
                if about:
                    await self._socket.send({"type": "ack", **about, "locations": len(places)})
            finally:
                self._under_way -= len(places)

    async def _refuse(self, problem: Problem, about: Mapping[str, str]) -> None:
        faults = [{"path": fault.path, "message": fault.message} for fault in problem.errors]
        more = {"errors": faults} if faults else {}
        await self._socket.error(code_of(problem), problem.detail, **about, **more)

    def cancel(self) -> None:
        """Nobody is there to be answered any more; what waits to be stored still is."""
        for task in self._tasks:
            task.cancel()


def request_of(socket: Socket) -> FeedRequest:
    """As the handshake's query asks for it; of all events the positions. Raises InvalidRequest, LookupError."""
    request = FeedRequest.parse(socket.scope)
    sight = request.view.sight
    wanted = replace(sight.filter, event_types=frozenset({LOCATION_EVENT}))
    return replace(request, view=replace(request.view, sight=replace(sight, filter=wanted)))


def require_any(rights: Rights) -> None:
    """Raises Forbidden for who may neither hear nor say where vehicles are."""
    if not rights.allows(Vehicle.view_permission) and not rights.allows(PERMISSION):
        needed = f"{Vehicle.view_permission} or {PERMISSION}"
        raise Forbidden(f"This needs the permission {needed}; you have neither.")


def _count(message: Mapping[str, Any]) -> int:
    """How many positions *message* may hold."""
    said = message.get("locations")
    return min(max(len(said), 1), MAX_LOCATIONS) if isinstance(said, list) else 1


def places_in(message: Mapping[str, Any], *, now_ms: int) -> Iterator[Place]:
    """The places in *message*. Raises Unprocessable."""
    match message:
        case {"type": "vehicle_location"}:
            said = [{name: value for name, value in message.items() if name not in ("type", "id")}]
        case {"type": "vehicle_locations", "locations": list(said)} if len(said) <= MAX_LOCATIONS:
            pass
        case _:
            raise Unprocessable(
                f'Here "vehicle_location" and "vehicle_locations" (at most {MAX_LOCATIONS}) are understood.'
            )
    for number, one in enumerate(said):
        where = "" if message["type"] == LOCATION_EVENT else f"locations.{number}."
        if not isinstance(one, dict) or not isinstance(one.get("vehicleID"), str):
            fault = FieldError(f"{where}vehicleID", "says which vehicle it is, as text")
            raise Unprocessable("The position cannot be accepted.", errors=(fault,))
        position = {name: value for name, value in one.items() if name != "vehicleID"}
        try:
            yield place_of(one["vehicleID"], to_json(position), now_ms=now_ms)
        except Unprocessable as refusal:
            faults = tuple(FieldError(where + fault.path, fault.message) for fault in refusal.errors)
            raise Unprocessable(refusal.detail, errors=faults) from None
