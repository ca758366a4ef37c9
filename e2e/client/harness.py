"""What the client's end-to-end tests share: a server, a proxy before it, publishing, and waiting for a condition."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from e2e.fault_proxy import FaultProxy
from sync_client import Event, State, SyncClient
from tests.servers import SyncServer

__all__ = ["Shop", "eventually", "numbers", "open_shop", "stage_change"]

HEARTBEAT_S = 1.0
CONFIG = """
[server]
drain_s = 1.0
[feed]
heartbeat_s = {heartbeat_s}
max_age_s = {max_age_s}
[retention]
max_events = {max_events}
[events]
custom = [{{name = "tick", delivery = "ephemeral"}}]
"""


async def eventually(condition: Callable[[], Any], *, within_s: float = 30.0, what: str = "") -> None:
    """Return as soon as *condition* holds. Raises AssertionError."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"{what or 'the condition'} did not come to be within {within_s:g} s")
        await asyncio.sleep(0.01)


def stage_change(n: int, **more: Any) -> dict[str, Any]:
    """A publishable event with a number."""
    return {"eventType": "stage_change", "orderID": "ORDER-001", "data": {"newStage": "x", "n": n}, **more}


def numbers(events: list[Event]) -> list[int]:
    """The numbers of the stage changes among *events*."""
    return [event.data["n"] for event in events if event.event_type == "stage_change"]


@dataclass
class Shop:
    """A server, and a proxy before it for clients to go through."""

    server: SyncServer
    proxy: FaultProxy
    http: httpx2.AsyncClient
    directory: Path
    published: int = 0

    @property
    def sent(self) -> list[int]:
        """All numbers published so far."""
        return list(range(self.published))

    async def publish(self, count: int = 1, **more: Any) -> None:
        """Publish the next *count* numbered events, past the proxy."""
        first = self.published
        self.published += count
        for begin in range(first, self.published, 500):
            events = [stage_change(n, **more) for n in range(begin, min(begin + 500, self.published))]
            reply = await self.http.post("/api/v1/sync/events", json={"events": events})
            assert reply.status_code == 201, reply.text

    def client(self, name: str = "till", **options: Any) -> SyncClient:
        """A client that goes through the proxy, with its cache in the shop's directory."""
        given: dict[str, Any] = {"cache_dir": self.directory / "cache", "trust_env": False, **options}
        return SyncClient(self.proxy.url, client_name=name, **given)

    @asynccontextmanager
    async def following(self, name: str = "till", **options: Any) -> AsyncIterator[tuple[SyncClient, list[Event]]]:
        """A connected client and the list that its handler fills."""
        client = self.client(name, **options)
        got: list[Event] = []
        client.on()(got.append)
        async with client:
            await client.wait_for(State.CONNECTED, timeout_s=30)
            yield client, got

    async def restart(self, *, down_s: float = 0.0) -> None:
        """kill -9, and start again."""
        await asyncio.to_thread(self.server.kill)
        await asyncio.sleep(down_s)
        await asyncio.to_thread(self.server.start)


@asynccontextmanager
async def open_shop(
    directory: Path, *, heartbeat_s: float = HEARTBEAT_S, max_age_s: float = 600.0, max_events: int = 1_000_000
) -> AsyncIterator[Shop]:
    """A shop with a server of its own, in *directory*."""
    config = CONFIG.format(heartbeat_s=heartbeat_s, max_age_s=max_age_s, max_events=max_events)
    server = SyncServer(directory / "server", config=config)
    try:
        await asyncio.to_thread(server.start)
        async with shop_before(server, directory) as shop:
            yield shop
    finally:
        await asyncio.to_thread(server.close)


@asynccontextmanager
async def shop_before(server: SyncServer, directory: Path) -> AsyncIterator[Shop]:
    """A shop whose server runs already."""
    async with (
        FaultProxy("127.0.0.1", server.port) as proxy,
        httpx2.AsyncClient(base_url=server.base_url, timeout=30, trust_env=False) as http,
    ):
        yield Shop(server, proxy, http, directory)
