"""Queues and bays: who waits, what runs, and the buttons that move both."""

import pytest
from playwright.async_api import expect

from tests.dashboard.screen import Viewer
from tests.dashboard.shop import Shop

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]


async def test_a_shop_begins_with_a_queue_and_a_bay(viewer: Viewer, shop: Shop) -> None:
    for page, label in (("queue", "New queue"), ("bays", "New bay")):
        screen = await viewer.open(page)
        await screen.page.get_by_role("button", name=label).click()
        await screen.page.get_by_label("Name").fill(f"My {page}")
        await screen.page.keyboard.press("Enter")
        await expect(screen.page.get_by_role("heading", level=2)).to_contain_text(f"My {page}")
        await screen.equals(shop)
    assert [queue["name"] for queue in (await shop.get("/queues"))["queues"]] == ["My queue"]
    assert [bay["name"] for bay in (await shop.get("/bays"))["bays"]] == ["My bays"]


async def test_the_next_is_called_into_the_bay_that_was_chosen(viewer: Viewer, shop: Shop) -> None:
    await shop.furnish()
    screen = await viewer.open("queue")
    await expect(screen.ticket("W1").locator(".ticket-number")).to_have_text("1")
    await screen.page.get_by_label("Into which bay").select_option("Bay 2")
    await screen.page.get_by_role("button", name="Call next").click()
    await screen.hides(screen.ticket("W1"))
    await screen.hides(screen.page.locator(".queue .badge-queued").last)
    await expect(screen.page.get_by_label("Into which bay").locator("option")).to_have_text(["Bay 1"])
    assert (await shop.get("/bays/B2"))["bay"]["job"]["orderID"] == "W1"


async def test_without_a_free_bay_nobody_is_called(viewer: Viewer, shop: Shop) -> None:
    await shop.furnish(bays=1)
    screen = await viewer.open("queue")
    call = screen.page.get_by_role("button", name="Call next")
    await expect(call).to_be_enabled()
    await shop.do("PATCH", "/bays/B1", status="out_of_service")
    await expect(call).to_be_disabled()
    await expect(screen.page.get_by_label("Into which bay")).to_have_text("No bay is free")


async def test_places_in_the_queue_change(viewer: Viewer, shop: Shop) -> None:
    await shop.furnish()
    screen = await viewer.open("queue")
    await screen.choose(screen.ticket("W2"), "Move to the front")
    await expect(screen.page.locator(".ticket").first).to_contain_text("W2")
    await screen.choose(screen.ticket("W1"), "Take out")
    await screen.hides(screen.ticket("W1"))
    await screen.page.get_by_role("button", name="Pause").click()
    await screen.shows(screen.page.get_by_text("Paused"))
    await expect(screen.page.locator(".queue .badge-queued:visible")).to_have_text(["Paused"])  # nothing else is queued
    queue = (await shop.get("/queues/Q"))["queue"]
    assert (queue["paused"], [entry["orderID"] for entry in queue["entries"]]) == (True, ["W2"])


async def test_a_bay_shows_its_job_and_how_far_it_is(viewer: Viewer, shop: Shop) -> None:
    await shop.furnish(bays=1, waiting=1)
    screen = await viewer.open("bays")
    await expect(screen.bay("B1")).to_have_attribute("data-status", "available")
    answer = await shop.do("POST", "/queues/Q/call-next", bayID="B1", jobID="J", expectedSeconds=600)
    await expect(screen.bay("B1")).to_contain_text("W1", timeout=1000)
    await shop.do("PATCH", "/bays/B1/jobs/J", progress=40)
    bar = screen.bay("B1").get_by_role("progressbar")
    await expect(bar).to_have_attribute("aria-valuenow", "40", timeout=1000)
    await expect(screen.bay("B1").locator(".bay-left")).to_contain_text("left")
    assert answer["bay"]["job"]["expectedSeconds"] == 600


async def test_a_job_is_begun_finished_and_the_bay_cleaned(viewer: Viewer, shop: Shop) -> None:
    await shop.furnish(bays=1, waiting=1)
    screen = await viewer.open("bays")
    bay = screen.bay("B1")
    await screen.choose(bay, "Express")
    await bay.get_by_role("button", name="Finish").click()
    await bay.get_by_role("button", name="Clean").click()
    await expect(bay).to_have_attribute("data-status", "available")
    await screen.hides(bay.locator(".badge-queued"))
    await screen.answered()
    assert await shop.stage_of("W1") == "completed"
    assert (await shop.get("/bays/B1"))["bay"]["status"] == "available"


async def test_a_job_is_aborted_with_a_reason(viewer: Viewer, shop: Shop) -> None:
    await shop.furnish(bays=1, waiting=1)
    await shop.do("POST", "/queues/Q/call-next", bayID="B1")
    screen = await viewer.open("bays")
    await screen.bay("B1").get_by_role("button", name="Abort").click()
    await screen.page.get_by_label("Why?").fill("pump failure")
    await screen.page.get_by_role("dialog").get_by_role("button", name="Abort").click()
    await expect(screen.bay("B1")).to_have_attribute("data-status", "cleaning")
    await screen.hides(screen.bay("B1").locator(".badge-queued"))
    await screen.answered()
    assert await shop.stage_of("W1") == "initiated"


async def test_of_two_who_call_one_is_told_why_not(viewer: Viewer, shop: Shop) -> None:
    await shop.furnish(bays=1)
    viewer.expected.append("409")
    screen = await viewer.open("queue")
    await viewer.offline()
    await screen.page.get_by_role("button", name="Call next").click()
    await shop.do("POST", "/queues/Q/call-next", bayID="B1")
    await viewer.online()
    await expect(screen.page.locator(".queue .badge-failed")).to_be_visible(timeout=15_000)
    await expect(screen.page.locator(".queue")).to_contain_text("Bay B1 is occupied")
    await screen.shows(screen.ticket("W2"))
