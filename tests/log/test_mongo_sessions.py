"""A server that dies or freezes inside a transaction does not keep its tenant locked."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from typing import Any

import pytest
from pymongo import AsyncMongoClient, MongoClient

from sync_server.log.mongo_driver import Driver
from sync_server.log.mongo_sessions import FRESH_S
from tests.fixtures import MongoDatabase
from tests.log.conftest import OpenMongo
from tests.log.writes import TENANT, make_appender, read_all, text_of, texts, until

BLOCKED_AT_MOST_S = 2.0
Hold = Callable[[Driver], "subprocess.Popen[str]"]


@pytest.fixture
async def hold(mongodb_database: MongoDatabase) -> AsyncIterator[Hold]:
    """Starts a server that holds the tenant's head inside an open transaction."""
    with ExitStack() as stack:

        def start(driver: Driver) -> "subprocess.Popen[str]":
            argv = [sys.executable, "-m", "tests.log.head_holder", *mongodb_database, driver]
            process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            return process

        yield start


@pytest.fixture(autouse=True)
async def _default_lifetime(mongodb_database: MongoDatabase) -> None:
    """Without registered sessions the lock would last for a minute and a half."""
    async with AsyncMongoClient[dict[str, Any]](mongodb_database.uri) as client:
        found = await client.admin.command("getParameter", 1, transactionLifetimeLimitSeconds=1)
    assert found["transactionLifetimeLimitSeconds"] == 60


@pytest.mark.alone
async def test_a_killed_server_blocks_others_for_2_s_at_most(
    open_mongo: OpenMongo, mongodb_database: MongoDatabase, hold: Hold, driver: Driver
) -> None:
    event_log = await open_mongo(*mongodb_database, driver)
    appender = make_appender(event_log)
    await appender.append(TENANT, texts("first"))
    holder = hold(driver)
    loop = asyncio.get_running_loop()
    waiting = asyncio.create_task(appender.append(TENANT, texts("waits")))  # already while it lives
    await asyncio.sleep(0)
    holder.kill()
    killed_s = loop.time()
    await asyncio.gather(waiting, appender.append(TENANT, texts("after")))
    assert loop.time() - killed_s < BLOCKED_AT_MOST_S
    assert [text_of(event) for event in await read_all(event_log)] == ["first", "before", "waits", "after"]


@pytest.mark.alone
async def test_a_killed_server_blocks_the_one_started_next_for_2_s_at_most(
    open_mongo: OpenMongo, mongodb_database: MongoDatabase, hold: Hold, driver: Driver
) -> None:
    holder = hold(driver)
    loop = asyncio.get_running_loop()
    holder.kill()
    killed_s = loop.time()
    event_log = await open_mongo(*mongodb_database, driver)
    await make_appender(event_log).append(TENANT, texts("after"))
    assert loop.time() - killed_s < BLOCKED_AT_MOST_S
    assert [text_of(event) for event in await read_all(event_log)] == ["before", "after"]


@pytest.mark.alone
async def test_a_frozen_server_blocks_nobody_and_goes_on_when_it_wakes(
    open_mongo: OpenMongo, mongodb_database: MongoDatabase, hold: Hold, driver: Driver
) -> None:
    event_log = await open_mongo(*mongodb_database, driver)
    appender = make_appender(event_log)
    await event_log.ensure(TENANT)
    holder = hold(driver)
    holder.send_signal(signal.SIGSTOP)
    loop = asyncio.get_running_loop()
    frozen_s = loop.time()
    await appender.append(TENANT, texts("meanwhile"))
    assert loop.time() - frozen_s < BLOCKED_AT_MOST_S
    holder.send_signal(signal.SIGCONT)
    answer, _ = await asyncio.to_thread(holder.communicate, "go on\n")
    assert answer == f"{(await event_log.ensure(TENANT)).epoch}.3\n"
    assert [text_of(event) for event in await read_all(event_log)] == ["before", "meanwhile", "held"]


async def test_a_session_killed_by_mistake_costs_nothing_but_a_retry(
    open_mongo: OpenMongo, mongodb_database: MongoDatabase, driver: Driver
) -> None:
    event_log = await open_mongo(*mongodb_database, driver)
    appender = make_appender(event_log)
    answered = 0

    async def write() -> None:
        nonlocal answered
        while not killing.done():
            await appender.append(TENANT, texts("x"))
            answered += 1

    async def kill() -> None:
        async with AsyncMongoClient[dict[str, Any]](mongodb_database.uri) as client:
            entries = client[mongodb_database.name]["appenders"]
            for _ in range(40):
                before = answered
                async for entry in entries.find():
                    await client.admin.command({"killSessions": [{"id": s} for s in entry["sessions"]]})
                while answered < before + 4:
                    await asyncio.sleep(0)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        killing = group.create_task(kill())
        for _ in range(4):
            group.create_task(write())
    assert len(await read_all(event_log)) == answered


def _pause_and_take_away(uri: str, database: str) -> None:
    """The whole process stands still, the renewal too, while its entry goes."""
    with MongoClient[dict[str, Any]](uri) as other:
        other[database]["appenders"].delete_many({})
    end_s = time.monotonic() + FRESH_S
    while time.monotonic() < end_s:
        pass


async def test_a_session_is_registered_before_its_use_even_if_the_entry_was_taken_away(
    open_mongo: OpenMongo, mongodb_database: MongoDatabase, driver: Driver
) -> None:
    """As after a pause of the process, in which another one took it for dead."""
    event_log = await open_mongo(*mongodb_database, driver)
    async with AsyncMongoClient[dict[str, Any]](mongodb_database.uri) as client:
        entries = client[mongodb_database.name]["appenders"]
        seen: list[int] = []

        async def look() -> bool:
            entry = await entries.find_one()
            seen.append(len(entry["sessions"]) if entry else 0)
            return True

        appender = make_appender(event_log)
        for tenant in ("a", "b"):
            await appender.append(tenant, texts("x"))
            await look()
        assert seen == [1, 2]

        _pause_and_take_away(*mongodb_database)
        await appender.append("a", texts("y"))
        assert await entries.count_documents({}) == 1


async def test_an_idle_server_stops_renewing_and_a_closed_one_leaves_nothing(
    open_mongo: OpenMongo, mongodb_database: MongoDatabase, driver: Driver
) -> None:
    event_log = await open_mongo(*mongodb_database, driver)
    await make_appender(event_log).append(TENANT, texts("x"))
    renewals = [task for task in asyncio.all_tasks() if task.get_name() == "session-renewal"]
    assert len(renewals) == 1

    async def ended() -> bool:
        return renewals[0].done()

    await until(ended)
    await make_appender(event_log).append(TENANT, texts("y"))
    await event_log.aclose()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "session-renewal"]
    async with AsyncMongoClient[dict[str, Any]](mongodb_database.uri) as client:
        assert await client[mongodb_database.name]["appenders"].count_documents({}) == 0
