"""The log is not there: at start, and later. Readers keep their streams and are told how old the data is."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest

from e2e.test_kills import config_for
from tests.mongod import HOST, Node, ReplicaSet
from tests.mongod_binary import find_mongod
from tests.servers import SyncServer
from tests.streams import Stream, eventually, stream

EVENT = {"eventType": "stage_change", "data": {"newStage": "x"}, "orderID": "A"}


async def publish(server: SyncServer) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=server.base_url, timeout=30, trust_env=False) as client:
        return await client.post("/api/v1/sync/events", json=EVENT)


async def tail_age_ms(opened: Stream) -> int:
    return int(json.loads((await opened.until("heartbeat")).data)["tailAgeMs"])


@pytest.mark.timeout(180)
async def test_mongod_away_for_a_while(tmp_path: Path) -> None:
    with ReplicaSet() as replicas:
        config = config_for(replicas.uri, "outage") + "[feed]\nheartbeat_s = 4\n"
        with SyncServer(tmp_path, config=config) as server:
            async with stream(server.port) as opened:
                await opened.until("caught_up")
                assert (await publish(server)).status_code == 201
                await opened.until("stage_change")
                await asyncio.to_thread(replicas.nodes[0].kill)
                publishing = asyncio.create_task(publish(server))
                first = await tail_age_ms(opened)
                assert await tail_age_ms(opened) > first
                assert server.get("/readyz") == 503
                assert server.get("/healthz") == 200
                refused = await publishing
                assert refused.status_code == 503
                assert int(refused.headers["retry-after"]) > 0
                assert refused.headers["content-type"] == "application/problem+json"
                await asyncio.to_thread(replicas.nodes[0].start)
                await asyncio.to_thread(replicas.wait_primary)
                await eventually(lambda: server.get("/readyz") == 200, timeout_s=20)
                assert (await publish(server)).status_code == 201
                await opened.until("stage_change")  # on the same stream
                assert await tail_age_ms(opened) < 3000
            assert server.log_text().count("log_unavailable") == 1  # one warning per outage
            assert "Traceback" not in server.log_text()


@pytest.mark.timeout(180)
async def test_readers_are_sent_away_when_the_log_stays_away(tmp_path: Path) -> None:
    with ReplicaSet() as replicas:
        config = config_for(replicas.uri, "outage") + "[feed]\nheartbeat_s = 0.5\n"
        with SyncServer(tmp_path, config=config) as server:
            async with AsyncExitStack() as stack:
                readers = [await stack.enter_async_context(stream(server.port)) for _ in range(120)]
                await asyncio.to_thread(replicas.nodes[0].kill)
                began_s = asyncio.get_running_loop().time()
                told = [asyncio.create_task(reader.until("goodbye", timeout_s=100)) for reader in readers]
                # Spread over a minute: some are told soon, but far from all.
                done, waiting = await asyncio.wait(told, timeout=8)
                assert 1 <= len(done) <= 60
                for task in waiting:
                    task.cancel()
                for task in done:
                    assert json.loads(task.result().data) == {"reason": "log_unavailable"}
                assert asyncio.get_running_loop().time() - began_s < 12
                retry_ms = {reader.decoder.retry_ms for reader in readers if reader.seen[-1].event == "goodbye"}
                assert all(10_000 <= (ms or 0) <= 30_000 for ms in retry_ms)
            async with stream(server.port) as refused:
                assert refused.status == 503
                assert int(refused.headers["retry-after"]) > 0


@pytest.mark.timeout(180)
async def test_mongod_not_there_at_start(tmp_path: Path) -> None:
    with ReplicaSet() as replicas:
        await asyncio.to_thread(replicas.nodes[0].kill)
        server = SyncServer(tmp_path, config=config_for(replicas.uri, "outage"))
        try:
            await asyncio.to_thread(server.start, ready=False)
            await eventually(lambda: server.get("/healthz") == 200, timeout_s=60)
            assert server.get("/readyz") == 503
            async with stream(server.port) as opened:
                assert opened.status == 503
                assert int(opened.headers["retry-after"]) > 0
            assert (await publish(server)).status_code == 503
            assert "log_unavailable" in server.log_text()
            await asyncio.to_thread(replicas.nodes[0].start)
            await asyncio.to_thread(server.wait_ready)
            assert (await publish(server)).status_code == 201
        finally:
            server.close()
        assert "Traceback" not in server.log_text()


def test_a_mongod_that_is_no_replica_set_ends_the_start_with_what_to_do(tmp_path: Path) -> None:
    binary = find_mongod()
    assert binary is not None
    node = Node(binary, tmp_path / "node", options=["--bind_ip", HOST, "--nounixsocket"])
    server = SyncServer(tmp_path / "server", config=config_for(f"mongodb://{node.address}", "alone"))
    try:
        node.start()
        server.start(ready=False)
        assert server.wait() == 2
        assert "rs.initiate" in server.log_text()
        assert "Traceback" not in server.log_text()
    finally:
        server.close()
        node.close()
