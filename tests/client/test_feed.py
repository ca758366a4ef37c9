"""From the wire to handlers and cache, with a server that says what a test wants."""

import asyncio
from typing import Any

import pytest

from sync_client import Backoff, Event, SyncClient
from sync_client.states import Policy
from tests.client.scripted import EPOCH, Script, block, connected, event, plain, served
from tests.streams import eventually


async def broken(_: int, writer: asyncio.StreamWriter) -> None:
    writer.write(plain(500, b""))


def stream(body: bytes) -> Script:
    """A server whose streams say *body* and stay open."""

    async def answer(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(body)
        await writer.drain()
        await asyncio.sleep(60)

    return Script(answer, broken)


def pages(page: dict[str, Any]) -> Script:
    """A server without streams, whose polls are all answered by *page*."""

    async def answer(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(200, page))

    return Script(broken, answer)


def client_of(url: str, **options: Any) -> SyncClient:
    policy = Policy(backoff=Backoff(base_s=0.1), max_reconnect_attempts=1)
    given: dict[str, Any] = {"start": f"{EPOCH}.1", "cache": False, "rng": lambda: 0.05, "policy": policy}
    return SyncClient(url, trust_env=False, **given, **options)


def envelope(n: int) -> dict[str, Any]:
    return {"id": f"{EPOCH}.{n}", "eventType": "x", "data": {"n": n}}


BAD_STREAM = stream(connected(f"{EPOCH}.1") + event(2) + event(3).replace(b'{"n": 3}', b'{"n": ') + event(4))
BAD_PAGE = pages(
    {"events": [envelope(2), {"id": 5}, envelope(4)], "cursor": f"{EPOCH}.4", "head": f"{EPOCH}.4", "upToDate": True,
     "pollAfterMs": 50}
)  # fmt: skip


@pytest.mark.parametrize("script", [BAD_STREAM, BAD_PAGE], ids=["stream", "poll"])
async def test_what_is_no_event_is_kept_aside_and_the_feed_goes_on(script: Script) -> None:
    async with served(script) as url:
        client = client_of(url)
        got: list[int] = []
        client.on()(lambda e: got.append(e.data["n"]))
        async with client:
            await eventually(lambda: got == [2, 4])
            await eventually(lambda: script is BAD_STREAM or script.polls > 3)  # the page comes again and again
            assert (client.cursor, client.metrics.malformed, client.metrics.parked) == (f"{EPOCH}.4", 1, 0)
            (kept,) = await client.parked()
            assert "malformed" in kept.data


async def test_what_is_about_the_connection_is_handed_out_and_never_listed() -> None:
    beat = block("heartbeat", {"head": f"{EPOCH}.2", "tailAgeMs": 3}, f"{EPOCH}.2")
    async with served(stream(connected(f"{EPOCH}.1") + event(2) + beat)) as url:
        client = client_of(url)
        beats: list[Event] = []
        client.on("heartbeat", "connected")(beats.append)
        async with client:
            await eventually(lambda: len(beats) == 2)
            assert [e.id for e in beats] == [None, None]
            await eventually(lambda: client.idle)
            assert [e.id for e in await client.recent()] == [f"{EPOCH}.2"]


async def test_a_client_without_a_file_keeps_as_many_events_as_it_is_told_to() -> None:
    async with served(stream(connected(f"{EPOCH}.1") + b"".join(event(n) for n in range(2, 302)))) as url:
        client = client_of(url, retention_events=250)
        client.on()(lambda e: None)
        async with client:
            await eventually(lambda: client.metrics.delivered == 300 and client.idle)
            assert [e.id for e in await client.recent(1000)] == [f"{EPOCH}.{n}" for n in range(52, 302)]
