"""How much a principal and an address may ask for: rates, bytes, and streams at a time.

Counted in this process's memory; with several processes each has its share. Windows are fixed ones, counted by the
library ``limits``, over a storage of our own: the library's starts a thread every 10 ms, and has no bound.
"""

import enum
import ipaddress
import math
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from time import monotonic

from limits import RateLimitItem, RateLimitItemPerMinute, parse
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from sync_core.problems import TooManyRequests, Unavailable
from sync_server.access_sections import LimitsSection

__all__ = ["MAX_WINDOWS", "Limits", "Rate", "StreamLease", "address_key"]

MAX_WINDOWS = 50_000
"""Counters at a time, about 10 MB. Whoever comes when all are in use shares one with everybody else who does."""
STREAM_RETRY_S = 10
SERVER_FULL_RETRY_S = 5
_IPV6_NETWORK = 64
"""Bits of an IPv6 address that count: one subscriber has all that follow."""


class Rate(enum.Enum):
    """What is counted."""

    CONNECTS = "connects"
    READS = "reads"
    PUBLISHES = "publishes"
    COMMANDS = "commands"
    LOGINS = "logins"
    BYTES = "bytes_per_minute"


class Limits:
    """The limits of one of *workers* processes. *now* is monotonic."""

    def __init__(
        self,
        section: LimitsSection,
        *,
        workers: int = 1,
        now: Callable[[], float] = monotonic,
        max_windows: int = MAX_WINDOWS,
    ) -> None:
        self._now = now
        # Apart: a flood from many addresses must not push out what is counted of those who are known.
        self._principals = FixedWindowRateLimiter(_Windows(now, max_windows))
        self._addresses = FixedWindowRateLimiter(_Windows(now, max_windows))
        self._items = {rate: _item(rate, getattr(section, rate.value), workers) for rate in Rate}
        self._max_streams = _share(section.streams, workers)
        self._max_of_principal = _share(section.streams_per_principal, workers)
        self._max_of_address = _share(section.streams_per_address, workers)
        self._streams_of_principal: Counter[str] = Counter()
        self._streams_of_address: Counter[str] = Counter()
        self.streams = 0
        """Open now."""

    def count_address(self, rate: Rate, address: str, *, cost: int = 1) -> None:
        """Count *cost* for *address* (of ``address_key``). Raises TooManyRequests where that is too much."""
        self._count(self._addresses, rate, address, cost)

    def count_principal(self, rate: Rate, principal: str, *, cost: int = 1) -> None:
        """Count *cost* for *principal*. Raises TooManyRequests where that is too much."""
        self._count(self._principals, rate, principal, cost)

    def _count(self, limiter: FixedWindowRateLimiter, rate: Rate, who: str, cost: int) -> None:
        item = self._items[rate]
        if not limiter.hit(item, who, cost=cost):
            left_s = limiter.get_window_stats(item, who).reset_time - self._now()
            raise TooManyRequests(f"Too many {_NAMES[rate]}; slow down.", retry_after_s=max(math.ceil(left_s), 1))

    def stream(self, principal: str, address: str) -> "StreamLease":
        """For a ``with`` block, in which a stream is open."""
        return StreamLease(self, principal, address)

    def begin_stream(self, principal: str, address: str) -> None:
        """Count a stream. Raises TooManyRequests, or Unavailable where the server is full."""
        if self.streams >= self._max_streams:
            raise Unavailable("The server has as many streams as it can serve.", retry_after_s=SERVER_FULL_RETRY_S)
        by_principal, by_address = self._streams_of_principal, self._streams_of_address
        if by_principal[principal] >= self._max_of_principal or by_address[address] >= self._max_of_address:
            raise _too_many_streams()
        self.streams += 1
        by_principal[principal] += 1
        by_address[address] += 1

    def end_stream(self, principal: str, address: str) -> None:
        """The opposite of ``begin_stream``."""
        self.streams -= 1
        _take_back(self._streams_of_principal, principal)
        _take_back(self._streams_of_address, address)

    def pass_stream(self, principal: str, to: str) -> None:
        """Count a stream of *principal* as one of *to*. Raises TooManyRequests, and then nothing has changed."""
        if self._streams_of_principal[to] >= self._max_of_principal and to != principal:
            raise _too_many_streams()
        self._streams_of_principal[to] += 1
        _take_back(self._streams_of_principal, principal)


