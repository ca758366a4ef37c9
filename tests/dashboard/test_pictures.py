"""The pictures of README and docs, taken of what there is.

SYNC_TEST_PICTURES=1   take them anew; else only those that are missing, so that a run of the tests changes no file
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.dashboard.day import play_half_a_day
from tests.dashboard.screen import Screen, Viewer
from tests.dashboard.shop import Shop
from tests.serving import Served, serving, sqlite_settings

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
ALL = os.environ.get("SYNC_TEST_PICTURES") == "1"
DESK = {"viewport": {"width": 1280, "height": 800}}
LOOKS: dict[str, dict[str, Any]] = {
    "light": DESK,
    "dark": {**DESK, "color_scheme": "dark"},
    "contrast": {**DESK, "contrast": "more"},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True},
}
PAGES = {"board": "board", "queue": "queue", "bays": "bays", "feed": "inspector"}


def picture(page: str, look: str) -> Path:
    return PICTURES / f"{PAGES[page]}-{look}.png"


def missing(look: str) -> list[str]:
    return [page for page in PAGES if ALL or not picture(page, look).exists()]


@asynccontextmanager
async def busy_shop(directory: Path) -> AsyncIterator[Served]:
    await play_half_a_day(directory)
    async with serving(sqlite_settings(directory)) as served:
        yield served


async def go_on(shop: Shop, name: str) -> None:
    """A few things happen, for who looks at the feed."""
    await shop.order(name, items=2, customer={"name": "Amal"})
    await shop.do("POST", "/queues/express/entries", orderID=name)
    for bay in (await shop.get("/bays"))["bays"]:
        if job := bay.get("job"):
            progress = min(job["progress"] + 3, 99)
            await shop.do("PATCH", f"/bays/{bay['bayID']}/jobs/{job['jobID']}", progress=progress)
    cleaned, broken, *_ = [bay["bayID"] for bay in (await shop.get("/bays"))["bays"] if bay["status"] == "cleaning"]
    await shop.do("PATCH", f"/bays/{cleaned}", status="available")
    await shop.do("PATCH", f"/bays/{broken}", status="out_of_service")
    await shop.stage(name, "cancelled")


async def take(screen: Screen, page: str, path: Path) -> None:
    await screen.go(page)
    await expect(screen.page.locator("main h1")).to_be_visible()
    await screen.page.locator(".card, .ticket, .bay, .events > li").first.wait_for()
    await screen.page.evaluate("document.activeElement?.blur()")
    await screen.page.screenshot(path=path, animations="disabled")


@pytest.mark.parametrize("look", LOOKS)
async def test_the_pictures_are_taken(browser: Browser, tmp_path: Path, look: str) -> None:
    if not (pages := missing(look)):
        return
    async with (
        busy_shop(tmp_path) as served,
        Viewer(browser, served.url, reduced_motion="reduce", **LOOKS[look]) as viewer,
        Shop(served.url) as shop,
    ):
        screen = await viewer.open("feed")
        await go_on(shop, "D1-999")
        for page in pages:
            await take(screen, page, picture(page, look))
        assert viewer.complaints() == []


async def test_every_picture_is_shown() -> None:
    text = "".join((ROOT / name).read_text("utf-8") for name in ("README.md", "docs/dashboard.md"))
    shown = [path.name for path in PICTURES.glob("*.png") if path.name in text]
    assert sorted(path.name for path in PICTURES.glob("*.png")) == sorted(shown)
