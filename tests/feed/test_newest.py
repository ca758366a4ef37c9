"""Passing positions: who is slow gets the newest of each vehicle at its own pace, and nothing piles up for it."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from pydantic_core import to_json

from sync_core.envelope import envelope_tail
from sync_core.filters import Filter
from sync_server.access.rights import Rights
from sync_server.feed.connection import Blocked, Chunk, step
from sync_server.feed.hub import Hub
from sync_server.feed.newest import Newest, Seen
from sync_server.feed.window import PIECE_BYTES, FeedEvent, encode
from sync_server.log.records import NewEvent, Reach, StoredEvent
from tests.feed.hubs import TABLE, MemoryLog, Socket, begin, memory_hub, view_of

DISPATCHER = Rights(frozenset({"view_vehicles"}), frozenset({"role:dispatcher"}))
OTHER_DRIVER = Rights(frozenset({"view_vehicles"}), frozenset({"user:eve"}))


def position(n: int, vehicle: str = "v1", *, padding: int = 0) -> NewEvent:
    data = to_json({"n": n, "padding": "x" * padding}).decode()
    tags = (f"vehicleID={vehicle}",)
    reach = Reach("vehicle", vehicle, 0, grants=tags, audience=("role:dispatcher", "user:dan"))
    return NewEvent("vehicle_location", tags, None, "dan", envelope_tail(data, tags=tags), reach)


def handed_over(vehicle: str = "v1", *, to: str = "user:eve") -> NewEvent:
    """What dan drove is driven by eve."""
    tags = (f"vehicleID={vehicle}",)
    reach = Reach(
        "vehicle", vehicle, 2, left=tags, grants=tags, grants_left=tags, audience=("role:dispatcher", to),
        audience_left=("role:dispatcher", "user:dan"),
    )  # fmt: skip
    return NewEvent("vehicle_updated", tags, None, "boss", envelope_tail("{}", tags=tags), reach)


def passing(*events: NewEvent) -> list[StoredEvent]:
    return [StoredEvent(0, 1_795_000_000_000, *event) for event in events]


class SlowSocket(Socket):
    """Takes one write, and then none until it is told to ``take`` the next."""

    def __init__(self) -> None:
        super().__init__()
        self.gate: asyncio.Future[None] | None = None

    def write(self, chunk: Chunk) -> Blocked | None:
        super().write(chunk)
        return step(self._wait())

    async def _wait(self) -> None:
        self.gate = asyncio.get_running_loop().create_future()
        await self.gate

    async def take(self) -> None:
        """Let the last write through, and wait until the next one comes or nothing more is to come."""
        gate, self.gate = self.gate, None
        assert gate is not None
        gate.set_result(None)
        for _ in range(20):
            await asyncio.sleep(0)

    @property
    def places(self) -> list[tuple[str, int]]:
        return [(one["vehicleID"], one["data"]["n"]) for one in self.data("vehicle_location")]


def events_of(*stored: StoredEvent) -> list[FeedEvent]:
    return [encode("k3f9a2c1", event, TABLE) for event in stored]


LATEST = {"vehicle_location": "vehicleID="}


def test_the_newest_of_each_entity_is_kept() -> None:
    newest = Newest(LATEST)
    newest.keep(events_of(*passing(position(1, "v1"), position(2, "v2"), position(3, "v1"))))
    events, seen = newest.after(Seen(0))
    assert [(event.tags, b'"n":%d' % n in event.block) for event, n in zip(events, (3, 2), strict=True)] == [
        (("vehicleID=v1",), True),
        (("vehicleID=v2",), True),
    ]
    assert (len(newest), seen) == (2, Seen(newest.tick))
    assert newest.after(seen) == ([], seen)


def test_what_the_log_tells_takes_the_place_of_what_passed() -> None:
    newest = Newest(LATEST)
    newest.keep(events_of(*passing(position(1, "v1"), position(2, "v2"))))
    newest.outdate(events_of(StoredEvent(7, 0, *position(3, "v1"))))
    newest.outdate(events_of(*passing(position(4, "v2"))))
    assert [event.tags for event in newest.after(Seen(0))[0]] == [("vehicleID=v2",)]


def test_what_the_log_tells_of_the_entity_ends_what_passed_and_nothing_else_does() -> None:
    newest = Newest(LATEST)
    newest.keep(events_of(*passing(position(1, "v1"), position(2, "v2"))))
    tags = ("vehicleID=v2",)
    of_another_kind = NewEvent("fuel_log_updated", tags, None, "dan", "{}", Reach("fuel_log", "f1", 1, grants=tags))
    newest.outdate(events_of(StoredEvent(7, 0, *handed_over("v1")), StoredEvent(8, 0, *of_another_kind)))
    assert [event.tags for event in newest.after(Seen(0))[0]] == [("vehicleID=v2",)]


def test_what_is_kept_is_bounded() -> None:
    newest = Newest(LATEST, max_entities=10)
    newest.keep(events_of(*passing(*(position(n, f"v{n}") for n in range(100)))))
    assert [event.tags[0] for event in newest.after(Seen(0))[0]] == [f"vehicleID=v{n}" for n in range(90, 100)]


def test_it_is_given_in_pieces() -> None:
    newest = Newest(LATEST)
    newest.keep(events_of(*passing(*(position(n, f"v{n}", padding=30_000) for n in range(7)))))
    got, seen = [], Seen(0)
    while seen.tick < newest.tick:
        events, seen = newest.after(seen)
        assert sum(len(event.block) for event in events) <= PIECE_BYTES
        got += [event.tags[0] for event in events]
    assert got == [f"vehicleID=v{n}" for n in range(7)]


@pytest.fixture
async def feed() -> AsyncIterator[tuple[MemoryLog, Hub]]:
    async with memory_hub() as (log, hub):
        yield log, hub


async def test_a_live_reader_gets_every_position_that_leaves_in_a_flush_of_its_own(
    feed: tuple[MemoryLog, Hub],
) -> None:
    _, hub = feed
    _, socket = begin(hub, view_of(rights=DISPATCHER))
    for n in range(3):
        hub.signal(passing(position(n)))
        hub.flush()
    hub.signal(passing(position(3), position(4)))
    hub.flush()
    places = [json.loads(one.data) for one in socket.seen if one.event == "vehicle_location"]
    assert [place["data"]["n"] for place in places] == [0, 1, 2, 4]
    assert all("id" not in place for place in places)


async def test_a_slow_reader_gets_the_newest_of_each_vehicle_when_it_takes_something(
    feed: tuple[MemoryLog, Hub],
) -> None:
    _, hub = feed
    socket = SlowSocket()
    begin(hub, view_of(rights=DISPATCHER), socket=socket)
    await socket.take()  # the opening
    for n in range(1000):
        hub.signal(passing(position(n, f"v{n % 3}")))
        hub.flush()
    assert socket.places == [("v0", 0)], "one write, and nothing behind it"
    await socket.take()
    assert socket.places == [("v0", 0), ("v0", 999), ("v1", 997), ("v2", 998)]
    hub.signal(passing(position(1000, "v1")))
    hub.flush()
    await socket.take()
    assert socket.places[4:] == [("v1", 1000)]


async def test_a_slow_reader_goes_round_all_vehicles_at_its_own_pace(feed: tuple[MemoryLog, Hub]) -> None:
    """Each write is one piece; what is sent is what is newest when it is sent."""
    _, hub = feed
    socket = SlowSocket()
    begin(hub, view_of(rights=DISPATCHER), socket=socket)
    await socket.take()
    hub.signal(passing(position(0, "v0")))
    hub.flush()
    n = 0
    for _ in range(12):
        for vehicle in range(10):
            n += 1
            hub.signal(passing(position(n, f"v{vehicle}", padding=20_000)))
        hub.flush()
        await socket.take()
    assert len(hub.newest) == 10
    sent = socket.places[1:]
    assert len(sent) == 3 * 10, "three fit a piece, so a round takes four"
    for vehicle in range(10):
        ns = [n for name, n in sent if name == f"v{vehicle}"]
        assert ns == sorted(set(ns))
        assert len(ns) == 3, "nobody is left out"


async def test_positions_of_the_log_and_passing_ones_come_in_their_order(feed: tuple[MemoryLog, Hub]) -> None:
    log, hub = feed
    socket = SlowSocket()
    begin(hub, view_of(rights=DISPATCHER), socket=socket)
    await socket.take()
    hub.signal(passing(position(0)))
    hub.flush()
    hub.signal(passing(position(1, "v1"), position(2, "v2")))
    hub.tail.offer(log.append(position(3, "v1")))
    hub.signal(passing(position(4, "v3")))
    hub.flush()
    await socket.take()
    assert socket.places[1:] == [("v1", 3), ("v2", 2), ("v3", 4)]


async def test_what_passed_is_judged_as_all_events_are(feed: tuple[MemoryLog, Hub]) -> None:
    _, hub = feed
    sockets = {}
    for name, rights, wanted in (
        ("dispatcher", DISPATCHER, Filter()),
        ("eve", OTHER_DRIVER, Filter()),
        ("v2 only", DISPATCHER, Filter(tags=frozenset({"vehicleID=v2"}))),
    ):
        sockets[name] = SlowSocket()
        begin(hub, view_of(wanted, rights=rights), socket=sockets[name])  # which waits with its opening
    hub.signal(passing(position(1, "v1"), position(2, "v2")))
    hub.flush()
    for socket in sockets.values():
        await socket.take()
    assert {name: socket.places for name, socket in sockets.items()} == {
        "dispatcher": [("v1", 1), ("v2", 2)],
        "eve": [],
        "v2 only": [("v2", 2)],
    }


async def test_who_lost_the_vehicle_is_told_no_position_that_was_judged_before(feed: tuple[MemoryLog, Hub]) -> None:
    """As another process signals it, which has read the vehicle before it changed hands."""
    log, hub = feed
    sockets = {}
    for name in ("dan", "eve", "office"):
        label = "role:dispatcher" if name == "office" else f"user:{name}"
        _, sockets[name] = begin(hub, view_of(rights=Rights(frozenset({"view_vehicles"}), frozenset({label}))))
    as_of = hub.tail.seq
    hub.signal(passing(position(1)), as_of=as_of)
    hub.tail.offer(log.append(handed_over()))
    hub.signal(passing(position(2), position(3, "v2")), as_of=as_of)
    hub.signal(passing(position(4)), as_of=as_of + 7)  # judged by what has not come here yet
    hub.flush()
    assert [(one.event, json.loads(one.data).get("data", {}).get("n")) for one in sockets["dan"].seen][-3:] == [
        ("removed", None),
        ("vehicle_location", 3),
        ("vehicle_location", 4),
    ]
    assert [one["data"]["n"] for one in sockets["office"].data("vehicle_location")] == [3, 4]
    assert [event.tags for event in hub.newest.after(Seen(0))[0]] == [("vehicleID=v2",), ("vehicleID=v1",)]


async def test_a_slow_reader_who_lost_the_vehicle_is_told_no_position_behind_that(feed: tuple[MemoryLog, Hub]) -> None:
    log, hub = feed
    socket = SlowSocket()
    begin(hub, view_of(rights=Rights(frozenset({"view_vehicles"}), frozenset({"user:dan"}))), socket=socket)
    await socket.take()  # the opening
    hub.signal(passing(position(0)), as_of=0)
    hub.flush()
    hub.signal(passing(position(1), position(2, "v2")), as_of=0)
    hub.tail.offer(log.append(handed_over()))
    hub.flush()
    await socket.take()
    assert socket.count("removed") == 1
    assert socket.places == [("v1", 0), ("v2", 2)]


async def test_what_was_judged_before_the_window_begins_is_told_to_nobody(feed: tuple[MemoryLog, Hub]) -> None:
    """Whether somebody was told something since is not known any more."""
    log, hub = feed
    _, socket = begin(hub, view_of(rights=DISPATCHER))
    hub.tail.offer(log.append(*(handed_over(f"v{n}") for n in range(3))))
    for _ in range(2):
        hub.tail.window.give_up_oldest()
    for as_of in (1, 2):
        hub.signal(passing(position(as_of, "v9")), as_of=as_of)
        hub.flush()
    assert [one["data"]["n"] for one in socket.data("vehicle_location")] == [2]
