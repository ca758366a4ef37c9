"""Vehicles that get another driver, or are no more, while a position of theirs is under way."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from sync_core.domain.document import Ref
from sync_core.problems import Unavailable
from sync_server.access.caller import Caller
from sync_server.access.rights import OPEN_RIGHTS
from sync_server.feed.feed import Feed
from sync_server.log.appender import Appender
from sync_server.log.base import Bounds, DocumentPage, EventLog
from sync_server.positions.base import Place
from tests.access.credentials import ACCESS, bearer
from tests.feed.conftest import Start
from tests.fixtures import MongoDatabase
from tests.positions.fleet import OFFICE, Fleet, fleet, logged
from tests.positions.parts import HookedStore, intake, nothing
from tests.positions.test_positions_live import next_lon, watching
from tests.serving import Served, mongodb_settings, serving

TRACKER = Caller("default", "tracker", OPEN_RIGHTS)
Step = Callable[[], Awaitable[None]]


class Silent:
    """An appender whose log does not answer, at first for as long as *meanwhile* takes."""

    def __init__(self, meanwhile: Step) -> None:
        self.meanwhile = meanwhile

    async def append(self, tenant: str, write: object) -> None:
        await self.meanwhile()
        raise Unavailable("not now", retry_after_s=1)


class Late:
    """A log that lets *read* happen between what it reads and who is told that."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self.read: Step = nothing

    async def ensure(self, tenant: str) -> Bounds:
        return await self._log.ensure(tenant)

    async def load(self, tenant: str, refs: Collection[Ref]) -> DocumentPage:
        page = await self._log.load(tenant, refs)
        await self.read()
        return page


class Mute:
    """A feed that reaches no other process."""

    async def signal(self, tenant: str, events: object, *, as_of: int) -> None:
        raise Unavailable("not now", retry_after_s=1)


@pytest.fixture
async def served(start: Start) -> AsyncIterator[Served]:
    async with start(access=ACCESS) as served:
        yield served


@pytest.fixture
async def office(served: Served) -> AsyncIterator[Fleet]:
    async with office_of(served) as office:
        yield office


@asynccontextmanager
async def office_of(served: Served) -> AsyncIterator[Fleet]:
    """dan drives v1, eve v2; nobody v3."""
    made = fleet(served, OFFICE)
    await made.vehicle("v1", driver="dan")
    await made.vehicle("v2", driver="eve")
    await made.vehicle("v3")
    yield made
    await made.http.aclose()


async def hand_over(office: Fleet) -> None:
    """v1 to eve, v3 to dan."""
    for vehicle, driver in (("v1", None), ("v2", None), ("v1", "eve"), ("v3", "dan")):
        await office.do("POST", f"/vehicles/{vehicle}/driver", {"driverID": driver})


@asynccontextmanager
async def dan_and_eve(served: Served) -> AsyncIterator[tuple[AsyncIterator[dict[str, Any]], ...]]:
    async with (
        watching(served, headers=bearer("driver", sub="dan")) as dans,
        watching(served, headers=bearer("driver", sub="eve")) as eves,
    ):
        yield dans, eves


async def test_a_position_is_told_to_those_whose_vehicle_it_is_once_it_is_stored(
    served: Served, office: Fleet, store: HookedStore
) -> None:
    takes = intake(served, store)
    for vehicle in ("v1", "v3"):
        await takes.report(TRACKER, [Place(vehicle, 1, 0, 1)])  # logged: the next ones pass
    async with dan_and_eve(served) as (dans, eves):
        store.stored = lambda: hand_over(office)
        await takes.report(TRACKER, [Place("v1", 2, 0, 2)])
        store.stored = nothing
        await takes.report(TRACKER, [Place("v3", 3, 0, 2)])
        assert await next_lon(eves) == ("v1", 2, False)
        assert await next_lon(dans) == ("v3", 3, False)


