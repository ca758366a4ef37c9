"""Replay to live under load: readers that come, go and come back at random cursors with random filters."""

import asyncio
import random
from typing import Any

import pytest

from tests.feed.conftest import Start
from tests.serving import Served, stage_change
from tests.streams import seqs, stream

EVENTS = 5000
READERS = 120
ORDERS = [f"ORDER-{n:03d}" for n in range(8)]
TYPES = ["stage_change", "status_update", "qr_generated"]


def make_event(n: int, rng: random.Random) -> dict[str, Any]:
    event_type = rng.choice(TYPES)
    data = {"n": n, "newStage": "x", "status": "y"}
    return stage_change(n, order=rng.choice(ORDERS), eventType=event_type, data=data)


def make_filter(rng: random.Random) -> dict[str, str]:
    wanted = {}
    if rng.random() < 0.5:
        wanted["orderID"] = ",".join(rng.sample(ORDERS, rng.randint(1, 3)))
    if rng.random() < 0.4:
        wanted["eventTypes"] = ",".join(rng.sample(TYPES, rng.randint(1, 2)))
    return wanted


def passes(event: dict[str, Any], wanted: dict[str, str]) -> bool:
    return (
        ("orderID" not in wanted or event["orderID"] in wanted["orderID"].split(","))
        and ("eventTypes" not in wanted or event["eventType"] in wanted["eventTypes"].split(","))
    )  # fmt: skip


async def follow(served: Served, wanted: dict[str, str], rng: random.Random) -> list[int]:
    """Read from the beginning to the last event, in several lives; the seqs in the order they came."""
    seen: list[int] = []
    cursor = "earliest"
    while not cursor.endswith(f".{EVENTS}"):
        async with stream(served.port, last_event_id=cursor, **wanted) as opened:
            lifetime = rng.randint(1, 400)
            # Where the last ones are hidden, a heartbeat moves the cursor to the end.
            while len(opened.seen) < lifetime and not opened.decoder.last_event_id.endswith(f".{EVENTS}"):
                assert await opened.next() is not None
            seen += seqs(opened.envelopes)
            cursor = opened.decoder.last_event_id
    return seen


@pytest.mark.alone
async def test_each_reader_gets_exactly_what_its_filter_says(start: Start) -> None:
    rng = random.Random(20261120)
    events = [make_event(n, rng) for n in range(EVENTS)]

    async def publish(served: Served) -> None:
        for begin in range(0, EVENTS, 25):
            await served.publish(*events[begin : begin + 25])
            await asyncio.sleep(0)

    # The window is small, so that much of it is replayed from the log.
    async with start(feed={"window_bytes": 300_000, "heartbeat_s": 0.5}) as served:
        filters = [make_filter(rng) for _ in range(READERS)]
        publishing = asyncio.create_task(publish(served))
        results = await asyncio.gather(*(follow(served, wanted, random.Random(i)) for i, wanted in enumerate(filters)))
        await publishing
    for wanted, result in zip(filters, results, strict=True):
        assert result == [n + 1 for n, event in enumerate(events) if passes(event, wanted)], wanted
