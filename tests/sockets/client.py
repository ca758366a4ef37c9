"""A plain reader of the feed over a WebSocket: the public library `websockets`, and what it was sent."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sync_core.events import CONTROL_EVENTS
from tests.serving import Served
from tests.sockets.routes import serve_at

__all__ = ["DEADLINE_S", "Client", "closed_with", "refused", "serve_at", "socket"]

DEADLINE_S = 30.0
FEED = "/api/v1/sync/ws"


class Client:
    """An open socket and its messages."""

    def __init__(self, connection: ClientConnection, *, key: str) -> None:
        self.connection = connection
        self.seen: list[dict[str, Any]] = []
        self._key = key

    @property
    def cursor(self) -> str:
        """The last id."""
        return next((m["id"] for m in reversed(self.seen) if "id" in m), "")

    @property
    def kinds(self) -> list[str | None]:
        return [message.get(self._key) for message in self.seen]

    @property
    def envelopes(self) -> list[dict[str, Any]]:
        """The events of the log seen so far, and removals."""
        control = CONTROL_EVENTS - {"removed"} | {"pong", "error"}
        return [m for m in self.seen if m.get("eventType") not in control and "eventType" in m]

    async def next(self) -> dict[str, Any]:
        """The next message. Raises ConnectionClosed at the end."""
        async with asyncio.timeout(DEADLINE_S):
            message = dict(json.loads(await self.connection.recv()))
        self.seen.append(message)
        return message

    async def until(self, wanted: str | Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Read up to the first message of that kind, or that passes."""
        while True:
            message = await self.next()
            if message.get(self._key) == wanted if isinstance(wanted, str) else wanted(message):
                return message

    async def say(self, message: Any) -> None:
        """Send *message*; text as it is."""
        await self.connection.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def ask(self, message: Any) -> dict[str, Any]:
        """Send *message* and read on to the next one."""
        await self.say(message)
        return await self.next()

    async def end(self) -> tuple[int, str]:
        """Read to the end: close code and reason."""
        with suppress(ConnectionClosed):
            while True:
                await self.next()
        closed = self.connection.protocol.close_rcvd
        if closed is None:
            raise AssertionError("the connection broke")
        return closed.code, closed.reason


@asynccontextmanager
async def socket(
    served: Served | int,
    path: str = FEED,
    *,
    headers: dict[str, str] | None = None,
    key: str | None = None,
    max_queue: int | None = 16,
    **parameters: str,
) -> AsyncIterator[Client]:
    """Open a socket, closed with the block. *key* is where its messages have their kind."""
    port = served if isinstance(served, int) else served.port
    query = f"?{urlencode(parameters)}" if parameters else ""
    async with connect(
        f"ws://127.0.0.1:{port}{path}{query}",
        additional_headers=headers,
        compression=None,
        max_size=None,
        max_queue=max_queue,
        proxy=None,
        close_timeout=1,
    ) as connection:
        yield Client(connection, key=key or ("eventType" if path == FEED else "type"))


async def refused(
    served: Served | int, path: str = FEED, *, headers: dict[str, str] | None = None, **parameters: str
) -> tuple[int, dict[str, Any]]:
    """The status and the problem document with which a handshake is refused."""
    try:
        async with socket(served, path, headers=headers, **parameters):
            pass
    except InvalidStatus as refusal:
        return refusal.response.status_code, json.loads(refusal.response.body or b"{}")
    raise AssertionError("it was let in")


async def closed_with(client: Client) -> tuple[str | None, int]:
    """The last error and the close code."""
    code, _ = await client.end()
    errors = [message["code"] for message in client.seen if message.get("code")]
    return (errors[-1] if errors else None), code
