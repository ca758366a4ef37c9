"""The saves of a cart: what of it is in the outbox, what the server has said to it, what it all stands on.

A save names the version of the session that the person saw: that of ``base``, the server's last word that was taken
into the cart, and on top of it what waits in the outbox for its answer (``leans``). One that is not sent yet is amended
in place, so that a till that is offline for a day keeps one command. One that is refused stays in the outbox and is
amended like that, so that what a conflict is about is on disk, with all that is put in meanwhile. It goes in the very
write that puts what stands for it there: a kill finds the one or the other, and no old cart comes back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sync_client.cart import Items, lines
from sync_client.collections import checked
from sync_client.errors import CommandFailed, InvalidCommand
from sync_client.ids import new_id
from sync_client.outbox_keeper import OutboxKeeper, Seen
from sync_client.pending import OutboxEntry
from sync_client.refusals import current_of
from sync_client.saving import parsed
from sync_client.sent import Sent
from sync_core.domain import leaving, sessions
from sync_core.domain.command import Command
from sync_core.domain.document import Ref
from sync_core.domain.fields import UserID
from sync_core.domain.sessions import OrderSession, TillID
from sync_core.problems import FieldError

__all__ = ["Failure", "Saves", "checked_names"]

SAVES = (sessions.create, sessions.update)
LEAVES = (leaving.complete, leaving.assign_to_tab, leaving.logout, sessions.delete)
_NAMES: Mapping[str, tuple[TypeAdapter[Any], str]] = {
    "user": (TypeAdapter(UserID), "1 to 128 characters; no commas, no control characters, and no space at the front"),
    "till": (TypeAdapter(TillID | None), "1 to 64 letters, digits, dots, underscores and hyphens; not dots alone"),
}
"""What ``open`` takes, by the server's own rules, and those for people."""


@dataclass(slots=True)
class Failure:
    """A save that was refused; the outbox keeps it under *key*, with what the cart holds now."""

    key: str
    problem: Mapping[str, Any]
    theirs: OrderSession | None

    @property
    def is_conflict(self) -> bool:
        return self.problem.get("status") == 409


