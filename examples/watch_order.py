"""Follows one order: prints each change of its stage until it is completed.

    python examples/watch_order.py ORDER-001 [--url http://127.0.0.1:8000]

It may be stopped (Ctrl-C) and started at any time: what happened meanwhile is printed first.
"""

import argparse
import asyncio
import contextlib

from sync_client import SyncClient


async def follow(url: str, order_id: str) -> None:
    """Until the order is completed or cancelled."""
    name = f"watch-{order_id}"
    async with SyncClient(url, client_name=name, filter={"orderID": order_id}, start="earliest") as client:
        async for event in client.events():
            stage = event.data.get("newStage")
            if stage is None:
                continue
            print(f"{event.timestamp}  {event.data.get('previousStage') or '-'} → {stage}", flush=True)
            if stage in ("completed", "cancelled"):
                return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("order")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(follow(given.url, given.order))


if __name__ == "__main__":
    main()
