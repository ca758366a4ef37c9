"""A till that gives commands, as a process of its own, to be killed:

    python -m e2e.client.cashier URL CACHE_DIR ORDER [--give N] [--poison] [--more]

It creates ORDER and a queue if it does not know it, and sets the order's status to 0 … N-1, one command each; with
--poison a command that the server will refuse comes in the middle. It says "given" when all of them are in the outbox
(with --more it gives one more when it is sent a line, and says "given more"), and "flushed" when all of them have their
answers, and goes on until it is ended.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from sync_client import SyncClient

NAME = "cashier"


def make_client(url: str, cache_dir: Path) -> SyncClient:
    """The cashier's client."""
    return SyncClient(url, client_name=NAME, cache_dir=cache_dir, replica=True, trust_env=False)


async def run(url: str, cache_dir: Path, order: str, count: int, *, poison: bool, more: bool) -> None:
    """Until it is killed."""
    async with make_client(url, cache_dir) as client:
        if count and client.orders.get(order) is None:
            await client.orders.create(order)
            await client.queues.create("Line", queueID=f"Q-{order}")
        for n in range(count):
            if poison and n == count // 2:
                await client.queues.enter(f"Q-{order}", "no-such-order")
            await client.orders.set_status(order, str(n))
        print("given", flush=True)
        if more:
            await asyncio.to_thread(sys.stdin.readline)
            await client.orders.set_status(order, "more")
            print("given more", flush=True)
        await client.outbox.flush()
        print("flushed", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("cache_dir", type=Path)
    parser.add_argument("order")
    parser.add_argument("--give", type=int, default=0)
    parser.add_argument("--poison", action="store_true")
    parser.add_argument("--more", action="store_true")
    given = parser.parse_args()
    asyncio.run(run(given.url, given.cache_dir, given.order, given.give, poison=given.poison, more=given.more))


if __name__ == "__main__":
    main()
