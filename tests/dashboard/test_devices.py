"""The devices page: clocks that run, orders, moving and clearing; prices; offline too, and for everybody to use."""

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, expect

from tests.access.credentials import ACCESS
from tests.accounts.office import office
from tests.dashboard.everybody import AXE, COLOURS, PHONE, faults
from tests.dashboard.login import log_in
from tests.dashboard.screen import Screen, Viewer
from tests.dashboard.shop import Shop
from tests.serving import Served, serving, sqlite_settings

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]

COLA: dict[str, Any] = {"name": "كولا", "price": "1000", "quantity": 2, "notes": "بارد"}


async def cafe(shop: Shop) -> None:
    """pc1 runs, with an order on it; pc2 and pc3 are free; the catalog knows cola."""
    for number in (1, 2, 3):
        await shop.do("POST", "/devices", deviceID=f"pc{number}", name=f"PC {number}")
    await shop.do("PATCH", "/devices/pc1", isRunning=True, elapsedSeconds=3600, customerCount=2, notes="زبون مهم")
    await shop.do("POST", "/devices/pc1/orders", orders=[COLA])
    await shop.do("PUT", "/catalog/main/categories", categories=[{"name": "مشروبات"}])
    await shop.do("PUT", "/catalog/main/prices", prices=[{"name": "كولا", "category": "مشروبات", "price": "1000"}])


async def device(shop: Shop, name: str) -> dict[str, Any]:
    found: dict[str, Any] = (await shop.get(f"/devices/{name}"))["device"]
    return found


def panel(screen: Screen, name: str) -> Locator:
    return screen.page.locator(f'.device[data-id="{name}"]')


def button(place: Screen | Locator, name: str) -> Locator:
    where = place.page if isinstance(place, Screen) else place
    return where.get_by_role("button", name=name, exact=True)


async def settled(screen: Screen) -> None:
    """Nothing is queued or refused."""
    await screen.until("orderSync.actions.list.map(({ state }) => state)", [])


async def test_a_device_is_shown_as_it_is_and_its_clock_runs(viewer: Viewer, shop: Shop) -> None:
    await cafe(shop)
    screen = await viewer.open("devices")
    pc1 = panel(screen, "pc1")
    await expect(pc1).to_contain_text("2 customers")
    await expect(pc1).to_contain_text("زبون مهم")
    await expect(pc1.locator(".device-orders li")).to_contain_text("كولا")
    await expect(pc1.locator(".device-total strong")).to_have_text("2,000")
    await expect(pc1.locator(".device-clock")).to_contain_text("1:00:0")
    shown = await pc1.locator(".device-clock").text_content()
    await expect(pc1.locator(".device-clock")).not_to_have_text(str(shown))
    await expect(panel(screen, "pc2").locator(".device-clock")).to_have_text("0:00")
    await shop.do("POST", "/devices/pc1/orders", orders=[COLA | {"name": "tea", "price": "0.50", "quantity": 1}])
    await expect(pc1.locator(".device-total strong")).to_have_text("2,000.50", timeout=1000)


async def test_a_clock_is_started_and_stopped(viewer: Viewer, shop: Shop) -> None:
    await cafe(shop)
    screen = await viewer.open("devices")
    pc2 = panel(screen, "pc2")
    await button(pc2, "Start").click()
    await expect(pc2).to_have_attribute("data-status", "running")
    await settled(screen)
    assert (await device(shop, "pc2"))["isRunning"] is True
    await button(pc2, "Stop").click()
    await expect(pc2).to_have_attribute("data-status", "free")
    await settled(screen)
    assert (await device(shop, "pc2"))["isRunning"] is False


