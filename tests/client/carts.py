"""What tests of ``client.session`` share: a cart over an outbox on disk, and a server that says what a test says."""

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from sync_client.outbox_file import OutboxFile
from sync_client.pending import OutboxEntry
from sync_client.saving import SaveState
from sync_client.session import Session
from sync_core.cursor import Cursor
from sync_core.domain.catalog import DOMAIN
from tests.client.outboxes import Desk, open_desk

__all__ = ["COLA", "Counter", "disk_refuses", "disk_stands_still", "on_disk", "open_counter"]

COLA: dict[str, Any] = {"sku": "COLA", "name": "كولا", "quantity": 1, "unitPrice": "2.50"}
TIME = "2026-11-20T10:00:00.000Z"


class Counter:
    """A desk with a cart, whose clock is in a hurry: what is changed is written in the next moment.

    *known*: whether the cart may know by now what the server has.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.known = asyncio.Event()
        self.known.set()
        self.cart = Session(
            desk.replica, desk.keeper, check=lambda: None, caught_up=self._caught_up, user="ann",
            clock=itertools.count().__next__,
        )  # fmt: skip
        desk.replica.changed = self.cart.stir

    async def _caught_up(self) -> None:
        await self.known.wait()

    @property
    def names(self) -> list[str]:
        return [item.name for item in self.cart.items]

    def put_in(self, *names: str) -> list[str]:
        """The ids of their lines."""
        return [self.cart.add(**COLA | {"name": name}) for name in names]

    @property
    def head(self) -> OutboxEntry:
        """What the server is asked next."""
        entry = self.desk.keeper.next()
        assert entry is not None
        return entry

    def session(self, *items: str | dict[str, Any], version: int, session_id: str = "", **more: Any) -> dict[str, Any]:
        """One of ann's as the server tells it: the cart's own, if no other is named. Items are names, or whole."""
        content = [
            COLA | {"name": item, "lineID": f"of-{item}"} if isinstance(item, str) else COLA | item for item in items
        ]
        return {
            "sessionID": session_id or self.cart.view.session_id, "userId": "ann", "tillId": "t", "items": content,
            "status": "active", "createdAt": TIME, "updatedAt": TIME, "version": version, **more,
        }  # fmt: skip

    def says(self, session: dict[str, Any]) -> dict[str, Any]:
        """An answer with that *session*, which is the active one if it is active."""
        self.desk.seq += 1
        is_active = session["status"] == "active"
        slot = {"userID": "ann", "sessionID": session["sessionID"], "version": self.desk.seq, "deleted": not is_active}
        return {"order_session": session, "session_slot": slot, "cursor": str(Cursor("aaaaaaaa", self.desk.seq))}

    def tells(self, session: dict[str, Any]) -> None:
        """The feed brings that *session*."""
        replica = self.desk.replica
        replica.apply(replica.newer(replica.of_answer(self.says(session), at=None)))

    async def hears(self, session: dict[str, Any]) -> None:
        """As ``tells``, and the cart has had the time to follow; it has to be one that runs."""
        self.tells(session)
        for _ in range(5):  # steps of the event loop
            await asyncio.sleep(0)

    async def takes(self, *items: str | dict[str, Any], version: int) -> None:
        """The server takes the next save: it has those items then."""
        await self.desk.keeper.answered(self.head, self.says(self.session(*items, version=version)))

    async def refuses(self, current: dict[str, Any] | None = None, status: int = 409) -> None:
        """The server refuses the next command; it has *current*."""
        problem: dict[str, Any] = {"type": "stale", "title": "Conflict", "status": status, "detail": "It has changed."}
        await self.desk.keeper.refused(self.head, problem | {"current": {"order_session": current} if current else {}})

    async def in_conflict(self) -> None:
        """``a`` is at both, ``b`` was put in here, and ``x`` at another till, which was first."""
        self.put_in("a")
        await self.cart.save()
        await self.takes(*[item.model_dump(mode="json") for item in self.cart.items], version=1)
        self.put_in("b")
        await self.cart.save()
        a = self.cart.items[0].model_dump(mode="json")
        await self.refuses(self.session(a, "x", version=2))
        await self.cart.save()
        assert self.cart.state is SaveState.CONFLICT


@asynccontextmanager
async def open_counter(path: Path, *, is_open: bool = True, runs: bool = False) -> AsyncIterator[Counter]:
    """One whose outbox is at *path*; the cart is ann's at the till ``t``, and saved by itself where it *runs*."""
    async with open_desk(path, is_up=True) as desk:
        counter = Counter(desk)
        saving = asyncio.create_task(counter.cart.run()) if runs else None
        if is_open:
            await counter.cart.open(till="t")
        yield counter
        if saving is not None:
            assert not saving.done(), "it goes on saving"
            saving.cancel()
            with suppress(asyncio.CancelledError):
                await saving


def on_disk(path: Path) -> list[tuple[str, str, list[str]]]:
    """What another start would find: state, command, and the items' names."""
    file = OutboxFile(path, DOMAIN)
    try:
        return [
            (entry.state.value, entry.command.command.name, [item.name for item in getattr(entry.given, "items", ())])
            for entry in file.load()
        ]
    finally:
        file.close()


@contextmanager
def disk_refuses(path: Path, what: str) -> Iterator[None]:
    """Meanwhile the outbox's file takes no *what*, in SQL: ``DELETE ON commands WHEN old.state = 'failed'``."""
    with _opened(path) as db:
        db.execute(f"CREATE TRIGGER refuses BEFORE {what} BEGIN SELECT RAISE(ABORT, 'not now'); END")
        yield
        db.execute("DROP TRIGGER refuses")


@contextmanager
def disk_stands_still(path: Path) -> Iterator[None]:
    """Meanwhile nothing is written to the outbox's file: who writes waits."""
    with _opened(path) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        yield db
    finally:
        db.close()
