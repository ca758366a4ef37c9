"""A till and a server that are killed, and a network that misbehaves, while events are published; then the count.

Every published event must take effect in the till's transactional handler exactly once, and reach its plain one at
least once, always with the same id, first times in order and without a gap.
"""

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from e2e.client.harness import Shop, eventually, stage_change
from e2e.client.till import make_client
from sync_client.cache import SQLiteCache
from sync_client.options import cache_path

__all__ = ["Chaos", "Fault", "Verdict"]

ROOT = Path(__file__).resolve().parents[2]
SETTLE_S = 90.0
READY_S = 30.0
STOP_S = 20.0


@dataclass
class Verdict:
    """What the count said; no *faults* is a pass."""

    published: int = 0
    plain_calls: int = 0
    repeats: int = 0
    faults: list[str] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)


Fault = Callable[["Chaos"], Awaitable[None]]


class Chaos:
    """One run. *rng* decides everything that is random in it."""

    def __init__(self, shop: Shop, directory: Path, *, rng: random.Random) -> None:
        self.shop = shop
        self.rng = rng
        self._cache_dir = directory / "till-cache"
        self._log = directory / "till.log"
        self._till: asyncio.subprocess.Process | None = None
        self._acknowledged: dict[int, str] = {}
        self._publishing = False
        self._next = 0
        self.verdict = Verdict()

    # -- the actors -------------------------------------------------------------------------------------

    async def start_till(self) -> None:
        argv = [sys.executable, "-m", "e2e.client.till", self.shop.proxy.url, str(self._cache_dir), str(self._log)]
        self._till = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, stdout=asyncio.subprocess.PIPE)

    async def kill_till(self) -> None:
        """kill -9, at whatever it is doing."""
        if (till := self._running_till()) is not None:
            with contextlib.suppress(ProcessLookupError):
                till.kill()
            await till.wait()
        self._till = None

    async def stop_till(self) -> None:
        """SIGTERM, once it listens to that; anything but an orderly end is a fault."""
        if (till := self._running_till()) is not None:
            assert till.stdout is not None
            ready = await asyncio.wait_for(till.stdout.readline(), READY_S)
            if ready:
                till.send_signal(signal.SIGTERM)
            if (status := await asyncio.wait_for(till.wait(), STOP_S)) != 0:
                self.verdict.faults.append(f"the till ended with status {status}, {'' if ready else 'not '}ready")
        self._till = None

    def _running_till(self) -> asyncio.subprocess.Process | None:
        """The till; one that ended by itself is a fault."""
        till = self._till
        if till is None or till.returncode is None:
            return till
        self.verdict.faults.append(f"the till ended by itself, with status {till.returncode}")
        return None

    async def _publish(self) -> None:
        """Batches, each repeated with its keys until the server has taken it."""
        while self._publishing:
            first, self._next = self._next, self._next + self.rng.randint(1, 20)
            events = [stage_change(n, key=f"event-{n}") for n in range(first, self._next)]
            while not await self._post(events):
                await asyncio.sleep(0.02)
            await asyncio.sleep(self.rng.uniform(0, 0.05))

    async def _post(self, events: list[dict[str, object]]) -> bool:
        try:
            reply = await self.shop.http.post("/api/v1/sync/events", json={"events": events}, timeout=10)
        except httpx2.TransportError:
            return False
        if reply.status_code != 201:
            return False
        for event, receipt in zip(events, reply.json()["events"], strict=True):
            self._acknowledged[int(str(event["key"]).split("-")[1])] = receipt["id"]
        return True

    # -- the run ----------------------------------------------------------------------------------------

    async def run(self, rounds: int, faults: dict[str, Fault], *, progress: Callable[[int], None]) -> Verdict:
        """*rounds* faults, drawn from *faults*, then peace, then the count."""
        self._publishing = True
        publishing = asyncio.create_task(self._publish())
        try:
            await self.start_till()
            for number in range(rounds):
                name = self.rng.choice(list(faults))
                self.verdict.injected[name] += 1
                await asyncio.sleep(self.rng.uniform(0.02, 0.9))
                await faults[name](self)
                if self._till is None:
                    await self.start_till()
                progress(number + 1)
            self.shop.proxy.stream.clear()
            self.shop.proxy.plain.clear()
            self._publishing = False
            await publishing
            with contextlib.suppress(AssertionError):  # the count will say what is missing
                await eventually(lambda: self._seen() >= len(self._acknowledged), within_s=SETTLE_S)
            await self.stop_till()
        finally:
            self._publishing = False
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
            await self.kill_till()
        self._count()
        return self.verdict

    def _lines(self) -> list[tuple[str, int]]:
        if not self._log.exists():
            return []
        lines = [line.split() for line in self._log.read_text().splitlines()]
        return [(parts[0], int(parts[1])) for parts in lines if len(parts) == 2]

    def _seen(self) -> int:
        return len({n for _, n in self._lines()})

    def _count(self) -> None:
        verdict, lines = self.verdict, self._lines()
        verdict.published, verdict.plain_calls = len(self._acknowledged), len(lines)
        firsts: dict[int, str] = {}
        order: list[int] = []
        for event_id, n in lines:
            if n not in firsts:
                firsts[n] = event_id
                order.append(n)
            elif firsts[n] != event_id:
                verdict.faults.append(f"event {n} came with two ids: {firsts[n]} and {event_id}")
        verdict.repeats = len(lines) - len(firsts)
        if firsts != self._acknowledged:
            missing = sorted(set(self._acknowledged) - set(firsts))
            verdict.faults.append(f"plain handler: {len(missing)} events missing, first of them {missing[:5]}")
        if order != sorted(order):
            verdict.faults.append("plain handler: events came out of order")
        self._count_transactions()

    def _count_transactions(self) -> None:
        options = make_client(self.shop.proxy.url, self._cache_dir).options
        cache = SQLiteCache(cache_path(self.shop.proxy.url, options))
        try:
            counts = {n: cache.get_value(f"n:{n}", 0) for n in self._acknowledged}
            total = cache.get_value("count", 0)
        finally:
            cache.close()
        wrong = {n: count for n, count in counts.items() if count != 1}
        if wrong or total != len(self._acknowledged):
            sample = dict(sorted(wrong.items())[:5])
            self.verdict.faults.append(
                f"transactional handler: {len(wrong)} events not exactly once (number: times) {sample}, in all {total}"
            )


