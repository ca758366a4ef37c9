"""Writing to one client's socket without awaiting, which is what makes a push loop possible.

Two ways, both through what the ASGI server gave us:

- ``AsgiConnection`` steps the server's ``send`` coroutine once by hand. Under uvicorn it finishes without
  suspending unless the socket's buffer is full; then what is left of it is handed to the reader's own task.
- ``UvicornConnection`` writes to the transport under uvicorn's ``send``. It is feature-detected and relies on
  internals of uvicorn's httptools protocol, in this one place: chunked framing, once per flush for all
  readers, and the flow control's pause flag. Worth 12 to 32 % of all CPU (docs/adr/0002-push-hub.md).

The two are told apart by ``connect``, after the response's head was sent. For HTTP/1.0 uvicorn is kept from chunking.

What is no stream, but whole when it begins, goes past uvicorn's ``send`` as well, with ``answer``: that would write
head and body one after the other, two packets that wake the client twice, and match every header of ours against two
patterns. Worth 10 % of a publish.
"""

import asyncio
import sys
from collections.abc import Generator
from functools import cached_property
from typing import Any, Protocol

from starlette.types import Message, Send
from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE

__all__ = ["AsgiConnection", "Blocked", "Chunk", "Connection", "UvicornConnection", "answer", "connect", "step"]


_FRAMING = frozenset({b"connection", b"transfer-encoding"})


class Chunk:
    """Bytes on their way to many readers, wrapped once for all of them."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    @cached_property
    def message(self) -> Message:
        """As an ASGI message."""
        return {"type": "http.response.body", "body": self.body, "more_body": True}

    @cached_property
    def framed(self) -> bytes:
        """As a chunk of HTTP/1.1's chunked encoding."""
        return b"%x\r\n%b\r\n" % (len(self.body), self.body)


