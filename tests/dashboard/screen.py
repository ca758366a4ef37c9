"""The dashboard as somebody sees it: tabs of one browser, and what the browser complained of."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Self

from playwright.async_api import Browser, BrowserContext, Locator, Page, Route, expect

from tests.dashboard.shop import Shop

__all__ = ["Screen", "Viewer"]

OFFLINE = r"net::ERR_"
"""What Chromium says of requests that cannot go out, or were cut."""
DEADLINE_MS = 15_000
SHORTER: dict[str, dict[str, float]] = {
    "states.js": {
        "baseS": 0.02,
        "capS": 0.2,
        "probeFirstS": 0.2,
        "probeMaxS": 0.4,
        "relapses": 99,
        "firstByteS": 0.4,
        "maxReconnectAttempts": 3,
    },
    "group.js": {"SILENT_S": 3, "CHECK_LEADER_MS": 500, "STEAL_WITHIN_MS": 30},
    "leader.js": {"PING_MS": 500},
}
"""The connection's numbers for tests that would wait for minutes."""

_BOARD = """() => JSON.stringify([...document.querySelectorAll('.lane')].map((lane) => [lane.dataset.column,
  [...lane.querySelectorAll('.card')].map((card) => [card.dataset.id, card.querySelector('.card-who').textContent])
    .sort(([a], [b]) => (a < b ? -1 : 1))]))"""


class Screen:
    """One tab. Everything waits until it is so."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def go(self, name: str) -> None:
        """Another page, by the address's part behind the #."""
        await self.page.evaluate("(hash) => { location.hash = hash; }", f"#/{name}")

    async def live(self) -> None:
        await expect(self.page.locator(".pill[data-kind=live]")).to_be_visible(timeout=DEADLINE_MS)

    def lane(self, stage: str) -> Locator:
        return self.page.locator(f'.lane[data-column="{stage}"]')

    def card(self, order: str, stage: str | None = None) -> Locator:
        """The card of *order*, in the lane of *stage*."""
        where = self.page if stage is None else self.lane(stage)
        return where.locator(f'.card[data-id="{order}"]')

    def bay(self, name: str) -> Locator:
        return self.page.locator(f'.bay[data-id="{name}"]')

    def ticket(self, order: str) -> Locator:
        return self.page.locator(f'.ticket[data-id="{order}"]')

    async def shows(self, locator: Locator, *, timeout_s: float = 15.0) -> None:
        await expect(locator).to_be_visible(timeout=timeout_s * 1000)

    async def hides(self, locator: Locator, *, timeout_s: float = 15.0) -> None:
        await expect(locator).to_be_hidden(timeout=timeout_s * 1000)

    async def answered(self) -> None:
        """The server has answered all that was asked for: a change is shown before it is sent."""
        await self.until("orderSync.actions.list.map(({ state }) => state)", [])

    async def equals(self, shop: Shop) -> None:
        """Nothing is queued or refused, and the board has the orders that the server holds, each once, in its lane."""
        await self.answered()
        orders = await shop.orders()
        lanes = await self.page.locator(".lane").evaluate_all("(lanes) => lanes.map(({ dataset }) => dataset.column)")
        board = [
            [lane, sorted([o["orderID"], o["customer"]["name"] if o.get("customer") else ""]
                          for o in orders if o["stage"] == lane)]
            for lane in lanes
        ]  # fmt: skip
        await self.until(f"({_BOARD})()", json.dumps(board, ensure_ascii=False, separators=(",", ":")))
        await expect(self.page.locator(".card .badge-queued:visible")).to_have_count(0)

    async def until(self, expression: str, value: Any = True) -> None:
        """The page's own *expression* has that *value*; its policy forbids what Playwright has for it."""
        deadline_s = time.monotonic() + DEADLINE_MS / 1000
        while (seen := await self.page.evaluate(expression)) != value and time.monotonic() < deadline_s:
            await asyncio.sleep(0.05)
        assert seen == value

    async def seconds_until(self, locator: Locator) -> float:
        """How long it takes until it is shown."""
        before_s = time.monotonic()
        await self.shows(locator)
        return time.monotonic() - before_s

    @asynccontextmanager
    async def asleep(self) -> AsyncIterator[None]:
        """No script of the page runs; what comes in waits."""
        sleep = await self.page.context.new_cdp_session(self.page)
        fell_asleep = asyncio.Event()
        sleep.on("Debugger.paused", lambda _: fell_asleep.set())
        await sleep.send("Debugger.enable")
        await sleep.send("Debugger.pause")
        await fell_asleep.wait()
        yield
        await sleep.send("Debugger.resume")
        await sleep.detach()

    @asynccontextmanager
    async def dying(self) -> AsyncIterator[None]:
        """Its process has crashed."""
        crash = await self.page.context.new_cdp_session(self.page)
        crashing = asyncio.create_task(crash.send("Page.crash"))  # it never answers
        yield
        crashing.cancel()

    async def choose(self, card: Locator, text: str) -> None:
        """An item of a card's or ticket's menu."""
        await card.locator("[aria-haspopup=menu]").first.click()
        await self.page.get_by_role("menuitem", name=text).click()

    async def begin(self, order: str) -> None:
        """Move a card of the board to the next stage, which is shown at once, whatever is the matter."""
        await self.card(order, "initiated").focus()
        await self.page.keyboard.press("Shift+ArrowRight")
        await self.shows(self.card(order, "in_progress"))

    async def drag(self, card: Locator, lane: Locator) -> None:
        """With the mouse, onto a lane's head."""
        start, end = await card.bounding_box(), await lane.locator("h2").bounding_box()
        assert start is not None
        assert end is not None
        mouse = self.page.mouse
        await mouse.move(start["x"] + 20, start["y"] + start["height"] - 8)
        await mouse.down()
        await mouse.move(end["x"] + end["width"] / 2, end["y"] + 20, steps=8)
        await mouse.up()


