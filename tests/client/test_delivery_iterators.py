"""Iterators, alone and beside handlers, left in every way."""

import asyncio
import gc
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from sync_client import ClientError, Event, Transaction
from sync_client.delivery import PAGE
from sync_client.records import Mark, Record
from sync_client.subscriptions import Events, Subscriptions
from tests.client.deliveries import Life, arrival, life, n_of, numbers
from tests.streams import eventually


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.db"


def booking(it: Life, booked: list[int]) -> None:
    @it.handlers.on(transactional=True)
    def book(event: Event, tx: Transaction) -> None:
        booked.append(n_of(event))
        tx.put("count", tx.get("count", 0) + 1)


async def take(events: Events, count: int) -> list[int]:
    async with asyncio.timeout(10):
        return [n_of(await anext(events)) for _ in range(count)]


# -- beside transactional handlers ------------------------------------------------------------------------


async def test_an_event_is_booked_when_the_iterator_asks_for_the_next_one(path: Path) -> None:
    booked: list[int] = []
    async with life(path) as it:
        booking(it, booked)
        events = it.events()
        await it.arrive(*map(arrival, range(1, 6)))
        assert await take(events, 1) == [1]
        await asyncio.sleep(0.1)
        assert booked == []
        assert await take(events, 2) == [2, 3]
        assert booked == [1, 2]


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "closed"])
async def test_what_the_iterator_had_not_read_comes_to_it_after_the_end(path: Path, killed: bool) -> None:
    booked: list[int] = []
    seen: list[int] = []
    async with life(path, killed=killed) as it:
        booking(it, booked)
        events = it.events()
        await it.arrive(*map(arrival, range(1, 11)))
        seen += await take(events, 4)
    async with life(path) as it:
        events = it.events()
        booking(it, booked)
        seen += await take(events, 7)
        events.close()
        await it.idle()
        assert await it.value("count") == 10
    assert seen == [1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 10]
    assert booked == list(range(1, 11))


async def test_what_an_iterator_left_is_booked_all_the_same(path: Path) -> None:
    booked: list[int] = []
    async with life(path) as it:
        booking(it, booked)
        events = it.events()
        await it.arrive(*map(arrival, range(1, 11)))
        assert await take(events, 3) == [1, 2, 3]
        events.close()
        await it.idle()
        assert await it.value("count") == 10
    assert booked == list(range(1, 11))


async def test_what_nobody_was_there_for_any_more_waits_for_the_next_iterator(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with life(path) as it:
        left, read = it.events(), it.keeper.cache.waiting

        def left_while_reading(**wanted: int) -> Sequence[Record]:
            left.close()
            return read(**wanted)

        monkeypatch.setattr(it.keeper.cache, "waiting", left_while_reading)
        await it.arrive(*map(arrival, range(1, 4)))
        await it.delivery.idle.wait()
        assert it.counts.delivered == 0
        assert await take(it.events(), 3) == [1, 2, 3]


# -- beside plain handlers --------------------------------------------------------------------------------


@pytest.mark.parametrize("left_at", [0, 3, PAGE - 1, PAGE])
async def test_leaving_an_iterator_repeats_no_handler_call(path: Path, left_at: int) -> None:
    got: list[Event] = []
    async with life(path) as it:
        it.handlers.on()(got.append)
        events = it.events()
        await it.arrive(*map(arrival, range(2 * PAGE)))
        async for event in events:
            if n_of(event) >= left_at:
                break
        events.close()
        await it.idle()
        assert it.counts.delivered == 2 * PAGE
    assert numbers(got) == list(range(2 * PAGE))


async def test_what_a_handler_failed_on_reaches_the_iterator_and_is_parked(path: Path) -> None:
    calls: list[int] = []

    async with life(path) as it:
        events = it.events()

        @it.handlers.on()
        def fails(event: Event) -> None:
            calls.append(n_of(event))
            if n_of(event) in (2, 4):
                raise ValueError

        await it.arrive(*map(arrival, range(1, 6)))
        assert await take(events, 3) == [1, 2, 3]
        events.close()  # in the middle of the page: what failed is remembered
        await it.idle()
        assert await it.marked(Mark.PARKED) == [2, 4]
        assert calls == [1, 2, 2, 2, 3, 4, 4, 4, 5]
        assert it.counts.parked == 2


async def test_a_handler_that_is_registered_after_a_break_gets_what_the_iterator_left(path: Path) -> None:
    got: list[Event] = []
    early: list[Event] = []
    async with life(path) as it:
        await it.arrive(*map(arrival, range(1, 11)))
        async for event in it.events():
            if n_of(event) == 4:
                break
        it.handlers.on()(got.append)
        it.handlers.on()(early.append)
        await it.idle()
    assert numbers(got) == numbers(early) == list(range(4, 11))


# -- alone ------------------------------------------------------------------------------------------------


async def test_what_an_iterator_is_done_with_is_marked_before_it_is_through_with_the_page(path: Path) -> None:
    async with life(path, killed=True) as it:
        events = it.events()
        await it.arrive(*map(arrival, range(1, 101)))
        await take(events, 10)
        await eventually(lambda: it.keeper.backlog == 91, timeout_s=2)
    async with life(path) as it:
        assert await take(it.events(), 1) == [10]


async def test_closing_marks_what_the_iterator_is_done_with(path: Path) -> None:
    async with life(path) as it:
        events = it.events()
        await it.arrive(*map(arrival, range(1, 101)))
        await take(events, 10)
    async with life(path) as it:
        assert await take(it.events(), 1) == [10]


async def test_every_iterator_gets_every_event_and_the_slowest_decides(path: Path) -> None:
    async with life(path) as it:
        fast, slow = it.events(), it.events()
        await it.arrive(*map(arrival, range(1, 6)))
        assert await take(fast, 5) == [1, 2, 3, 4, 5]
        assert await take(slow, 3) == [1, 2, 3]
        await eventually(lambda: it.keeper.backlog == 3)
        slow.close()  # the other one has finished four
        await eventually(lambda: it.keeper.backlog == 1)
        waiting = asyncio.create_task(anext(fast))
        await eventually(lambda: it.keeper.backlog == 0)
        await it.arrive(arrival(6))
        assert n_of(await waiting) == 6


async def test_an_iterator_dropped_in_another_thread_lets_go(path: Path) -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(True)  # tells of calls from the wrong thread
    async with life(path) as it:
        held = [it.events()]
        await it.arrive(arrival(1), arrival(2))
        await take(held[0], 1)
        await asyncio.sleep(0.02)  # delivery waits for it

        def drop() -> None:
            held.clear()
            gc.collect()

        thread = threading.Thread(target=drop)
        thread.start()
        await asyncio.to_thread(thread.join)
        got: list[Event] = []
        it.handlers.on()(got.append)
        await it.idle()
    assert numbers(got) == [1, 2]


async def test_an_iterator_of_a_client_that_was_not_started_says_so() -> None:
    with pytest.raises(ClientError, match="not been started"):
        await anext(Subscriptions().add())
