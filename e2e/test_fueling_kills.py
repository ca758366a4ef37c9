"""kill -9 of the server while fuelers submit their readings: order and truck always agree, and nothing counts twice."""

import asyncio
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from os import environ
from pathlib import Path
from typing import Any

import httpx2
import pytest

from e2e.test_kills import config_for
from tests.fixtures import MongoDatabase
from tests.rounds import rounds
from tests.server.commands import run
from tests.servers import SyncServer
from tests.streams import eventually

ROUNDS = rounds("FUELING_KILL_ROUNDS", 4)
ROUND_S = 20  # at most, on a busy machine
TRUCKS = 4
BATCH = 10
API = "/api/v1"
ANSWERED = frozenset({200, 201})

Readings = tuple[Decimal, Decimal]


@dataclass
class Fueler:
    """Has one truck, and completes one order after the other with it; each command is repeated until it is answered."""

    url: str
    truck: str
    rng: random.Random
    reading: Decimal = Decimal("0.00")
    submitted: dict[str, Readings] = field(default_factory=dict)
    in_flight: bool = False
    cut_off: int = 0
    stopping: bool = False

    async def run(self) -> None:
        """Until ``stopping`` is set; then it finishes what it has begun."""
        async with httpx2.AsyncClient(base_url=self.url, timeout=20, trust_env=False) as client:
            await self._command(client, "POST", "/fuel-trucks", {"truckID": self.truck, "name": self.truck})
            while not self.stopping:
                for order in [await self._claimed(client) for _ in range(BATCH)]:
                    await self._submit(client, order)

    async def _claimed(self, client: httpx2.AsyncClient) -> str:
        body = {"truckID": self.truck, "assigneeID": self.truck}
        answer = await self._command(client, "POST", "/fuel-orders", body)
        return str(answer["fuel_order"]["fuelOrderID"])

    async def _submit(self, client: httpx2.AsyncClient, order: str) -> None:
        start, end = self.reading, self.reading + Decimal(self.rng.randint(0, 99_999)).scaleb(-2)
        body = {"startMeterReading": str(start), "endMeterReading": str(end)}
        self.submitted[order] = start, end
        self.in_flight = True
        answer = await self._command(client, "PUT", f"/fuel-orders/{order}/submit-data", body)
        self.in_flight = False
        assert answer["fuel_order"]["gallonsDispensed"] == str(end - start)
        assert answer["fuel_truck"]["currentMeterReading"] == str(end)
        self.reading = end

    async def _command(self, client: httpx2.AsyncClient, method: str, path: str, body: Any) -> dict[str, Any]:
        key = {"Idempotency-Key": str(uuid.uuid4())}
        while True:
            try:
                reply = await client.request(method, API + path, json=body, headers=key)
            except httpx2.TransportError as fault:
                self.cut_off += self.in_flight and not isinstance(fault, httpx2.ConnectError)
                await asyncio.sleep(self.rng.uniform(0.01, 0.05))
                continue
            if reply.status_code != 503:
                assert reply.status_code in ANSWERED, reply.text
                answer: dict[str, Any] = reply.json()
                return answer
            await asyncio.sleep(0.05)


async def documents(url: str, truck: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The orders of a truck, and itself: one page, so one read transaction, whatever goes on meanwhile."""
    parameters = {"kinds": "fuel_orders,fuel_trucks", "limit": "1000", "truckID": truck}
    async with httpx2.AsyncClient(base_url=url, timeout=20, trust_env=False) as client:
        page = (await client.get(f"{API}/sync/snapshot", params=parameters)).raise_for_status().json()
        assert "pageToken" not in page
        return page["fuel_orders"], page["fuel_trucks"][0]


async def assert_they_agree(fueler: Fueler, *, at_rest: bool) -> None:
    """Every order is completed with all of its figures or has none; the truck's meter is where its last one ended."""
    orders, truck = await documents(fueler.url, fueler.truck)
    ends = [Decimal("0.00")]
    for order in orders:
        figures = [order.get(name) for name in ("startMeterReading", "endMeterReading", "gallonsDispensed")]
        if order["status"] == "completed":
            start, end = fueler.submitted[order["fuelOrderID"]]
            assert figures == [str(start), str(end), str(end - start)]
            ends.append(end)
        else:
            assert figures == [None, None, None]
            assert not at_rest or order["fuelOrderID"] not in fueler.submitted
    assert Decimal(truck["currentMeterReading"]) == max(ends), "order and truck are one"


async def assert_events_agree(url: str, fuelers: list[Fueler]) -> None:
    """In the log each completion is followed at once by its truck's, and there is one of each."""
    events: list[dict[str, Any]] = []
    after = "earliest"
    async with httpx2.AsyncClient(base_url=url, timeout=20, trust_env=False) as client:
        while True:
            page = (await client.get(f"{API}/sync/poll", params={"after": after, "limit": "1000"})).json()
            events += page["events"]
            after = page["cursor"]
            if page["upToDate"]:
                break
    completed = []
    for event, following in zip(events, [*events[1:], {}], strict=True):
        if event["eventType"] != "order_completed":
            continue
        order, truck = event["data"]["fuel_order"], following["data"]["fuel_truck"]
        assert following["data"]["fuelOrderID"] == order["fuelOrderID"]
        assert truck["currentMeterReading"] == order["endMeterReading"]
        assert following["timestamp"] == event["timestamp"]
        completed.append(order["fuelOrderID"])
    assert sorted(completed) == sorted(order for fueler in fuelers for order in fueler.submitted)


@pytest.fixture(params=["sqlite", "mongodb"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SyncServer]:
    config = ""
    if request.param == "mongodb":
        database: MongoDatabase = request.getfixturevalue("mongodb_database")
        config = config_for(database.uri, database.name)
    with SyncServer(tmp_path, config=config) as server:
        yield server


@pytest.mark.timeout(120 + ROUND_S * ROUNDS)
async def test_server_killed_under_submit_data(server: SyncServer) -> None:
    rng = random.Random(environ.get("SYNC_TEST_SEED"))
    url = server.base_url
    fuelers = [Fueler(url, f"truck-{n}", random.Random(rng.random())) for n in range(TRUCKS)]
    async with asyncio.TaskGroup() as group:
        working = [group.create_task(fueler.run()) for fueler in fuelers]
        for _ in range(ROUNDS):
            enough = sum(len(fueler.submitted) for fueler in fuelers) + 2 * BATCH
            await eventually(
                lambda enough=enough: sum(len(fueler.submitted) for fueler in fuelers) >= enough, timeout_s=60
            )
            await eventually(lambda: any(fueler.in_flight for fueler in fuelers), timeout_s=60)
            await asyncio.sleep(rng.uniform(0, 0.01))
            server.process.kill()
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            for fueler in fuelers:
                await assert_they_agree(fueler, at_rest=False)
        for fueler in fuelers:
            fueler.stopping = True
        await asyncio.gather(*working)
    for fueler in fuelers:
        await assert_they_agree(fueler, at_rest=True)
    await assert_events_agree(url, fuelers)
    assert sum(fueler.cut_off for fueler in fuelers) >= 1, "no kill has met a submission"
    done = await asyncio.to_thread(partial(run, "verify", cwd=server.directory))
    assert "no difference" in done.stdout
    assert "Traceback" not in server.log_text()
    submitted = sum(len(fueler.submitted) for fueler in fuelers)
    print(f"{submitted} submitted, {sum(fueler.cut_off for fueler in fuelers)} cut off under way, {ROUNDS} kills")
