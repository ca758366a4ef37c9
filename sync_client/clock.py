"""The clocks that durations are taken from: never the wall clock, which people and time servers set."""

import sys
import time
from contextlib import suppress

__all__ = ["now_s", "suspended_s"]


def now_s() -> float:
    return time.monotonic()


if sys.platform == "linux":

    def suspended_s() -> float | None:
        with suppress(OSError):
            return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        return None
else:

    def suspended_s() -> float | None:
        return None
