"""However many readers catch up, everybody else is served in between."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from sync_server.feed.connection import Blocked, Chunk
from sync_server.feed.hub import FeedSettings
from sync_server.feed.reader import Reader
from sync_server.feed.turns import TURNS_A_ROUND, Turns
from tests.feed.hubs import bench, view_of
from tests.streams import eventually


class Rounds:
    """Counts the rounds of the event loop."""

    def __init__(self) -> None:
        self.number = 0
        self._next = asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self.number += 1
        self._next = asyncio.get_running_loop().call_soon(self._turn)

    def stop(self) -> None:
        self._next.cancel()


async def test_a_few_turns_a_round_first_come_first_served() -> None:
    turns, rounds = Turns(), Rounds()
    order: list[int] = []
    work: Counter[int] = Counter()

    async def reader(name: int) -> None:
        for _ in range(3):
            await turns.take()
            order.append(name)
            work[rounds.number] += 1

    await asyncio.gather(*(reader(n) for n in range(50)))
    rounds.stop()
    assert max(work.values()) <= TURNS_A_ROUND
    assert order == list(range(50)) * 3


async def test_turns_at_once_count_too_and_do_not_jump_the_line() -> None:
    turns = Turns()
    assert [turns.take_now() for _ in range(TURNS_A_ROUND + 1)] == [True] * TURNS_A_ROUND + [False]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert turns.take_now()
    waiting = [asyncio.create_task(turns.take()) for _ in range(2)]
    await asyncio.sleep(0)
    assert not turns.take_now()
    await asyncio.gather(*waiting)


async def test_who_leaves_the_line_takes_no_turn() -> None:
    turns = Turns()
    leaving = [asyncio.create_task(turns.take()) for _ in range(100)]
    staying = asyncio.create_task(turns.take())
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    rounds = Rounds()
    await staying
    rounds.stop()
    assert rounds.number <= 3


class CountingSocket:
    """Counts what is replayed to it, and the pieces by the round they fall in."""

    def __init__(self, rounds: Rounds, pieces: Counter[int]) -> None:
        self.events = 0
        self.caught_up = False
        self._rounds = rounds
        self._pieces = pieces

    def write(self, chunk: Chunk) -> Blocked | None:
        events = chunk.body.count(b"event: status_update")
        self.events += events
        self._pieces[self._rounds.number] += events > 0
        self.caught_up = self.caught_up or b"event: caught_up" in chunk.body
        return None

    def finish(self, body: bytes) -> None: ...

    def abort(self) -> None: ...


@pytest.mark.parametrize(
    ("events", "window_bytes"),
    [(1000, 65536), (1000, 16 * 1024 * 1024), (50, 16 * 1024 * 1024)],
    ids=["from the log", "from memory", "one piece each"],
)
async def test_hundreds_that_come_back_at_once_do_a_few_pieces_a_round(
    tmp_path: Path, events: int, window_bytes: int
) -> None:
    async with bench(tmp_path, settings=FeedSettings(window_bytes=window_bytes)) as on:
        await on.publish(events)
        rounds, pieces = Rounds(), Counter[int]()
        sockets = [CountingSocket(rounds, pieces) for _ in range(200)]
        for socket in sockets:
            reader = Reader(on.hub, socket, view=view_of(), cursor=0)
            on.hub.admit(reader, lifetime_s=600)
            reader.begin(b"")
        await eventually(lambda: all(socket.caught_up for socket in sockets))
        rounds.stop()
        assert {socket.events for socket in sockets} == {events}
        assert sum(pieces.values()) >= 200
        assert max(pieces.values()) <= TURNS_A_ROUND
        assert {reader.live for reader in on.hub.readers} == {True}


async def test_who_waits_for_a_turn_gets_its_heartbeats(tmp_path: Path) -> None:
    async with bench(tmp_path, events=1500, settings=FeedSettings(heartbeat_s=0.0001)) as on:
        sockets = [on.read(cursor=0, order="nobody") for _ in range(50)]
        await eventually(lambda: all(socket.count("caught_up") == 1 for socket in sockets))
        assert all(socket.count("heartbeat") >= 2 for socket in sockets)
