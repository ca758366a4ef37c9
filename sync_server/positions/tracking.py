"""``/ws/tracking``: positions in and out over one socket (seed 001). Its messages: docs/logistics.md.

Who may see vehicles is told where they are when the socket opens, and every position from then on, at its own pace:
what goes out is the feed, with its rights, its slow-reader rule and its cursors. Who may drive says where vehicles are;
it is not told its own words again if it named itself (``?clientID=``). Of a vehicle the position with the later ``at``
counts: what was under way when the socket opened may come before an older one.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import structlog
from pydantic_core import to_json

from sync_core.domain.vehicles import LOCATION_EVENT, Vehicle
from sync_core.problems import FieldError, Problem, Unavailable, Unprocessable
from sync_server.feed.admission import Admission
from sync_server.feed.feed import Feed
from sync_server.feed.framing import MappedMessages
from sync_server.feed.request import FeedRequest
from sync_server.log.base import EventLog, LogError
from sync_server.positions.base import Place
from sync_server.positions.intake import Intake, location_of
from sync_server.positions.routes import RETRY_AFTER_S, place_of
from sync_server.positions.vehicles import Vehicles, may_see
from sync_server.sockets.door import SocketRoute
from sync_server.sockets.errors import code_of
from sync_server.sockets.limits import SocketLimits
from sync_server.sockets.socket import MAX_AGE_S, Socket, SocketLost

__all__ = ["TRACKING_PATH", "Tracking"]

TRACKING_PATH = "/ws/tracking"
LOCATIONS = "vehicle_locations"
MAX_LOCATIONS = 1000
"""In one message."""
MAX_UNDER_WAY = 64
"""Messages of one socket whose positions are not stored yet; more wait in the socket."""

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
        if socket.is_identified:
            self._request(socket)
        await socket.accept()
        following = False
        under_way: set[asyncio.Task[None]] = set()
        try:
            if socket.is_identified:
                following = await self._follow(socket)
            async for message in socket:
                if message["type"] == "connect":
                    following = following or await self._follow(socket)
                    continue
                if len(under_way) >= MAX_UNDER_WAY:
                    await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                task = self._feed.spawn(self._take(socket, message))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
        finally:
            for task in list(under_way):
                task.cancel()

    # -- what it is told ----------------------------------------------------------------------------

    def _request(self, socket: Socket) -> FeedRequest:
        """As the handshake's query asks for it; of all events the positions. Raises InvalidRequest, LookupError."""
        request = FeedRequest.parse(socket.scope)
        sight = request.view.sight
        wanted = replace(sight.filter, event_types=frozenset({LOCATION_EVENT}))
        return replace(request, view=replace(request.view, sight=replace(sight, filter=wanted)))

    def _sees(self, socket: Socket) -> bool:
        return socket.caller.rights.allows(Vehicle.view_permission)

    async def _follow(self, socket: Socket) -> bool:
        """Send what is known, and from now on what comes. Who may not see vehicles only says where they are."""
        request = self._request(socket)
        if self._sees(socket):
            socket.attach(await Admission.of(self._feed, request), MappedMessages(to_message), max_age_s=MAX_AGE_S)
            await self._send_known(socket, request)
        return True

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

    # -- what it says -------------------------------------------------------------------------------

    async def _take(self, socket: Socket, message: dict[str, Any]) -> None:
        """Do what *message* says, and answer it."""
        about = {"id": message["id"]} if isinstance(message.get("id"), str) else {}
        with suppress(SocketLost):
            try:
                places = list(self._places(message))
                client_id = self._request(socket).view.client_id
                reports = (self._intake.report(socket.caller, place, client_id=client_id) for place in places)
                for outcome in await asyncio.gather(*reports, return_exceptions=True):
                    if isinstance(outcome, BaseException):
                        raise outcome
            except Problem as problem:
                faults = [{"path": fault.path, "message": fault.message} for fault in problem.errors]
                more = {"errors": faults} if faults else {}
                await socket.error(code_of(problem), problem.detail, **about, **more)
            except SocketLost:
                raise
            except Exception:
                log.exception("position_failed")
                await socket.error("INTERNAL", "This is a fault of the server.", **about)
            else:
                if about:
                    await socket.send({"type": "ack", **about, "locations": len(places)})

    def _places(self, message: dict[str, Any]) -> Iterator[Place]:
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
        now_ms = self._wall_ms()
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
