"""A socket at the level of bytes, for what no library would send."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.frames import Frame, Opcode

EMPTY = Frame(Opcode.TEXT, b"").serialize(mask=True)


def text(payload: bytes) -> bytes:
    """A client's frame."""
    return Frame(Opcode.TEXT, payload).serialize(mask=True)


@asynccontextmanager
async def raw_socket(
    port: int, path: str, *, version: int = 13
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """After the handshake; nothing answers pings."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 101"), head
        yield reader, writer
    finally:
        writer.close()


async def close_code(reader: asyncio.StreamReader) -> int | None:
    """Read to the end; the code of the close frame that stands there."""
    async with asyncio.timeout(20):
        data = await reader.read(-1)
    at = data.rfind(b"\x88")
    return int.from_bytes(data[at + 2 : at + 4], "big") if at >= 0 else None
