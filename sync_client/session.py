"""``client.session``: a person's cart at this till, saved as it changes.

    async with SyncClient(url, replica=SESSION_KINDS, subject="ann") as client:
        cart = client.session
        await cart.open(till="till-1")            # goes on where ann was, at whichever till
        cart.add(sku="COLA", name="كولا", unitPrice="2.50")
        await cart.complete(payment={"method": "cash"})

A change is in memory at once, in the outbox, on this machine's disk, half a second later at most, and from there it
goes to the server. A kill of the program costs that half second; ``save`` costs nothing at all.

What makes it safe beside another till: every save names the version that the cart stands on, and of those before it
that have no answer yet it names which they are (``leans``). Of another till's change this cart knows nothing until it
has been taken into it, so the server refuses the save, and both are kept: what is here, on disk with the refused
command, and what is there. A person says what becomes of them (``resolve``). Source: seed 004, domain-more.md C.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from sync_client.cart import LINE_KEY, Items, checked_items, line_id, merged
from sync_client.errors import CacheUnwritable, ClientError, Closed, CommandFailed, OutboxFull
from sync_client.ids import new_id
from sync_client.logs import get_logger
from sync_client.outbox_keeper import OutboxKeeper, Seen
from sync_client.pending import OutboxEntry, OutboxState
from sync_client.replica import Replica
from sync_client.saving import SaveState, SessionConflict, SessionView
from sync_client.sent import Sent
from sync_core.domain import leaving, sessions
from sync_core.domain.command import Command, CommandInput
from sync_core.domain.document import Ref
from sync_core.domain.items import Item
from sync_core.domain.sessions import OrderSession, SessionSlot, SessionStatus

__all__ = ["DEBOUNCE_S", "SESSION_KINDS", "Session"]

SESSION_KINDS = ("order_sessions", "session_slots", "tabs", "transactions")
"""What a client keeps (``replica=SESSION_KINDS``) to have a ``session``."""
DEBOUNCE_S = 0.5
"""A change waits so long for others, to be written together with them."""
DISK_RETRY_S = 5.0
SAVES = (sessions.create, sessions.update)
LEAVES = (leaving.complete, leaving.assign_to_tab, leaving.logout, sessions.delete)

log = get_logger()


@dataclass(slots=True)
class _Failure:
    """A save that was refused; the outbox keeps it under *key*, with what the cart holds now."""

    key: str
    problem: Mapping[str, Any]
    theirs: OrderSession | None

    @property
    def is_conflict(self) -> bool:
        return self.problem.get("status") == 409


class Session:
    """See the module. One for each client; ``open`` it for a person. All of it belongs to the client's event loop."""

    def __init__(
        self,
        replica: Replica,
        keeper: OutboxKeeper,
        *,
        check: Callable[[], None],
        user: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._replica = replica
        self._keeper = keeper
        self._check = check
        self._default_user = user
        self._clock = clock
        self.user = ""
        self.till: str | None = None
        self._id: str | None = None
        self._items: Items = ()
        self._written: Items = ()
        """The very value that is on disk or at the server: while ``_items`` is another one there is something to do."""
        self._base: OrderSession | None = None
        """The server's state that the cart stands on, beneath what waits for its answer."""
        self._waiting: list[Sent] = []
        self._failure: _Failure | None = None
        self._is_local = False
        self._disk_problem: Mapping[str, Any] | None = None
        self._changed_s = 0.0
        self._is_hurried = False
        self._lock = asyncio.Lock()
        self._bell = asyncio.Event()
        self._moved = asyncio.Event()
        self._has_ended = False

    # -- looking ----------------------------------------------------------------------------------------

    @property
    def items(self) -> Items:
        """What is in the cart; each item has its ``lineID``."""
        return self._items

    @property
    def state(self) -> SaveState:
        if self._failure is not None or self._disk_problem is not None:
            if self._is_local:
                return SaveState.LOCAL
            is_conflict = self._failure is not None and self._failure.is_conflict
            return SaveState.CONFLICT if is_conflict else SaveState.FAILED
        if self._items is not self._written:
            return SaveState.CHANGED
        return SaveState.WAITING if self._waiting else SaveState.SAVED

    @property
    def conflict(self) -> SessionConflict | None:
        """What is here and what is there, until somebody says what becomes of it."""
        failure = self._failure
        if failure is None or not failure.is_conflict:
            return None
        return SessionConflict(self._items, self._theirs(), failure.problem)

    @property
    def other_till(self) -> str | None:
        """Where the session was last changed, if that is another till."""
        till = None if self._base is None else self._base.tillId
        return None if till in (None, self.till) else till

    @property
    def view(self) -> SessionView:
        """All of this at once."""
        problem = self._disk_problem if self._failure is None else self._failure.problem
        return SessionView(self._items, self.state, self._id, self.other_till, self.conflict, problem)

    async def watch(self) -> AsyncIterator[SessionView]:
        """How the cart stands, now and after each change, the newest only. Ends when the client is closed."""
        shown: SessionView | None = None
        while not self._has_ended:
            view = self.view
            if view == shown:
                await self._moves()
                continue
            shown = view
            yield view

    # -- beginning --------------------------------------------------------------------------------------

    async def open(self, user: str = "", till: str | int | None = None, *, timeout_s: float = 5.0) -> SessionView:
        """Go on where *user* was: with what this machine has not sent yet, else with the active session, else with the
        newest that was left. Where the server cannot be reached for *timeout_s*, with what is known here.

        *user* "": the client's ``subject``. Raises ClientError where there is none, and before the start.
        """
        self._check()
        self.user = user or self._default_user()
        if not self.user:
            raise ClientError("say whose session: open(user=...), or make the client with subject=...")
        self.till = None if till is None else str(till)
        self._forget()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._replica.due and not self._has_ended:
                    await self._moves()
        self._restore()
        self.stir()
        return self.view

    def _forget(self) -> None:
        """The cart is empty, and of nobody's session."""
        self._id, self._base, self._failure = None, None, None
        self._items = self._written = ()
        self._waiting = []
        self._is_local = False

    def _restore(self) -> None:
        """What an earlier run of this program had not got through, else what the server has."""
        saves = [entry for entry in self._keeper.entries.values() if self._is_save(entry)]
        if not saves:
            self._adopt(self._current() or self._left())
            if self._base is not None and self._base.status is SessionStatus.PENDING_LOGOUT:
                self._items = tuple(self._base.items)  # another value: that it is active again has to be saved
            return
        newest = saves[-1]
        self._id = str(getattr(newest.given, "sessionID", ""))
        self._items = self._written = tuple(getattr(newest.given, "items", ()))
        for entry in saves:
            if entry.is_pending:
                self._follow(self._keeper.handle(entry.key))
        if newest.state is OutboxState.FAILED:
            self._failure = _Failure(newest.key, newest.problem or {}, None)

    def _is_save(self, entry: OutboxEntry) -> bool:
        """Whether it keeps a cart of this person that has not been left since."""
        given = entry.given
        return (
            entry.command.command in SAVES
            and getattr(given, "userId", None) == self.user
            and getattr(given, "items", None) is not None
            and getattr(given, "sessionID", None) not in self._being_left()
        )

    # -- editing ----------------------------------------------------------------------------------------

    def add(self, **item: Any) -> str:
        """Put an item in (``sku, name, unitPrice``, ``quantity`` or 1, and whatever else); the id of its line.

        Raises InvalidCommand, ClientError.
        """
        line = str(item.setdefault(LINE_KEY, new_id()))
        self.replace([*self._items, {"quantity": 1, **item}])
        return line

    def change(self, line: str, **fields: Any) -> None:
        """Change fields of a line. Raises InvalidCommand, ClientError where there is no such line."""
        self._line(line)
        self.replace([{**_content(item), **fields} if line_id(item) == line else item for item in self._items])

    def remove(self, line: str) -> None:
        """Take a line out. Raises ClientError where there is none."""
        self._line(line)
        self.replace([item for item in self._items if line_id(item) != line])

    def _line(self, line: str) -> None:
        if not any(line_id(item) == line for item in self._items):
            raise ClientError(f"there is no line {line[:80]} in the cart")

    def replace(self, items: "list[Item | Mapping[str, Any]] | Items") -> None:
        """Other items in place of all. Raises InvalidCommand, ClientError."""
        self._check()
        if not self.user:
            raise ClientError("whose session is it? await open() first")
        checked = checked_items([_with_line(item) for item in items])
        if self._items is self._written:
            self._changed_s = self._clock()
        self._items = checked
        self.stir()

    async def save(self) -> None:
        """Return once everything is on this machine's disk. Raises CacheUnwritable, OutboxFull, Closed."""
        self._check()
        while self._items is not self._written:
            await self._write()

    # -- leaving ----------------------------------------------------------------------------------------

    async def complete(self, payment: Mapping[str, Any] | None = None) -> Sent:
        """Have it paid: the cart is empty, the session is completed, its items are a transaction.

        Where the server refuses, ``done()`` of what this gives raises, and the cart is back. Raises ClientError while
        there is a conflict or nothing to leave, and what ``save`` raises; so do the others.
        """
        return await self._leave(leaving.complete, {} if payment is None else {"payment": dict(payment)})

    async def assign_to_tab(self, tab: str | int) -> Sent:
        """Put it on a tab; the cart is empty."""
        return await self._leave(leaving.assign_to_tab, {"tabId": tab})

    async def logout(self) -> Sent:
        """Leave it for later: it waits at the server, for any till. The cart is empty."""
        return await self._leave(leaving.logout, {})

    async def _leave(self, command: Command, fields: dict[str, Any]) -> Sent:
        await self.save()
        if self._failure is not None:
            raise ClientError("the session is not as the server has it: resolve() that first")
        if self._id is None:
            raise ClientError("there is no session")
        given = command.input.model_validate({"sessionID": self._id, **fields})
        sent = await self._keeper.submit(command, given, seen=self._seen if command.guarded else None)
        sent.then(lambda _: self.stir())
        self._forget()
        self.stir()
        return sent

    # -- conflicts and failures -------------------------------------------------------------------------

    async def resolve(self, choice: Literal["mine", "theirs", "both"]) -> None:
        """Say what becomes of what is here and what is there; *both* keeps the lines of both.

        Raises ClientError where there is nothing to resolve, InvalidCommand where both are too much together, and what
        ``save`` raises.
        """
        while self._waiting:  # what comes behind the refused one has its answer soon
            await self._moves()
        failure = self._failure
        if failure is None:
            raise ClientError("there is nothing to resolve")
        theirs, base = self._theirs(), self._base
        there = () if theirs is None else theirs.items
        options = {"mine": self._items, "theirs": there, "both": merged(base.items if base else (), self._items, there)}
        items = checked_items(options[choice])
        done = [entry.key for entry in self._keeper.entries.values() if self._is_save(entry)]
        self._forget()
        self._base, self._id = theirs, None if theirs is None else theirs.sessionID
        self._items = items
        self._written = items if choice == "theirs" else ()
        if choice != "theirs" and items is self._written:  # the empty cart is one value
            self._items = tuple([*items])
        await self.save()
        for key in done:
            with suppress(ClientError):
                await self._keeper.discard(key)
        self.stir()

    async def retry(self) -> None:
        """Send once more what was refused, as it is here. Raises what ``resolve`` raises."""
        if self._failure is not None:
            await self.resolve("mine")
        await self.save()

    def go_on_locally(self) -> None:
        """Show no failure any more: the cart goes on with what is here, on this machine's disk if that takes it."""
        self._is_local = self._failure is not None or self._disk_problem is not None
        self.stir()

    def _theirs(self) -> OrderSession | None:
        """The session as it stands elsewhere; None if there is none that could be gone on with."""
        known, told = self._current(), None if self._failure is None else self._failure.theirs
        if known is None or (told is not None and told.sessionID == known.sessionID and told.version > known.version):
            known = told
        return known if known is not None and known.is_open else None
