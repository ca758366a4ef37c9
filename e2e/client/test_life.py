"""A client's life: closing in every state, sleeping, crowds, and caches that cannot be used."""

import asyncio
import contextlib
import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.client.harness import Shop, eventually, numbers, open_shop
from e2e.client.till import NAME
from sync_client import CacheLocked, Closed, Event, State, SyncClient, Transaction
from sync_client.driver import Driver
from sync_client.options import Options, cache_path
from sync_client.states import Policy, Signal


async def in_state(shop: Shop, client: SyncClient, state: State) -> None:
    """Bring the client into *state*; it has been started where it must."""
    if state is State.DISCONNECTED:
        return
    if state is State.CONNECTING:
        shop.proxy.stream.stalled = True
    elif state is State.ERROR:
        shop.proxy.stream.status = 500
        shop.proxy.stream.headers = {"Retry-After": "60"}
    elif state is State.POLLING:
        shop.proxy.stream.status = 500
    elif state is State.FAILED:
        shop.proxy.stream.status = 403
    elif state is State.CLOSED:
        shop.proxy.stream.status = 204
    await client.start()
    if state is State.RECONNECTING:
        await client.wait_for(State.CONNECTED, timeout_s=10)
        shop.proxy.stream.stalled = True
        shop.proxy.cut_all()
    await client.wait_for(state, timeout_s=10)


@pytest.mark.parametrize("state", list(State), ids=lambda s: s.value)
async def test_close_in_every_state_leaves_nothing_within_a_second(shop: Shop, state: State) -> None:
    tasks, threads = set(asyncio.all_tasks()), set(threading.enumerate())
    client = shop.client(max_reconnect_attempts=1 if state is State.POLLING else 5)
    got: list[Event] = []
    client.on()(got.append)
    await in_state(shop, client, state)
    began_s = time.monotonic()
    await client.close()
    assert time.monotonic() - began_s < 1
    assert client.state is State.CLOSED

    def left() -> list[Any]:
        mine = [t for t in set(asyncio.all_tasks()) - tasks if t.get_name().startswith("sync-client")]
        return [*mine, *(set(threading.enumerate()) - threads), *([1] if shop.proxy.open_streams else [])]

    await eventually(lambda: not left(), within_s=2)
    again = shop.client()  # the lock is free
    await again.start()
    await again.close()
    await client.close()
    with pytest.raises(Closed):
        client.events()


async def test_close_does_not_wait_for_a_handler_that_hangs(shop: Shop) -> None:
    client = shop.client()
    hanging = asyncio.Event()

    @client.on()
    async def hang(event: Event) -> None:
        hanging.set()
        await asyncio.Event().wait()

    await client.start()
    await client.wait_for(State.CONNECTED, timeout_s=10)
    await shop.publish(1)
    await asyncio.wait_for(hanging.wait(), 10)
    began_s = time.monotonic()
    await client.close()
    assert time.monotonic() - began_s < 1
    async with shop.following() as (_, got):
        await eventually(lambda: numbers(got) == [0])


async def test_close_does_not_wait_for_a_transactional_handler_that_hangs(shop: Shop) -> None:
    client = shop.client()
    hanging, go_on = threading.Event(), threading.Event()

    @client.on(transactional=True)
    def hang(event: Event, tx: Transaction) -> None:
        tx.put("count", tx.get("count", 0) + 1)
        hanging.set()
        go_on.wait(30)

    await client.start()
    await client.wait_for(State.CONNECTED, timeout_s=10)
    await shop.publish(1)
    await eventually(hanging.is_set)
    began_s = time.monotonic()
    await client.close()
    assert time.monotonic() - began_s < 1
    with pytest.raises(CacheLocked):  # its thread still writes
        await shop.client().start()
    go_on.set()
    threads = [t for t in threading.enumerate() if t.name.startswith("sync-client-cache")]
    await eventually(lambda: not any(t.is_alive() for t in threads))
    async with shop.client() as again:
        assert await again.value("count") == 1


