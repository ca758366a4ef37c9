"""What programs do to the client by mistake, each as it once went wrong."""

import asyncio
import sqlite3
from pathlib import Path

from e2e.client.harness import Shop, eventually
from sync_client import Event, HandlerPolicy, State, Transaction
from sync_client.backoff import Backoff

QUICK = HandlerPolicy(retries=1, backoff=Backoff(base_s=0.01, cap_s=0.02))


async def test_a_handlers_own_broken_database_is_not_taken_for_the_cache(shop: Shop, tmp_path: Path) -> None:
    foreign = tmp_path / "mine.db"
    foreign.write_bytes(b"this is no database" * 100)
    client = shop.client(handler_policy=QUICK)

    @client.on("stage_change", transactional=True)
    def book(event: Event, tx: Transaction) -> None:
        database = sqlite3.connect(foreign)
        try:
            database.execute("SELECT 1 FROM mine")
        finally:
            database.close()

    async with client:
        await client.wait_for(State.CONNECTED, timeout_s=10)
        await shop.publish(1)
        await eventually(lambda: client.metrics.parked == 1)
        assert client.metrics.handler_errors == 2
    assert not list((shop.directory / "cache").rglob("*damaged*"))


async def test_closing_from_inside_a_handler_leaves_no_task(shop: Shop) -> None:
    before = asyncio.all_tasks()
    client = shop.client()

    @client.on("stage_change")
    async def leave(event: Event) -> None:
        await client.close()

    await client.start()
    await client.wait_for(State.CONNECTED, timeout_s=10)
    await shop.publish(1)
    await eventually(lambda: client.state is State.CLOSED)
    await eventually(lambda: not [t for t in asyncio.all_tasks() - before if t.get_name().startswith("sync-client")])


async def test_closing_while_starting_lets_the_cache_go(shop: Shop) -> None:
    for _ in range(5):
        client = shop.client()
        starting = asyncio.create_task(client.start())
        await asyncio.sleep(0)
        await client.close()
        await asyncio.gather(starting, return_exceptions=True)
    async with shop.following() as (client, got):
        await shop.publish(1)
        await eventually(lambda: got)
