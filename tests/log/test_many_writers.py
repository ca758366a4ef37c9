"""Many server processes write to one tenant while others follow it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from sync_server.log.base import Bell, EventLog
from sync_server.log.mongo_driver import Driver
from tests.fixtures import MongoDatabase
from tests.log.conftest import OpenMongo, rounds
from tests.log.writes import TENANT, seqs, text_of

PROCESSES, WRITERS_EACH = 4, 2
Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def start_writer(mongodb_database: MongoDatabase, driver: Driver) -> AsyncIterator[Start]:
    """Starts a process with the writers *names*, each for *count* events; killed if it is still there."""
    async with AsyncExitStack() as stack:

        async def start(names: list[str], count: int) -> asyncio.subprocess.Process:
            argv = ["-m", "tests.log.writer_process", *mongodb_database, driver, ",".join(names), str(count)]
            process = await asyncio.create_subprocess_exec(sys.executable, *argv)

            async def end() -> None:
                if process.returncode is None:
                    process.kill()
                await process.wait()

            stack.push_async_callback(end)
            return process

        yield start


async def follow(event_log: EventLog, total: int, *, page: int) -> list[str]:
    """All texts, read by polling; each page must go on where the last one ended."""
    rows: list[str] = []
    while len(rows) < total:
        events = await event_log.read(TENANT, after=len(rows), limit=page)
        assert seqs(events) == list(range(len(rows) + 1, len(rows) + 1 + len(events)))
        rows += map(text_of, events)
        if not events:
            await asyncio.sleep(0.005)
    return rows


async def follow_by_bell(event_log: EventLog, total: int) -> list[str]:
    """All texts, read when the doorbell rings, and as far as it says."""
    rows: list[str] = []
    async for wakeup in event_log.wakeups():
        assert isinstance(wakeup, Bell)
        while events := await event_log.read(TENANT, after=len(rows), limit=500):
            assert seqs(events) == list(range(len(rows) + 1, len(rows) + 1 + len(events)))
            rows += map(text_of, events)
        assert wakeup.head is None or len(rows) >= wakeup.head
        if len(rows) >= total:
            break
    return rows


async def test_every_reader_sees_every_event_once_and_in_order(
    open_mongo: OpenMongo, mongodb_database: MongoDatabase, driver: Driver, start_writer: Start
) -> None:
    count = rounds("EVENTS_PER_WRITER", 2000)
    writers = [f"w{i}" for i in range(PROCESSES * WRITERS_EACH)]
    total = len(writers) * count
    logs = [await open_mongo(*mongodb_database, driver) for _ in range(4)]
    await logs[0].ensure(TENANT)
    async with asyncio.timeout(110), asyncio.TaskGroup() as group:
        processes = [
            await start_writer(writers[i : i + WRITERS_EACH], count) for i in range(0, len(writers), WRITERS_EACH)
        ]
        readers = [
            group.create_task(follow(logs[0], total, page=1000)),
            group.create_task(follow(logs[1], total, page=7 if count < 500 else 101)),
            group.create_task(follow_by_bell(logs[2], total)),
            group.create_task(follow_by_bell(logs[3], total)),
        ]
        assert [await process.wait() for process in processes] == [0] * PROCESSES
    first, *others = (reader.result() for reader in readers)
    assert all(rows == first for rows in others)
    assert len(first) == total
    for writer in writers:
        assert [text for text in first if text.startswith(f"{writer}.")] == [f"{writer}.{i}" for i in range(count)]