async def test_an_abandoned_client_can_be_collected(shop: Shop) -> None:
    client = shop.client()
    await client.start()
    await client.close()
    del client
    gc.collect()
    assert not [o for o in gc.get_objects() if isinstance(o, Driver)]


async def test_two_clients_on_one_cache_are_refused_and_others_are_not(shop: Shop) -> None:
    async with shop.following():
        with pytest.raises(CacheLocked, match="client_name"):
            await shop.client().start()
        async with shop.following("another"):
            pass


async def test_a_client_that_was_stopped_goes_on_at_once(shop: Shop, tmp_path: Path) -> None:
    log = tmp_path / "till.log"
    argv = [sys.executable, "-m", "e2e.client.till", shop.proxy.url, str(tmp_path / "cache"), str(log)]
    said = (tmp_path / "said").open("wb")
    with said, subprocess.Popen(argv, cwd=Path(__file__).parents[2], stderr=said) as till:  # noqa: ASYNC220 - likewise
        try:
            await eventually(lambda: shop.proxy.open_streams == 1)
            before = len(shop.proxy.stream_requests)
            till.send_signal(signal.SIGSTOP)
            await shop.publish(3)
            await asyncio.sleep(6.5)
            till.send_signal(signal.SIGCONT)
            went_on_s = time.monotonic()
            await eventually(lambda: len(shop.proxy.stream_requests) > before, within_s=5)
            assert time.monotonic() - went_on_s < 1.5
            await eventually(lambda: log.exists() and len(log.read_text().splitlines()) >= 3)
            assert "woke_up" in (tmp_path / "said").read_text()
        finally:
            till.kill()


@pytest.mark.alone
async def test_a_crowd_comes_back_spread_out_when_the_server_restarts(own_shop: Shop) -> None:
    count = 300
    clients = [own_shop.client(f"till-{n}", cache=False) for n in range(count)]
    try:
        await asyncio.gather(*(client.start() for client in clients))
        await asyncio.gather(*(client.wait_for(State.CONNECTED, timeout_s=60) for client in clients))
        before = len(own_shop.proxy.stream_requests)
        waits_s: list[float] = []
        due_s: list[float] = []

        def note(client: SyncClient) -> None:
            wait_s = client.health.next_retry_s
            assert wait_s is not None
            waits_s.append(wait_s)
            due_s.append(time.monotonic() + wait_s)

        for client in clients:
            client.on_state_change(
                lambda change, client=client: note(client) if change.after is State.RECONNECTING else None
            )
        # The network goes for all of them in the same instant, which is the worst case.
        own_shop.proxy.cut_all()
        await eventually(lambda: len(own_shop.proxy.stream_requests) >= before + count, within_s=60)
        await asyncio.gather(*(client.wait_for(State.CONNECTED, timeout_s=60) for client in clients))
        # What they chose is judged, not when they came: 300 clients and the proxy share this process, and a slow
        # machine has them come later. That none comes sooner than it chose is judged by when they came.
        assert len(waits_s) == count
        histogram = [sum(tenth / 10 <= wait_s < (tenth + 1) / 10 for wait_s in waits_s) for tenth in range(10)]
        assert sum(histogram) == count, max(waits_s)
        assert min(histogram) > 0, histogram
        assert max(histogram) < count / 5, histogram
        arrivals_s = [request.at_s for request in own_shop.proxy.stream_requests[before : before + count]]
        assert all(came >= due - 0.005 for came, due in zip(sorted(arrivals_s), sorted(due_s), strict=True))
        await asyncio.to_thread(own_shop.server.kill)
        await asyncio.to_thread(own_shop.server.start)
        await asyncio.gather(*(client.wait_for(State.CONNECTED, timeout_s=90) for client in clients))
    finally:
        await asyncio.gather(*(client.close() for client in clients))


