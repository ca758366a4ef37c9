"""What is around every page: head, navigation, banner, tabs, languages, times, a path in front."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, expect
from starlette.types import ASGIApp, Receive, Scope, Send

from sync_server.serve import bind, make_server
from tests.dashboard.everybody import PHONE
from tests.dashboard.screen import Viewer
from tests.dashboard.shop import Shop
from tests.serving import Served

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]

PAGES = ("board", "queue", "bays", "orders/W1", "feed", "health")


@pytest.mark.parametrize(("width", "locale"), [(320, "en"), (390, "ar"), (800, "en"), (1000, "ar"), (1600, "en")])
async def test_every_page_is_led_to_however_narrow_it_is(
    browser: Browser, served: Served, width: int, locale: str
) -> None:
    viewport = {"width": width, "height": 800}
    async with Viewer(browser, served.url, viewport=viewport, locale=locale, has_touch=True) as viewer:
        screen = await viewer.open()
        nav, more = screen.page.locator(".nav"), screen.page.locator(".nav-more")
        pages = await nav.locator("a").evaluate_all("(links) => links.map((link) => link.getAttribute('href'))")
        assert len(pages) >= 5
        box = await nav.bounding_box()
        assert box is not None
        reached = []
        for link in await nav.locator("a:visible").all():
            place = await link.bounding_box()
            assert place is not None
            assert place["x"] >= box["x"] - 1
            assert place["x"] + place["width"] <= box["x"] + box["width"] + 1
            assert place["width"] >= 44
            await link.click()
            reached.append(await screen.page.evaluate("location.hash"))
        hidden = len(pages) - len(reached)
        await expect(more).to_be_visible(visible=hidden > 0)
        for number in range(hidden):
            await more.click()
            item = screen.page.get_by_role("menuitem").nth(number)
            name = await item.inner_text()
            await item.click()
            await expect(more).to_have_text(name)  # where it led to is where we are
            await expect(more).to_have_attribute("aria-current", "page")
            reached.append(await screen.page.evaluate("location.hash"))
        assert reached == pages
        assert viewer.complaints() == []


async def test_the_button_of_a_menu_closes_it_again(viewer: Viewer, shop: Shop) -> None:
    await shop.order("A")
    screen = await viewer.open()
    menu, button = screen.page.get_by_role("menu"), screen.card("A").locator(".card-menu")
    for _ in range(2):
        await button.click()
        await screen.shows(menu)
        await button.click()
        await screen.hides(menu)
        await expect(button).to_have_attribute("aria-expanded", "false")


@pytest.mark.parametrize("width", [320, 390])
async def test_the_head_has_room_for_all_that_is_wrong(
    browser: Browser, served: Served, shop: Shop, width: int
) -> None:
    await shop.order("A")
    viewport = {"width": width, "height": 700}
    async with Viewer(browser, served.url, viewport=viewport, has_touch=True, is_mobile=True) as viewer:
        screen = await viewer.open()
        await screen.shows(screen.card("A"))
        await viewer.offline()
        await screen.shows(screen.page.locator(".banner[data-kind=offline]"))
        await screen.choose(screen.card("A"), "Move to ⁨In progress")
        await screen.shows(screen.page.get_by_role("button", name="1 queued"))
        assert await screen.page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
        await expect(screen.page.get_by_role("button", name="Appearance")).to_be_in_viewport(ratio=1)
        await viewer.online()
        await screen.live()


async def test_arabic_runs_from_right_to_left(browser: Browser, served: Served, shop: Shop) -> None:
    await shop.order("A")
    async with Viewer(browser, served.url, locale="ar-EG") as viewer:
        screen = await viewer.open()
        await expect(screen.page.locator("html")).to_have_attribute("dir", "rtl")
        await expect(screen.page.get_by_role("heading", level=1)).to_have_text("اللوحة")
        await screen.shows(screen.card("A"))
        first, last = await screen.lane("empty").bounding_box(), await screen.lane("cancelled").bounding_box()
        assert first is not None
        assert last is not None
        assert first["x"] > last["x"]
        await screen.card("A").focus()
        await screen.page.keyboard.press("Shift+ArrowLeft")  # the next stage lies to the left
        await screen.shows(screen.card("A", "in_progress"))
        await screen.go("orders/A")
        await expect(screen.page.locator(".timeline")).to_contain_text("←")  # from the right one to the left one


async def test_what_was_chosen_is_remembered(viewer: Viewer) -> None:
    screen = await viewer.open()
    html = screen.page.locator("html")
    await expect(html).to_have_attribute("data-theme", "light")
    await screen.page.get_by_role("button", name="Appearance").click()
    await screen.page.get_by_label("Dark").check(force=True)
    await screen.page.get_by_label("High").check(force=True)
    await screen.page.reload()
    await expect(html).to_have_attribute("data-theme", "dark")
    await expect(html).to_have_attribute("data-contrast", "more")
    await screen.page.get_by_role("button", name="Appearance").click()
    await screen.page.get_by_label("العربية").click(force=True)
    await expect(html).to_have_attribute("dir", "rtl")


async def test_times_are_those_of_the_viewers_zone(browser: Browser, served: Served, shop: Shop) -> None:
    await shop.order("A")
    async with Viewer(browser, served.url, timezone_id="Asia/Dubai", locale="en-GB") as viewer:
        screen = await viewer.open("orders/A")
        time = screen.page.locator(".timeline time")
        await expect(time).to_have_count(1)
        utc = await time.get_attribute("datetime")
        assert utc is not None
        hour = (int(utc[11:13]) + 4) % 24
        shown = await time.inner_text()
        assert int(shown.split(":")[0]) in (hour, hour - 12, hour + 12)
        assert f":{utc[14:16]}:" in shown


async def test_the_banner_tells_since_when_and_how_old(viewer: Viewer, shop: Shop) -> None:
    await shop.order("A")
    screen = await viewer.open()
    banner = screen.page.locator(".banner")
    await screen.hides(banner)
    await viewer.offline()
    await expect(banner).to_contain_text("Offline since")
    await expect(banner).to_contain_text("old.")
    await expect(screen.page.get_by_role("status").filter(has_text="Offline since")).to_have_count(1)
    await viewer.online()
    await screen.hides(banner)


async def test_eight_tabs_share_one_stream(viewer: Viewer, shop: Shop, served: Served) -> None:
    screens = await asyncio.gather(*(viewer.open(name) for name in (*PAGES, "board", "bays")))
    assert served.application.feed.reader_count == 1
    await shop.order("late")
    for screen in screens:
        await screen.go("board")
        await screen.shows(screen.card("late", "initiated"))
    assert served.application.feed.reader_count == 1


async def test_refreshing_shows_what_is(viewer: Viewer, shop: Shop) -> None:
    await shop.order("A")
    screen = await viewer.open()
    async with screen.page.expect_request("**/sync/snapshot*"):
        await screen.page.get_by_role("button", name="Refresh").click()
    await screen.shows(screen.page.get_by_text("Up to date."))
    await screen.shows(screen.card("A"))


async def test_pulling_down_refreshes(browser: Browser, served: Served) -> None:
    async with Viewer(browser, served.url, viewport=PHONE, has_touch=True, is_mobile=True) as viewer:
        screen = await viewer.open()
        touch = await viewer.context.new_cdp_session(screen.page)
        async with screen.page.expect_request("**/sync/snapshot*"):
            for kind, y in (("touchStart", 150), ("touchMove", 250), ("touchMove", 400), ("touchEnd", None)):
                points = [] if y is None else [{"x": 200, "y": y}]
                await touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def below(prefix: str, application: ASGIApp) -> ASGIApp:
    """What a proxy does that passes everything below *prefix* on, without it."""

    async def passed_on(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(prefix)
        assert path != scope["path"], f"{scope['path']} is not below {prefix}"
        await application({**scope, "path": path, "raw_path": path.encode()}, receive, send)

    return passed_on


@asynccontextmanager
async def listening(application: ASGIApp) -> AsyncIterator[str]:
    sock = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    server = make_server(application)  # type: ignore[arg-type]
    task = asyncio.create_task(server.serve(sockets=[sock]))
    yield url
    server.should_exit = True
    server.force_exit = True
    await task


async def test_it_works_below_a_path(browser: Browser, served: Served, shop: Shop) -> None:
    await shop.order("A")
    async with listening(below("/shop", served.application)) as url, Viewer(browser, url) as viewer:
        screen = await viewer.open(path="/shop/")
        await screen.choose(screen.card("A", "initiated"), "Move to ⁨In progress")
        await screen.shows(screen.card("A", "in_progress"))
        await screen.hides(screen.card("A").locator(".badge-queued"))
        await screen.answered()
        assert await shop.stage_of("A") == "in_progress"
        await screen.go("health")
        await expect(screen.page.locator(".chart-now").first).to_have_text("1")
        await viewer.context.close()
        await served.application.feed.drain(0)
