"""The vehicles' page: a map that follows live positions, a list that says the same, and the transport orders."""

import re
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, expect

from tests.access.credentials import ACCESS
from tests.accounts.office import office
from tests.dashboard.everybody import AXE, COLOURS, PHONE, faults
from tests.dashboard.login import log_in
from tests.dashboard.screen import Screen, Viewer
from tests.dashboard.shop import Shop
from tests.server.shop import TRANSPORT, new_vin
from tests.serving import Served, serving, sqlite_settings

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]

FIRST_SCALE = 256 * 2**14
"""Pixels around the earth, where a single vehicle is shown."""
PLACES = {"V1": (35.5018, 33.8938), "V2": (35.8497, 34.4367), "V3": (35.2, 33.27)}


async def road(shop: Shop, *vehicles: str) -> None:
    """Vehicles with their places, Dan driving V1, and a new transport order T1."""
    for vehicle in vehicles:
        await shop.do(
            "POST", "/vehicles", vehicleID=vehicle, vin=new_vin(), plateNumber=f"B {vehicle[1:]}00", make="MB",
            model="Sprinter", fuelNorm="9.50",
        )  # fmt: skip
        lon, lat = PLACES[vehicle]
        await shop.do("POST", f"/vehicles/{vehicle}/location", lon=lon, lat=lat, heading=45, speed=60)
    await shop.do("POST", "/drivers", userID="dan", name="Dan")
    await shop.do("POST", "/vehicles/V1/driver", driverID="dan")
    await shop.do("POST", "/transport-orders", transportOrderID="T1", **TRANSPORT)


def row(screen: Screen, vehicle: str) -> Locator:
    return screen.page.locator(f'.vehicle-list [data-id="{vehicle}"]')


def surface(screen: Screen) -> Locator:
    return screen.page.locator(".map-surface")


async def zoomed(screen: Screen, times: float) -> None:
    """The map shows a single vehicle so many times as large as at first."""
    await screen.until(
        f"Math.round(document.querySelector('.map-surface').dataset.scale / {FIRST_SCALE} * 100) / 100", times
    )


async def status_of(shop: Shop, order: str = "T1") -> str:
    return str((await shop.get(f"/transport-orders/{order}"))["transport_order"]["status"])


async def settled(screen: Screen) -> None:
    """Nothing is queued or refused."""
    await screen.until("orderSync.actions.list.map(({ state }) => state)", [])


async def test_the_list_says_where_everybody_is_and_follows_live(viewer: Viewer, shop: Shop) -> None:
    await road(shop, "V1", "V2")
    await shop.do("POST", "/fuel-logs", vehicleID="V1", liters="50", odometer=1000)
    await shop.do("POST", "/fuel-logs", vehicleID="V1", liters="54.00", odometer=1500)
    screen = await viewer.open("vehicles")
    one = row(screen, "V1")
    for text in ("B 100", "Driver: ⁨Dan⁩", "33.8938, 35.5018", "60 km/h", "Heading 45°", "10.8⁩ L/100 km", "1.3⁩ over"):
        await expect(one).to_contain_text(text)
    await expect(row(screen, "V2")).to_contain_text("No driver")
    for step in range(1, 4):
        await shop.do("POST", "/vehicles/V1/location", lon=35.5 + step / 10, lat=34, heading=90, speed=50 + step)
        await expect(one).to_contain_text(f"34.0000, {35.5 + step / 10:.4f}", timeout=2000)
    await expect(one).to_contain_text("53 km/h")


async def test_what_passed_while_nobody_was_connected_is_there_again(viewer: Viewer, shop: Shop) -> None:
    await road(shop, "V1")
    await viewer.hasten()
    screen = await viewer.open("vehicles")
    await expect(row(screen, "V1")).to_contain_text("33.8938")
    await viewer.offline()
    await screen.shows(screen.page.locator(".pill:not([data-kind=live])"))
    for lat in (34.1, 34.2):
        await shop.do("POST", "/vehicles/V1/location", lon=35, lat=lat)
    await viewer.online()
    await expect(row(screen, "V1")).to_contain_text("34.2000", timeout=15_000)


