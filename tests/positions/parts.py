"""The parts of an intake, for what happens between them."""

from collections.abc import Awaitable, Callable, Sequence
from time import time_ns
from typing import Any

from sync_server.log.appender import Appender
from sync_server.positions.base import Place, PositionStore, Stored
from sync_server.positions.intake import Intake
from sync_server.positions.sqlite import SQLitePositions
from tests.serving import Served


def now_ms() -> int:
    return time_ns() // 1_000_000


async def nothing() -> None:
    """Happens meanwhile."""


class HookedStore(SQLitePositions):
    """Where *stored* happens between a position's being stored and anybody's being told."""

    stored: Callable[[], Awaitable[object]] = staticmethod(nothing)

    async def put(self, tenant: str, places: Sequence[Place], *, now_ms: int, interval_ms: int) -> Stored:
        found = await super().put(tenant, places, now_ms=now_ms, interval_ms=interval_ms)
        await self.stored()
        return found


def intake(served: Served, store: PositionStore, **parts: Any) -> Intake:
    """The intake of *served* once more, over *store*, with *parts* in place of those it would have."""
    event_log, feed = served.application.event_log, served.application.feed
    appender = Appender(event_log, on_commit=feed.committed, metrics=feed.metrics, wall_ms=now_ms)
    made = {"event_log": event_log, "appender": appender, "feed": feed, **parts}
    return Intake(store, interval_ms=600_000, wall_ms=now_ms, spawn=feed.spawn, **made)
