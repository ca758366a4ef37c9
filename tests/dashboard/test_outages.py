"""What goes wrong between board and server; in the end the board is what the server holds, and all was done once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from e2e.fault_proxy import FaultProxy
from tests.access.credentials import ACCESS
from tests.accounts.office import office
from tests.dashboard.login import log_in
from tests.dashboard.screen import Screen, Viewer
from tests.dashboard.shop import Shop
from tests.js.test_tabs import begin_a_new_log
from tests.servers import SyncServer
from tests.serving import Served, serving, sqlite_settings

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(90)]

BLOCKED = r"503|net::ERR_"


async def stock(shop: Shop) -> None:
    """Orders N0 to N9, some of them further along."""
    for number in range(10):
        await shop.order(f"N{number}", customer={"name": f"before {number}"})
    for number in (3, 4):
        await shop.stage(f"N{number}", "in_progress")


async def work_on(shop: Shop) -> None:
    """What another till does meanwhile: every kind of change that a board shows."""
    await shop.stage("N1", "in_progress")
    await shop.stage("N3", "completed")
    await shop.stage("N5", "cancelled")
    await shop.do("PATCH", "/orders/N6", customer={"name": "after"})
    await shop.do("DELETE", "/orders/N7")
    for number in range(3):
        await shop.order(f"late{number}", customer={"name": "late"})


async def open_board(viewer: Viewer) -> Screen:
    """A tab whose board shows the stock."""
    screen = await viewer.open()
    await screen.shows(screen.card("N9"))
    return screen


@asynccontextmanager
async def shop_of(url: str) -> AsyncIterator[Shop]:
    async with Shop(url) as shop:
        await stock(shop)
        yield shop


async def test_the_server_is_killed_and_comes_back(browser: Browser, tmp_path: Path) -> None:
    with SyncServer(tmp_path) as server:
        async with shop_of(server.base_url) as shop, Viewer(browser, server.base_url) as viewer:
            viewer.expected.append(r"net::ERR_")
            screen = await open_board(viewer)
            await asyncio.to_thread(server.kill)
            await screen.shows(screen.page.locator(".banner[data-kind=offline]"))
            await screen.begin("N2")
            await screen.shows(screen.card("N2").locator(".badge-queued"))
            await asyncio.to_thread(server.start)
            await work_on(shop)
            await screen.equals(shop)
            await screen.live()
            assert await shop.moves_of("N2") == ["in_progress"]
            assert viewer.complaints() == []


async def test_the_server_is_killed_under_the_hand(browser: Browser, tmp_path: Path) -> None:
    """It dies while commands are on their way; nobody knows which of them took effect."""
    with SyncServer(tmp_path) as server:
        async with shop_of(server.base_url) as shop, Viewer(browser, server.base_url) as viewer:
            viewer.expected.append(r"net::ERR_")
            screen = await open_board(viewer)
            for number in (0, 1, 2, 5, 6, 8, 9):
                await screen.page.evaluate(
                    "(orderID) => { orderSync.send('orders.changeStage', { orderID, newStage: 'in_progress' }); }",
                    f"N{number}",
                )
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            await screen.equals(shop)
            await expect(screen.lane("in_progress").locator(".card")).to_have_count(9)
            for number in (0, 1, 2, 5, 6, 8, 9):
                assert await shop.moves_of(f"N{number}") == ["in_progress"]
            assert viewer.complaints() == []


async def test_answers_are_lost(browser: Browser, served: Served) -> None:
    """What was done is asked for again, by the same key, and not done again."""
    async with (
        FaultProxy("127.0.0.1", served.port) as proxy,
        shop_of(served.url) as shop,
        Viewer(browser, proxy.url) as viewer,
    ):
        viewer.expected.append(r"net::ERR_")
        screen = await open_board(viewer)
        proxy.plain.cut_after_bytes = 20
        await screen.begin("N2")
        await screen.begin("N8")
        await screen.shows(screen.card("N8").locator(".badge-queued"))
        async with asyncio.timeout(10):
            while not await shop.moves_of("N2"):
                await asyncio.sleep(0.05)
        proxy.plain.clear()
        await screen.equals(shop)
        assert (await shop.moves_of("N2"), await shop.moves_of("N8")) == (["in_progress"], ["in_progress"])
        assert viewer.complaints() == []


async def test_the_network_goes_and_comes(viewer: Viewer, shop: Shop) -> None:
    await stock(shop)
    screen = await open_board(viewer)
    for order in ("N0", "N2"):
        await viewer.offline()
        await screen.shows(screen.page.locator(".banner[data-kind=offline]"))
        await screen.begin(order)
        if order == "N0":
            await work_on(shop)
        await viewer.online()
        await screen.equals(shop)
        await screen.live()
        assert await shop.moves_of(order) == ["in_progress"]


async def test_a_proxy_blocks_streams_for_a_while(browser: Browser, served: Served) -> None:
    async with (
        FaultProxy("127.0.0.1", served.port) as proxy,
        shop_of(served.url) as shop,
        Viewer(browser, proxy.url) as viewer,
    ):
        viewer.expected.append(BLOCKED)
        await viewer.hasten()
        screen = await open_board(viewer)
        proxy.stream.status = 503
        proxy.cut_all()
        await expect(screen.page.locator(".pill")).to_have_attribute("data-kind", "polling", timeout=15_000)
        await expect(screen.page.locator(".banner")).to_contain_text("The live stream is blocked")
        await work_on(shop)
        await screen.begin("N2")
        await screen.equals(shop)
        await expect(screen.page.locator(".pill")).to_have_attribute("data-kind", "polling")
        proxy.stream.clear()
        await screen.live()
        await shop.stage("N8", "in_progress")
        await screen.equals(shop)
        assert await shop.moves_of("N2") == ["in_progress"]
        assert viewer.complaints() == []


async def test_a_proxy_holds_streams_back(browser: Browser, served: Served) -> None:
    """Nothing fails then, and nothing comes."""
    async with (
        FaultProxy("127.0.0.1", served.port) as proxy,
        shop_of(served.url) as shop,
        Viewer(browser, proxy.url) as viewer,
    ):
        await viewer.hasten()
        proxy.stream.buffered = True
        screen = await viewer.open(live=False)
        await expect(screen.page.locator(".pill")).to_have_attribute("data-kind", "polling", timeout=15_000)
        await work_on(shop)
        await screen.equals(shop)
        proxy.stream.clear()
        await screen.live()
        await screen.equals(shop)
        assert viewer.complaints() == []


async def test_the_log_is_another_one(browser: Browser, tmp_path: Path) -> None:
    """Reset: nothing of what the board knows is true any more."""
    with SyncServer(tmp_path) as server:
        async with shop_of(server.base_url) as shop, Viewer(browser, server.base_url) as viewer:
            viewer.expected.append(r"net::ERR_")
            screen = await open_board(viewer)
            await screen.shows(screen.card("N0"))
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(begin_a_new_log, tmp_path)
            await asyncio.to_thread(server.start)
            await shop.order("other", customer={"name": "of the new log"})
            await shop.order("N0", customer={"name": "with an old name"})
            await screen.equals(shop)
            await expect(screen.page.locator(".card")).to_have_count(2)
            await screen.live()
            await shop.stage("N0", "in_progress")
            await screen.equals(shop)
            assert viewer.complaints() == []


async def test_the_tab_sleeps(browser: Browser, served: Served) -> None:
    """Longer than its connection lives: no script runs in it, as on a tablet that lies in a drawer."""
    async with (
        FaultProxy("127.0.0.1", served.port) as proxy,
        shop_of(served.url) as shop,
        Viewer(browser, proxy.url) as viewer,
    ):
        viewer.expected.append(r"net::ERR_")
        screen = await open_board(viewer)
        async with screen.asleep():
            proxy.cut_all()
            await work_on(shop)
        await screen.equals(shop)
        async with screen.asleep():  # and one that its connection outlives
            await shop.stage("N8", "in_progress")
        await screen.equals(shop)
        await screen.live()
        assert viewer.complaints() == []


@pytest.mark.alone
async def test_the_leading_tab_of_eight_dies(viewer: Viewer, shop: Shop, served: Served) -> None:
    """Another takes over within two seconds, and no tab misses anything."""
    await stock(shop)
    screens = list(await asyncio.gather(*(open_board(viewer) for _ in range(8))))
    roles = [await screen.page.evaluate("orderSync.health.role") for screen in screens]
    leader = screens.pop(roles.index("leader"))
    async with leader.dying():
        await work_on(shop)  # from the moment of its death on
        after_s = await asyncio.gather(*(screen.seconds_until(screen.card("late2")) for screen in screens))
    assert max(after_s) < 2
    for screen in screens:
        await screen.equals(shop)
        await screen.live()
    assert served.application.feed.reader_count == 1


async def test_the_leading_tab_falls_asleep(viewer: Viewer, shop: Shop) -> None:
    """It keeps its lock and its stream, and says nothing: a tab that somebody looks at takes over."""
    await stock(shop)
    await viewer.hasten()
    leader = await open_board(viewer)
    other = await open_board(viewer)
    async with leader.asleep():
        await work_on(shop)
        await other.equals(shop)
        assert await other.page.evaluate("orderSync.health.role") == "leader"
    await shop.stage("N8", "in_progress")
    for screen in (leader, other):
        await screen.equals(shop)
    assert await leader.page.evaluate("orderSync.health.role") == "follower"


async def test_the_session_ends(browser: Browser, tmp_path: Path) -> None:
    """The stream is closed with it; after the login the board goes on, and what was asked for meanwhile is done."""
    async with office(tmp_path) as accounts:
        await accounts.add_user("ann", "cashier")
    async with (
        serving(sqlite_settings(tmp_path, access=ACCESS | {"session": "4s"})) as served,
        Viewer(browser, served.url) as viewer,
        Shop(served.url, role="admin") as shop,
    ):
        viewer.expected.append("401")
        await stock(shop)
        screen = await viewer.open(live=False)
        await log_in(screen, "ann")
        await screen.shows(screen.card("N9"))
        await screen.shows(screen.page.get_by_text("Your session has ended"))
        await work_on(shop)
        await screen.page.evaluate(
            "void orderSync.send('orders.changeStage', { orderID: 'N2', newStage: 'in_progress' })"
        )
        await screen.shows(screen.card("N2", "in_progress").locator(".badge-queued"))
        await log_in(screen, "ann")
        await screen.equals(shop)
        assert await shop.moves_of("N2") == ["in_progress"]
        assert viewer.complaints() == []
