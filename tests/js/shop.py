"""A shop for browser tests: a real server behind the site, and pages that run the library."""

import asyncio
import json
from typing import Any

import httpx2
from playwright.async_api import BrowserContext, Page

from tests.js.site import Site
from tests.servers import SyncServer

__all__ = ["QUICK", "Tab", "open_tab", "publish", "until"]

QUICK: dict[str, Any] = {
    "policy": {
        "backoff": {"baseS": 0.02, "factor": 2, "capS": 0.2}, "probeFirstS": 0.2, "probeMaxS": 0.4, "relapses": 99,
        "maxReconnectAttempts": 3,
    },
    "limits": {"firstByteS": 0.4, "firstByteRoundTrips": 4, "pollLimit": 500},
}  # fmt: skip
"""Options for the same rules with shorter times."""

# What a test looks at: everything that was handed out, in order, and each state with its reason.
FOLLOW = """async ([options, filter]) => {
  const { SyncClient } = await import('/js/sync.js');
  window.seen = [];
  window.states = [];
  window.resyncs = [];
  window.client = new SyncClient(options);
  client.on('*', (event) => { seen.push(event); });
  client.on('resync', ({ data }) => { resyncs.push(data.reason); });
  client.onStateChange(({ after, reason }) => { states.push(`${after} ${reason}`.trim()); });
  client.connect(filter);
}"""


class Tab:
    """A page with a connected client in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self._note(message.type, message.text))

    def _note(self, kind: str, text: str) -> None:
        if kind == "error" and "order-sync" in text:
            self.errors.append(text)

    async def connect(self, options: dict[str, Any] | None = None, filter: dict[str, Any] | None = None) -> None:
        await self.page.evaluate(FOLLOW, [options or {}, filter or {}])

    async def get(self, expression: str) -> Any:
        """An expression's value, by way of JSON (Playwright's own way is slow for large ones)."""
        text = await self.page.evaluate(f"Promise.resolve({expression}).then((value) => JSON.stringify(value) ?? null)")
        return None if text is None else json.loads(text)

    async def until(self, condition: str, *, timeout_s: float = 30.0) -> None:
        await self.page.wait_for_function(condition, timeout=timeout_s * 1000, polling=20)

    async def numbers(self) -> list[int]:
        """The `n` of all events that were handed out, in order."""
        numbers: list[int] = await self.get("seen.map(({ data }) => data.n)")
        return numbers


async def open_tab(
    context: BrowserContext,
    site: Site,
    *,
    options: dict[str, Any] | None = None,
    filter: dict[str, Any] | None = None,
    ready: bool = True,
) -> Tab:
    """A new tab that follows the feed; with *ready*, once it is sure to get all that comes from now on."""
    tab = Tab(await context.new_page())
    await tab.page.goto(site.url("/page"))
    await tab.connect(options, filter)
    if ready:
        await tab.until("client.isReady")
    return tab


async def publish(server: SyncServer, numbers: range, *, order: str = "ORDER-001", **more: Any) -> list[str]:
    """Publish stage changes whose data's ``n`` are *numbers*; their ids."""
    events = [
        {"eventType": "stage_change", "data": {"newStage": "in_progress", "n": n}, "orderID": order, **more}
        for n in numbers
    ]
    async with httpx2.AsyncClient(base_url=server.base_url, trust_env=False, timeout=20) as client:
        reply = await client.post("/api/v1/sync/events", json={"events": events})
    assert reply.status_code == 201, reply.text
    return [receipt["id"] for receipt in reply.json()["events"]]


async def until(condition: Any, *, timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)