class Blocked:
    """A write that waits for the socket. Await it to finish the write, or ``cancel`` it."""

    def __init__(self, coroutine: Any, waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        coroutine, waits_for = self._coroutine, self._waits_for
        try:
            while True:
                try:
                    value = yield waits_for
                except BaseException as exc:  # noqa: BLE001 - a cancellation belongs to the write, like any await's
                    waits_for = coroutine.throw(exc)
                else:
                    waits_for = coroutine.send(value)
        except StopIteration:
            return

    def cancel(self) -> None:
        """Give the write up; what it holds is let go."""
        self._coroutine.close()


class Connection(Protocol):
    """A reader's response after its head. Writing after the peer left does nothing."""

    def write(self, chunk: Chunk) -> Blocked | None:
        """Write now; or, if the socket takes no more, what is to be awaited."""

    def finish(self, body: bytes) -> None:
        """Write *body* and end the response, if the socket takes it now; else cut the connection."""

    def abort(self) -> None:
        """Cut the connection, dropping what is buffered."""


class AsgiConnection:
    """Any ASGI server. Made in the task that handles the request."""

    __slots__ = ("_handler", "_send")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._handler = asyncio.current_task()

    def write(self, chunk: Chunk) -> Blocked | None:
        return step(self._send(chunk.message))

    def finish(self, body: bytes) -> None:
        blocked = step(self._send({"type": "http.response.body", "body": body, "more_body": False}))
        if blocked is not None:
            blocked.cancel()
            self.abort()

    def abort(self) -> None:
        # ASGI has no call for it; a server closes the connection of a handler that ends unfinished.
        if self._handler is not None:
            self._handler.cancel()


class UvicornConnection(AsgiConnection):
    """uvicorn with httptools: straight to the transport."""

    __slots__ = ("_cycle", "_transport")

    def __init__(self, send: Send, cycle: Any) -> None:
        super().__init__(send)
        self._cycle = cycle
        self._transport = cycle.transport

    def write(self, chunk: Chunk) -> Blocked | None:
        # The transport is asked, and nobody else: of thousands of readers each object that is looked at is one that
        # has left the processor's caches since the last event. uvicorn's own would be more of them.
        transport = self._transport
        if transport.get_write_buffer_size() or transport.is_closing():
            return self._write_carefully(chunk)
        transport.write(chunk.framed)
        return None

    def _write_carefully(self, chunk: Chunk) -> Blocked | None:
        """Where the socket did not take all of what was written before, or is there no more."""
        cycle = self._cycle
        if cycle.flow.write_paused:
            return step(self._send(chunk.message))
        if self._transport.is_closing():  # uvicorn tells only the newest of pipelined requests
            cycle.disconnected = True
            cycle.message_event.set()
        elif not cycle.disconnected:
            self._transport.write(chunk.framed)
        return None

    def abort(self) -> None:
        self._transport.abort()


class PlainUvicornConnection(UvicornConnection):
    """The same without chunks, for HTTP/1.0: the body goes on until the connection closes."""

    __slots__ = ()

    def write(self, chunk: Chunk) -> Blocked | None:
        return super().write(_Unframed(chunk.body))

    def finish(self, body: bytes) -> None:
        if self._cycle.flow.write_paused:
            self.abort()
        elif not self._cycle.disconnected:
            self._transport.write(body)
            self._transport.close()


class _Unframed(Chunk):
    """Bytes that leave as they are."""

    @cached_property
    def framed(self) -> bytes:
        return self.body


def delimit_by_close(send: Send) -> None:
    """Let the response that *send* is about to begin end with its connection, as HTTP/1.0 has it.

    uvicorn would chunk it, which such a client does not understand. Does nothing for another server.
    """
    cycle = _uvicorn_cycle(send)
    if cycle is not None and hasattr(cycle, "expected_content_length"):
        cycle.chunked_encoding = False
        cycle.expected_content_length = sys.maxsize


def connect(send: Send) -> Connection:
    """The fastest way to write to the response that *send* has just begun."""
    cycle = _uvicorn_cycle(send)
    if cycle is None or not getattr(cycle, "response_started", False):
        return AsgiConnection(send)
    return (UvicornConnection if cycle.chunked_encoding else PlainUvicornConnection)(send, cycle)


def answer(send: Send, start: Message, body: bytes) -> bool:
    """Write a whole response at once: the head *start*, which names its length, and *body*.

    False, and nothing done, where that is not possible; then *send* takes them as ever.
    """
    cycle = _uvicorn_cycle(send)
    if cycle is None or cycle.response_started or cycle.flow.write_paused or cycle.disconnected or cycle.access_log:
        return False
    if cycle.transport.is_closing():
        cycle.disconnected = True  # uvicorn tells only the newest of pipelined requests
        return False
    headers = [*cycle.default_headers, *start["headers"]]
    given = dict(headers)
    if given.get(b"content-length") != b"%d" % len(body) or not _FRAMING.isdisjoint(given):
        return False
    if cycle.scope["method"] == "HEAD":
        return False
    names = b"".join(given)
    if names != names.lower() or HEADER_RE.search(names) or HEADER_VALUE_RE.search(b"".join([v for _, v in headers])):
        return False  # what uvicorn mends, or refuses
    head = b"".join([STATUS_LINE[start["status"]], *[b"%b: %b\r\n" % header for header in headers]])
    if not cycle.keep_alive:
        head += b"connection: close\r\n"
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.message_event.set()
    cycle.transport.write(b"%b\r\n%b" % (head, body))
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


def _uvicorn_cycle(send: Send) -> Any:
    """The object behind uvicorn's *send*, if it is as we know it; else None."""
    cycle: Any = getattr(send, "__self__", None)
    transport = getattr(cycle, "transport", None)
    if (
        type(cycle).__module__ == "uvicorn.protocols.http.httptools_impl"
        and hasattr(cycle, "chunked_encoding")
        and hasattr(getattr(cycle, "flow", None), "write_paused")
        and hasattr(transport, "abort")
        and hasattr(transport, "get_write_buffer_size")
        and hasattr(cycle, "disconnected")
    ):
        return cycle
    return None


def step(coroutine: Any) -> Blocked | None:
    """Run *coroutine* to its end, or up to where it has to wait: then that is what is to be awaited."""
    try:
        waits_for = coroutine.send(None)
    except StopIteration:
        return None
    return Blocked(coroutine, waits_for)
