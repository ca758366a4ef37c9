"""A till is killed -9 in the middle of editing a cart, which goes on there or elsewhere: what was confirmed stays.

Now and then the network is gone too, or the server killed. What the cart said is on disk, and what was put in longer
ago than the debounce interval, is in the session in the end, each line once; what it said is at the server is there for
any till at once.
"""

import asyncio
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from e2e.client.harness import Shop
from sync_client.session import DEBOUNCE_S
from tests.rounds import rounds

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = rounds("SESSION_KILL_ROUNDS", 4)
USER = "ann"
SLACK_S = 0.5
"""For writing it, on a machine that is busy."""
TILLS = ("till-a", "till-b")


@dataclass
class Round:
    """What one run of a till has logged."""

    opened: list[str] | None = None
    """What it went on with, unless that was what an earlier run there had not got through."""
    added: dict[str, float] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    at_server: set[str] = field(default_factory=set)


def read(path: Path) -> Round:
    done = Round()
    for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
        if not line.endswith("\n"):
            continue
        match line.split():
            case ["open", *names]:
                done.opened = names
            case ["add", name, at_s]:
                done.added[name] = float(at_s)
            case ["disk", *names]:
                done.kept |= set(names)
            case ["saved", *names]:
                done.kept |= set(names)
                done.at_server |= set(names)
    return done


async def start(shop: Shop, till: str, log: Path, run: str, *options: str) -> asyncio.subprocess.Process:
    argv = [sys.executable, "-m", "e2e.client.cart_till", shop.proxy.url, str(shop.directory / "cache"), till, USER,
            str(log), run, *options]  # fmt: skip
    process = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    said = await asyncio.wait_for(process.stdout.readline(), 60)
    assert said == b"open\n", said
    return process


@pytest.mark.timeout(120 + 15 * ROUNDS)
async def test_no_confirmed_item_is_lost_by_a_kill(own_shop: Shop) -> None:
    rng = random.Random()
    required: set[str] = set()
    at_server: set[str] = set()
    for number in range(ROUNDS):
        till, log = rng.choice(TILLS), own_shop.directory / f"run-{number}.log"
        plain, stream = own_shop.proxy.plain, own_shop.proxy.stream
        plain.delay_s = 0.1  # so that a kill often finds a save under way
        process = await start(own_shop, till, log, str(number))
        try:
            await asyncio.sleep(rng.uniform(0, 1.5))
            fault = rng.choice(["none", "network", "server"])
            plain.refused = stream.refused = fault == "network"
            if fault == "server":
                await own_shop.restart()
            await asyncio.sleep(rng.uniform(0, 1.5))
        finally:
            killed_s = time.monotonic()
            process.kill()
            await process.wait()
        plain.clear()
        stream.clear()
        done = read(log)
        assert done.opened is None or at_server <= set(done.opened), (
            f"round {number} at {till}: what was at the server is gone on with"
        )
        at_server |= done.at_server
        old = {name for name, at_s in done.added.items() if at_s < killed_s - DEBOUNCE_S - SLACK_S}
        required |= done.kept | old
    assert required, "something was confirmed"
    for till in (*TILLS, *TILLS):
        process = await start(own_shop, till, own_shop.directory / f"end-{till}.log", "end", "--settle")
        assert await asyncio.wait_for(process.wait(), 60) == 0
    reply = await own_shop.http.get("/api/v1/order-sessions/active", params={"userId": USER})
    names = [item["name"] for item in reply.json()["order_session"]["items"]]
    assert required - set(names) == set()
    assert len(names) == len(set(names)), "no line is there twice"
