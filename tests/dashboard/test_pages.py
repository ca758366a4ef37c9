"""The order's page, the feed inspector, and the server's health."""

import json
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.dashboard.screen import Viewer
from tests.dashboard.shop import Shop

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]


async def test_an_order_tells_its_history_once_and_live(viewer: Viewer, shop: Shop) -> None:
    await shop.order("A", customer={"name": "Amal"})
    await shop.stage("A", "in_progress")
    screen = await viewer.open("orders/A")
    history = screen.page.locator(".timeline > li")
    await expect(history).to_have_count(2)
    await expect(history.first).to_contain_text("Initiated → In progress")
    await expect(history.last).to_contain_text("Order created")
    await expect(screen.page.locator(".order-facts")).to_contain_text("Amal")
    await shop.do("POST", "/orders/A/payment", status="paid", amount="9.50", method="card")
    await expect(history).to_have_count(3, timeout=1000)
    await expect(history.first).to_contain_text("Paid: $9.50 · card")


async def test_an_order_is_moved_and_paid_from_its_page(viewer: Viewer, shop: Shop) -> None:
    await shop.order("A")
    screen = await viewer.open("orders/A")
    await screen.page.get_by_role("button", name="Move to ⁨In progress").click()
    await expect(screen.page.locator(".steps [aria-current]")).to_have_text("In progress")
    await screen.page.get_by_role("button", name="Payment").click()
    await screen.page.get_by_role("menuitem", name="Paid").click()
    await expect(screen.page.locator(".order-facts")).to_contain_text("Paid")
    await screen.hides(screen.page.locator(".badge-queued"))
    order = (await shop.get("/orders/A"))["order"]
    assert (order["stage"], order["payment"]["status"]) == ("in_progress", "paid")


async def test_an_order_that_is_not_there_says_so(viewer: Viewer) -> None:
    screen = await viewer.open("orders/nobody%2F1")
    await screen.shows(screen.page.get_by_text("There is no such order"))
    await expect(screen.page.get_by_role("heading", level=1)).to_contain_text("nobody/1")


async def test_the_inspector_shows_events_and_the_connection(viewer: Viewer, shop: Shop) -> None:
    screen = await viewer.open("feed")
    fact = screen.page.locator("[data-fact]")
    await shop.order("A")
    await shop.stage("A", "in_progress")
    rows = screen.page.locator(".events > li")
    await expect(rows).to_have_count(3, timeout=1000)
    await expect(rows.first).to_contain_text("order_stage_change")
    await screen.page.get_by_label("Filter by").fill("order_created")
    await expect(rows).to_have_count(1)
    await rows.first.locator("summary").click()
    await expect(rows.first.locator("pre")).to_contain_text('"orderID": "A"')
    head = (await shop.get("/orders/A"))["cursor"]
    await expect(fact.and_(screen.page.locator("[data-fact=cursor]"))).to_have_text(head)
    await expect(screen.page.locator("[data-fact=state]")).to_have_text("Connected")
    await expect(screen.page.locator("[data-fact=breaker]")).to_have_text("Closed")
    await expect(screen.page.locator(".transitions > li").first).to_contain_text("Connecting → Connected")


async def test_the_inspector_pauses_and_replays(viewer: Viewer, shop: Shop) -> None:
    await shop.order("A")
    screen = await viewer.open("feed")
    rows = screen.page.locator(".events > li")
    await screen.page.get_by_role("button", name="Pause").click()
    await shop.order("B")
    await screen.shows(screen.page.get_by_text("1 event came meanwhile"))
    await expect(rows).to_have_count(0)
    await screen.page.get_by_role("button", name="Resume").click()
    await expect(rows).to_have_count(1)
    await screen.page.get_by_label("Replay from").fill("earliest")
    await screen.page.get_by_role("button", name="Replay").click()
    await expect(rows).to_have_count(2)
    await screen.page.get_by_role("button", name="Back to live").click()
    await expect(rows).to_have_count(1)


async def test_a_replay_from_nowhere_says_why(viewer: Viewer) -> None:
    viewer.expected.append("410")
    screen = await viewer.open("feed")
    await screen.page.get_by_label("Replay from").fill("aaaaaaaa.1")
    await screen.page.get_by_role("button", name="Replay").click()
    await screen.shows(screen.page.get_by_role("alert"))


async def test_what_is_kept_can_be_exported(viewer: Viewer, shop: Shop, tmp_path: Path) -> None:
    screen = await viewer.open("feed")
    await shop.order("A")
    await expect(screen.page.locator(".events > li")).to_have_count(1)
    async with screen.page.expect_download() as waiting:
        await screen.page.get_by_role("button", name="Export").click()
    await (await waiting.value).save_as(tmp_path / "export.json")
    content = json.loads((tmp_path / "export.json").read_text())
    assert content["version"] == "1.0.0"
    assert [event["eventType"] for event in content["shown"]] == ["order_created"]
    assert {"health", "transitions", "connectionMetrics"} <= content.keys()


async def test_health_draws_what_the_server_counts(viewer: Viewer, shop: Shop) -> None:
    screen = await viewer.open("health")
    readers = screen.page.locator(".chart").filter(has_text="Readers").first
    await expect(readers.locator(".chart-now")).to_have_text("1")
    await shop.order("A")
    written = screen.page.locator(".chart").filter(has_text="Events written")
    await expect(written.locator(".chart-now")).to_contain_text("/s", timeout=5000)
    points = await readers.locator("polyline").get_attribute("points")
    assert points is not None
    assert "NaN" not in points


async def test_names_are_text_on_every_page(viewer: Viewer, shop: Shop) -> None:
    """Tags, scripts, and letters that would turn the line around, wherever somebody can write a name."""
    name = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202egnorw"
    item = {"sku": name, "name": name, "quantity": 1, "unitPrice": "1.00"}
    await shop.do("POST", "/queues", queueID="Q", name=name)
    await shop.do("POST", "/bays", bayID="B", name=name)
    for order in ("A", "B"):
        customer = {"name": name, "phone": name}
        await shop.do("POST", "/orders", orderID=order, items=[item], customer=customer, notes=name)
        await shop.do("POST", "/queues/Q/entries", orderID=order)
    await shop.do("POST", "/queues/Q/call-next", bayID="B")
    screen = await viewer.open("feed")
    await shop.do("POST", "/orders/B/status", status=name, note=name)
    for page, place in (
        ("feed", ".events > li pre"), ("board", ".card-who"), ("queue", ".ticket-who"), ("bays", ".bay-who"),
        ("orders/A", ".order-facts"), ("orders/B", ".timeline"),
    ):  # fmt: skip
        await screen.go(page)
        if page == "feed":
            await screen.page.locator(".events summary").first.click()
        await expect(screen.page.locator(place).first).to_contain_text("<img src=x onerror=alert(1)><script>")
        assert await screen.page.locator("main :is(img, script)").count() == 0
