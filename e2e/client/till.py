"""A till as a process of its own, to be killed: ``python -m e2e.client.till URL CACHE_DIR LOG [--token T]``.

Its plain handler appends a line to LOG for each event; its transactional one counts in the cache. Both would show
an event that is lost, doubled or out of order.
"""

import argparse
import asyncio
import os
import signal
from pathlib import Path

from sync_client import Event, SyncClient, Transaction
from sync_client.states import Policy

NAME = "till"


def make_client(url: str, cache_dir: Path) -> SyncClient:
    """The till's client; faster in its waits than a real one, so that a test is."""
    policy = Policy(probe_first_s=1.0, probe_max_s=3.0, max_reconnect_attempts=3, demotion_s=3.0, demotion_max_s=5.0)
    return SyncClient(
        url, client_name=NAME, cache_dir=cache_dir, start="earliest", policy=policy, trust_env=False, first_byte_s=1.0,
        retention_events=50,
    )  # fmt: skip


async def run(url: str, cache_dir: Path, log_path: Path) -> None:
    """Until SIGTERM."""
    client = make_client(url, cache_dir)
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    @client.on("stage_change")
    def note(event: Event) -> None:
        os.write(log, f"{event.id} {event.data['n']}\n".encode())

    @client.on("stage_change", transactional=True)
    def count(event: Event, tx: Transaction) -> None:
        key = f"n:{event.data['n']}"
        tx.put(key, tx.get(key, 0) + 1)
        tx.put("count", tx.get("count", 0) + 1)

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with client:
        print("ready", flush=True)
        await stop.wait()
        async with asyncio.timeout(10):  # what has arrived is handed out before it leaves
            while not client.idle:
                await asyncio.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("cache_dir", type=Path)
    parser.add_argument("log", type=Path)
    given = parser.parse_args()
    asyncio.run(run(given.url, given.cache_dir, given.log))


if __name__ == "__main__":
    main()