async def test_who_was_told_that_the_vehicle_is_not_theirs_is_told_no_position_of_it(
    served: Served, office: Fleet, store: HookedStore
) -> None:
    await hands_change_behind_the_look(served, office, store, readers_at=served)


async def test_nor_by_another_process(mongodb_database: MongoDatabase, store: HookedStore) -> None:
    settings = mongodb_settings(mongodb_database.uri, mongodb_database.name, access=ACCESS)
    async with serving(settings) as here, serving(settings) as there, office_of(there) as office:
        await hands_change_behind_the_look(here, office, store, readers_at=there)


async def hands_change_behind_the_look(
    served: Served, office: Fleet, store: HookedStore, *, readers_at: Served
) -> None:
    """*served* has looked whose the vehicle is; it changes hands, and the readers hear of that first."""
    late = Late(served.application.event_log)
    takes = intake(served, store, event_log=cast(EventLog, late))
    for vehicle in ("v1", "v3"):
        await takes.report(TRACKER, [Place(vehicle, 1, 0, 1)])

    async def stored() -> None:
        late.read = lambda: hand_over(office)

    async with dan_and_eve(readers_at) as (dans, _):
        store.stored = stored
        await takes.report(TRACKER, [Place("v1", 2, 0, 2)])
        store.stored = late.read = nothing
        await takes.report(TRACKER, [Place("v3", 3, 0, 2)])
        assert await next_lon(dans) == ("v3", 3, False)


async def test_what_cannot_be_logged_is_told_to_those_whose_vehicle_it_is_by_then(
    served: Served, office: Fleet, store: HookedStore
) -> None:
    silent = Silent(lambda: hand_over(office))
    takes = intake(served, store, appender=cast(Appender, silent))
    async with dan_and_eve(served) as (dans, eves):
        await takes.report(TRACKER, [Place("v1", 2, 0, 2)])
        silent.meanwhile = nothing
        await takes.report(TRACKER, [Place("v3", 3, 0, 2)])
        assert await next_lon(eves) == ("v1", 2, False)
        assert await next_lon(dans) == ("v3", 3, False)


async def test_what_passes_does_not_wait_for_the_log(served: Served, office: Fleet, store: HookedStore) -> None:
    await intake(served, store).report(TRACKER, [Place("v1", 1, 0, 1)])
    answers = asyncio.Event()

    async def waits() -> None:
        await answers.wait()

    takes = intake(served, store, appender=cast(Appender, Silent(waits)))
    async with watching(served, headers=OFFICE) as positions:
        reported = asyncio.ensure_future(takes.report(TRACKER, [Place("v1", 2, 0, 2), Place("v2", 5, 0, 2)]))
        assert await next_lon(positions) == ("v1", 2, False)
        assert not reported.done()
        answers.set()
        assert await next_lon(positions) == ("v2", 5, False)
        await reported


async def test_what_is_due_is_logged_though_what_passes_is_not_told(
    served: Served, office: Fleet, store: HookedStore
) -> None:
    await intake(served, store).report(TRACKER, [Place("v1", 1, 0, 1)])
    takes = intake(served, store, feed=cast(Feed, Mute()))
    with pytest.raises(Unavailable):
        await takes.report(TRACKER, [Place("v1", 2, 0, 2), Place("v2", 5, 0, 2)])
    assert await logged(served) == [("v1", 1), ("v2", 5)]


async def test_of_a_vehicle_that_is_no_more_nobody_is_told(served: Served, office: Fleet, store: HookedStore) -> None:
    async def ends() -> None:
        await office.do("DELETE", "/vehicles/v3")

    takes = intake(served, store)
    await takes.report(TRACKER, [Place("v3", 1, 0, 1)])
    async with watching(served, headers=OFFICE) as positions:
        store.stored = ends
        await takes.report(TRACKER, [Place("v3", 2, 0, 2)])
        store.stored = nothing
        await takes.report(TRACKER, [Place("v1", 3, 0, 2)])
        assert await next_lon(positions) == ("v1", 3, True)
