"""A plain reader of the event stream over a raw socket, cheap enough to run hundreds of."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from sync_core.sse import ServerSentEvent, SSEDecoder

CONTROL = frozenset({"connected", "caught_up", "heartbeat", "reset", "goodbye"})
DEADLINE_S = 30.0


class Stream:
    """An open stream: its head, and the events as they come."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, decoder: SSEDecoder) -> None:
        self.reader = reader
        self.writer = writer
        self.decoder = decoder
        self.status = 0
        self.headers: dict[str, str] = {}
        self.raw = bytearray()
        self.seen: list[ServerSentEvent] = []
        self._unread: list[ServerSentEvent] = []
        self._envelopes: list[dict[str, Any]] = []
        self._parsed = 0

    async def read_head(self) -> None:
        """Status and headers; the raw start of the body stays to be read."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *lines = head.strip().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}

    async def body(self) -> bytes:
        """All of a response that is no stream."""
        return await self.reader.readexactly(int(self.headers["content-length"]))

    async def next(self, *, timeout_s: float = DEADLINE_S) -> ServerSentEvent | None:
        """The next event, None at the end of the stream."""
        async with asyncio.timeout(timeout_s):
            while not self._unread:
                data = await self._chunk()
                if not data:
                    return None
                self.raw += data
                events = self.decoder.feed(data)
                self.seen += events
                self._unread += events
        return self._unread.pop(0)

    async def until(
        self, wanted: Callable[[ServerSentEvent], bool] | str, *, timeout_s: float = DEADLINE_S
    ) -> ServerSentEvent:
        """Read up to the first event of that type, or that passes; EOFError if there is none."""
        async with asyncio.timeout(timeout_s):
            while (event := await self.next(timeout_s=timeout_s)) is not None:
                if event.event == wanted if isinstance(wanted, str) else wanted(event):
                    return event
        raise EOFError(f"the stream ended; seen: {[e.event for e in self.seen][-5:]}")

    async def until_closed(self, *, timeout_s: float = DEADLINE_S) -> None:
        """Read to the end."""
        async with asyncio.timeout(timeout_s):
            while await self.next(timeout_s=timeout_s) is not None:
                pass

    async def _chunk(self) -> bytes:
        try:
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size + 2)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        return data[:-2]

    @property
    def envelopes(self) -> list[dict[str, Any]]:
        """The events of the log seen so far."""
        for event in self.seen[self._parsed :]:
            if event.event not in CONTROL:
                self._envelopes.append(json.loads(event.data))
        self._parsed = len(self.seen)
        return self._envelopes


@asynccontextmanager
async def stream(
    port: int,
    *,
    last_event_id: str | None = None,
    method: str = "GET",
    buffer_bytes: int | None = None,
    token: str | None = None,
    **parameters: str,
) -> AsyncIterator[Stream]:
    """Open ``/api/v1/sync/events`` with these query *parameters*, closed with the block."""
    limit = {} if buffer_bytes is None else {"limit": buffer_bytes}
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **limit)
    header = f"Last-Event-ID: {last_event_id}\r\n" if last_event_id is not None else ""
    if token is not None:
        header += f"Authorization: Bearer {token}\r\n"
    path = f"/api/v1/sync/events?{urlencode(parameters)}"
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{header}\r\n".encode())
    opened = Stream(reader, writer, SSEDecoder(last_event_id=last_event_id or ""))
    try:
        async with asyncio.timeout(DEADLINE_S):
            await opened.read_head()
        yield opened
    finally:
        writer.close()


def seqs(envelopes: list[dict[str, Any]]) -> list[int]:
    """The seqs of their ids."""
    return [int(envelope["id"].partition(".")[2]) for envelope in envelopes]


async def eventually(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    """Wait until *condition* holds; AssertionError if it does not in time."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + timeout_s
    while not condition():
        assert loop.time() < end_s, f"still not true after {timeout_s} s"
        await asyncio.sleep(0.01)
