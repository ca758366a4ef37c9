"""The board: what is shown is what is, what is asked for is shown at once, and what is refused goes back."""

import pytest
from playwright.async_api import expect

from tests.dashboard.screen import Viewer
from tests.dashboard.shop import Shop

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]


async def test_it_shows_orders_by_stage(viewer: Viewer, shop: Shop) -> None:
    await shop.order("A", customer={"name": "Amal"})
    await shop.order("B", items=0)
    await shop.order("C", items=2)
    await shop.stage("C", "in_progress")
    screen = await viewer.open()
    await screen.shows(screen.card("A", "initiated"))
    await screen.shows(screen.card("B", "empty"))
    await expect(screen.card("C", "in_progress")).to_contain_text("Express wash + 1")
    await expect(screen.card("A")).to_contain_text("Amal")
    await expect(screen.lane("initiated").locator(".lane-count")).to_have_text("1")


async def test_an_event_shows_within_a_second(viewer: Viewer, shop: Shop) -> None:
    await shop.order("A")
    screen = await viewer.open()
    await screen.shows(screen.card("A", "initiated"))
    await shop.stage("A", "in_progress")
    await screen.shows(screen.card("A", "in_progress"), timeout_s=1)
    await shop.order("B")
    await screen.shows(screen.card("B", "initiated"), timeout_s=1)
    await shop.do("DELETE", "/orders/B")
    await screen.hides(screen.card("B"), timeout_s=1)


async def test_a_card_is_dragged_to_its_next_stage(viewer: Viewer, shop: Shop) -> None:
    await shop.order("A")
    screen = await viewer.open()
    await screen.drag(screen.card("A", "initiated"), screen.lane("in_progress"))
    await screen.shows(screen.card("A", "in_progress"))
    await expect(screen.card("A").locator(".badge-queued")).to_be_hidden()
    await screen.answered()
    assert await shop.stage_of("A") == "in_progress"
    assert "#/board" in screen.page.url, "dragging does not open the order"


async def test_a_drag_against_the_rules_is_not_sent(viewer: Viewer, shop: Shop) -> None:
    await shop.order("A")
    screen = await viewer.open()
    await screen.drag(screen.card("A", "initiated"), screen.lane("completed"))
    await expect(screen.page.get_by_role("alert")).to_contain_text("cannot go from")
    await screen.shows(screen.card("A", "initiated"))
    assert await screen.page.evaluate("orderSync.actions.list.length") == 0


async def test_keys_lead_from_card_to_card_and_change_the_stage(viewer: Viewer, shop: Shop) -> None:
    for name in ("A", "B"):
        await shop.order(name)
    await shop.order("C")
    await shop.stage("C", "in_progress")
    screen = await viewer.open()
    keyboard = screen.page.keyboard
    await screen.card("A", "initiated").focus()
    await keyboard.press("ArrowDown")
    await expect(screen.card("B")).to_be_focused()
    await keyboard.press("ArrowRight")
    await expect(screen.card("C")).to_be_focused()
    await keyboard.press("ArrowLeft")
    await expect(screen.card("A")).to_be_focused()
    await keyboard.press("Shift+ArrowRight")
    await screen.shows(screen.card("A", "in_progress"))
    await expect(screen.card("A")).to_be_focused()
    await keyboard.press("Enter")
    await expect(screen.page.get_by_role("heading", level=1)).to_contain_text("A")
    await screen.answered()
    assert await shop.stage_of("A") == "in_progress"


async def test_a_card_has_a_menu(viewer: Viewer, shop: Shop) -> None:
    await shop.furnish(waiting=0)
    await shop.order("A")
    screen = await viewer.open()
    await screen.choose(screen.card("A", "initiated"), "Put into queue")
    await expect(screen.card("A")).to_contain_text("Express")
    await screen.card("A").focus()
    await screen.page.keyboard.press("m")
    await expect(screen.page.get_by_role("menuitem").first).to_be_focused()
    await screen.page.keyboard.press("Escape")
    await screen.choose(screen.card("A"), "Move to ⁨In progress")
    await screen.shows(screen.card("A", "in_progress"))


