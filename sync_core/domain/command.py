"""Commands: what may be asked of the shop, each declared once.

A declaration names its HTTP route, its input, the permission it needs and the events it makes; the function it
decorates is the rule: pure, given the documents as they are. The server runs it inside the log's transaction; a
client runs the very same function on its replica for the picture it shows until the server has answered. Routes,
OpenAPI, the client's methods and its overlays all come from here. Source: architecture.md (commands).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict

from sync_core.domain.changes import Changes
from sync_core.domain.document import Document, Ref
from sync_core.domain.fields import Made, Names
from sync_core.events import EventType

__all__ = ["Command", "CommandInput", "Domain", "command"]

I = TypeVar("I", bound="CommandInput")  # noqa: E741 - the input
Rule = Callable[[Changes, Any], None]

_PATH_PARAMETER = re.compile(r"\{(\w+)\}")


class CommandInput(BaseModel):
    """Base of inputs: path parameters and body in one. Unknown fields are refused: a typo must not be obeyed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Command:
    """One declaration. *path* stands below ``/api/v1``; its parameters are fields of *input*.

    *target* is the kind that ``If-Match`` guards and whose client collection has the method *name*; *emits* are
    all event types it can make, at most *max_events* events. With *guarded* a client sends the version that the
    person saw without being told to: what it changes was made out of the document as it looked. One that
    *finds_target* gets its target from other documents, and lets ``Context.guard`` look at it. With *unseen* the
    target may be one that the caller does not see (any more): the rule says what of it is told in words, no more is.
    """

    name: str
    method: str
    path: str
    target: type[Document]
    input: type[CommandInput]
    permission: str
    emits: tuple[str, ...]
    rule: Rule
    summary: str
    creates: bool = False
    guarded: bool = False
    finds_target: bool = False
    unseen: bool = False
    max_events: int = 8

    @cached_property
    def path_parameters(self) -> tuple[str, ...]:
        return tuple(_PATH_PARAMETER.findall(self.path))

    @cached_property
    def body_fields(self) -> tuple[str, ...]:
        return tuple(name for name in self.input.model_fields if name not in self.path_parameters)

    @cached_property
    def needs_body(self) -> bool:
        """Whether a request without one is a mistake. An action on what is there may need to be told nothing more."""
        if self.method == "DELETE":
            return False
        is_told = any(self.input.model_fields[name].is_required() for name in self.body_fields)
        return is_told or (bool(self.body_fields) and (self.creates or self.method != "POST"))

    @cached_property
    def makes_target(self) -> bool:
        """Whether its target is what it creates (and not, say, an entry of it)."""
        return self.creates and self.target.id_key not in self.path_parameters

    @cached_property
    def _named(self) -> tuple[tuple[str, str], ...]:
        """Fields that hold a document's id, and its kind."""
        return tuple((name, mark.kind) for name, mark in _marks(self.input) if isinstance(mark, Names))

    @cached_property
    def made(self) -> tuple[str, ...]:
        """Fields whose id is made where the caller gives none."""
        return tuple(name for name, mark in _marks(self.input) if isinstance(mark, Made))

    def complete(self, given: I, new_id: Callable[[], str]) -> I:
        """*given* with the ids that the caller has left to be made.

        Once per call, before anything is loaded or kept: a rule may run several times, on a server and on a
        replica, and is to mean the same document each time.
        """
        missing = [name for name in self.made if getattr(given, name) is None]
        return given.model_copy(update={name: new_id() for name in missing}) if missing else given

    def refs(self, given: CommandInput) -> list[Ref]:
        """The documents that *given* names: what is loaded before the rule runs."""
        named = ((kind, getattr(given, name)) for name, kind in self._named)
        return [Ref(kind, value) for kind, value in named if value is not None]

    def target_ref(self, given: CommandInput) -> Ref | None:
        """The document that ``If-Match`` is about; None where its id is still to be made."""
        value = getattr(given, self.target.id_key, None)
        return Ref(self.target.kind, value) if isinstance(value, str) else None


def _marks(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """What the fields of *model* are marked with, also inside ``| None``."""
    for name, info in model.model_fields.items():
        for mark in info.metadata:
            yield name, mark
        for option in get_args(info.annotation):
            for mark in getattr(option, "__metadata__", ()):
                yield name, mark


def command(
    method: str,
    path: str,
    *,
    target: type[Document],
    permission: str,
    emits: Sequence[str],
    creates: bool = False,
    guarded: bool = False,
    finds_target: bool = False,
    unseen: bool = False,
    max_events: int = 8,
) -> Callable[[Callable[[Changes, I], None]], Command]:
    """Declare the decorated rule as a command: its name, input and summary are the function's own."""

    def declare(rule: Callable[[Changes, I], None]) -> Command:
        hints = get_type_hints(rule)
        (input_type,) = [hint for name, hint in hints.items() if name not in ("return",) and hint is not Changes]
        return Command(
            name=rule.__name__,
            method=method,
            path=path,
            target=target,
            input=input_type,
            permission=permission,
            emits=tuple(emits),
            rule=rule,
            summary=(rule.__doc__ or "").strip().splitlines()[0],
            creates=creates,
            guarded=guarded,
            finds_target=finds_target,
            unseen=unseen,
            max_events=max_events,
        )

    return declare


class Domain:
    """All kinds, commands and their event types: what a server offers and its clients know."""

    def __init__(
        self, *, kinds: Iterable[type[Document]], commands: Iterable[Command], event_types: Iterable[EventType]
    ) -> None:
        self.kinds: Mapping[str, type[Document]] = MappingProxyType({kind.kind: kind for kind in kinds})
        self.commands = tuple(commands)
        self.event_types = tuple(event_types)
        self._check()

    def _check(self) -> None:
        """Raises ValueError for declarations that do not fit together."""
        names = {event_type.name for event_type in self.event_types}
        taken: set[tuple[str, str]] = set()
        for declared in self.commands:
            if unknown := set(declared.emits) - names:
                raise ValueError(f"{declared.name} emits {sorted(unknown)}, which no event type is")
            if unknown := set(declared.path_parameters) - set(declared.input.model_fields):
                raise ValueError(f"{declared.name} has {sorted(unknown)} in its path and not in its input")
            route = (declared.method, _PATH_PARAMETER.sub("{}", declared.path))
            method = (declared.target.kind, declared.name)
            if clash := taken & {route, method}:
                raise ValueError(f"{' '.join(clash.pop())} is declared twice")
            taken |= {route, method}

    def __add__(self, other: "Domain") -> "Domain":
        return Domain(
            kinds=[*self.kinds.values(), *other.kinds.values()],
            commands=[*self.commands, *other.commands],
            event_types=[*self.event_types, *other.event_types],
        )

    def only(self, plurals: Iterable[str]) -> "Domain":
        """The part of it with the kinds of these plural names. Raises KeyError for what is none."""
        named = {kind.plural: kind for kind in self.kinds.values()}
        kinds = [named[plural] for plural in dict.fromkeys(plurals)]
        commands = [declared for declared in self.commands if declared.target in kinds]
        return Domain(kinds=kinds, commands=commands, event_types=self.event_types)

    def kind_of(self, plural: str) -> type[Document] | None:
        """The kind with that plural name."""
        return next((kind for kind in self.kinds.values() if kind.plural == plural), None)

    def of(self, kind: type[Document]) -> Iterator[Command]:
        """The commands whose target is *kind*."""
        return (declared for declared in self.commands if declared.target is kind)
