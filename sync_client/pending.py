"""Commands that were given here and are not done with: what is known of one, and how far it has come. Only data."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sync_core.domain.command import Command, CommandInput
from sync_core.domain.document import Ref

__all__ = ["OutboxEntry", "OutboxState", "PendingCommand"]


@dataclass(frozen=True, slots=True)
class PendingCommand:
    """What is needed to send it and to show its effect meanwhile.

    *key* is its idempotency key. *given* names every id, so that the effect shown is the one that will be stored.
    *created_ms* (Unix time) is when the person gave it; *guard* the version for ``If-Match``, None to send none.
    """

    key: str
    command: Command
    given: CommandInput
    created_ms: int
    guard: int | None = None

    @property
    def name(self) -> str:
        """``order.change_stage``"""
        return f"{self.command.target.kind}.{self.command.name}"

    @property
    def path(self) -> str:
        """Below ``/api/v1``."""
        return self.command.path.format(**{name: getattr(self.given, name) for name in self.command.path_parameters})

    @property
    def target(self) -> Ref | None:
        """The document that it is about."""
        return self.command.target_ref(self.given)

    def __repr__(self) -> str:
        return f"PendingCommand({self.name} {self.given!r}, key={self.key!r}, guard={self.guard})"

    def body(self) -> bytes | None:
        """The request's JSON: what was given beside the path; None for a command that has nothing beside it."""
        if not self.command.body_fields:
            return None
        return self.given.model_dump_json(exclude=set(self.command.path_parameters), exclude_unset=True).encode()


class OutboxState(enum.StrEnum):
    QUEUED = "queued"
    IN_FLIGHT = "in_flight"
    """It was sent, and nobody here knows whether it took effect."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """One command of the outbox."""

    place: int
    """Its place in the queue; the lowest is sent first."""
    command: PendingCommand
    state: OutboxState = OutboxState.QUEUED
    first_sent_ms: int | None = None
    """When it was first sent with an outcome that nobody here knows (Unix time)."""
    attempts: int = 0
    rebases: int = 0
    """How often a hook has given it another input after a conflict."""
    leans: Mapping[str, int] = field(default_factory=dict)
    """Of ``guard``, how many versions are those of commands before it (by key) that were not answered then."""
    problem: Mapping[str, Any] | None = None
    """Where it failed: the server's problem document."""

    @property
    def key(self) -> str:
        return self.command.key

    @property
    def name(self) -> str:
        """``order.change_stage``"""
        return self.command.name

    @property
    def given(self) -> CommandInput:
        """Its input."""
        return self.command.given

    @property
    def is_pending(self) -> bool:
        """Whether its answer is still to come."""
        return self.state is not OutboxState.FAILED
