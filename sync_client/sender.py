"""Sends what is in the outbox, in order, one at a time; what comes back decides what becomes of a command.

    2xx                                  its documents are taken in, then it is gone
    400 403 404 409 410 413 415 422      refused for good: rolled back, kept as failed, the next one's turn
    409, and a hook says otherwise       the hook's new input takes its place, under a new key
    401                                  another token is needed; nothing is sent until there is one
    408 425 429 5xx, no answer           the same again with the same key, after a pause
    in flight for more than six days     the server may have forgotten the key: a person has to look

A refusal that is no problem document of the server's comes from somebody in between (a portal, a filter): it is
asked again a few times before it counts. What stops the loop from spinning: the pause after every failure, the
breaker, the state of the connection, and for hooks the count of rebases. Source: protocol.md 4 and 6.
"""

import asyncio
import http
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from sync_client.backoff import Backoff, Rng
from sync_client.errors import BreakerOpen, CacheUnwritable, RequestFailed, Unauthorized
from sync_client.logs import get_logger
from sync_client.pending import OutboxEntry, OutboxState, PendingCommand
from sync_client.transport import Reply

__all__ = ["Sender", "SenderHost"]

MAX_IN_FLIGHT_MS = 6 * 24 * 3600 * 1000
"""The server keeps outcomes for seven days."""
MAX_STRANGE = 5
"""Refusals in a row by who is not the server, until a command counts as refused."""
MAX_REBASES = 5

log = get_logger()


class SenderHost(Protocol):
    """What the sender needs of the client around it. What writes to disk raises CacheUnwritable."""

    def next(self) -> OutboxEntry | None:
        """The first whose answer is still to come, if the connection allows to send."""

    async def send(self, command: PendingCommand) -> Reply:
        """One request through the breaker. Raises RequestFailed; Unauthorized once a new token did not help."""

    async def sending(self, entry: OutboxEntry, *, now_ms: int) -> OutboxEntry | None:
        """It goes out now, as far as anybody can know from here on. None if it is there no more."""

    async def not_taken(self, entry: OutboxEntry) -> None:
        """It surely took no effect: queued as before."""

    async def answered(self, entry: OutboxEntry, document: Mapping[str, Any]) -> None:
        """Take in the documents of the answer, let go of the command and of its picture, in one step for who looks."""

    async def refused(self, entry: OutboxEntry, problem: Mapping[str, Any]) -> None:
        """Roll back: keep it as failed, take in the current documents, tell."""

    async def rebased(self, entry: OutboxEntry, problem: Mapping[str, Any]) -> bool:
        """Ask the hook, and put a new command in its place; False if there is none, or it gives up."""


class Sender:
    """The loop. *changed* is called when ``waits_for`` has changed."""

    def __init__(
        self,
        host: SenderHost,
        *,
        wall_ms: Callable[[], int],
        rng: Rng,
        backoff: Backoff | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._host = host
        self._wall_ms = wall_ms
        self._rng = rng
        self._backoff = backoff or Backoff()
        self._changed = changed
        self._bell = asyncio.Event()
        self._hurry = asyncio.Event()
        self._failures = 0
        self._strange = 0
        self._needs_token = False
        self.waits_for = ""
        """Why nothing is sent though there is something to send; "" if nothing keeps it."""

    # -- what others tell it ----------------------------------------------------------------------------

    def wake(self) -> None:
        """Look again: there may be something to send."""
        self._bell.set()

    def connected(self) -> None:
        """A new connection was let in: what failed before may work now, the token included."""
        self._hurry.set()
        self.token_changed()

    def token_changed(self) -> None:
        self._needs_token = False
        self._bell.set()

    # -- the loop ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            entry = None if self._needs_token else self._host.next()
            if entry is None:
                self._bell.clear()
                await self._bell.wait()
                continue
            try:
                await self._turn(entry)
            except Unauthorized as exc:
                log.warning("outbox_unauthorized", error=str(exc))
                self._needs_token = True
                self._say("another token is needed")
            except (RequestFailed, CacheUnwritable) as exc:
                await self._pause(str(exc), exc)
            except Exception as exc:
                # Ours: it must neither end the sending in silence nor repeat without a pause.
                log.exception("sender_failed", command=entry.name)
                await self._pause(type(exc).__name__, exc)
            else:
                self._failures = 0
                self._say("")

    async def _turn(self, entry: OutboxEntry) -> None:
        """One command, once. Raises RequestFailed where it has to be sent again."""
        first_ms, was_queued = entry.first_sent_ms, entry.state is OutboxState.QUEUED
        if not was_queued and first_ms is not None and self._wall_ms() - first_ms > MAX_IN_FLIGHT_MS:
            await self._host.refused(entry, _too_late())
            return
        sent = await self._host.sending(entry, now_ms=self._wall_ms())
        if sent is None:
            return
        try:
            reply = await self._host.send(sent.command)
        except RequestFailed as exc:
            if was_queued and _is_untaken(exc):
                await self._host.not_taken(sent)
            raise
        await self._take(sent, reply)

    async def _take(self, entry: OutboxEntry, reply: Reply) -> None:
        """What the answer makes of it. Raises RequestFailed."""
        if reply.status < 300:
            await self._host.answered(entry, reply.document)
        elif reply.is_ours:
            await self._refused(entry, reply.status, reply.document)
        else:
            self._strange += 1
            if self._strange < MAX_STRANGE:
                raise RequestFailed(f"somebody in the server's place answers {reply.status}", status=reply.status)
            await self._refused(entry, reply.status, _strange(reply.status))
        self._strange = 0

    async def _refused(self, entry: OutboxEntry, status: int, problem: Mapping[str, Any]) -> None:
        if status == 409 and entry.rebases < MAX_REBASES and await self._host.rebased(entry, problem):
            return
        await self._host.refused(entry, problem)

    async def _pause(self, why: str, exc: Exception) -> None:
        """After a failure. A new connection ends it early, if the server did not ask for the wait."""
        was_sent = not isinstance(exc, BreakerOpen)
        self._failures += was_sent
        retry_after_s = exc.retry_after_s if isinstance(exc, RequestFailed) else None
        delay_s = self._backoff.delay_s(max(self._failures, 1), rng=self._rng, retry_after_s=retry_after_s)
        log.info("outbox_waits", error=why, delay_s=round(delay_s, 2))
        self._say(why)
        self._hurry.clear()
        if retry_after_s and was_sent:
            await asyncio.sleep(delay_s)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), delay_s)
            self._failures = 0

    def _say(self, why: str) -> None:
        if why != self.waits_for:
            self.waits_for = why
            self._changed()


def _is_untaken(exc: RequestFailed) -> bool:
    """Whether the command surely took no effect."""
    return isinstance(exc, Unauthorized | BreakerOpen) or exc.status in (425, 429)


def _strange(status: int) -> dict[str, Any]:
    try:
        title = http.HTTPStatus(status).phrase
    except ValueError:
        title = "Refused"
    detail = (
        f"Something between this machine and the server answers {status}, {MAX_STRANGE} times in a row; "
        "have it let the command through, then retry or discard it."
    )
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}


def _too_late() -> dict[str, Any]:
    detail = (
        "It was sent over six days ago, and no answer came since; look whether it took effect, then retry or "
        "discard it."
    )
    return {"type": "in-flight-too-long", "title": "Outcome unknown", "status": 0, "detail": detail}
