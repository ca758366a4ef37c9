"""A browser's pages for the JavaScript client, one of them for its modules one by one."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page

from tests.js.site import Site
from tests.servers import SyncServer


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def unit_page(browser: Browser) -> AsyncIterator[Page]:
    """A page that stays: the modules are loaded once."""
    async with Site() as site:
        page = await browser.new_page()
        await page.goto(site.url("/page"))
        yield page
        await page.close()


@pytest_asyncio.fixture(loop_scope="session")
async def site() -> AsyncIterator[Site]:
    async with Site() as site:
        yield site


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncServer]:
    """For tests that leave it alive; they run one after the other, and name what is theirs."""
    with SyncServer(tmp_path_factory.mktemp("server"), config="[feed]\nheartbeat_s = 1\n") as server:
        yield server


@pytest.fixture
def shop(site: Site, server: SyncServer) -> Site:
    """The site in front of that server."""
    site.upstream = ("127.0.0.1", server.port)
    return site


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """Storage of its own: what a person's browser is."""
    context = await browser.new_context()
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext) -> Page:
    return await context.new_page()
