"""The feed over a WebSocket: the only module that knows `websockets`, which comes with ``pip install order-sync[ws]``.

For the driver a socket is another kind of stream: what comes in pieces is a message each. A handshake that is refused
by anybody but our server means that sockets do not get through here, as a network failure does: polling may.
"""

import json
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from sync_client.backoff import parse_retry_after
from sync_client.errors import ConfigurationError, NetworkFailed, RequestFailed, ServerBusy, Unauthorized
from sync_client.transport import CONNECT_TIMEOUT_S, MAX_BODY_BYTES, PROBLEM_TYPE, checked_url, default_tls
from sync_core.paths import FEED_SOCKET_PATH

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection
    from websockets.http11 import Response

__all__ = ["MessageStream", "SocketTransport"]

CLOSE_TIMEOUT_S = 0.2
"""For a goodbye to the server; its answer changes nothing."""
_PLANNED = (1000, 1001)
"""Close codes of an end that is no failure; a goodbye came before."""


class MessageStream:
    """An open socket."""

    def __init__(self, connection: "ClientConnection") -> None:
        self._connection = connection

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Messages as they come. Raises NetworkFailed when the socket breaks. To be closed."""
        from websockets.exceptions import ConnectionClosed

        while True:
            try:
                message = await self._connection.recv(decode=False)
            except ConnectionClosed as closed:
                if closed.rcvd is not None and closed.rcvd.code in _PLANNED:
                    return
                raise NetworkFailed(f"the socket was closed: {closed}") from closed
            if message:
                yield message


class SocketTransport:
    """Sockets to one server. Raises ConfigurationError for a URL that cannot be one, and without `websockets`."""

    def __init__(
        self,
        base_url: str,
        *,
        verify: bool = True,
        headers: Mapping[str, str] | None = None,
        trust_env: bool = True,
        max_message_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        try:
            import websockets.asyncio.client  # noqa: F401 - found missing here, not in the middle of the work
        except ImportError as exc:
            raise ConfigurationError('transport="ws" needs one more package: pip install "order-sync[ws]"') from exc
        base = checked_url(base_url)
        scheme = "wss" if base.scheme == "https" else "ws"
        self._url = str(base.copy_with(scheme=scheme, path=base.path.rstrip("/") + FEED_SOCKET_PATH))
        self._tls = None if scheme == "ws" else default_tls() if verify else _unverified()
        self._headers = dict(headers or {})
        self._trust_env = trust_env
        self._max_message_bytes = max_message_bytes

    @asynccontextmanager
    async def stream(
        self, *, params: Mapping[str, str] | None = None, last_event_id: str = "", token: str | None = None
    ) -> AsyncIterator[MessageStream]:
        """An open socket. Raises RequestFailed."""
        headers = dict(self._headers)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        query = dict(params or {})
        if last_event_id:
            query["lastEventId"] = last_event_id
        connection = await self._connect(f"{self._url}?{urlencode(query)}" if query else self._url, headers)
        try:
            yield MessageStream(connection)
        finally:
            await connection.close()

    async def _connect(self, url: str, headers: Mapping[str, str]) -> "ClientConnection":
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidStatus, WebSocketException

        class Connect(connect):
            """Goes nowhere else: a token belongs to one origin."""

            def process_redirect(self, exc: Exception) -> Exception | str:
                return exc

        try:
            return await Connect(
                url,
                additional_headers=headers,
                ssl=self._tls,
                proxy=True if self._trust_env else None,
                compression=None,
                open_timeout=CONNECT_TIMEOUT_S,
                ping_interval=None,  # heartbeats tell whether the server is there
                close_timeout=CLOSE_TIMEOUT_S,
                max_size=self._max_message_bytes,
                logger=logging.getLogger("sync_client.websocket"),
            )
        except InvalidStatus as refusal:
            raise _failure(refusal.response) from refusal
        except (WebSocketException, OSError, TimeoutError, EOFError, ValueError, ImportError) as exc:
            raise NetworkFailed(f"{type(exc).__name__}: {exc}".rstrip(": ")) from exc


def _failure(response: "Response") -> RequestFailed:
    status = response.status_code
    retry_after_s = parse_retry_after(response.headers.get("Retry-After"))
    if status >= 500 or status in (408, 425, 429):
        return ServerBusy(f"the server answers {status}", status=status, retry_after_s=retry_after_s)
    if status in (401, 403) and _is_ours(response, status):
        return Unauthorized(f"not let in ({status})", status=status)
    return NetworkFailed(f"no WebSocket gets through: {status}", status=status)


def _is_ours(response: "Response", status: int) -> bool:
    try:
        problem: Any = json.loads(response.body or b"")
    except (ValueError, RecursionError):
        return False
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return media_type == PROBLEM_TYPE and isinstance(problem, dict) and problem.get("status") == status


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