async def test_the_map_shows_plates_where_there_is_room(viewer: Viewer, shop: Shop) -> None:
    await road(shop, "V1", "V2", "V3")
    screen = await viewer.open("vehicles")
    await expect(surface(screen)).to_have_attribute("data-named", "3")
    lon, lat = PLACES["V1"]
    await shop.do("POST", "/vehicles/V2/location", lon=lon, lat=lat)
    await expect(surface(screen)).to_have_attribute("data-named", "2")
    await (
        row(screen, "V3").locator("button.vehicle").click()
    )  # whose plate stands in a box; the others are out of sight
    await expect(surface(screen)).to_have_attribute("data-named", "0")


async def test_the_head_counts_the_vehicles_by_the_map_s_colours(viewer: Viewer, shop: Shop) -> None:
    await road(shop, "V1", "V2", "V3")
    await shop.do("POST", "/transport-orders/T1/vehicle", vehicleID="V1")
    await shop.do(
        "POST", "/vehicles", vehicleID="V4", vin=new_vin(), plateNumber="B 400", make="MB", model="Vito", fuelNorm="9"
    )
    screen = await viewer.open("vehicles")
    await expect(screen.page.locator(".facts > div")).to_have_text(
        ["With orders1", "Free3", "Not heard of1", "Open orders1"]
    )


async def test_the_map_is_moved_by_mouse_wheel_keys_and_buttons(viewer: Viewer, shop: Shop) -> None:
    await road(shop, "V1")
    screen = await viewer.open("vehicles")
    await zoomed(screen, 1)
    await expect(row(screen, "V1").locator("button.vehicle")).to_have_attribute("aria-pressed", "false")
    await surface(screen).click()  # a single vehicle is in the middle
    await expect(row(screen, "V1").locator("button.vehicle")).to_have_attribute("aria-pressed", "true")
    await surface(screen).press("+")
    await zoomed(screen, 1.6)
    await surface(screen).press("0")
    await zoomed(screen, 1)
    await screen.page.get_by_role("button", name="Zoom out").click()
    await zoomed(screen, 0.63)
    box = await surface(screen).bounding_box()
    assert box is not None
    await screen.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    await screen.page.mouse.wheel(0, -400)
    await zoomed(screen, 1.25)
    at = await surface(screen).get_attribute("data-center")
    assert at == "35.5018,33.8938"
    await screen.page.mouse.down()
    await screen.page.mouse.move(box["x"] + box["width"] / 2 + 120, box["y"] + box["height"] / 2 + 60, steps=4)
    await screen.page.mouse.up()
    west_px = 120 / (FIRST_SCALE * 1.25) * 360
    await expect(surface(screen)).to_have_attribute("data-center", re.compile(rf"^{35.5018 - west_px:.4f},33\.897\d$"))
    await surface(screen).press("ArrowRight")
    await expect(surface(screen)).not_to_have_attribute("data-center", re.compile(rf"^{35.5018 - west_px:.4f}"))
    await row(screen, "V1").locator("button.vehicle").click()
    await expect(surface(screen)).to_have_attribute("data-center", at)


