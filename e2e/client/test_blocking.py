"""The client for programs without asyncio."""

import asyncio
import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2
import pytest

from e2e.client.harness import stage_change
from sync_client import CacheLocked, ClientError, Closed, ConfigurationError, Event, HandlerPolicy, State, Transaction
from sync_client import SyncClient as AsyncClient
from sync_client.backoff import Backoff
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


# -- everything the other client has ----------------------------------------------------------------------

NOT_HERE: set[str] = set()
"""Public names of the async client that have no sense without asyncio."""


def public(client: object) -> dict[str, set[str]]:
    """Each public name, with its parameters if it is called."""
    found = {name: inspect.getattr_static(client, name) for name in dir(client) if not name.startswith("_")}
    return {name: set(inspect.signature(it).parameters) - {"self"} if callable(it) else set()
            for name, it in found.items()}  # fmt: skip


def test_it_has_every_public_name_of_the_async_client_with_every_parameter() -> None:
    blocking, other = SyncClient("http://127.0.0.1:9"), AsyncClient("http://127.0.0.1:9")
    ours, theirs = public(blocking), public(other)
    assert set(theirs) - set(ours) == NOT_HERE
    assert {name: missing for name in theirs if name in ours and (missing := theirs[name] - ours[name])} == {}
    assert len(theirs) > 25
    assert theirs["on_dashboard_change"] >= {"debounce_s", "at_most_s"}
    blocking.close()


def test_what_it_tells_is_what_the_async_client_tells(
    running_server: SyncServer, tmp_path: Path, publish: Callable[[int], None]
) -> None:
    with make(running_server, tmp_path) as client:
        client.wait_for(State.CONNECTED, timeout_s=10)
        process_until(client, lambda: client.cursor)
        before = client.cursor
        publish(3)
        process_until(client, lambda: client.health.queue_depth == 3 and client.cursor != before)
        assert not client.idle
        assert client.client_id.startswith("kiosk#")
        assert client.machine.state is State.CONNECTED
        assert [change.after for change in client.transitions] == [State.CONNECTING, State.CONNECTED]
        assert client.errors == []
        assert client.parked() == []
        assert (client.base_url, client.options.client_name) == (running_server.base_url, "kiosk")
    assert client.state is State.CLOSED
    assert client.metrics.total_events == 3


def test_a_transactional_handler_of_one_order_and_a_dashboard_with_a_bound(
    running_server: SyncServer, tmp_path: Path, publish: Callable[[int], None]
) -> None:
    refreshes: list[str] = []
    with make(running_server, tmp_path) as client:

        @client.on_order("ORDER-001", transactional=True)
        def count(event: Event, tx: Transaction) -> None:
            tx.put("count", tx.get("count", 0) + 1)

        @client.on_dashboard_change(debounce_s=60, at_most_s=0.05)
        def refresh() -> None:
            refreshes.append(threading.current_thread().name)

        client.wait_for(State.CONNECTED, timeout_s=10)
        publish(3)
        process_until(client, lambda: client.value("count") == 3 and refreshes)
    assert refreshes == [threading.current_thread().name]


# -- callbacks that go wrong ------------------------------------------------------------------------------

QUICK = HandlerPolicy(retries=1, backoff=Backoff(base_s=0.001, cap_s=0.002))


def test_a_state_listener_that_raises_is_counted_and_breaks_nothing(running_server: SyncServer, tmp_path: Path) -> None:
    states: list[State] = []
    client = make(running_server, tmp_path)

    @client.on_state_change
    def broken(change: Any) -> None:
        raise ValueError

    client.on_state_change(lambda change: states.append(change.after))
    with client:
        process_until(client, lambda: State.CONNECTED in states)
        assert client.metrics.handler_errors == len(states) == 2


@pytest.mark.parametrize("exc", [StopIteration, ValueError])
def test_whatever_a_callback_raises_delivery_goes_on(
    running_server: SyncServer, tmp_path: Path, publish: Callable[[int], None], exc: type[Exception]
) -> None:
    calls: list[int] = []
    with make(running_server, tmp_path, handler_policy=QUICK) as client:

        @client.on("stage_change")
        def broken(event: Event) -> None:
            calls.append(event.data["n"])
            if calls[-1] == 0:
                raise exc

        client.wait_for(State.CONNECTED, timeout_s=10)
        publish(2)
        process_until(client, lambda: calls == [0, 0, 1])
        process_until(client, lambda: client.idle)
        assert [event.data["n"] for event in client.parked()] == [0]


