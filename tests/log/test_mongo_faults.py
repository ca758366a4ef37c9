"""MongoDB failing at every point of a transaction: nothing doubled, nothing acknowledged lost."""

import asyncio
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from pymongo import MongoClient

from sync_core.domain.document import Ref
from sync_core.problems import OutcomeUnknown, Unavailable
from sync_server.api.submission import Receipt
from sync_server.log.appender import AppendFailed
from sync_server.log.base import CommitUnknown, LogMisconfigured, LogUnavailable, WriteConflict
from sync_server.log.group import Decision, Group, View
from sync_server.log.mongo import MongoLog
from sync_server.log.mongo_driver import Driver
from sync_server.log.open import new_epoch
from sync_server.log.records import StoredEvent
from tests.fixtures import MongoDatabase
from tests.log.changes import Change, all_documents, changes, check_documents, said
from tests.log.conftest import FailPoint, OpenMongo, rounds
from tests.log.crashes import check_nothing_lost, write_and_be_killed
from tests.log.journal import Journal
from tests.log.test_appender import Stated
from tests.log.writes import TENANT, commit, make_appender, note, read_all, seqs, submission, text_of, texts, wall_ms
from tests.mongod import ReplicaSet

COMMIT = ("commitTransaction",)
UNKNOWN = ["UnknownTransactionCommitResult"]
TRANSIENT = ["TransientTransactionError"]


@pytest.fixture
async def event_log(open_mongo: OpenMongo, mongodb_database: MongoDatabase, driver: Driver) -> MongoLog:
    event_log = await open_mongo(*mongodb_database, driver)
    await event_log.ensure(TENANT)
    return event_log


def told_by(events: Sequence[StoredEvent], epoch: str) -> list[tuple[str, str]]:
    return [said(event, epoch) for event in events]


def soon_s(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


# -- one failure, and the appender gets over it -----------------------------------------------------

PASSING: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "commit: connection cut before": (COMMIT, {"closeConnection": True}),
    "commit: done, reply says primary stepped down": (COMMIT, {"writeConcernError": {"code": 91, "errmsg": "x"}}),
    "commit: done, majority not waited for": (COMMIT, {"writeConcernError": {"code": 64, "errmsg": "x"}}),
    "commit: unknown by label": (COMMIT, {"errorCode": 1, "errorLabels": UNKNOWN}),
    "commit: not primary": (COMMIT, {"errorCode": 10107}),
    "commit: interrupted by a new role": (COMMIT, {"errorCode": 11602}),
    "commit: time over": (COMMIT, {"errorCode": 50}),
    "commit: no such transaction": (COMMIT, {"errorCode": 251, "errorLabels": TRANSIENT}),
    "commit: write conflict": (COMMIT, {"errorCode": 112, "errorLabels": TRANSIENT}),
    "head: connection cut": (("findAndModify",), {"closeConnection": True}),
    "head: write conflict": (("findAndModify",), {"errorCode": 112, "errorLabels": TRANSIENT}),
    "head: not primary": (("findAndModify",), {"errorCode": 10107, "errorLabels": TRANSIENT}),
    "events: connection cut": (("insert",), {"closeConnection": True}),
    "events: lock not had in time": (("insert",), {"errorCode": 24, "errorLabels": TRANSIENT}),
    "events: shutting down": (("insert",), {"errorCode": 91, "errorLabels": TRANSIENT}),
    "documents: connection cut": (("update",), {"closeConnection": True}),
    "documents: write conflict": (("update",), {"errorCode": 112, "errorLabels": TRANSIENT}),
    "documents: interrupted by a new role": (("update",), {"errorCode": 11602, "errorLabels": TRANSIENT}),
    "keys: no such transaction": (("find",), {"errorCode": 251, "errorLabels": TRANSIENT}),
    "keys: snapshot gone": (("find",), {"errorCode": 246, "errorLabels": TRANSIENT}),
}


