"""The service that the public SSE contract tests drive: what it refuses, and faults that the harness once found."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from tests.sse_contract_service import ContractClient, Service
from tests.streams import eventually

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
GOOD = {"streamUrl": "http://127.0.0.1:9/", "callbackUrl": "http://127.0.0.1:9/"}

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Answering:
    """A server that answers every request with *answer*, and remembers when they came."""

    def __init__(self, answer: Answer) -> None:
        self.requests_s: list[float] = []
        self._answer = answer
        self._writers: list[asyncio.StreamWriter] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        self.requests_s.append(time.monotonic())
        await self._answer(writer)

    async def aclose(self) -> None:
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)


@asynccontextmanager
async def following(answer: Answer, **options: Any) -> AsyncIterator[tuple[Answering, list[dict[str, Any]]]]:
    """A client of such a server, and its reports."""
    server, reports = Answering(answer), list[dict[str, Any]]()

    async def report(message: dict[str, Any]) -> None:
        reports.append(message)

    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    client = ContractClient(url, report, initial_delay_s=0.001, **options)
    client.start()
    try:
        yield server, reports
    finally:
        await client.aclose()
        await server.aclose()
        listening.close()


async def silent(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD)
    await writer.drain()


async def cut(writer: asyncio.StreamWriter) -> None:
    """The connection ends in the middle of the chunked body."""
    body = b"retry: 400\ndata: x\n\n"
    writer.write(HEAD + b"%x\r\n%b\r\n" % (len(body), body))
    await writer.drain()
    writer.close()


async def test_a_server_that_falls_silent_is_reported_and_asked_again() -> None:
    async with following(silent, read_timeout_s=0.1) as (server, reports):
        await eventually(lambda: len(server.requests_s) >= 2)
        assert reports[0] == {"kind": "error", "error": "silence"}


async def test_the_servers_retry_holds_for_a_stream_that_is_cut() -> None:
    async with following(cut) as (server, reports):
        await eventually(lambda: len(server.requests_s) >= 2)
        first_s, second_s = server.requests_s[:2]
        assert second_s - first_s >= 0.39
        assert [report["kind"] for report in reports[:1]] == ["event"]


@asynccontextmanager
async def service() -> AsyncIterator[httpx2.AsyncClient]:
    asked = Service()
    transport = httpx2.ASGITransport(app=asked.app())
    try:
        async with httpx2.AsyncClient(transport=transport, base_url="http://service") as http:
            yield http
    finally:
        await asked.aclose()


@pytest.mark.parametrize(
    "body",
    [
        {"callbackUrl": "http://127.0.0.1:9/"},
        {"streamUrl": "http://127.0.0.1:9/"},
        {**GOOD, "streamUrl": "not an address"},
        {**GOOD, "streamUrl": 5},
        {**GOOD, "readTimeoutMs": "soon"},
        {**GOOD, "headers": {"é": "x"}},
        [],
        None,
    ],
    ids=["no streamUrl", "no callbackUrl", "no URL", "number", "word for a number", "no header", "list", "null"],
)
async def test_a_body_that_opens_nothing_is_refused(body: Any) -> None:
    async with service() as http:
        reply = await http.post("/", json=body)
        assert (reply.status_code, bool(reply.json())) == (400, True)


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b'{"command": "dance"}'])
async def test_a_command_that_is_none_is_refused(body: bytes) -> None:
    async with service() as http:
        location = (await http.post("/", json=GOOD)).headers["location"]
        assert (await http.post(location, content=body)).status_code == 400
