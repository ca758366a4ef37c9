"""A fuel order from the call to the meter readings: offered, claimed, changed, completed; with a server that dies.

    python examples/fueling.py                                # with a server of its own, in a temporary directory
    python examples/fueling.py --url http://127.0.0.1:8000    # with one that runs, without access control

Carla (customer service) and two fuelers, Ann and Ben, each with a client of their own. Prints what happens; exits
with 1 if it is not what has to happen.
"""

import asyncio
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from stage import ACCESS, PATIENCE_S, Server, arguments, check, play, refused, say, until

from sync_client import SyncClient
from sync_client.errors import CommandFailed

PEOPLE = {"carla": "csr", "ann": "fueler", "ben": "fueler", "boss": "admin"}
KINDS = ("fuel_orders", "fuel_trucks")
CONFIG = ACCESS + '[fueling]\noffer_share = 0.5\noffer_to_all_after = "1s"\n'


async def fuel_order(people: dict[str, SyncClient], server: Server | None) -> None:
    """The whole of it. Raises Wrong."""
    carla, ann, ben, boss = (people[name] for name in ("carla", "ann", "ben", "boss"))
    mark = uuid.uuid4().hex[:6]
    truck, order, other = f"truck-{mark}", f"fuel-{mark}", f"spare-{mark}"
    offers: dict[str, set[str]] = {"ann": set(), "ben": set()}
    for name, client in (("ann", ann), ("ben", ben)):
        client.on("new_unclaimed_order")(
            lambda event, name=name: offers[name].add(event.data["fuel_order"]["fuelOrderID"])
        )
    for client in people.values():
        await client.start()
    await until(lambda: all(client.fuel_orders.fresh for client in people.values()), "the first snapshot")

    await (await boss.fuel_trucks.create("Truck 1", truckID=truck, currentMeterReading="1000.00")).done(PATIENCE_S)
    say("carla", f"takes the order {order}: 250 gallons for N482QS")
    sent = await carla.fuel_orders.create(fuelOrderID=order, aircraft="N482QS", requestedGallons="250", truckID=truck)
    await sent.done(PATIENCE_S)
    await until(lambda: all(order in seen for seen in offers.values()), "the offer to all")
    say("server", "has offered it to a share of the fuelers, and then to all of them")

    say("both", "Ann and Ben claim it at the same moment")
    claims = await asyncio.gather(
        *(
            person.fuel_orders.change_status(order, "claimed", assigneeID=name)
            for name, person in (("ann", ann), ("ben", ben))
        )
    )
    outcomes = await asyncio.gather(*(claim.done(PATIENCE_S) for claim in claims), return_exceptions=True)
    won = [name for name, outcome in zip(("ann", "ben"), outcomes, strict=True) if not isinstance(outcome, Exception)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, CommandFailed)]
    check(len(won) == len(lost) == 1, f"one wins, one is told 409: {outcomes}")
    check(lost[0].problem["status"] == 409, str(lost[0].problem))
    winner = people[won[0]]
    say(won[0], f"has it; the other is told: {lost[0].problem['detail']}")
    if server is not None:
        await until(lambda: order not in people["ben" if won == ["ann"] else "ann"].fuel_orders, "the other's view")

    say("carla", "changes it to 300 gallons")
    await (await carla.fuel_orders.csr_update(order, requestedGallons="300")).done(PATIENCE_S)
    await until(lambda: winner.fuel_orders.get(order).document.changeVersion == 1, "the change at the fueler")
    detail = await refused(winner.fuel_orders.change_status(order, "en_route"), "nothing goes on before it is read")
    say(won[0], f"wants to drive and is told: {detail}")
    await refused(winner.fuel_orders.acknowledge_change(order, 2), "only the newest change is acknowledged")
    await (await winner.fuel_orders.acknowledge_change(order, 1)).done(PATIENCE_S)
    for status in ("en_route", "fueling"):
        await (await winner.fuel_orders.change_status(order, status)).done(PATIENCE_S)
    say(won[0], "has read it, is there, and fuels")

    if server is not None:
        await asyncio.to_thread(server.kill)
        say("server", "is dead")
    done = await winner.fuel_orders.submit_data(order, "1000.00", "1300.50")
    shown = winner.fuel_orders.get(order)
    check(shown.document.gallonsDispensed is not None, "what was submitted is shown at once")
    say(won[0], f"submits 1000.00 to 1300.50; the screen says {shown.document.gallonsDispensed} gallons")
    if server is not None:
        check(shown.pending, "it waits in the outbox")
        await asyncio.to_thread(server.start)
        say("server", "is back")
    answer = await done.done(PATIENCE_S)
    check(answer["fuel_order"]["status"] == "completed", str(answer))
    check(answer["fuel_order"]["gallonsDispensed"] == "300.50", str(answer))
    check(answer["fuel_truck"]["currentMeterReading"] == "1300.50", "order and truck go together")

    def carla_sees_both() -> bool:
        seen, meter = carla.fuel_orders.get(order).document, carla.fuel_trucks.get(truck).document
        return str(seen.gallonsDispensed) == "300.50" and str(meter.currentMeterReading) == "1300.50"

    await until(carla_sees_both, "the completion at customer service")
    say("carla", "sees it completed, and the truck's meter at 1300.50")
    await (await carla.fuel_orders.create(fuelOrderID=other, assigneeID=won[0])).done(PATIENCE_S)
    await (await carla.fuel_orders.cancel(other, "No flight")).done(PATIENCE_S)
    say("carla", "gave another order away and cancelled it")


@asynccontextmanager
async def gathered(url: str, tokens: dict[str, str], directory: Path) -> AsyncIterator[dict[str, SyncClient]]:
    """Everybody's client, to be started; closed with the block."""
    async with AsyncExitStack() as stack:
        people = {
            name: SyncClient(
                url, client_name=name, token=tokens.get(name), cache_dir=directory / "cache", replica=KINDS
            )
            for name in PEOPLE
        }
        for client in people.values():
            stack.push_async_callback(client.close)
        yield people


async def run(url: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="fueling-") as name:
        directory = Path(name)
        server = Server(directory, config=CONFIG, people=PEOPLE) if url is None else None
        try:
            if server is not None:
                await asyncio.to_thread(server.start)
            tokens = {} if server is None else {name: server.token(name) for name in PEOPLE}
            async with gathered(url or server.url, tokens, directory) as people:  # type: ignore[union-attr]
                await fuel_order(people, server)
        finally:
            if server is not None:
                server.kill()


if __name__ == "__main__":
    given = arguments(__doc__).parse_args()
    sys.exit(play(partial(run, given.url), url=given.url))
