"""A server that answers streams and plain requests as a test says, and counts them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

__all__ = [
    "EPOCH",
    "OTHER",
    "STREAM_HEAD",
    "Answer",
    "Script",
    "block",
    "connected",
    "event",
    "plain",
    "reset",
    "served",
]

EPOCH, OTHER = "aaaaaaaa", "bbbbbbbb"
STREAM_HEAD = b"HTTP/1.1 200 x\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

Answer = Callable[[int, asyncio.StreamWriter], Awaitable[None]]
"""Writes the answer to request number n of its kind, from 0; the connection is closed when it returns."""


def block(kind: str, data: dict[str, Any], event_id: str) -> bytes:
    return f"event: {kind}\nid: {event_id}\ndata: {json.dumps(data)}\n\n".encode()


def connected(cursor: str, **more: Any) -> bytes:
    """A stream's head and beginning."""
    data = {"cursor": cursor, "head": cursor, "resume": "resumed", "heartbeatSeconds": 15, "access": "open", **more}
    return STREAM_HEAD + b"retry: 0\n" + block("connected", data, cursor)


def reset(cursor: str, reason: str = "epoch") -> bytes:
    """A stream that begins with a reset to *cursor*."""
    return connected(cursor, resume="reset") + block("reset", {"reason": reason, "head": cursor}, cursor)


def event(n: int, *, epoch: str = EPOCH) -> bytes:
    event_id = f"{epoch}.{n}"
    return block("stage_change", {"id": event_id, "eventType": "stage_change", "data": {"n": n}}, event_id)


def plain(status: int, body: Any, *headers: str) -> bytes:
    """A whole response."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(content)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


class Script:
    """What the server does, and how often it was asked."""

    def __init__(self, stream: Answer, poll: Answer) -> None:
        self._answers = {True: stream, False: poll}
        self.streams = 0
        self.polls = 0
        self.heads: list[str] = []
        """Of all requests."""

    @property
    def requests(self) -> int:
        return self.streams + self.polls

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            is_stream = self.heads[-1].startswith("GET /api/v1/sync/events")
            number = self.streams if is_stream else self.polls
            self.streams += is_stream
            self.polls += not is_stream
            await self._answers[is_stream](number, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went, or the test is over
        finally:
            writer.close()


@asynccontextmanager
async def served(script: Script) -> AsyncIterator[str]:
    """Its address, while it runs."""
    server = await asyncio.start_server(script, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