@pytest.mark.parametrize(("commands", "failure"), PASSING.values(), ids=PASSING)
async def test_a_passing_failure_is_not_noticed(
    event_log: MongoLog, fail_point: FailPoint, commands: tuple[str, ...], failure: dict[str, Any]
) -> None:
    appender = make_appender(event_log)
    await appender.append(TENANT, texts("before"))
    await fail_point.set(*commands, times=3, **failure)
    answers, changed = await asyncio.gather(
        asyncio.gather(*(appender.append(TENANT, submission(note(t), key=t)) for t in "abc")),
        appender.append(TENANT, Change("x", ("d", "e"))),
    )
    await appender.append(TENANT, Change("x", ("e",)))
    await fail_point.off()
    epoch = (await event_log.ensure(TENANT)).epoch
    assert [name for name, _ in told_by(await read_all(event_log), epoch)] == [
        *(f"{epoch}.{seq}" for seq in (1, 2, 3, 4)), "d@1", "e@1", "e@2"
    ]  # fmt: skip
    assert [answer[0].event_id for answer in answers] == [f"{epoch}.{seq}" for seq in (2, 3, 4)]
    assert not any(receipt.duplicate for answer in answers for receipt in answer)
    assert changed == (1, 1)
    await check_documents(event_log)


@pytest.mark.alone
async def test_an_abort_that_does_not_arrive_blocks_nobody(event_log: MongoLog, fail_point: FailPoint) -> None:
    appender = make_appender(event_log)
    await appender.append(TENANT, texts("before"))
    # Only the first insert and both tries of its abort: afterwards the head is still locked on the server.
    await fail_point.set("insert", "abortTransaction", times=3, closeConnection=True)
    started_s = asyncio.get_running_loop().time()
    await appender.append(TENANT, texts("after"))
    assert asyncio.get_running_loop().time() - started_s < 3
    assert [text_of(event) for event in await read_all(event_log)] == ["before", "after"]


async def test_a_document_too_large_for_mongodb_loses_only_itself(event_log: MongoLog) -> None:
    appender = make_appender(event_log)
    a, failure, b = await asyncio.gather(
        *(appender.append(TENANT, w) for w in (texts("a"), Stated(note("x" * 17_000_000)), texts("b"))),
        return_exceptions=True,
    )
    assert isinstance(failure, AppendFailed)
    assert not isinstance(a, BaseException)
    assert not isinstance(b, BaseException)
    assert [text_of(event) for event in await read_all(event_log)] == ["a", "b"]


async def test_an_error_that_repeating_does_not_change_is_told_at_once(
    event_log: MongoLog, fail_point: FailPoint
) -> None:
    appender = make_appender(event_log)
    await fail_point.set("insert", errorCode=13)  # Unauthorized
    with pytest.raises(AppendFailed):
        await appender.append(TENANT, texts("a"))
    await fail_point.off()
    await appender.append(TENANT, texts("b"))
    assert [(e.seq, text_of(e)) for e in await read_all(event_log)] == [(1, "b")]


async def test_failures_that_last_end_at_the_deadline_and_nothing_is_written(
    event_log: MongoLog, fail_point: FailPoint
) -> None:
    appender = make_appender(event_log, deadline_s=0.3)
    await fail_point.set("insert", errorCode=251, errorLabels=TRANSIENT)
    with pytest.raises(Unavailable) as refusal:
        await appender.append(TENANT, texts("a"))
    assert not isinstance(refusal.value, OutcomeUnknown)
    await fail_point.off()
    assert await read_all(event_log) == []


# -- the result of the commit is not known ----------------------------------------------------------


