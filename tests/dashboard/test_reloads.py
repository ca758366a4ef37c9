"""What is queued outlives the page: it is kept in the browser, and sent once."""

import pytest
from playwright.async_api import Error

from tests.dashboard.screen import Viewer
from tests.dashboard.shop import Shop

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]


async def test_twenty_actions_survive_a_reload(viewer: Viewer, shop: Shop) -> None:
    for number in range(20):
        await shop.order(f"N{number:02}")
    screen = await viewer.open()
    await screen.shows(screen.card("N19"))
    await viewer.block_api()
    for number in range(20):
        await screen.begin(f"N{number:02}")
    await screen.shows(screen.page.get_by_role("button", name="20 queued"))
    await screen.page.reload()
    await screen.shows(screen.page.get_by_role("button", name="20 queued"))
    await screen.page.reload()  # twice: nothing that was taken up again is forgotten
    await screen.shows(screen.page.get_by_role("button", name="20 queued"))
    await viewer.allow_api()
    # The button is gone if the page has tried again by itself just then: clicked if it is there, and not waited for.
    again = screen.page.get_by_role("button", name="Try now")
    await again.evaluate_all("(buttons) => buttons.forEach((button) => button.click())")
    await screen.equals(shop)
    for number in range(20):
        assert await shop.moves_of(f"N{number:02}") == ["in_progress"]


async def test_twenty_actions_survive_a_reload_without_a_network(viewer: Viewer, shop: Shop) -> None:
    """The page itself can not even be loaded until the network is back."""
    for number in range(20):
        await shop.order(f"N{number:02}")
    screen = await viewer.open()
    await screen.shows(screen.card("N19"))
    await viewer.offline()
    for number in range(20):
        await screen.begin(f"N{number:02}")
    await screen.shows(screen.page.get_by_role("button", name="20 queued"))
    with pytest.raises(Error, match="ERR_INTERNET_DISCONNECTED"):
        await screen.page.reload()
    await viewer.online()
    await screen.page.goto(f"{viewer.url}/#/board")
    await screen.shows(screen.card("N19", "in_progress"))  # what was queued is known again
    await screen.equals(shop)
    for number in range(20):
        assert await shop.moves_of(f"N{number:02}") == ["in_progress"]
