"""The saves of a cart: what of it is in the outbox, what the server has said to it, what it all stands on.

A save names the version of the session that the person saw: that of ``base``, the server's last word that was taken
into the cart, and on top of it what waits in the outbox for its answer (``leans``). One that is not sent yet is amended
in place, so that a till that is offline for a day keeps one command. One that is refused stays in the outbox and is
amended like that, so that what a conflict is about is on disk, with all that is put in meanwhile.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sync_client.cart import Items
from sync_client.errors import ClientError, CommandFailed
from sync_client.ids import new_id
from sync_client.outbox_keeper import OutboxKeeper, Seen
from sync_client.pending import OutboxEntry, OutboxState
from sync_client.refusals import current_of
from sync_client.saving import parsed
from sync_client.sent import Sent
from sync_core.domain import leaving, sessions
from sync_core.domain.document import Ref
from sync_core.domain.sessions import OrderSession

__all__ = ["Failure", "Saves"]

SAVES = (sessions.create, sessions.update)
LEAVES = (leaving.complete, leaving.assign_to_tab, leaving.logout, sessions.delete)


@dataclass(slots=True)
class Failure:
    """A save that was refused; the outbox keeps it under *key*, with what the cart holds now."""

    key: str
    problem: Mapping[str, Any]
    theirs: OrderSession | None

    @property
    def is_conflict(self) -> bool:
        return self.problem.get("status") == 409


class Saves:
    """Those of one person's cart at one till. *again*: the cart has to be put once more; *stir*: look at me."""

    def __init__(self, keeper: OutboxKeeper, *, again: Callable[[], None], stir: Callable[[], None]) -> None:
        self._keeper = keeper
        self._again = again
        self._stir = stir
        self.user = ""
        self.till: str | None = None
        self.session_id: str | None = None
        self.base: OrderSession | None = None
        """The server's state that the cart stands on, beneath what waits for its answer."""
        self.waiting: list[Sent] = []
        self.failure: Failure | None = None
        self._done: list[str] = []
        """Refused saves whose content is kept elsewhere by now; to be discarded behind the next write."""

    def forget(self) -> None:
        """The cart is that of no session."""
        self.session_id, self.base, self.failure = None, None, None
        self.waiting = []

    def stand_on(self, session: OrderSession | None) -> None:
        """The cart is that *session*'s, as the server has it."""
        self.forget()
        self.base, self.session_id = session, None if session is None else session.sessionID

    # -- what is in the outbox --------------------------------------------------------------------------

    def being_left(self) -> set[str]:
        """Sessions that are finished or left for later as soon as the outbox has got through."""
        return {_session_of(entry) for entry in self._leaves()}

    def _leaves(self) -> list[OutboxEntry]:
        return [e for e in self._keeper.entries.values() if e.is_pending and e.command.command in LEAVES]

    def kept(self) -> list[OutboxEntry]:
        """Saves of this person's carts, but those that are being left."""
        left = self.being_left()
        return [
            entry for entry in self._keeper.entries.values() if self._is_mine(entry) and _session_of(entry) not in left
        ]

    def _is_mine(self, entry: OutboxEntry) -> bool:
        given = entry.given
        is_save = entry.command.command in SAVES and getattr(given, "items", None) is not None
        return is_save and getattr(given, "userId", None) == self.user

    def restore(self) -> Items | None:
        """Go on with what this machine has not got through: what was in the cart; None where there is nothing."""
        for entry in self._leaves():
            self._keeper.handle(entry.key).then(lambda _: self._stir())
        saves = self.kept()
        if not saves:
            return None
        newest = max(saves, key=lambda entry: entry.command.created_ms)
        self.forget()
        self.session_id = _session_of(newest)
        for entry in saves:
            if entry.is_pending:
                self._follow(self._keeper.handle(entry.key))
        if newest.state is OutboxState.FAILED:
            problem = newest.problem or {}
            self.failure = Failure(newest.key, problem, parsed(current_of(problem).get(OrderSession.kind)))
        return tuple(getattr(newest.given, "items", ()))

    def seen(self) -> Seen:
        """The version that the cart stands on: what the server has told, and what waits here for its answer."""
        target = Ref(OrderSession.kind, self.session_id or "")
        waiting = [e for e in self._keeper.entries.values() if e.is_pending and e.command.target == target]
        first = waiting[0].command.guard if waiting else None
        version = first if first is not None else self.base.version if self.base is not None else 0
        return Seen(None, version + len(waiting), {entry.key: 1 for entry in waiting})

    # -- putting it there -------------------------------------------------------------------------------

    async def put(self, items: Items) -> None:
        """Return once the cart is on disk as it is. Raises CacheUnwritable, OutboxFull, Closed."""
        await self._put(items)
        done, self._done = self._done, []
        await self.discard(done)

    async def _put(self, items: Items) -> None:
        failure = self.failure
        if failure is not None:
            key = await self._amend(failure.key, items)
            if key is not None:
                failure.key = key
                return
            self.failure = None  # somebody has discarded it
        if self.waiting and await self._amend(self.waiting[-1].key, items):
            return
        whose = {"userId": self.user} | ({} if self.till is None else {"tillId": self.till})
        if self.session_id is not None:
            update = sessions.UpdateSession(sessionID=self.session_id, items=items, status="active", **whose)
            self._follow(await self._keeper.submit(sessions.update, update, seen=self.seen))
        elif items:
            self.session_id = new_id()
            create = sessions.CreateSession(sessionID=self.session_id, items=items, **whose)
            self._follow(await self._keeper.submit(sessions.create, create))

    async def _amend(self, key: str, items: Items) -> str | None:
        entry = self._keeper.entries.get(key)
        if entry is None:
            return None
        return await self._keeper.amend(key, entry.given.model_copy(update={"items": items}))

    def refused_keys(self) -> list[str]:
        """The refused saves of this cart."""
        return [entry.key for entry in self.kept() if _session_of(entry) == self.session_id]

    async def discard(self, keys: list[str]) -> None:
        """Let go of refused saves. Raises CacheUnwritable."""
        for key in keys:
            if key in self._keeper.entries:
                with suppress(ClientError):
                    await self._keeper.discard(key)

    # -- what the server says ---------------------------------------------------------------------------

    def _follow(self, sent: Sent) -> None:
        self.waiting.append(sent)
        sent.then(lambda answer: self._answered(sent, answer))

    def _answered(self, sent: Sent, answer: Mapping[str, Any] | Exception) -> None:
        if sent in self.waiting:  # else it is of a cart that was left since
            self.waiting.remove(sent)
            if isinstance(answer, CommandFailed):
                self._refused(sent, answer)
            elif not isinstance(answer, Exception):
                self._taken(answer)
        self._stir()

    def _taken(self, answer: Mapping[str, Any]) -> None:
        self.base = parsed(answer.get(OrderSession.kind)) or self.base
        if self.failure is not None:  # a later save was taken than the one that was refused
            self._done.append(self.failure.key)
            self.failure = None
            self._again()

    def _refused(self, sent: Sent, refusal: CommandFailed) -> None:
        if sent.key not in self._keeper.entries:
            self.base = None  # somebody has discarded it: the cart is what the server has
            return
        theirs = parsed(refusal.current.get(OrderSession.kind))
        if self.failure is not None:
            self._done.append(self.failure.key)
            self.failure.key = sent.key
        elif theirs is not None and self.base is not None and _says_the_same(self.base, theirs):
            self.base = theirs  # it was left for later, say: nobody has put in or taken out anything
            self._done.append(sent.key)
        else:
            self.failure = Failure(sent.key, refusal.problem, theirs)
        self._again()  # what is in the cart now has to be kept with it


def _session_of(entry: OutboxEntry) -> str:
    return str(getattr(entry.given, "sessionID", ""))


def _says_the_same(one: OrderSession, other: OrderSession) -> bool:
    return one.sessionID == other.sessionID and one.items == other.items and other.is_open
