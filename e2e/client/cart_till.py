"""A till at which somebody edits a cart all the time, as a process of its own, to be killed:

    python -m e2e.client.cart_till URL CACHE_DIR TILL USER LOG RUN [--settle]

It appends to LOG what it has done, each line at once: ``open NAMES`` what it goes on with
(``resume NAMES``: with what it had not got through), ``add NAME TIME`` (of the
system's monotonic clock), ``disk NAMES`` and ``saved NAMES`` when the cart said that this is on disk, or at the server.
A conflict it resolves by keeping both. With --settle it edits nothing, gets everything through and ends.
"""

import argparse
import asyncio
import os
import random
import time
from pathlib import Path

from sync_client import State, SyncClient
from sync_client.saving import SaveState
from sync_client.session import SESSION_KINDS, Session

ITEMS_PER_RUN = 5


class Log:
    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def say(self, *words: str) -> None:
        os.write(self._file, (" ".join(words) + "\n").encode())


def names(cart: Session) -> list[str]:
    return [item.name for item in cart.items]


async def look(cart: Session, log: Log) -> None:
    async for view in cart.watch():
        if view.is_kept:
            what = "saved" if view.state is SaveState.SAVED else "disk"
            log.say(what, *(item.name for item in view.items))
        if view.state is SaveState.CONFLICT:
            await cart.resolve("both")


async def edit(cart: Session, log: Log, run: str) -> None:
    """Until it is killed."""
    rng = random.Random()
    for number in range(ITEMS_PER_RUN):
        name = f"{run}.{number}"
        line = cart.add(sku="X", name=name, unitPrice="1.00")
        log.say("add", name, str(time.monotonic()))
        for count in range(rng.randint(2, 25)):
            await asyncio.sleep(0.015)
            if any(item.name == name for item in cart.items):
                cart.change(line, quantity=count + 1)
    while True:
        await asyncio.sleep(0.015)
        cart.replace([{**item.model_dump(mode="json"), "quantity": rng.randint(1, 9)} for item in cart.items])


async def run(given: argparse.Namespace) -> None:
    log = Log(given.log)
    client = SyncClient(
        given.url, client_name=given.till, cache_dir=given.cache_dir, replica=SESSION_KINDS, subject=given.user,
        trust_env=False,
    )  # fmt: skip
    async with client:
        await client.wait_for(State.CONNECTED)
        cart = client.session
        await cart.open(till=given.till, timeout_s=30)
        log.say("open" if cart.state is SaveState.SAVED else "resume", *names(cart))
        print("open", flush=True)
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(look(cart, log))
            if not given.settle:
                await edit(cart, log, given.run)
            while cart.state is not SaveState.SAVED or len(client.outbox):
                await asyncio.sleep(0.01)
            looking.cancel()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("cache_dir", type=Path)
    parser.add_argument("till")
    parser.add_argument("user")
    parser.add_argument("log", type=Path)
    parser.add_argument("run")
    parser.add_argument("--settle", action="store_true")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
