"""A cart that outlives a crash: two tills, a kill in the middle, a conflict, a tab, a sale; the whole of seed 004.

    python examples/order_session.py                                # with a server of its own, in a temporary directory
    python examples/order_session.py --url http://127.0.0.1:8000    # with one that runs, without access control

Ann sells at till-1, which is killed while she edits, goes on there and at till-2, and is paid. Prints what happens;
exits with 1 if it is not what has to happen. ``--crash`` is how it starts the till that it kills.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import urllib.parse
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from stage import ACCESS, PATIENCE_S, Server, arguments, ask, check, play, say, until

from sync_client import SyncClient
from sync_client.saving import SaveState
from sync_client.session import SESSION_KINDS, Session

COLA = {"sku": "COLA", "name": "كولا", "unitPrice": "2.50"}
CAKE = {"sku": "CAKE", "name": "Cake", "unitPrice": "4.00"}


class Shop:
    """Where all of it takes place: the server's address, what Ann and till-1 show there, and a directory for caches."""

    def __init__(self, url: str, directory: Path, *, user: str, token: str = "", till_key: str = "") -> None:
        self.url, self.directory, self.user, self._token, self._till_key = url, directory, user, token, till_key

    async def at_till(self, till: str) -> list[dict[str, Any]]:
        """Who has an active session there: what a till asks when it starts, before anybody logs in."""
        return list((await self._get("/order-sessions/active", self._till_key, tillId=till))["atTill"])

    async def active(self) -> dict[str, Any]:
        """Ann's active session, and what of hers waits."""
        return await self._get("/order-sessions/active", self._token, userId=self.user)

    async def _get(self, path: str, credential: str, **parameters: str) -> dict[str, Any]:
        return await asyncio.to_thread(ask, self.url, f"{path}?{urllib.parse.urlencode(parameters)}", token=credential)

    @asynccontextmanager
    async def till(self, name: str) -> AsyncIterator[tuple[SyncClient, Session]]:
        """Ann at that till, with her cart."""
        client = SyncClient(
            self.url, client_name=name, subject=self.user, token=self._token or None, replica=SESSION_KINDS,
            cache_dir=self.directory, trust_env=False,
        )  # fmt: skip
        async with client:
            await client.session.open(till=name, timeout_s=PATIENCE_S)
            yield client, client.session

    async def crash(self, name: str) -> None:
        """Ann edits her cart at that till, in a process that is killed in the middle of it."""
        argv = [sys.executable, __file__, "--crash", name, "--url", self.url, "--user", self.user,
                "--directory", str(self.directory)]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *argv, env={**os.environ, "TOKEN": self._token}, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        said = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
        process.kill()
        await process.wait()
        check(said == b"on disk\n", "the till had its cart on disk")


async def edit_until_killed(shop: Shop, name: str) -> None:
    """What the till does that is killed: two items are put in and kept, and there is no end to the editing."""
    async with shop.till(name) as (_, cart):
        cart.add(**COLA)
        line = cart.add(**CAKE)
        await cart.save()
        print("on disk", flush=True)
        for count in range(2, 10_000):
            cart.change(line, quantity=count % 100 + 1)
            await asyncio.sleep(0.01)


def names(cart: Session) -> list[str]:
    return sorted(item.name for item in cart.items)


async def saved(cart: Session) -> None:
    await until(lambda: cart.state is SaveState.SAVED, "saved")


async def day(shop: Shop) -> None:
    """The whole of it. Raises Wrong."""
    say("ann", "puts a cola and a cake into her cart at till-1, which is killed meanwhile")
    await shop.crash("till-1")

    async with shop.till("till-1") as (_, cart):
        check(names(cart) == ["Cake", "كولا"], f"the cart is back: {cart.view}")
        await saved(cart)
        (told,) = await shop.at_till("till-1")
        check(told["userId"] == shop.user, str(told))
        say("till-1", f"starts again: {told['userId']} has an active session here; all is in it: {names(cart)}")

        say("ann", "goes over to till-2")
        async with shop.till("till-2") as (_, other):
            check((names(other), other.other_till) == (["Cake", "كولا"], "till-1"), str(other.view))
            say("till-2", f"has her cart, and warns: it is open at {other.other_till} too")
            cart.add(**COLA | {"name": "Water"})
            other.add(**COLA | {"name": "Tea"})
            await asyncio.gather(cart.save(), other.save())
            await until(lambda: {cart.state, other.state} == {SaveState.SAVED, SaveState.CONFLICT}, "a conflict")
            second = cart if cart.state is SaveState.CONFLICT else other
            say("both", "somebody put in something at each at once: the second one shows both, and keeps both")
            await second.resolve("both")
            for one in (cart, other):
                await saved(one)
            await until(lambda: names(cart) == names(other) == ["Cake", "Tea", "Water", "كولا"], "all of it at both")

    async with shop.till("till-2") as (client, cart):
        tab = await client.tabs.create("Table 7")
        await tab.done(PATIENCE_S)
        await (await cart.assign_to_tab(tab.id)).done(PATIENCE_S)
        check(not cart.items, "the cart is empty")
        say("ann", "puts it on the tab of table 7")

        cart.add(**CAKE)
        await (await cart.logout()).done(PATIENCE_S)
        left = await shop.active()
        check(left["order_session"] is None and left["recoverable"], str(left))
        say("ann", "logs out with a cake in her cart")

    async with shop.till("till-1") as (client, cart):
        check(names(cart) == ["Cake"], "what was left is there")
        await saved(cart)
        answer = await (await cart.complete(payment={"method": "cash"})).done(PATIENCE_S)
        check(answer["transaction"]["total"] == "4.00", str(answer))
        say("ann", f"is back at till-1, and sells it: {answer['transaction']['total']} in cash")
        settled = await (await client.tabs.settle(tab.id, payment={"method": "card"})).done(PATIENCE_S)
        check(len(settled["transaction"]["items"]) == 4, str(settled))
        say("ann", f"settles table 7: {settled['transaction']['total']}")
    check((await shop.active())["order_session"] is None, "nothing is left")


async def run(url: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="order-session-") as name:
        directory = Path(name)
        if url is not None:
            await day(Shop(url, directory, user=f"ann-{uuid.uuid4().hex[:6]}"))
            return
        server = Server(directory, config=ACCESS, people={"ann": "cashier"})
        try:
            await asyncio.to_thread(server.start)
            key = server.tell("key", "new", "till-1", "--role", "till", "--bound", "tillID=till-1")
            await day(Shop(server.url, directory, user="ann", token=server.token("ann"), till_key=key))
        finally:
            server.kill()


def main() -> int:
    parser = arguments(__doc__)
    for hidden in ("--crash", "--user", "--directory"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.crash is not None:
        shop = Shop(given.url, Path(given.directory), user=given.user, token=os.environ["TOKEN"])
        asyncio.run(edit_until_killed(shop, given.crash))
        return 0
    return play(partial(run, given.url), url=given.url)


if __name__ == "__main__":
    sys.exit(main())