@pytest.mark.parametrize("reached", [True, False], ids=["was committed", "was not committed"])
@pytest.mark.parametrize("others", [0, 2])
async def test_a_group_whose_commit_is_in_doubt_is_written_once(
    event_log: MongoLog, fail_point: FailPoint, open_mongo: OpenMongo, mongodb_database: MongoDatabase, reached: bool,
    others: int,
) -> None:  # fmt: skip
    await commit(event_log, texts("before"))
    group = Group([texts("a", "b"), submission(note("c"), key="c"), *changes("d", "x", "x")])
    lost = {"writeConcernError": {"code": 64, "errmsg": "x"}} if reached else {"closeConnection": True}
    await fail_point.set(*COMMIT, **lost)
    with pytest.raises(CommitUnknown):
        await event_log.transact(TENANT, group, now_ms=wall_ms(), deadline_s=soon_s(0.1))
    assert group.doubtful is not None
    await fail_point.off()
    if reached and others:  # otherwise the head is still held by the transaction in doubt
        await commit(await open_mongo(*mongodb_database), *changes("e", *("x" * others)))
    committed = await event_log.transact(TENANT, group, now_ms=wall_ms(), deadline_s=soon_s(5))
    assert group.doubtful is None
    assert seqs(committed.events) == [2, 3, 4, 5, 6]
    assert committed.results[2:] == [(1,), (2,)]
    rest = [("x@3", "e"), ("x@4", "e")] if reached and others else []
    assert told_by(await read_all(event_log), "")[1:] == [
        (".2", "a"), (".3", "b"), (".4", "c"), ("x@1", "d"), ("x@2", "d"), *rest
    ]  # fmt: skip
    await check_documents(event_log)


async def test_what_cannot_be_found_out_in_time_is_told_as_unknown(event_log: MongoLog, fail_point: FailPoint) -> None:
    appender = make_appender(event_log, deadline_s=0.3)
    await appender.append(TENANT, texts("before"))
    # The first head write passes; its commit is done and reported as unknown; later looks at the log fail.
    await fail_point.set("findAndModify", *COMMIT, skip=1, writeConcernError={"code": 64, "errmsg": "x"})
    with pytest.raises(OutcomeUnknown):
        await appender.append(TENANT, submission(note("a"), key="k"))
    await fail_point.off()
    (again,) = await appender.append(TENANT, submission(note("a"), key="k"))
    assert again.duplicate
    assert [text_of(event) for event in await read_all(event_log)] == ["before", "a"]


async def test_in_doubt_and_then_locked_out_is_still_unknown(event_log: MongoLog, fail_point: FailPoint) -> None:
    appender = make_appender(event_log, deadline_s=0.3)
    await appender.append(TENANT, texts("before"))
    await fail_point.set("findAndModify", *COMMIT, skip=1, errorCode=112, errorLabels=UNKNOWN)
    with pytest.raises(OutcomeUnknown):
        await appender.append(TENANT, texts("a"))


@dataclass(frozen=True)
class Silent(Stated):
    """A Write that emits nothing, and does *meanwhile* while its group holds the head."""

    reserve: int = 0
    meanwhile: Callable[[], None] = lambda: None

    def decide(self, view: View) -> Decision[tuple[Receipt, ...]]:
        self.meanwhile()
        return Decision([], {}, ())


async def test_a_group_that_emits_nothing_takes_the_head_all_the_same(
    event_log: MongoLog, mongodb_database: MongoDatabase
) -> None:
    """An $inc by 0 would be no write and no lock: two such groups could decide on what the other one changes."""
    locked: list[bool] = []

    async def try_it_too() -> None:
        other = MongoLog(*mongodb_database, new_epoch=new_epoch)
        try:
            await other.transact(TENANT, Group([Silent(note())]), now_ms=0, deadline_s=soon_s(5))
        except WriteConflict:
            locked.append(True)
        else:
            locked.append(False)
        finally:
            await other.aclose()

    def in_another_process() -> None:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, try_it_too()).result()

    group = Group([Silent(note(), meanwhile=in_another_process)])
    await event_log.transact(TENANT, group, now_ms=0, deadline_s=soon_s(5))
    assert locked == [True]


