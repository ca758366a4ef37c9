"""What programs do to the client by mistake, each as it once went wrong."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from e2e.client.harness import Shop, eventually
from sync_client import CacheLocked, Event, HandlerPolicy, State, StateChange, Transaction
from sync_client.backoff import Backoff


def ours() -> list[Any]:
    """Tasks and threads of clients."""
    things: list[Any] = [*asyncio.all_tasks(), *threading.enumerate()]
    return [t for t in things if (t.get_name() if hasattr(t, "get_name") else t.name).startswith("sync-client")]


async def takes_the_cache(shop: Shop) -> None:
    """Raises CacheLocked if somebody still has it."""
    async with shop.client():
        pass


QUICK = HandlerPolicy(retries=1, backoff=Backoff(base_s=0.01, cap_s=0.02))


async def test_a_handlers_own_broken_database_is_not_taken_for_the_cache(shop: Shop, tmp_path: Path) -> None:
    foreign = tmp_path / "mine.db"
    foreign.write_bytes(b"this is no database" * 100)
    client = shop.client(handler_policy=QUICK)

    @client.on("stage_change", transactional=True)
    def book(event: Event, tx: Transaction) -> None:
        database = sqlite3.connect(foreign)
        try:
            database.execute("SELECT 1 FROM mine")
        finally:
            database.close()

    async with client:
        await client.wait_for(State.CONNECTED, timeout_s=10)
        await shop.publish(1)
        await eventually(lambda: client.metrics.parked == 1)
        assert client.metrics.handler_errors == 2
    assert not list((shop.directory / "cache").rglob("*damaged*"))


async def test_closing_from_inside_a_handler_leaves_no_task(shop: Shop) -> None:
    before = asyncio.all_tasks()
    client = shop.client()

    @client.on("stage_change")
    async def leave(event: Event) -> None:
        await client.close()

    await client.start()
    await client.wait_for(State.CONNECTED, timeout_s=10)
    await shop.publish(1)
    await eventually(lambda: client.state is State.CLOSED)
    await eventually(lambda: not [t for t in asyncio.all_tasks() - before if t.get_name().startswith("sync-client")])


async def test_closing_while_starting_lets_the_cache_go(shop: Shop) -> None:
    for _ in range(5):
        client = shop.client()
        starting = asyncio.create_task(client.start())
        await asyncio.sleep(0)
        await client.close()
        await asyncio.gather(starting, return_exceptions=True)
    async with shop.following() as (client, got):
        await shop.publish(1)
        await eventually(lambda: got)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 13, 21, 34])
async def test_closing_at_any_moment_of_the_start_leaves_nothing(shop: Shop, steps: int) -> None:
    client = shop.client()
    starting = asyncio.create_task(client.start())
    for _ in range(steps):
        await asyncio.sleep(0.0005)
    await client.close()
    await asyncio.gather(starting, return_exceptions=True)
    assert client.state is State.CLOSED
    await eventually(lambda: not ours(), within_s=2)
    assert shop.proxy.open_streams == 0
    await takes_the_cache(shop)


@pytest.mark.parametrize("steps", [0, 1, 3, 8, 21])
async def test_a_start_that_is_cancelled_leaves_nothing(shop: Shop, steps: int) -> None:
    client = shop.client()
    starting = asyncio.create_task(client.start())
    await asyncio.sleep(0)
    for _ in range(steps):
        await asyncio.sleep(0.0005)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await client.close()
    await eventually(lambda: not ours(), within_s=2)
    await takes_the_cache(shop)


async def test_starting_twice_at_once_starts_once(shop: Shop) -> None:
    client = shop.client()
    await asyncio.gather(client.start(), client.start())
    await client.wait_for(State.CONNECTED, timeout_s=10)
    assert shop.proxy.open_streams == 1
    await client.close()
    await eventually(lambda: not ours(), within_s=2)


async def test_a_start_that_met_a_locked_cache_can_be_repeated(shop: Shop) -> None:
    client = shop.client()
    async with shop.client():
        with pytest.raises(CacheLocked):
            await client.start()
    async with client:
        await client.wait_for(State.CONNECTED, timeout_s=10)


async def test_a_close_that_is_cancelled_is_finished_all_the_same(shop: Shop) -> None:
    client = shop.client()
    await client.start()
    await client.wait_for(State.CONNECTED, timeout_s=10)
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    await eventually(lambda: not ours() and not shop.proxy.open_streams, within_s=2)
    await takes_the_cache(shop)


@pytest.mark.parametrize("where", ["handler", "refresh", "listener", "resync"])
async def test_closing_from_inside_a_function_of_the_program_leaves_nothing(shop: Shop, where: str) -> None:
    client = shop.client()
    went_on = asyncio.Event()

    async def leave(_: Any = None) -> None:
        await client.close()
        went_on.set()

    if where == "listener":

        @client.on_state_change
        async def changed(change: StateChange) -> None:
            if change.after is State.CONNECTED:
                await leave()

    elif where == "refresh":
        client.on_dashboard_change(debounce_s=0.0)(leave)
    elif where == "resync":
        client.on_resync(leave)
    else:
        client.on()(leave)
    await client.start()
    if where == "resync":
        client._intake.resync_reason = "expired"
        client._delivery.wake()
    elif where != "listener":
        await client.wait_for(State.CONNECTED, timeout_s=10)
        await shop.publish(1)
    await asyncio.wait_for(went_on.wait(), 10)
    await eventually(lambda: not ours() and not shop.proxy.open_streams, within_s=2)
    await takes_the_cache(shop)


@pytest.mark.parametrize("where", ["handler", "refresh", "listener"])
async def test_close_does_not_wait_for_what_cannot_be_cancelled(shop: Shop, where: str) -> None:
    client = shop.client()
    stubborn, go_on = asyncio.Event(), asyncio.Event()

    async def hang(_: Any = None) -> None:
        while not go_on.is_set():
            stubborn.set()
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue

    if where == "handler":
        client.on()(hang)
    elif where == "refresh":
        client.on_dashboard_change(debounce_s=0.0)(hang)
    else:
        client.on_state_change(hang)
    await client.start()
    await client.wait_for(State.CONNECTED, timeout_s=10)
    await shop.publish(1)
    await asyncio.wait_for(stubborn.wait(), 10)
    began_s = time.monotonic()
    await client.close()
    assert time.monotonic() - began_s < 1
    await takes_the_cache(shop)
    go_on.set()
    await eventually(lambda: not ours(), within_s=2)


async def test_an_async_listener_hears_of_the_end_and_one_that_raises_is_counted(shop: Shop) -> None:
    heard: list[State] = []
    client = shop.client()

    @client.on_state_change
    async def listen(change: StateChange) -> None:
        await asyncio.sleep(0)
        heard.append(change.after)
        raise ValueError

    @client.on_state_change
    def shout(change: StateChange) -> None:
        raise ValueError

    async with client:
        await client.wait_for(State.CONNECTED, timeout_s=10)
        await eventually(lambda: client.metrics.handler_errors == 4)
    assert heard == [State.CONNECTING, State.CONNECTED, State.CLOSED]


SCRIPT = """
import asyncio, sys
from sync_client import State, SyncClient
async def main():
    async with SyncClient(sys.argv[1], client_name="dev", cache_dir=sys.argv[2], trust_env=False) as client:
        client.on()(lambda event: None)
        client.on(transactional=True)(lambda event, tx: tx.put("a", 1))
        client.on_dashboard_change(debounce_s=0.01)(asyncio.Event().wait)
        client.on_state_change(lambda change: asyncio.sleep(0))
        await client.wait_for(State.CONNECTED, timeout_s=20)
        left = client.events()
        print("ready", flush=True)
        async for event in client.events():
            break
        waiting = asyncio.create_task(anext(left, None))
        await asyncio.sleep(0.1)
    await waiting
    never = SyncClient(sys.argv[1], client_name="never", cache_dir=sys.argv[2])
    never.events()
    await never.close()
asyncio.run(main())
"""


async def test_it_works_in_development_mode_without_a_warning(shop: Shop, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT, shop.server.base_url, str(tmp_path),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    await process.stdout.readline()
    await shop.publish(3)
    _, err = await asyncio.wait_for(process.communicate(), 30)
    # Development mode tells of callbacks that took long, which says something about this machine only.
    told = [line for line in err.decode().splitlines() if "took" not in line]
    assert (process.returncode, told) == (0, [])
