"""``client.session``: a person's cart at this till, saved as it changes.

    async with SyncClient(url, replica=SESSION_KINDS, subject="ann") as client:
        cart = client.session
        await cart.open(till="till-1")            # goes on where ann was, at whichever till
        cart.add(sku="COLA", name="كولا", unitPrice="2.50")
        await cart.complete(payment={"method": "cash"})

A change is in memory at once, in the outbox, on this machine's disk, half a second later at most, and from there it
goes to the server. A kill of the program costs that half second; after ``save`` it costs nothing.

Beside another till: the server refuses a save that does not know of what the other has done, and both are kept, what is
here on this machine's disk, what is there at the server. A person says what becomes of them (``resolve``). How that is
made sure of is in saves.py. Source: seed 004, domain-more.md C.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Literal, get_args

from sync_client.cart import Items, checked_items, merged
from sync_client.collections import checked
from sync_client.editing import EditedCart
from sync_client.errors import CacheUnwritable, ClientError, Closed, InvalidCommand, OutboxFull
from sync_client.known_sessions import KnownSessions
from sync_client.logs import get_logger
from sync_client.outbox_keeper import OutboxKeeper
from sync_client.replica import Replica
from sync_client.saves import Saves, checked_names
from sync_client.saving import SaveState, SessionConflict, SessionView
from sync_client.sent import Sent
from sync_core.domain import leaving
from sync_core.domain.command import Command
from sync_core.domain.items import Item
from sync_core.domain.sessions import OrderSession, SessionStatus
from sync_core.problems import FieldError

__all__ = ["DEBOUNCE_S", "SESSION_KINDS", "Session"]

SESSION_KINDS = ("order_sessions", "session_slots", "tabs", "transactions")
"""What a client keeps (``replica=SESSION_KINDS``) to have a ``session``."""
DEBOUNCE_S = 0.5
"""A change waits so long for others, to be written together with them."""
RETRY_S = 5.0
CLOSE_S = 0.2
Choice = Literal["mine", "theirs", "both"]
CHOICES = get_args(Choice)
UNSAVED = (CacheUnwritable, OutboxFull, InvalidCommand)
"""Why a cart cannot be kept as it is."""

log = get_logger()


class Session:
    """See the module. One for each client; ``open`` it for a person. All of it belongs to the client's event loop."""

    def __init__(
        self,
        replica: Replica,
        keeper: OutboxKeeper,
        *,
        check: Callable[[], None],
        caught_up: Callable[[], Awaitable[None]],
        user: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._replica = replica
        self._keeper = keeper
        self._check = check
        self._caught_up = caught_up
        self._default_user = user
        self._clock = clock
        self._cart = EditedCart(check=self._check_open, stir=self.stir, clock=clock)
        self._carts = 0
        """So many were left, or put away for another person's."""
        self._saves = Saves(keeper, again=lambda: self._cart.edited(self._cart.items), stir=self._told)
        self._known = KnownSessions(replica, self._saves)
        self._is_local = False
        self._unsaved: Mapping[str, Any] | None = None
        """Why what was changed is not kept."""
        self._opening = asyncio.Lock()
        self._lock = asyncio.Lock()
        """Held while the cart is written or left. Whose it is, and which session's, changes under it."""
        self._bell = asyncio.Event()
        self._moved = asyncio.Event()
        self._has_ended = False

    # -- looking ----------------------------------------------------------------------------------------

    @property
    def items(self) -> Items:
        """What is in the cart; each item has its ``lineID``."""
        return self._cart.items

    @property
    def is_kept(self) -> bool:
        """Whether all of it is on this machine's disk, or at the server."""
        return self._cart.is_kept

    @property
    def state(self) -> SaveState:
        failure = self._saves.failure
        if failure is not None or self._unsaved is not None:
            if self._is_local:
                return SaveState.LOCAL
            return SaveState.CONFLICT if failure is not None and failure.is_conflict else SaveState.FAILED
        if not self.is_kept:
            return SaveState.CHANGED
        return SaveState.WAITING if self._saves.waiting else SaveState.SAVED

    @property
    def conflict(self) -> SessionConflict | None:
        """What is here and what is there, until somebody says what becomes of it."""
        failure = self._saves.failure
        if failure is None or not failure.is_conflict:
            return None
        return SessionConflict(self._known.kept_nowhere_else(self.items), self._known.elsewhere(), failure.problem)

    @property
    def other_till(self) -> str | None:
        """Where the session was last changed, if that is another till."""
        till = None if self._saves.base is None else self._saves.base.tillId
        return None if till in (None, self._saves.till) else till

    @property
    def view(self) -> SessionView:
        """All of this at once."""
        saves = self._saves
        problem = self._unsaved if saves.failure is None else saves.failure.problem
        return SessionView(
            self.items, self.state, self.is_kept, saves.session_id, self.other_till, self.conflict, problem
        )  # fmt: skip

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

        *user* "": the client's ``subject``. An earlier person's cart is saved first. Nothing can be put in meanwhile.
        Raises InvalidCommand for names that are none, ClientError where there is no *user*, and before the start, and
        what ``save`` raises.
        """
        self._check()
        whose = user or self._default_user
        if not whose:
            raise ClientError("say whose session: open(user=...), or make the client with subject=...")
        names = checked_names(whose, till)
        async with self._opening:
            await self._put_away()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._caught_up()
            self._saves.user, self._saves.till = names
            self._restore()
            self.stir()
            return self.view

    async def _put_away(self) -> None:
        """The cart is nobody's, with all that was put in until then kept."""
        while self._saves.user:
            await self.save()
            async with self._lock:
                if self.is_kept:
                    self._saves.user = ""
                    self._carts += 1
                    self._forget()
        self.stir()

    def _forget(self) -> None:
        """The cart is empty, and of nobody's session."""
        self._saves.forget()
        self._cart.show(())
        self._is_local = False

    def _restore(self) -> None:
        """What this machine has not got through, else what the server has."""
        items = self._saves.restore()
        if items is not None:
            self._cart.show(items)
            return
        found = self._known.current() or self._known.left()
        self._adopt(found)
        if found is not None and found.status is SessionStatus.PENDING_LOGOUT:
            self._cart.edited(self.items)  # that it is active again has to be saved

    # -- editing ----------------------------------------------------------------------------------------

    def add(self, **item: Any) -> str:
        """Put an item in (``sku, name, unitPrice``, ``quantity`` or 1, and whatever else); the id of its line.

        Raises InvalidCommand, ClientError.
        """
        return self._cart.add(item)

    def change(self, line: str, **fields: Any) -> None:
        """Change fields of a line.

        Raises InvalidCommand, ClientError where there is no such line, or while it is being left with the cart.
        """
        self._cart.change(line, fields)

    def remove(self, line: str) -> None:
        """Take a line out. Raises ClientError where there is none, or while it is being left with the cart."""
        self._cart.remove(line)

    def replace(self, items: Iterable[Item | Mapping[str, Any]]) -> None:
        """Other items in place of all. Raises InvalidCommand, ClientError."""
        self._cart.replace(items)

    def _check_open(self) -> None:
        self._check()
        if not self._saves.user:
            raise ClientError("whose session is it? await open() first")

    async def save(self) -> None:
        """Return once everything up to now is on this machine's disk.

        Raises CacheUnwritable, OutboxFull, Closed, and InvalidCommand for a cart by the rules of a newer server.
        """
        self._check()
        wanted = self._cart.edits
        while self._cart.kept < wanted:
            await self._write()

    async def _write(self) -> None:
        cart = self._cart
        async with self._lock:
            if cart.is_kept:
                return
            edits = cart.edits
            cart.changed_s = self._clock()  # of what comes from here on
            try:
                await self._saves.put(cart.items)
            except UNSAVED as exc:
                kind = "invalid" if isinstance(exc, InvalidCommand) else "disk"
                self._unsaved = {"type": kind, "title": type(exc).__name__, "status": 0, "detail": str(exc)}
                self.stir()
                raise
            cart.kept, self._unsaved = edits, None
            self._is_local = self._is_local and self._saves.failure is not None
            self.stir()

    # -- leaving ----------------------------------------------------------------------------------------

    async def complete(self, payment: Mapping[str, Any] | None = None) -> Sent:
        """Have it paid: the cart is empty, the session is completed, its items are a transaction.

        Where the server refuses, ``done()`` of what this gives raises, and the cart is back. Raises ClientError while
        there is a conflict or nothing to leave, InvalidCommand, and what ``save`` raises; so do the others. Left all
        the same if the caller is cancelled while it is written.
        """
        return await self._leave(leaving.complete, {} if payment is None else {"payment": payment})

    async def assign_to_tab(self, tab: str | int) -> Sent:
        """Put it on a tab; the cart is empty."""
        return await self._leave(leaving.assign_to_tab, {"tabId": tab})

    async def logout(self) -> Sent:
        """Leave it for later: it waits at the server, for any till. The cart is empty."""
        return await self._leave(leaving.logout, {})

    async def _leave(self, command: Command, fields: dict[str, Any]) -> Sent:
        carts = self._carts
        while True:
            await self.save()
            async with self._lock:
                self._check_is_still(carts)
                if self.is_kept:  # to the last item that was put in meanwhile
                    return await self._leave_as_it_is(command, fields)

    def _check_is_still(self, carts: int) -> None:
        """Of that number, as when it was asked for."""
        if self._carts != carts:
            raise ClientError("that cart was left already")

    async def _leave_as_it_is(self, command: Command, fields: dict[str, Any]) -> Sent:
        """Under the lock. What is put in while it is written is in the next cart."""
        saves, cart = self._saves, self._cart
        if saves.failure is not None:
            raise ClientError("the session is not as the server has it: resolve() that first")
        if saves.session_id is None:
            raise ClientError("there is no session")
        given = checked(command, {"sessionID": saves.session_id, **fields})
        cart.leaving, sent = cart.items, None
        try:
            sent = await self._keeper.submit(command, given, seen=saves.seen if command.guarded else None)
            return sent
        finally:
            if sent is not None or saves.session_id in saves.being_left():  # who asked for it was cancelled meanwhile
                saves.left()  # who is told of a refusal finds the cart as it was
                cart.next()
                self._carts += 1
                self._is_local = False
            cart.leaving = None
            self.stir()

    # -- conflicts and failures -------------------------------------------------------------------------

    async def resolve(self, choice: Choice) -> None:
        """Say what becomes of what is here and what is there; *both* keeps the lines of both.

        Raises ClientError where there is nothing to resolve, InvalidCommand for another choice, and where both are too
        much together, and what ``save`` raises.
        """
        if choice not in CHOICES:
            raise InvalidCommand("session.resolve", [FieldError("choice", f"has to be one of {', '.join(CHOICES)}")])
        carts, is_resolved = self._carts, False
        while not is_resolved:
            while self._saves.waiting:  # what comes behind the refused one has its answer soon
                await self._moves()
            async with self._lock:
                self._check_is_still(carts)
                if not self._saves.waiting:  # nor was anything being written
                    self._resolve(choice)
                    is_resolved = True
        await self.save()
        await self._saves.drop()
        self.stir()

    def _resolve(self, choice: Choice) -> None:
        saves = self._saves
        if saves.failure is None:
            raise ClientError("there is nothing to resolve")
        theirs, mine, base = self._known.elsewhere(), self._known.kept_nowhere_else(self.items), saves.base
        there = () if theirs is None else theirs.items
        was = base.items if base is not None and theirs is not None and base.sessionID == theirs.sessionID else ()
        wanted = there
        if choice != "theirs":
            wanted = checked_items(mine if choice == "mine" else merged(was, mine, there))
        saves.end_failure()
        saves.stand_on(theirs)
        self._is_local, self._unsaved = False, None
        self._cart.show(wanted)
        if choice != "theirs":
            self._cart.edited(self.items)

    async def retry(self) -> None:
        """Send once more what was refused, as it is here. Raises what ``resolve`` raises."""
        if self._saves.failure is not None:
            await self.resolve("mine")
        await self.save()

    def go_on_locally(self) -> None:
        """Show no failure any more: the cart goes on with what is here, on this machine's disk if that takes it."""
        self._is_local = self._saves.failure is not None or self._unsaved is not None
        self.stir()

    # -- what the server has ----------------------------------------------------------------------------

    def _look(self) -> None:
        """Follow what others do, while there is nothing here that the server does not have."""
        saves = self._saves
        if not saves.user or self._replica.due or saves.waiting or saves.failure or not self.is_kept:
            return
        if self._cart.leaving is not None:
            return  # it is left as it was seen
        if saves.kept():
            self._restore()  # something was refused whose session seemed to be left
        else:
            self._adopt(self._known.current())

    def _told(self) -> None:
        """The server has said something; at once, so that nobody sees a moment in between."""
        self._look()
        self.stir()

    def _adopt(self, session: OrderSession | None) -> None:
        """The cart is that session's, or empty."""
        base = self._saves.base
        if session is None:
            self._forget()
        elif base is None or (session.sessionID, session.version) != (base.sessionID, base.version):
            self._saves.stand_on(session)
            self._cart.show(session.items)

    # -- running ----------------------------------------------------------------------------------------

    def stir(self) -> None:
        """Something may be another: here, in the outbox, or at the server."""
        self._bell.set()
        self._moved.set()

    async def _moves(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    def end(self) -> None:
        """Nothing more will be shown."""
        self._has_ended = True
        self.stir()

    async def aclose(self) -> None:
        """Keep what was put in last. Idempotent."""
        with suppress(ClientError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.save()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            self._look()
            if self.is_kept:
                continue
            await asyncio.sleep(max(self._cart.changed_s + DEBOUNCE_S - self._clock(), 0))
            try:
                await self._write()
            except Closed:
                return
            except UNSAVED as exc:
                log.warning("session_unsaved", error=str(exc))
                await asyncio.sleep(RETRY_S)
                self._bell.set()
