"""What may happen once: a key that the log remembers, so it holds in every process and across restarts."""

from collections.abc import Sequence
from dataclasses import dataclass

from sync_core.domain.document import Ref
from sync_server.log.group import Decision, View
from sync_server.log.records import Outcome, OutcomeKey

__all__ = ["Once"]


@dataclass(frozen=True, slots=True)
class Once:
    """A Write that is answered with True the first time only, for as long as *kept_ms*."""

    key: OutcomeKey
    kept_ms: int
    reserve: int = 0
    size_bytes: int = 200

    @property
    def keys(self) -> Sequence[OutcomeKey]:
        return (self.key,)

    @property
    def refs(self) -> Sequence[Ref]:
        return ()

    def decide(self, view: View) -> Decision[bool]:
        if self.key in view.outcomes:
            return Decision([], {}, False)
        return Decision([], {self.key: Outcome("once", "", view.time_ms + self.kept_ms)}, True)
