"""Sockets of a real server process, and the command line over one."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from sync_client import SyncClient
from sync_server.console.talk import server_url
from sync_server.settings import Settings
from tests.access.credentials import token
from tests.server.test_tls import settings
from tests.servers import SyncServer
from tests.serving import stage_change
from tests.sockets.client import refused, socket
from tests.streams import eventually

__all__ = ["settings"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SyncServer]:
    with SyncServer(tmp_path, config="[server]\ndrain_s = 1\n") as server:
        yield server
        assert "Traceback" not in server.log_text()


async def publish(server: SyncServer, *numbers: int) -> None:
    async with httpx2.AsyncClient(base_url=server.base_url, trust_env=False) as http:
        body = {"events": [stage_change(n) for n in numbers]}
        assert (await http.post("/api/v1/sync/events", json=body)).status_code == 201


@pytest.mark.alone
async def test_sigterm_says_goodbye_to_sockets_and_the_process_ends_in_time(server: SyncServer) -> None:
    async with socket(server.port) as first, socket(server.port) as second:
        for client in (first, second):
            await client.until("caught_up")
        began_s = time.monotonic()
        ending = asyncio.create_task(asyncio.to_thread(server.terminate))
        for client in (first, second):
            assert await client.end() == (1001, "")
            assert client.seen[-1]["data"]["reason"] == "shutdown"
        assert await ending == 0
        assert time.monotonic() - began_s < 3


async def test_a_refusal_leaves_no_trace_in_the_log(server: SyncServer) -> None:
    assert (await refused(server.port, ticket="secret-ticket"))[0] == 400
    assert (await refused(server.port, "/nowhere"))[0] == 404
    assert (await refused(server.port, headers={"Origin": "http://evil.example"}))[0] == 403
    async with socket(server.port) as client:
        await client.say("nonsense")
        await client.until("error")
    log = server.log_text()
    assert "secret-ticket" not in log
    assert "error" not in log.lower()


async def test_watch_shows_events_that_came_by_a_socket(server: SyncServer) -> None:
    await publish(server, 1, 2, 3)
    command = [sys.executable, "-c", "from sync_client.cli import main; main()", "watch", server.base_url]
    watching = await asyncio.create_subprocess_exec(
        *command, "--transport", "ws", "--from", "earliest", "--count", "3", stdout=asyncio.subprocess.PIPE
    )
    shown, _ = await asyncio.wait_for(watching.communicate(), 30)
    assert watching.returncode == 0
    assert [json.loads(line)["data"]["n"] for line in shown.splitlines()] == [1, 2, 3]
    async with httpx2.AsyncClient(base_url=server.base_url, trust_env=False) as http:
        assert 'sync_sockets{path="/api/v1/sync/ws"} 0.0' in (await http.get("/metrics")).text


async def test_over_tls_too(settings: Settings) -> None:
    given = {"transport": "ws", "cache": False, "trust_env": False, "token": token("viewer")}
    async with SyncClient(server_url(settings), verify_tls=False, **given) as client:
        await eventually(lambda: client.health.transport == "ws")
    async with SyncClient(server_url(settings), **given) as client:  # nobody vouches for its certificate
        await eventually(lambda: "certificate" in client.health.last_error.lower())
        assert client.health.transport is None