def test_an_interrupted_callback_ends_process_and_is_called_again(
    running_server: SyncServer, tmp_path: Path, publish: Callable[[int], None]
) -> None:
    calls: list[int] = []
    interrupted = 0
    with make(running_server, tmp_path, handler_policy=QUICK) as client:

        @client.on("stage_change")
        def stopped(event: Event) -> None:
            calls.append(event.data["n"])
            if len(calls) == 1:
                raise KeyboardInterrupt

        client.wait_for(State.CONNECTED, timeout_s=10)
        publish(2)
        end_s = time.monotonic() + 10
        while calls != [0, 0, 1] and time.monotonic() < end_s:
            try:
                client.process()
            except KeyboardInterrupt:
                interrupted += 1
    assert (calls, interrupted) == ([0, 0, 1], 1)


def test_a_callback_that_turns_out_to_be_async_is_an_error(
    running_server: SyncServer, tmp_path: Path, publish: Callable[[int], None]
) -> None:
    class Handler:
        async def __call__(self, event: Event) -> None: ...

    with make(running_server, tmp_path, handler_policy=QUICK) as client:
        client.on("stage_change")(Handler())
        client.wait_for(State.CONNECTED, timeout_s=10)
        publish(1)
        process_until(client, lambda: client.metrics.parked == 1)


# -- iterators --------------------------------------------------------------------------------------------


def test_an_iterator_made_before_the_start_gets_what_an_earlier_run_left_beside_a_handler(
    running_server: SyncServer, tmp_path: Path, publish: Callable[[int], None]
) -> None:
    with make(running_server, tmp_path) as client:
        client.wait_for(State.CONNECTED, timeout_s=10)
        publish(5)
        process_until(client, lambda: client.health.queue_depth == 5)
    got: list[int] = []
    client = make(running_server, tmp_path)
    client.on("stage_change")(lambda event: got.append(event.data["n"]))
    events = client.events(timeout_s=10)
    with client:
        assert [event.data["n"] for event in islice(events, 5)] == got == [0, 1, 2, 3, 4]


def test_an_iterator_that_was_never_read_holds_up_nothing_when_it_is_dropped(
    running_server: SyncServer, tmp_path: Path, publish: Callable[[int], None]
) -> None:
    with make(running_server, tmp_path) as client:
        client.wait_for(State.CONNECTED, timeout_s=10)
        events = client.events()
        publish(3)
        process_until(client, lambda: client.health.queue_depth == 3)
        del events
        for event in client.events(timeout_s=10):
            if event.data["n"] == 1:
                break
        assert [event.data["n"] for event in islice(client.events(timeout_s=10), 2)] == [1, 2]


def test_an_iterator_without_a_start_says_so() -> None:
    client = SyncClient("http://127.0.0.1:9")
    with pytest.raises(ClientError, match="not been started"):
        next(client.events())
    client.close()


# -- the end ----------------------------------------------------------------------------------------------


def test_close_does_not_wait_for_what_cannot_be_stopped(running_server: SyncServer, tmp_path: Path) -> None:
    go_on, asked = threading.Event(), threading.Event()

    async def fetch_token() -> str:
        asked.set()
        await asyncio.to_thread(go_on.wait, 20)
        return "token"

    client = make(running_server, tmp_path, token=fetch_token)
    client.start()
    assert asked.wait(10)
    began_s = time.monotonic()
    client.close()
    assert time.monotonic() - began_s < 1.2
    again = make(running_server, tmp_path)  # the cache is free
    again.start()
    again.close()
    left = [thread for thread in threading.enumerate() if thread.name == "sync-client"]
    go_on.set()
    for thread in left:
        thread.join(10)
        assert not thread.is_alive()


def test_a_client_that_was_not_started_can_be_closed_where_a_loop_runs() -> None:
    async def inside() -> None:
        SyncClient("http://127.0.0.1:9").close()

    asyncio.run(inside())


def test_waiting_for_a_state_ends_when_the_client_is_closed(running_server: SyncServer, tmp_path: Path) -> None:
    client = make(running_server, tmp_path)

    @client.on_state_change
    def leave(change: Any) -> None:
        if change.after is State.CONNECTED:
            client.close()

    client.start()
    with pytest.raises(Closed):
        client.wait_for(State.POLLING, timeout_s=10)


SCRIPT = """
import sys
from sync_client.blocking import SyncClient
from sync_client import State
with SyncClient(sys.argv[1], client_name="dev", cache_dir=sys.argv[2], trust_env=False) as client:
    client.on()(print)
    client.on_dashboard_change(debounce_s=0.01)(lambda: None)
    client.on_state_change(print)
    client.wait_for(State.CONNECTED, timeout_s=20)
    client.process()
    left = client.events()
    for event in client.events(timeout_s=0.1):
        break
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
