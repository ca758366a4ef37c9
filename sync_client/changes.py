"""Changes of state: the last of them, who is told, who waits for one."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sync_client.attempts import Attempts
from sync_client.logs import get_logger
from sync_client.states import State

__all__ = ["Changes", "StateChange", "StateListener"]

KEPT = 50

log = get_logger()


@dataclass(frozen=True, slots=True)
class StateChange:
    """What state listeners get."""

    before: State
    after: State
    reason: str
    at_ms: int


StateListener = Callable[[StateChange], Awaitable[None] | None]


class Changes:
    """Tells listeners. One that raises is counted and logged; async ones run beside the connection, as tasks."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._listeners: list[StateListener] = []
        self._tasks: set[asyncio.Task[bool]] = set()
        self._moved = asyncio.Event()
        self.kept: list[StateChange] = []

    def listen(self, listener: StateListener) -> StateListener:
        """Decorator: ``listener(change)``, sync or async, after each change of state."""
        self._listeners.append(listener)
        return listener

    def tell(self, change: StateChange) -> None:
        """It has just happened."""
        self.kept = [*self.kept[1 - KEPT :], change]
        self._log(change)
        for listener in self._listeners:
            name = getattr(listener, "__qualname__", type(listener).__name__)
            try:
                result = listener(change)
            except Exception as exc:  # noqa: BLE001 - the program's own code; told and counted
                self._attempts.note_error(name, exc)
            else:
                if asyncio.iscoroutine(result):
                    self._spawn(name, result)

    def _spawn(self, name: str, work: Awaitable[Any]) -> None:
        call = self._attempts.call(name, lambda: work)
        task = asyncio.get_running_loop().create_task(call, name="sync-client-listener")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _log(self, change: StateChange) -> None:
        # One WARNING per outage: when the connection is lost, not for every try.
        lost = change.before is State.CONNECTED and change.after is State.RECONNECTING
        bad = change.after is State.FAILED or (change.after is State.ERROR and len(self.kept) < 4)
        write = log.warning if lost or bad else log.info
        write("state", before=change.before.value, after=change.after.value, reason=change.reason)

    def stir(self) -> None:
        """Something that waiters may look at has changed."""
        self._moved.set()

    async def next(self) -> None:
        """Wait until ``stir`` is called."""
        self._moved.clear()
        await self._moved.wait()

    async def aclose(self, *, within_s: float, spare: asyncio.Task[Any] | None) -> None:
        """Listeners that were told may finish for half of *within_s*; *spare* is not waited for."""
        for _ in range(2):
            left = [task for task in self._tasks if task is not spare]
            if not left:
                return
            await asyncio.wait(left, timeout=within_s / 2)
            for task in left:
                task.cancel()