# -- what can go wrong ----------------------------------------------------------------------------------


async def kill_client(chaos: Chaos) -> None:
    await chaos.kill_till()


async def kill_server(chaos: Chaos) -> None:
    await chaos.shop.restart(down_s=chaos.rng.uniform(0, 0.3))


async def kill_both(chaos: Chaos) -> None:
    await asyncio.gather(chaos.kill_till(), chaos.shop.restart())


async def cut(chaos: Chaos) -> None:
    chaos.shop.proxy.cut_all(reset=chaos.rng.random() < 0.5)


async def truncate(chaos: Chaos) -> None:
    """Streams end in the middle of an event."""
    chaos.shop.proxy.stream.cut_after_bytes = chaos.rng.randint(300, 5000)
    chaos.shop.proxy.cut_all()
    await asyncio.sleep(1.0)
    chaos.shop.proxy.stream.clear()


async def stall(chaos: Chaos) -> None:
    chaos.shop.proxy.stream.stalled = True
    await asyncio.sleep(chaos.rng.uniform(0.5, 3.0))
    chaos.shop.proxy.stream.clear()


async def delay(chaos: Chaos) -> None:
    chaos.shop.proxy.stream.delay_s = chaos.shop.proxy.plain.delay_s = chaos.rng.uniform(0.05, 0.4)
    await asyncio.sleep(1.0)
    chaos.shop.proxy.stream.clear()
    chaos.shop.proxy.plain.clear()


async def buffer(chaos: Chaos) -> None:
    """Long enough for the till to take to polling."""
    chaos.shop.proxy.stream.buffered = True
    chaos.shop.proxy.cut_all()
    await asyncio.sleep(chaos.rng.uniform(2.5, 5.0))
    chaos.shop.proxy.stream.clear()


async def errors(chaos: Chaos) -> None:
    status = chaos.rng.choice([429, 500, 502, 503])
    for fault in (chaos.shop.proxy.stream, chaos.shop.proxy.plain):
        fault.status = status
        fault.headers = {"Retry-After": "1"}
    chaos.shop.proxy.cut_all()
    await asyncio.sleep(chaos.rng.uniform(0.5, 2.0))
    chaos.shop.proxy.stream.clear()
    chaos.shop.proxy.plain.clear()


async def freeze(chaos: Chaos) -> None:
    """The till is stopped for longer than the server's patience with its heartbeat, and goes on."""
    till = chaos._till
    if till is not None and till.returncode is None:
        os.kill(till.pid, signal.SIGSTOP)
        await asyncio.sleep(chaos.rng.uniform(0.5, 3.0))
        os.kill(till.pid, signal.SIGCONT)


KILLS: dict[str, Fault] = {"kill client": kill_client, "kill server": kill_server, "kill both": kill_both}
NETWORK: dict[str, Fault] = {
    "cut": cut, "truncate": truncate, "stall": stall, "delay": delay, "buffer": buffer, "errors": errors,
    "freeze client": freeze,
}  # fmt: skip
