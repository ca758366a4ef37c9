"""What may happen once: a key that the log remembers, so it holds in every process and across restarts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sync_core.domain.document import Ref
from sync_core.problems import Problem
from sync_server.log.group import Decision, View, Write
from sync_server.log.records import Outcome, OutcomeKey

__all__ = ["Once"]


@dataclass(frozen=True, slots=True)
class Once:
    """*then* (a Write; None: nothing more) the first time only, for as long as *kept_ms*; afterwards *refusal*.

    Both in one commit: what could not be written has not happened.
    """

    key: OutcomeKey
    kept_ms: int
    refusal: Problem
    then: Write[Any] | None = None

    @property
    def reserve(self) -> int:
        return self.then.reserve if self.then is not None else 0

    @property
    def size_bytes(self) -> int:
        return 200 + (self.then.size_bytes if self.then is not None else 0)

    @property
    def keys(self) -> Sequence[OutcomeKey]:
        return (self.key, *(self.then.keys if self.then is not None else ()))

    @property
    def refs(self) -> Sequence[Ref]:
        return self.then.refs if self.then is not None else ()

    def decide(self, view: View) -> Decision[Any]:
        if self.key in view.outcomes:
            raise self.refusal
        decision: Decision[Any] = self.then.decide(view) if self.then is not None else Decision([], {}, None)
        outcome = Outcome("once", "", view.time_ms + self.kept_ms)
        return decision._replace(outcomes={**decision.outcomes, self.key: outcome})