# -- caches that cannot be used ---------------------------------------------------------------------------


def the_cache(shop: Shop, name: str = "till") -> Path:
    return cache_path(shop.proxy.url, Options(client_name=name, cache_dir=shop.directory / "cache"))


async def test_a_damaged_cache_is_set_aside_and_everything_that_is_there_comes(own_shop: Shop) -> None:
    async with own_shop.following() as (_, got):
        await own_shop.publish(5)
        await eventually(lambda: len(got) == 5)
    path = the_cache(own_shop)
    path.write_bytes(os.urandom(8192))
    client = own_shop.client()
    again: list[Event] = []
    told: list[str] = []
    client.on()(again.append)
    client.on_resync(told.append)
    async with client:
        await eventually(lambda: len(again) == 5)
        assert told == ["cache_lost"]
        assert "damaged-1" in client.health.cache
    assert path.with_name(path.name + ".damaged-1").exists()


async def test_damage_in_use_loses_nothing(own_shop: Shop) -> None:
    async with own_shop.following() as (client, got):
        await own_shop.publish(2000)
        await eventually(lambda: len(got) == 2000)
        cache = client._keeper.cache
        await client._keeper.run(lambda: cache._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        path = the_cache(own_shop)
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (path.stat().st_size - 4096))
        await client._keeper.run(lambda: cache._db.execute("PRAGMA shrink_memory").fetchall())
        for _ in range(20):
            await own_shop.publish(50)
        await eventually(lambda: set(numbers(got)) == set(range(3000)), within_s=40)


