"""Wall-clock times on the wire: ISO 8601 in UTC with milliseconds, ``2026-11-20T10:30:00.123Z``.

Inside, a time is an int of milliseconds since the epoch: it sorts, it stores, and it has no zone to lose.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

__all__ = ["ISO_8601", "NO_TIME", "iso_from_ms", "ms_from_datetime", "ms_from_iso"]

ISO_8601 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]", re.ASCII)
"""How a time begins that we take: Python and pydantic know more forms, which other readers of the log may not."""
NO_TIME = "a time is ISO 8601 text with an offset, such as 2026-11-20T10:30:00+03:00"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso_from_ms(time_ms: int) -> str:
    """``iso_from_ms(1763634600123) == "2025-11-20T10:30:00.123Z"``. Raises OverflowError beyond the years 1 to 9999."""
    seconds, ms = divmod(time_ms, 1000)
    return f"{_iso_from_s(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=512)  # most moments that are told lie close together
def _iso_from_s(seconds: int) -> str:
    # Not strftime: its %Y has as many digits as the C library likes.
    return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat(timespec="seconds")


def ms_from_datetime(moment: datetime) -> int:
    """Milliseconds since the epoch of an aware *moment*, rounded down."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def ms_from_iso(text: str) -> int:
    """Milliseconds since the epoch of ISO 8601 *text* with an offset, rounded down. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or not ISO_8601.match(text):
        raise ValueError(NO_TIME)
    return ms_from_datetime(moment)
