"""Two tills at one person's sessions at once, networks that come and go: what is put in is kept in the end, once."""

import asyncio
import random

import pytest

from e2e.client.harness import Shop, eventually
from e2e.client.test_session import Till, names_in, stored, till
from sync_client.saving import SaveState
from tests.rounds import rounds

ROUNDS = rounds("ROUNDS", 3)
STEPS = 25
FAILED = (SaveState.CONFLICT, SaveState.FAILED)


async def settle(one: Till) -> None:
    """Keep both, as often as it takes."""

    async def go_on() -> None:
        while one.cart.state is not SaveState.SAVED or len(one.client.outbox):
            if one.cart.state in FAILED:
                await one.cart.resolve("both")
            await asyncio.sleep(0.01)

    await asyncio.wait_for(go_on(), 60)


async def step(one: Till, name: str, rng: random.Random) -> str | None:
    """Something happens at a till; what was put in, if anything was."""
    can_leave = one.cart.items and one.cart.state not in FAILED
    match rng.choice(["add", "add", "add", "add", "save", "cut", "unplug", "plug", "resolve", "complete", "log out"]):
        case "add":
            one.put_in(name)
            return name
        case "save":
            await one.cart.save()
        case "cut":
            one.shop.proxy.cut_all()
        case "unplug":
            one.shop.proxy.plain.refused = True
            one.shop.proxy.stream.refused = rng.random() < 0.5
        case "plug":
            one.shop.proxy.plain.clear()
            one.shop.proxy.stream.clear()
        case "resolve":
            online = not one.shop.proxy.plain.refused
            if online and one.cart.state in FAILED:
                await one.cart.resolve("both")
        case "complete" if can_leave:
            await one.cart.complete()
        case "log out" if can_leave:
            await one.cart.logout()
    return None


async def kept(shop: Shop, user: str) -> list[str]:
    """All that is in the person's sessions: sold, left for later, or in the cart."""
    reply = await shop.http.get("/api/v1/order-sessions", params={"userID": user})
    return sorted(name for session in reply.json()["order_sessions"] for name in names_in(session))


@pytest.mark.timeout(90 + 30 * ROUNDS)
async def test_whatever_two_tills_put_in_at_once_is_there_once(own_shop: Shop) -> None:
    rng = random.Random()
    for number in range(ROUNDS):
        user = f"user-{number}"
        put_in: list[str] = []
        async with till(own_shop, f"a-{number}", user) as one, till(own_shop, f"b-{number}", user) as two:
            for count in range(STEPS):
                name = await step(rng.choice([one, two]), f"{number}.{count}", rng)
                put_in += [] if name is None else [name]
                await asyncio.sleep(rng.choice([0, 0, 0.02, 0.3]))
            for each in (one, two, one, two):
                each.shop.proxy.plain.clear()
                each.shop.proxy.stream.clear()
                each.client.connect()
                await settle(each)
            assert await kept(own_shop, user) == sorted(put_in)
            active = (await stored(own_shop, user))["order_session"]
            for each in (one, two):
                assert len(each.client.outbox) == 0, "nothing waits any more"
                if active is not None:
                    there = sorted(names_in(active))
                    await eventually(lambda e=each, there=there: sorted(e.names) == there, what="the till shows it")
