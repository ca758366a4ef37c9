"""Many tenants in one process: what they keep in memory is bounded for all of them together, and for as long as they
are used."""

import asyncio
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import sync_server
from sync_server.access.caller import Caller
from sync_server.access.rights import OPEN_RIGHTS
from sync_server.feed import feed as feed_module
from sync_server.feed.hub import Hub
from sync_server.feed.memory import Kept, Order
from sync_server.feed.window import Window, size_of
from tests.feed.conftest import Start
from tests.feed.hubs import PRINCIPAL, poll_page
from tests.feed.test_window import event
from tests.serving import Served, stage_change
from tests.streams import eventually, stream

SERVER = str(Path(sync_server.__file__).parent)
SIZE = size_of(event(1))


def held(windows: Iterable[Window]) -> list[tuple[int, int]]:
    return [(window.before, window.last) for window in windows]


def test_the_oldest_event_of_all_tenants_goes_first() -> None:
    order = Order(max_bytes=6 * SIZE)
    quiet, busy = Window(start=0, order=order), Window(start=0, order=order)
    for seq in (1, 2, 3):
        quiet.append(event(seq))
    for seq in (1, 2, 3, 4):
        busy.append(event(seq))
    assert held([quiet, busy]) == [(1, 3), (0, 4)]
    for seq in range(5, 100):
        busy.append(event(seq))
    assert held([quiet, busy]) == [(3, 3), (93, 99)]
    quiet.append(event(4))
    assert held([quiet, busy]) == [(3, 4), (94, 99)]


def test_what_is_let_go_makes_room_and_leaves_nothing_behind() -> None:
    order = Order(max_bytes=10 * SIZE)
    kept = Window(start=0, order=order)
    for seq in (1, 2, 3):
        kept.append(event(seq))
    for _ in range(1000):
        passing = Window(start=0, order=order)
        for seq in (1, 2, 3):
            passing.append(event(seq))
        passing.close()
        passing.close()
    assert held([kept, passing]) == [(0, 3), (3, 3)]
    assert passing.after(3, upto=3) == []
    assert len(order._holders) <= 12, "entries of those who are gone do not pile up"
    for seq in range(4, 11):
        kept.append(event(seq))
    assert held([kept]) == [(0, 10)]
    kept.append(event(11))
    assert held([kept]) == [(1, 11)]


def test_windows_hold_the_newest_events_whatever_comes_and_goes() -> None:
    """Against a list of all events in their order."""
    rng = random.Random(3)
    order, bound = Order(max_bytes=50 * SIZE), 50
    windows = [Window(start=0, order=order) for _ in range(5)]
    all_events: list[tuple[Window, int]] = []
    for _ in range(5000):
        at = rng.randrange(len(windows))
        if rng.random() < 0.01:
            windows[at].close()
            all_events = [(window, seq) for window, seq in all_events if window is not windows[at]]
            windows[at] = Window(start=0, order=order)
            continue
        window = windows[at]
        window.append(event(window.last + 1))
        all_events = [*all_events, (window, window.last)][-bound:]
        for one in windows:
            expected = [seq for owner, seq in all_events if owner is one]
            assert [e.seq for e in one.after(one.before, upto=one.last)] == expected


def test_what_was_used_last_is_kept() -> None:
    kept: Kept[str] = Kept(max_bytes=30)
    for name in "abc":
        kept.keep(name, name.upper(), size_bytes=10)
    assert kept.get("a") == "A"
    kept.keep("d", "D", size_bytes=10)
    assert [kept.get(name) for name in "abcd"] == ["A", None, "C", "D"]
    kept.keep("a", "A2", size_bytes=30)
    assert [kept.get(name) for name in "abcd"] == ["A2", None, None, None]
    kept.keep("large", "L", size_bytes=100)
    assert [kept.get(name) for name in ("a", "large")] == [None, "L"], "the last one in any case"


async def publish(served: Served, tenant: str, *numbers: int) -> None:
    body = json.dumps({"events": [stage_change(number) for number in numbers]}).encode()
    await served.application.publish.submit(tenant, "anonymous", body, client_id=None)


async def numbers_of(hub: Hub) -> list[int]:
    found: list[int] = []
    cursor = "earliest"
    while True:
        page = await poll_page(hub, f"after={cursor}", caller=Caller(hub.tenant, PRINCIPAL, OPEN_RIGHTS))
        found += [event["data"]["n"] for event in page["events"]]
        if not page["hasMore"]:
            return found
        cursor = page["cursor"]


async def test_many_tenants_share_one_bound_and_lose_nothing(start: Start) -> None:
    async with start(feed={"window_bytes": 65536}) as served:
        tenants = [f"t{n}" for n in range(20)]
        hubs = [await served.application.feed.hub(tenant) for tenant in tenants]
        for first in (0, 10):
            for tenant in tenants:
                await publish(served, tenant, *range(first, first + 10))
        for hub in hubs:
            await eventually(lambda hub=hub: hub.tail.seq == 20)
        windows = [hub.tail.window for hub in hubs]
        in_memory = sum(size_of(e) for w in windows for e in w.after(w.before, upto=w.last))
        assert 60_000 < in_memory <= 65536
        assert windows[-1].before <= 10 < windows[0].before, "the last ones that were published are in memory"
        for hub in hubs:
            assert await numbers_of(hub) == list(range(20))


def ours() -> set[asyncio.Task[Any]]:
    """The server's tasks: a database's driver begins and ends its own whenever it likes."""

    def file_of(task: Any) -> str:
        return str(task.get_coro().cr_code.co_filename)

    return {task for task in asyncio.all_tasks() if file_of(task).startswith(SERVER)}


async def test_a_tenant_that_nobody_reads_is_followed_no_more(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    async with start(feed={"heartbeat_s": 1}) as served:
        feed = served.application.feed
        before = ours()
        hub = await feed.hub("t1")
        await publish(served, "t1", 1, 2)
        await eventually(lambda: hub.tail.seq == 2)
        assert not hub.closed
        async with stream(served.port) as reader:
            await reader.until("connected")
            monkeypatch.setattr(feed_module, "UNUSED_HUB_S", 0.0)
            await eventually(lambda: hub.closed)
            assert not (await served.hub()).closed, "who has a reader is in use"
        await eventually(lambda: len(ours() - before) <= 1)
        monkeypatch.undo()
        await publish(served, "t1", 3)
        again = await feed.hub("t1")
        assert again is not hub
        assert again is await feed.hub("t1")
        assert await numbers_of(again) == [1, 2, 3]
        await publish(served, "t1", 4)
        await eventually(lambda: again.tail.seq == 4)
