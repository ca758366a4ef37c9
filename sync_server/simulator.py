"""A washing shop's day, played by commands: customers come, wait, are washed, pay, change their minds.

A discrete-event simulation: what happens next is taken from a heap in simulated time and done as an HTTP command,
as a till or a bay would; the answers decide what follows. With the same seed it is the same day. ``speed`` is
simulated seconds per second.
"""

import asyncio
import heapq
import itertools
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx2

from sync_core.problems import SyncError

__all__ = ["Counts", "Simulator", "arrivals"]

MINUTE = 60.0
HOUR = 3600.0
OPENS_S, CLOSES_S = 7 * HOUR, 21 * HOUR
PEAKS = ((8.0, 0.8, 26.0), (12.5, 1.2, 18.0), (17.5, 1.3, 34.0))
"""Rush hours: the hour, how wide it is, how many customers an hour come at its height."""
QUIET = 9.0
BAYS = ("BAY-1", "BAY-2", "BAY-3", "BAY-4", "BAY-5")
QUEUES = {"express": ("Express", BAYS[:2]), "full": ("Full service", BAYS[1:])}
CURRENCY = "USD"


class Service(NamedTuple):
    """What can be ordered: its price, how long it takes (mean, spread in minutes), and in which queue one waits."""

    sku: str
    name: str
    price: str
    minutes: tuple[float, float]
    queue: str
    share: float


SERVICES = (
    Service("EXP-1", "Express wash", "9.50", (7, 1.5), "express", 0.42),
    Service("EXP-2", "Express wash and wax", "14.00", (10, 2), "express", 0.2),
    Service("FUL-1", "Full wash", "24.00", (18, 4), "full", 0.22),
    Service("FUL-2", "Full wash and interior", "39.00", (28, 6), "full", 0.12),
    Service("FUL-3", "Detailing", "120.00", (55, 10), "full", 0.04),
)
EXTRAS = (("ADD-1", "Tyre shine", "4.00"), ("ADD-2", "Underbody", "6.50"), ("ADD-3", "Air freshener", "2.00"))
NAMES = (
    "Amal", "Bilal", "Carla", "David", "Elif", "فاطمة", "Goran", "Hanna", "Ines", "José", "Khalid", "Lena", "محمد",
    "Nadia", "Omar", "Petra", "Quentin", "Rania", "Sven", "Tariq",
)  # fmt: skip


@dataclass(slots=True)
class Counts:
    """What has happened so far."""

    orders: int = 0
    completed: int = 0
    cancelled: int = 0
    refunded: int = 0
    breakdowns: int = 0
    refusals: int = 0
    commands: int = 0


@dataclass(order=True, slots=True)
class _Due:
    at_s: float
    number: int
    action: Callable[[], Awaitable[None]] = field(compare=False)


@dataclass(slots=True)
class _Bay:
    id: str
    broken: bool = False
    job: str | None = None


def arrivals(rng: random.Random) -> list[float]:
    """When customers come, in seconds since midnight: a Poisson process whose rate follows the rush hours."""
    peak = QUIET + sum(height for _, _, height in PEAKS)
    times: list[float] = []
    now_s = OPENS_S
    while (now_s := now_s + rng.expovariate(peak / HOUR)) < CLOSES_S:
        if rng.random() < _rate(now_s / HOUR) / peak:
            times.append(now_s)
    return times


def _rate(hour: float) -> float:
    return QUIET + sum(height * math.exp(-(((hour - at) / width) ** 2)) for at, width, height in PEAKS)


def _usual_minutes(queue: str) -> float:
    """How long those who wait in *queue* take in a bay, on average."""
    services = [service for service in SERVICES if service.queue == queue]
    return sum(s.minutes[0] * s.share for s in services) / sum(s.share for s in services)


