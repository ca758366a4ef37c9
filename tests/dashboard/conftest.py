"""A shop for each test of the dashboard, and a look at what the browser complained of."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Browser

from tests.dashboard.screen import Viewer
from tests.dashboard.shop import Shop
from tests.serving import Served, serving, sqlite_settings


@pytest_asyncio.fixture(loop_scope="session")
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """The real server on a free port, its log empty."""
    async with serving(sqlite_settings(tmp_path)) as served:
        yield served


@pytest_asyncio.fixture(loop_scope="session")
async def shop(served: Served) -> AsyncIterator[Shop]:
    """The shop, as another till sees it."""
    async with Shop(served.url) as shop:
        yield shop


@pytest_asyncio.fixture(loop_scope="session")
async def viewer(browser: Browser, served: Served) -> AsyncIterator[Viewer]:
    """Somebody with a browser of their own. What it complains of fails the test, but for what `expected` matches."""
    async with Viewer(browser, served.url) as viewer:
        yield viewer
        assert viewer.complaints() == []
