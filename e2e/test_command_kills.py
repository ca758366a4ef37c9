"""kill -9 of servers and of mongod while tills give commands: no document without its event, and none twice."""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import httpx2
import pytest

from e2e.actors import Follower
from e2e.command_actors import (
    Till,
    assert_each_took_effect_once,
    assert_places_agree,
    assert_repeats_are_told_the_same,
    open_shop,
    replayed,
    stored,
)
from e2e.test_kills import config_for
from sync_core.cursor import Cursor
from tests.mongod import ReplicaSet
from tests.rounds import rounds
from tests.server.commands import run
from tests.servers import SyncServer
from tests.streams import eventually, seqs

ROUNDS = rounds("KILL_ROUNDS", 3)
ROUND_S = 20  # at most, on a busy machine
TILLS = 6
PLACES = {"queueID": "queue-1", "bayID": "bay-1"}
FEED = "[feed]\nheartbeat_s = 0.5\n"

Break = Callable[[], Awaitable[None]]


def answered(tills: list[Till]) -> int:
    return sum(len(till.told) for till in tills)


def seq_of(follower: Follower) -> int:
    return -1 if follower.cursor == "earliest" else Cursor.parse(follower.cursor).seq


async def run_rounds(servers: list[SyncServer], break_it: Break, rng: random.Random) -> None:
    """Give commands and follow while *break_it* is done ROUNDS times; then everything has to agree."""
    urls = [server.base_url for server in servers]
    await open_shop(urls[0])
    tills = [Till(urls, random.Random(rng.random())) for _ in range(TILLS)]
    every, places = Follower(servers[0].port), Follower(servers[-1].port, **PLACES)
    async with asyncio.TaskGroup() as group:
        working = [group.create_task(till.run()) for till in tills]
        following = [group.create_task(follower.run()) for follower in (every, places)]
        for _ in range(ROUNDS):
            enough = answered(tills) + 60
            await eventually(lambda enough=enough: answered(tills) >= enough, timeout_s=60)
            await asyncio.sleep(rng.uniform(0, 0.1))
            await break_it()
        for till in tills:
            till.stopping = True
        await asyncio.gather(*working)
        async with httpx2.AsyncClient(base_url=urls[-1], trust_env=False) as client:
            head = Cursor.parse((await client.get("/api/v1/sync/poll")).json()["head"]).seq
        await eventually(lambda: min(map(seq_of, (every, places))) >= head, timeout_s=60)
        for task in following:
            task.cancel()
    await assert_all_is_well(urls, tills, every, places)


async def assert_all_is_well(urls: list[str], tills: list[Till], every: Follower, places: Follower) -> None:
    """Log, documents, answers and readers tell the same."""
    assert every.resets == places.resets == []
    numbers = seqs(every.envelopes)
    assert numbers == list(range(1, len(numbers) + 1))
    assert_each_took_effect_once(tills, every.envelopes)
    for url in urls:
        await assert_repeats_are_told_the_same(url, tills, sample=100)
        documents = await stored(url, {})
        assert replayed(every.envelopes) == documents
        assert replayed(places.envelopes) == await stored(url, PLACES)
        assert_places_agree(documents)
    sends = sum(one.sends for till in tills for one in till.told.values())
    done = sum(one.status < 300 for till in tills for one in till.told.values())
    print(f"{answered(tills)} commands, {done} done, {sends} sends, {len(numbers)} events, {every.lives} lives")


async def verified(server: SyncServer) -> None:
    """``sync-server verify``, beside the running server, finds no difference."""
    done = await asyncio.to_thread(partial(run, "verify", cwd=server.directory))
    assert "no difference" in done.stdout
    assert "Traceback" not in server.log_text()


async def restart(server: SyncServer) -> None:
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)


@pytest.mark.timeout(120 + ROUND_S * ROUNDS)
async def test_server_killed_under_commands(tmp_path: Path) -> None:
    rng = random.Random(os.environ.get("SYNC_TEST_SEED"))
    with SyncServer(tmp_path, config=FEED) as server:
        await run_rounds([server], partial(restart, server), rng)
        await verified(server)


@pytest.mark.timeout(120 + ROUND_S * ROUNDS)
async def test_one_of_two_servers_or_mongod_killed_under_commands(tmp_path: Path) -> None:
    rng = random.Random(os.environ.get("SYNC_TEST_SEED"))
    with ReplicaSet() as replicas:
        config = FEED + config_for(replicas.uri, "chaos")
        one, two = (SyncServer(tmp_path / name, config=config) for name in ("one", "two"))

        async def restart_mongod() -> None:
            (node,) = replicas.nodes
            await asyncio.to_thread(node.kill)
            await asyncio.to_thread(node.start)
            await asyncio.to_thread(replicas.wait_primary)

        breaks: list[Break] = [restart_mongod, partial(restart, one), partial(restart, two)]
        order = rng.sample(breaks, len(breaks)) * ROUNDS

        with one, two:
            await run_rounds([one, two], lambda: order.pop()(), rng)
            await verified(one)
            assert "Traceback" not in two.log_text()
