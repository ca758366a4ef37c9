"""A real browser's EventSource on the feed: live, through a kill -9, and with nothing but hidden events."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.servers import SyncServer
from tests.streams import seqs

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

ARABIC = {"name": "كولا", "price": 1000, "quantity": 2, "notes": "بارد جداً", "quote": 'a "b" \\ \n\r <script>'}

FOLLOW = """(query) => {
  window.seen = [];
  window.source = new EventSource('/api/v1/sync/events' + query);
  for (const type of ['connected', 'caught_up', 'heartbeat', 'reset', 'goodbye', 'stage_change', 'qr_generated'])
    window.source.addEventListener(type, (e) => window.seen.push({type, id: e.lastEventId, data: JSON.parse(e.data)}));
}"""


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    # /healthz is the page that starts the source, and its own policy would let it do nothing.
    context = await browser.new_context(bypass_csp=True)
    yield await context.new_page()
    await context.close()


async def publish(server: SyncServer, *events: dict[str, Any]) -> list[str]:
    async with httpx2.AsyncClient(base_url=server.base_url, trust_env=False, timeout=20) as client:
        reply = await client.post("/api/v1/sync/events", json={"events": events})
    assert reply.status_code == 201, reply.text
    return [receipt["id"] for receipt in reply.json()["events"]]


def event(n: int, *, order: str = "ORDER-001") -> dict[str, Any]:
    data = {"previousStage": "initiated", "newStage": "in_progress", "n": n, "item": ARABIC}
    return {"eventType": "stage_change" if n % 2 else "qr_generated", "data": data, "orderID": order}


async def seen(page: Page, *types: str) -> list[dict[str, Any]]:
    return [e for e in json.loads(await page.evaluate("JSON.stringify(window.seen)")) if e["type"] in types]


async def wait_for(page: Page, condition: str) -> None:
    await page.wait_for_function(condition, timeout=30_000)


async def test_eventsource_follows_through_a_kill(page: Page, tmp_path: Path) -> None:
    with SyncServer(tmp_path) as server:
        await page.goto(f"{server.base_url}/healthz")
        await page.evaluate(FOLLOW, "?orderID=ORDER-001,%D8%B7%D9%84%D8%A8")
        await wait_for(page, "window.seen.some(e => e.type === 'caught_up')")
        await publish(server, event(0), event(1, order="طلب"), event(2, order="other"))
        await wait_for(page, "window.seen.filter(e => e.data.data).length === 2")
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await publish(server, *(event(n) for n in range(3, 40)))  # the browser is away: it comes back by itself
        await wait_for(page, "window.seen.filter(e => e.data.data).length === 39")
        await publish(server, event(40))
        await wait_for(page, "window.seen.filter(e => e.data.data).length === 40")
        events = await seen(page, "stage_change", "qr_generated")
        assert seqs([e["data"] for e in events]) == [1, 2, *range(4, 42)]
        assert [e["id"] for e in events] == [e["data"]["id"] for e in events]
        assert all(e["data"]["data"]["item"] == ARABIC for e in events)
        assert [e["data"]["resume"] for e in await seen(page, "connected")] == ["now", "resumed"]


async def test_eventsource_that_sees_only_hidden_events_comes_back_at_head(page: Page, tmp_path: Path) -> None:
    with SyncServer(tmp_path, config="[feed]\nheartbeat_s = 1\n") as server:
        await page.goto(f"{server.base_url}/healthz")
        await page.evaluate(FOLLOW, "?orderID=nobody")
        await wait_for(page, "window.seen.some(e => e.type === 'caught_up')")
        ids = [await publish(server, *(event(n) for n in range(500))) for _ in range(3)]
        head = ids[-1][-1]
        await wait_for(page, f"window.seen.some(e => e.type === 'heartbeat' && e.id === '{head}')")
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await wait_for(page, "window.seen.filter(e => e.type === 'connected').length === 2")
        await wait_for(page, "window.seen.filter(e => e.type === 'caught_up').length === 2")
        again = (await seen(page, "connected"))[1]
        assert again["data"]["resume"] == "resumed"
        assert again["data"]["cursor"] == again["data"]["head"] == head
        assert await seen(page, "stage_change", "qr_generated", "reset") == []


async def test_eventsource_survives_a_planned_goodbye(page: Page, tmp_path: Path) -> None:
    with SyncServer(tmp_path, config="[feed]\nmax_age_s = 1\n") as server:
        await page.goto(f"{server.base_url}/healthz")
        await page.evaluate(FOLLOW, "")
        await wait_for(page, "window.seen.some(e => e.type === 'caught_up')")
        for n in range(20):
            await publish(server, event(n))
            await asyncio.sleep(0.15)  # a steady shop over several lives of the stream
        await wait_for(page, "window.seen.filter(e => e.data.data).length === 20")
        events = await seen(page, "stage_change", "qr_generated")
        assert [e["data"]["data"]["n"] for e in events] == list(range(20))
        assert len(await seen(page, "goodbye")) >= 2
