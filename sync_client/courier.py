"""From a command that is given to its answer: the outbox, the loop that sends it, and what they need of the client."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from sync_client.backoff import Backoff, Rng
from sync_client.driver import Driver
from sync_client.errors import CacheUnwritable
from sync_client.health import OutboxHealth
from sync_client.logs import get_logger
from sync_client.outbox import Outbox
from sync_client.outbox_keeper import OutboxKeeper, Picture
from sync_client.pending import OutboxState, PendingCommand
from sync_client.sender import Sender
from sync_client.sent import Sent
from sync_client.states import State
from sync_client.transport import Reply
from sync_core.domain.command import Command, CommandInput, Domain

__all__ = ["Courier"]

DISK_RETRY_S = 5.0

log = get_logger()


def wall_ms() -> int:
    """Unix time. Of all durations the six days only go by it: they outlast the process."""
    return time.time_ns() // 1_000_000


class Courier:
    """Made with the client; ``open``, ``build``, then ``run`` as one task. *picture* is what screens show."""

    _driver: Driver

    def __init__(
        self,
        domain: Domain,
        picture: Picture,
        *,
        rng: Rng,
        wall_ms: Callable[[], int] = wall_ms,
        backoff: Backoff | None = None,
    ) -> None:
        self._picture = picture
        self._notes: list[str] = []
        self._keeper = OutboxKeeper(
            domain,
            picture=lambda: picture,
            post=self._post,
            may_send=self._may_send,
            wall_ms=wall_ms,
            note=self._note,
        )
        self._sender = Sender(self._keeper, wall_ms=wall_ms, rng=rng, backoff=backoff)
        self._keeper.wake = self._sender.wake
        self._state = State.DISCONNECTED
        self.outbox = Outbox(self._keeper)

    # -- life -------------------------------------------------------------------------------------------

    async def open(self, path: Path | None) -> None:
        """Read what an earlier run has left, and show it; in memory only where *path* is None.

        Where it cannot be opened, it is tried again; until then no command is taken.
        """
        try:
            await self._keeper.open(path)
        except CacheUnwritable as exc:
            log.warning("outbox_unwritable", error=str(exc))
            self._note(str(exc))

    def build(self, driver: Driver) -> None:
        """Around the connection."""
        self._driver = driver
        for note in self._notes:
            driver.note_error(note)

    async def run(self) -> None:
        """Send, until cancelled."""
        while True:
            try:
                await self._keeper.ready()
                await self._keeper.tell()
                break
            except CacheUnwritable as exc:
                log.info("outbox_unwritable", error=str(exc))
                await asyncio.sleep(DISK_RETRY_S)
        await self._sender.run()

    def stir(self, state: State) -> None:
        """The connection's state may be another."""
        before, self._state = self._state, state
        if state is State.CONNECTED and before is not State.CONNECTED:
            self._sender.connected()
        self._sender.wake()

    def token_changed(self) -> None:
        self._sender.token_changed()

    async def aclose(self) -> None:
        """After ``run`` was cancelled. Idempotent."""
        await self._keeper.aclose()

    # -- what the client asks ---------------------------------------------------------------------------

    async def submit(self, command: Command, given: CommandInput, *, if_match: int | None = None) -> Sent:
        """See OutboxKeeper.submit."""
        return await self._keeper.submit(command, given, if_match=if_match)

    @property
    def keeper(self) -> OutboxKeeper:
        """For those who give commands of their own."""
        return self._keeper

    @property
    def in_flight(self) -> str | None:
        """The key of the command that was sent and has no answer."""
        return self._keeper.in_flight

    @property
    def unsettled(self) -> bool:
        """Whether an earlier run has sent commands whose fate is not known yet."""
        return self._keeper.unsettled

    def health(self) -> OutboxHealth:
        """The outbox at this moment."""
        counts, entries = self._keeper.counts, self._keeper.entries.values()
        return OutboxHealth(
            waiting=len(self.outbox),
            failed=sum(entry.state is OutboxState.FAILED for entry in entries),
            held_by=self._sender.waits_for if len(self.outbox) else "",
            requests=counts.requests,
            applied=counts.applied,
            refused=counts.refused,
            rebased=counts.rebased,
        )

    # -- inside -----------------------------------------------------------------------------------------

    def _note(self, text: str) -> None:
        self._notes.append(text)
        if hasattr(self, "_driver"):
            self._driver.note_error(text)

    def _may_send(self) -> bool:
        machine = self._driver.machine
        return machine.state is State.CONNECTED or (machine.state is State.POLLING and not machine.poll_failures)

    async def _post(self, command: PendingCommand) -> Reply:
        return await self._driver.plain.command(
            command.command.method, command.path, body=command.body(), key=command.key, guard=command.guard
        )
