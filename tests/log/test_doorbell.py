"""The doorbell of the MongoDB store: what other processes did is heard, from the moment of opening on."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, cast

import pytest
from pymongo import MongoClient

from sync_server.log.base import Bell, EventLog, Signal
from sync_server.log.mongo_doorbell import Doorbell
from sync_server.log.mongo_driver import Driver
from sync_server.log.records import Reach, StoredEvent
from tests.fixtures import MongoDatabase
from tests.log.conftest import FailPoint, OpenMongo, rounds
from tests.log.writes import PATIENCE_S, TENANT, commit, note, submission, texts, until
from tests.mongod import ReplicaSet


class Listener:
    """Follows a log by its doorbell alone, as a hub would do without its safety poll."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self.head = 0
        self.bells = 0
        self.signals: list[Signal] = []
        self._task: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        async with aclosing(cast("AsyncGenerator[Bell | Signal]", self._log.wakeups())) as wakeups:
            async for wakeup in wakeups:
                if isinstance(wakeup, Signal):
                    self.signals.append(wakeup)
                    continue
                self.bells += 1
                if wakeup.tenant is None or wakeup.head is None:
                    self.head = max(self.head, (await self._log.ensure(TENANT)).head)
                else:
                    self.head = max(self.head, wakeup.head)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Listener"]:
        self._task = asyncio.create_task(self.listen())
        try:
            yield self
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Ends at once, or when the stream has next been asked."""
        assert self._task is not None
        self._task.cancel()
        async with asyncio.timeout(PATIENCE_S):
            (result,) = await asyncio.gather(self._task, return_exceptions=True)
        assert isinstance(result, asyncio.CancelledError), result

    async def heard(self, head: int) -> None:
        async def reached() -> bool:
            return self.head >= head

        await until(reached)


async def open_two(open_mongo: OpenMongo, database: MongoDatabase, driver: Driver) -> tuple[EventLog, EventLog]:
    one, other = await open_mongo(*database, driver), await open_mongo(*database, driver)
    await one.ensure(TENANT)
    return one, other


async def test_every_commit_of_another_process_rings(
    open_mongo: OpenMongo, mongodb_database: MongoDatabase, driver: Driver
) -> None:
    listening, writing = await open_two(open_mongo, mongodb_database, driver)
    async with Listener(listening).listening() as listener:
        for head in range(1, 101):
            await commit(writing, texts("x"))
            await listener.heard(head)
    assert listener.bells >= 100


async def test_commits_of_the_own_process_do_not_ring(
    open_mongo: OpenMongo, mongodb_database: MongoDatabase, driver: Driver
) -> None:
    """Nor those that write less than was reserved, here since their key is known."""
    one, other = await open_two(open_mongo, mongodb_database, driver)
    keyed = submission(note("known"), key="k")
    async with aclosing(cast("AsyncGenerator[Bell | Signal]", one.wakeups())) as wakeups, asyncio.timeout(PATIENCE_S):
        assert await anext(wakeups) == Bell(None)
        await commit(other, texts("first"))
        while await anext(wakeups) != Bell(TENANT, 1):
            pass  # that the tenant was made may be told as well
        # Asked for meanwhile: of changes that are fetched together only the last bell would be seen.
        following = asyncio.ensure_future(anext(wakeups))
        for _ in range(5):
            await commit(one, texts("x"))
            await commit(one, keyed)
        await commit(other, texts("last"))
        assert await following == Bell(TENANT, 8)


async def test_no_commit_is_missed_after_the_first_bell(
    open_mongo: OpenMongo, mongodb_database: MongoDatabase, driver: Driver
) -> None:
    """As soon as it has rung for the first time, nothing is missed."""
    listening, writing = await open_two(open_mongo, mongodb_database, driver)
    for _ in range(10):
        async with aclosing(cast("AsyncGenerator[Bell | Signal]", listening.wakeups())) as wakeups:
            assert await anext(wakeups) == Bell(None)
            head = (await commit(writing, texts("x"))).events[-1].seq
            await commit(writing, texts("y"), tenant="other")  # the newest change is shown in any case
            async with asyncio.timeout(PATIENCE_S):
                while await anext(wakeups) != Bell(TENANT, head):
                    pass


async def open_while_writing(listening: EventLog, writing: EventLog, *, at_once: int) -> None:
    """Open the doorbell again and again while commits arrive; each listener hears of the last one."""
    rng = random.Random(5)
    for _ in range(rounds("DOORBELL_ROUNDS", 8)):
        async with AsyncExitStack() as stack:
            listeners = []
            for _ in range(at_once):
                listeners.append(await stack.enter_async_context(Listener(listening).listening()))
                await asyncio.sleep(rng.uniform(0, 0.003))
                head = (await commit(writing, texts("x"))).events[-1].seq
                await commit(writing, texts("y"), tenant="other")  # the newest change is shown in any case
            for listener in listeners:
                await listener.heard(head)
            await asyncio.gather(*(listener.stop() for listener in listeners))


async def test_no_commit_is_missed_while_the_doorbell_opens(
    open_mongo: OpenMongo, mongodb_database: MongoDatabase, driver: Driver
) -> None:
    # Several at once, since some take a second to close. Motor keeps one of its few threads for each of those.
    listening, writing = await open_two(open_mongo, mongodb_database, driver)
    await open_while_writing(listening, writing, at_once=15 if driver == "pymongo" else 2)


async def test_a_cancellation_is_obeyed_at_whatever_moment_it_comes(
    open_mongo: OpenMongo, mongodb_database: MongoDatabase, driver: Driver
) -> None:
    """CPython 3.11's wait_for, under the driver, loses one that comes together with its result."""
    listening, writing = await open_two(open_mongo, mongodb_database, driver)
    loop = asyncio.get_running_loop()

    def cancel_later(task: "asyncio.Task[None]", steps: int) -> None:
        if steps:
            loop.call_soon(cancel_later, task, steps - 1)
        else:
            task.cancel()

    async def listen(steps: int) -> None:
        async for wakeup in listening.wakeups():
            if wakeup != Bell(None):
                task = asyncio.current_task()
                assert task is not None
                cancel_later(task, steps)

    listeners = [asyncio.create_task(listen(steps)) for steps in range(12 if driver == "pymongo" else 2)]

    async def all_ended() -> bool:
        await commit(writing, texts("x"))
        return all(listener.done() for listener in listeners)

    await until(all_ended)
    assert all(listener.cancelled() for listener in listeners)