def checked_names(user: str, till: str | int | None) -> tuple[str, str | None]:
    """As documents spell them. Raises InvalidCommand with what is possible."""
    faults = []
    for name, (rule, possible) in _NAMES.items():
        try:
            rule.validate_python({"user": user, "till": till}[name])
        except ValidationError:
            faults.append(FieldError(name, possible))
    if faults:
        raise InvalidCommand("session.open", faults)
    return str(user), None if till is None else str(till)


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
        self._ended: set[str] = set()
        """Refused saves, by key, whose content is kept elsewhere by now; they go with the next write."""

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

    def follow_leaves(self) -> None:
        """Stir when the server says something to those."""
        for entry in self._leaves():
            self._keeper.handle(entry.key).then(lambda _: self._stir())

    def kept(self) -> list[OutboxEntry]:
        """Saves of this person's carts, but those that are being left, and those that go with the next write."""
        left = self.being_left()
        mine = [entry for entry in self._keeper.entries.values() if self._is_mine(entry)]
        return [entry for entry in mine if _session_of(entry) not in left and entry.key not in self._ended]

    def _is_mine(self, entry: OutboxEntry) -> bool:
        given = entry.given
        is_save = entry.command.command in SAVES and getattr(given, "items", None) is not None
        return is_save and getattr(given, "userId", None) == self.user

    def restore(self) -> Items | None:
        """Go on with what this machine has not got through: what was in the cart; None where there is nothing."""
        self.follow_leaves()
        saves = self.kept()
        if not saves:
            return None
        newest = max(saves, key=_age)
        self.forget()
        self.session_id = _session_of(newest)
        for entry in saves:
            if entry.is_pending:
                self._follow(self._keeper.handle(entry.key))
        items = _items_of(newest)
        refused = [entry for entry in saves if not entry.is_pending and self._is_within(entry, items)]
        if refused:
            last = max(refused, key=_age)
            problem = last.problem or {}
            self.failure = Failure(last.key, problem, parsed(current_of(problem).get(OrderSession.kind)))
            self._ended |= {entry.key for entry in refused} - {last.key}
        return items

    def _is_within(self, entry: OutboxEntry, items: Items) -> bool:
        """Whether it is a save of this cart, from when nothing was in it that is not among *items*."""
        return _session_of(entry) == self.session_id and lines(_items_of(entry)).keys() <= lines(items).keys()

    def seen(self) -> Seen:
        """The version that the cart stands on: what the server has told, and what waits here for its answer."""
        target = Ref(OrderSession.kind, self.session_id or "")
        waiting = [e for e in self._keeper.entries.values() if e.is_pending and e.command.target == target]
        first = waiting[0].command.guard if waiting else None
        version = first if first is not None else self.base.version if self.base is not None else 0
        return Seen(None, version + len(waiting), {entry.key: 1 for entry in waiting})

    # -- putting it there -------------------------------------------------------------------------------

    async def put(self, items: Items) -> None:
        """Return once the cart is on disk as it is. Raises CacheUnwritable, OutboxFull, InvalidCommand, Closed."""
        failure = self.failure
        if failure is not None:
            amended = failure.key
            key = await self._amend(amended, items)
            if key is not None:
                if amended in self._ended:  # meanwhile a later one has its answer
                    self._ended.add(key)
                else:
                    failure.key = key
                return
            if amended not in self._ended:
                self.failure = None  # somebody has discarded it
        if self.waiting and await self._amend(self.waiting[-1].key, items):
            return
        whose = {"userId": self.user} | ({} if self.till is None else {"tillId": self.till})
        if self.session_id is not None:
            given = {"sessionID": self.session_id, "items": items, "status": "active", **whose}
            await self._submit(sessions.update, given, seen=self.seen)
        elif items:
            self.session_id = new_id()
            try:
                await self._submit(sessions.create, {"sessionID": self.session_id, "items": items, **whose})
            except BaseException:
                if all(_session_of(entry) != self.session_id for entry in self._keeper.entries.values()):
                    self.session_id = None  # it is still to be begun
                raise
        else:
            await self.drop()

    async def _submit(self, command: Command, given: dict[str, Any], *, seen: Callable[[], Seen] | None = None) -> None:
        """Raises InvalidCommand for items that a newer server has taken, and this program's rules do not."""
        sent = await self._keeper.submit(command, checked(command, given), seen=seen, drop=self._to_drop())
        self._follow(sent)

    async def _amend(self, key: str, items: Items) -> str | None:
        entry = self._keeper.entries.get(key)
        if entry is None:
            return None
        return await self._keeper.amend(key, entry.given.model_copy(update={"items": items}), drop=self._to_drop())

    def _to_drop(self) -> list[str]:
        self._ended &= self._keeper.entries.keys()
        return list(self._ended)

    async def drop(self) -> None:
        """Let go of refused saves whose content is kept elsewhere, in one write. Raises CacheUnwritable, Closed."""
        if keys := self._to_drop():
            await self._keeper.drop(keys)

    def left(self) -> None:
        """The session is being left. Should the server refuse that, what was refused before is still there."""
        self.follow_leaves()
        self.forget()
        self._ended.clear()

    def end_failure(self) -> None:
        """What becomes of the refused save is settled: it goes with the next write."""
        if self.failure is not None:
            self._ended.add(self.failure.key)
            self.failure = None

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
            self.end_failure()
            self._again()

    def _refused(self, sent: Sent, refusal: CommandFailed) -> None:
        if sent.key not in self._keeper.entries:
            self.base = None  # somebody has discarded it: the cart is what the server has
            return
        theirs = parsed(refusal.current.get(OrderSession.kind))
        if self.failure is not None:
            self._ended.add(self.failure.key)
            self.failure.key = sent.key
        elif theirs is not None and self.base is not None and _says_the_same(self.base, theirs):
            self.base = theirs  # it was left for later, say: nobody has put in or taken out anything
            self._ended.add(sent.key)
        else:
            self.failure = Failure(sent.key, refusal.problem, theirs)
        self._again()  # what is in the cart now has to be kept with it


def _session_of(entry: OutboxEntry) -> str:
    return str(getattr(entry.given, "sessionID", ""))


def _age(entry: OutboxEntry) -> tuple[int, int]:
    return entry.command.created_ms, entry.place


def _items_of(entry: OutboxEntry) -> Items:
    return tuple(getattr(entry.given, "items", ()))


def _says_the_same(one: OrderSession, other: OrderSession) -> bool:
    return one.sessionID == other.sessionID and one.items == other.items and other.is_open
