"""A plain request on its way through the circuit breaker."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sync_client.breaker import Breaker
from sync_client.errors import RequestFailed, ServerBusy

__all__ = ["through"]

T = TypeVar("T")


async def through(breaker: Breaker, work: Callable[[], Awaitable[T]], *, within_s: float) -> T:
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