async def test_something_is_ordered_changed_and_taken_off(viewer: Viewer, shop: Shop) -> None:
    await cafe(shop)
    screen = await viewer.open("devices")
    pc2, dialog = panel(screen, "pc2"), screen.page.get_by_role("dialog")
    await button(pc2, "Order…").click()
    await dialog.get_by_label("What").fill("كولا")
    await dialog.get_by_label("Quantity").fill("3")
    await expect(dialog.get_by_label("Price each")).to_have_value("1000.00")  # as the catalog has it
    await dialog.get_by_label("Price each").fill("free")
    await button(dialog, "Order").click()
    await expect(dialog.get_by_label("Price each")).to_have_attribute("aria-invalid", "")
    await dialog.get_by_label("Price each").fill("٩٠٠٫٥")
    await button(dialog, "Order").click()
    await expect(pc2.locator(".device-total strong")).to_have_text("2,701.50")
    await settled(screen)
    await screen.choose(pc2.locator(".device-orders li"), "Change…")
    await dialog.get_by_label("Quantity").fill("1")
    await button(dialog, "Save").click()
    await settled(screen)
    (order,) = (await device(shop, "pc2"))["orders"]
    assert (order["name"], order["quantity"], order["price"]) == ("كولا", 1, "900.50")
    await screen.choose(pc2.locator(".device-orders li"), "Take off")
    await expect(pc2.locator(".device-orders li")).to_have_count(0)
    await settled(screen)
    assert (await device(shop, "pc2"))["orders"] == []


async def test_everything_moves_to_a_free_device_and_is_cleared(viewer: Viewer, shop: Shop) -> None:
    await cafe(shop)
    await shop.do("PATCH", "/devices/pc2", isRunning=True)
    screen = await viewer.open("devices")
    await panel(screen, "pc1").locator("[aria-haspopup=menu]").first.click()
    targets = await screen.page.get_by_role("menuitem").all_text_contents()
    assert [text for text in targets if "Move to" in text] == ["Move to \u2068PC 3\u2069"], "pc2 is in use"
    await screen.page.get_by_role("menuitem", name="Move to").click()
    await expect(panel(screen, "pc3").locator(".device-orders")).to_contain_text("كولا")
    await expect(panel(screen, "pc1")).to_have_attribute("data-status", "free")
    await settled(screen)
    moved = await device(shop, "pc3")
    assert (moved["isRunning"], moved["customerCount"], moved["name"]) == (True, 2, "PC 3")
    await screen.choose(panel(screen, "pc3"), "Reset…")
    await button(screen.page.get_by_role("dialog"), "Reset").click()
    await expect(panel(screen, "pc3")).to_have_attribute("data-status", "free")
    await settled(screen)
    assert (await device(shop, "pc3"))["orders"] == []


async def test_devices_are_made_changed_and_taken_away(viewer: Viewer, shop: Shop) -> None:
    screen = await viewer.open("devices")
    await screen.shows(screen.page.get_by_text("There are no devices yet."))
    dialog = screen.page.get_by_role("dialog")
    await button(screen, "New device").click()
    await dialog.get_by_label("Name").fill("Door")
    await dialog.get_by_label("Customers").fill("3")
    await button(dialog, "Save").click()
    door = screen.page.locator(".device")
    await expect(door).to_contain_text("3 customers")
    await screen.choose(door, "Change…")
    await dialog.get_by_label("Mode").fill("multi")
    await dialog.get_by_label("Notes").fill("VIP")
    await button(dialog, "Save").click()
    await expect(door).to_contain_text("Multi")
    await settled(screen)
    (made,) = (await shop.get("/devices"))["devices"]
    assert (made["name"], made["mode"], made["customerCount"], made["notes"]) == ("Door", "multi", 3, "VIP")
    await screen.choose(door, "Delete…")
    await button(dialog, "Delete").click()
    await expect(door).to_have_count(0)
    await settled(screen)
    assert (await shop.get("/devices"))["devices"] == []


async def test_prices_are_set(viewer: Viewer, shop: Shop) -> None:
    await cafe(shop)
    screen = await viewer.open("devices")
    dialog = screen.page.get_by_role("dialog")
    await button(screen, "Prices…").click()
    await expect(dialog.get_by_label("What is sold")).to_have_value("كولا")
    await dialog.get_by_label("Price", exact=True).fill("1250")
    await button(dialog, "Add a price").click()
    for label, value in (("What is sold", "كولا"), ("Category", "مشروبات"), ("Price", "5")):
        await dialog.get_by_label(label, exact=True).last.fill(value)
    await button(dialog, "Save").click()
    await screen.shows(dialog.get_by_text("twice"))
    for label, value in (("What is sold", "همبرغر"), ("Category", "طعام")):
        await dialog.get_by_label(label, exact=True).last.fill(value)
    await button(dialog, "Save").click()
    await screen.hides(dialog)
    await settled(screen)
    catalog = (await shop.get("/catalog/main"))["catalog"]
    assert [category["name"] for category in catalog["categories"]] == ["مشروبات", "طعام"]
    assert {price["name"]: price["price"] for price in catalog["prices"]} == {"كولا": "1250.00", "همبرغر": "5.00"}
    await button(screen, "Prices…").click()
    await dialog.get_by_label("Remove this price").first.click()
    await button(dialog, "Save").click()
    await screen.hides(dialog)
    await settled(screen)
    catalog = (await shop.get("/catalog/main"))["catalog"]
    assert [category["name"] for category in catalog["categories"]] == ["طعام"], "nothing is in the other any more"


