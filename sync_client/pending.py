"""A command that a person has given and the server has not answered yet."""

from dataclasses import dataclass

from sync_core.domain.command import Command, CommandInput

__all__ = ["PendingCommand"]


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

    def body(self) -> bytes:
        """The request's JSON: what was given beside the path."""
        return self.given.model_dump_json(exclude=set(self.command.path_parameters), exclude_unset=True).encode()
