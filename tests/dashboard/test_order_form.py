"""Orders are taken, changed and deleted on the dashboard, by keyboard as well."""

import pytest
from playwright.async_api import Browser, Locator, expect

from tests.dashboard.everybody import AXE, PHONE, faults
from tests.dashboard.screen import Screen, Viewer
from tests.dashboard.shop import Shop
from tests.serving import Served

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]


async def open_form(screen: Screen) -> Locator:
    await screen.page.get_by_role("button", name="New order").click()
    dialog = screen.page.get_by_role("dialog")
    await screen.shows(dialog)
    return dialog


async def only_order(shop: Shop) -> dict[str, object]:
    (order,) = await shop.orders()
    return order


async def test_an_order_is_taken_by_keyboard_alone(viewer: Viewer, shop: Shop) -> None:
    await shop.furnish(waiting=0)
    screen = await viewer.open()
    await screen.page.get_by_role("button", name="New order").focus()
    keyboard = screen.page.keyboard
    await keyboard.press("Enter")
    await expect(screen.page.get_by_label("Item", exact=True)).to_be_focused()
    await keyboard.type("Full wash")
    await keyboard.press("Tab")
    await keyboard.type("2")  # it replaces the 1 that stood there
    await keyboard.press("Tab")
    await keyboard.type("12.5")
    await keyboard.press("Tab")  # remove
    await keyboard.press("Tab")
    await expect(screen.page.get_by_role("button", name="Add an item")).to_be_focused()
    await keyboard.press("Tab")
    await keyboard.type("Amal")
    await keyboard.press("Tab")
    await keyboard.press("Tab")
    await keyboard.press("Tab")
    await keyboard.type("Exp")  # the queue, by its first letters
    await keyboard.press("Tab")  # cancel
    await keyboard.press("Tab")
    await keyboard.press("Enter")
    card = screen.lane("initiated").locator(".card")
    await expect(card).to_have_count(1)
    await expect(card).to_contain_text("2 × Full wash")
    await expect(card).to_contain_text("no. 1")
    await screen.equals(shop)
    order = await only_order(shop)
    assert order["items"] == [{"sku": "Full wash", "name": "Full wash", "quantity": 2, "unitPrice": "12.50"}]
    assert (order["customer"], order["queueID"]) == ({"name": "Amal"}, "Q")
    await screen.shows(screen.page.get_by_role("status").filter(has_text="is on the board"))


async def test_what_is_wrong_is_not_sent(viewer: Viewer, shop: Shop) -> None:
    screen = await viewer.open()
    dialog = await open_form(screen)
    await dialog.get_by_label("Item", exact=True).fill("Wash")
    await dialog.get_by_label("Price").fill("cheap")
    await dialog.get_by_role("button", name="Create").click()
    await expect(dialog.get_by_label("Price")).to_be_focused()
    assert await screen.page.evaluate("orderSync.actions.list.length") == 0
    await dialog.get_by_label("Price").fill("٩٫٥")  # as an Arabic keyboard writes it
    await expect(dialog.locator(".form-total")).to_have_text("$9.50")
    await dialog.get_by_role("button", name="Create").click()
    await screen.equals(shop)
    assert (await only_order(shop))["payment"] == {"status": "pending", "amount": "9.50", "currency": "USD"}


async def test_a_click_beside_the_form_loses_nothing(viewer: Viewer) -> None:
    screen = await viewer.open()
    dialog = await open_form(screen)
    await dialog.get_by_label("Item", exact=True).fill("Wash")
    await screen.page.mouse.click(5, 300)
    await expect(dialog.get_by_label("Item", exact=True)).to_have_value("Wash")
    await screen.page.keyboard.press("Escape")
    await screen.hides(dialog)


async def test_what_was_ordered_before_has_its_price(viewer: Viewer, shop: Shop) -> None:
    await shop.order("A")
    screen = await viewer.open()
    await screen.shows(screen.card("A"))
    dialog = await open_form(screen)
    await dialog.get_by_label("Item", exact=True).fill("Express wash")
    await dialog.get_by_label("Quantity").focus()
    await expect(dialog.get_by_label("Price")).to_have_value("9.50")
    await dialog.get_by_role("button", name="Add an item").click()
    await expect(dialog.get_by_label("Item", exact=True)).to_have_count(2)
    await dialog.get_by_role("button", name="Remove this item").last.click()
    await dialog.get_by_role("button", name="Create").click()
    await screen.equals(shop)
    (item,) = next(order for order in await shop.orders() if order["orderID"] != "A")["items"]
    assert item["sku"] == "EXP-1"


async def test_only_what_was_changed_is_sent(viewer: Viewer, shop: Shop) -> None:
    """What another till changes while the form is open stays."""
    await shop.order("A", customer={"name": "Amal", "plate": "D 12345"}, notes="before")
    screen = await viewer.open("orders/A")
    await screen.page.get_by_role("button", name="Edit").click()
    await shop.do("PATCH", "/orders/A", notes="after")
    dialog = screen.page.get_by_role("dialog")
    await dialog.get_by_label("Customer").fill("Bilal")
    await dialog.get_by_role("button", name="Save").click()
    await expect(screen.page.locator(".order-facts")).to_contain_text("Bilal")
    await screen.hides(screen.page.locator(".badge-queued"))
    order = await only_order(shop)
    assert (order["customer"], order["notes"]) == ({"name": "Bilal", "plate": "D 12345"}, "after")


async def test_deleting_is_asked_for_twice(viewer: Viewer, shop: Shop) -> None:
    await shop.order("A")
    await shop.order("B")
    screen = await viewer.open()
    await screen.choose(screen.card("A"), "Delete")
    await screen.page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    await screen.shows(screen.card("A"))
    await screen.choose(screen.card("A"), "Delete")
    await screen.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await screen.hides(screen.card("A"))
    await screen.equals(shop)
    assert [order["orderID"] for order in await shop.orders()] == ["B"]


@pytest.mark.parametrize("locale", ["en", "ar"])
async def test_the_form_fits_a_phone_and_can_be_used_by_all(browser: Browser, served: Served, locale: str) -> None:
    async with Viewer(browser, served.url, viewport=PHONE, locale=locale, reduced_motion="reduce") as viewer:
        screen = await viewer.open()
        await screen.page.evaluate(AXE)
        await screen.page.locator(".page-head .primary").click()
        await screen.shows(screen.page.get_by_role("dialog"))
        assert await faults(screen) == []
        assert await screen.page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
        assert viewer.complaints() == []
