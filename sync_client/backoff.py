"""How long to wait before trying again: full jitter over a window that doubles. Pure.

The windows are tenacity's ``wait_exponential``; the jitter is drawn from the caller's own source of numbers,
so that a test, or another language, can say what comes out. Source: protocol.md 6.
"""

import email.utils
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_exponential

__all__ = ["MAX_RETRY_AFTER_S", "Backoff", "Rng", "around", "parse_retry_after"]

Rng = Callable[[], float]
"""Gives numbers from 0 to below 1."""

MAX_RETRY_AFTER_S = 900.0
"""A server that asks for a year is wrong more often than right; a quarter of an hour spares it all the same."""

_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)


class _FullJitter(wait_exponential):
    """Anything from nothing to the window: the spread that empties a crowd fastest."""

    def __init__(self, *, base_s: float, factor: float, cap_s: float, rng: Rng) -> None:
        super().__init__(multiplier=base_s, exp_base=factor, max=cap_s)
        self._rng = rng

    def __call__(self, retry_state: RetryCallState) -> float:
        return self._rng() * super().__call__(retry_state)


@dataclass(frozen=True, slots=True)
class Backoff:
    """The delays of one kind of attempt; seconds throughout."""

    base_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 30.0

    def delay_s(self, attempt: int, *, rng: Rng, retry_after_s: float | None = None) -> float:
        """The wait before trying again after *attempt* failures in a row (from 1).

        With *retry_after_s* that much at least, and a little more that differs between clients: the same
        floor for all of them would send them back together.
        """
        floor_s = retry_after_s or 0.0
        spread = _FullJitter(base_s=self.base_s, factor=self.factor, cap_s=self.cap_s, rng=rng)
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = 1 if floor_s else max(attempt, 1)
        return floor_s + float(spread(state))


def around(middle_s: float, *, rng: Rng, share: float = 0.2) -> float:
    """*middle_s*, give or take *share* of it."""
    return middle_s * (1 - share + 2 * share * rng())


def parse_retry_after(text: str | None, *, now: datetime | None = None) -> float | None:
    """The seconds that a Retry-After header asks for, 0 to MAX_RETRY_AFTER_S; None if it says nothing usable.

    Both forms are understood, seconds and HTTP date; *now* is for the second. A wall clock that is a day off
    makes such a date useless but never harmful: the result stays within its bounds.
    """
    if text is None:
        return None
    text = text.strip()
    if _SECONDS.fullmatch(text):
        # A longer number is above every bound, and float() of thousands of digits is infinity.
        return min(float(text), MAX_RETRY_AFTER_S) if len(text) < 300 else MAX_RETRY_AFTER_S
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        wait_s = (moment - (now or datetime.now(UTC))).total_seconds()
    except OverflowError:
        return None
    return min(max(wait_s, 0.0), MAX_RETRY_AFTER_S)
