"""A shop that asks who comes, and coming in."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.access.credentials import ACCESS
from tests.accounts.office import PASSWORD, office
from tests.dashboard.screen import Screen
from tests.serving import Served, serving, sqlite_settings

__all__ = ["guarded", "log_in"]


@asynccontextmanager
async def guarded(directory: Path) -> AsyncIterator[Served]:
    """A shop with access control: ann is a cashier, bob may only look."""
    async with office(directory) as accounts:
        await accounts.add_user("ann", "cashier")
        await accounts.add_user("bob", "viewer")
    async with serving(sqlite_settings(directory, access=ACCESS)) as served:
        yield served


async def log_in(screen: Screen, name: str, password: str = PASSWORD) -> None:
    await screen.page.get_by_label("User name").fill(name)
    await screen.page.get_by_label("Password").fill(password)
    await screen.page.get_by_role("button", name="Sign in").click()
