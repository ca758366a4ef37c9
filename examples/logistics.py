"""A transport from the customer's wish to its door: ordered, assigned, driven on a live map, delivered, fuel counted.

    python examples/logistics.py                                # with a server of its own, in a temporary directory
    python examples/logistics.py --url http://127.0.0.1:8000    # with one that runs, without access control

Acme (a client) orders, Olga (dispatcher) assigns, Dan drives, Eve drives another vehicle and sees nothing of it; each
with a client of their own. Prints what happens; exits with 1 if it is not what has to happen (seed 001).
"""

import asyncio
import secrets
import sys
import tempfile
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from stage import ACCESS, PATIENCE_S, Server, arguments, ask, check, play, refused, say, until

from sync_client import SyncClient

PEOPLE = {"olga": "dispatcher", "dan": "driver", "eve": "driver", "acme": "client"}
KINDS = {
    "olga": ("vehicles", "vehicle_marks", "drivers", "transport_orders", "fuel_logs"),
    "dan": ("vehicles", "transport_orders", "fuel_logs"),
    "eve": ("vehicles", "transport_orders", "fuel_logs"),
    "acme": ("transport_orders",),
}
BEIRUT, TRIPOLI = (35.5018, 33.8938), (35.8497, 34.4367)
STEPS = 12
VIN_LETTERS = "0123456789ABCDEFGHJKLMNPRSTUVWXYZ"


class Api:
    """What the replica is not for: positions, and what is near. *tokens*: what who logged in was given."""

    def __init__(self, url: str, tokens: dict[str, str]) -> None:
        self.url, self.tokens = url, tokens

    async def get(self, who: str, path: str, **parameters: str) -> dict[str, Any]:
        return await self._ask(who, f"{path}?{urllib.parse.urlencode(parameters)}")

    async def move(self, who: str, vehicle: str, lon: float, lat: float, heading: float) -> None:
        """Say where a vehicle is."""
        await self._ask(
            who, f"/vehicles/{vehicle}/location", {"lon": lon, "lat": lat, "heading": heading, "speed": 72.5}
        )

    async def _ask(self, who: str, path: str, body: Any = None) -> dict[str, Any]:
        return await asyncio.to_thread(ask, self.url, path, body, token=self.tokens.get(who, ""))


