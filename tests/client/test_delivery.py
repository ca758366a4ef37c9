"""Handlers: who gets which event how often, when some of them fail, over lives that end by a kill."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sync_client import ConfigurationError, Event, Transaction
from sync_client.handlers import Handlers
from sync_client.records import Arrival, Mark
from tests.client.deliveries import Life, arrival, life, n_of, numbers
from tests.streams import eventually


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.db"


def count(it: Life, key: str = "count") -> None:
    """A transactional handler that adds one for each event."""

    def counts(event: Event, tx: Transaction) -> None:
        tx.put(key, tx.get(key, 0) + 1)
        tx.put(f"{key}:{n_of(event)}", tx.get(f"{key}:{n_of(event)}", 0) + 1)

    it.handlers.on(transactional=True)(counts)


def failing(calls: list[int], *, on: set[int], times: int = 10**6) -> Any:
    """A handler that raises the first *times* it is called for one of *on*."""

    def handler(event: Event) -> None:
        n = n_of(event)
        calls.append(n)
        if n in on and calls.count(n) <= times:
            raise ValueError(n)

    return handler


# -- a handler that fails ---------------------------------------------------------------------------------


@pytest.mark.parametrize("is_first", [True, False], ids=["registered first", "registered last"])
async def test_a_failing_handler_keeps_nobody_else_from_the_event(path: Path, is_first: bool) -> None:
    calls: list[int] = []
    good: list[Event] = []
    handlers = Handlers()
    handlers.on()(failing(calls, on={2}) if is_first else good.append)
    handlers.on()(good.append if is_first else failing(calls, on={2}))
    async with life(path, handlers=handlers) as it:
        count(it)
        await it.arrive(*map(arrival, range(1, 6)))
        await it.idle()
        assert numbers(good) == [1, 2, 3, 4, 5]
        assert calls == [1, 2, 2, 2, 3, 4, 5]
        assert await it.value("count") == 5
        assert await it.marked(Mark.PARKED) == [2]
        assert (it.counts.parked, it.counts.handler_errors, it.counts.delivered) == (1, 3, 4)


async def test_handlers_that_fail_are_called_again_each_on_its_own(path: Path) -> None:
    first: list[int] = []
    second: list[int] = []
    async with life(path) as it:
        it.handlers.on()(failing(first, on={1}, times=1))
        it.handlers.on()(failing(second, on={1}, times=2))
        await it.arrive(arrival(1), arrival(2))
        await it.idle()
    assert (first, second) == ([1, 1, 2], [1, 1, 1, 2])
    assert (it.counts.parked, it.counts.retried) == (0, 3)


async def test_the_others_do_not_wait_for_the_repetitions(path: Path) -> None:
    order: list[str] = []

    def shaky(event: Event) -> None:
        order.append("shaky")
        if order.count("shaky") < 3:
            raise ValueError

    async with life(path) as it:
        it.handlers.on()(shaky)
        it.handlers.on()(lambda event: order.append("good"))
        await it.arrive(arrival(1))
        await it.idle()
    assert order == ["shaky", "good", "shaky", "shaky"]


async def test_a_transactional_handler_that_fails_for_good_leaves_the_other_one_its_effect(path: Path) -> None:
    calls: list[int] = []
    plain: list[Event] = []
    fails = failing(calls, on={2})
    async with life(path) as it:
        it.handlers.on()(plain.append)
        count(it, "before")
        it.handlers.on(transactional=True)(lambda event, tx: (tx.put("wrong", n_of(event)), fails(event)))
        count(it, "after")
        await it.arrive(*map(arrival, range(1, 4)))
        await it.idle()
        assert [await it.value(key) for key in ("before:2", "after:2", "before", "after")] == [1, 1, 3, 3]
        assert await it.value("wrong") == 3
        assert await it.marked(Mark.PARKED) == [2]
        assert calls == [1, 2, 2, 2, 3]
        assert numbers(plain) == [1, 2, 3]


async def test_that_a_plain_handler_failed_is_in_the_transactions_commit(path: Path) -> None:
    async with life(path, killed=True) as it:
        it.handlers.on()(failing([], on={1}))
        count(it)
        marks: list[tuple[Mark, Any]] = []
        transact = it.keeper.cache.transact

        def watched(record: Any, work: Any, mark: Mark) -> None:
            transact(record, work, mark)
            marks.extend((Mark(row[0]), row[1]) for row in it.keeper.cache._db.execute(  # type: ignore[union-attr]
                "SELECT mark, (SELECT value FROM handler_values WHERE key = 'count') FROM events"))  # fmt: skip

        it.keeper.cache.transact = watched  # type: ignore[method-assign, assignment]
        await it.arrive(arrival(1))
        await it.idle()
        assert marks == [(Mark.PARKED, "1")]


async def test_after_a_kill_plain_handlers_may_repeat_and_transactional_ones_do_not(path: Path) -> None:
    calls: list[int] = []
    hanging = asyncio.Event()

    async def slow(event: Event) -> None:
        calls.append(n_of(event))
        if calls == [1, 2, 3]:
            hanging.set()
            await asyncio.Event().wait()

    for killed in (True, False):
        async with life(path, killed=killed) as it:
            it.handlers.on()(slow)
            count(it)
            if killed:
                await it.arrive(*map(arrival, range(1, 6)))
                await hanging.wait()
            else:
                await it.idle()
                assert [await it.value(f"count:{n}") for n in range(1, 6)] == [1] * 5
    assert calls == [1, 2, 3, 3, 4, 5]


async def test_a_handler_that_awaits_something_cancelled_does_not_end_the_delivery(path: Path) -> None:
    got: list[Event] = []

    async def awaits(event: Event) -> None:
        if n_of(event) == 1:
            task = asyncio.create_task(asyncio.sleep(10))
            task.cancel()
            await task
        got.append(event)

    async with life(path) as it:
        it.handlers.on()(awaits)
        await it.arrive(arrival(1), arrival(2))
        await it.idle()
        assert numbers(got) == [2]
        assert (it.counts.parked, it.counts.handler_errors) == (1, 3)


@pytest.mark.parametrize("exc", [StopIteration, ValueError])
async def test_whatever_a_transactional_handler_raises_parks_the_event(path: Path, exc: type[Exception]) -> None:
    def raises(event: Event, tx: Transaction) -> None:
        tx.put("wrong", True)
        if n_of(event) == 1:
            raise exc

    async with life(path) as it:
        it.handlers.on(transactional=True)(raises)
        await it.arrive(arrival(1))
        await it.idle()
        assert it.counts.parked == 1
        assert await it.value("wrong") is None


async def test_a_transactional_handler_that_turns_out_to_be_async_is_an_error(path: Path) -> None:
    class Handler:
        async def __call__(self, event: Event, tx: Transaction) -> None: ...

    async with life(path) as it:
        it.handlers.on(transactional=True)(Handler())
        await it.arrive(arrival(1))
        await it.idle()
        assert it.counts.parked == 1


async def test_an_event_that_a_handlers_condition_cannot_read_is_parked_and_the_others_get_it(path: Path) -> None:
    got: list[Event] = []
    async with life(path) as it:
        it.handlers.on_stage_change()(lambda *_: None)
        it.handlers.on("stage_change")(got.append)
        await it.arrive(Arrival("aaaaaaaa.1", "stage_change", '{"id":"aaaaaaaa.1","data":5}'))
        await it.idle()
        assert [event.id for event in got] == ["aaaaaaaa.1"]
        assert it.counts.parked == 1


async def test_an_event_that_is_no_json_does_not_hold_up_what_comes_behind(path: Path) -> None:
    got: list[Event] = []
    async with life(path) as it:
        it.handlers.on("stage_change")(got.append)
        await it.arrive(Arrival("aaaaaaaa.1", "stage_change", '{"id":"aaaaaaaa.1","clientID":"me#1'), arrival(2))
        await it.idle()
        assert [event.id for event in got] == ["aaaaaaaa.1", "aaaaaaaa.2"]


# -- who gets what ----------------------------------------------------------------------------------------


async def test_a_handler_that_is_registered_twice_for_an_event_gets_it_once(path: Path) -> None:
    got: list[Event] = []
    booked: list[Event] = []
    async with life(path) as it:
        it.handlers.on("stage_change", "*", "stage_change")(got.append)
        it.handlers.on("stage_change", "*", transactional=True)(lambda event, tx: booked.append(event))
        await it.arrive(arrival(1))
        await it.idle()
    assert numbers(got) == numbers(booked) == [1]


async def test_news_of_the_connection_reach_only_those_that_asked_for_them_by_name(path: Path) -> None:
    named: list[Event] = []
    every: list[Event] = []
    about_order: list[Event] = []
    async with life(path) as it:
        it.handlers.on("heartbeat")(named.append)
        it.handlers.on()(every.append)
        it.handlers.on_order("ORDER-001")(about_order.append)
        events = it.events()
        await it.arrive(Arrival(None, "heartbeat", '{"eventType":"heartbeat","data":{}}'), arrival(1))
        assert n_of(await anext(events)) == 1
        events.close()
        await eventually(lambda: bool(every))
    assert [event.event_type for event in named] == ["heartbeat"]
    assert numbers(every) == [1]
    assert about_order == []


async def test_what_this_instance_caused_is_not_handed_out(path: Path) -> None:
    got: list[Event] = []
    async with life(path) as it:
        it.handlers.on()(got.append)
        await it.arrive(arrival(1, clientID="me#1"), arrival(2, clientID="me#11"), arrival(3))
        await it.idle()
    assert numbers(got) == [2, 3]
    assert it.counts.own == 1


async def test_handlers_that_never_wait_leave_time_to_others() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with life(None) as it:
        count(it)
        it.handlers.on()(lambda event: None)
        await it.arrive(*map(arrival, range(3000)))
        task = asyncio.create_task(other())
        await it.idle()
        before_idle = turns
        task.cancel()
    assert before_idle > 5


# -- dashboards and resyncs -------------------------------------------------------------------------------


async def test_a_refresh_that_is_registered_late_counts_its_errors(path: Path) -> None:
    async with life(path) as it:
        await it.arrive(arrival(1))

        @it.handlers.on_dashboard_change(debounce_s=0.0)
        def refresh() -> None:
            raise ValueError

        await it.idle()
        await eventually(lambda: it.counts.handler_errors == 1)


async def test_a_refresh_that_awaits_something_cancelled_runs_again_for_what_came_meanwhile(path: Path) -> None:
    calls: list[int] = []
    go_on = asyncio.Event()

    async def refresh() -> None:
        calls.append(1)
        if len(calls) == 1:
            await go_on.wait()
            raise asyncio.CancelledError

    async with life(path) as it:
        it.handlers.on_dashboard_change(debounce_s=0.0)(refresh)
        await it.arrive(arrival(1))
        await eventually(lambda: bool(calls))
        await it.arrive(arrival(2))
        await it.idle()
        await asyncio.sleep(0.02)  # the second one's timer is due
        go_on.set()
        await eventually(lambda: len(calls) == 2)
        assert it.counts.handler_errors == 1


async def test_a_resync_listener_that_fails_is_told_again_after_a_restart_and_holds_up_nothing(path: Path) -> None:
    told: list[str] = []
    good: list[str] = []
    got: list[Event] = []
    due = "expired"
    for broken in (True, False, False):

        def listener(reason: str, broken: bool = broken) -> None:
            told.append(reason)
            if broken:
                raise ValueError

        async with life(path, due=due) as it:
            it.handlers.on_resync(listener)
            it.handlers.on_resync(good.append)
            it.handlers.on()(got.append)
            await it.arrive(arrival(len(got) + 1))
            await it.idle()
            await it.arrive(arrival(len(got) + 1))
            await it.idle()
            due = it.due
            assert it.counts.handler_errors == (3 if broken else 0)
    assert told == ["expired"] * 4  # three attempts, then once
    assert good == ["expired"] * 2
    assert numbers(got) == [1, 2, 3, 4, 5, 6]


def test_an_async_transactional_handler_is_refused() -> None:
    async def handler(event: Event, tx: Transaction) -> None: ...

    with pytest.raises(ConfigurationError):
        Handlers().on(transactional=True)(handler)
