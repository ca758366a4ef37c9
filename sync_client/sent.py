"""What a program holds of a command that it has given: it is in the outbox and shown; the answer comes later."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from sync_client.pending import PendingCommand

__all__ = ["Sent"]


class Sent:
    """One command. It needs no looking after: whoever lets go of it changes nothing."""

    def __init__(self, command: PendingCommand) -> None:
        self.name = command.name
        """``order.edit``"""
        self.id = target.id if (target := command.target) is not None else ""
        """Of the document that it is about; of a new one, too."""
        self.key = command.key
        """Its idempotency key; another one after a conflict that was resolved by a hook."""
        self._answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        # Nobody has to wait for it.
        self._answer.add_done_callback(lambda answer: answer.cancelled() or answer.exception())
        self._then: Callable[[Mapping[str, Any] | Exception], None] | None = None

    def __repr__(self) -> str:
        return f"Sent({self.name} {self.id!r}, key={self.key!r})"

    async def done(self, timeout_s: float | None = None) -> Mapping[str, Any]:
        """Wait for the answer: the documents that it changed, by kind (``{"order": {...}, "cursor": ...}``).

        Raises CommandFailed when the server has refused it or a person has discarded it, Closed when the client was
        closed (it goes out in the next run), TimeoutError after *timeout_s* (it goes out all the same).
        """
        async with asyncio.timeout(timeout_s):
            return await asyncio.shield(self._answer)

    def settle(self, answer: Mapping[str, Any] | Exception) -> None:
        """The answer is there, or what came instead."""
        if self._answer.done():
            return
        then, self._then = self._then, None
        if isinstance(answer, Exception):
            self._answer.set_exception(answer)
        else:
            self._answer.set_result(answer)
        if then is not None:
            then(answer)

    def then(self, told: Callable[[Mapping[str, Any] | Exception], None]) -> None:
        """Call *told* with the answer, or what came instead, in the very step in which it is taken in."""
        self._then = told
