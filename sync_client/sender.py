"""Sends what is in the outbox, in order, one at a time; what comes back decides what becomes of a command.

    2xx                                  its documents are taken in, then it is gone
    400 403 404 409 410 413 415 422      refused for good: rolled back, kept as failed, the next one's turn
    409, and a hook says otherwise       the hook's new input takes its place, under a new key
    401                                  another token is needed; nothing is sent until there is one
    408 425 429 5xx, no answer           the same again with the same key, after a pause
    in flight for more than six days     the server may have forgotten the key: a person has to look

What stops it from spinning: the pause after every failure, the breaker, and the state of the connection.
Source: protocol.md 4 and 6.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from sync_client.backoff import Backoff, Rng
from sync_client.errors import BreakerOpen, CacheUnwritable, RequestFailed, Unauthorized
from sync_client.logs import get_logger
from sync_client.outbox import OutboxEntry, OutboxState
from sync_client.pending import PendingCommand

__all__ = ["Conflict", "ConflictHook", "Reply", "Sender", "SenderHost"]

MAX_IN_FLIGHT_MS = 6 * 24 * 3600 * 1000
"""The server keeps outcomes for seven days."""
PERMANENT = frozenset({400, 403, 404, 409, 410, 413, 415, 422})

log = get_logger()


class Reply(NamedTuple):
    """An answer that was understood: 2xx with its documents, or a refusal with its problem document."""

    status: int
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Conflict:
    """A command that the server refused with 409. *current* are the documents as they stand, by kind."""

    command: PendingCommand
    problem: Mapping[str, Any]
    current: Mapping[str, Any]


ConflictHook = Callable[[Conflict], Mapping[str, Any] | None | Awaitable[Mapping[str, Any] | None]]
"""Gives the fields of the input that are to be changed before it is sent again on top of *current*, or None."""


class SenderHost(Protocol):
    """What the sender needs of the client around it."""

    def may_send(self) -> bool:
        """Whether the connection allows it."""

    async def send(self, command: PendingCommand) -> Reply:
        """One request through the breaker. Raises RequestFailed; Unauthorized once a new token did not help."""

    async def sending(self, entry: OutboxEntry) -> OutboxEntry: ...

    async def answered(self, entry: OutboxEntry, documents: Mapping[str, Any]) -> None:
        """Take the *documents* in, then let go of the command and of its picture, in one step for who looks on."""

    async def failed(self, entry: OutboxEntry, problem: Mapping[str, Any]) -> None:
        """Roll back: keep it as failed, take in the current documents, tell."""

    async def rebased(self, entry: OutboxEntry, changes: Mapping[str, Any], current: Mapping[str, Any]) -> bool:
        """Put a new command in its place; False if *changes* make no valid input."""

    def next(self) -> OutboxEntry | None:
        """The first that is queued or in flight."""


class Sender:
    """The loop. ``wake`` it when there is something to send, or when it may."""

    def __init__(
        self, host: SenderHost, *, wall_ms: Callable[[], int], rng: Rng, backoff: Backoff | None = None
    ) -> None:
        self._host = host
        self._wall_ms = wall_ms
        self._rng = rng
        self._backoff = backoff or Backoff()
        self._bell = asyncio.Event()
        self._failures = 0
        self.needs_token = False
        """Nothing is sent until there is another token."""
        self.retry_at_s: float | None = None
        """When it tries again (the loop's clock)."""
        self.on_conflict: ConflictHook | None = None

    def wake(self) -> None:
        """Look again: a command came, or the connection."""
        self._bell.set()

    def token_changed(self) -> None:
        self.needs_token = False
        self._bell.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            entry = self._host.next() if self._host.may_send() and not self.needs_token else None
            if entry is None:
                self._bell.clear()
                await self._bell.wait()
                continue
            try:
                await self._turn(entry)
                self._failures = 0
            except Unauthorized as exc:
                log.warning("outbox_unauthorized", error=str(exc))
                self.needs_token = True
            except (RequestFailed, CacheUnwritable) as exc:
                await self._pause(exc)

    async def _turn(self, entry: OutboxEntry) -> None:
        """One command, once. Raises RequestFailed where it has to be sent again."""
        first_ms = entry.first_sent_ms
        if entry.state is OutboxState.IN_FLIGHT and first_ms is not None:
            if self._wall_ms() - first_ms > MAX_IN_FLIGHT_MS:
                await self._host.failed(entry, _too_late())
                return
        entry = await self._host.sending(entry)
        reply = await self._host.send(entry.command)
        if reply.status < 300:
            await self._host.answered(entry, reply.document)
        elif reply.status in PERMANENT:
            await self._refused(entry, reply)
        else:
            raise RequestFailed(f"the server answers {reply.status}", status=reply.status)

    async def _refused(self, entry: OutboxEntry, reply: Reply) -> None:
        current = reply.document.get("current")
        current = current if isinstance(current, dict) else {}
        if reply.status == 409 and self.on_conflict is not None:
            changes = await self._ask(Conflict(entry.command, reply.document, current))
            if changes is not None and await self._host.rebased(entry, changes, current):
                return
        await self._host.failed(entry, reply.document)

    async def _ask(self, conflict: Conflict) -> Mapping[str, Any] | None:
        """The hook's word; None also where it raises."""
        assert self.on_conflict is not None
        try:
            changes = self.on_conflict(conflict)
            if inspect.isawaitable(changes):
                changes = await changes
        except Exception:
            log.exception("conflict_hook_failed", command=conflict.command.name)
            return None
        return changes

    async def _pause(self, exc: RequestFailed | CacheUnwritable) -> None:
        self._failures += 1
        retry_after_s = getattr(exc, "retry_after_s", None)
        if isinstance(exc, BreakerOpen):
            self._failures -= 1  # not even sent
        delay_s = self._backoff.delay_s(max(self._failures, 1), rng=self._rng, retry_after_s=retry_after_s)
        log.info("outbox_waits", error=str(exc), delay_s=round(delay_s, 2))
        self.retry_at_s = asyncio.get_running_loop().time() + delay_s
        await asyncio.sleep(delay_s)
        self.retry_at_s = None


def _too_late() -> dict[str, Any]:
    return {
        "type": "in-flight-too-long",
        "title": "Unknown",
        "status": 0,
        "detail": "It was sent over six days ago and never answered; look whether it took effect, then retry or "
        "discard it.",
    }
