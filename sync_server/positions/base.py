"""The position store: the newest position of every vehicle, and which of them the event log has yet to hear of.

Positions have no history here and no version: a newer one takes the older one's place. A store that is lost fills
again within seconds, so it promises less than the event log does: what it holds may be gone after a power cut.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from math import sqrt
from operator import attrgetter
from typing import NamedTuple, Protocol

from sync_server.positions.sphere import distance_m, vector

__all__ = ["FIRST_LOOK_M", "Found", "Place", "PositionStore", "Stored", "nearest", "nearest_of"]

FIRST_LOOK_M = 500.0


class Place(NamedTuple):
    """Where a vehicle was at *at_ms* (Unix time). Degrees; *heading* clockwise from north, *speed* in km/h."""

    vehicle_id: str
    lon: float
    lat: float
    at_ms: int
    heading: float | None = None
    speed: float | None = None


class Found(NamedTuple):
    """A place and how far away it is."""

    place: Place
    distance_m: float


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of places: those that were *newer* than what there was, and those of them that are *due*.

    What is due is to be logged by who was told so, and by nobody else until the interval is over.
    """

    newer: Sequence[Place]
    due: Sequence[Place]


class PositionStore(Protocol):
    """One store. All methods may raise LogUnavailable; none blocks the event loop."""

    async def open(self) -> None:
        """Connect and make what is needed. Raises LogMisconfigured."""

    async def aclose(self) -> None:
        """Let go of everything. Idempotent."""

    async def put(self, tenant: str, places: Sequence[Place], *, now_ms: int, interval_ms: int) -> Stored:
        """Keep *places*, one for a vehicle, where they are newer than what there is."""

    async def overdue(
        self, tenant: str, *, now_ms: int, interval_ms: int, quiet_ms: int, limit: int = 1000
    ) -> list[Place]:
        """Places that the log has not heard of, of vehicles that have said nothing for *quiet_ms*: due, as by ``put``.

        Without it a vehicle that stops would stand, for who reads the log, where it was up to an interval before.
        """

    async def logged(self, tenant: str, places: Collection[Place]) -> None:
        """The log holds *places* now. Those that are due and not in it become due again after the interval."""

    async def near(self, tenant: str, lon: float, lat: float, *, within_m: float, limit: int) -> list[Found]:
        """The nearest, by great circle, at most *limit* of those that are at most *within_m* away."""

    async def all(self, tenant: str, *, after: str = "", limit: int = 1000) -> list[Place]:
        """A page of places, by the vehicle's id, of those behind *after*."""

    async def get(self, tenant: str, vehicle_ids: Collection[str]) -> list[Place]:
        """The places of these vehicles, as far as there are any."""

    async def forget(self, tenant: str, vehicle_ids: Collection[str]) -> None:
        """These vehicles are no more."""


async def nearest(
    look: Callable[[float], Awaitable[list[Found]]], *, within_m: float, limit: int, first_m: float = FIRST_LOOK_M
) -> list[Found]:
    """The nearest *limit* within *within_m*, by *look* at ever larger circles until one holds so many.

    In a city of 10,000 vehicles a look at all of it takes ten times as long as one at the hundred around.
    """
    reach_m = first_m
    while reach_m < within_m:
        found = await look(reach_m)
        if len(found) >= limit:
            return found
        # As many times wider as it takes if they are spread evenly, and a little more.
        reach_m *= min(max(1.3 * sqrt(limit / max(len(found), 1)), 2.0), 16.0)
    return await look(within_m)


def nearest_of(places: Collection[Place], lon: float, lat: float, *, within_m: float, limit: int) -> list[Found]:
    """What a store's ``near`` finds where it holds *places* and no others."""
    center = vector(lon, lat)
    found = (Found(place, distance_m(center, vector(place.lon, place.lat))) for place in places)
    return sorted((one for one in found if one.distance_m <= within_m), key=attrgetter("distance_m"))[:limit]
