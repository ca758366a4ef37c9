"""The plain requests of one client, commands and pages and all that is no stream: with its token, through its one
circuit breaker."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from sync_client.breaker import Breaker
from sync_client.clock import now_s
from sync_client.errors import RequestFailed, ServerBusy, Unauthorized
from sync_client.tokens import Tokens
from sync_client.transport import REQUEST_TIMEOUT_S, Reply, Transport

__all__ = ["PlainRequests"]

T = TypeVar("T")


class PlainRequests:
    """See above. All raise RequestFailed."""

    def __init__(self, transport: Transport, *, tokens: Tokens, breaker: Breaker, token_s: float) -> None:
        self._transport = transport
        self._tokens = tokens
        self._breaker = breaker
        self._token_s = token_s
        self.round_trip_s = 0.0
        """What the last answer took that the server did not hold back; at most 5."""
        self.answered_s: float | None = None
        """When the last page came (monotonic)."""

    async def get(self, path: str, params: Mapping[str, str]) -> dict[str, Any]:
        """A page."""
        await self.ensure_token()
        started_s = now_s()
        wait_s = float(params.get("wait", 0))
        page = await _through(
            self._breaker,
            lambda: self._transport.get_json(path, params=params, token=self._tokens.current, wait_s=wait_s),
            within_s=REQUEST_TIMEOUT_S + wait_s,
        )
        if not params.get("wait"):
            self.round_trip_s = min(now_s() - started_s, 5.0)
        self.answered_s = asyncio.get_running_loop().time()
        return page

    async def command(self, method: str, path: str, *, body: bytes | None, key: str, guard: int | None) -> Reply:
        """A command; once more with another token after a 401."""
        await self.ensure_token()
        token = self._tokens.current

        def send() -> Awaitable[Reply]:
            return self._transport.command(
                method, path, body=body, key=key, guard=guard, token=self._tokens.current
            )  # fmt: skip

        try:
            return await _through(self._breaker, send, within_s=REQUEST_TIMEOUT_S)
        except Unauthorized:
            if self._tokens.current == token:
                await self._renew_token()
            if self._tokens.current == token:
                raise
        return await _through(self._breaker, send, within_s=REQUEST_TIMEOUT_S)

    async def ensure_token(self) -> None:
        """Fetch the first token. Raises ServerBusy: a provider that fails is tried again like a server."""
        if self._tokens.needs_fetching:
            await self._renew_token()

    async def _renew_token(self) -> None:
        """Ask the provider. Raises ServerBusy."""
        try:
            async with asyncio.timeout(self._token_s):
                await self._tokens.renew()
        except Exception as exc:
            raise ServerBusy(f"token provider: {type(exc).__name__}") from exc


async def _through(breaker: Breaker, work: Callable[[], Awaitable[T]], *, within_s: float) -> T:
    """What *work* gives. Raises RequestFailed, also where it takes longer than *within_s*.

    Network errors, 5xx and silence count against the server; 429 and all other answers do not.
    """
    with breaker.request() as permission:
        try:
            async with asyncio.timeout(within_s):
                result = await work()
        except TimeoutError as exc:
            permission.failed()
            raise ServerBusy("no answer in time") from exc
        except RequestFailed as exc:
            broken = exc.status is None or (isinstance(exc, ServerBusy) and exc.status != 429)
            (permission.failed if broken else permission.succeeded)()
            raise
        permission.succeeded()
    return result
