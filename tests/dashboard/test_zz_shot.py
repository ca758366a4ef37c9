import pytest
from tests.dashboard.test_devices import *
from tests.dashboard.conftest import *
pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]
async def fill(shop):
    await cafe(shop)
    await shop.do("PATCH", "/devices/pc2", isRunning=True, elapsedSeconds=754, mode="multi", customerCount=4)
    await shop.do("POST", "/devices/pc2/orders", orders=[COLA, {"name":"Hamburger with everything","price":"4500","notes":"no onions please, extra cheese"}, {"name":"tea","price":"0.5"}])
    for n in range(4,9):
        await shop.do("POST", "/devices", deviceID=f"pc{n}", name=f"PC {n}")
    await shop.do("PATCH", "/devices/pc5", isRunning=True, elapsedSeconds=75400)
    await shop.do("POST", "/devices/pc6/orders", orders=[COLA])
@pytest.mark.parametrize("name,options",[("light",{"viewport":{"width":1280,"height":800}}),("dark",{"viewport":{"width":1280,"height":800},"color_scheme":"dark","locale":"ar"}),("phone",{"viewport":PHONE,"locale":"ar"})])
async def test_shot(browser, served, shop, name, options):
    await fill(shop)
    async with Viewer(browser, served.url, reduced_motion="reduce", **options) as viewer:
        screen = await viewer.open("devices")
        await screen.shows(panel(screen, "pc3"))
        await screen.page.screenshot(path=f"/tmp/shots/{name}.png")
        if name != "dark":
            await screen.page.locator(".page-head button").first.click()
            await screen.page.screenshot(path=f"/tmp/shots/{name}-prices.png")
            await screen.page.keyboard.press("Escape")
            await panel(screen, "pc1").locator(".bay-buttons button").last.click()
            await screen.page.screenshot(path=f"/tmp/shots/{name}-order.png")
            await screen.page.keyboard.press("Escape")
            await panel(screen, "pc1").locator("[aria-haspopup=menu]").first.click()
            await screen.page.screenshot(path=f"/tmp/shots/{name}-menu.png")