class Viewer:
    """A browser profile of its own: storage, cookies, tabs. Use as an async context manager."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.expected: list[str] = []
        self._browser = browser
        self._options = options
        self._said: list[str] = []

    async def __aenter__(self) -> Self:
        self.context: BrowserContext = await self._browser.new_context(**self._options)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.context.close()

    async def open(self, name: str = "board", *, live: bool = True, path: str = "/") -> Screen:
        """A new tab; with *live* once it is connected."""
        page = await self.context.new_page()
        page.on("pageerror", lambda error: self._said.append(f"{error.name}: {error.message}"))
        page.on("console", lambda message: self._note(message.type, message.text))
        await page.goto(f"{self.url}{path}#/{name}")
        screen = Screen(page)
        if live:
            await screen.live()
        return screen

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self._said.append(f"{kind}: {text}")

    def complaints(self) -> list[str]:
        """What the browser said that was not expected."""
        return [text for text in self._said if not any(re.search(pattern, text) for pattern in self.expected)]

    async def hasten(self) -> None:
        """The same rules with shorter times, from the next page on."""
        for name, numbers in SHORTER.items():
            await self.context.route(f"**/js/{name}", partial(_shorten, numbers))

    async def offline(self) -> None:
        """No network from here on."""
        self.expected.append(OFFLINE)
        await self.context.set_offline(True)

    async def online(self) -> None:
        await self.context.set_offline(False)

    async def block_api(self) -> None:
        """The page itself can be loaded; its data cannot."""
        self.expected.append(OFFLINE)
        await self.context.route("**/api/**", lambda route: route.abort("connectionrefused"))

    async def allow_api(self) -> None:
        await self.context.unroute("**/api/**")


async def _shorten(numbers: dict[str, float], route: Route) -> None:
    answer = await route.fetch()
    text = await answer.text()
    for name, number in numbers.items():
        text, found = re.subn(rf"\b({name}(?: =|:) )[\d_.]+", rf"\g<1>{number}", text)
        assert found == 1, name
    await route.fulfill(response=answer, body=text)
