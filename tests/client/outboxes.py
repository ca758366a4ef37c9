"""What the tests of the outbox share: commands, a server in memory that answers them, and a picture on a replica."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from sync_client.outbox_keeper import OutboxKeeper, Seen
from sync_client.pending import PendingCommand
from sync_client.records import Arrival
from sync_client.replica import Replica
from sync_client.transport import Reply
from sync_core.cursor import Cursor
from sync_core.domain import orders
from sync_core.domain.catalog import DOMAIN
from sync_core.domain.command import Command, CommandInput
from sync_core.domain.document import Ref

__all__ = ["ORDER", "Desk", "given", "open_desk", "order", "pending", "ref"]

ORDER = "ORDER-001"
T0_MS = 1_795_000_000_000


def given(command: Command, **fields: Any) -> CommandInput:
    """An input from JSON."""
    return command.input.model_validate_json(to_json(fields), strict=True)


def pending(n: int = 1, *, command: Command = orders.set_status, **fields: Any) -> PendingCommand:
    """A command with a key of its own."""
    fields = fields or {"orderID": ORDER, "status": f"s{n}"}
    return PendingCommand(f"key-{n}", command, given(command, **fields), T0_MS + n)


def ref(order_id: str = ORDER) -> Ref:
    return Ref("order", order_id)


def order(order_id: str = ORDER, *, version: int = 1, **fields: Any) -> dict[str, Any]:
    """An order as the server tells it."""
    return {
        "orderID": order_id, "stage": "empty", "items": [], "payment": {"status": "pending", "amount": "0.00",
        "currency": "USD"}, "createdAt": "2026-11-20T10:00:00.000Z", "updatedAt": "2026-11-20T10:00:00.000Z",
        "version": version, **fields,
    }  # fmt: skip


@dataclass
class Desk:
    """An outbox before a replica. *answers* are what the server says next; *sent* what it was sent."""

    replica: Replica = field(default_factory=lambda: Replica(DOMAIN))
    answers: list[Reply | Exception] = field(default_factory=list)
    sent: list[PendingCommand] = field(default_factory=list)
    arrivals: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_up: bool = True
    now_ms: int = T0_MS
    seq: int = 0
    fault: Exception | None = None
    """What the cache raises."""

    def __post_init__(self) -> None:
        self.replica.load([], complete_to=Cursor("aaaaaaaa", 0), due="")
        self.keeper = OutboxKeeper(
            DOMAIN, picture=lambda: self, post=self.post, may_send=lambda: self.is_up, wall_ms=lambda: self.now_ms,
            note=self.notes.append,
        )  # fmt: skip

    async def post(self, command: PendingCommand) -> Reply:
        self.sent.append(command)
        while not self.answers:
            await asyncio.sleep(0.001)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def says(self, *documents: dict[str, Any]) -> Reply:
        """An answer with the orders that were changed."""
        self.seq += 1
        return Reply(200, {"orders": list(documents), "cursor": str(Cursor("aaaaaaaa", self.seq))})

    def tells(self, *documents: dict[str, Any]) -> None:
        """The feed brings these orders."""
        self.replica.apply(self.replica.newer(self.replica.of_answer(self.says(*documents).document, at=None)))

    # -- the picture ------------------------------------------------------------------------------------

    def set_pending(self, commands: Sequence[PendingCommand]) -> None:
        self.replica.set_pending(commands)

    def seen(self, ref: Ref) -> Seen:
        known, leans = self.replica.seen(ref)
        return Seen(known.document, known.version, leans)

    async def take_answer(
        self, documents: Mapping[str, Any], *, pending: Sequence[PendingCommand], arrivals: Sequence[Arrival] = ()
    ) -> None:
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        known = self.replica.of_answer(documents, at=None) if "cursor" in documents else ()
        found = known or self.replica.of_refusal(documents)
        self.arrivals += [json.loads(arrival.envelope) for arrival in arrivals]
        self.replica.apply(self.replica.newer(found), pending=pending)

    def shown(self, order_id: str = ORDER) -> Any:
        """The order as the screen shows it."""
        entry = self.replica.get(ref(order_id))
        return None if entry is None else entry.document

    @property
    def names(self) -> list[str]:
        """The statuses that wait, in order."""
        return [getattr(command.given, "status", "") for command in self.keeper.pending]


@asynccontextmanager
async def open_desk(path: Path | None = None, **options: Any) -> AsyncIterator[Desk]:
    """One whose outbox is open; closed with the block."""
    desk = Desk(**options)
    await desk.keeper.open(path)
    try:
        yield desk
    finally:
        await desk.keeper.aclose()
