"""Calls the program's own functions, again when they raise, and counts how often they did."""

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sync_client.backoff import Backoff, Rng
from sync_client.event import Event
from sync_client.logs import get_logger

__all__ = ["Attempts", "DeliveryCounts", "HandlerPolicy", "was_cancelled"]

log = get_logger()


@dataclass(frozen=True, slots=True)
class HandlerPolicy:
    """What happens to an event whose handler raises: called again *retries* times, then parked."""

    retries: int = 3
    backoff: Backoff = Backoff(base_s=0.1, cap_s=5.0)  # noqa: RUF009 - frozen


@dataclass(slots=True)
class DeliveryCounts:
    """Counted since the start."""

    delivered: int = 0
    """Events that everybody who wanted them had, without a failure for good."""
    handler_errors: int = 0
    """Calls of handlers, refreshes and listeners that raised."""
    retried: int = 0
    parked: int = 0
    """Events that a handler failed on for good."""
    own: int = 0
    """Events that this instance caused itself, not handed out."""


class Attempts:
    """Calls by one policy, counted."""

    def __init__(self, *, policy: HandlerPolicy, rng: Rng) -> None:
        self.policy = policy
        self._rng = rng
        self.counts = DeliveryCounts()
        self.has_ended = False
        """Nothing is called again."""

    async def call(self, name: str, function: Callable[..., Any], *args: Any, event: Event | None = None) -> bool:
        """Call it once; whether it returned."""
        try:
            result = function(*args)
            if inspect.isawaitable(result):
                await result
        except asyncio.CancelledError as exc:
            if was_cancelled():
                raise
            self.note_error(name, exc, event)  # of something that the handler awaited, not of ours
        except Exception as exc:  # noqa: BLE001 - the program's own code; told, counted and repeated
            self.note_error(name, exc, event)
        else:
            return True
        return False

    async def again(self, name: str, function: Callable[..., Any], *args: Any, event: Event | None = None) -> bool:
        """After a call that raised: as often as the policy says, with its pauses; whether one returned."""
        for attempt in range(1, self.policy.retries + 1):
            await self.pause(attempt)
            if self.has_ended:
                return False
            if await self.call(name, function, *args, event=event):
                return True
        return False

    async def pause(self, attempt: int) -> None:
        """The wait before repetition number *attempt*, from 1."""
        self.counts.retried += 1
        await asyncio.sleep(self.policy.backoff.delay_s(attempt, rng=self._rng))

    def note_error(self, name: str, exc: BaseException, event: Event | None = None) -> None:
        """Count and log it."""
        # Not the exception's text: it may quote what is in the event.
        self.counts.handler_errors += 1
        log.warning("handler_failed", handler=name, error=type(exc).__name__, id=event.id if event else None)


def was_cancelled() -> bool:
    """Whether a CancelledError that was just raised is meant for the running task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
