"""The login: before the page, over it when a session has ended; and what an account may not do."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.dashboard.everybody import AXE, faults
from tests.dashboard.login import guarded, log_in
from tests.dashboard.screen import Viewer

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]


async def test_who_is_not_known_logs_in(browser: Browser, tmp_path: Path) -> None:
    async with guarded(tmp_path) as served, Viewer(browser, served.url) as viewer:
        viewer.expected.append("401")
        screen = await viewer.open(live=False)
        await screen.page.evaluate(AXE)
        await screen.shows(screen.page.get_by_role("dialog"))
        assert await faults(screen) == []
        await log_in(screen, "ann", "wrong")
        await screen.shows(screen.page.get_by_role("alert"))
        await log_in(screen, "ann")
        await screen.live()
        await screen.page.evaluate("orderSync.send('orders.create', { orderID: 'A', items: [] }).outcome")
        await screen.shows(screen.card("A", "empty"))
        await screen.page.get_by_role("button", name="Signed in as").click()
        await screen.page.get_by_role("menuitem", name="Sign out").click()
        await screen.shows(screen.page.get_by_role("dialog"))
        assert viewer.complaints() == []


async def test_what_is_not_allowed_is_not_offered(browser: Browser, tmp_path: Path) -> None:
    async with guarded(tmp_path) as served, Viewer(browser, served.url) as viewer:
        viewer.expected.append("401|403")
        screen = await viewer.open(live=False)
        await log_in(screen, "ann")
        await screen.live()
        await screen.page.evaluate("orderSync.send('orders.create', { orderID: 'A', items: [] }).outcome")
        await screen.page.get_by_role("button", name="Signed in as").click()
        await screen.page.get_by_role("menuitem", name="Sign out").click()
        await log_in(screen, "bob")
        await screen.live()
        await screen.card("A").locator(".card-menu").click()
        await expect(screen.page.get_by_role("menuitem")).to_have_text(["Open order"])
        await screen.go("health")
        await screen.shows(screen.page.get_by_text("not for this account"))
        assert viewer.complaints() == []


async def test_a_session_that_ends_is_renewed_over_the_page(browser: Browser, tmp_path: Path) -> None:
    async with guarded(tmp_path) as served, Viewer(browser, served.url) as viewer:
        viewer.expected.append("401")
        screen = await viewer.open(live=False)
        await log_in(screen, "ann")
        await screen.live()
        other = await viewer.open()
        await viewer.context.clear_cookies()
        await screen.page.evaluate("void orderSync.send('orders.create', { orderID: 'A', items: [] })")
        await screen.shows(screen.page.get_by_text("Your session has ended"))
        await log_in(screen, "ann")
        for tab in (screen, other):
            await tab.shows(tab.card("A", "empty"))
            await tab.hides(tab.card("A").locator(".badge-queued"))
            await tab.hides(tab.page.get_by_role("dialog"))
        assert viewer.complaints() == []
