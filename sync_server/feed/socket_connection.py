"""Writing WebSocket messages without awaiting, as connection.py does for responses.

``SocketConnection`` steps the server's ``send`` by hand, message by message. ``UvicornSocketConnection`` writes frames
that were made once for all readers to the transport under uvicorn's protocol; that is possible because a server's
frames are neither masked nor, here, compressed, and it is feature-detected like its counterpart for responses.
Figures: docs/adr/0008-websocket-third-transport.md.
"""

import asyncio
from contextlib import suppress
from typing import Any

from starlette.types import Send

from sync_server.feed.connection import Blocked, Chunk, Connection, step
from sync_server.feed.frames import payloads

__all__ = ["GOING_AWAY", "SocketConnection", "UvicornSocketConnection", "socket_connection"]

GOING_AWAY = 1001
"""Close code of an end that the server planned; the goodbye before it says why."""


class SocketConnection:
    """Any ASGI server. Made in the task that handles the socket."""

    __slots__ = ("_handler", "_send")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._handler = asyncio.current_task()

    def write(self, chunk: Chunk) -> Blocked | None:
        return step(self._send_all(chunk.body)) if chunk.body else None

    def finish(self, body: bytes) -> None:
        blocked = step(self._finish(body))
        if blocked is not None:
            blocked.cancel()
            self.abort()

    def abort(self) -> None:
        # ASGI has no call for it; a server closes the connection of a handler that ends.
        if self._handler is not None:
            self._handler.cancel()

    async def _send_all(self, frames: bytes) -> None:
        with suppress(OSError, RuntimeError):  # as servers say that the peer has left, or that it is being closed
            for payload in payloads(frames):
                await self._send({"type": "websocket.send", "text": payload.decode()})

    async def _finish(self, frames: bytes) -> None:
        await self._send_all(frames)
        with suppress(OSError, RuntimeError):
            await self._send({"type": "websocket.close", "code": GOING_AWAY, "reason": ""})


class UvicornSocketConnection(SocketConnection):
    """uvicorn with websockets: straight to the transport."""

    __slots__ = ("_protocol", "_writable", "_write")

    def __init__(self, send: Send, protocol: Any) -> None:
        super().__init__(send)
        self._protocol = protocol
        self._writable = protocol.writable
        self._write = protocol.transport.write

    def write(self, chunk: Chunk) -> Blocked | None:
        if not self._writable.is_set():
            return super().write(chunk)
        if chunk.body and not self._protocol.close_sent and not self._protocol.transport.is_closing():
            self._write(chunk.body)
        return None

    def abort(self) -> None:
        self._protocol.transport.abort()


def socket_connection(send: Send) -> Connection:
    """The fastest way to write to the socket that *send* has just accepted."""
    protocol = getattr(send, "__self__", None)
    if (
        any(base.__module__ == "uvicorn.protocols.websockets.websockets_sansio_impl" for base in type(protocol).__mro__)
        and hasattr(getattr(protocol, "transport", None), "abort")
        and hasattr(getattr(protocol, "writable", None), "is_set")
        and hasattr(protocol, "close_sent")
        and getattr(getattr(protocol, "conn", None), "extensions", True) == []
    ):
        return UvicornSocketConnection(send, protocol)
    return SocketConnection(send)
