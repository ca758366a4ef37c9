"""A full board in a busy shop: nothing on the page takes so long that a hand would feel it, and memory stays flat.

SYNC_TEST_BOARD_S   seconds of the busy shop (10; `SYNC_TEST_BOARD_S=60 pytest tests/dashboard/test_load.py -s` for the
                    figures of docs/dashboard.md)
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, CDPSession

from tests.dashboard.screen import Screen, Viewer
from tests.dashboard.shop import Shop
from tests.servers import SyncServer

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300), pytest.mark.alone]

SECONDS = float(os.environ.get("SYNC_TEST_BOARD_S", "10"))
ORDERS = 2000
EVENTS_PER_S = 100
LONG_TASK_MS = 100
GROWTH = 1.15
AT_ONCE = 20

OBSERVE = """() => {
  window.frames = [];
  new PerformanceObserver((list) => frames.push(...list.getEntries().map(({ duration }) => duration)))
    .observe({ type: 'long-animation-frame' });
}"""
COUNTS = """[...document.querySelectorAll('.lane-count')]
  .map((count) => Number(count.textContent.replace(/\\D/g, ''))).reduce((a, b) => a + b)"""
KEYS = """() => new Promise((done) => {
  const beganMs = performance.now();
  const card = document.activeElement;
  const key = card.nextElementSibling ? 'ArrowDown' : 'ArrowUp';
  card.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - beganMs)));
})"""


async def fill(shop: Shop) -> None:
    """2,000 orders in all stages."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            name = f"N{number:04}"
            stage = number % 5
            await shop.order(name, items=0 if stage == 0 else 1 + number % 3, customer={"name": f"Customer {number}"})
            if stage in (2, 3):
                await shop.stage(name, "in_progress")
            if stage == 3:
                await shop.stage(name, "completed")

    await asyncio.gather(*(one(number) for number in range(ORDERS)))


async def seq(shop: Shop) -> int:
    page = await shop.get("/sync/poll?limit=1")
    return int(page["head"].partition(".")[2])


async def be_busy(shop: Shop, seconds: float, *, name: str) -> None:
    """About a hundred events a second for so long: edits, stages, new orders, whose names begin with *name*."""
    rng, began_s = random.Random(6), time.monotonic()
    first, sent = await seq(shop), 0
    async with asyncio.TaskGroup() as works:
        while (passed_s := time.monotonic() - began_s) < seconds:
            while sent < passed_s * EVENTS_PER_S:
                number = rng.randrange(ORDERS)
                if (kind := rng.random()) < 0.6:
                    changes = {"name": f"Customer {rng.random():.4f}"}
                    works.create_task(shop.do("PATCH", f"/orders/N{number:04}", customer=changes))
                elif kind < 0.8:
                    works.create_task(shop.order(f"{name}{sent}", customer={"name": "New"}))
                elif number % 5 == 1:  # what is further along is refused, which is no event
                    works.create_task(shop.http.post(f"/orders/N{number:04}/stage", json={"newStage": "in_progress"}))
                else:
                    continue
                sent += 1
            await asyncio.sleep(0.01)
    events = await seq(shop) - first
    print(f"\n{events / (time.monotonic() - began_s):.0f} events/s for {seconds:.0f} s")


async def heap_mb(cdp: CDPSession) -> float:
    await cdp.send("HeapProfiler.collectGarbage")
    used = await cdp.send("Runtime.getHeapUsage")
    return float(used["usedSize"]) / 1e6


@asynccontextmanager
async def traced(browser: Browser) -> AsyncIterator[list[float]]:
    """How long each task of a page's main thread had the processor, in milliseconds; known after the block.

    Not how long it took: other work on this machine, the server of this test among it, would be counted too.
    """
    cdp = await browser.new_browser_cdp_session()
    events: list[dict[str, Any]] = []
    done = asyncio.Event()
    cdp.on("Tracing.dataCollected", lambda collected: events.extend(collected["value"]))
    cdp.on("Tracing.tracingComplete", lambda _: done.set())
    config = {"includedCategories": ["disabled-by-default-devtools.timeline"], "excludedCategories": ["*"]}
    await cdp.send("Tracing.start", {"transferMode": "ReportEvents", "traceConfig": config})
    tasks_ms: list[float] = []
    yield tasks_ms
    await cdp.send("Tracing.end")
    await done.wait()
    await cdp.detach()
    of_pages = {(e["pid"], e["tid"]) for e in events if e.get("args", {}).get("name") == "CrRendererMain"}
    tasks_ms += [
        e["tdur"] / 1000 for e in events if e["name"] == "RunTask" and (e["pid"], e["tid"]) in of_pages and "tdur" in e
    ]


async def press_keys(screen: Screen, until: "asyncio.Task[None]") -> list[float]:
    """How long each took until it was seen, in milliseconds."""
    took_ms = []
    while not until.done():
        took_ms.append(float(await screen.page.evaluate(KEYS)))
        await asyncio.sleep(0.25)
    return took_ms


async def test_a_full_board_in_a_busy_shop_stays_quick(browser: Browser, tmp_path: Path) -> None:
    with SyncServer(tmp_path) as server:
        async with Shop(server.base_url) as shop, Viewer(browser, server.base_url) as viewer:
            await fill(shop)
            screen = await viewer.open()
            await screen.until("document.querySelectorAll('.card').length > 200")
            cdp = await viewer.context.new_cdp_session(screen.page)
            await be_busy(shop, SECONDS / 5, name="early")  # after that everything is warm
            before_mb = await heap_mb(cdp)
            await screen.page.evaluate(OBSERVE)
            await screen.lane("initiated").locator(".card").nth(20).focus()
            async with traced(browser) as tasks_ms:
                busy = asyncio.create_task(be_busy(shop, SECONDS, name="late"))
                keys_ms = await press_keys(screen, busy)
                await busy
            frames_ms = await screen.page.evaluate("frames")
            after_mb = await heap_mb(cdp)
            print(
                f"{len(tasks_ms)} tasks, longest {max(tasks_ms):.0f} ms of the processor; long animation frames: "
                f"{len(frames_ms)}, longest {max(frames_ms, default=0):.0f} ms; keys: {len(keys_ms)}, "
                f"slowest {max(keys_ms):.0f} ms; heap {before_mb:.1f} -> {after_mb:.1f} MB"
            )
            await screen.until(COUNTS, len(await shop.orders()))  # it is not quick for having fallen behind
            assert len(tasks_ms) > SECONDS * 10
            assert max(tasks_ms) < LONG_TASK_MS
            assert after_mb < before_mb * GROWTH + 2
            assert viewer.complaints() == []
