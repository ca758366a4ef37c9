"""Taking turns: however many readers catch up at once, everybody else is served in between.

A reader that catches up works in pieces of some 64 kB, a fraction of a millisecond each. Five hundred of them at
once would do five hundred pieces before the event loop comes round to anything else; here a few have their turn each
time round, the others wait in line. A turn is over at the next await, so nobody holds one while a socket or the log
makes it wait.
"""

import asyncio
from collections import deque

__all__ = ["Turns"]

TURNS_A_ROUND = 8
"""About a millisecond's work between two looks at everything else."""


class Turns:
    """One line for all readers of a process, first come first served."""

    def __init__(self) -> None:
        self._line: deque[asyncio.Future[None]] = deque()
        self._left = TURNS_A_ROUND
        self._round: asyncio.Handle | None = None

    def take_now(self) -> bool:
        """Whether the caller may have a turn at once: one is left in this round and nobody waits for it."""
        if self._line or not self._left:
            return False
        self._left -= 1
        self._next_round()
        return True

    async def take(self) -> None:
        """Wait for a turn."""
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        self._next_round()
        await turn

    def _next_round(self) -> None:
        if self._round is None:
            self._round = asyncio.get_running_loop().call_soon(self._begin_round)

    def _begin_round(self) -> None:
        self._round = None
        self._left = TURNS_A_ROUND
        while self._line and self._left:
            turn = self._line.popleft()
            if not turn.done():  # else its reader has left
                turn.set_result(None)
                self._left -= 1
        if self._left < TURNS_A_ROUND:
            self._next_round()
