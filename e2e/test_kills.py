"""kill -9 of the server, and of mongod, in the middle of publishing: nothing acknowledged is lost or doubled."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from e2e.actors import Follower, Publisher, assert_nothing_lost
from tests.fixtures import MongoDatabase
from tests.mongod import ReplicaSet
from tests.rounds import rounds
from tests.servers import SyncServer
from tests.streams import eventually

SERVER_ROUNDS = rounds("ROUNDS", 8)
MONGOD_ROUNDS = rounds("ROUNDS", 6)
PRIMARY_ROUNDS = rounds("KILL_ROUNDS", 1)
ROUND_S = 20  # at most, on a busy machine

Break = Callable[[], Awaitable[None]]


def config_for(uri: str, database: str, driver: str = "pymongo") -> str:
    return f'[log]\nstore = "mongodb"\n[log.mongodb]\nuri = "{uri}"\ndatabase = "{database}"\ndriver = "{driver}"\n'


def has_acknowledged(publishers: list[Publisher], count: int) -> bool:
    return sum(len(publisher.acknowledged) for publisher in publishers) >= count


async def run_rounds(server: SyncServer, break_it: Break, *, count: int) -> tuple[list[Publisher], list[Follower]]:
    """Publish and follow while *break_it* is done *count* times; then until all have seen all."""
    publishers = [Publisher(server.base_url, f"till-{n}") for n in range(4)]
    followers = [Follower(server.port) for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        publishing = [group.create_task(publisher.run()) for publisher in publishers]
        following = [group.create_task(follower.run()) for follower in followers]
        for _ in range(count):
            enough = sum(len(p.acknowledged) for p in publishers) + 20
            await eventually(partial(has_acknowledged, publishers, enough), timeout_s=60)
            await asyncio.sleep(random.uniform(0, 0.05))
            await break_it()
        for publisher in publishers:
            publisher.stopping = True
        await asyncio.gather(*publishing)
        last = max((i for p in publishers for i in p.acknowledged.values()), key=lambda i: int(i.partition(".")[2]))
        await eventually(lambda: all(follower.has(last) for follower in followers), timeout_s=60)
        for task in following:
            task.cancel()
    return publishers, followers


@pytest.mark.timeout(120 + ROUND_S * SERVER_ROUNDS)
@pytest.mark.parametrize("store", ["sqlite", "mongodb"])
async def test_server_killed_while_publishing(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    config = ""
    if store == "mongodb":
        database: MongoDatabase = request.getfixturevalue("mongodb_database")
        config = config_for(database.uri, database.name)
    with SyncServer(tmp_path, config=config) as server:

        async def kill_and_restart() -> None:
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)

        publishers, followers = await run_rounds(server, kill_and_restart, count=SERVER_ROUNDS)
        assert "Traceback" not in server.log_text()
    assert_nothing_lost(publishers, followers)
    assert all(follower.lives > SERVER_ROUNDS / 2 for follower in followers)


@pytest.mark.timeout(120 + ROUND_S * MONGOD_ROUNDS)
async def test_mongod_killed_and_restarted_while_publishing(tmp_path: Path) -> None:
    with ReplicaSet() as replicas, SyncServer(tmp_path, config=config_for(replicas.uri, "chaos")) as server:
        node = replicas.nodes[0]

        async def kill_and_restart() -> None:
            await asyncio.to_thread(node.kill)
            await asyncio.to_thread(node.start)
            await asyncio.to_thread(replicas.wait_primary)

        publishers, followers = await run_rounds(server, kill_and_restart, count=MONGOD_ROUNDS)
        assert "Traceback" not in server.log_text()
    assert_nothing_lost(publishers, followers)


@pytest.mark.timeout(120 + ROUND_S * PRIMARY_ROUNDS)
async def test_primary_of_three_killed_while_publishing(tmp_path: Path, replica_set: ReplicaSet) -> None:
    elections_s: list[float] = []
    with SyncServer(tmp_path, config=config_for(replica_set.uri, "failover")) as server:

        async def kill_primary() -> None:
            node = await asyncio.to_thread(replica_set.primary)
            killed_s = time.monotonic()
            await asyncio.to_thread(node.kill)
            await asyncio.to_thread(replica_set.wait_primary)
            elections_s.append(time.monotonic() - killed_s)
            await asyncio.to_thread(node.start)
            await asyncio.to_thread(replica_set.wait_members)

        publishers, followers = await run_rounds(server, kill_primary, count=PRIMARY_ROUNDS)
        assert "Traceback" not in server.log_text()
    assert_nothing_lost(publishers, followers)
    # The election takes 2 to 3 s with the harness's settings; publishing goes on by itself at once.
    stalled_s = max(publisher.longest_stall_s for publisher in publishers)
    assert stalled_s < max(elections_s) + 2
