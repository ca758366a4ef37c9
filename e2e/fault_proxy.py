"""A proxy that misbehaves on demand, for tests over real sockets.

    async with FaultProxy("127.0.0.1", server_port) as proxy:
        client = SyncClient(proxy.url, ...)
        proxy.stream.stalled = True         # from now on no byte passes, and no FIN either
        proxy.plain.status = 503            # polls are answered by the proxy itself

Two kinds of requests are told apart, streams and all others, each with a Fault that may be changed at any time;
what can change for open connections does. One request a connection. ``requests`` remembers all of them.
"""

import asyncio
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Self

__all__ = ["Fault", "FaultProxy", "Request"]

STREAM_PATH = "/api/v1/sync/events"
STEP_S = 0.01


@dataclass
class Fault:
    """What goes wrong with one kind of request; by default nothing.

    answers: whole responses, each used once, before anything else. status: answered by the proxy, with *headers*
    and *body*. refused: the connection is cut before an answer. delay_s: before each piece. stalled: nothing
    passes any more, and nothing is closed. buffered: everything is held until the server closes. cut_after_s,
    cut_after_bytes: the connection is cut so long after the request, or in the middle of the answer. reset: cuts
    are RST instead of FIN. tail: bytes that are still written before a cut.
    """

    answers: list[bytes] = field(default_factory=list)
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    refused: bool = False
    delay_s: float = 0.0
    stalled: bool = False
    buffered: bool = False
    cut_after_s: float | None = None
    cut_after_bytes: int | None = None
    reset: bool = False

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self.__dict__.update(Fault().__dict__)


@dataclass(frozen=True)
class Request:
    """One that came by. *at_s* is monotonic."""

    method: str
    target: str
    headers: dict[str, str]
    at_s: float

    @property
    def is_stream(self) -> bool:
        return self.method == "GET" and self.target.partition("?")[0] == STREAM_PATH


def response(status: int, *, headers: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    """A whole HTTP response."""
    lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if status == 204 else body)


class FaultProxy:
    """Listens on a free port of this machine and passes on to *host*:*port*, which may be changed."""

    def __init__(self, host: str, port: int) -> None:
        self.upstream = (host, port)
        self.stream = Fault()
        self.plain = Fault()
        self.requests: list[Request] = []
        self.open_streams = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def stream_requests(self) -> list[Request]:
        return [r for r in self.requests if r.is_stream]

    @property
    def plain_requests(self) -> list[Request]:
        return [r for r in self.requests if not r.is_stream]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut_all(self, *, reset: bool = False) -> None:
        """Cut every connection that is open now."""
        for writer in list(self._writers):
            _cut(writer, reset=reset)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # cancelled by __aexit__ only, which waits for it; asyncio's streams would log it as an error
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        request = _read_head(head)
        self.requests.append(request)
        fault = self.stream if request.is_stream else self.plain
        if fault.refused:
            _cut(writer, reset=fault.reset)
        elif fault.answers:
            writer.write(fault.answers.pop(0))
            await writer.drain()
        elif fault.status is not None:
            writer.write(response(fault.status, headers=fault.headers, body=fault.body))
            await writer.drain()
        else:
            await self._forward(request, head, reader, writer, fault)

    async def _forward(
        self, request: Request, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault
    ) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self.upstream)
        self.open_streams += request.is_stream
        try:
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
            up_writer.write(b"\r\n".join([*lines[:1], b"Connection: close", *lines[1:]]))
            length = int(request.headers.get("content-length", "0"))
            if length:
                up_writer.write(await reader.readexactly(length))
            await up_writer.drain()
            gone = asyncio.create_task(reader.read(1))
            try:
                await self._answer(up_reader, writer, fault, gone)
            finally:
                gone.cancel()
                await asyncio.gather(gone, return_exceptions=True)
        finally:
            self.open_streams -= request.is_stream
            up_writer.close()

    async def _answer(
        self, up: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault, gone: "asyncio.Task[bytes]"
    ) -> None:
        """The server's answer, as the fault lets it through; until one of the two is gone."""
        began_s, passed_bytes, held = time.monotonic(), 0, b""
        reading: asyncio.Task[bytes] | None = None
        ended = False
        try:
            while not gone.done():
                if fault.cut_after_s is not None and time.monotonic() - began_s >= fault.cut_after_s:
                    _cut(writer, reset=fault.reset)
                    return
                if reading is None and not ended and len(held) < 1 << 24:
                    reading = asyncio.create_task(up.read(65536))
                waits = [gone] if reading is None else [gone, reading]
                await asyncio.wait(waits, timeout=STEP_S, return_when=asyncio.FIRST_COMPLETED)
                if reading is not None and reading.done():
                    held += reading.result()
                    ended = not reading.result()
                    reading = None
                if fault.stalled or (fault.buffered and not ended):
                    continue
                if held:
                    if fault.delay_s:
                        await asyncio.sleep(fault.delay_s)
                    if fault.cut_after_bytes is not None and passed_bytes + len(held) >= fault.cut_after_bytes:
                        writer.write(held[: max(fault.cut_after_bytes - passed_bytes, 0)])
                        await writer.drain()
                        _cut(writer, reset=fault.reset)
                        return
                    writer.write(held)
                    passed_bytes += len(held)
                    held = b""
                    await writer.drain()
                if ended:
                    return
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)


def _cut(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if reset:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()


def _read_head(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return Request(method, target, headers, time.monotonic())