async def test_the_doorbell_reopens_by_itself(lone_mongod: ReplicaSet, open_mongo: OpenMongo, driver: Driver) -> None:
    database = MongoDatabase(lone_mongod.uri, f"doorbell_{driver}")
    listening, writing = await open_two(open_mongo, database, driver)
    async with Listener(listening).listening() as listener:
        for _ in range(2):
            head = (await commit(writing, texts("x"))).events[-1].seq
            await listener.heard(head)
            await asyncio.to_thread(lone_mongod.nodes[0].kill)
            await asyncio.to_thread(lone_mongod.nodes[0].start)
            await asyncio.to_thread(lone_mongod.wait_primary)

            async def writable() -> bool:
                return (await commit(writing, texts("y"))).events != []

            await until(writable)
        head = (await commit(writing, texts("z"))).events[-1].seq
        await listener.heard(head)


@pytest.mark.parametrize("failure", [{"closeConnection": True}, {"errorCode": 11602}, {"errorCode": 43}])
async def test_a_stream_that_breaks_goes_on_where_it_was(
    open_mongo: OpenMongo,
    mongodb_database: MongoDatabase,
    driver: Driver,
    fail_point: FailPoint,
    failure: dict[str, Any],
) -> None:
    """Of a commit that is missed the next bell tells; a signal would be gone."""
    listening, writing = await open_two(open_mongo, mongodb_database, driver)
    sent = 0
    async with Listener(listening).listening() as listener:
        await commit(writing, texts("open"))
        await listener.heard(1)
        for _ in range(3):
            await fail_point.set("getMore", times=1, **failure)
            for _ in range(30):
                sent += 1
                await writing.signal(TENANT, [StoredEvent(0, sent, *note(str(sent)))])
                await asyncio.sleep(0.01)

            async def all_arrived(sent: int = sent) -> bool:
                return len(listener.signals) >= sent

            await until(all_arrived)
    assert [signal.events[0].time_ms for signal in listener.signals] == list(range(1, sent + 1))


