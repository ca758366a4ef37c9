"""The outbox as programs see it: what waits, what failed, and what to do about it."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import TypeVar

from sync_client.conflicts import ConflictHook
from sync_client.errors import Closed
from sync_client.outbox_keeper import OutboxKeeper
from sync_client.pending import OutboxEntry, OutboxState
from sync_client.sent import Sent

__all__ = ["Outbox"]

H = TypeVar("H", bound=ConflictHook)


class Outbox:
    """The commands that have no answer yet, in the order in which they are sent, and those that failed.

    ``len`` counts those without an answer; iterating gives all, in order.
    """

    def __init__(self, keeper: OutboxKeeper) -> None:
        self._keeper = keeper

    def __len__(self) -> int:
        return sum(entry.is_pending for entry in self._keeper.entries.values())

    def __iter__(self) -> Iterator[OutboxEntry]:
        return iter(list(self._keeper.entries.values()))

    def __bool__(self) -> bool:
        return True  # it is there, also when nothing is in it

    @property
    def queued(self) -> Sequence[OutboxEntry]:
        """Not sent yet, or surely not taken by the server."""
        return self._of(OutboxState.QUEUED)

    @property
    def in_flight(self) -> Sequence[OutboxEntry]:
        """Sent, and nobody here knows whether it took effect: at most one, normally."""
        return self._of(OutboxState.IN_FLIGHT)

    @property
    def failed(self) -> Sequence[OutboxEntry]:
        """Refused for good; each has the server's problem document."""
        return self._of(OutboxState.FAILED)

    def _of(self, state: OutboxState) -> Sequence[OutboxEntry]:
        return [entry for entry in self._keeper.entries.values() if entry.state is state]

    def on_conflict(self, hook: H) -> H:
        """Decorator: ``hook(conflict)``, sync or async, decides about a command that the server refused with 409.

        It gives the input to be sent instead, on top of the current documents (a whole one, or a mapping of the fields
        that change), or None to give up. Commands behind it wait for its word. At most five times for one command.
        """
        self._keeper.hook = hook
        return hook

    async def retry(self, key: str) -> Sent:
        """Give a failed command once more, as a new one at the end of the queue.

        Raises ClientError for one that has not failed or is not there, CacheUnwritable.
        """
        return await self._keeper.retry(key)

    async def discard(self, key: str) -> None:
        """Forget a command. One that was sent already may have taken effect all the same.

        Raises ClientError if there is none with that *key*, CacheUnwritable.
        """
        await self._keeper.discard(key)

    async def flush(self, timeout_s: float | None = None) -> None:
        """Wait until everything has its answer, whichever. Raises TimeoutError, Closed."""
        async with asyncio.timeout(timeout_s):
            while len(self):
                if self._keeper.is_closed:
                    raise Closed("the client was closed")
                await self._keeper.moves()
