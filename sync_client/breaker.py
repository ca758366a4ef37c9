"""The circuit breaker around plain requests: it keeps a broken server from being asked again and again.

    closed ── 5 failures in a row ──> open ── 10 s, doubling to 60 s, jittered ──> half open ── success ──> closed
                                       ^                                              │
                                       └────────────────── failure ───────────────────┘

Half open lets exactly one request through, whatever the number of those waiting; a cancelled one gives its
place back. Streams and probes do not pass here: a stream that fails has its own backoff; one that opens makes an
open breaker half open. Source: protocol.md 6.
"""

import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sync_client.backoff import Rng, around
from sync_client.errors import BreakerOpen

__all__ = ["Breaker", "BreakerState", "Pass"]

FAILURES_TO_OPEN = 5
FIRST_OPEN_S = 10.0
MAX_OPEN_S = 60.0


class BreakerState(enum.Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Pass:
    """The permission for one request; say how it went. What is not said by the end counts as not sent."""

    __slots__ = ("_breaker", "_probe", "_told")

    def __init__(self, breaker: "Breaker", *, probe: bool) -> None:
        self._breaker = breaker
        self._probe = probe
        self._told = False

    def succeeded(self) -> None:
        """The server answered, whatever it said: also 4xx and 429."""
        self._tell(True)

    def failed(self) -> None:
        """Network error or 5xx."""
        self._tell(False)

    def _tell(self, success: bool) -> None:
        if not self._told:
            self._told = True
            self._breaker._settle(success, probe=self._probe)

    def _close(self) -> None:
        if not self._told and self._probe:
            self._told = True
            self._breaker._give_back()


class Breaker:
    """One per server. Not for several threads. *clock* is monotonic, in seconds."""

    def __init__(self, *, clock: Callable[[], float], rng: Rng) -> None:
        self._clock = clock
        self._rng = rng
        self._failures = 0
        self._open_until_s: float | None = None
        self._open_s = FIRST_OPEN_S
        self._probing = False
        self.times_opened = 0

    @property
    def state(self) -> BreakerState:
        if self._open_until_s is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._clock() < self._open_until_s else BreakerState.HALF_OPEN

    @property
    def failures(self) -> int:
        """In a row."""
        return self._failures

    @property
    def retry_in_s(self) -> float:
        """How long until a request may be let through; 0 where one may now."""
        if self._open_until_s is None:
            return 0.0
        left_s = max(self._open_until_s - self._clock(), 0.0)
        return max(left_s, 1.0) if self._probing else left_s

    def give_a_chance(self) -> None:
        """There is a sign that the server is back (a stream opened): half open from now on."""
        if self._open_until_s is not None:
            self._open_until_s = min(self._open_until_s, self._clock())

    @contextmanager
    def request(self) -> Iterator[Pass]:
        """Around one request. Raises BreakerOpen, without a request, while there is no place for it."""
        state = self.state
        if state is BreakerState.OPEN or (state is BreakerState.HALF_OPEN and self._probing):
            raise BreakerOpen(retry_after_s=self.retry_in_s)
        probe = state is BreakerState.HALF_OPEN
        self._probing = self._probing or probe
        permission = Pass(self, probe=probe)
        try:
            yield permission
        finally:
            permission._close()

    def _settle(self, success: bool, *, probe: bool) -> None:
        if probe:
            self._probing = False
        elif self._open_until_s is not None:
            # It was sent before the breaker opened. Only the probe's answer closes or opens it again.
            return
        if success:
            self._failures = 0
            self._open_until_s = None
            self._open_s = FIRST_OPEN_S
            return
        self._failures += 1
        if probe or self._failures >= FAILURES_TO_OPEN:
            self._open_until_s = self._clock() + around(self._open_s, rng=self._rng)
            self._open_s = min(self._open_s * 2, MAX_OPEN_S)
            self.times_opened += 1

    def _give_back(self) -> None:
        self._probing = False
