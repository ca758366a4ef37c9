"""Several server processes over one MongoDB: one feed."""

import asyncio
import os
import re
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest

from e2e.actors import Follower, Publisher, assert_nothing_lost
from e2e.test_kills import config_for, has_acknowledged
from tests.fixtures import MongoDatabase
from tests.servers import SyncServer, wait_until
from tests.streams import Stream, eventually, seqs, stream

CUSTOM = '[events]\ncustom = [{name = "typing", delivery = "ephemeral"}]\n'
EVENT = {"eventType": "stage_change", "data": {"newStage": "x"}, "orderID": "A"}


def two_workers(directory: Path, database: MongoDatabase, more: str = "") -> SyncServer:
    config = more + config_for(database.uri, database.name)
    return SyncServer(directory, config=config, options=["--workers", "2"])


def worker_pids(server: SyncServer) -> list[int]:
    return [int(pid) for pid in re.findall(r"event='serving'.* pid=(\d+)", server.log_text())]


async def test_events_published_in_one_process_reach_the_readers_of_all(
    tmp_path: Path, mongodb_database: MongoDatabase
) -> None:
    one = SyncServer(tmp_path / "one", config=CUSTOM + config_for(mongodb_database.uri, mongodb_database.name))
    two = SyncServer(tmp_path / "two", config=CUSTOM + config_for(mongodb_database.uri, mongodb_database.name))
    with one, two:
        async with stream(one.port) as first, stream(two.port) as second, AsyncExitStack() as stack:
            await first.until("caught_up")
            await second.until("caught_up")
            clients = [
                await stack.enter_async_context(httpx2.AsyncClient(base_url=server.base_url, trust_env=False))
                for server in (one, two)
            ]
            for n in range(40):
                reply = await clients[n % 2].post("/api/v1/sync/events", json=EVENT)
                assert reply.status_code == 201
            reply = await clients[0].post("/api/v1/sync/events", json={"eventType": "typing", "data": {}})
            assert reply.json() == {"events": [{"id": None, "eventType": "typing", "duplicate": False}]}
            await first.until("typing")
            await second.until("typing")

            def complete(opened: Stream) -> bool:
                return seqs([e for e in opened.envelopes if "id" in e]) == list(range(1, 41))

            while not (complete(first) and complete(second)):
                await (first if not complete(first) else second).next()


async def test_a_cursor_from_a_process_that_is_ahead_is_no_reset(
    tmp_path: Path, mongodb_database: MongoDatabase
) -> None:
    """What one process has shown is taken by another at once, however soon the reader comes there."""
    config = config_for(mongodb_database.uri, mongodb_database.name)
    with SyncServer(tmp_path / "one", config=config) as one, SyncServer(tmp_path / "two", config=config) as two:
        async with httpx2.AsyncClient(base_url=one.base_url, trust_env=False) as client, stream(two.port):
            for _ in range(50):
                reply = await client.post("/api/v1/sync/events", json=EVENT)
                event_id = reply.json()["events"][0]["id"]
                async with stream(two.port, last_event_id=event_id) as moved:
                    await moved.until("caught_up")
                    assert [e.event for e in moved.seen] == ["connected", "caught_up"]
                    assert moved.decoder.last_event_id == event_id


@pytest.mark.timeout(180)
async def test_a_worker_that_dies_is_replaced_and_nothing_is_lost(
    tmp_path: Path, mongodb_database: MongoDatabase
) -> None:
    with two_workers(tmp_path, mongodb_database) as server:
        await eventually(lambda: len(worker_pids(server)) == 2, timeout_s=30)
        publishers = [Publisher(server.base_url, f"till-{n}") for n in range(3)]
        followers = [Follower(server.port) for _ in range(4)]
        async with asyncio.TaskGroup() as group:
            publishing = [group.create_task(publisher.run()) for publisher in publishers]
            following = [group.create_task(follower.run()) for follower in followers]
            for round_number in range(3):
                enough = sum(len(p.acknowledged) for p in publishers) + 50
                await eventually(lambda enough=enough: has_acknowledged(publishers, enough), timeout_s=60)
                os.kill(worker_pids(server)[-1], signal.SIGKILL)
                await eventually(lambda n=round_number: len(worker_pids(server)) == 3 + n, timeout_s=30)
            for publisher in publishers:
                publisher.stopping = True
            await asyncio.gather(*publishing)
            ids = [event_id for p in publishers for event_id in p.acknowledged.values()]
            last = max(ids, key=lambda event_id: int(event_id.partition(".")[2]))
            await eventually(lambda: all(follower.has(last) for follower in followers), timeout_s=60)
            for task in following:
                task.cancel()
        assert_nothing_lost(publishers, followers)
        assert server.terminate() == 0
        assert "Traceback" not in server.log_text()


async def test_metrics_are_those_of_all_workers_together(tmp_path: Path, mongodb_database: MongoDatabase) -> None:
    with two_workers(tmp_path, mongodb_database) as server:
        await eventually(lambda: len(worker_pids(server)) == 2, timeout_s=30)
        async with AsyncExitStack() as stack:
            for _ in range(12):
                opened = await stack.enter_async_context(stream(server.port))
                await opened.until("caught_up")
            async with httpx2.AsyncClient(base_url=server.base_url, trust_env=False) as client:
                text = (await client.get("/metrics")).text
            assert "\nsync_readers 12.0\n" in text
            for pid in worker_pids(server):
                os.kill(pid, signal.SIGKILL)
        # The dead are not counted: their readers are gone.
        await eventually(lambda: len(worker_pids(server)) == 4, timeout_s=30)
        async with httpx2.AsyncClient(base_url=server.base_url, trust_env=False) as client:
            await eventually(lambda: server.get("/readyz") == 200, timeout_s=30)
            assert "\nsync_readers 12.0\n" not in (await client.get("/metrics")).text
        assert server.terminate() == 0


def test_no_worker_is_left_when_the_supervisor_is_killed(tmp_path: Path, mongodb_database: MongoDatabase) -> None:
    with two_workers(tmp_path, mongodb_database, "[server]\ndrain_s = 1\n") as server:
        wait_until(lambda: len(worker_pids(server)) == 2)
        pids = worker_pids(server)
        server.process.kill()
        server.process.wait()

        def gone(pid: int) -> bool:
            try:
                return b"sync_server" not in Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                return True

        wait_until(lambda: all(map(gone, pids)), timeout_s=20, what="the end of the workers")
