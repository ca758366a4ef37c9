"""The appender on real stores: how submissions are grouped, and that each gets its own answer."""

import asyncio
from dataclasses import dataclass

import pytest

from sync_core.domain.document import Ref
from sync_core.problems import OutcomeUnknown, Unavailable, Unprocessable
from sync_server.api.submission import Receipt
from sync_server.log.appender import (
    GRACE_S,
    MAX_GROUP_BYTES,
    MAX_GROUP_EVENTS,
    MAX_WAITING_BYTES,
    Appender,
    AppendFailed,
)
from sync_server.log.base import EventLog
from sync_server.log.group import Committed, Decision, View
from sync_server.log.records import NewEvent, OutcomeKey
from tests.log.conftest import Store
from tests.log.writes import TENANT, make_appender, note, read_all, submission, text_of, texts, until


@dataclass(frozen=True)
class Stated:
    """A Write that states its size, whatever its event's size is."""

    event: NewEvent
    size_bytes: int = 10
    reserve: int = 1
    keys: tuple[OutcomeKey, ...] = ()
    refs: tuple[Ref, ...] = ()

    def decide(self, view: View) -> Decision[tuple[Receipt, ...]]:
        return Decision([self.event], {}, (Receipt(f"{view.epoch}.{view.next_seq}", "t", duplicate=False),))


@dataclass(frozen=True)
class Broken(Stated):
    """A Write with a mistake in its code."""

    def decide(self, view: View) -> Decision[tuple[Receipt, ...]]:
        raise ZeroDivisionError("a mistake")


class Groups(list[list[str]]):
    """The texts of each committed group."""

    def __call__(self, tenant: str, committed: Committed) -> None:
        assert tenant == TENANT
        self.append([text_of(event) for event in committed.events])


@pytest.fixture
async def event_log(store: Store) -> EventLog:
    event_log = await store.open()
    await event_log.ensure(TENANT)
    return event_log


@pytest.fixture
def groups() -> Groups:
    return Groups()


@pytest.fixture
def appender(event_log: EventLog, groups: Groups) -> Appender:
    return make_appender(event_log, on_commit=groups)


async def first_taken(appender: Appender) -> "asyncio.Task[object]":
    """A submission that the lane has begun to commit."""
    task = asyncio.create_task(appender.append(TENANT, texts("first")))

    async def taken() -> bool:
        return TENANT in appender._lanes and not appender._lanes[TENANT].queue

    await until(taken)
    return task


async def test_what_arrives_while_committing_is_the_next_group(
    store: Store, appender: Appender, groups: Groups
) -> None:
    async with store.head_held():
        first = await first_taken(appender)
        others = [asyncio.create_task(appender.append(TENANT, texts(f"{i}"))) for i in range(20)]
        await asyncio.sleep(0)
    await asyncio.gather(first, *others)
    assert groups == [["first"], [str(i) for i in range(20)]]


async def test_an_idle_tenant_is_written_at_once_and_costs_nothing_afterwards(
    appender: Appender, groups: Groups
) -> None:
    for i in range(3):
        await appender.append(TENANT, texts(str(i)))
    assert groups == [["0"], ["1"], ["2"]]

    async def idle() -> bool:
        return TENANT not in appender._lanes and not appender._tasks

    await until(idle)


