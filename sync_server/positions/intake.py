"""Positions on their way in: to the position store, to who watches now, and now and then into the event log.

Theory of operation. What is reported waits for the next batch, at most ``BATCH_S``; of a vehicle that reports several
times meanwhile the newest counts. A batch is judged and stored in one go. Those of its positions that are due, by the
store once in an interval for each vehicle, become events of the log; all others pass: they are sent to the readers
that are live, in every process, and are gone. So the log grows by one event for each moving vehicle and interval,
whatever the vehicles report; and nobody is told a position twice, as would be if all passed and some were logged too.

Who was away, or reads by polling, finds in the log where a vehicle was up to an interval ago. What makes that end
where the vehicle did is ``_watch``: one that has gone quiet has its last position logged as well.

Batches of a tenant follow each other, each sent and in the log before the next is stored, so a reader sees the
positions of a vehicle in order; those of several processes differ by milliseconds, and ``at`` tells.

Invariant: who is told a position may see the vehicle as it was at a moment after the position was stored; so nobody
is told one that they could not have read from the store as well. Vehicles change hands while positions are under way,
and the feed shows a position to whom it says that the vehicle is for. Therefore vehicles are looked up anew behind
whatever takes time, and nothing is awaited between that look and the readers of this process. The ways through:

    what happens to the vehicle        what becomes of the position
    before the batch is judged         refused, if whoever says it does not see the vehicle any more
    between that and ``put``           stored, and told to those whose vehicle it is now: it was there
    between ``put`` and the look       the same
    between the look and the readers   told to those whose vehicle it was: it was theirs when the position was stored;
                                       in a process whose readers were told of the change before, to nobody
    before the log commits             told to those whose it is in that very transaction (LogPositions)
    while the log does not answer      told to those whose it is after that, by another look
    it is deleted                      told to nobody; who reads the store forgets the place
"""

import asyncio
import random
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic_core import to_json

from sync_core.domain.document import Ref
from sync_core.domain.vehicles import LOCATION_EVENT, Vehicle
from sync_core.envelope import envelope_tail
from sync_core.problems import NotFound, Problem, Unavailable
from sync_core.times import iso_from_ms
from sync_server.access.caller import Caller
from sync_server.feed.feed import Feed
from sync_server.log.appender import Appender
from sync_server.log.base import EventLog, LogError
from sync_server.log.group import Decision, View
from sync_server.log.records import NewEvent, OutcomeKey, Reach, StoredDocument, StoredEvent
from sync_server.positions.base import Place, PositionStore
from sync_server.positions.lane import RETRY_AFTER_S, Lane, Report
from sync_server.positions.vehicles import Vehicles, may_see

__all__ = ["PERMISSION", "Intake", "location_of"]

PERMISSION = "drive"
BATCH_S = 0.1
"""A reader is sent at most so many pieces a second by it, unless there is too much for that; a screen has nothing of
more."""
MAX_BATCH = 500
QUIET_MS = 2000

log = structlog.get_logger("sync_server.positions")


def location_of(place: Place) -> dict[str, Any]:
    """*place* as the wire shows it."""
    shown: dict[str, Any] = {"lon": place.lon, "lat": place.lat}
    if place.heading is not None:
        shown["heading"] = place.heading
    if place.speed is not None:
        shown["speed"] = place.speed
    return shown | {"at": iso_from_ms(place.at_ms)}


@dataclass(frozen=True, slots=True)
class Sighting:
    """A place, and who said so; ("", None) where nobody has just now."""

    place: Place
    principal: str = ""
    client_id: str | None = None

    def event(self, vehicle: StoredDocument) -> NewEvent:
        """The event about it: found and seen by who finds and sees its *vehicle*."""
        tail = envelope_tail(to_json(location_of(self.place)).decode(), tags=vehicle.tags, client_id=self.client_id)
        reach = Reach(vehicle.kind, vehicle.id, 0, grants=vehicle.grants, audience=vehicle.audience)
        return NewEvent(LOCATION_EVENT, vehicle.tags, self.client_id, self.principal, tail, reach)


@dataclass(frozen=True, slots=True)
class LogPositions:
    """Positions for the log (a Write), of those vehicles that there still are when it is committed."""

    sightings: Sequence[Sighting]
    keys: Sequence[OutcomeKey] = ()

    @property
    def reserve(self) -> int:
        return len(self.sightings)

    @property
    def size_bytes(self) -> int:
        return 1024 * len(self.sightings)

    @property
    def refs(self) -> list[Ref]:
        return [_ref(sighting.place) for sighting in self.sightings]

    def decide(self, view: View) -> Decision[None]:
        found = ((sighting, view.document(_ref(sighting.place))) for sighting in self.sightings)
        events = [one.event(vehicle) for one, vehicle in found if vehicle is not None and not vehicle.deleted]
        return Decision(events, {}, None)


