"""Protocols of a test's own on a running application."""

from collections.abc import Awaitable, Callable
from typing import Any

from sync_server.sockets.door import SocketRoute
from sync_server.sockets.limits import SocketLimits
from sync_server.sockets.socket import Socket
from tests.serving import Served

PATH = "/test"


def serve_at(
    served: Served, talk: Callable[[Socket], Awaitable[None]], *, path: str = PATH, late: bool = False, **limits: Any
) -> None:
    """Let *talk* have the sockets at *path*."""
    sockets = served.application.sockets
    assert sockets is not None
    sockets.routes[path] = SocketRoute(path, talk, SocketLimits(**limits), late)


async def echo(socket: Socket) -> None:
    """Sends back what comes."""
    await socket.accept()
    async for message in socket:
        await socket.send(message)
