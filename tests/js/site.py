"""What a browser loads in tests: the library's files, test pages, and the server's API behind the same address.

    async with Site() as site:
        site.upstream = ("127.0.0.1", server.port)      # may change at any time; None: nothing answers
        await page.goto(site.url("/page"))              # API under /api, and under /shop/api

One API request a connection. ``requests`` remembers what went to the API, ``open_streams`` counts what is open.
"""

import asyncio
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["LIBRARY", "Site"]

LIBRARY = Path(__file__).parents[2] / "sync_server" / "dashboard" / "js"
TESTS = Path(__file__).parent
PREFIX = "/shop"
PAGE = b"""<!doctype html><meta charset="utf-8"><title>test</title>
<script type="importmap">{"imports": {"react": "/tests/vendor/react.js"}}</script><div id="root"></div>"""
TYPES = {".js": "text/javascript", ".json": "application/json"}


@dataclass(frozen=True)
class ApiRequest:
    method: str
    target: str

    @property
    def is_stream(self) -> bool:
        return self.method == "GET" and self.target.startswith("/api/v1/sync/events")


class Site:
    """Listens on a free port of this machine."""

    def __init__(self) -> None:
        self.upstream: tuple[str, int] | None = None
        self.requests: list[ApiRequest] = []
        self.open_streams = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def streams(self) -> list[ApiRequest]:
        """Requests for streams, as they came."""
        return [request for request in self.requests if request.is_stream]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=256)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.cut()
        await self._server.wait_closed()

    async def cut(self) -> None:
        """Cut all that is open now."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # a browser leaves when it likes; cancelled by cut() only, which waits for it
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            first, _, rest = head.partition(b"\r\n")
            method, target, _ = first.decode("latin-1").split(" ", 2)
            path = target.partition("?")[0]
            if path.removeprefix(PREFIX).startswith("/api/"):
                await self._forward(method, target.removeprefix(PREFIX), rest, reader, writer)
                return
            writer.write(_static(path))
            await writer.drain()

    async def _forward(
        self, method: str, target: str, rest: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        request = ApiRequest(method, target)
        self.requests.append(request)
        if self.upstream is None:
            return
        up_reader, up_writer = await asyncio.open_connection(*self.upstream)
        self.open_streams += request.is_stream
        try:
            lines = [line for line in rest.split(b"\r\n") if not line.lower().startswith(b"connection:")]
            up_writer.write(f"{method} {target} HTTP/1.1\r\nConnection: close\r\n".encode() + b"\r\n".join(lines))
            both = [_copy(reader, up_writer), _copy(up_reader, writer)]
            copies = [asyncio.create_task(copy) for copy in both]
            try:
                await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for copy in copies:
                    copy.cancel()
                await asyncio.gather(*copies, return_exceptions=True)
        finally:
            self.open_streams -= request.is_stream
            up_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@functools.cache
def _static(path: str) -> bytes:
    """The whole response; files do not change while tests run."""
    if path in ("/page", f"{PREFIX}/page"):
        return _response(200, "text/html", PAGE)
    for prefix, directory in (("/js/", LIBRARY), ("/tests/", TESTS)):
        file = directory / path.removeprefix(prefix)
        if path.startswith(prefix) and ".." not in path and file.suffix in TYPES and file.is_file():
            return _response(200, TYPES[file.suffix], file.read_bytes())
    return _response(404, "text/plain", b"not here")


def _response(status: int, media_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} x\r\nContent-Type: {media_type}; charset=utf-8\r\nCache-Control: max-age=3600\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
