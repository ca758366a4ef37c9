"""A fuel order from the call to the meter readings: offered, claimed, changed, completed; with a server that dies.

    python examples/fueling.py                                # with a server of its own, in a temporary directory
    python examples/fueling.py --url http://127.0.0.1:8000    # with one that runs, without access control

Carla (customer service) and two fuelers, Ann and Ben, each with a client of their own. Prints what happens; exits
with 1 if it is not what has to happen.
"""

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from sync_client import SyncClient
from sync_client.errors import CommandFailed

PASSWORD = "a good long password"  # noqa: S105 - of people who live as long as this program
PEOPLE = {"carla": "csr", "ann": "fueler", "ben": "fueler", "boss": "admin"}
KINDS = ("fuel_orders", "fuel_trucks")
CONFIG = """
[access]
mode = "required"
secret = "only-for-this-example-0123456789abcdef"
[fueling]
offer_share = 0.5
offer_to_all_after = "1s"
"""
PATIENCE_S = 30.0


class Wrong(Exception):
    """It went otherwise than it has to."""


def check(holds: object, what: str) -> None:
    if not holds:
        raise Wrong(what)


def say(who: str, text: str) -> None:
    print(f"{who:>6}: {text}", flush=True)


async def until(condition: Callable[[], Any], what: str) -> None:
    """Until *condition* holds. Raises Wrong if it does not in time."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end_s:
            raise Wrong(f"{what} did not come to be")
        await asyncio.sleep(0.02)


class Server:
    """A sync-server in *directory*, with access control and its people."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        (directory / "sync.toml").write_text(CONFIG, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def add_people(self) -> None:
        """As somebody at the server's console does; all at once, since each takes a second."""
        adding = []
        for name, role in PEOPLE.items():
            command = [sys.executable, "-m", "sync_server", "user", "add", name, "--role", role]
            process = subprocess.Popen(
                command, cwd=self.directory, text=True, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
            )
            adding.append((process, name))
        for process, name in adding:
            process.communicate(f"{PASSWORD}\n")
            check(process.returncode == 0, f"{name} could not be added")

    def start(self) -> None:
        """Until it is ready."""
        command = [sys.executable, "-m", "sync_server", "serve", "--port", str(self.port)]
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self.directory, stdout=log, stderr=log)
        end_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/readyz", timeout=5).close()
                return
            except OSError:
                check(time.monotonic() < end_s and self._process.poll() is None, "the server did not start")
                time.sleep(0.05)

    def kill(self) -> None:
        """As a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def token(self, name: str) -> str:
        """What logging in gives a program."""
        body = json.dumps({"username": name, "password": PASSWORD}).encode()
        request = urllib.request.Request(f"{self.url}/api/v1/auth/login", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as reply:
            return str(json.load(reply)["token"])


async def refused(sent: Awaitable[Any], why: str) -> dict[str, Any]:
    """The problem that a command is refused with. Raises Wrong if it is not."""
    try:
        await (await sent).done(PATIENCE_S)
    except CommandFailed as failure:
        check(failure.problem.get("status") == 409, f"{why}: {failure.problem}")
        return failure.problem
    raise Wrong(f"{why}: it was accepted")


async def play(people: dict[str, SyncClient], server: Server | None) -> None:
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
    problem = await refused(winner.fuel_orders.change_status(order, "en_route"), "nothing goes on before it is read")
    say(won[0], f"wants to drive and is told: {problem['detail']}")
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
        server = Server(directory) if url is None else None
        try:
            if server is not None:
                await asyncio.to_thread(server.start)
                await asyncio.to_thread(server.add_people)
            tokens = {} if server is None else {name: server.token(name) for name in PEOPLE}
            async with gathered(url or server.url, tokens, directory) as people:  # type: ignore[union-attr]
                await play(people, server)
        finally:
            if server is not None:
                server.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="of a server without access control; without it one is started")
    url = parser.parse_args().url
    try:
        if url is not None:
            urllib.request.urlopen(f"{url}/readyz", timeout=PATIENCE_S).close()
        asyncio.run(run(url))
    except (Wrong, urllib.error.URLError) as fault:
        print(f"wrong: {fault}", file=sys.stderr)
        return 1
    print("all is well")
    return 0


if __name__ == "__main__":
    sys.exit(main())
