"""uvicorn's WebSocket protocol, with bounds on what one client can make the event loop do.

uvicorn hands all that a read brought to the parser at once: 256 kB of empty messages are 40,000, and 0.2 s in which
nobody else is served. A message above the limit is cut off with a reset, which often takes away what was said about it.
And who does not answer a ping is left to the network's own timeouts if its buffer is full.
"""

import asyncio
from http import HTTPStatus
from time import thread_time
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request

__all__ = ["MAX_MESSAGE_BYTES", "PING_S", "TOO_LARGE", "BoundedSocketProtocol"]

MAX_MESSAGE_BYTES = 1024 * 1024
"""Seed 003; as much as the body of a request."""
PING_S = 30.0
VERSION = "13"
"""Of the protocol; there is no other. Source: RFC 6455."""
PIECE_BYTES = 8 * 1024
"""Parsed at once: at most 1,400 empty messages, some 5 ms."""
PAUSE_SHARE = 9
"""So many times as long as parsing took nothing more is parsed: one client gets a tenth of the event loop."""
MIN_PAUSE_S = 0.002
MAX_UNREAD_BYTES = 256 * 1024
"""What may wait for a client that does not read. Beyond it nothing more is taken in: each ping asks for an answer."""
MAX_FRAGMENTS = 16_384
"""Of one message: 64 bytes each fill it. Empty ones would never come to an end, and each is kept until the last."""
LINGER_S = 1.0
"""How long what a refused client still sends is taken in and dropped, so that it can read why."""
TOO_LARGE = "order_sync.too_large"
"""In the scope's extensions: what to say, as text, to who sends too much."""


class BoundedSocketProtocol(WebSocketsSansIOProtocol):
    """Parses in pieces, says goodbye to who sends too much, and cuts who is dead."""

    _refused = False

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._unparsed = bytearray()
        """What one read brought; reading is paused while there is any."""
        self._parsing: asyncio.Handle | None = None

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            self._unparsed += data
            if self._is_unread:
                self._pause()
            elif self._parsing is None and self._may_parse:
                self._parse_piece()

    @property
    def _may_parse(self) -> bool:
        """Nothing waits for the application; or that has closed the socket, and only the peer's close is looked for."""
        return (self.queue.empty() or self.close_sent) and not self._is_unread

    @property
    def _is_unread(self) -> bool:
        """Whether too much waits for the peer; ``resume_writing`` comes when it has been read."""
        return not self.writable.is_set() and self.transport.get_write_buffer_size() > MAX_UNREAD_BYTES

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._parsing is None:
            self._parsing = self.loop.call_soon(self._go_on)

    def _parse_piece(self) -> None:
        self._parsing = None
        if not self._may_parse:
            return  # receive() goes on, or resume_writing()
        piece = bytes(self._unparsed[:PIECE_BYTES])
        del self._unparsed[:PIECE_BYTES]
        began_s = thread_time()
        super().data_received(piece)
        pause_s = PAUSE_SHARE * (thread_time() - began_s)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(b"".join(self.conn.data_to_send()))  # uvicorn leaves it unsaid, and the socket open
            self.transport.close()
        if self._refused or self.transport.is_closing():
            return
        if pause_s > MIN_PAUSE_S:
            self._pause()
            self._parsing = self.loop.call_later(pause_s, self._go_on)
        elif self._unparsed:
            self._pause()
            if self._may_parse:
                self._parsing = self.loop.call_soon(self._parse_piece)
        elif self._may_parse:
            self._resume()

    def _go_on(self) -> None:
        """What was read is parsed; with all of that done, reading goes on."""
        self._parsing = None
        if self._unparsed:
            self._parse_piece()
        elif self._may_parse:
            self._resume()

    def _pause(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self.read_paused and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()

    async def receive(self) -> Any:
        message = await self.queue.get()
        if self.queue.empty() and self._parsing is None:
            if self._unparsed:
                self._parsing = self.loop.call_soon(self._parse_piece)
            else:
                self._resume()
        return message

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True  # refused with an answer of its own; uvicorn would log it as a fault
        if self.close_sent and self._unparsed and self._parsing is None:
            self._parsing = self.loop.call_soon(self._parse_piece)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unparsed.clear()
        if self._parsing is not None:
            self._parsing.cancel()
        super().connection_lost(exc)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < MAX_FRAGMENTS:
            super().handle_cont(event)
        else:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
            self.handle_parser_exception()

    def handle_connect(self, event: Request) -> None:
        if event.headers.get_all("Sec-WebSocket-Version") in ([], [VERSION]):
            super().handle_connect(event)
            return
        # RFC 6455, 4.4: which version would do; websockets says 400.
        refusal = self.conn.reject(HTTPStatus.UPGRADE_REQUIRED, f"Here WebSockets have version {VERSION}.\n")
        refusal.headers["Upgrade"] = "websocket"
        refusal.headers["Sec-WebSocket-Version"] = VERSION
        self.handshake_initiated = self.handshake_complete = self.close_sent = True
        self.conn.send_response(refusal)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.close()

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not _is_utf8(self.frames):
            self.frames = []  # uvicorn would log a traceback for it
            self.conn.fail(CloseCode.INVALID_DATA, "not UTF-8")
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """The peer broke the protocol. What it still sends is read and dropped for a moment: closing at once would be a
        reset, and a reset takes back what was sent."""
        if self._refused:
            return
        self._refused = True
        self._unparsed.clear()
        closing, sent = self.conn.data_to_send(), self.conn.close_sent
        code, reason = (sent.code, sent.reason) if sent is not None else (CloseCode.PROTOCOL_ERROR, "")
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        if self.transport.is_closing():
            return
        if code == CloseCode.MESSAGE_TOO_BIG and self.handshake_complete:
            extensions: dict[str, Any] = dict(self.scope.get("extensions") or {})
            say = extensions.get(TOO_LARGE)
            if say is not None:
                self.transport.write(Frame(Opcode.TEXT, say().encode()).serialize(mask=False))
        self.transport.write(b"".join(closing))
        self.close_sent = True
        self._resume()
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.abort)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.loop.call_later(LINGER_S, self.transport.abort)


def _is_utf8(pieces: list[bytes]) -> bool:
    try:
        b"".join(pieces).decode()
    except UnicodeDecodeError:
        return False
    return True