async def test_offline_the_work_goes_on_and_is_sent_later(viewer: Viewer, shop: Shop) -> None:
    await cafe(shop)
    screen = await viewer.open("devices")
    await viewer.offline()
    await button(panel(screen, "pc2"), "Start").click()
    await screen.choose(panel(screen, "pc1"), "Move to \u2068PC 3")
    await screen.shows(panel(screen, "pc3").locator(".badge-queued"))
    await expect(panel(screen, "pc3").locator(".device-orders")).to_contain_text("كولا")
    assert (await device(shop, "pc2"))["isRunning"] is False
    await viewer.online()
    await settled(screen)
    assert (await device(shop, "pc2"))["isRunning"] is True
    assert len((await device(shop, "pc3"))["orders"]) == 1


async def test_who_goes_by_an_old_picture_is_told(viewer: Viewer, shop: Shop) -> None:
    await cafe(shop)
    viewer.expected.append("409")
    screen = await viewer.open("devices")
    pc1 = panel(screen, "pc1")
    await screen.shows(pc1.locator(".device-orders li"))
    await viewer.offline()
    await screen.choose(pc1.locator(".device-orders li"), "Take off")
    await shop.do("PATCH", "/devices/pc1/orders/0", quantity=5)
    await viewer.online()
    await expect(pc1.locator(".card-failure")).to_contain_text("has changed", timeout=15_000)
    await expect(screen.page.get_by_role("button", name="Try again")).to_have_count(0)  # it might mean another order
    await expect(pc1.locator(".device-total strong")).to_have_text("5,000")


@pytest.mark.parametrize(
    ("rules", "options"),
    [
        pytest.param((), {}, id="light"),
        pytest.param(COLOURS, {"color_scheme": "dark"}, id="dark"),
        pytest.param(COLOURS, {"contrast": "more"}, id="contrast"),
        pytest.param((), {"viewport": PHONE, "color_scheme": "dark", "contrast": "more", "locale": "ar"}, id="phone"),
    ],
)
async def test_nothing_keeps_people_from_using_it(
    browser: Browser, served: Served, shop: Shop, rules: tuple[str, ...], options: dict[str, Any]
) -> None:
    await cafe(shop)
    await shop.do("POST", "/devices/pc2/orders", orders=[COLA])
    async with Viewer(browser, served.url, reduced_motion="reduce", **options) as viewer:
        screen = await viewer.open("devices")
        await screen.page.evaluate(AXE)
        await screen.shows(panel(screen, "pc3"))
        assert await faults(screen, *rules) == []
        assert await screen.page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
        for opener in (panel(screen, "pc1").locator(".bay-buttons button").last, *await page_buttons(screen)):
            await opener.click()
            await screen.shows(screen.page.get_by_role("dialog"))
            assert await faults(screen, *rules) == []
            await screen.page.keyboard.press("Escape")
        assert viewer.complaints() == []


async def page_buttons(screen: Screen) -> list[Locator]:
    return await screen.page.locator(".page-head button").all()


async def test_the_page_is_for_who_may_see_it(browser: Browser, tmp_path: Path) -> None:
    async with office(tmp_path) as accounts:
        await accounts.add_user("fred", "fueler")
        await accounts.add_user("vera", "viewer")
    async with (
        serving(sqlite_settings(tmp_path, access=ACCESS)) as served,
        Shop(served.url, role="admin") as shop,
        Viewer(browser, served.url) as viewer,
    ):
        await cafe(shop)
        viewer.expected.append("401|403")
        screen = await viewer.open("devices", live=False)
        await log_in(screen, "vera")
        await screen.shows(panel(screen, "pc1"))
        await expect(panel(screen, "pc1").get_by_role("button")).to_have_count(0)
        await expect(screen.page.locator(".page-head button")).to_have_count(0)
