"""What a stream takes in memory for as long as it lasts."""

import asyncio
import gc
import socket
import tracemalloc
from typing import Any

import pytest

from tests.access.credentials import ACCESS, token
from tests.feed.conftest import Start
from tests.serving import Served
from tests.streams import eventually

STREAMS = 300


async def bytes_per_stream(served: Served, headers: list[str]) -> float:
    """Of the server, with one stream for each of *headers*; the other ends of the sockets are a few bytes."""
    loop, hub, sockets = asyncio.get_running_loop(), await served.hub(), []

    async def begin(header: str) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", served.port))
        await loop.sock_sendall(sock, f"GET /api/v1/sync/events HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode())
        sockets.append(sock)

    async def all_begun() -> int:
        await eventually(lambda: sum(reader.live for reader in hub.readers) == len(sockets))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    try:
        for header in headers[:20]:  # what is made once
            await begin(header)
        await all_begun()
        tracemalloc.start()
        before = await all_begun()
        for header in headers[20:]:
            await begin(header)
        return (await all_begun() - before) / (len(headers) - 20)
    finally:
        tracemalloc.stop()
        for sock in sockets:
            sock.close()


@pytest.mark.parametrize(
    ("sections", "most"),
    # Measured on Python 3.11: 10,900 and 12,700, of which uvicorn and asyncio take the greater part. Who shows a token
    # has a longer head, and rights of their own.
    [({}, 12_000), ({"access": ACCESS, "limits": {"connects": "100000/second"}}, 14_000)],
    ids=["open", "access"],
)
async def test_an_idle_stream_takes_little(start_sqlite: Start, sections: dict[str, Any], most: int) -> None:
    tokens = [f"Authorization: Bearer {token('csr', sub=f'u{n}')}\r\n" for n in range(STREAMS)]
    async with start_sqlite(**sections) as served:
        assert await bytes_per_stream(served, tokens if sections else [""] * STREAMS) < most