class Intake:
    """Takes positions in. *interval_ms* is how often a vehicle's comes into the log."""

    def __init__(
        self,
        store: PositionStore,
        event_log: EventLog,
        appender: Appender,
        feed: Feed,
        *,
        interval_ms: int,
        wall_ms: Callable[[], int],
        spawn: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"],
    ) -> None:
        self.store = store
        self._log = event_log
        self._vehicles = Vehicles(event_log)
        self._appender = appender
        self._feed = feed
        self._interval_ms = interval_ms
        self._wall_ms = wall_ms
        self._spawn = spawn
        self._lanes: dict[str, Lane] = {}

    async def report(self, caller: Caller, places: Sequence[Place], *, client_id: str | None = None) -> None:
        """Take *places* in. When this returns each is stored and on its way, unless a newer one is there already.

        Raises Forbidden; Unavailable; NotFound for vehicles that the caller does not see, with the others taken in.
        """
        caller.rights.require(PERMISSION)
        if not places:
            return
        done = asyncio.get_running_loop().create_future
        reports = [Report(caller, client_id, place, done()) for place in places]
        lane = self._lanes.setdefault(caller.tenant, Lane())
        lane.add(reports)
        if lane.task is None:
            lane.task = self._spawn(self._drain(caller.tenant, lane))
        for outcome in await asyncio.gather(*(report.done for report in reports), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _drain(self, tenant: str, lane: Lane) -> None:
        try:
            while lane:
                if len(lane) < MAX_BATCH:
                    await asyncio.sleep(BATCH_S)
                await self._take(tenant, lane.take(MAX_BATCH))
        finally:
            # Without an await since it was seen empty: nothing was added. A tenant that says nothing has none.
            self._lanes.pop(tenant, None)
            _refuse(lane.take(len(lane)), _closing())

    async def _take(self, tenant: str, reports: Sequence[Report]) -> None:
        """One batch; whatever becomes of it, all of its callers are told."""
        try:
            await self._settle(tenant, reports)
        except Problem as problem:
            _refuse(reports, problem)
        except LogError:
            _refuse(reports, Unavailable("Positions cannot be stored now.", retry_after_s=RETRY_AFTER_S))
        except Exception as exc:
            log.exception("positions_failed", tenant=tenant)
            _refuse(reports, exc)
        except asyncio.CancelledError:
            _refuse(reports, _closing())
            raise
        for report in reports:
            if not report.done.done():
                report.done.set_result(None)

    async def _settle(self, tenant: str, reports: Sequence[Report]) -> None:
        newest = self._judged(reports, await self._found(tenant, {report.place.vehicle_id for report in reports}))
        stored = await self.store.put(
            tenant,
            [report.place for report in newest.values()],
            now_ms=self._wall_ms(),
            interval_ms=self._interval_ms,
        )
        sightings = {
            place.vehicle_id: Sighting(place, report.caller.principal, report.client_id)
            for place in stored.newer
            if (report := newest[place.vehicle_id])
        }
        due = [sightings.pop(place.vehicle_id) for place in stored.due]
        # Neither waits for the other, which may take seconds; and each is done, whatever becomes of the other.
        outcomes = await asyncio.gather(
            self._pass(tenant, sightings.values()), self._log_or_pass(tenant, due), return_exceptions=True
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    def _judged(self, reports: Sequence[Report], vehicles: Mapping[str, StoredDocument]) -> dict[str, Report]:
        """By vehicle the newest of those *reports* whose caller sees it; the others are refused."""
        newest: dict[str, Report] = {}
        for report in reports:
            vehicle = vehicles.get(report.place.vehicle_id)
            if vehicle is None or not may_see(report.caller, vehicle):
                report.refuse(NotFound(f"There is no vehicle {report.place.vehicle_id[:80]}."))
                continue
            other = newest.get(vehicle.id)
            if other is None or report.place.at_ms > other.place.at_ms:
                newest[vehicle.id] = report
        return newest

    async def _found(self, tenant: str, vehicle_ids: Iterable[str]) -> dict[str, StoredDocument]:
        return (await self._vehicles.known(tenant, vehicle_ids)).vehicles

    async def _pass(self, tenant: str, sightings: Collection[Sighting]) -> None:
        """Send *sightings* to who is live and sees their vehicles now: looked up here, since time has passed."""
        if not sightings:
            return
        bounds, vehicles = await self._vehicles.known(tenant, [one.place.vehicle_id for one in sightings])
        now_ms = self._wall_ms()
        events = [
            StoredEvent(0, now_ms, *one.event(vehicle))
            for one in sightings
            if (vehicle := vehicles.get(one.place.vehicle_id)) is not None
        ]
        if events:
            await self._feed.signal(tenant, events, as_of=bounds.head)

    async def _log_or_pass(self, tenant: str, due: Sequence[Sighting]) -> None:
        """Put *due* into the log, or let them pass as well: they are due again after the interval."""
        if due and not await self._logged(tenant, due):
            await self._pass(tenant, due)

    async def _logged(self, tenant: str, due: Sequence[Sighting]) -> bool:
        """Put *due* into the log; False if that cannot be done now."""
        try:
            await self._appender.append(tenant, LogPositions(due))
        except Problem as problem:
            log.info("positions_not_logged", tenant=tenant, count=len(due), reason=problem.detail)
            return False
        await self.store.logged(tenant, [sighting.place for sighting in due])
        return True

    async def watch(self) -> None:
        """Log the last position of vehicles that have gone quiet, until cancelled."""
        failing = False
        watch_s = min(max(self._interval_ms / 10_000, 0.2), 10.0)
        while True:
            await asyncio.sleep(watch_s * random.uniform(0.8, 1.2))
            try:
                for tenant in await self._log.tenants():
                    await self._log_quiet(tenant)
                failing = False
            except (LogError, Problem) as exc:
                if not failing:
                    log.info("quiet_vehicles_postponed", error=str(exc))
                failing = True
            except Exception:
                log.exception("quiet_vehicles_failed")

    async def _log_quiet(self, tenant: str) -> None:
        now_ms = self._wall_ms()
        places = await self.store.overdue(tenant, now_ms=now_ms, interval_ms=self._interval_ms, quiet_ms=QUIET_MS)
        if places:
            await self._logged(tenant, [Sighting(place) for place in places])


def _refuse(reports: Iterable[Report], reason: Exception) -> None:
    for report in reports:
        report.refuse(reason)


def _closing() -> Unavailable:
    return Unavailable("The server is shutting down.", retry_after_s=RETRY_AFTER_S)


def _ref(place: Place) -> Ref:
    return Ref(Vehicle.kind, place.vehicle_id)