async def test_a_stream_that_cannot_go_on_where_it_was_begins_anew(
    open_mongo: OpenMongo,
    mongodb_database: MongoDatabase,
    driver: Driver,
    fail_point: FailPoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listening, writing = await open_two(open_mongo, mongodb_database, driver)
    opened: list[bool] = []
    open_stream = Doorbell._open

    async def opening(doorbell: Doorbell, session: Any, after: Any) -> dict[str, Any]:
        opened.append(after is not None)
        return await open_stream(doorbell, session, after)

    monkeypatch.setattr(Doorbell, "_open", opening)
    async with Listener(listening).listening() as listener:
        await listener.heard((await commit(writing, texts("open"))).events[-1].seq)
        for count, failure in ((2, {"closeConnection": True}), (3, {"errorCode": 286})):  # ChangeStreamHistoryLost
            await fail_point.set("getMore", times=1, **failure)
            await commit(writing, texts("x"))  # ends the question that is under way; the next one fails

            async def opened_again(count: int = count) -> bool:
                return len(opened) == count

            await until(opened_again)
        await listener.heard((await commit(writing, texts("y"))).events[-1].seq)
    assert opened == [False, True, False]


async def test_streams_that_are_left_take_nothing_on_the_server(
    lone_mongod: ReplicaSet, open_mongo: OpenMongo, driver: Driver
) -> None:
    listening, writing = await open_two(open_mongo, MongoDatabase(lone_mongod.uri, f"left_{driver}"), driver)
    with MongoClient[dict[str, Any]](lone_mongod.uri) as client:

        async def cursors() -> int:
            status = await asyncio.to_thread(client.admin.command, "serverStatus")
            return int(status["metrics"]["cursor"]["open"]["total"])

        before = await cursors()
        for _ in range(3):
            async with aclosing(cast("AsyncGenerator[Bell | Signal]", listening.wakeups())) as wakeups:
                await anext(wakeups)
            async with Listener(listening).listening() as listener:
                head = (await commit(writing, texts("x"))).events[-1].seq
                await listener.heard(head)

        async def closed() -> bool:
            return await cursors() <= before

        await until(closed)


async def test_a_commit_of_less_than_was_reserved_rings_with_its_end(
    open_mongo: OpenMongo, mongodb_database: MongoDatabase, driver: Driver
) -> None:
    listening, writing = await open_two(open_mongo, mongodb_database, driver)
    heads: list[int | None] = []
    async with aclosing(cast("AsyncGenerator[Bell | Signal]", listening.wakeups())) as wakeups:
        assert await anext(wakeups) == Bell(None)
        await commit(writing, submission(note("known"), key="k"))
        for number in range(2, 12):
            # The second member writes nothing, so that two are reserved for one.
            await commit(writing, texts(str(number)), submission(note("known"), key="k"))
            async with asyncio.timeout(PATIENCE_S):
                while not heads or (heads[-1] or 0) < number:
                    wakeup = await anext(wakeups)
                    assert isinstance(wakeup, Bell)
                    heads.append(wakeup.head)
    assert max(head or 0 for head in heads) == 11


async def test_signals_reach_other_processes_and_not_the_own(
    open_mongo: OpenMongo, mongodb_database: MongoDatabase, driver: Driver
) -> None:
    one, other = await open_two(open_mongo, mongodb_database, driver)
    sent = [
        StoredEvent(0, 1_763_634_600_000, *note("مرحبا", order="A 1", client_id="till-1")),
        StoredEvent(0, 5, *note()._replace(reach=Reach("", "", 0, grants=("orderID=A 1",), audience=("role:csr",)))),
    ]
    async with Listener(one).listening() as own, Listener(other).listening() as far:
        await commit(one, texts("open"))
        await far.heard(1)
        await commit(other, texts("open"))
        await own.heard(2)
        await one.signal(TENANT, sent, as_of=1)

        async def arrived() -> bool:
            return far.signals != []

        await until(arrived)
        head = (await commit(other, texts("later"))).events[-1].seq
        await own.heard(head)  # a stream keeps the order: the own signal would have been here by now
    assert far.signals == [Signal(TENANT, tuple(sent), as_of=1)]
    assert own.signals == []
    assert (await one.ensure(TENANT)).head == 3