class StreamLease:
    """A stream that is open within the block; entering raises TooManyRequests, or Unavailable where the server is full.

    No generator with its frame: there is one for every stream, for as long as that lasts.
    """

    __slots__ = ("_address", "_limits", "_principal")

    def __init__(self, limits: Limits, principal: str, address: str) -> None:
        self._limits = limits
        self._principal = principal
        self._address = address

    def __enter__(self) -> "StreamLease":
        self._limits.begin_stream(self._principal, self._address)
        return self

    def become(self, principal: str) -> None:
        """It is *principal*'s from now on. Raises TooManyRequests, and then it stays whose it was."""
        self._limits.pass_stream(self._principal, principal)
        self._principal = principal

    def __exit__(self, *_: object) -> None:
        self._limits.end_stream(self._principal, self._address)


def _too_many_streams() -> TooManyRequests:
    return TooManyRequests("Too many streams at a time; close some.", retry_after_s=STREAM_RETRY_S)


def _take_back(counts: Counter[str], who: str) -> None:
    counts[who] -= 1
    if not counts[who]:
        del counts[who]


_NAMES = {
    Rate.CONNECTS: "new streams",
    Rate.READS: "requests",
    Rate.PUBLISHES: "publications",
    Rate.COMMANDS: "commands",
    Rate.LOGINS: "logins",
    Rate.BYTES: "bytes",
}


class _Windows(Storage):
    """Counters that begin anew when their time is over; at most *most* of them, and one for each rate."""

    STORAGE_SCHEME = None

    def __init__(self, now: Callable[[], float], most: int) -> None:
        super().__init__()
        self._now = now
        self._most = most
        self._counts: dict[str, tuple[int, float]] = {}
        self._swept_s = -math.inf

    @property
    def base_exceptions(self) -> type[Exception]:
        return Exception

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        key = self._place(key)
        count, end_s = self._counts.get(key, (0, 0.0))
        if end_s <= self._now():
            count, end_s = 0, self._now() + expiry
        self._counts[key] = (count + amount, end_s)
        return count + amount

    def get(self, key: str) -> int:
        count, end_s = self._counts.get(self._place(key), (0, 0.0))
        return count if end_s > self._now() else 0

    def get_expiry(self, key: str) -> float:
        return self._counts.get(self._place(key), (0, self._now()))[1]

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        count = len(self._counts)
        self._counts.clear()
        return count

    def clear(self, key: str) -> None:
        self._counts.pop(key, None)

    def _place(self, key: str) -> str:
        if key in self._counts or len(self._counts) < self._most:
            return key
        now_s = self._now()
        # Half a second apart at least: while it is full this would be done for every request.
        if now_s >= self._swept_s + 0.5:
            self._swept_s = now_s
            self._counts = {k: (count, end_s) for k, (count, end_s) in self._counts.items() if end_s > now_s}
        return key if len(self._counts) < self._most else key.partition("/")[0]  # one for each rate


@lru_cache(maxsize=4096)
def address_key(host: str) -> str:
    """What of the address *host* is counted together: an IPv4 address, or an IPv6 network."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "address:?"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return f"address:{ipaddress.ip_network((int(address), _IPV6_NETWORK), strict=False)}"
        address = address.ipv4_mapped
    return f"address:{address}"


def _item(rate: Rate, limit: str | int, workers: int) -> RateLimitItem:
    item = RateLimitItemPerMinute(limit) if isinstance(limit, int) else parse(limit)
    return type(item)(_share(item.amount, workers), item.multiples, namespace=rate.value)


def _share(amount: int, workers: int) -> int:
    return max(amount // workers, 1)
