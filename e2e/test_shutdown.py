"""SIGTERM: every reader is told, the closes are spread, requests finish, the process ends in time."""

import asyncio
import json
import time
from pathlib import Path

import httpx2
import pytest

from e2e.test_kills import config_for
from tests.mongod import ReplicaSet
from tests.servers import SyncServer
from tests.streams import Stream, stream

READERS = 500
DRAIN_S = 4


async def hold(port: int, ready: asyncio.Event, opened: list[Stream]) -> tuple[str, float]:
    """Read until the server ends the stream; the goodbye's reason, and when it came (monotonic)."""
    async with stream(port) as reader:
        await reader.until("caught_up")
        opened.append(reader)
        if len(opened) == READERS:
            ready.set()
        goodbye = await reader.until("goodbye", timeout_s=60)
        told_s = time.monotonic()
        await reader.until_closed()
        assert 100 <= (reader.decoder.retry_ms or 0) <= 1000
        return json.loads(goodbye.data)["reason"], told_s


@pytest.mark.timeout(120)
async def test_sigterm_with_500_open_streams(tmp_path: Path) -> None:
    with SyncServer(tmp_path, config=f"[server]\ndrain_s = {DRAIN_S}\n") as server:
        ready = asyncio.Event()
        opened: list[Stream] = []
        holding = [asyncio.create_task(hold(server.port, ready, opened)) for _ in range(READERS)]
        await asyncio.wait_for(ready.wait(), 60)
        began_s = time.monotonic()
        ending = asyncio.create_task(asyncio.to_thread(server.terminate))
        results = await asyncio.gather(*holding)
        status = await ending
        took_s = time.monotonic() - began_s
        assert status == 0
        assert took_s < DRAIN_S + 2
        assert {reason for reason, _ in results} == {"shutdown"}
        times = sorted(told_s - began_s for _, told_s in results)
        # Spread, not all at once: each third of the drain window sees its share.
        assert times[READERS // 3] > 0.15 * DRAIN_S
        assert times[2 * READERS // 3] > 0.35 * DRAIN_S
        assert "Traceback" not in server.log_text()


async def test_while_draining_it_is_not_ready_and_takes_no_readers(tmp_path: Path) -> None:
    with SyncServer(tmp_path, config="[server]\ndrain_s = 5\n") as server:
        # Both connections exist before the signal: new ones are still taken until the readers are gone.
        async with (
            httpx2.AsyncClient(base_url=server.base_url, trust_env=False) as client,
            stream(server.port) as first,
            stream(server.port) as second,
        ):
            await first.until("caught_up")
            await second.until("caught_up")
            ending = asyncio.create_task(asyncio.to_thread(server.terminate))
            while (ready := await client.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.01)
            assert ready.status_code == 503
            assert ready.json()["draining"] is True
            assert (await client.get("/healthz")).status_code == 200
            refused = await client.get("/api/v1/sync/events")
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            await first.until("goodbye")
            await second.until("goodbye")
        assert await ending == 0


async def test_a_publish_under_way_is_finished(tmp_path: Path) -> None:
    """A request whose body is still coming when the signal comes is answered before the process ends."""
    body = json.dumps({"eventType": "stage_change", "data": {"newStage": "x"}}).encode()
    with SyncServer(tmp_path, config="[server]\ndrain_s = 5\n") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /api/v1/sync/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body[:10])
        await writer.drain()
        async with stream(server.port) as opened:
            await opened.until("caught_up")
            ending = asyncio.create_task(asyncio.to_thread(server.terminate))
            await opened.until("goodbye")
            writer.write(body[10:])
            await writer.drain()
            answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 201")
        assert await ending == 0


@pytest.mark.timeout(120)
async def test_a_log_that_hangs_does_not_hold_the_process(tmp_path: Path) -> None:
    with (
        ReplicaSet() as replicas,
        SyncServer(tmp_path, config="[server]\ndrain_s = 1\n" + config_for(replicas.uri, "hanging")) as server,
    ):
        async with httpx2.AsyncClient(base_url=server.base_url, trust_env=False, timeout=30) as client:
            event = {"eventType": "stage_change", "data": {"newStage": "x"}}
            assert (await client.post("/api/v1/sync/events", json=event)).status_code == 201
            await asyncio.to_thread(replicas.nodes[0].stop_signal)
            publishing = asyncio.create_task(client.post("/api/v1/sync/events", json=event))
            await asyncio.sleep(0.2)  # let it get into the commit that hangs
            began_s = time.monotonic()
            status = await asyncio.to_thread(server.terminate)
            took_s = time.monotonic() - began_s
            await asyncio.to_thread(replicas.nodes[0].cont)
            answer = await publishing
        assert status == 0
        assert took_s < 1 + 2
        assert (answer.status_code, answer.json()["type"]) == (503, "outcome-unknown")
        assert "Traceback" not in server.log_text()