async def test_a_group_has_at_most_500_events(store: Store, appender: Appender, groups: Groups) -> None:
    async with store.head_held():
        first = await first_taken(appender)
        others = [asyncio.create_task(appender.append(TENANT, texts(*"abcdefg"))) for i in range(150)]
        await asyncio.sleep(0)
    await asyncio.gather(first, *others)
    assert [len(group) for group in groups] == [1, MAX_GROUP_EVENTS // 7 * 7, MAX_GROUP_EVENTS // 7 * 7, 56]


async def test_a_group_has_at_most_4_mb(store: Store, appender: Appender, groups: Groups) -> None:
    async with store.head_held():
        first = await first_taken(appender)
        third = MAX_GROUP_BYTES // 3
        others = [asyncio.create_task(appender.append(TENANT, Stated(note(), third))) for _ in range(5)]
        await asyncio.sleep(0)
    await asyncio.gather(first, *others)
    assert [len(group) for group in groups] == [1, 3, 2]


async def test_a_larger_request_is_a_group_of_its_own(store: Store, appender: Appender, groups: Groups) -> None:
    async with store.head_held():
        first = await first_taken(appender)
        large = texts(*map(str, range(MAX_GROUP_EVENTS + 100)))
        others = [asyncio.create_task(appender.append(TENANT, w)) for w in (texts("a"), large, texts("b"), texts("c"))]
        await asyncio.sleep(0)
    await asyncio.gather(first, *others)
    assert [len(group) for group in groups] == [1, 1, MAX_GROUP_EVENTS + 100, 2]


async def test_tenants_do_not_wait_for_each_other(appender: Appender, event_log: EventLog, groups: Groups) -> None:
    other = make_appender(event_log)
    names = [f"tenant-{i}" for i in range(8)]
    answers = await asyncio.gather(*(other.append(name, texts(name)) for name in names for _ in range(5)))
    assert len(answers) == 40
    for name in names:
        assert [text_of(event) for event in await read_all(event_log, name)] == [name] * 5


async def test_a_refusal_is_the_answer_of_its_own_submission_only(
    store: Store, appender: Appender, groups: Groups
) -> None:
    await appender.append(TENANT, submission(note("known"), key="k", fingerprint="one"))
    async with store.head_held():
        first = await first_taken(appender)
        refused = submission(note("never"), key="k", fingerprint="two")
        others = [asyncio.create_task(appender.append(TENANT, w)) for w in (texts("a"), refused, texts("b"))]
        await asyncio.sleep(0)
    await first
    a, refusal, b = await asyncio.gather(*others, return_exceptions=True)
    assert isinstance(refusal, Unprocessable)
    assert not isinstance(a, BaseException)
    assert not isinstance(b, BaseException)
    assert groups == [["known"], ["first"], ["a", "b"]]


POISON = {
    "a lone surrogate": Stated(note()._replace(tail='"data":{"text":"\ud800"}}')),
    "a mistake in our code": Broken(note()),
    "what no store takes": Stated(note()._replace(tail=object())),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
async def test_a_poisoned_member_loses_only_itself(
    store: Store, appender: Appender, event_log: EventLog, poison: Stated
) -> None:
    async with store.head_held():
        first = await first_taken(appender)
        others = [asyncio.create_task(appender.append(TENANT, w)) for w in (texts("a"), poison, texts("b", "c"))]
        await asyncio.sleep(0)
    await first
    a, failure, b = await asyncio.gather(*others, return_exceptions=True)
    assert isinstance(failure, AppendFailed)
    assert not isinstance(a, BaseException)
    assert not isinstance(b, BaseException)
    await appender.append(TENANT, texts("d"))
    assert [(e.seq, text_of(e)) for e in await read_all(event_log)] == list(enumerate(["first", *"abcd"], 1))


async def test_a_request_cancelled_while_waiting_is_not_written(
    store: Store, appender: Appender, groups: Groups
) -> None:
    async with store.head_held():
        first = await first_taken(appender)
        left, stays = (asyncio.create_task(appender.append(TENANT, texts(text))) for text in ("left", "stays"))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
    await asyncio.gather(first, stays)
    assert groups == [["first"], ["stays"]]


async def test_a_request_cancelled_while_committing_takes_nothing_down(
    store: Store, appender: Appender, groups: Groups
) -> None:
    async with store.head_held():
        first = await first_taken(appender)
        second = asyncio.create_task(appender.append(TENANT, texts("second")))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    await second
    assert groups == [["first"], ["second"]]


async def test_too_much_waiting_is_refused_at_once(store: Store, appender: Appender) -> None:
    async with store.head_held():
        first = await first_taken(appender)
        waiting = asyncio.create_task(appender.append(TENANT, Stated(note(), MAX_WAITING_BYTES - 100)))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="Too much"):
            await appender.append(TENANT, Stated(note(), 100))
    await asyncio.gather(first, waiting)
    await appender.append(TENANT, Stated(note(), MAX_WAITING_BYTES - 100))


async def test_who_waited_until_the_deadline_behind_others_is_not_written(store: Store, event_log: EventLog) -> None:
    appender = make_appender(event_log, deadline_s=0.2)
    async with store.head_held():
        first = await first_taken(appender)
        with pytest.raises(Unavailable) as refusal:
            await appender.append(TENANT, texts("late"))
        assert not isinstance(refusal.value, OutcomeUnknown)
        assert refusal.value.retry_after_s
        await asyncio.gather(first, return_exceptions=True)
    await appender.aclose()
    assert "late" not in [text_of(event) for event in await read_all(event_log)]


async def test_a_store_that_hangs_leaves_the_outcome_unknown(store: Store, event_log: EventLog) -> None:
    appender = make_appender(event_log, deadline_s=0.2)
    await appender.append(TENANT, texts("before"))
    async with store.hanging():
        with pytest.raises(OutcomeUnknown):
            await appender.append(TENANT, texts("hung"))

    async def goes_on() -> bool:
        try:
            await appender.append(TENANT, texts("after"))
        except Unavailable:
            return False
        return True

    await until(goes_on)
    found = [text_of(event) for event in await read_all(event_log)]
    assert found.count("hung") <= 1
    assert (found[0], found[-1]) == ("before", "after")


@pytest.mark.alone
async def test_each_tenant_is_told_in_its_time_that_a_store_hangs(store: Store, event_log: EventLog) -> None:
    appender = make_appender(event_log, deadline_s=0.2)
    now_s = asyncio.get_running_loop().time

    async def told_after_s(tenant: str) -> float:
        began_s = now_s()
        with pytest.raises(OutcomeUnknown):
            await appender.append(tenant, texts("hung"))
        return now_s() - began_s

    tenants, waiting = (TENANT, "another", "third"), []
    for tenant in tenants:
        await event_log.ensure(tenant)
    async with store.hanging():
        for tenant in tenants:
            waiting.append(asyncio.create_task(told_after_s(tenant)))
            await asyncio.sleep(0.5)
        waited_s = await asyncio.gather(*waiting)
    assert all(0.2 + GRACE_S <= told_s < 0.2 + GRACE_S + 0.4 for told_s in waited_s), waited_s


async def test_aclose_finishes_what_waits(store: Store, appender: Appender, groups: Groups) -> None:
    async with store.head_held():
        first = await first_taken(appender)
        others = [asyncio.create_task(appender.append(TENANT, texts(str(i)))) for i in range(10)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(appender.aclose())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="shutting down"):
            await appender.append(TENANT, texts("too late"))
    await closing
    await asyncio.gather(first, *others)
    assert groups == [["first"], [str(i) for i in range(10)]]
    await appender.aclose()


async def test_aclose_does_not_wait_for_ever_and_leaves_nobody_without_an_answer(
    store: Store, event_log: EventLog
) -> None:
    appender = make_appender(event_log, deadline_s=0.1)
    async with store.head_held():
        first = await first_taken(appender)
        async with asyncio.timeout(10):
            await appender.aclose()
        (answer,) = await asyncio.gather(first, return_exceptions=True)
        assert isinstance(answer, Unavailable)


async def test_a_fault_of_who_listens_does_not_stop_the_lane(store: Store, event_log: EventLog) -> None:
    def on_commit(tenant: str, committed: Committed) -> None:
        raise ZeroDivisionError("a mistake elsewhere")

    appender = make_appender(event_log, on_commit=on_commit)
    async with store.head_held():
        first = await first_taken(appender)
        second = asyncio.create_task(appender.append(TENANT, texts("second")))
        await asyncio.sleep(0)
    await asyncio.gather(first, second)
    assert [text_of(event) for event in await read_all(event_log)] == ["first", "second"]
