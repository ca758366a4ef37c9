"""What is kept of a log: the newest events, by age and by count. Only prefixes are ever removed."""

from dataclasses import dataclass

from sync_server.log.base import Bounds, EventLog

__all__ = ["Retention", "enforce"]


@dataclass(frozen=True, slots=True)
class Retention:
    """Events older than *max_age_ms* go, and those beyond the newest *max_events*."""

    max_age_ms: int
    max_events: int


async def enforce(event_log: EventLog, tenant: str, retention: Retention, *, now_ms: int) -> Bounds:
    """Trim the tenant's log and forget what it need not know any more; its bounds afterwards. Raises LogError."""
    bounds = await event_log.ensure(tenant)
    by_age = await _last_before(event_log, tenant, bounds, now_ms - retention.max_age_ms)
    floor = max(by_age, bounds.head - retention.max_events)
    if floor > bounds.floor:
        bounds = await event_log.trim(tenant, floor)
    while await event_log.sweep(tenant, now_ms=now_ms):
        pass
    return bounds


async def _last_before(event_log: EventLog, tenant: str, bounds: Bounds, time_ms: int) -> int:
    """Seq of the last event older than *time_ms*. Times never go back within a log, so it can be bisected."""
    low, high = bounds.floor, bounds.head
    while low < high:
        middle = (low + high) // 2
        rows = await event_log.read(tenant, after=middle, limit=1)
        if rows and rows[0].time_ms < time_ms:
            low = rows[0].seq
        else:
            high = middle
    return low