async def test_offline_it_is_queued_and_sent_when_online(viewer: Viewer, shop: Shop) -> None:
    await shop.order("A")
    screen = await viewer.open()
    await screen.shows(screen.card("A", "initiated"))
    await viewer.offline()
    await screen.shows(screen.page.locator(".banner[data-kind=offline]"))
    await screen.drag(screen.card("A", "initiated"), screen.lane("in_progress"))
    await screen.shows(screen.card("A", "in_progress").locator(".badge-queued"))
    await expect(screen.page.locator(".banner")).to_contain_text("1 action is queued")
    assert await shop.stage_of("A") == "initiated"
    await viewer.online()
    await screen.hides(screen.card("A", "in_progress").locator(".badge-queued"))
    await screen.hides(screen.page.locator(".banner"))
    await screen.answered()
    assert await shop.stage_of("A") == "in_progress"


async def test_a_refused_change_goes_back_with_the_reason(viewer: Viewer, shop: Shop) -> None:
    await shop.order("A")
    screen = await viewer.open()
    await viewer.offline()
    viewer.expected.append("409")
    await screen.card("A", "initiated").focus()
    await screen.page.keyboard.press("Shift+ArrowRight")
    await screen.shows(screen.card("A", "in_progress").locator(".badge-queued"))
    await shop.stage("A", "cancelled")
    await viewer.online()
    card = screen.card("A", "cancelled")
    await screen.shows(card.locator(".badge-failed"))
    await expect(card).to_contain_text("is cancelled and cannot become in_progress")
    await expect(screen.page.get_by_role("alert")).to_contain_text("is cancelled and cannot become in_progress")
    await card.get_by_role("button", name="Dismiss").click()
    await screen.hides(card.locator(".badge-failed"))


async def test_a_reload_keeps_what_is_queued(viewer: Viewer, shop: Shop) -> None:
    await shop.order("A")
    screen = await viewer.open()
    await screen.shows(screen.card("A", "initiated"))
    await viewer.block_api()
    await screen.choose(screen.card("A"), "Move to ⁨In progress")
    await screen.shows(screen.card("A", "in_progress").locator(".badge-queued"))
    await screen.page.reload()
    await screen.shows(screen.page.get_by_role("button", name="1 queued"))
    await viewer.allow_api()
    await screen.page.evaluate("orderSync.retryNow()")
    await screen.shows(screen.card("A", "in_progress"))
    await screen.hides(screen.page.locator(".outbox-button"))
    await screen.answered()
    assert await shop.stage_of("A") == "in_progress"


async def test_text_of_events_is_text(viewer: Viewer, shop: Shop) -> None:
    name = "<img src=x onerror=alert(1)>\u202egnorw"
    await shop.order("A", customer={"name": name})
    screen = await viewer.open()
    await expect(screen.card("A").locator(".card-who")).to_have_text(name)
    assert await screen.page.locator(".card img").count() == 0


async def test_orders_are_found_by_what_stands_on_them(viewer: Viewer, shop: Shop) -> None:
    await shop.order("A", customer={"name": "Amal"})
    await shop.order("B", customer={"name": "Bilal"})
    screen = await viewer.open()
    await screen.shows(screen.card("B"))
    await screen.page.get_by_role("searchbox").fill("amal")
    await screen.hides(screen.card("B"))
    await screen.shows(screen.card("A"))


async def test_a_long_lane_is_drawn_a_piece_at_a_time(viewer: Viewer, shop: Shop) -> None:
    for number in range(70):
        await shop.order(f"N{number:03d}", items=0)
    screen = await viewer.open()
    await expect(screen.lane("empty").locator(".card")).to_have_count(60)
    await expect(screen.lane("empty").locator(".lane-count")).to_have_text("70")
    await screen.page.get_by_role("button", name="Show 10 more").click()
    await expect(screen.lane("empty").locator(".card")).to_have_count(70)
