"""Everything the client promises, on a real server: a tour of its features, then a network that misbehaves.

    python e2e/comprehensive.py [--rounds 50] [--seed N]

The tour: stream, filters, handlers, polling and back, circuit breaker, cursor that has expired, cache, export.
The rounds: kills of client and server, cuts, stalls, delays, buffering, errors, a frozen client, in random order,
while events are published; then everything is counted. Exit status 0 if all of it held.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from e2e.client.chaos import KILLS, NETWORK
from e2e.client.harness import Shop, eventually, numbers, open_shop
from e2e.client.script import chaos_rounds, run_script
from e2e.client.show import bar, rows_of, show_table, show_verdict
from sync_client import Event, State
from sync_client.persistence import import_document
from sync_client.states import Policy

Check = Callable[[Shop], Awaitable[None]]


async def check_stream(shop: Shop) -> None:
    """Events come as they are published, in order, within a moment."""
    async with shop.following("stream") as (client, got):
        await shop.publish(200)
        await eventually(lambda: len(got) == 200, within_s=10)
        assert numbers(got) == shop.sent[-200:]
        assert client.health.status == "healthy"


async def check_filters(shop: Shop) -> None:
    """A client sees its order and its event types, nothing else."""
    wanted = {"orderID": "ORDER-007", "eventTypes": ["stage_change"]}
    async with shop.following("filters", filter=wanted) as (_, got):
        await shop.publish(3)
        await shop.publish(2, orderID="ORDER-007")
        await eventually(lambda: len(got) >= 2, within_s=10)
        assert {event.order_id for event in got} == {"ORDER-007"}


async def check_resume(shop: Shop) -> None:
    """What was published while the client was away comes first."""
    async with shop.following("resume") as (_, got):
        await shop.publish(3)
        await eventually(lambda: len(got) == 3, within_s=10)
    await shop.publish(5)
    client = shop.client("resume")
    again: list[Event] = []
    client.on()(again.append)
    async with client:
        await eventually(lambda: len(again) == 5, within_s=10)
    assert numbers(again) == shop.sent[-5:]


async def check_polling(shop: Shop) -> None:
    """A proxy that buffers leads to polling, its mending back to the stream."""
    async with shop.following("polling", first_byte_s=0.5, policy=Policy(probe_first_s=1.0)) as (client, got):
        shop.proxy.stream.buffered = True
        shop.proxy.cut_all()
        await client.wait_for(State.POLLING, timeout_s=20)
        first = shop.published
        await shop.publish(5)
        await eventually(lambda: len(got) == 5, within_s=20)
        shop.proxy.stream.clear()
        await client.wait_for(State.CONNECTED, timeout_s=30)
        await shop.publish(5)
        await eventually(lambda: len(got) == 10, within_s=10)
        assert numbers(got) == list(range(first, first + 10))
        assert client.metrics.fallbacks == 1


async def check_breaker(shop: Shop) -> None:
    """A server that only fails is left alone."""
    shop.proxy.stream.status = shop.proxy.plain.status = 500
    try:
        async with shop.client("breaker", rng=lambda: 0.001) as client:
            await eventually(lambda: client.health.breaker == "open", within_s=20)
            count = len(shop.proxy.requests)
            await asyncio.sleep(1.0)
            assert len(shop.proxy.requests) == count
    finally:
        shop.proxy.stream.clear()
        shop.proxy.plain.clear()


async def check_server_killed(shop: Shop) -> None:
    """kill -9 of the server: resumed, complete."""
    async with shop.following("killed") as (_, got):
        first = shop.published
        await shop.publish(50)
        await shop.restart()
        await shop.publish(50)
        await eventually(lambda: len(got) == 100, within_s=30)
        assert numbers(got) == list(range(first, first + 100))


async def check_export(shop: Shop) -> None:
    """The export is the persistence format, and reads back."""
    async with shop.following("export") as (client, got):
        await shop.publish(3)
        await eventually(lambda: len(got) == 3 and client.idle, within_s=10)
        document = await client.export()
    imported = import_document(document)
    assert len(imported.records) == 3
    assert imported.cursor == document["lastEventId"]


async def check_close(shop: Shop) -> None:
    """close() is done within a second."""
    async with shop.following("close") as (client, _):
        began_s = time.monotonic()
        await client.close()
        assert time.monotonic() - began_s < 1


TOUR: dict[str, Check] = {
    "stream": check_stream,
    "filters": check_filters,
    "resume": check_resume,
    "polling fallback and back": check_polling,
    "circuit breaker": check_breaker,
    "server killed": check_server_killed,
    "export": check_export,
    "close": check_close,
}


async def tour(shop: Shop) -> tuple[list[tuple[str, str]], list[str]]:
    """Rows for the table, and faults."""
    rows, faults = [], []
    with bar("tour", len(TOUR)) as step:
        for number, (name, check) in enumerate(TOUR.items(), 1):
            began_s = time.monotonic()
            try:
                await check(shop)
            except (AssertionError, TimeoutError) as exc:
                faults.append(f"{name}: {exc or type(exc).__name__}")
                rows.append((name, "FAULT"))
            else:
                rows.append((name, f"ok, {time.monotonic() - began_s:.1f} s"))
            step(number)
    return rows, faults


async def run(rounds: int, seed: int) -> int:
    """The exit status."""
    with tempfile.TemporaryDirectory(prefix="comprehensive-") as name:
        directory = Path(name)
        async with open_shop(directory / "tour") as shop:
            rows, faults = await tour(shop)
        verdict = await chaos_rounds("chaos", KILLS | NETWORK, directory / "rounds", rounds=rounds, seed=seed)
    show_table("Comprehensive", rows + rows_of(verdict))
    return show_verdict(faults + verdict.faults)


if __name__ == "__main__":
    run_script(run, doc=__doc__)
