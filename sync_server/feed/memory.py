"""What one process keeps of the events of all its tenants together, bounded by the bytes it takes.

However many tenants there are, they share one bound: the newest events stay in memory, whosesoever they are, and a
tenant whose events had to give way is served from the log.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["Kept", "Memory", "Order"]

V = TypeVar("V")


class Holder(Protocol):
    """Whoever holds events, in the order in which they came."""

    def give_up_oldest(self) -> int:
        """Let go of one event. The bytes that this frees."""


class Order:
    """In which order all *holders* took their events in, so that the oldest one of all is the first to go."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._holders: deque[Holder] = deque()
        """One entry for each event."""
        self._void: dict[Holder, int] = {}
        """Those who have let go of everything, and how many entries they still have."""

    def took(self, holder: Holder, size_bytes: int) -> None:
        """*holder* has one event more; the oldest ones beyond the bound are given up."""
        self._holders.append(holder)
        self._size_bytes += size_bytes
        while self._size_bytes > self._max_bytes and self._holders:
            oldest = self._holders.popleft()
            if oldest not in self._void:
                self._size_bytes -= oldest.give_up_oldest()
            else:
                self._void[oldest] -= 1
                if not self._void[oldest]:
                    del self._void[oldest]

    def left(self, holder: Holder, *, events: int, size_bytes: int) -> None:
        """*holder* lets go of all its *events*, and will never take one again."""
        if not events:
            return
        self._size_bytes -= size_bytes
        self._void[holder] = events
        # Their entries are cut out in one go once they are the most: one by one each would be O(n).
        if sum(self._void.values()) * 2 >= len(self._holders):
            self._holders = deque(other for other in self._holders if other not in self._void)
            self._void.clear()


class Kept(Generic[V]):
    """What was used last, up to *max_bytes*; the last one in any case."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._kept: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """What is kept as *key*, which is thereby used."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def keep(self, key: Hashable, value: V, *, size_bytes: int) -> None:
        """Keep *value* in place of what *key* stood for."""
        _, replaced_bytes = self._kept.pop(key, (None, 0))
        self._kept[key] = (value, size_bytes)
        self._size_bytes += size_bytes - replaced_bytes
        while self._size_bytes > self._max_bytes and len(self._kept) > 1:
            _, (_, oldest_bytes) = self._kept.popitem(last=False)
            self._size_bytes -= oldest_bytes


class Memory:
    """Of one process: *window_bytes* for recent events, as much for pages read from the log, a quarter for pieces."""

    def __init__(self, *, window_bytes: int) -> None:
        self.windows = Order(max_bytes=window_bytes)
        self.pages: Kept[Any] = Kept(max_bytes=window_bytes)
        self.replays: Kept[Any] = Kept(max_bytes=window_bytes // 4)
