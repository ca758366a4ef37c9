"""The fueling page: claim, go, acknowledge, complete; offline too, and only for who may see it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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


async def airport(shop: Shop) -> None:
    """Truck T1, and orders A and B that nobody has."""
    await shop.do("POST", "/fuel-trucks", truckID="T1", name="Truck 1", currentMeterReading="1203.50")
    for order, aircraft in (("A", "N482QS"), ("B", "G-FUEL")):
        await shop.do(
            "POST", "/fuel-orders", fuelOrderID=order, aircraft=aircraft, requestedGallons="250", truckID="T1"
        )


async def fuel_order(shop: Shop, order: str = "A") -> dict[str, Any]:
    document: dict[str, Any] = (await shop.get(f"/fuel-orders/{order}"))["fuel_order"]
    return document


def button(place: Screen | Locator, name: str) -> Locator:
    where = place.page if isinstance(place, Screen) else place
    return where.get_by_role("button", name=name)


async def settled(screen: Screen) -> None:
    """Nothing is queued or refused."""
    await screen.until("orderSync.actions.list.map(({ state }) => state)", [])


async def test_an_order_goes_from_available_to_done(viewer: Viewer, shop: Shop) -> None:
    await airport(shop)
    screen = await viewer.open("fueling")
    card = screen.card("A", "available")
    await expect(card).to_contain_text("N482QS")
    await expect(card).to_contain_text("250.00")
    await button(card, "Claim").click()
    mine = screen.card("A", "mine")
    await button(mine, "On my way").click()
    await button(mine, "Start fueling").click()
    await expect(mine).to_contain_text("Fueling")
    await settled(screen)
    order = await fuel_order(shop)
    assert (order["status"], order["assigneeID"]) == ("fueling", "anonymous")
    await button(mine, "Complete…").click()
    await screen.page.get_by_label("Meter at the end").fill("1453.75")
    await button(screen, "Complete order").click()
    done = screen.card("A", "done")
    await expect(done).to_contain_text("250.25")
    await expect(done).to_contain_text("1203.50⁩ → ⁨1453.75")
    await settled(screen)
    order = await fuel_order(shop)
    assert (order["status"], order["gallonsDispensed"]) == ("completed", "250.25")
    assert (await shop.get("/fuel-trucks/T1"))["fuel_truck"]["currentMeterReading"] == "1453.75"
    await screen.shows(screen.card("B", "available"))


async def test_what_was_dispensed_shows_at_every_keystroke(viewer: Viewer, shop: Shop) -> None:
    await airport(shop)
    await shop.do("PATCH", "/fuel-orders/A/status", status="claimed", assigneeID="anonymous")
    screen = await viewer.open("fueling")
    await button(screen.card("A", "mine"), "Complete…").click()
    end, amount = screen.page.get_by_label("Meter at the end"), screen.page.get_by_label("Dispensed")
    await expect(screen.page.get_by_label("Meter at the start")).to_have_value("1203.50")
    await expect(end).to_be_focused()
    complete = button(screen, "Complete order")
    shown = []
    for key in "1210.2":
        await screen.page.keyboard.press(key)
        shown.append(await amount.text_content())
    plain = ["–" if text is None else text.replace("\u2068", "").replace("\u2069", "") for text in shown]
    assert plain == ["–", "–", "–", "6.50 gal", "–", "6.70 gal"]
    await expect(complete).to_be_enabled()
    for key in ("Backspace", "Backspace", "Backspace"):
        await screen.page.keyboard.press(key)
    await screen.shows(screen.page.get_by_text("The meter cannot run backwards."))
    await expect(complete).to_be_disabled()
    await end.fill("١٢٠٤٫٥")
    await expect(amount).to_contain_text("1.00")
    await complete.click()
    await expect(screen.card("A", "done")).to_contain_text("1.00")


async def test_a_change_has_to_be_read_before_anything_goes_on(viewer: Viewer, shop: Shop) -> None:
    await airport(shop)
    await shop.do("PATCH", "/fuel-orders/A/status", status="claimed", assigneeID="anonymous")
    screen = await viewer.open("fueling")
    card = screen.card("A", "mine")
    await screen.shows(button(card, "On my way"))
    await shop.do("PATCH", "/fuel-orders/A/csr-update", requestedGallons="300", location="Gate 7")
    await expect(card).to_contain_text("Customer service changed: ⁨Where it stands, Gallons asked for⁩", timeout=1000)
    await expect(card).to_contain_text("300.00")
    for name in ("On my way", "Complete…"):
        await screen.hides(button(card, name))
    await button(card, "Acknowledge").click()
    await screen.shows(button(card, "On my way"))
    await settled(screen)
    order = await fuel_order(shop)
    assert (order["changeVersion"], order["acknowledgedVersion"]) == (1, 1)


async def test_offline_the_work_goes_on_and_is_sent_later(viewer: Viewer, shop: Shop) -> None:
    await airport(shop)
    screen = await viewer.open("fueling")
    await viewer.offline()
    await button(screen.card("A", "available"), "Claim").click()
    await button(screen.card("A", "mine"), "Complete…").click()
    await screen.page.get_by_label("Meter at the end").fill("1300")
    await button(screen, "Complete order").click()
    await screen.shows(screen.card("A", "done").locator(".badge-queued"))
    await expect(screen.page.locator(".banner")).to_contain_text("2 actions are queued")
    assert (await fuel_order(shop))["status"] == "unassigned"
    await viewer.online()
    await settled(screen)
    await screen.hides(screen.card("A", "done").locator(".badge-queued"))
    assert (await fuel_order(shop))["gallonsDispensed"] == "96.50"


async def test_who_comes_too_late_is_told_and_sees_whose_it_is(viewer: Viewer, shop: Shop) -> None:
    await airport(shop)
    viewer.expected.append("409")
    screen = await viewer.open("fueling")
    await viewer.offline()
    await button(screen.card("A", "available"), "Claim").click()
    await screen.shows(screen.card("A", "mine"))
    await shop.do("PATCH", "/fuel-orders/A/status", status="claimed", assigneeID="ben")
    await viewer.online()
    card = screen.card("A", "others")
    await expect(card).to_contain_text("ben", timeout=15_000)
    await expect(card.locator(".card-failure")).to_contain_text("claimed by somebody else")
    await screen.hides(button(card, "Claim"))


async def test_customer_service_takes_changes_and_cancels_orders(viewer: Viewer, shop: Shop) -> None:
    await shop.do("POST", "/fuel-trucks", truckID="T1", name="Truck 1")
    screen = await viewer.open("fueling")
    await button(screen, "New order").click()
    dialog = screen.page.get_by_role("dialog")
    await dialog.get_by_label("Aircraft").fill("N77JT")
    await dialog.get_by_label("Gallons asked for").fill("12,5")
    await dialog.get_by_label("Truck").select_option("Truck 1")
    await button(dialog, "Save").click()
    card = screen.lane("available").locator(".card")
    await expect(card).to_contain_text("12.50")
    await settled(screen)
    name = str(await card.get_attribute("data-id"))
    await screen.choose(card, "Change order…")
    await dialog.get_by_label("Gallons asked for").fill("lots")
    await button(dialog, "Save").click()
    await expect(dialog.get_by_label("Gallons asked for")).to_have_attribute("aria-invalid", "")
    await dialog.get_by_label("Gallons asked for").fill("40")
    await dialog.get_by_label("Truck").select_option("No truck yet")
    await button(dialog, "Save").click()
    await expect(card).to_contain_text("40.00")
    await settled(screen)
    order = await fuel_order(shop, name)
    assert (order["changeVersion"], order["pendingChanges"]) == (1, ["requestedGallons", "truckID"])
    assert "truckID" not in order
    await screen.choose(card, "Cancel order…")
    await dialog.get_by_label("Why?").fill("No flight")
    await button(dialog, "Cancel order").click()
    await expect(screen.card(name, "done")).to_contain_text("No flight")
    await settled(screen)
    assert (await fuel_order(shop, name))["status"] == "cancelled"


async def test_trucks_are_added_and_their_meters_shown(viewer: Viewer, shop: Shop) -> None:
    await airport(shop)
    screen = await viewer.open("fueling")
    await button(screen, "Trucks").click()
    dialog = screen.page.get_by_role("dialog")
    await dialog.get_by_label("Name").fill("Truck 2")
    await dialog.get_by_label("Its meter").fill("12x")
    await button(dialog, "Add truck").click()
    await expect(dialog.get_by_label("Its meter")).to_have_attribute("aria-invalid", "")
    await dialog.get_by_label("Its meter").fill("12.5")
    await button(dialog, "Add truck").click()
    rows = dialog.locator(".fuel-trucks > li")
    await expect(rows).to_have_text(["Truck 1⁨1203.50⁩ gal", "Truck 2⁨12.50⁩ gal"])
    await settled(screen)
    trucks = (await shop.get("/fuel-trucks"))["fuel_trucks"]
    assert {truck["name"]: truck["currentMeterReading"] for truck in trucks} == {
        "Truck 1": "1203.50",
        "Truck 2": "12.50",
    }


async def test_an_order_is_given_back(viewer: Viewer, shop: Shop) -> None:
    await airport(shop)
    screen = await viewer.open("fueling")
    await button(screen.card("A", "available"), "Claim").click()
    await screen.choose(screen.card("A", "mine"), "Give back")
    await screen.shows(screen.card("A", "available"))
    await settled(screen)
    assert (await fuel_order(shop))["status"] == "unassigned"


async def test_pulling_down_refreshes_what_is_available(browser: Browser, served: Served, shop: Shop) -> None:
    await airport(shop)
    async with Viewer(browser, served.url, viewport=PHONE, has_touch=True, is_mobile=True) as viewer:
        screen = await viewer.open("fueling")
        await screen.shows(screen.card("A", "available"))
        touch = await viewer.context.new_cdp_session(screen.page)
        async with screen.page.expect_request("**/sync/snapshot*"):
            for kind, y in (("touchStart", 250), ("touchMove", 350), ("touchMove", 500), ("touchEnd", None)):
                points = [] if y is None else [{"x": 100, "y": y}]
                await touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        await screen.shows(screen.page.get_by_text("Up to date."))


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
    await airport(shop)
    await shop.do("PATCH", "/fuel-orders/A/status", status="claimed", assigneeID="anonymous")
    await shop.do("PATCH", "/fuel-orders/A/csr-update", notes="Call first")
    await shop.do("POST", "/fuel-orders", fuelOrderID="C", aircraft="C-GKTX", assigneeID="anonymous")
    await shop.do("POST", "/fuel-orders", fuelOrderID="D", aircraft="D-IABC", assigneeID="ben")
    await shop.do("PUT", "/fuel-orders/D/submit-data", startMeterReading="1", endMeterReading="2", truckID="T1")
    async with Viewer(browser, served.url, reduced_motion="reduce", **options) as viewer:
        screen = await viewer.open("fueling")
        await screen.page.evaluate(AXE)
        await screen.shows(screen.card("D", "done"))
        assert await faults(screen, *rules) == []
        assert await screen.page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
        await screen.card("C").locator(".fuel-buttons button").last.click()
        await screen.shows(screen.page.get_by_role("dialog"))
        assert await faults(screen, *rules) == []
        await screen.page.keyboard.press("Escape")
        for tool in await screen.page.locator(".page-head button").all():
            await tool.click()
            await screen.shows(screen.page.get_by_role("dialog"))
            assert await faults(screen, *rules) == []
            await screen.page.keyboard.press("Escape")
        assert viewer.complaints() == []


@asynccontextmanager
async def guarded(directory: Path) -> AsyncIterator[Served]:
    """A server with access control: fred is a fueler, vera may only look at the shop."""
    async with office(directory) as accounts:
        await accounts.add_user("fred", "fueler")
        await accounts.add_user("vera", "viewer")
    async with serving(sqlite_settings(directory, access=ACCESS)) as served:
        yield served


async def test_the_page_is_for_who_may_see_it(browser: Browser, tmp_path: Path) -> None:
    async with guarded(tmp_path) as served, Shop(served.url, role="admin") as shop:
        await airport(shop)
        async with Viewer(browser, served.url) as viewer:
            viewer.expected.append("401|403")
            screen = await viewer.open("fueling", live=False)
            await log_in(screen, "vera")
            await screen.live()
            pages = screen.page.get_by_role("navigation").get_by_role("link")
            await expect(pages.filter(has_text="Board")).to_have_attribute("aria-current", "page")
            assert "Fueling" not in await pages.all_text_contents()
            await button(screen, "Signed in as").click()
            await screen.page.get_by_role("menuitem", name="Sign out").click()
            await log_in(screen, "fred")
            await screen.live()
            assert await pages.all_text_contents() == ["Fueling", "Feed", "Health"]
            assert await screen.page.locator(".lane h2 .lane-name").all_text_contents() == ["Available", "Mine", "Done"]
            await screen.hides(button(screen, "New order"))
            await button(screen.card("A", "available"), "Claim").click()
            await screen.shows(screen.card("A", "mine"))
            await settled(screen)
            assert (await fuel_order(shop))["assigneeID"] == "fred"
            # Of what somebody else has claimed nothing is left.
            await shop.do("PATCH", "/fuel-orders/B/status", status="claimed")
            await screen.hides(screen.card("B"))
            assert viewer.complaints() == []
