"""The simulated day: the same for the same seed, busy at the right hours, and what it leaves is consistent."""

import random
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import httpx2
import pytest

from sync_core.domain.catalog import DOMAIN
from sync_server.console.verify import verify
from sync_server.simulator import CLOSES_S, HOUR, OPENS_S, Simulator, arrivals
from tests.serving import Served, serving, sqlite_settings


def test_customers_come_in_order_while_the_shop_is_open() -> None:
    times = arrivals(random.Random(3))
    assert times[0] > OPENS_S
    assert times[-1] < CLOSES_S
    assert all(before < after for before, after in pairwise(times))


def test_rush_hours_are_busier_than_others() -> None:
    hours = Counter(int(at_s // HOUR) for seed in range(20) for at_s in arrivals(random.Random(seed)))
    assert min(hours[8], hours[12], hours[17]) > 1.5 * max(hours[10], hours[15], hours[20])


class Enough(Exception):
    """The day has gone on for long enough."""


async def play(
    server: Served, *, seed: int, until_orders: int | None = None
) -> tuple[list[tuple[str, str]], Simulator]:
    """One day, or the beginning of one, as fast as it goes; type and order of each event."""

    async def at_once(_pause_s: float) -> None:
        if simulator.counts.orders == until_orders:
            raise Enough

    async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as http:
        simulator = Simulator(http, seed=seed, speed=1e9, wait=at_once)
        with suppress(Enough):
            await simulator.run(days=1)
    bounds = await server.application.event_log.ensure("default")
    events = []
    after = 0
    while after < bounds.head:
        page = await server.application.event_log.read("default", after=after, limit=1000)
        events += [(event.event_type, next((t for t in event.tags if t.startswith("orderID=")), "")) for event in page]
        after = page[-1].seq
    return events, simulator


@pytest.mark.alone
async def test_a_day_is_played_by_commands_and_its_log_rebuilds_every_document(tmp_path: Path) -> None:
    async with serving(sqlite_settings(tmp_path / "one")) as server:
        events, simulator = await play(server, seed=1)
        counts = simulator.counts
        assert counts.orders > 200
        assert counts.completed + counts.cancelled == counts.orders
        assert counts.cancelled > 2
        assert counts.refunded > 2
        assert counts.breakdowns >= 1
        assert Counter(kind for kind, _ in events)["job_completed"] == counts.completed
        report = await verify(server.application.event_log, "default", DOMAIN)
        assert report.findings == []
        assert report.documents == counts.orders + 5 + 2
    async with serving(sqlite_settings(tmp_path / "two")) as other:
        again, _ = await play(other, seed=1, until_orders=20)
    assert again == events[: len(again)]
    assert len(again) > 100