class Simulator:
    """Plays days through *http*, a client of the server's address. *day* numbers the orders' ids.

    *wait* takes seconds of real time; tests give one that does not wait.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        *,
        seed: int = 1,
        speed: float = 60.0,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.counts = Counts()
        self.now_s = OPENS_S
        self.day = 0
        self._http = http
        self._seed = seed
        self._rng = random.Random(seed)
        self._speed = speed
        self._wait = wait
        self._due: list[_Due] = []
        self._numbers = itertools.count()
        self._bays = {name: _Bay(name) for name in BAYS}
        self._waiting: dict[str, list[str]] = {queue: [] for queue in QUEUES}
        self._services: dict[str, Service] = {}

    async def run(self, *, days: int | None = None) -> None:
        """Play *days* (None: until cancelled). Raises SyncError where the server refuses what a shop may do."""
        await self._furnish()
        while days is None or self.day < days:
            await self._play_day()

    async def _play_day(self) -> None:
        self.day += 1
        self._rng = random.Random(f"{self._seed}:{self.day}")
        self.now_s = OPENS_S
        for number, at_s in enumerate(arrivals(self._rng), start=1):
            self._at(at_s, lambda n=number: self._arrive(n))  # type: ignore[misc]
        for _ in range(self._rng.randint(1, 2)):
            bay = self._rng.choice(BAYS)
            self._at(self._rng.uniform(9 * HOUR, 19 * HOUR), lambda b=bay: self._break_down(b))  # type: ignore[misc]
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        while self._due:
            due = heapq.heappop(self._due)
            pause_s = started_s + (due.at_s - OPENS_S) / self._speed - loop.time()
            if pause_s > 0:
                await self._wait(pause_s)
            self.now_s = due.at_s
            await due.action()

    def _at(self, at_s: float, action: Callable[[], Awaitable[None]]) -> None:
        heapq.heappush(self._due, _Due(at_s, next(self._numbers), action))

    def _in(self, minutes: float, action: Callable[[], Awaitable[None]]) -> None:
        self._at(self.now_s + minutes * MINUTE, action)

    # -- the shop ---------------------------------------------------------------------------------------

    async def _furnish(self) -> None:
        """Bays and queues, unless they are there from before."""
        for number, bay in enumerate(BAYS, start=1):
            await self._command("POST", "/bays", {"bayID": bay, "name": f"Bay {number}"}, may_refuse=True)
        for queue, (name, _) in QUEUES.items():
            await self._command("POST", "/queues", {"queueID": queue, "name": name}, may_refuse=True)

    async def _arrive(self, number: int) -> None:
        rng = self._rng
        service = rng.choices(SERVICES, [s.share for s in SERVICES])[0]
        items = [_item(service.sku, service.name, service.price)]
        items += [_item(*extra) for extra in EXTRAS if rng.random() < 0.15]
        order_id = f"D{self.day}-{number:03d}"
        content: dict[str, Any] = {"orderID": order_id, "items": items, "currency": CURRENCY}
        if rng.random() < 0.7:
            content["customer"] = {"name": rng.choice(NAMES)}
        await self._command("POST", "/orders", content)
        self.counts.orders += 1
        self._services[order_id] = service
        self._in(rng.uniform(0.3, 1.5), lambda: self._enter(order_id, service))

    async def _enter(self, order_id: str, service: Service) -> None:
        priority = 1 if self._rng.random() < 0.08 else 0
        path = f"/queues/{service.queue}/entries"
        await self._command("POST", path, {"orderID": order_id, "priority": priority})
        self._waiting[service.queue].append(order_id)
        if self._rng.random() < 0.05:
            self._in(self._rng.uniform(4, 25), lambda: self._change_mind(order_id))
        await self._call_next()

    async def _change_mind(self, order_id: str) -> None:
        queue = self._services[order_id].queue
        if order_id in self._waiting[queue]:
            await self._command("POST", f"/orders/{order_id}/stage", {"newStage": "cancelled"})
            self._waiting[queue].remove(order_id)
            self.counts.cancelled += 1

    async def _call_next(self) -> None:
        """Whoever waits goes into whichever bay is free for that queue."""
        for queue, (_, bays) in QUEUES.items():
            for bay in (self._bays[name] for name in bays):
                if self._waiting[queue] and bay.job is None and not bay.broken:
                    await self._start(queue, bay)

    async def _start(self, queue: str, bay: _Bay) -> None:
        bay.job = "starting"
        expected_s = max(round(_usual_minutes(queue) * MINUTE / self._speed), 1)
        wanted = {"bayID": bay.id, "service": QUEUES[queue][0], "expectedSeconds": expected_s}
        answer = await self._command("POST", f"/queues/{queue}/call-next", wanted)
        job = answer["bay"]["job"]
        order_id = job["orderID"]
        self._waiting[queue].remove(order_id)
        bay.job = job["jobID"]
        mean, spread = self._services[order_id].minutes
        minutes = max(self._rng.gauss(mean, spread), 3.0)
        for step in (10, 25, 40, 55, 70, 85, 95):
            self._in(minutes * step / 100, lambda s=step, j=bay.job: self._progress(bay, j, s))  # type: ignore[misc]
        self._in(minutes, lambda j=bay.job: self._finish(bay, j, order_id))  # type: ignore[misc]

    async def _progress(self, bay: _Bay, job: str, percent: int) -> None:
        if bay.job == job:
            await self._command("PATCH", f"/bays/{bay.id}/jobs/{job}", {"progress": percent})

    async def _finish(self, bay: _Bay, job: str, order_id: str) -> None:
        if bay.job != job:
            return
        answer = await self._command("POST", f"/bays/{bay.id}/jobs/{job}/finish")
        bay.job = "cleaning"
        self.counts.completed += 1
        method = self._rng.choice(["card", "cash", "wallet"])
        amount = answer["order"]["payment"]["amount"]
        payment = {"status": "paid", "amount": amount, "method": method}
        await self._command("POST", f"/orders/{order_id}/payment", payment)
        if self._rng.random() < 0.03:
            self._in(self._rng.uniform(5, 40), lambda: self._refund(order_id, amount))
        self._in(self._rng.uniform(1.5, 4), lambda: self._clean(bay))

    async def _refund(self, order_id: str, amount: str) -> None:
        await self._command("POST", f"/orders/{order_id}/payment", {"status": "refunded", "amount": amount})
        self.counts.refunded += 1

    async def _clean(self, bay: _Bay) -> None:
        await self._command("PATCH", f"/bays/{bay.id}", {"status": "out_of_service" if bay.broken else "available"})
        bay.job = None
        await self._call_next()

    async def _break_down(self, name: str) -> None:
        """The pump fails: whoever is inside goes back to the front of a queue."""
        bay = self._bays[name]
        if bay.broken or bay.job == "cleaning":
            return
        bay.broken = True
        self.counts.breakdowns += 1
        if bay.job is not None and bay.job != "starting":
            answer = await self._command(
                "POST", f"/bays/{bay.id}/jobs/{bay.job}/abort", {"reason": "pump failure"}, may_refuse=True
            )
            bay.job = "cleaning"
            if "order" in answer:
                await self._requeue(answer["order"]["orderID"])
        if bay.job is None or bay.job == "cleaning":
            await self._command("PATCH", f"/bays/{bay.id}", {"status": "out_of_service"}, may_refuse=True)
        self._in(self._rng.uniform(35, 80), lambda: self._repair(bay))

    async def _requeue(self, order_id: str) -> None:
        queue = self._services[order_id].queue
        await self._command("POST", f"/queues/{queue}/entries", {"orderID": order_id, "priority": 9})
        self._waiting[queue].insert(0, order_id)
        await self._call_next()

    async def _repair(self, bay: _Bay) -> None:
        bay.broken = False
        await self._clean(bay)

    # -- talking ----------------------------------------------------------------------------------------

    async def _command(
        self, method: str, path: str, content: dict[str, Any] | None = None, *, may_refuse: bool = False
    ) -> dict[str, Any]:
        """The answer to one command; with its key it is safe to send again while the server does not answer."""
        key = f"sim-{self._seed}-{self.day}-{next(self._numbers)}"
        while True:
            try:
                response = await self._http.request(
                    method, f"/api/v1{path}", json=content or {}, headers={"Idempotency-Key": key}
                )
            except httpx2.TransportError:
                await asyncio.sleep(0.2)
                continue
            if response.status_code == 503:
                await asyncio.sleep(0.2)
                continue
            break
        self.counts.commands += 1
        if response.is_success:
            answer: dict[str, Any] = response.json()
            return answer
        self.counts.refusals += 1
        if not may_refuse or response.status_code != 409:
            raise SyncError(f"{method} {path}: {response.status_code} {response.text[:300]}")
        return {}


def _item(sku: str, name: str, price: str) -> dict[str, Any]:
    return {"sku": sku, "name": name, "quantity": 1, "unitPrice": price}
