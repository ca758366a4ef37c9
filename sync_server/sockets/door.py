"""Where sockets come in: path, origin, who calls, how many, in that order; then the route's protocol has the socket.

Before it accepts, a refusal is an HTTP answer with its status and a problem document, as anywhere else; afterwards an
``error`` message and a close code (errors.py).
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import structlog
from starlette.types import Message, Receive, Scope, Send

from sync_core.problems import InternalError, NotFound, Problem, Unauthorized, Unavailable
from sync_server.access.limits import StreamLease
from sync_server.api.problem import problem_response
from sync_server.feed.feed import Feed
from sync_server.sockets.limits import SocketLimits
from sync_server.sockets.origin import Origins
from sync_server.sockets.socket import Socket, SocketLost

__all__ = ["SocketRoute", "Sockets"]

RETRY_AFTER_S = 10

log = structlog.get_logger("sync_server.sockets")


@dataclass(frozen=True, slots=True)
class SocketRoute:
    """A protocol at *path*. *late*: who shows nothing in the handshake is let in, and has to say who it is first."""

    path: str
    talk: Callable[[Socket], Awaitable[None]]
    limits: SocketLimits = field(default_factory=SocketLimits)
    late: bool = False


class Guard(Protocol):
    """What the door needs of gate/guard.py, which stands above it."""

    async def admit(self, scope: Scope, receive: Receive) -> Receive: ...
    def counted(self, scope: Scope, receive: Receive) -> Receive: ...
    async def identify(self, scope: Scope, credential: str, lease: StreamLease) -> None: ...
    def stream(self, scope: Scope) -> StreamLease: ...


class Sockets:
    """All sockets of this process."""

    def __init__(self, routes: Iterable[SocketRoute], *, feed: Feed, guard: Guard, origins: Origins) -> None:
        self.routes = {route.path: route for route in routes}
        self._feed = feed
        self._guard = guard
        self._origins = origins
        self._open: Counter[str] = Counter()

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, *, headers: Sequence[tuple[bytes, bytes]]
    ) -> None:
        """Serve one socket to its end; *headers* are for an answer that refuses it."""
        if (await receive())["type"] != "websocket.connect":
            return
        scope["method"] = "GET"  # as a handshake's is; whoever judges requests looks at it
        socket: Socket | None = None
        try:
            route, receive = await self._admit(scope, receive)
            with self._guard.stream(scope) as lease, self._counted(route):
                identify = partial(self._guard.identify, scope, lease=lease)
                socket = Socket(scope, receive, send, feed=self._feed, identify=identify, limits=route.limits)
                self._feed.guests.add(socket)
                await self._talk(route, socket)
        except Problem as problem:
            await problem_response(problem)(scope, receive, _with_headers(send, headers))
        except (SocketLost, OSError):
            pass
        except asyncio.CancelledError:
            if not self._feed.draining:
                raise
        finally:
            if socket is not None:
                self._feed.guests.discard(socket)
                socket.discard()

    async def _admit(self, scope: Scope, receive: Receive) -> tuple[SocketRoute, Receive]:
        """Raises Problem."""
        route = self.routes.get(scope["path"].removeprefix(scope.get("root_path", "")))
        if route is None:
            raise NotFound(f"There is no socket at {scope['path'][:200]}.")
        self._origins.check(scope)
        try:
            return route, await self._guard.admit(scope, receive)
        except Unauthorized:
            # A cookie may just be stale. But whoever shows something on purpose is told that it is no good.
            if not route.late or _shows_credential(scope):
                raise
        return route, self._guard.counted(scope, receive)

    @contextmanager
    def _counted(self, route: SocketRoute) -> Iterator[None]:
        if self._open[route.path] >= route.limits.connections:
            raise Unavailable("There are as many sockets here as can be.", retry_after_s=RETRY_AFTER_S)
        self._open[route.path] += 1
        gauge = self._feed.metrics.sockets.labels(route.path)
        gauge.inc()
        try:
            yield
        finally:
            self._open[route.path] -= 1
            gauge.dec()

    async def _talk(self, route: SocketRoute, socket: Socket) -> None:
        """The protocol. Raises Problem only before the socket was accepted, SocketLost."""
        try:
            await route.talk(socket)
        except Problem as problem:
            if not socket.accepted:
                raise
            await socket.refuse(problem, close=True)
        except (SocketLost, OSError):
            raise
        except Exception:
            log.exception("socket_failed", path=route.path)
            if not socket.accepted:
                raise InternalError("This is a fault of the server.") from None
            await socket.end("INTERNAL", "This is a fault of the server.")


def _shows_credential(scope: Scope) -> bool:
    return b"ticket=" in scope["query_string"] or any(name == b"authorization" for name, _ in scope["headers"])


def _with_headers(send: Send, added: Sequence[tuple[bytes, bytes]]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "websocket.http.response.start":
            message["headers"] = [*message.get("headers", ()), *added]
        with suppress(OSError):  # it has left
            await send(message)

    return sending
