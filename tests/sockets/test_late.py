"""Sockets whose first message says who calls: counted like any other from then on, and until they end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from starlette.types import Scope

from sync_server.access.limits import StreamLease
from sync_server.gate.guard import Guard
from sync_server.sockets.door import Sockets
from sync_server.sockets.origin import Origins
from tests.access.credentials import ACCESS, bearer, token
from tests.feed.conftest import Start
from tests.serving import Served
from tests.sockets.client import Client, closed_with, refused, socket
from tests.sockets.routes import PATH, echo, serve_at
from tests.streams import eventually

MOST_STREAMS, MOST_BYTES = 2, 2000


@pytest.fixture
async def served(start_sqlite: Start) -> AsyncIterator[Served]:
    limits = {"streams_per_principal": MOST_STREAMS, "bytes_per_minute": MOST_BYTES}
    async with start_sqlite(access={**ACCESS, "trusted_proxies": ["127.0.0.1"]}, limits=limits) as served:
        serve_at(served, echo, late=True)
        yield served


def streams_of(served: Served) -> tuple[int, dict[str, int], dict[str, int]]:
    """Open now: in all, by principal and by address."""
    limits = served.application._guard._limits
    return limits.streams, dict(limits._streams_of_principal), dict(limits._streams_of_address)


def nobody(served: Served) -> bool:
    return streams_of(served) == (0, {}, {})


def at(address: str) -> dict[str, str]:
    """The headers with which a proxy passes on a client of *address*."""
    return {"X-Forwarded-For": address}


async def greet(client: Client, sub: str) -> dict[str, Any]:
    return await client.ask({"type": "connect", "token": token("viewer", sub=sub)})


async def test_who_comes_late_has_no_more_streams_than_others(served: Served) -> None:
    async with AsyncExitStack() as open_sockets:
        for _ in range(MOST_STREAMS):
            client = await open_sockets.enter_async_context(socket(served, PATH))
            assert (await greet(client, "ann"))["type"] == "connect"
        assert (await refused(served, headers=bearer("viewer", sub="ann")))[0] == 429
        # Whoever has not said yet who it is counts by its address; that has room again.
        async with socket(served, PATH) as late, socket(served, PATH) as bobs:
            assert (await greet(bobs, "bob"))["type"] == "connect"
            await late.say({"type": "connect", "token": token("viewer", sub="ann")})
            assert await closed_with(late) == ("RATE_LIMITED", 1008)
    await eventually(lambda: nobody(served))
    async with socket(served, headers=bearer("viewer", sub="ann")):
        pass


@pytest.mark.parametrize("first", [{"type": "connect", "token": "x"}, {"type": "x"}, {"type": "connect"}])
async def test_who_says_nothing_good_is_given_back(served: Served, first: dict[str, str]) -> None:
    for _ in range(2 * MOST_STREAMS):
        async with socket(served, PATH) as client:
            await client.say(first)
            assert await closed_with(client) == ("UNAUTHORIZED", 1008)
        await eventually(lambda: nobody(served))


class Slow(Guard):
    """The guard of an application, which takes its time to say who calls: before or after it is sure."""

    def __init__(self, guard: Guard, *, sure: bool) -> None:
        super().__init__(guard._authenticator, guard._limits, guard._public, metrics=guard._metrics)
        self._sure = sure
        self.looks, self.goes_on = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> None:
        """Nothing waits for it behind the block."""

    async def __aexit__(self, *_: object) -> None:
        self.goes_on.set()

    async def identify(self, scope: Scope, credential: str, lease: StreamLease) -> None:
        if self._sure:
            await super().identify(scope, credential, lease)
        self.looks.set()
        await self.goes_on.wait()
        if not self._sure:
            await super().identify(scope, credential, lease)


@pytest.mark.parametrize("sure", [True, False])
async def test_who_leaves_while_it_is_looked_who_it_is_is_given_back(served: Served, sure: bool) -> None:
    application = served.application
    slow = Slow(application._guard, sure=sure)
    application.sockets = Sockets([], feed=application.feed, guard=slow, origins=Origins())
    serve_at(served, echo, late=True)
    async with socket(served, PATH) as client, slow:
        await client.say({"type": "connect", "token": token("viewer", sub="ann")})
        await asyncio.wait_for(slow.looks.wait(), 10)
        assert list(streams_of(served)[1]) == ["default/user:ann" if sure else "address:127.0.0.1"]
        client.connection.transport.abort()
        slow.goes_on.set()
        await eventually(lambda: nobody(served))


async def test_bytes_count_for_who_comes_late_wherever_it_comes_from(served: Served) -> None:
    """Half of them from one address, half from another."""
    message = {"type": "x", "x": "x" * (MOST_BYTES // 2)}
    async with (
        socket(served, PATH, headers=at("203.0.113.1")) as here,
        socket(served, PATH, headers=at("203.0.113.2")) as there,
    ):
        for client in (here, there):
            await greet(client, "ann")
        assert await here.ask(message) == message
        await there.say(message)
        assert await closed_with(there) == ("RATE_LIMITED", 1008)
    async with socket(served, PATH, headers=at("203.0.113.2")) as bobs:
        await greet(bobs, "bob")


async def test_bytes_of_nobody_count_for_their_address(served: Served) -> None:
    async with socket(served, PATH, headers=at("203.0.113.1")) as client:
        await client.say({"type": "connect", "token": "x" * MOST_BYTES})
        assert await closed_with(client) == ("RATE_LIMITED", 1008)
    async with socket(served, PATH, headers=at("203.0.113.2")) as other:
        assert (await greet(other, "ann"))["type"] == "connect"
