"""Keeps the outbox in memory, on disk and in the picture that screens show, one change at a time.

On disk first, then in memory and in the picture, in one step of the event loop. What the server said is taken in
before the command that it answers is let go of: a kill in between sends the command again, and the server, which
knows its key, says the same again.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from sync_client import guards
from sync_client.conflicts import Conflict, ConflictHook, ask, current_version
from sync_client.errors import CacheUnwritable, ClientError, Closed, CommandFailed, OutboxFull
from sync_client.ids import new_id
from sync_client.journal import Journal
from sync_client.logs import get_logger
from sync_client.pending import OutboxEntry, OutboxState, PendingCommand
from sync_client.records import Arrival
from sync_client.refusals import DISCARDED, current_of, damaged, event_of, kept_of
from sync_client.sent import Sent
from sync_client.transport import Reply
from sync_core.domain.command import Command, CommandInput, Domain
from sync_core.domain.document import Document, Ref

__all__ = ["MAX_BYTES", "MAX_COMMANDS", "OutboxCounts", "OutboxKeeper", "Picture", "Seen"]

MAX_COMMANDS = 10_000
MAX_BYTES = 64 * 1024 * 1024

log = get_logger()
T = TypeVar("T")


class Seen(NamedTuple):
    """A document as the screen shows it. *leans*: which waiting commands (by key) have added how many versions."""

    document: Document | None
    version: int
    leans: Mapping[str, int]


class Picture(Protocol):
    """What screens show: the documents, and on top of them what waiting commands make of them."""

    def set_pending(self, commands: Sequence[PendingCommand]) -> None:
        """These wait now, in this order."""

    async def take_answer(
        self, documents: Mapping[str, Any], *, pending: Sequence[PendingCommand], arrivals: Sequence[Arrival] = ()
    ) -> None:
        """Commit the *documents* of an answer or a refusal and *arrivals*; then show them, with *pending*, in one step.

        Raises CacheUnwritable with nothing changed.
        """

    def seen(self, ref: Ref) -> Seen: ...


@dataclass(slots=True)
class OutboxCounts:
    """Counted since the start."""

    requests: int = 0
    applied: int = 0
    refused: int = 0
    rebased: int = 0


class OutboxKeeper:
    """The sender's host. Made before anything is open; ``open`` it before anything else."""

    def __init__(
        self,
        domain: Domain,
        *,
        picture: Callable[[], Picture],
        post: Callable[[PendingCommand], Awaitable[Reply]],
        may_send: Callable[[], bool],
        wall_ms: Callable[[], int],
        note: Callable[[str], None],
    ) -> None:
        self._picture = picture
        self._post = post
        self._may_send = may_send
        self._wall_ms = wall_ms
        self._journal = Journal(domain, note=note)
        self._note = note
        self._lock = asyncio.Lock()
        self._handles: dict[str, Sent] = {}
        self._unsettled: set[str] = set()
        self._has_stray = False
        self.hook: ConflictHook | None = None
        self.counts = OutboxCounts()
        self._moved = asyncio.Event()
        self.wake: Callable[[], None] = lambda: None
        """Called after every change."""

    @property
    def entries(self) -> Mapping[str, OutboxEntry]:
        """All of them by key, in order."""
        return self._journal.entries

    @property
    def is_closed(self) -> bool:
        return self._journal.is_closed

    # -- life -------------------------------------------------------------------------------------------

    async def open(self, path: Path | None) -> None:
        """Read what an earlier run has left, and show it; in memory only where *path* is None.

        Raises CacheUnwritable; it is tried again with every change, and by ``ready``.
        """
        await self._journal.open(path)
        self._opened()

    async def ready(self) -> None:
        """Raises CacheUnwritable while the outbox cannot be opened."""

        async def nothing() -> None: ...

        await self._alone(nothing)

    def _opened(self) -> None:
        self._unsettled = {key for key, entry in self.entries.items() if entry.state is OutboxState.IN_FLIGHT}
        self._picture().set_pending(self.pending)

    async def tell(self) -> None:
        """Say what should be known of the file. Raises CacheUnwritable."""
        file = self._journal.file
        if file is None:
            return
        for path in file.set_aside:
            self._note(f"an outbox could not be read: what was given then and not sent is in {path}")
        if file.unknown:
            self._note(f"{file.unknown} commands of another version of this program wait in {file.path}")
        if (kept_as := file.newly_set_aside) is not None:
            log.error("outbox_set_aside", path=str(kept_as))
            event_id = f"sync_failed-{kept_as.name}"
            event = event_of(None, damaged(str(kept_as)), event_id=event_id, now_ms=self._wall_ms())
            await self._picture().take_answer({}, pending=self.pending, arrivals=[event])
            file.newly_set_aside = None

    async def aclose(self) -> None:
        """Let go of the file, after what is being written is. Idempotent."""
        for handle in self._handles.values():
            handle.settle(Closed("the client was closed; the command is kept, and sent by the next one"))
        self._handles.clear()
        await self._journal.aclose()
        self._stir()

    async def _alone(self, work: Callable[[], Awaitable[T]]) -> T:
        """One change at a time, and finished even if the caller is cancelled: disk and memory must not part."""
        async with self._lock:
            if self.is_closed:
                raise Closed("the client is closed")
            task = asyncio.ensure_future(self._with_file(work))
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                await asyncio.wait([task])
                raise
            finally:
                self._stir()

    async def _with_file(self, work: Callable[[], Awaitable[T]]) -> T:
        if self._journal.is_missing:
            await self._journal.open_again()
            self._opened()
        return await work()

    def _stir(self) -> None:
        self._moved.set()
        self.wake()

    async def moves(self) -> None:
        """Wait for the next change."""
        self._moved.clear()
        await self._moved.wait()

    # -- the picture ------------------------------------------------------------------------------------

    async def _change(
        self,
        documents: Mapping[str, Any],
        *,
        put: Sequence[OutboxEntry] = (),
        drop: Iterable[str] = (),
        arrivals: Sequence[Arrival] = (),
        lazily: bool = False,
    ) -> None:
        """Take in what the server said, show what it comes to, write it down. Raises CacheUnwritable."""
        pending = _commands(self._journal.after(put, drop))
        await self._picture().take_answer(documents, pending=pending, arrivals=arrivals)
        try:
            await self._journal.write(put=put, drop=drop, lazily=lazily)
        except CacheUnwritable:
            self._picture().set_pending(self.pending)
            raise

    # -- looking ----------------------------------------------------------------------------------------

    @property
    def pending(self) -> list[PendingCommand]:
        """What has no answer yet, in order."""
        return _commands(self.entries.values())

    @property
    def in_flight(self) -> str | None:
        """The key of the one that was sent and has no answer; it is the first.

        None while there may be another one whose effect is still to come: what was discarded on its way.
        """
        if self._has_stray:
            return None
        first = next((entry for entry in self.entries.values() if entry.is_pending), None)
        return first.key if first is not None and first.state is OutboxState.IN_FLIGHT else None

    @property
    def unsettled(self) -> bool:
        """Whether an earlier run has sent commands whose fate is not known yet."""
        return bool(self._unsettled) or self._journal.is_missing

    def entry(self, key: str) -> OutboxEntry:
        """Raises ClientError."""
        entry = self.entries.get(key)
        if entry is None:
            raise ClientError(f"there is no command with the key {key[:80]} in the outbox")
        return entry

    # -- what programs and people do --------------------------------------------------------------------

    async def submit(
        self,
        command: Command,
        given: CommandInput,
        *,
        if_match: int | None = None,
        seen: Callable[[], Seen] | None = None,
        drop: Iterable[str] = (),
    ) -> Sent:
        """Put it at the end of the queue and show its effect. Raises OutboxFull, CacheUnwritable, Closed.

        Ids that are to be made are made here. *if_match* is the version that the target has to be at; a guarded
        command has the one that is shown, or that of *seen*, asked at the moment when it is queued. The refused ones
        with the keys *drop*, which it stands for, are forgotten in the same write. Taken if the caller is cancelled
        meanwhile.
        """
        given, drop = command.complete(given, new_id), list(drop)
        return await self._alone(lambda: self._submit(command, given, if_match, seen, drop))

    async def _submit(
        self,
        command: Command,
        given: CommandInput,
        if_match: int | None,
        seen: Callable[[], Seen] | None,
        drop: Sequence[str],
    ) -> Sent:
        guard, leans = self._guard(command, given, if_match) if seen is None else seen()[1:]
        entry = self._new_entry(PendingCommand(_new_key(), command, given, self._wall_ms(), guard), leans)
        journal, gone = self._journal, self._refused_of(drop)
        size_bytes = journal.size_bytes + journal.size_of(entry) - sum(map(journal.size_of, gone))
        if len(journal.entries) - len(gone) >= MAX_COMMANDS or size_bytes > MAX_BYTES:
            raise OutboxFull(f"{len(self.entries)} commands are in the outbox; connect, or discard some")
        await journal.write(put=[entry], drop=[one.key for one in gone])
        return self._show(entry)

    def _refused_of(self, keys: Iterable[str]) -> list[OutboxEntry]:
        """Those that were refused and are still there."""
        found = [self.entries[key] for key in keys if key in self.entries]
        return [entry for entry in found if not entry.is_pending]

    def _new_entry(self, command: PendingCommand, leans: Mapping[str, int]) -> OutboxEntry:
        """At the end of the queue."""
        last = next(reversed(list(self.entries.values())), None)
        return OutboxEntry(last.place + 1 if last is not None else 1, command, leans=leans)

    def _show(self, entry: OutboxEntry) -> Sent:
        handle = self._handles[entry.key] = Sent(entry.command)
        self._picture().set_pending(self.pending)
        return handle

    def _guard(
        self, command: Command, given: CommandInput, if_match: int | None
    ) -> tuple[int | None, Mapping[str, int]]:
        """The version for If-Match, and which waiting commands it counts in."""
        ref = command.target_ref(given)
        if ref is None or (if_match is None and not command.guarded):
            return if_match, {}
        seen = self._picture().seen(ref)
        if seen.document is None or if_match not in (None, seen.version):
            return if_match, {}
        return seen.version, seen.leans

    async def amend(self, key: str, given: CommandInput, *, drop: Iterable[str] = ()) -> str | None:
        """Give a command another input, of the same ids: one that was not sent yet, or that failed and stays so.

        Its new key; None if it is neither, or not there any more. *drop* as for ``submit``. Raises CacheUnwritable,
        Closed.
        """
        drop = list(drop)
        return await self._alone(lambda: self._amend(key, given, drop))

    async def _amend(self, key: str, given: CommandInput, drop: Sequence[str]) -> str | None:
        entry = self.entries.get(key)
        if entry is None or entry.state is OutboxState.IN_FLIGHT:
            return None
        command = replace(entry.command, key=_new_key(), given=given, created_ms=self._wall_ms())
        leaning = guards.renamed(self.entries.values(), key, command.key)
        gone = [one.key for one in self._refused_of(drop)]
        await self._journal.write(put=[replace(entry, command=command), *leaning], drop=[key, *gone])
        self._rename(key, command.key)
        self._picture().set_pending(self.pending)
        return command.key

    def handle(self, key: str) -> Sent:
        """What a program of an earlier run held of a command that waits. Raises ClientError."""
        return self._handles.setdefault(key, Sent(self.entry(key).command))

    async def retry(self, key: str) -> Sent:
        """Give a failed command once more, as a new one. Raises ClientError, CacheUnwritable."""
        return await self._alone(lambda: self._retry(key))

    async def _retry(self, key: str) -> Sent:
        entry = self.entry(key)
        if entry.is_pending:
            raise ClientError(f"{entry.name} has not failed; it is {entry.state.value.replace('_', ' ')}")
        command = entry.command
        guard, leans = (None, {}) if command.guard is None else self._guard_anew(command)
        new = self._new_entry(
            replace(command, key=_new_key(), created_ms=self._wall_ms(), guard=guard), leans
        )  # fmt: skip
        await self._journal.write(put=[new], drop=[key])
        return self._show(new)

    def _guard_anew(self, command: PendingCommand) -> tuple[int | None, Mapping[str, int]]:
        """Of one that is given again: what the person sees now."""
        guard, leans = self._guard(replace(command.command, guarded=True), command.given, None)
        return (command.guard, {}) if guard is None else (guard, leans)

    async def drop(self, keys: Iterable[str]) -> None:
        """Forget those of *keys* that were refused, all in one write. Raises CacheUnwritable, Closed."""
        keys = list(keys)

        async def work() -> None:
            await self._journal.write(drop=[entry.key for entry in self._refused_of(keys)])

        await self._alone(work)

    async def discard(self, key: str) -> None:
        """Forget a command. One that was sent may have taken effect. Raises ClientError, CacheUnwritable."""
        await self._alone(lambda: self._discard(key))

    async def _discard(self, key: str) -> None:
        entry = self.entry(key)
        await self._journal.write(put=guards.failed(self.entries.values(), key), drop=[key])
        self._has_stray = self._has_stray or entry.state is OutboxState.IN_FLIGHT
        self._picture().set_pending(self.pending)
        self._settle(key, CommandFailed(dict(DISCARDED)))

    def _settle(self, key: str, answer: Mapping[str, Any] | Exception) -> None:
        self._know(key)
        if (handle := self._handles.pop(key, None)) is not None:
            handle.settle(answer)

    def _know(self, key: str) -> None:
        """The fate of a command is known."""
        if key in self._unsettled:
            self._unsettled.remove(key)
            self._picture().set_pending(self.pending)  # who looks at what is fresh has something to look at

    # -- see SenderHost ---------------------------------------------------------------------------------

    def next(self) -> OutboxEntry | None:
        if self.is_closed or not self._may_send():
            return None
        return next((entry for entry in self.entries.values() if entry.is_pending), None)

    async def send(self, command: PendingCommand) -> Reply:
        self.counts.requests += 1
        return await self._post(command)

    async def sending(self, entry: OutboxEntry, *, now_ms: int) -> OutboxEntry | None:
        first_ms = entry.first_sent_ms if entry.first_sent_ms is not None else now_ms
        attempts = entry.attempts + 1
        return await self._alone(
            lambda: self._mark(entry.key, state=OutboxState.IN_FLIGHT, first_sent_ms=first_ms, attempts=attempts)
        )

    async def not_taken(self, entry: OutboxEntry) -> None:
        await self._alone(lambda: self._mark(entry.key, state=OutboxState.QUEUED, first_sent_ms=None))

    async def _mark(self, key: str, **changes: Any) -> OutboxEntry | None:
        """The command with these *changes*; None if it was discarded meanwhile."""
        if key not in self.entries:
            return None
        entry = replace(self.entries[key], **changes)
        await self._journal.write(put=[entry])
        return entry

    async def answered(self, entry: OutboxEntry, document: Mapping[str, Any]) -> None:
        await self._alone(lambda: self._answered(entry, document))

    async def _answered(self, entry: OutboxEntry, document: Mapping[str, Any]) -> None:
        put = guards.applied(self.entries.values(), entry.key, document)
        await self._change(document, put=put, drop=[entry.key], lazily=True)
        self._has_stray = False  # what was sent before this one stands before it in the log
        self.counts.applied += 1
        self._settle(entry.key, document)

    async def refused(self, entry: OutboxEntry, problem: Mapping[str, Any]) -> None:
        await self._alone(lambda: self._refused(entry, problem))

    async def _refused(self, entry: OutboxEntry, problem: Mapping[str, Any]) -> None:
        if entry.key not in self.entries:
            return  # discarded meanwhile
        failed = replace(entry, state=OutboxState.FAILED, problem=kept_of(problem))
        event = event_of(entry, problem, event_id=f"sync_failed-{entry.key}", now_ms=self._wall_ms())
        put = [failed, *guards.failed(self.entries.values(), entry.key)]
        await self._change(current_of(problem), put=put, arrivals=[event])
        self.counts.refused += 1
        log.warning("command_failed", command=entry.name, status=problem.get("status"), type=problem.get("type"))
        self._settle(entry.key, CommandFailed(dict(problem)))

    async def rebased(self, entry: OutboxEntry, problem: Mapping[str, Any]) -> bool:
        if self.hook is None:
            return False
        target, current = entry.command.target, current_of(problem)
        shown = None if target is None else self._picture().seen(target).document
        given = await ask(self.hook, entry, Conflict(entry.name, entry.given, problem, current, shown))
        if given is None:
            return False
        await self._alone(lambda: self._rebase(entry, given, current))
        return True

    async def _rebase(self, entry: OutboxEntry, given: CommandInput, current: Mapping[str, Any]) -> None:
        old = entry.command
        if old.key not in self.entries:
            return  # discarded meanwhile
        guard = old.guard
        if guard is not None and (version := current_version(old, current)) is not None:
            guard = version
        given = old.command.complete(given, new_id)
        command = PendingCommand(_new_key(), old.command, given, self._wall_ms(), guard)
        new = OutboxEntry(entry.place, command, rebases=entry.rebases + 1)
        leaning = guards.renamed(self.entries.values(), old.key, command.key)
        await self._change(current, put=[new, *leaning], drop=[old.key])
        self.counts.rebased += 1
        self._know(old.key)
        self._rename(old.key, command.key)

    def _rename(self, key: str, new_key: str) -> None:
        """The command with that *key* goes on under another."""
        if (handle := self._handles.pop(key, None)) is not None:
            handle.key = new_key
            self._handles[new_key] = handle


def _commands(entries: Iterable[OutboxEntry]) -> list[PendingCommand]:
    return [entry.command for entry in entries if entry.is_pending]


def _new_key() -> str:
    return str(uuid.uuid4())
