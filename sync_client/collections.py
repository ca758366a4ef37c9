"""The shop's documents as programs use them: ``client.orders``, ``client.queues``, ``client.bays``.

    entry = client.orders.get("ORDER-001")            # at once, from memory; None if there is none
    for entry in client.bays: ...                     # by id
    async for entry in client.bays.watch("B1"): ...   # its state now, then each newer one
    sent = await client.orders.change_stage("ORDER-001", "in_progress")

The commands are made from their declarations (sync_core/domain): a command that is declared is a method here.
"""

import asyncio
import inspect
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast, get_type_hints

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, to_json

from sync_client.errors import InvalidCommand
from sync_client.replica import Entry, Replica
from sync_client.sent import Sent
from sync_core.domain.command import Command, CommandInput
from sync_core.domain.document import Document, Ref
from sync_core.faults import faults_of
from sync_core.problems import FieldError

__all__ = ["Collection", "Owner", "Watch", "Watches", "checked", "signature_of"]

D = TypeVar("D", bound=Document)
T_co = TypeVar("T_co", covariant=True)


class Owner(Protocol):
    """The client, as its collections see it."""

    @property
    def fresh(self) -> bool: ...

    @property
    def age_s(self) -> float | None: ...

    def check(self) -> None:
        """Raises ClientError before the start: there is nothing to look at yet."""

    async def submit(self, command: Command, given: CommandInput, *, if_match: int | None) -> Sent:
        """Put a command into the outbox. Raises OutboxFull, CacheUnwritable, Closed, ClientError."""


class Collection(Generic[D]):
    """All documents of one *kind* that this client sees. Looking is done in memory and never waits."""

    def __init__(
        self, kind: type[D], replica: Replica, watches: "Watches", owner: Owner, commands: Iterable[Command]
    ) -> None:
        self._kind = kind
        self._replica = replica
        self._watches = watches
        self._owner = owner
        self._commands = {command.name: _method(command, owner) for command in commands}

    @property
    def fresh(self) -> bool:
        """Whether everything is in here that the server has told; False until the first snapshot is in, and while
        another one is due. How old it may be all the same: ``age_s``."""
        return self._owner.fresh

    @property
    def age_s(self) -> float | None:
        """How long ago, in seconds, this was surely how things stood; None if that is not known."""
        return self._owner.age_s

    def get(self, document_id: str) -> Entry[D] | None:
        """The document with what this client's waiting commands make of it; None if there is none in view."""
        self._owner.check()
        return cast("Entry[D] | None", self._replica.get(Ref(self._kind.kind, document_id)))

    def __iter__(self) -> Iterator[Entry[D]]:
        """All of them, by id, as they are at the beginning of the loop or later."""
        self._owner.check()
        for ref in self._replica.refs(self._kind.kind):
            entry = self._replica.get(ref)
            if entry is not None:
                yield cast("Entry[D]", entry)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return True  # an empty shop is one

    def __contains__(self, document_id: object) -> bool:
        return isinstance(document_id, str) and self.get(document_id) is not None

    def watch(self, document_id: str | None = None) -> "Watch[Any]":
        """``async for entry in bays.watch("B1")``: its state now, then each newer one; None when it is gone.

        Who is slow gets the newest only. Without an id: the collection, now and after every change in it or of
        ``fresh``. Ends when the client is closed.
        """
        kind = self._kind.kind
        if document_id is None:
            return self._watches.add(kind, None, lambda: self)
        ref = Ref(kind, document_id)
        return self._watches.add(kind, document_id, lambda: self._replica.get(ref))

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Sent]]:
        """A command of this kind."""
        commands = self.__dict__.get("_commands", {})
        if name not in commands:
            known = ", ".join(sorted(commands))
            raise AttributeError(f"{name!r} is no command; there are {known}", name=name, obj=self)
        return cast("Callable[..., Awaitable[Sent]]", commands[name])

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._commands})

    def __repr__(self) -> str:
        return f"<{self._kind.plural}>"


# -- watching ---------------------------------------------------------------------------------------------


