"""What the vehicles' page adds and changes: vehicles, drivers, transport orders; what cannot be is said in the form."""

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

VIN = "WDB9066331S123456"


async def vehicle(shop: Shop, name: str = "V1", plate: str = "B 100") -> None:
    await shop.do(
        "POST", "/vehicles", vehicleID=name, vin=new_vin(), plateNumber=plate, make="MB", model="Sprinter",
        fuelNorm="9.50",
    )  # fmt: skip


async def the(shop: Shop, plural: str) -> dict[str, Any]:
    """The only one of its kind."""
    (document,) = (await shop.get(f"/{plural.replace('_', '-')}"))[plural]
    found: dict[str, Any] = document
    return found


def row(screen: Screen, plate: str) -> Locator:
    return screen.page.locator(".vehicle-list li").filter(has_text=plate)


async def opened(screen: Screen, button: str) -> Locator:
    await screen.page.get_by_role("button", name=button).click()
    return screen.page.get_by_role("dialog")


async def fill(dialog: Locator, **fields: str) -> None:
    for name, value in fields.items():
        await dialog.locator(f"[name={name}]").fill(value)


async def says(dialog: Locator, name: str, why: str) -> None:
    """The form stays open, with the focus where it is wrong."""
    field = dialog.locator(f"[name={name}]")
    await expect(field).to_be_focused()
    await expect(field).to_have_attribute("aria-invalid", "")
    assert why in await field.evaluate("(node) => node.validationMessage")


async def test_a_vehicle_is_added_with_its_driver(viewer: Viewer, shop: Shop) -> None:
    await shop.do("POST", "/drivers", userID="dan", name="Dan")
    screen = await viewer.open("vehicles")
    await screen.shows(screen.page.get_by_text("There are no vehicles."))
    await screen.hides(screen.page.locator(".map"))
    dialog = await opened(screen, "Add vehicle")
    await fill(dialog, plateNumber=" B 100 ", vin=VIN.lower(), make="MB", model="Sprinter", fuelNorm="٩٫٥")
    await dialog.get_by_label("Driver").select_option("Dan")
    await dialog.get_by_role("button", name="Add vehicle").click()
    await expect(row(screen, "B 100")).to_contain_text("Driver: ⁨Dan⁩")
    await screen.shows(screen.page.locator(".map"))
    await screen.answered()
    await shop.do("POST", f"/vehicles/{(await the(shop, 'vehicles'))['vehicleID']}/location", lon=35.5, lat=33.9)
    await expect(screen.page.locator(".map-surface")).to_have_attribute("data-center", "35.5000,33.9000")
    added = await the(shop, "vehicles")
    assert {name: added[name] for name in ("plateNumber", "vin", "make", "model", "fuelNorm", "driverID")} == {
        "plateNumber": "B 100", "vin": VIN, "make": "MB", "model": "Sprinter", "fuelNorm": "9.50", "driverID": "dan",
    }  # fmt: skip


async def test_what_a_vehicle_cannot_have_is_said_where_it_stands(viewer: Viewer, shop: Shop) -> None:
    await vehicle(shop)
    known = await the(shop, "vehicles")
    screen = await viewer.open("vehicles")
    await screen.shows(row(screen, "B 100"))
    dialog = await opened(screen, "Add vehicle")
    add = dialog.get_by_role("button", name="Add vehicle")
    await fill(dialog, plateNumber="b-100", vin="WDB", make="MB", model="Sprinter", fuelNorm="nine")
    for wrong, why, better in (
        ("plateNumber", "Another vehicle has it", "B 200"),
        ("vin", "17 letters and digits", known["vin"].lower()),
        ("vin", "Another vehicle has it", VIN),
        ("fuelNorm", "such as 9.50", "9,5"),
    ):
        await add.click()
        await says(dialog, wrong, why)
        await fill(dialog, **{wrong: better})
    await add.click()
    await screen.hides(dialog)
    await screen.shows(row(screen, "B 200"))
    await screen.answered()


