"""Two watchers over the connection: one against spinning, one that notices that the machine slept. Pure."""

from collections import deque

__all__ = ["LoopGuard", "SleepDetector"]


class LoopGuard:
    """Five requests at the same cursor within half a second are a fault somewhere, whatever the reason.

    Every road back to the network passes here, so that no combination of answers can make the client spin.
    """

    def __init__(self, *, requests: int = 5, within_s: float = 0.5) -> None:
        self._within_s = within_s
        self._recent: deque[tuple[float, str]] = deque(maxlen=requests - 1)

    def allows(self, cursor: str, *, now_s: float) -> bool:
        """Whether a request at *cursor* may be sent now; it is noted if so."""
        recent = self._recent
        spinning = (
            len(recent) == recent.maxlen
            and now_s - recent[0][0] <= self._within_s
            and all(earlier == cursor for _, earlier in recent)
        )
        if not spinning:
            recent.append((now_s, cursor))
        return not spinning


class SleepDetector:
    """Tells from the clocks that the process or the machine stood still. Never from the wall clock.

    Call ``tick`` every *tick_s*. A gap in the monotonic clock means the process was stopped or starved; a gap
    between the boot-time clock (which counts suspend) and the monotonic one means the machine was suspended.
    """

    def __init__(self, *, tick_s: float = 1.0, gap_s: float = 5.0) -> None:
        self.tick_s = tick_s
        self._gap_s = gap_s
        self._last_s: float | None = None
        self._last_suspended_s: float | None = None

    def tick(self, *, now_s: float, suspended_s: float | None) -> float:
        """The length of the sleep that just ended, in seconds, or 0.

        *suspended_s* is boot time minus monotonic time, where the system has both.
        """
        last_s, last_suspended_s = self._last_s, self._last_suspended_s
        self._last_s, self._last_suspended_s = now_s, suspended_s
        slept_s = 0.0 if last_s is None else now_s - last_s - self.tick_s
        if suspended_s is not None and last_suspended_s is not None:
            slept_s += suspended_s - last_suspended_s
        return slept_s if slept_s >= self._gap_s else 0.0