async def transport(people: dict[str, SyncClient], api: Api, *, guarded: bool) -> None:
    """The whole of it. Raises Wrong."""
    olga, dan, eve, acme = (people[name] for name in ("olga", "dan", "eve", "acme"))
    mark = secrets.token_hex(3)
    van, other, order, plate = f"van-{mark}", f"other-{mark}", f"transport-{mark}", f"B {mark}"
    drivers = {name: name if guarded else f"{name}-{mark}" for name in ("dan", "eve")}
    seen: dict[str, list[float]] = {"olga": [], "dan": [], "eve": []}
    for name in seen:
        people[name].on("vehicle_location")(
            lambda event, name=name: (
                seen[name].append(event.data["lon"]) if event.envelope["vehicleID"] == van else None
            )
        )
    for client in people.values():
        await client.start()
    await until(lambda: all(client.transport_orders.fresh for client in people.values()), "the first snapshot")

    async def made(vehicle: str, **more: str) -> Any:
        vin = "".join(secrets.choice(VIN_LETTERS) for _ in range(17))
        given = {"vin": vin, "plateNumber": vehicle, "make": "MB", "model": "Sprinter", "fuelNorm": "9.50"} | more
        return await olga.vehicles.create(vehicleID=vehicle, **given)

    say("olga", f"adds the van {van} with the plate {plate}, another one, and two drivers")
    for vehicle, more in ((van, {"plateNumber": plate}), (other, {})):
        await (await made(vehicle, **more)).done(PATIENCE_S)
    detail = await refused(made(f"twin-{mark}", plateNumber=plate.lower().replace(" ", "-")), "a plate is there once")
    say("olga", f"adds a third with the same plate and is told: {detail}")
    for name, vehicle in (("dan", van), ("eve", other)):
        await (await olga.drivers.create(userID=drivers[name], name=name.title())).done(PATIENCE_S)
        await (await olga.vehicles.assign_driver(vehicle, drivers[name])).done(PATIENCE_S)
    if guarded:
        await until(lambda: van in dan.vehicles and other not in dan.vehicles, "Dan's van on Dan's screen")
        await until(lambda: other in eve.vehicles and van not in eve.vehicles, "Eve's on hers")

    pickup, delivery = ({"type": "Point", "coordinates": list(place)} for place in (BEIRUT, TRIPOLI))
    say("acme", f"orders {order}: from Beirut to Tripoli")
    await (await acme.transport_orders.create(transportOrderID=order, pickup=pickup, delivery=delivery)).done(
        PATIENCE_S
    )
    await until(lambda: order in olga.transport_orders, "the order at the office")
    say("olga", "names the price and drags it onto the van")
    await (await olga.transport_orders.edit(order, price="180.00")).done(PATIENCE_S)
    await (await olga.transport_orders.assign_vehicle(order, van)).done(PATIENCE_S)
    await until(lambda: order in dan.transport_orders, "the order at the driver")
    if guarded:
        check(order not in eve.transport_orders, "Eve sees nothing of it")

    await (await dan.transport_orders.set_status(order, "in_progress")).done(PATIENCE_S)
    say("dan", f"is on the way; {STEPS} positions")
    await (await dan.fuel_logs.create(van, "55.00", 120_000)).done(PATIENCE_S)
    for step in range(STEPS + 1):
        lon, lat = (a + (b - a) * step / STEPS for a, b in zip(BEIRUT, TRIPOLI, strict=True))
        await api.move("dan", van, lon, lat, 27.5)
    await until(lambda: seen["olga"][-1:] == [TRIPOLI[0]], "the van in Tripoli on the map")
    check(seen["olga"] == sorted(seen["olga"]), "positions come in their order")
    say("olga", f"saw the van go, in {len(seen['olga'])} positions")
    if guarded:
        check(seen["eve"] == [], "Eve is not told where Dan is")
    near = await api.get("olga", "/vehicles", near="35.85,34.43", withinMeters="2000")
    (found,) = [vehicle for vehicle in near["vehicles"] if vehicle["vehicleID"] == van]
    say("olga", f"asks who is near Tripoli: {found['plateNumber']}, {found['distanceMeters']:.0f} m away")

    await (await dan.transport_orders.set_status(order, "delivered")).done(PATIENCE_S)
    await until(lambda: acme.transport_orders.get(order).document.status == "delivered", "the delivery at the client")
    say("acme", "sees it delivered, for " + str(acme.transport_orders.get(order).document.price))
    detail = await refused(olga.transport_orders.cancel(order), "what is delivered is not cancelled")
    say("olga", f"wants to cancel it and is told: {detail}")

    await (await dan.fuel_logs.create(van, "9.20", 120_086)).done(PATIENCE_S)
    await until(lambda: (fuel := olga.vehicles.get(van).document.fuel) is not None and fuel.logs == 2, "the fuel log")
    fuel = olga.vehicles.get(van).document.fuel
    check((str(fuel.consumption), str(fuel.overNorm)) == ("10.70", "1.20"), f"the consumption: {fuel}")
    say("olga", f"sees {fuel.consumption} L/100 km, {fuel.overNorm} over the norm")


@asynccontextmanager
async def gathered(url: str, api: Api, directory: Path) -> AsyncIterator[dict[str, SyncClient]]:
    """Everybody's client, to be started; closed with the block."""
    async with AsyncExitStack() as stack:
        people = {
            name: SyncClient(
                url, client_name=name, token=api.tokens.get(name), cache_dir=directory / "cache", replica=KINDS[name]
            )
            for name in PEOPLE
        }
        for client in people.values():
            stack.push_async_callback(client.close)
        yield people


async def run(url: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="logistics-") as name:
        directory = Path(name)
        server = Server(directory, config=ACCESS, people=PEOPLE) if url is None else None
        try:
            if server is not None:
                await asyncio.to_thread(server.start)
            tokens = {} if server is None else {name: server.token(name) for name in PEOPLE}
            check(all(token.count(".") == 2 for token in tokens.values()), "a login gives a JWT")
            api = Api(url or server.url, tokens)  # type: ignore[union-attr]
            async with gathered(api.url, api, directory) as people:
                await transport(people, api, guarded=server is not None)
        finally:
            if server is not None:
                server.kill()


if __name__ == "__main__":
    given = arguments(__doc__).parse_args()
    sys.exit(play(partial(run, given.url), url=given.url))