async def test_a_vehicle_is_changed_and_goes_to_a_driver_who_is_free(viewer: Viewer, shop: Shop) -> None:
    await vehicle(shop)
    await vehicle(shop, "V2", "B 200")
    for user in ("dan", "eve"):
        await shop.do("POST", "/drivers", userID=user, name=user.title())
    await shop.do("POST", "/vehicles/V2/driver", driverID="eve")
    screen = await viewer.open("vehicles")
    await screen.choose(row(screen, "B 100"), "Edit…")
    dialog = screen.page.get_by_role("dialog")
    driver = dialog.get_by_label("Driver")
    assert await driver.locator("option").all_text_contents() == ["No driver", "Dan"]
    await fill(dialog, model="Vito")
    await driver.select_option("Dan")
    await shop.do("PATCH", "/vehicles/V1", fuelNorm="8.00")  # meanwhile, elsewhere: what is not touched here stays
    await dialog.get_by_role("button", name="Save").click()
    await expect(row(screen, "B 100")).to_contain_text("MB Vito")
    await expect(row(screen, "B 100")).to_contain_text("Driver: ⁨Dan⁩")
    await screen.answered()
    changed = (await shop.get("/vehicles/V1"))["vehicle"]
    assert (changed["model"], changed["fuelNorm"], changed["driverID"]) == ("Vito", "8.00", "dan")
    await screen.choose(row(screen, "B 100"), "Edit…")
    await expect(driver).to_have_value("dan")
    await driver.select_option("No driver")
    await dialog.get_by_role("button", name="Save").click()
    await expect(row(screen, "B 100")).to_contain_text("No driver")
    await screen.answered()
    assert "vehicleID" not in (await shop.get("/drivers/dan"))["driver"]


async def test_only_a_vehicle_without_orders_is_deleted(viewer: Viewer, shop: Shop) -> None:
    await vehicle(shop)
    await shop.do("POST", "/transport-orders", transportOrderID="T1", **TRANSPORT)
    await shop.do("POST", "/transport-orders/T1/vehicle", vehicleID="V1")
    screen = await viewer.open("vehicles")
    menu = row(screen, "B 100").locator("[aria-haspopup=menu]")
    await menu.click()
    await screen.shows(screen.page.get_by_text("It has 1 order under way"))
    await screen.hides(screen.page.get_by_role("menuitem", name="Delete…"))
    await screen.page.keyboard.press("Escape")
    await screen.choose(screen.card("T1", "assigned"), "Take back")
    await screen.shows(screen.card("T1", "new"))
    await screen.choose(row(screen, "B 100"), "Delete…")
    await screen.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await screen.hides(row(screen, "B 100"))
    await screen.answered()
    assert (await shop.get("/vehicles"))["vehicles"] == []


async def test_what_is_refused_is_told_at_the_vehicle(viewer: Viewer, shop: Shop) -> None:
    await vehicle(shop)
    viewer.expected.append("409")
    await shop.do("POST", "/drivers", userID="dan", name="Dan")
    screen = await viewer.open("vehicles")
    await screen.choose(row(screen, "B 100"), "Edit…")
    dialog = screen.page.get_by_role("dialog")
    await dialog.get_by_label("Driver").select_option("Dan")
    await viewer.offline()
    await dialog.get_by_role("button", name="Save").click()
    await expect(row(screen, "B 100")).to_contain_text("Driver: ⁨Dan⁩")
    await vehicle(shop, "V2", "B 200")
    await shop.do("POST", "/vehicles/V2/driver", driverID="dan")
    await viewer.online()
    await expect(row(screen, "B 100")).to_contain_text("Dan drives vehicle V2 already.")
    await expect(row(screen, "B 100")).to_contain_text("No driver")
    await row(screen, "B 100").get_by_role("button", name="Dismiss").click()
    await screen.hides(screen.page.locator(".vehicle-list .badge-failed"))


async def test_drivers_are_added_one_after_the_other(viewer: Viewer, shop: Shop) -> None:
    screen = await viewer.open("vehicles")
    dialog = await opened(screen, "Drivers")
    add = dialog.get_by_role("button", name="Add driver")
    await fill(dialog, name="Dan", userID="d an")
    await add.click()
    await says(dialog, "userID", "Letters, digits")
    await fill(dialog, userID="dan", phone="+961 1 234")
    await add.click()
    listed = dialog.locator(".drivers li")
    await expect(listed).to_have_text(["DandanNo vehicle"])
    await fill(dialog, name="Another Dan", userID="dan")
    await add.click()
    await says(dialog, "userID", "There is a driver")
    await fill(dialog, name="علي", userID="ali")
    await add.click()
    await expect(listed).to_have_count(2)
    await screen.answered()
    assert (await shop.get("/drivers/dan"))["driver"]["phone"] == "+961 1 234"
    assert (await shop.get("/drivers/ali"))["driver"]["name"] == "علي"


