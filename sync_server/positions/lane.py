"""Positions that one tenant's clients have said and that wait to be taken in: room for all, and turns."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from sync_core.problems import Unavailable
from sync_server.access.caller import Caller
from sync_server.positions.base import Place

__all__ = ["MAX_WAITING", "RETRY_AFTER_S", "Lane", "Report"]

MAX_WAITING = 20_000
RETRY_AFTER_S = 2


@dataclass(frozen=True, slots=True)
class Report:
    """One position as somebody says it."""

    caller: Caller
    client_id: str | None
    place: Place
    done: "asyncio.Future[None]"

    def refuse(self, reason: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(reason)


class Lane:
    """What waits of one tenant, at most *most*, and the task that takes it.

    Nobody keeps the others out: a principal may have as many waiting as there is room left then. So one alone gets
    half of the room, the next one half of the rest, and whoever comes finds some; where several press, it evens out
    to the same for each (dynamic queue length thresholds; Choudhury and Hahne, 1998). A share that is fixed would
    be too little where a fleet has one key, or no access control. Nor does anybody keep the others waiting:
    principals take turns.
    """

    def __init__(self, most: int = MAX_WAITING) -> None:
        self.task: asyncio.Task[None] | None = None
        self._most = most
        self._count = 0
        self._queues: OrderedDict[str, deque[Report]] = OrderedDict()
        """By principal, in the order of their turns; none is empty."""

    def __len__(self) -> int:
        return self._count

    def add(self, reports: Sequence[Report]) -> None:
        """Let *reports*, all of one principal, wait: all of them, or none. Raises Unavailable."""
        principal = reports[0].caller.principal
        own = len(self._queues.get(principal, ())) + len(reports)
        if own > self._most - self._count - len(reports):
            raise Unavailable("More positions come in than can be taken.", retry_after_s=RETRY_AFTER_S)
        self._queues.setdefault(principal, deque()).extend(reports)
        self._count += len(reports)

    def take(self, most: int) -> list[Report]:
        """The next *most*, one of each principal in turn, of each in their order; they wait no more."""
        taken: list[Report] = []
        while self._queues and len(taken) < most:
            principal, queue = next(iter(self._queues.items()))
            taken.append(queue.popleft())
            if queue:
                self._queues.move_to_end(principal)
            else:
                del self._queues[principal]
        self._count -= len(taken)
        return taken