async def test_a_document_that_was_changed_around_the_head_is_not_overwritten(
    event_log: MongoLog, mongodb_database: MongoDatabase
) -> None:
    """No writer may do that; if one does, the group is repeated with what is there then."""
    await commit(event_log, Change("before", ("d",)))

    def around() -> None:
        with MongoClient[dict[str, Any]](mongodb_database.uri) as client:
            client[mongodb_database.name]["documents"].update_one({"version": 1}, {"$set": {"version": 7}})

    committed = await commit(event_log, Change("after", ("d",), meanwhile=around))
    assert committed.results == [(8,)]
    assert [document.version for document in await all_documents(event_log)] == [8]


# -- outside of transactions ------------------------------------------------------------------------


@pytest.mark.parametrize("code", [13, 24, 112, 262])
async def test_reading_raises_only_what_it_says(event_log: MongoLog, fail_point: FailPoint, code: int) -> None:
    await fail_point.set("find", "findAndModify", "distinct", "update", errorCode=code)
    with pytest.raises(LogUnavailable):
        await event_log.read(TENANT, after=0, limit=1)
    with pytest.raises(LogUnavailable):
        await event_log.ensure(TENANT)
    with pytest.raises(LogUnavailable):
        await event_log.trim(TENANT, 0)
    with pytest.raises(LogUnavailable):
        await event_log.tenants()


async def test_a_log_that_may_not_be_used_says_so_when_opened(
    open_mongo: OpenMongo, mongodb_database: MongoDatabase, driver: Driver, fail_point: FailPoint
) -> None:
    await fail_point.set("createIndexes", "create", errorCode=13)
    with pytest.raises(LogMisconfigured, match="refuses"):
        await open_mongo(*mongodb_database, driver)


async def test_opening_at_the_same_time_makes_one_log(open_mongo: OpenMongo, mongodb_database: MongoDatabase) -> None:
    logs = await asyncio.gather(*(open_mongo(*mongodb_database) for _ in range(8)))
    assert len({await event_log.ensure(TENANT) for event_log in logs}) == 1


async def test_documents_are_read_with_the_same_care(event_log: MongoLog, fail_point: FailPoint) -> None:
    await commit(event_log, Change("x", ("d",)))
    for code in (13, 24, 239, 246):
        await fail_point.set("find", "aggregate", errorCode=code)
        with pytest.raises(LogUnavailable):
            await event_log.load(TENANT, [Ref("order", "d")])
        with pytest.raises(LogUnavailable):
            await all_documents(event_log)
        await fail_point.set("aggregate", errorCode=code)
        with pytest.raises(LogUnavailable):
            await all_documents(event_log)
        with pytest.raises(LogUnavailable):
            await all_documents(event_log)
    await fail_point.off()
    assert len(await all_documents(event_log)) == 1


# -- killed -----------------------------------------------------------------------------------------


async def test_a_writer_killed_in_the_middle_of_its_transactions_loses_nothing(
    open_mongo: OpenMongo, mongodb_database: MongoDatabase
) -> None:
    event_log = await open_mongo(*mongodb_database)
    acknowledged: dict[str, str] = {}
    for mark in range(rounds("KILL_ROUNDS", 2)):
        acknowledged |= await asyncio.to_thread(
            write_and_be_killed, *mongodb_database, mark=str(mark), lines=100 + 37 * mark
        )
    await commit(event_log, texts("after"))  # once the lock of the killed one is broken
    await check_nothing_lost(event_log, acknowledged)


async def test_mongod_killed_in_the_middle_of_commits(
    lone_mongod: ReplicaSet, open_mongo: OpenMongo, driver: Driver
) -> None:
    rng = random.Random(rounds("SEED", 7))
    logs = [await open_mongo(lone_mongod.uri, f"killed_{driver}", driver) for _ in range(2)]
    journal = Journal()
    async with journal.writing([make_appender(event_log) for event_log in logs], tasks=4):
        for _ in range(rounds("KILL_ROUNDS", 3)):
            await journal.more(rng.randrange(20, 100))
            await asyncio.to_thread(lone_mongod.nodes[0].kill)
            await asyncio.to_thread(lone_mongod.nodes[0].start)
            await asyncio.to_thread(lone_mongod.wait_primary)
        await journal.more(20)
    await journal.check(logs[0])
