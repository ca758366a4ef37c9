"""What the intake tells the driver after a chunk or a page, and what it is told by the driver. Only data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sync_core.sse import ServerSentEvent

__all__ = ["NOTHING", "Sink", "Taken"]


@dataclass(frozen=True, slots=True)
class Taken:
    """What the driver has to know of what came.

    goodbye: the reason, if the server said that it ends the stream. reopen: why the stream has to begin again
    at the sink's cursor. behind: whether the consumer has enough for now. contradicted: whether the server
    answered a reset with another one, and nothing of use has come since: what it plans is not to be relied on.
    """

    goodbye: str | None = None
    reopen: str | None = None
    behind: bool = False
    contradicted: bool = False


NOTHING = Taken()


class Sink(Protocol):
    """Where a connection's events go."""

    @property
    def cursor(self) -> str:
        """What to resume from; "" for none."""

    @property
    def stall_s(self) -> float | None:
        """How long a stream may be silent; None for ever."""

    @property
    def opens_with_headers(self) -> bool:
        """Whether a stream counts as open when its head has come, or only with its first event."""

    def stream_begins(self) -> None:
        """A response has begun, at ``cursor``."""

    async def take(self, events: Sequence[ServerSentEvent], *, last_event_id: str) -> Taken:
        """Take in what one chunk of the stream completed."""

    async def take_page(self, page: dict[str, Any]) -> Taken:
        """Take in one answer of the poll."""

    async def lose_cursor(self, document: dict[str, Any]) -> Taken:
        """The poll answered 410 with *document*."""