async def test_a_transport_order_is_made_and_given_to_a_vehicle(viewer: Viewer, shop: Shop) -> None:
    await vehicle(shop)
    screen = await viewer.open("vehicles")
    await screen.shows(row(screen, "B 100"))
    dialog = await opened(screen, "New transport")
    make = dialog.get_by_role("button", name="New transport")
    await fill(
        dialog, pickup="133.89, 35.5", delivery="٣٤٫٤٣٦٧، ٣٥٫٨٤٩٧", customerID="acme", price="1,5,0", notes="Glass"
    )
    await make.click()
    await says(dialog, "pickup", "such as 33.8938, 35.5018")
    await fill(dialog, pickup="33.8938, 35.5018")
    await make.click()
    await says(dialog, "price", "such as 9.50")
    await fill(dialog, price="180")
    await dialog.get_by_label("Vehicle").select_option("B 100")
    await make.click()
    card = screen.lane("assigned").locator(".card")
    for text in ("33.894, 35.502", "34.437, 35.850", "For ⁨acme⁩", "Glass", "B 100", "$180.00"):
        await expect(card).to_contain_text(text)
    await screen.answered()
    made = await the(shop, "transport_orders")
    assert (made["status"], made["vehicleID"], made["customerID"], made["price"]) == (
        "assigned",
        "V1",
        "acme",
        "180.00",
    )
    assert made["pickup"]["coordinates"] == [35.5018, 33.8938]
    assert made["delivery"]["coordinates"] == [35.8497, 34.4367]


async def test_offline_what_was_added_waits_and_is_sent_later(viewer: Viewer, shop: Shop) -> None:
    screen = await viewer.open("vehicles")
    await viewer.offline()
    dialog = await opened(screen, "Add vehicle")
    await fill(dialog, plateNumber="B 100", vin=VIN, make="MB", model="Sprinter", fuelNorm="9.5")
    await dialog.get_by_role("button", name="Add vehicle").click()
    await expect(row(screen, "B 100").locator("button.vehicle")).to_have_attribute("data-state", "queued")
    dialog = await opened(screen, "New transport")
    await fill(dialog, pickup="33.8938 35.5018", delivery="34.4367 35.8497")
    await dialog.get_by_label("Vehicle").select_option("B 100")
    await dialog.get_by_role("button", name="New transport").click()
    await screen.shows(screen.lane("assigned").locator(".badge-queued"))
    assert (await shop.get("/vehicles"))["vehicles"] == []
    await viewer.online()
    await screen.answered()
    assert (await the(shop, "transport_orders"))["vehicleID"] == (await the(shop, "vehicles"))["vehicleID"]


@pytest.mark.parametrize(
    ("rules", "options"),
    [
        pytest.param((), {}, id="light"),
        pytest.param(COLOURS, {"color_scheme": "dark"}, id="dark"),
        pytest.param((), {"viewport": PHONE, "contrast": "more", "locale": "ar"}, id="phone"),
    ],
)
async def test_nothing_keeps_people_from_using_the_forms(
    browser: Browser, served: Served, shop: Shop, rules: tuple[str, ...], options: dict[str, Any]
) -> None:
    await vehicle(shop)
    await shop.do("POST", "/drivers", userID="dan", name="Dan")
    async with Viewer(browser, served.url, reduced_motion="reduce", **options) as viewer:
        screen = await viewer.open("vehicles")
        await screen.page.evaluate(AXE)
        await screen.shows(row(screen, "B 100"))
        for button in (".tools button.primary", ".tools button:not(.primary)", ".transports-head button"):
            await screen.page.locator(button).click()
            await screen.shows(screen.page.get_by_role("dialog"))
            assert await faults(screen, *rules) == []
            assert await screen.page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
            await screen.page.keyboard.press("Escape")
            await screen.hides(screen.page.get_by_role("dialog"))
        assert viewer.complaints() == []


async def test_a_driver_is_offered_none_of_it(browser: Browser, tmp_path: Any) -> None:
    async with office(tmp_path) as accounts:
        await accounts.add_user("dan", "driver")
    async with serving(sqlite_settings(tmp_path, access=ACCESS)) as served, Shop(served.url, role="dispatcher") as shop:
        await vehicle(shop)
        await shop.do("POST", "/drivers", userID="dan", name="Dan")
        await shop.do("POST", "/vehicles/V1/driver", driverID="dan")
        async with Viewer(browser, served.url) as viewer:
            viewer.expected.append("401|403")
            screen = await viewer.open("vehicles", live=False)
            await log_in(screen, "dan")
            await screen.live()
            await screen.shows(row(screen, "B 100"))
            for button in ("Add vehicle", "Drivers", "New transport", "Actions for vehicle ⁨B 100⁩"):
                await screen.hides(screen.page.get_by_role("button", name=button, exact=True))
