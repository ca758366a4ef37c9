"""Stream, poll and socket: the same events in the same order, whatever the filter and the rights, with readers that
come, go and come back at random cursors while events are written."""

import asyncio
import random
from typing import Any

import httpx2
import pytest

from tests.access.credentials import ACCESS, bearer, token
from tests.feed.conftest import Start
from tests.rounds import rounds
from tests.serving import Served, stage_change
from tests.sockets.client import socket
from tests.streams import stream

EVENTS = 300
READERS = rounds("THREE_WAYS", 4)
ORDERS = ["A", "B", "C"]
AUDIENCES = [None, None, None, ["role:cashier"], ["role:viewer", "user:bob"], ["user:eve"]]
WHO = [("viewer", "bob"), ("cashier", "eve"), ("admin", "eve")]


def make_event(n: int, rng: random.Random) -> dict[str, Any]:
    more: dict[str, Any] = {"clientID": rng.choice(["till-1", "till-2"])}
    audience = rng.choice(AUDIENCES)
    if audience is not None:
        more["audience"] = audience
    kind = rng.choice(["stage_change", "qr_generated", "position"])
    return stage_change(n, order=rng.choice(ORDERS), eventType=kind, bayID=rng.choice("12"), **more)


def make_filter(rng: random.Random) -> dict[str, str]:
    wanted: dict[str, str] = {}
    if rng.random() < 0.5:
        wanted["orderID"] = ",".join(rng.sample(ORDERS, rng.randint(1, 2)))
    if rng.random() < 0.4:
        wanted["eventTypes"] = rng.choice(["stage_change", "qr_generated,position"])
    if rng.random() < 0.3:
        wanted["clientID"] = "till-1"
    return wanted


async def by_stream(served: Served, who: str, wanted: dict[str, str], rng: random.Random) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    cursor = "earliest"
    while not cursor.endswith(f".{EVENTS}"):
        async with stream(served.port, token=who, last_event_id=cursor, **wanted) as opened:
            life = rng.randint(2, 80)
            while len(opened.seen) < life and not opened.decoder.last_event_id.endswith(f".{EVENTS}"):
                assert await opened.next() is not None
            seen += opened.envelopes
            cursor = opened.decoder.last_event_id
    return seen


async def by_socket(served: Served, who: str, wanted: dict[str, str], rng: random.Random) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    cursor = "earliest"
    headers = {"Authorization": f"Bearer {who}"}
    while not cursor.endswith(f".{EVENTS}"):
        async with socket(served, headers=headers, lastEventId=cursor, **wanted) as opened:
            life = rng.randint(2, 80)
            while len(opened.seen) < life and not opened.cursor.endswith(f".{EVENTS}"):
                await opened.next()
            seen += opened.envelopes
            cursor = opened.cursor
    return seen


async def by_poll(served: Served, who: str, wanted: dict[str, str], rng: random.Random) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    cursor = "earliest"
    headers = {"Authorization": f"Bearer {who}"}
    async with httpx2.AsyncClient(base_url=served.url, headers=headers, trust_env=False) as http:
        while not cursor.endswith(f".{EVENTS}"):
            query = {**wanted, "after": cursor, "limit": str(rng.randint(1, 200)), "wait": "1"}
            page = (await http.get("/api/v1/sync/poll", params=query)).json()
            seen += page["events"]
            cursor = page["cursor"]
    return seen


def every(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without positions, of which one that is newer in the same piece takes the place."""
    return [event for event in events if event["eventType"] != "position"]


def last_positions(events: list[dict[str, Any]]) -> dict[str, Any]:
    return {event["bayID"]: event["id"] for event in events if event["eventType"] == "position"}


@pytest.mark.timeout(120)
async def test_each_way_brings_the_same(start: Start) -> None:
    rng = random.Random(20261121)
    latest = {"custom": [{"name": "position", "delivery": "latest", "entity": "bayID"}]}
    async with start(access=ACCESS, events=latest, feed={"heartbeat_s": 1, "window_bytes": 65536}) as served:
        events = [make_event(n, rng) for n in range(EVENTS)]

        async def publish() -> None:
            headers = bearer("admin", sub="eve")
            async with httpx2.AsyncClient(base_url=served.url, headers=headers, trust_env=False) as http:
                for begin in range(0, EVENTS, 20):
                    body = {"events": events[begin : begin + 20]}
                    assert (await http.post("/api/v1/sync/events", json=body)).status_code == 201

        publishing = asyncio.create_task(publish())
        for number in range(READERS):
            wanted = make_filter(rng)
            role, sub = WHO[number % len(WHO)]
            who = token(role, sub=sub)
            ways = [
                way(served, who, wanted, random.Random(number)) for way in (by_stream, by_socket, by_poll, by_socket)
            ]
            first, *others = await asyncio.gather(*ways)
            assert first, "nothing to compare"
            for other in others:
                assert every(other) == every(first), (role, wanted)
                assert last_positions(other) == last_positions(first)
        await publishing
