"""Till, server and network fail at random while commands go out: each is applied once, in the order it was given."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from e2e.client.harness import Shop, eventually
from e2e.client.test_outbox import cashier, commands, log_of, said, statuses
from tests.rounds import rounds

ROUNDS = rounds("ROUNDS", 3)
PER_ROUND = 25
"""Commands; about what gets through until the next thing happens."""


async def lose_answers(shop: Shop) -> None:
    """The server has them, and its answers go nowhere."""
    shop.proxy.plain.cut_after_bytes = 0
    await asyncio.sleep(0.2)
    shop.proxy.plain.clear()


async def stall(shop: Shop) -> None:
    shop.proxy.plain.stalled = True
    await asyncio.sleep(0.1)
    shop.proxy.plain.clear()
    shop.proxy.cut_all(reset=True)


async def be_busy(shop: Shop) -> None:
    shop.proxy.plain.status, shop.proxy.plain.headers = 503, {"Retry-After": "0"}
    await asyncio.sleep(0.1)
    shop.proxy.plain.clear()


async def kill_server(shop: Shop) -> None:
    await shop.restart()


FAULTS: list[Callable[[Shop], Awaitable[None]]] = [lose_answers, stall, be_busy, kill_server]


@pytest.mark.timeout(120 + 20 * ROUNDS)
async def test_commands_survive_whatever_happens_on_the_way(own_shop: Shop, order_id: str) -> None:
    shop, rng, count = own_shop, random.Random(), ROUNDS * PER_ROUND
    shop.proxy.plain.refused = shop.proxy.stream.refused = True
    async with cashier(shop, order_id, "--give", str(count)) as process:
        assert await said(process, within_s=60) == "given"
    shop.proxy.plain.clear()
    shop.proxy.stream.clear()
    for _ in range(ROUNDS):
        async with cashier(shop, order_id):  # killed at the end, whatever it is doing
            before = len(commands(shop))
            await eventually(lambda before=before: len(commands(shop)) > before, within_s=60)
            await asyncio.sleep(rng.uniform(0, 0.2))
            await rng.choice(FAULTS)(shop)
            await asyncio.sleep(rng.uniform(0, 0.2))
        if len(await statuses(shop, order_id)) == count:
            break
    async with cashier(shop, order_id) as process:
        assert [await said(process), await said(process, within_s=90)] == ["given", "flushed"]
    assert await statuses(shop, order_id) == [str(n) for n in range(count)]
    assert [event["eventType"] for event in await log_of(shop, order_id)].count("order_created") == 1
    assert len(set(commands(shop))) == count + 2