async def test_a_directory_that_cannot_be_written_means_a_cache_in_memory(shop: Shop) -> None:
    (shop.directory / "cache").write_text("a file where the directory should be")
    async with shop.following() as (client, got):
        await shop.publish(2)
        await eventually(lambda: numbers(got) == [0, 1])
        assert client.health.cache.startswith("memory (")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB, where this user may mount one."""
    mount = tmp_path / "small"
    mount.mkdir()
    mounted = shutil.which("mount") is not None and (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(mount)], capture_output=True, check=False
        ).returncode == 0
    )  # fmt: skip
    if mounted:
        yield mount
        subprocess.run(["umount", "-l", str(mount)], check=True)
    else:
        yield mount


async def test_a_full_disk_stops_the_fetching_and_loses_nothing(shop: Shop, small_disk: Path) -> None:
    client = shop.client(cache_dir=small_disk)
    got: list[Event] = []
    client.on()(got.append)
    mounted = small_disk.is_mount()  # noqa: ASYNC240
    async with client:
        await client.wait_for(State.CONNECTED, timeout_s=10)
        if mounted:
            ballast = small_disk / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
        else:  # no right to mount here: SQLite's own bound gives the same error
            cache = client._keeper.cache
            await client._keeper.run(lambda: cache._db.execute("PRAGMA max_page_count=1").fetchall())
        await shop.publish(3000)
        await eventually(lambda: client.health.held)
        asked = len(shop.proxy.requests)
        assert client.health.reason == "cache_unwritable"
        assert client.health.last_error.startswith("The cache")
        assert len(got) < 3000
        if mounted:
            ballast.unlink()
        else:
            await client._keeper.run(lambda: cache._db.execute("PRAGMA max_page_count=100000").fetchall())
        await eventually(lambda: len(got) == 3000, within_s=60)
        assert numbers(got) == shop.sent
        assert len(shop.proxy.requests) - asked < 20


async def test_a_power_cut_falls_back_to_an_earlier_consistent_moment(own_shop: Shop) -> None:
    async with own_shop.following() as (_, got):
        await own_shop.publish(5)
        await eventually(lambda: len(got) == 5)
    path = the_cache(own_shop)
    shutil.copy(path, path.with_name("earlier"))
    async with own_shop.following() as (_, got):
        await own_shop.publish(5)
        await eventually(lambda: len(got) == 5)
    shutil.copy(path.with_name("earlier"), path)
    async with own_shop.following() as (_, got):
        await eventually(lambda: len(got) == 5)
        assert numbers(got) == [5, 6, 7, 8, 9]


async def test_a_wall_clock_that_is_a_day_off_changes_nothing(shop: Shop) -> None:
    async with shop.following() as (client, got):
        await shop.publish(5)
        await eventually(lambda: len(got) == 5)
        await eventually(lambda: client.idle)
        cursor, cache = client.cursor, client._keeper.cache
        for offset_s in (86_400, -86_400):
            now_ms = (time.time_ns() // 1_000_000) + offset_s * 1000
            await client._keeper.run(cache.trim, now_ms=now_ms, max_age_s=3600, max_events=100)
        await shop.publish(5)
        await eventually(lambda: len(got) == 10)
        assert client.cursor != cursor
        assert numbers(got) == list(range(10))


async def test_fifty_callers_send_one_request_through_a_half_open_breaker(shop: Shop) -> None:
    shop.proxy.plain.status = 500
    async with shop.client() as client:
        driver = client._driver
        await client.wait_for(State.CONNECTED, timeout_s=10)

        async def ask() -> bool:
            try:
                await driver.request("/api/v1/sync/poll", {"limit": "1"})
            except Exception:  # noqa: BLE001 - whichever refusal
                return False
            return True

        for _ in range(5):
            await ask()
        assert client.health.breaker == "open"
        driver.breaker._open_until_s = 0.0  # its time is over
        shop.proxy.plain.clear()
        shop.proxy.plain.delay_s = 0.2
        before = len(shop.proxy.plain_requests)
        answers = await asyncio.gather(*(ask() for _ in range(50)))
        assert len(shop.proxy.plain_requests) - before == 1
        assert sum(answers) == 1
        assert client.health.breaker == "closed"


async def test_connect_while_polling_tries_the_stream_at_once(shop: Shop) -> None:
    shop.proxy.stream.status = 500
    async with shop.client(policy=Policy(max_reconnect_attempts=1, probe_first_s=300)) as client:
        await client.wait_for(State.POLLING, timeout_s=10)
        shop.proxy.stream.clear()
        client._driver.signal(Signal.CONNECT)
        await client.wait_for(State.CONNECTED, timeout_s=5)


async def test_a_short_life_of_streams_is_planned_and_loses_nothing(tmp_path: Path) -> None:
    async with open_shop(tmp_path, max_age_s=1.0) as shop, shop.following() as (client, got):
        for _ in range(30):
            await shop.publish(10)
            await asyncio.sleep(0.1)
        await eventually(lambda: len(got) == 300)
        assert numbers(got) == list(range(300))
        assert client.metrics.fallbacks == 0
        assert {c.reason for c in client.transitions if c.after is State.RECONNECTING} == {"max_age"}


def test_the_tills_name_is_its_caches(tmp_path: Path) -> None:
    path = cache_path("http://x", Options(client_name=NAME, cache_dir=tmp_path))
    assert path.parent == tmp_path
    assert path.name.startswith("till-")
    other = cache_path("http://x", Options(client_name=NAME, cache_dir=tmp_path, subject="somebody else"))
    assert other != path


async def test_a_transactional_handler_is_exactly_once_under_a_second_client(shop: Shop) -> None:
    """Two lives of one client, the second with what the first left."""
    for _ in range(2):
        client = shop.client()

        @client.on(transactional=True)
        def count(event: Event, tx: Transaction) -> None:
            tx.put("count", tx.get("count", 0) + 1)

        async with client:
            await client.wait_for(State.CONNECTED, timeout_s=10)
            await shop.publish(5)
            await eventually(lambda: client.idle and client.metrics.delivered == 5)  # noqa: B023 - used at once
    async with shop.client() as client:
        assert await client.value("count") == 10
