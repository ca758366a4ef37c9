"""More positions than can be taken: who has to wait, who is refused, and who notices nothing of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from time import monotonic
from typing import Any, cast

import pytest
from websockets.frames import Frame, Opcode

from sync_core.problems import NotFound, Unavailable
from sync_server.access.caller import Caller
from sync_server.access.rights import OPEN_RIGHTS
from sync_server.positions.base import Place
from sync_server.positions.intake import Intake
from sync_server.positions.lane import MAX_WAITING
from sync_server.positions.tracking import MAX_LOCATIONS, MAX_PER_S, MAX_UNDER_WAY, TRACKING_PATH, Tracking
from sync_server.sockets.limits import SocketLimits
from tests.access.credentials import ACCESS, bearer
from tests.feed.conftest import Start
from tests.positions.fleet import OFFICE, fleet
from tests.positions.parts import HookedStore, intake, now_ms
from tests.serving import Served
from tests.sockets.client import closed_with, socket
from tests.sockets.raw import raw_socket, text
from tests.streams import eventually

HOG, ANN = (Caller("default", name, OPEN_RIGHTS) for name in ("hog", "ann"))


@pytest.fixture
async def served(start_sqlite: Start) -> AsyncIterator[Served]:
    async with start_sqlite() as served:
        office = fleet(served)
        await office.vehicle("v1")
        await office.http.aclose()
        yield served


def places(count: int, *, begin: int = 0) -> list[Place]:
    return [Place("v1", 1, 1, at_ms) for at_ms in range(begin, begin + count)]


async def test_who_says_too_much_is_refused_and_keeps_nobody_waiting(served: Served, store: HookedStore) -> None:
    takes, answers = intake(served, store), asyncio.Event()
    store.stored = answers.wait
    messages = [asyncio.ensure_future(takes.report(HOG, places(1000))) for _ in range(MAX_WAITING // 1000)]
    await asyncio.wait(messages, return_when=asyncio.FIRST_COMPLETED, timeout=10)
    refused = [message for message in messages if message.done()]
    assert len(refused) == len(messages) // 2
    assert {type(message.exception()) for message in refused} == {Unavailable}
    ann = asyncio.ensure_future(takes.report(ANN, places(1, begin=5000)))
    answers.set()
    await ann
    assert sum(message.done() for message in messages) <= len(refused) + 1
    await asyncio.gather(*messages, return_exceptions=True)
    assert [place.at_ms for place in await store.all("default")] == [5000]


async def test_a_tenant_that_has_said_all_keeps_nothing_in_memory(served: Served, store: HookedStore) -> None:
    takes = intake(served, store)
    for begin in (1, 2):  # what comes later is taken in as well
        await takes.report(ANN, places(1, begin=begin))
        await eventually(lambda: not takes._lanes)
    assert [place.at_ms for place in await store.all("default")] == [2]


@pytest.mark.alone
async def test_full_batches_follow_each_other_without_a_pause(served: Served, store: HookedStore) -> None:
    began_s = monotonic()
    with pytest.raises(NotFound):
        await intake(served, store).report(HOG, [Place(f"x{n}", 0, 0, 1) for n in range(MAX_WAITING // 2)])
    assert monotonic() - began_s < 1.0  # and 2 s with a tenth of a second before each


async def test_positions_are_counted_and_not_only_messages(served: Served) -> None:
    async with socket(served, TRACKING_PATH) as client:
        await client.until("vehicle_locations")
        message = {"type": "vehicle_locations", "locations": [5] * MAX_LOCATIONS}
        most = MAX_PER_S // MAX_LOCATIONS
        for number in range(2 * most + 1):
            await client.say(message | {"id": str(number)})
        errors = [await client.until("error") for _ in range(2 * most + 1)]
        assert [error["code"] for error in errors] == ["INVALID_MESSAGE"] * most + ["RATE_LIMITED"] * (most + 1)
        assert [error["id"] for error in errors] == [str(number) for number in range(2 * most + 1)]
        assert await closed_with(client) == ("RATE_LIMITED", 1008)


class Holding:
    """An intake that takes nothing in before it is told to."""

    def __init__(self, store: HookedStore) -> None:
        self.store = store
        self.holds = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.under_way = self.most = 0

    async def report(self, caller: Caller, places: Sequence[Place], *, client_id: str | None = None) -> None:
        self.under_way += len(places)
        self.most = max(self.most, self.under_way)
        if self.under_way >= MAX_UNDER_WAY:
            self.holds.set()
        await self.goes_on.wait()
        self.under_way -= len(places)


async def test_what_is_too_much_of_one_client_waits_in_its_socket(served: Served, store: HookedStore) -> None:
    application, holding = served.application, Holding(store)
    tracking = Tracking(cast(Intake, holding), application.feed, application.event_log, wall_ms=now_ms)
    assert application.sockets is not None
    application.sockets.routes[TRACKING_PATH] = tracking.route(SocketLimits())
    said: dict[str, Any] = {"vehicleID": "v1", "lon": 1, "lat": 1}
    async with socket(served, TRACKING_PATH) as client, socket(served, TRACKING_PATH) as other:
        for number in range(4):
            message = {"type": "vehicle_locations", "locations": [said] * MAX_LOCATIONS, "id": str(number)}
            await client.say(message)
        await holding.holds.wait()
        for _ in range(20):  # time enough for what has been said before
            await other.say({"type": "ping"})
            await other.until("pong")
        holding.goes_on.set()
        assert [(await client.until("ack"))["id"] for _ in range(4)] == ["0", "1", "2", "3"]
    assert holding.most == MAX_UNDER_WAY


async def test_messages_of_a_thousand_leave_room_for_those_of_others(start_sqlite: Start, store: HookedStore) -> None:
    """One driver says more than there is room for, over many sockets; another one's are taken in, soon."""
    async with start_sqlite(access=ACCESS) as served, AsyncExitStack() as sockets:
        office, application = fleet(served, OFFICE), served.application
        await office.vehicle("v1", driver="ann")
        await office.http.aclose()
        answers = asyncio.Event()
        store.stored = answers.wait
        takes = intake(served, store)
        tracking = Tracking(takes, application.feed, application.event_log, wall_ms=now_ms)
        assert application.sockets is not None
        application.sockets.routes[TRACKING_PATH] = tracking.route(SocketLimits())
        hogs = [
            await sockets.enter_async_context(socket(served, TRACKING_PATH, headers=bearer("driver", sub="hog")))
            for _ in range(MAX_WAITING // MAX_UNDER_WAY + 1)
        ]
        ann = await sockets.enter_async_context(socket(served, TRACKING_PATH, headers=bearer("driver", sub="ann")))
        said = {"type": "vehicle_locations", "locations": [{"vehicleID": "v1", "lon": 1, "lat": 1}] * MAX_LOCATIONS}
        for hog in hogs:
            for number in range(2):
                await hog.say(said | {"id": str(number)})
        refused = [asyncio.ensure_future(hog.until("error")) for hog in hogs]
        await asyncio.wait(refused, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        assert {task.result()["code"] for task in refused if task.done()} == {"UNAVAILABLE"}
        await ann.say(said | {"id": "ann's"})
        await ann.say({"type": "ping"})
        await ann.until("pong")  # what was said before waits now, or is refused
        assert "error" not in ann.kinds
        answers.set()
        answer = await ann.until(lambda message: message.get("id") == "ann's")
        assert (answer["type"], answer.get("locations")) == ("ack", MAX_LOCATIONS)
        for task in refused:
            task.cancel()


async def test_what_is_said_before_leaving_is_taken_in(served: Served) -> None:
    """A position and the close in one packet."""
    office = fleet(served)
    message = b'{"type": "vehicle_location", "vehicleID": "v1", "lon": 7, "lat": 1}'
    async with raw_socket(served.port, TRACKING_PATH) as (_, writer):
        writer.write(text(message) + Frame(Opcode.CLOSE, (1000).to_bytes(2)).serialize(mask=True))
        async with asyncio.timeout(10):
            while not (known := (await office.do("GET", "/vehicle-locations"))["locations"]):
                await asyncio.sleep(0.01)
    assert known[0]["lon"] == 7
    await office.http.aclose()
