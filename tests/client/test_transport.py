"""How answers become errors: the pure logic of responses, without a socket."""

import asyncio
import contextlib
import gzip
import itertools
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2
import pytest
import respx

from sync_client.errors import (
    CursorLost,
    NetworkFailed,
    NotAStream,
    Refused,
    RequestFailed,
    ServerBusy,
    StopAsked,
    Unauthorized,
)
from sync_client.transport import Transport
from sync_core.paths import POLL_PATH, STREAM_PATH

BASE = "http://shop.example"


async def failure_of(transport: Transport) -> RequestFailed:
    with pytest.raises(RequestFailed) as failed:
        await transport.get_json(POLL_PATH)
    return failed.value


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (204, StopAsked), (400, Refused), (401, Unauthorized), (403, Unauthorized), (404, Refused), (408, ServerBusy),
        (410, Refused), (422, Refused), (425, ServerBusy), (429, ServerBusy), (500, ServerBusy), (502, ServerBusy),
        (503, ServerBusy), (304, Refused),
    ],
)  # fmt: skip
async def test_a_status_becomes_the_error_that_says_what_to_do(
    respx_mock: respx.MockRouter, status: int, kind: type[RequestFailed]
) -> None:
    respx_mock.get(f"{BASE}{POLL_PATH}").mock(httpx2.Response(status, headers={"Retry-After": "7"}))
    transport = Transport(BASE)
    failed = await failure_of(transport)
    await transport.aclose()
    assert (type(failed), failed.status) == (kind, status)
    assert failed.retry_after_s == (7 if kind is ServerBusy else None)


async def test_a_410_of_ours_carries_the_reset(respx_mock: respx.MockRouter) -> None:
    document = {"reason": "expired", "head": "aaaaaaaa.9", "floor": "aaaaaaaa.3"}
    respx_mock.get(f"{BASE}{POLL_PATH}").mock(httpx2.Response(410, json=document))
    transport = Transport(BASE)
    failed = await failure_of(transport)
    await transport.aclose()
    assert isinstance(failed, CursorLost)
    assert failed.document == document


@pytest.mark.parametrize(
    "error",
    [httpx2.ConnectError("x"), httpx2.ReadTimeout("x"), httpx2.RemoteProtocolError("x"), httpx2.PoolTimeout("x")],
)
async def test_network_errors_are_one_error(respx_mock: respx.MockRouter, error: Exception) -> None:
    respx_mock.get(f"{BASE}{POLL_PATH}").mock(side_effect=error)
    transport = Transport(BASE)
    assert type(await failure_of(transport)) is NetworkFailed
    await transport.aclose()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"5", b"", b"\xff", b"[" * 100_000], ids=lambda body: body[:6])
async def test_what_is_no_json_object_is_told(respx_mock: respx.MockRouter, body: bytes) -> None:
    respx_mock.get(f"{BASE}{POLL_PATH}").mock(httpx2.Response(200, content=body))
    transport = Transport(BASE)
    assert type(await failure_of(transport)) is NotAStream
    await transport.aclose()


