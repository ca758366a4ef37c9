"""The client over a WebSocket: what refusals mean, polling where no socket gets through, and the way back."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sync_client import Backoff, ConfigurationError, SyncClient
from sync_client.errors import NetworkFailed, RequestFailed, ServerBusy, Unauthorized
from sync_client.states import Policy, State
from sync_client.websocket import SocketTransport
from sync_core.paths import FEED_SOCKET_PATH
from tests.access.credentials import ACCESS, token
from tests.servers import SyncServer
from tests.serving import Served, serving, sqlite_settings, stage_change
from tests.streams import eventually

QUICK = Policy(backoff=Backoff(base_s=0.05, cap_s=0.2), max_reconnect_attempts=2, probe_first_s=0.3)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(sqlite_settings(tmp_path)) as served:
        yield served


def client_of(url: str, **options: Any) -> SyncClient:
    given: dict[str, Any] = {"cache": False, "start": "earliest", "policy": QUICK, "rng": lambda: 0.5}
    return SyncClient(url, transport="ws", trust_env=False, **given | options)


def numbers_of(client: SyncClient) -> list[int]:
    """The n of its stage changes, as they come."""
    numbers: list[int] = []
    client.on("stage_change")(lambda event: numbers.append(event.data["n"]))
    return numbers


async def test_events_come_replayed_and_live_by_the_socket(served: Served) -> None:
    await served.stages(1500)
    client = client_of(served.url)
    numbers = numbers_of(client)
    async with client:
        await eventually(lambda: len(numbers) == 1500)
        assert client.health.transport == "ws"
        await served.stages(10, first=1500)
        await eventually(lambda: len(numbers) == 1510)
        assert numbers == list(range(1510))
        assert {event.source for event in await client.recent()} == {"ws"}
        assert client.metrics.duplicates_suppressed == 0
    await eventually(lambda: served.application.feed.reader_count == 0)


async def test_without_a_socket_it_polls_and_comes_back_when_there_is_one(served: Served) -> None:
    sockets = served.application.sockets
    assert sockets is not None
    route = sockets.routes.pop(FEED_SOCKET_PATH)
    client = client_of(served.url)
    numbers = numbers_of(client)
    async with client:
        await served.stages(3)
        await eventually(lambda: client.state is State.POLLING and len(numbers) == 3)
        sockets.routes[FEED_SOCKET_PATH] = route
        await eventually(lambda: client.state is State.CONNECTED)
        assert client.health.transport == "ws"
        await served.stages(2, first=3)
        await eventually(lambda: numbers == [0, 1, 2, 3, 4])


async def test_planned_ends_are_no_failures(tmp_path: Path) -> None:
    async with serving(sqlite_settings(tmp_path, feed={"max_age_s": 1})) as served:
        client = client_of(served.url)
        numbers = numbers_of(client)
        async with client:
            for n in range(5):
                await eventually(lambda: client.metrics.attempts > n)  # noqa: B023 - awaited at once
                await served.stages(1, first=n)
            await eventually(lambda: len(numbers) == 5)
            assert numbers == list(range(5))
            assert client.health.attempt == 0
            assert client.metrics.polls == 0


async def test_a_killed_server_is_found_again_and_nothing_is_missed(tmp_path: Path) -> None:
    with SyncServer(tmp_path) as server:
        client = client_of(server.base_url)
        numbers = numbers_of(client)

        async def publish(begin: int, end: int) -> None:
            import httpx2

            async with httpx2.AsyncClient(base_url=server.base_url, trust_env=False) as http:
                events = [stage_change(n) for n in range(begin, end)]
                assert (await http.post("/api/v1/sync/events", json={"events": events})).status_code == 201

        async with client:
            await publish(0, 50)
            await eventually(lambda: len(numbers) == 50)
            await asyncio.to_thread(server.kill)
            await eventually(lambda: client.state is not State.CONNECTED)
            await asyncio.to_thread(server.start)
            await publish(50, 200)
            await eventually(lambda: len(numbers) == 200, timeout_s=20)
            assert numbers == list(range(200))


@pytest.mark.alone
async def test_close_ends_at_once_and_leaves_nothing(served: Served) -> None:
    client = client_of(served.url)
    await client.start()
    await eventually(lambda: client.state is State.CONNECTED)
    before_s = asyncio.get_running_loop().time()
    await client.close()
    assert asyncio.get_running_loop().time() - before_s < 1
    assert not [task for task in asyncio.all_tasks() if "sync-client" in task.get_name()]
    await eventually(lambda: served.application.feed.reader_count == 0)


async def test_who_is_not_let_in_fails_and_comes_in_with_another_token(tmp_path: Path) -> None:
    tokens = ["nonsense"]
    async with serving(sqlite_settings(tmp_path, access=ACCESS)) as served:
        client = client_of(served.url, token=lambda: tokens[0], start="now")
        async with client:
            await eventually(lambda: client.state is State.FAILED)
            tokens[0] = token("viewer")
            await client.start()
            await eventually(lambda: client.state is State.CONNECTED)


# -- handshakes that are refused ------------------------------------------------------------------------


@asynccontextmanager
async def answering(head: bytes, body: bytes = b"") -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers every request like that: its address, and the heads it was sent."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


async def failure_of(url: str, *, opened: Callable[[], Awaitable[None]] | None = None) -> RequestFailed:
    with pytest.raises(RequestFailed) as failed:
        async with SocketTransport(url, trust_env=False).stream(token="secret", params={"orderID": "A B"}):
            pass
    return failed.value


PROBLEM = b'{"type":"about:blank","title":"x","status":%d,"detail":"x"}'


@pytest.mark.parametrize(
    ("status", "ours", "kind"),
    [
        (401, True, Unauthorized), (403, True, Unauthorized), (401, False, NetworkFailed), (403, False, NetworkFailed),
        (404, True, NetworkFailed), (400, True, NetworkFailed), (200, False, NetworkFailed),
        (426, False, NetworkFailed),
        (429, True, ServerBusy), (503, True, ServerBusy), (502, False, ServerBusy),
    ],
)  # fmt: skip
async def test_a_refused_handshake_says_what_to_do(status: int, ours: bool, kind: type[RequestFailed]) -> None:
    media_type = b"application/problem+json" if ours else b"text/html"
    head = b"HTTP/1.1 %d X\r\nRetry-After: 7\r\nContent-Type: %b" % (status, media_type)
    async with answering(head, PROBLEM % status) as (url, _):
        failed = await failure_of(url)
    assert (type(failed), failed.status) == (kind, status)
    assert failed.retry_after_s == (7 if kind is ServerBusy else None)


async def test_the_token_goes_to_no_other_place() -> None:
    async with answering(b"HTTP/1.1 200 X") as (elsewhere, seen):
        target = elsewhere.replace("http", "ws").encode()
        async with answering(b"HTTP/1.1 307 X\r\nLocation: " + target) as (url, heads):
            failed = await failure_of(url + "/base/")
    assert isinstance(failed, NetworkFailed)
    assert seen == []
    assert heads[0].startswith(b"GET /base/api/v1/sync/ws?orderID=A+B HTTP/1.1\r\n")
    assert b"Authorization: Bearer secret" in heads[0]


@pytest.mark.parametrize("head", [b"nonsense", b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade"])
async def test_who_does_not_speak_it_is_a_network_that_fails(head: bytes) -> None:
    async with answering(head) as (url, _):
        assert type(await failure_of(url)) is NetworkFailed
    assert type(await failure_of("http://127.0.0.1:9")) is NetworkFailed


def test_without_the_package_it_says_which_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.asyncio.client", None)
    with pytest.raises(ConfigurationError, match=r'pip install "order-sync\[ws\]"'):
        client_of("http://127.0.0.1:9")
    SyncClient("http://127.0.0.1:9", cache=False)  # nothing else needs it


def test_another_transport_is_no_option() -> None:
    with pytest.raises(ConfigurationError, match="transport"):
        SyncClient("http://127.0.0.1:9", cache=False, transport="carrier pigeon")
