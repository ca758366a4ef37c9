"""Nothing keeps anybody from using the pages: light, dark, in high contrast, on a phone, in an empty shop."""

from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.dashboard.everybody import AXE, COLOURS, PHONE, faults
from tests.dashboard.screen import Viewer
from tests.dashboard.shop import Shop
from tests.serving import Served

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]

PAGES = ("board", "queue", "bays", "orders/W1", "feed", "health")


async def busy(shop: Shop) -> None:
    """Something on every page."""
    await shop.furnish(bays=3, waiting=3)
    await shop.do("POST", "/queues/Q/call-next", bayID="B1", jobID="J")
    await shop.do("PATCH", "/bays/B2", status="out_of_service")
    await shop.order("D", customer={"name": "فاطمة"})


@pytest.mark.parametrize(
    ("rules", "options"),
    [
        pytest.param((), {}, id="light"),
        pytest.param(COLOURS, {"color_scheme": "dark"}, id="dark"),
        pytest.param(COLOURS, {"contrast": "more"}, id="contrast"),
        pytest.param((), {"viewport": PHONE, "color_scheme": "dark", "contrast": "more", "locale": "ar"}, id="phone"),
    ],
)
async def test_nothing_keeps_people_from_using_it(
    browser: Browser, served: Served, shop: Shop, rules: tuple[str, ...], options: dict[str, Any]
) -> None:
    await busy(shop)
    async with Viewer(browser, served.url, reduced_motion="reduce", **options) as viewer:
        screen = await viewer.open()
        await screen.page.evaluate(AXE)
        links = await screen.page.locator(".nav a").evaluate_all("(links) => links.map(({ hash }) => hash.slice(2))")
        assert set(PAGES) <= {*links, "orders/W1"}
        for name in (*links, "orders/W1"):
            await screen.go(name)
            await expect(screen.page.locator("main h1")).to_be_visible()
            assert (name, await faults(screen, *rules)) == (name, [])
            wider = await screen.page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert (name, wider) == (name, 0)
        assert viewer.complaints() == []


async def test_an_empty_shop_can_be_used_by_all(browser: Browser, served: Served) -> None:
    async with Viewer(browser, served.url, viewport=PHONE, reduced_motion="reduce") as viewer:
        screen = await viewer.open()
        await screen.page.evaluate(AXE)
        for name in ("board", "queue", "bays"):
            await screen.go(name)
            await screen.hides(screen.page.get_by_text("Loading the shop"))
            assert (name, await faults(screen)) == (name, [])


async def test_dialogs_and_menus_can_be_used_by_all(viewer: Viewer, shop: Shop) -> None:
    await shop.order("A")
    screen = await viewer.open()
    await screen.page.evaluate(AXE)
    await screen.card("A").locator(".card-menu").click()
    await screen.shows(screen.page.get_by_role("menu"))
    assert await faults(screen) == []
    await screen.page.keyboard.press("Escape")
    await expect(screen.card("A").locator(".card-menu")).to_be_focused()
    await screen.page.get_by_role("button", name="Appearance").click()
    await screen.shows(screen.page.get_by_role("dialog"))
    assert await faults(screen) == []
    await screen.page.keyboard.press("Escape")
    await screen.hides(screen.page.get_by_role("dialog"))