def answering(*pieces: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """A server that sends *pieces*, the last one for ever."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            for piece in itertools.chain(pieces, itertools.repeat(pieces[-1])):
                writer.write(piece)
                await writer.drain()
        writer.close()

    return answer


HEAD = b"HTTP/1.1 200 x\r\nConnection: close\r\n"


def squeezed(size_bytes: int) -> bytes:
    """A gzip of nothing but spaces."""
    packing = zlib.compressobj(1, wbits=31)
    piece = b" " * 1_000_000
    return b"".join(packing.compress(piece) for _ in range(size_bytes // len(piece))) + packing.flush()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("status", [200, 410, 500])
async def test_a_body_above_the_limit_is_a_failure_and_takes_no_memory(packed: bool, status: int) -> None:
    head = HEAD.replace(b"200", str(status).encode())
    pieces = [head + b"\r\n", b" " * 65536]
    if packed:
        content = squeezed(100_000_000)
        pieces = [head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(content), content]
    server = await asyncio.start_server(answering(*pieces), "127.0.0.1", 0)
    transport = Transport(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", max_body_bytes=1_000_000)
    tracemalloc.start()
    try:
        failed = await asyncio.wait_for(failure_of(transport), 20)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        await transport.aclose()
        server.close()
    assert type(failed) is {200: NotAStream, 410: Refused, 500: ServerBusy}[status]
    assert failed.status == status
    assert peak_bytes < 8_000_000


class Raw(httpx2.AsyncByteStream):
    """A body that nobody unpacks before the transport."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content


async def test_a_packed_body_is_unpacked(respx_mock: respx.MockRouter) -> None:
    content = gzip.compress(b'{"ok": 1}')
    answer = httpx2.Response(200, headers={"Content-Encoding": "gzip"}, stream=Raw(content))
    route = respx_mock.get(f"{BASE}{POLL_PATH}").mock(answer)
    transport = Transport(BASE)
    assert await transport.get_json(POLL_PATH) == {"ok": 1}
    await transport.aclose()
    assert route.calls[0].request.headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("br", b"{}"),
        ("gzip, gzip", b"{}"),
        ("gzip", b"not packed at all"),
        ("gzip", gzip.compress(b'{"a": 1}', mtime=0)[:-12]),
    ],
)
async def test_what_cannot_be_unpacked_is_a_failure(
    respx_mock: respx.MockRouter, encoding: str, content: bytes
) -> None:
    answer = httpx2.Response(200, headers={"Content-Encoding": encoding}, stream=Raw(content))
    respx_mock.get(f"{BASE}{POLL_PATH}").mock(answer)
    transport = Transport(BASE)
    assert type(await failure_of(transport)) is NotAStream
    await transport.aclose()


async def test_parameters_token_and_path_go_where_they_belong(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.get(f"{BASE}/under/a/path{POLL_PATH}").mock(httpx2.Response(200, json={"ok": 1}))
    transport = Transport(f"{BASE}/under/a/path/", headers={"X-Client-ID": "till#1"})
    assert await transport.get_json(POLL_PATH, params={"orderID": "Ä,B"}, token="secret") == {"ok": 1}
    await transport.aclose()
    request = route.calls[0].request
    assert request.url.params["orderID"] == "Ä,B"
    assert request.headers["authorization"] == "Bearer secret"
    assert request.headers["x-client-id"] == "till#1"


@pytest.mark.parametrize("location", [f"https://shop.example{POLL_PATH}", "http://other.example/", "//other.example/"])
async def test_another_origin_gets_neither_token_nor_name(respx_mock: respx.MockRouter, location: str) -> None:
    respx_mock.get(f"{BASE}{POLL_PATH}").mock(httpx2.Response(302, headers={"Location": location}))
    target = respx_mock.get(location if "://" in location else f"http:{location}").mock(httpx2.Response(200, json={}))
    transport = Transport(BASE, headers={"X-Client-ID": "till#1"})
    await transport.get_json(POLL_PATH, token="secret")
    await transport.aclose()
    headers = target.calls[0].request.headers
    assert "authorization" not in headers
    assert "x-client-id" not in headers


async def test_the_last_event_id_travels_as_bytes(respx_mock: respx.MockRouter) -> None:
    answer = httpx2.Response(200, headers={"Content-Type": "text/event-stream; charset=utf-8"}, content=b"data: x\n\n")
    route = respx_mock.get(f"{BASE}{STREAM_PATH}").mock(answer)
    transport = Transport(BASE)
    async with transport.stream(last_event_id="…") as stream:
        assert [chunk async for chunk in stream.chunks()] == [b"data: x\n\n"]
    await transport.aclose()
    headers = dict(route.calls[0].request.headers.raw)
    assert headers[b"Last-Event-ID"] == "…".encode()
    assert headers[b"Accept-Encoding"] == b"identity"


@pytest.mark.parametrize("kind", ["text/html", "x bogus", "text/x-event-stream", ""])
async def test_another_media_type_is_no_stream(respx_mock: respx.MockRouter, kind: str) -> None:
    respx_mock.get(f"{BASE}{STREAM_PATH}").mock(httpx2.Response(200, headers={"Content-Type": kind}, content=b"x"))
    transport = Transport(BASE)
    with pytest.raises(NotAStream):
        async with transport.stream():
            pass
    await transport.aclose()
