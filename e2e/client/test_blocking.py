"""The client for programs without asyncio."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from e2e.client.harness import stage_change
from sync_client import CacheLocked, Closed, ConfigurationError, Event, State, Transaction
from sync_client.blocking import SyncClient
from tests.servers import SyncServer


@pytest.fixture
def publish(running_server: SyncServer) -> Callable[[int], None]:
    def send(count: int) -> None:
        events = [stage_change(n) for n in range(count)]
        url = f"{running_server.base_url}/api/v1/sync/events"
        assert httpx2.post(url, json={"events": events}, trust_env=False).status_code == 201

    return send


def make(server: SyncServer, tmp_path: Path, **options: Any) -> SyncClient:
    return SyncClient(server.base_url, client_name="kiosk", cache_dir=tmp_path, trust_env=False, **options)


def process_until(client: SyncClient, condition: Callable[[], Any]) -> None:
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s
        client.process()


def test_callbacks_run_in_the_thread_that_drains(
    running_server: SyncServer, tmp_path: Path, publish: Callable[[int], None]
) -> None:
    got: list[tuple[int, str]] = []
    states: list[State] = []
    client = make(running_server, tmp_path)
    client.on("stage_change")(lambda event: got.append((event.data["n"], threading.current_thread().name)))
    # Before the start: a client that connects at once has no change to tell afterwards.
    client.on_state_change(lambda change: states.append(change.after))
    with client:
        client.wait_for(State.CONNECTED, timeout_s=10)
        publish(50)
        process_until(client, lambda: len(got) == 50)
        process_until(client, lambda: State.CONNECTED in states)
    assert got == [(n, threading.current_thread().name) for n in range(50)]
    assert State.CONNECTED in states


def test_an_event_whose_callback_did_not_run_comes_again(
    running_server: SyncServer, tmp_path: Path, publish: Callable[[int], None]
) -> None:
    first: list[Event] = []
    client = make(running_server, tmp_path)
    client.on("stage_change")(first.append)
    client.start()
    client.wait_for(State.CONNECTED, timeout_s=10)
    publish(3)
    end_s = time.monotonic() + 10
    while client.health.queue_depth < 3:
        assert time.monotonic() < end_s
        time.sleep(0.01)
    client.close()
    assert first == []
    again: list[Event] = []
    with make(running_server, tmp_path) as client:
        client.on("stage_change")(again.append)
        process_until(client, lambda: len(again) == 3)


def test_a_callback_that_raises_is_repeated(
    running_server: SyncServer, tmp_path: Path, publish: Callable[[int], None]
) -> None:
    calls: list[int] = []

    def shaky(event: Event) -> None:
        calls.append(event.data["n"])
        if len(calls) == 1:
            raise ValueError

    with make(running_server, tmp_path) as client:
        client.on("stage_change")(shaky)
        client.wait_for(State.CONNECTED, timeout_s=10)
        publish(2)
        process_until(client, lambda: calls == [0, 0, 1])
        assert client.metrics.handler_errors == 1


def test_events_can_be_iterated(running_server: SyncServer, tmp_path: Path, publish: Callable[[int], None]) -> None:
    with make(running_server, tmp_path) as client:
        client.wait_for(State.CONNECTED, timeout_s=10)
        publish(5)
        seen = [event.data["n"] for event in client.events(timeout_s=1)]
    assert seen == [0, 1, 2, 3, 4]


def test_transactional_handlers_and_values(
    running_server: SyncServer, tmp_path: Path, publish: Callable[[int], None]
) -> None:
    with make(running_server, tmp_path) as client:

        @client.on("stage_change", transactional=True)
        def count(event: Event, tx: Transaction) -> None:
            tx.put("count", tx.get("count", 0) + 1)

        client.wait_for(State.CONNECTED, timeout_s=10)
        publish(7)
        process_until(client, lambda: client.value("count") == 7)
        assert client.export()["version"] == "1.0.0"
        assert client.acknowledge(client.recent(1)[0])


def test_async_callbacks_are_refused(running_server: SyncServer, tmp_path: Path) -> None:
    async def handler(event: Event) -> None: ...

    client = make(running_server, tmp_path)
    with pytest.raises(ConfigurationError):
        client.on("x")(handler)
    client.close()


def test_close_leaves_no_thread_and_is_final(running_server: SyncServer, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    client = make(running_server, tmp_path)
    client.start()
    client.wait_for(State.CONNECTED, timeout_s=10)
    began_s = time.monotonic()
    client.close()
    assert time.monotonic() - began_s < 1.5
    client.close()
    assert set(threading.enumerate()) - before == set()
    with pytest.raises(Closed):
        client.start()


def test_a_locked_cache_is_told_at_the_start(running_server: SyncServer, tmp_path: Path) -> None:
    with make(running_server, tmp_path):
        other = make(running_server, tmp_path)
        with pytest.raises(CacheLocked):
            other.start()


SCRIPT = """
import sys
from sync_client.blocking import SyncClient
from sync_client import State
with SyncClient(sys.argv[1], client_name="dev", cache_dir=sys.argv[2], trust_env=False) as client:
    client.on()(print)
    client.wait_for(State.CONNECTED, timeout_s=20)
    client.process()
never = SyncClient(sys.argv[1], client_name="never", cache_dir=sys.argv[2])
never.close()
"""


def test_it_works_in_development_mode_without_a_warning(running_server: SyncServer, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT, running_server.base_url, str(tmp_path)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    # Development mode tells of callbacks that took long, which says something about this machine only.
    told = [line for line in done.stderr.splitlines() if "took" not in line]
    assert (done.returncode, told) == (0, [])


def test_it_does_not_mind_a_loop_in_the_callers_thread(running_server: SyncServer, tmp_path: Path) -> None:
    async def inside() -> State:
        with make(running_server, tmp_path) as client:
            return client.wait_for(State.CONNECTED, timeout_s=10)

    assert asyncio.run(inside()) is State.CONNECTED
