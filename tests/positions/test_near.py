"""The nearest for who sees few vehicles: found among their own, and not by looking at all others."""

import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from starlette.requests import Request

from sync_core.domain.document import Ref
from sync_server.access.caller import Caller
from sync_server.access.rights import OPEN_RIGHTS, Rights
from sync_server.log.base import DocumentPage, EventLog, Selection
from sync_server.positions.base import Found, Place
from sync_server.positions.routes import Positions
from sync_server.positions.sphere import HALF_ROUND_M, distance_m, vector
from sync_server.positions.vehicles import own_tags
from tests.feed.conftest import Start
from tests.feed.hubs import scope_for
from tests.positions.fleet import fleet
from tests.positions.parts import HookedStore, intake, now_ms
from tests.serving import Served

SEES = frozenset({"view_vehicles"})
DAN = Rights(SEES, frozenset({"role:driver", "user:dan"}))
WHO = {
    "dan": (DAN, {"v1"}),
    "a driver without a vehicle": (Rights(SEES, frozenset({"role:driver", "user:joe"})), set[str]()),
    "nobody's": (Rights(SEES, frozenset({"role:csr"})), set[str]()),
    "a screen of two": (Rights(SEES, bound=frozenset({"vehicleID=v3", "vehicleID=v7", "orderID=1"})), {"v3", "v7"}),
    "bound, and a driver": (Rights(SEES, frozenset({"user:eve"}), frozenset({"vehicleID=v3"})), {"v2", "v3"}),
    "bound to a driver": (Rights(SEES, bound=frozenset({"userID=dan"})), set[str]()),
}  # fmt: skip


class Near(HookedStore):
    """Counts how often all vehicles are looked at."""

    looks = 0

    async def near(self, tenant: str, lon: float, lat: float, *, within_m: float, limit: int) -> list[Found]:
        self.looks += 1
        return await super().near(tenant, lon, lat, within_m=within_m, limit=limit)


class Narrow:
    """A log of which not all vehicles are asked for."""

    def __init__(self, event_log: EventLog) -> None:
        self.ensure, self.load, self._documents = event_log.ensure, event_log.load, event_log.documents

    async def documents(self, tenant: str, selection: Selection, *, after: Ref | None, limit: int) -> DocumentPage:
        assert selection.tags
        return await self._documents(tenant, selection, after=after, limit=limit)


@pytest.fixture
async def served(start: Start) -> AsyncIterator[Served]:
    """Twelve vehicles; dan drives v1, eve v2."""
    async with start() as served:
        made = fleet(served)
        for number in range(12):
            await made.vehicle(f"v{number}", driver={1: "dan", 2: "eve"}.get(number))
        yield served
        await made.http.aclose()


async def test_who_sees_few_finds_of_them_what_everybody_would(served: Served, tmp_path: Path) -> None:
    near = Near(tmp_path / "near.db")
    rng = random.Random(5)
    places = {f"v{n}": Place(f"v{n}", rng.uniform(-180, 180), rng.uniform(-90, 90), 1) for n in range(11)}  # v11: none
    await near.put("default", list(places.values()), now_ms=1, interval_ms=1)
    event_log = cast(EventLog, Narrow(served.application.event_log))
    positions = Positions(intake(served, near), event_log, wall_ms=now_ms)

    async def ids(rights: Rights, lon: float, lat: float, within_m: float, limit: int) -> list[str]:
        query = f"near={lon},{lat}&withinMeters={within_m}&limit={limit}"
        reply = await positions.near(Request(scope_for(query, caller=Caller("default", "x", rights))))
        return [vehicle["vehicleID"] for vehicle in json.loads(bytes(reply.body))["vehicles"]]

    for rights, seen in WHO.values():
        for within_m, limit in ((HALF_ROUND_M, 100), (9_000_000, 100), (HALF_ROUND_M, 1)):
            lon, lat = rng.uniform(-180, 180), rng.uniform(-90, 90)
            ways = sorted(
                (distance_m(vector(lon, lat), vector(place.lon, place.lat)), name) for name, place in places.items()
            )
            expected = [name for way, name in ways if name in seen and way <= within_m]
            assert await ids(rights, lon, lat, within_m, limit) == expected[:limit]
    assert near.looks == 0
    assert len(await ids(OPEN_RIGHTS, 0, 0, HALF_ROUND_M, 100)) == 11
    assert near.looks > 0
    await near.aclose()


def test_the_office_sees_all() -> None:
    office = Rights(SEES, frozenset({"role:dispatcher", "user:olga"}))
    assert (own_tags(OPEN_RIGHTS), own_tags(office)) == (None, None)
    assert own_tags(DAN) == {"userID=dan"}