async def test_two_fingers_zoom_the_map(browser: Browser, served: Served, shop: Shop) -> None:
    await road(shop, "V1")
    async with Viewer(browser, served.url, viewport=PHONE, has_touch=True, is_mobile=True) as viewer:
        screen = await viewer.open("vehicles")
        await zoomed(screen, 1)
        await surface(screen).scroll_into_view_if_needed()
        box = await surface(screen).bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        touch = await viewer.context.new_cdp_session(screen.page)
        for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80), ("touchEnd", None)):
            points = [] if apart is None else [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
            await touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        await zoomed(screen, 2)
        assert viewer.complaints() == []


async def test_a_transport_order_is_dragged_from_new_to_delivered(viewer: Viewer, shop: Shop) -> None:
    await road(shop, "V1", "V2")
    screen = await viewer.open("vehicles")
    await expect(screen.card("T1", "new")).to_contain_text("33.894, 35.502")
    await screen.page.locator(".transports").evaluate("(node) => node.scrollIntoView()")
    await screen.drag(screen.card("T1", "new"), screen.lane("assigned"))
    await screen.page.get_by_role("menuitem", name="Give to ⁨B 100⁩").click()
    card = screen.card("T1", "assigned")
    await expect(card).to_contain_text("B 100")
    await screen.drag(card, screen.lane("delivered"))
    await screen.shows(screen.page.get_by_text("cannot become"))
    await screen.drag(card, screen.lane("in_progress"))
    await screen.drag(screen.card("T1", "in_progress"), screen.lane("delivered"))
    await screen.shows(screen.card("T1", "delivered"))
    await settled(screen)
    assert await status_of(shop) == "delivered"


async def test_a_card_is_worked_by_its_menu_and_cancelled_with_a_reason(viewer: Viewer, shop: Shop) -> None:
    await road(shop, "V1", "V2")
    screen = await viewer.open("vehicles")
    await screen.choose(screen.card("T1", "new"), "Give to ⁨B 200⁩")
    await screen.shows(screen.card("T1", "assigned"))
    await screen.card("T1").press("m")
    await screen.page.get_by_role("menuitem", name="Take back").click()
    await screen.shows(screen.card("T1", "new"))
    await screen.choose(screen.card("T1", "new"), "Cancel…")
    await screen.page.get_by_role("dialog").get_by_label("Why?").fill("Changed their mind")
    await screen.page.get_by_role("button", name="Cancel order").click()
    await expect(screen.card("T1", "cancelled")).to_contain_text("Changed their mind")
    await settled(screen)
    assert await status_of(shop) == "cancelled"


async def test_offline_a_card_moves_and_is_sent_later(viewer: Viewer, shop: Shop) -> None:
    await road(shop, "V1")
    screen = await viewer.open("vehicles")
    await screen.shows(screen.card("T1", "new"))
    await viewer.offline()
    await screen.choose(screen.card("T1", "new"), "Give to ⁨B 100⁩")
    await screen.shows(screen.card("T1", "assigned").locator(".badge-queued"))
    assert await status_of(shop) == "new"
    await viewer.online()
    await settled(screen)
    assert await status_of(shop) == "assigned"


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
    await road(shop, "V1", "V2", "V3")
    await shop.do("POST", "/transport-orders/T1/vehicle", vehicleID="V1")
    await shop.do("POST", "/fuel-logs", vehicleID="V1", liters="50", odometer=1000)
    await shop.do("POST", "/fuel-logs", vehicleID="V1", liters="54.00", odometer=1500)
    async with Viewer(browser, served.url, reduced_motion="reduce", **options) as viewer:
        screen = await viewer.open("vehicles")
        await screen.page.evaluate(AXE)
        await screen.shows(row(screen, "V3"))
        await screen.shows(screen.card("T1", "assigned"))
        assert await faults(screen, *rules) == []
        assert await screen.page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
        assert viewer.complaints() == []


async def test_a_driver_sees_his_own_vehicle_and_a_client_no_such_page(browser: Browser, tmp_path: Any) -> None:
    async with office(tmp_path) as accounts:
        await accounts.add_user("dan", "driver")
        await accounts.add_user("acme", "client")
    async with serving(sqlite_settings(tmp_path, access=ACCESS)) as served, Shop(served.url, role="dispatcher") as shop:
        await road(shop, "V1", "V2")
        await shop.do("POST", "/transport-orders/T1/vehicle", vehicleID="V1")
        async with Viewer(browser, served.url) as viewer:
            viewer.expected.append("401|403")
            screen = await viewer.open("vehicles", live=False)
            await log_in(screen, "dan")
            await screen.live()
            await expect(row(screen, "V1")).to_contain_text("33.8938")
            await expect(row(screen, "V2")).to_have_count(0)
            await screen.choose(screen.card("T1", "assigned"), "Set out")
            await screen.shows(screen.card("T1", "in_progress"))
            await settled(screen)
            assert await status_of(shop) == "in_progress"
        async with Viewer(browser, served.url) as viewer:
            viewer.expected.append("401|403")
            screen = await viewer.open("vehicles", live=False)
            await log_in(screen, "acme")
            await screen.live()
            pages = screen.page.get_by_role("navigation").get_by_role("link")
            await expect(pages.first).to_be_visible()
            assert "Vehicles" not in await pages.all_text_contents()
