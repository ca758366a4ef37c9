"""One client's WebSocket, under a protocol of JSON messages: what every such socket has to keep to is kept here.

How a protocol is built on it. It is an async callable that is given a Socket, and in app.py's ``sockets`` a
``SocketRoute("/ws", talk, SocketLimits.configured(settings.sockets, workers=settings.server.workers), late=True)``:

    async def talk(socket: Socket) -> None:
        await socket.accept()               # a Problem raised before it refuses the handshake, with its status
        async for message in socket:        # JSON objects with a text under "type"; ends with the socket
            match message["type"]:
                case "connect":             # from here on the feed too, each event as to_message(envelope)
                    await socket.follow(Filter(), to_message, cursor=message.get("cursor"), client_id="till-3")
                case "device_update":
                    ...                     # socket.caller says so; await socket.refuse(problem) tells a refusal
                    await socket.send({"type": "done"})

Dealt with here: who calls (``late=True``: the first message may say so, ``{"type": "connect", "token": ...}``), origin,
limits, ping and pong, what is malformed, too large or too much, silence, a client that does not read. *to_message* is a
pure function at module level (one object for all sockets: those who want and may see the same share its work), is given
every envelope of the filter that this caller may see, and the feed's own (``connected``, ``caught_up``, ``reset``,
``removed``, ``heartbeat``, ``goodbye``, ``advance``; all with ``id``), and answers None for what is not sent.
``socket.cursor`` is what the client has been sent; its own commits may still be on their way to it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from time import time, time_ns
from typing import Any

from pydantic_core import from_json, to_json
from starlette.types import Receive, Scope, Send

from sync_core.filters import Filter
from sync_core.problems import Problem, Unauthorized
from sync_core.times import iso_from_ms
from sync_server.access.caller import Caller, caller_of
from sync_server.feed.admission import Admission
from sync_server.feed.connection import Chunk, Connection
from sync_server.feed.feed import Feed
from sync_server.feed.frames import text_frame
from sync_server.feed.framing import Framing, MappedMessages, ToMessage
from sync_server.feed.reader import Reader
from sync_server.feed.request import FeedRequest
from sync_server.feed.socket_connection import socket_connection
from sync_server.feed.view import Sight, View
from sync_server.sockets.errors import CLOSE_CODES, GOING_AWAY, POLICY_VIOLATION, code_of
from sync_server.sockets.limits import MessageRate, SocketLimits, Verdict

__all__ = ["TOO_LARGE_EXTENSION", "Socket", "SocketLost"]

MAX_AGE_S = 86_400.0
"""Of a socket that speaks a protocol of its own: a day, if its caller's access lasts so long."""
TOO_LARGE_EXTENSION = "order_sync.too_large"
"""What to say to who sends too much, for socket_protocol.py, which is the one to notice."""
SMALL_CHARS = 4096
"""A message above the rate is still looked at for its id, if it is no longer: 0.1 ms at worst."""
MAX_ID_CHARS = 128

Identify = Callable[[str], Awaitable[None]]
"""Puts who shows a credential after the handshake into the socket's scope. Raises Problem."""


class SocketLost(Exception):
    """The client is gone, or does not read. The door ends the protocol with it; nobody else needs to catch it."""


