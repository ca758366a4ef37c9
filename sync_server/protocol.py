"""uvicorn's HTTP protocol, with bounds on what comes around a request's body: its head, and its trailers.

uvicorn takes heads of any size and for any time: 60 MB of header lines cost a gigabyte, and connections that
never finish one are held for ever. What follows a chunked body it adds to the headers, as if it were from the head:
there a proxy's own, such as X-Forwarded-For, could come from anybody.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HEAD_PATIENCE_S", "MAX_HEAD_BYTES", "BoundedHttpProtocol"]

MAX_HEAD_BYTES = 64 * 1024
"""nginx allows 32 kB of header lines; a URL with 200 filter values of 128 characters is 26 kB."""
HEAD_PATIENCE_S = 30.0

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/problem+json\r\n"
    b"connection: close\r\ncontent-length: 89\r\n\r\n"
    b'{"type":"about:blank","title":"Request Header Fields Too Large","status":431,"errors":[]}'
)


class BoundedHttpProtocol(HttpToolsProtocol):
    """Refuses a head above MAX_HEAD_BYTES, and cuts a connection that does not finish one in time.

    Trailers are nobody's: they are left out, and cut off above the same bound.
    """

    # Not in the instance's dict: uvicorn's 28 attributes share their keys among all connections up to 30, and beyond
    # that each connection has a table of its own, of 1.3 kB.
    __slots__ = ("_advanced", "_head_bytes", "_head_timer", "_message_ended", "_stray_bytes")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes: int | None = 0
        """What has come of a head; None while none is awaited."""
        self._head_timer: asyncio.TimerHandle | None = None
        """While a head is awaited that did not come in one piece, as nearly all do."""
        self._message_ended = False
        """Whether what was read last held the end of a request: what of it is the next one's head is not known."""
        self._advanced = False
        """Whether what was read last held the end of a head, or of a request, or some of a body."""
        self._stray_bytes = 0
        """What has come since then, after a head: a chunk's extensions, or trailers."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._message_ended = self._advanced = False
        super().data_received(data)
        if self._head_bytes is not None:
            self._count_head(0 if self._message_ended else len(data))
            return
        self._stray_bytes = 0 if self._advanced else self._stray_bytes + len(data)
        if self._stray_bytes > MAX_HEAD_BYTES:
            self.transport.close()
        if self._head_timer is None and self.timeout_keep_alive_task is None and self._is_idle:
            # An empty line, or what is left of a body that nobody waits for: uvicorn ended its own patience for it.
            self._await_head()

    def _count_head(self, size_bytes: int) -> None:
        assert self._head_bytes is not None
        self._head_bytes += size_bytes
        if self.transport.is_closing():
            return
        if self._head_bytes > MAX_HEAD_BYTES:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        elif self._head_timer is None:
            self._await_head()

    @property
    def _is_idle(self) -> bool:
        """Whether no request is under way, and the connection is still this protocol's: a WebSocket's is not."""
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        return not self.transport.is_closing() and self.transport.get_protocol() is self

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._end_head()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._end_head()
        self._advanced = True
        self.scope["headers"] = self.headers.copy()  # to uvicorn's own it adds trailers
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._advanced = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._message_ended = self._advanced = True
        super().on_message_complete()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_PATIENCE_S, self.transport.close)

    def _end_head(self) -> None:
        self._head_bytes = None
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
