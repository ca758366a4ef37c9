"""The examples of seed 002, published, streamed and polled: the Arabic in them arrives as it was sent."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sync_core.sse import SSEDecoder
from tests.server.publishing import EVENTS, POLL, published
from tests.servers import SyncServer

SEEDS = Path(__file__).parents[1] / "seeds"
DAY = Path(__file__).parents[2] / "examples" / "shop_day.jsonl"
BYE = "مع السلامة"


def load(*files: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncServer]:
    config = (SEEDS / "seeds.toml").read_text(encoding="utf-8")
    with SyncServer(tmp_path_factory.mktemp("seeds"), config=config) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: SyncServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.base_url, timeout=30, trust_env=False) as client:
        yield client


def as_sent(envelope: dict[str, Any]) -> dict[str, Any]:
    """The envelope without what the server adds."""
    return {name: value for name, value in envelope.items() if name not in ("id", "timestamp", "occurredAt")}


def assert_same(envelopes: list[dict[str, Any]], sent: list[dict[str, Any]]) -> None:
    assert [as_sent(envelope) for envelope in envelopes] == [as_sent(event) for event in sent]
    times = [datetime.fromisoformat(envelope["occurredAt"]) for envelope in envelopes]
    assert times == [datetime.fromisoformat(event["timestamp"]) for event in sent]


def stream(client: httpx2.Client, *, after: str, count: int) -> tuple[bytes, list[dict[str, Any]]]:
    """The stream's bytes and envelopes behind *after*, until there are *count*."""
    decoder, raw, envelopes = SSEDecoder(), b"", []
    with client.stream("GET", EVENTS, headers={"Last-Event-ID": after}) as reply:
        for piece in reply.iter_raw():
            raw += piece
            envelopes += [json.loads(e.data) for e in decoder.feed(piece) if "eventType" in e.data]
            if len(envelopes) >= count:
                break
    return raw, envelopes


def test_the_examples_come_back_by_stream_and_by_poll(client: httpx2.Client) -> None:
    events = load(SEEDS / "seed002.jsonl", DAY)
    before = client.get(POLL).json()["head"]
    published(client, *events)
    polled = client.get(POLL, params={"after": before})
    raw, streamed = stream(client, after=before, count=len(events))
    assert streamed == polled.json()["events"]
    assert_same(streamed, events)
    for body in (raw, polled.content):
        assert BYE.encode() in body
        assert b"\\u" not in body


def test_the_examples_are_there_again_after_a_kill(client: httpx2.Client, server: SyncServer) -> None:
    before = client.get(POLL).json()["head"]
    events = load(SEEDS / "seed002.jsonl")
    published(client, *events)
    server.kill()
    server.start()
    _, streamed = stream(client, after=before, count=len(events))
    assert_same(streamed, events)


def test_the_day_is_a_whole_one() -> None:
    events = load(DAY)
    hours = [datetime.fromisoformat(event["timestamp"]).hour for event in events]
    assert 40 <= len(events) <= 100
    assert hours == sorted(hours)
    assert (hours[0], hours[-1]) == (8, 18)
    orders = {event["orderID"] for event in events if event["eventType"] == "stage_change"}
    ended = {e["orderID"] for e in events if e["data"].get("newStage") in ("completed", "cancelled")}
    assert orders == ended
