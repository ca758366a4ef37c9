"""What one socket may ask of the server, and how that is counted."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from sync_server.sections import SocketsSection

__all__ = ["MessageRate", "SocketLimits", "Verdict"]

UNIT_BYTES = 64 * 1024
"""A message counts once, and once more for each of these that it fills: reading JSON costs by its length."""


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """Of one route. *connections* are of one process; *idle_s* None: a client may be silent for as long as it likes."""

    connections: int = 100
    messages_per_s: int = 100
    idle_s: float | None = 300.0
    greeting_s: float = 10.0
    """How long who showed nothing in the handshake may take to say who it is."""
    send_s: float = 30.0
    """How long a message may wait for a client that does not read."""

    @classmethod
    def configured(cls, section: SocketsSection, *, workers: int = 1) -> "SocketLimits":
        """As the configuration has them, for one of *workers* processes."""
        return cls(
            connections=max(section.connections // workers, 1),
            messages_per_s=section.messages_per_s,
            idle_s=section.idle.total_seconds(),
        )


class Verdict(enum.Enum):
    """What becomes of a message."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """Not done, and the client is told so."""
    FLOOD = "flood"
    """Told so often enough."""


class MessageRate:
    """The messages of one client, or what they hold, in windows of a second. *now* is monotonic."""

    def __init__(self, per_s: int, *, now: Callable[[], float] = monotonic) -> None:
        self._per_s = per_s
        self._now = now
        self._ends_s = 0.0
        self._count = 0

    def judge(self, size_bytes: int) -> Verdict:
        """Count a message of *size_bytes*."""
        return self.count(1 + size_bytes // UNIT_BYTES)

    def count(self, cost: int) -> Verdict:
        """Count something that is worth *cost* messages."""
        now_s = self._now()
        if now_s >= self._ends_s:
            self._ends_s, self._count = now_s + 1.0, 0
        self._count += cost
        if self._count <= self._per_s:
            return Verdict.ACCEPTED
        return Verdict.REFUSED if self._count <= 2 * self._per_s else Verdict.FLOOD