class Watch(AsyncIterator[T_co]):
    """The states of one thing, the newest only. Left by `break` or dropped, it is forgotten."""

    def __init__(self, owner: "Watches", look: Callable[[], T_co], *, compares: bool) -> None:
        self._owner = owner
        self._look = look
        self._compares = compares
        self._shown: Any = _NOTHING
        self._bell = asyncio.Event()
        self._bell.set()

    def __aiter__(self) -> "Watch[T_co]":
        return self

    async def __anext__(self) -> T_co:
        while True:
            await self._bell.wait()
            self._bell.clear()
            if self._owner.has_ended:
                self._bell.set()
                raise StopAsyncIteration
            if not self._owner.has_begun:
                continue
            state = self._look()
            if not self._compares or self._shown is _NOTHING or state != self._shown:
                self._shown = state
                return state

    def ring(self) -> None:
        """There may be another state."""
        self._bell.set()


_NOTHING = object()


class Watches:
    """All that is watched. One look for any number of changes in one turn of the event loop."""

    def __init__(self, replica: Replica, *, fresh: Callable[[], bool]) -> None:
        self._replica = replica
        self._fresh = fresh
        self._all: dict[tuple[str, str | None], weakref.WeakSet[Watch[Any]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_due = False
        self._was_fresh = False
        self.has_begun = False
        self.has_ended = False
        replica.changed = self._changed

    def add(self, kind: str, document_id: str | None, look: Callable[[], Any]) -> Watch[Any]:
        """One more."""
        watch = Watch(self, look, compares=document_id is not None)
        self._all.setdefault((kind, document_id), weakref.WeakSet()).add(watch)
        return watch

    def begin(self) -> None:
        """There is something to see, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self.has_begun = True
        self.ring_all()

    def end(self) -> None:
        """There will be nothing more to see."""
        self.has_ended = True
        self.ring_all()

    def ring_all(self) -> None:
        for watches in self._all.values():
            for watch in watches:
                watch.ring()

    def _changed(self) -> None:
        if self._all and self._loop is not None and not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._is_due = False
        stirred = self._replica.stirred()
        kinds = {ref.kind for ref in stirred}
        if self._fresh() != self._was_fresh:
            self._was_fresh = not self._was_fresh
            kinds = set(self._replica.domain.kinds)
        keys: list[tuple[str, str | None]] = [*stirred, *((kind, None) for kind in kinds)]
        for key in keys:
            for watch in self._all.get(key, ()):
                watch.ring()
        self._all = {key: watches for key, watches in self._all.items() if watches}


# -- commands ---------------------------------------------------------------------------------------------


def _method(command: Command, owner: Owner) -> Callable[..., Awaitable[Sent]]:
    """The command as a method."""
    signature = signature_of(command)

    async def method(*args: Any, if_match: int | None = None, **kwargs: Any) -> Sent:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as exc:
            raise TypeError(f"{command.target.plural}.{command.name}(): {exc}") from None
        return await owner.submit(command, checked(command, bound.arguments), if_match=if_match)

    method.__name__ = method.__qualname__ = command.name
    method.__doc__ = f"{command.summary} Raises InvalidCommand, OutboxFull, CacheUnwritable, Closed."
    method.__signature__ = signature  # type: ignore[attr-defined]
    return method


def signature_of(command: Command) -> inspect.Signature:
    """Path parameters in their order, then what has to be given, then what may be; and ``if_match``."""
    fields = command.input.model_fields
    path = list(command.path_parameters)
    body = [name for name in fields if name not in path]
    names = [*path, *(n for n in body if fields[n].is_required()), *(n for n in body if not fields[n].is_required())]
    types = get_type_hints(command.input)  # without pydantic's marks
    parameters = [_parameter(name, fields[name], types[name]) for name in names]
    guard = inspect.Parameter("if_match", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=int | None)
    return inspect.Signature([*parameters, guard], return_annotation=Sent)


def _parameter(name: str, field: FieldInfo, annotation: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.is_required() else field.default
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)


def checked(command: Command, arguments: dict[str, Any]) -> CommandInput:
    """The input that *arguments* make, by the server's own rules for it. Raises InvalidCommand with every fault."""
    try:
        return command.input.model_validate_json(to_json(arguments), strict=True)
    except ValidationError as exc:
        raise InvalidCommand(f"{command.target.kind}.{command.name}", tuple(faults_of(exc))) from None
    except PydanticSerializationError as exc:
        raise InvalidCommand(f"{command.target.kind}.{command.name}", _unwritable(arguments, exc)) from None


def _unwritable(arguments: dict[str, Any], exc: Exception) -> Sequence[FieldError]:
    """Which of them JSON cannot say."""
    faults = []
    for name, value in arguments.items():
        try:
            to_json(value)
        except ValueError:
            faults.append(FieldError(name, f"a {type(value).__name__} cannot be sent"))
    return faults or [FieldError("", str(exc))]
