"""Compressed streams: one compressor for all, and every client that takes gzip can read them."""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from sync_core.sse import SSEDecoder
from sync_server.feed import framing
from sync_server.feed.control import Goodbye
from tests.feed.conftest import Start
from tests.serving import Served, stage_change
from tests.streams import CONTROL, DEADLINE_S, stream

ON = {"feed": {"compression": True}}


class Follower:
    """A stream as httpx2 decodes it."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.names: list[str] = []
        self.envelopes: list[dict[str, Any]] = []
        self._decoder = SSEDecoder()
        self._bytes = response.aiter_bytes()

    async def until(self, wanted: int | str) -> None:
        """Read on to that event, or to so many of the log."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.envelopes) < wanted if isinstance(wanted, int) else wanted not in self.names:
                for event in self._decoder.feed(await anext(self._bytes)):
                    self.names.append(event.event)
                    if event.event not in CONTROL:
                        self.envelopes.append(json.loads(event.data))


@asynccontextmanager
async def follower(served: Served, *, accept: str = "gzip", **parameters: str) -> AsyncIterator[Follower]:
    async with (
        httpx2.AsyncClient(trust_env=False, headers={"Accept-Encoding": accept}) as client,
        client.stream("GET", f"http://127.0.0.1:{served.port}/api/v1/sync/events", params=parameters) as response,
    ):
        yield Follower(response)


async def test_it_brings_what_a_plain_stream_brings_whenever_one_comes(start: Start) -> None:
    async with start(**ON, retention={"max_events": 100_000}) as served, stream(served.port) as plain:
        async with follower(served) as first:
            assert first.response.headers["content-encoding"] == "gzip"
            assert first.response.headers["vary"] == "accept-encoding"
            await first.until("caught_up")
            await served.publish(*(stage_change(n) for n in range(30)))
            await first.until(30)
            async with follower(served, lastEventId="earliest") as second:
                await second.until(30)
                for n in range(30, 40):
                    await served.publish(stage_change(n))
                await first.until(40)
                await second.until(40)
        while len(plain.envelopes) < 40:
            await plain.next()
        assert first.envelopes == second.envelopes == plain.envelopes


async def test_an_event_is_compressed_once_for_all(start_sqlite: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []
    compressobj = zlib.compressobj

    def counted(*arguments: int) -> Any:
        made.append(b"")
        return compressobj(*arguments)

    async with (
        start_sqlite(**ON) as served,
        follower(served) as one,
        follower(served) as two,
        follower(served) as three,
    ):
        for each in (one, two, three):
            await each.until("caught_up")
        monkeypatch.setattr(framing.zlib, "compressobj", counted)
        await served.publish(stage_change(1))
        for each in (one, two, three):
            await each.until(1)
        assert len(made) == 1


async def test_heartbeats_and_goodbyes_come_through(start_sqlite: Start) -> None:
    feed = {"compression": True, "heartbeat_s": 0.1}
    async with start_sqlite(feed=feed) as served, follower(served) as opened:
        await opened.until("heartbeat")
        await served.publish(stage_change(1))
        await opened.until(1)
        (await served.hub()).close_some(1.0, Goodbye.MAX_AGE, retry_ms=(100, 200))
        await opened.until("goodbye")
        assert len(opened.envelopes) == 1


@pytest.mark.parametrize("accept", ["identity", "", "br, deflate", "gzip;q=0", "gzip; q=0.0, br"])
async def test_who_does_not_take_it_gets_it_plain(start_sqlite: Start, accept: str) -> None:
    async with start_sqlite(**ON) as served, follower(served, accept=accept) as opened:
        assert "content-encoding" not in opened.response.headers
        await opened.until("caught_up")


@pytest.mark.parametrize("accept", ["gzip", "br;q=0.9, GZIP;q=0.1", "*", "x-gzip"])
async def test_who_takes_it_gets_it_where_it_is_on(start_sqlite: Start, accept: str) -> None:
    async with start_sqlite(**ON) as served, follower(served, accept=accept) as opened:
        assert opened.response.headers["content-encoding"] == "gzip"
        await opened.until("caught_up")
    async with start_sqlite() as served, follower(served, accept=accept) as opened:
        assert "content-encoding" not in opened.response.headers