class Socket:
    """See the module. Made by the door.

    *kind_key* is where messages have their type, *id_key* where the id that an error about them repeats; None: nowhere.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, feed: Feed, identify: Identify, limits: SocketLimits
    ) -> None:
        self.scope = scope
        self.kind_key = "type"
        self.id_key: str | None = "id"
        self.accepted = False
        self._receive = receive
        self._send = send
        self._feed = feed
        self._identify = identify
        self._limits = limits
        self._rate = MessageRate(limits.messages_per_s)
        self._connection: Connection | None = None
        self._reader: Reader | None = None
        self._closed = False

    # -- the handshake ------------------------------------------------------------------------------

    @property
    def caller(self) -> Caller:
        """Who is at the other end. LookupError before a ``connect`` that has to say so."""
        return caller_of(self.scope)

    @property
    def is_identified(self) -> bool:
        return "caller" in self.scope["state"]

    async def accept(self) -> None:
        """Answer the handshake. Raises SocketLost."""
        self.scope.setdefault("extensions", {})[TOO_LARGE_EXTENSION] = self._too_large
        await self._to_server({"type": "websocket.accept", "headers": []})
        self.accepted = True
        self._connection = socket_connection(self._send)

    # -- what comes in ------------------------------------------------------------------------------

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        if not self.is_identified:
            greeting = await self._greeting()
            if greeting is None:
                return
            yield greeting
        while (message := await self._next(self._limits.idle_s)) is not None:
            yield message

    async def _greeting(self) -> dict[str, Any] | None:
        """The first message, which says who sends it; None if the socket is over."""
        try:
            async with asyncio.timeout(self._limits.greeting_s):  # whatever else is said meanwhile
                message = await self._next(None)
        except TimeoutError:
            await self.close(GOING_AWAY, f"no greeting for {self._limits.greeting_s:g} s")
            return None
        if message is None:
            return None
        token = message.get("token")
        if message[self.kind_key] != "connect" or not isinstance(token, str):
            await self.end("UNAUTHORIZED", 'Say first who you are: {"type": "connect", "token": "..."}.')
            return None
        try:
            await self._identify(token)
        except Problem as problem:
            await self.end(code_of(problem), problem.detail)
            return None
        return message

    async def _next(self, silence_s: float | None) -> dict[str, Any] | None:
        """The next message that is one; None if the socket is over."""
        while not self._closed:
            try:
                async with asyncio.timeout(silence_s):
                    raw = await self._receive()
            except TimeoutError:
                await self.close(GOING_AWAY, f"no message for {silence_s:g} s")
                return None
            except Problem as problem:  # too many bytes for its principal or address
                await self.end(code_of(problem), problem.detail)
                return None
            if raw["type"] != "websocket.receive":
                self._closed = True
                return None
            if self.is_identified and self.caller.left_s(time()) <= 0:
                await self.refuse(Unauthorized("Your access is over; come back with a new credential."), close=True)
                return None
            text = raw.get("text")
            match self._rate.judge(len(raw.get("bytes") or text or "")):
                case Verdict.REFUSED:
                    content = _content(text) if text is not None and len(text) <= SMALL_CHARS else {}
                    most = f"At most {self._limits.messages_per_s} messages a second."
                    await self.error("RATE_LIMITED", most, **self._about(content))
                    continue
                case Verdict.FLOOD:
                    await self.end("RATE_LIMITED", "Far too many messages; come back more slowly.")
                    return None
            message = _content(text)
            if not isinstance(message.get(self.kind_key), str):
                what = f'A message is a JSON object with a text under "{self.kind_key}".'
                await self.error("INVALID_MESSAGE", what, **self._about(message))
            elif message[self.kind_key] == "ping":
                await self.send({self.kind_key: "pong", "timestamp": _now()})
            else:
                return message
        return None

    def _about(self, message: Mapping[str, Any]) -> dict[str, str]:
        """By what its sender knows *message*."""
        known = None if self.id_key is None else message.get(self.id_key)
        return {"id": known} if isinstance(known, str) and len(known) <= MAX_ID_CHARS else {}

    # -- what goes out ------------------------------------------------------------------------------

    async def send(self, message: Mapping[str, Any]) -> None:
        """One message. Waits for a client that reads slowly. Raises SocketLost for one that does not."""
        assert self._connection is not None, "accept first"
        blocked = self._connection.write(Chunk(text_frame(to_json(message))))
        if blocked is None:
            return
        try:
            async with asyncio.timeout(self._limits.send_s):
                await blocked
        except TimeoutError:
            self._connection.abort()
            raise SocketLost from None

    async def error(self, code: str, message: str, **more: Any) -> None:
        """Tell that something was not done; the socket stays open. Raises SocketLost."""
        self._feed.metrics.socket_errors.labels(code).inc()
        await self.send({self.kind_key: "error", "code": code, "message": message, "timestamp": _now(), **more})

    async def refuse(self, problem: Problem, *, close: bool = False) -> None:
        """Tell a refusal. Raises SocketLost."""
        faults = {"errors": [{"path": e.path, "message": e.message} for e in problem.errors]} if problem.errors else {}
        await self.error(code_of(problem), problem.detail, **faults)
        if close:
            await self.close(CLOSE_CODES.get(code_of(problem), POLICY_VIOLATION))

    async def end(self, code: str, message: str) -> None:
        """Tell why, and close. Raises SocketLost."""
        await self.error(code, message)
        await self.close(CLOSE_CODES.get(code, POLICY_VIOLATION))

    async def close(self, code: int, reason: str = "") -> None:
        """Close; what was sent before is still delivered. Idempotent. Raises SocketLost."""
        if not self._closed:
            self._closed = True
            await self._to_server({"type": "websocket.close", "code": code, "reason": reason})

    async def _to_server(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._limits.send_s):
                await self._send(message)
        except (OSError, RuntimeError, TimeoutError):  # as servers say that the peer has left
            raise SocketLost from None

    def _too_large(self) -> str:
        self._feed.metrics.socket_errors.labels("TOO_LARGE").inc()
        message = "A message has at most 1 MiB."
        told = {self.kind_key: "error", "code": "TOO_LARGE", "message": message, "timestamp": _now()}
        return to_json(told).decode()

    # -- the feed -----------------------------------------------------------------------------------

    async def follow(
        self, wanted: Filter, to_message: ToMessage, *, cursor: str | None = None, client_id: str | None = None
    ) -> None:
        """From *cursor* on (None: from now), for as long as the socket lasts; once. Whatever has *client_id* and this
        caller is left out. Raises Unavailable.
        """
        view = View(Sight(wanted, self.caller.rights), client_id, self.caller)
        request = FeedRequest(view, cursor, self.scope.get("root_path", ""), {})
        self.attach(await Admission.of(self._feed, request), MappedMessages(to_message), max_age_s=MAX_AGE_S)

    def attach(self, admission: Admission, framing: Framing, *, max_age_s: float) -> None:
        """The feed itself, in that framing; in place of what it followed before."""
        assert self._connection is not None, "accept first"
        self.leave()
        self._reader = admission.admit(self._connection, framing, max_age_s=max_age_s)

    def leave(self) -> None:
        """Follow the feed no more, until it is attached again."""
        if self._reader is not None:
            self._reader.discard()
            self._reader = None

    @property
    def cursor(self) -> str | None:
        """Up to where this client was sent everything that is for it; None before it follows."""
        return None if self._reader is None else self._reader.cursor_text

    @property
    def known_caller(self) -> Caller | None:
        """The same as ``caller``, or None."""
        return self.caller if self.is_identified else None

    def dismiss(self) -> None:
        """Its access is no longer what it was, or the server ends. What it has just asked for is still done."""
        if self._connection is not None and not self._closed and (self._reader is None or not self._reader.closed):
            self._connection.finish(b"")

    def discard(self) -> None:
        """The socket is over: let go of the feed. Idempotent."""
        self._closed = True
        if self._reader is not None:
            self._reader.discard()


def _content(text: str | None) -> dict[str, Any]:
    """The JSON object that *text* is; empty for anything else."""
    try:
        content = from_json(text or "", allow_inf_nan=False)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _now() -> str:
    return iso_from_ms(time_ns() // 1_000_000)
