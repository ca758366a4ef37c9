"""How the client is doing: one look (Health) and what is counted over its life (Metrics)."""

import json
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

from sync_client.states import Machine, State

__all__ = ["Health", "Meter", "Metrics", "OutboxHealth", "Status"]

RATE_WINDOW_S = 60.0
KEPT_RECOVERIES = 20


class Status:
    """The five words of ``health.status``."""

    HEALTHY = "healthy"
    POLLING = "polling"
    RECONNECTING = "reconnecting"
    ERROR = "error"
    OFFLINE = "offline"


_STATUS = {
    State.DISCONNECTED: Status.OFFLINE,
    State.CONNECTING: Status.RECONNECTING,
    State.CONNECTED: Status.HEALTHY,
    State.RECONNECTING: Status.RECONNECTING,
    State.ERROR: Status.ERROR,
    State.POLLING: Status.POLLING,
    State.CLOSED: Status.OFFLINE,
    State.FAILED: Status.ERROR,
}


_UP = frozenset({Status.HEALTHY, Status.POLLING})


def status_of(machine: Machine) -> str:
    """One of Status. Polling without an answer is offline: nothing comes either way."""
    if machine.state is State.POLLING and machine.poll_failures:
        return Status.OFFLINE
    return _STATUS[machine.state]


@dataclass(frozen=True, slots=True)
class Health:
    """The connection at this moment. Durations in seconds; None where there is nothing to tell."""

    status: str
    state: str
    since: str
    """When it came into this state, by this machine's clock: ISO 8601."""
    for_s: float
    """How long it has been in this state."""
    reason: str
    attempt: int
    """Unplanned ends and failures in a row."""
    next_retry_s: float | None
    cursor: str
    """Everything up to here is stored."""
    stale_for_s: float | None
    """How old the newest sure knowledge is: a shop without events is not stale, a dead log is."""
    last_byte_s: float | None
    """How long ago the server last said anything."""
    transport: str | None
    """"sse", "ws", "polling", or None."""
    caught_up: bool
    breaker: str
    queue_depth: int
    """Events that are stored and wait for handlers."""
    held: bool
    """Nothing is fetched until the handlers have caught up, or the cache can be written again."""
    resync: str
    """Why events may be missing, while not everybody who asked to know has been told (`on_resync`); "" else."""
    cache: str
    last_error: str
    commands_waiting: int = 0
    """Commands of the outbox that have no answer yet."""
    commands_failed: int = 0
    """Those that the server refused for good, kept for a person to look at."""
    commands_held_by: str = ""
    """Why those that wait are not sent just now, beside the connection; "" if nothing keeps them."""

    @property
    def is_polling_fallback(self) -> bool:
        return self.transport == "polling"


@dataclass(frozen=True, slots=True)
class Metrics:
    """Counted; the first three over all runs of this cache, the others since the start."""

    total_connections: int
    total_events: int
    total_uptime_s: float
    uptime_share: float
    """Of the time since the start, how much a stream or working polling was there: 0 to 1."""
    events_per_s: float
    """Over the last minute."""
    fallbacks: int
    recoveries_s: tuple[float, ...]
    """How long the last interruptions took."""
    error_rate: float
    """Failed attempts per attempt: 0 to 1."""
    attempts: int
    polls: int
    duplicates_suppressed: int
    malformed: int
    """What came in an event's place and was none; kept aside, as are parked ones."""
    resets: int
    """Resyncs that became due."""
    delivered: int
    handler_errors: int
    parked: int
    storage_bytes: int
    commands_sent: int = 0
    """Requests with commands, repeats counted."""
    commands_applied: int = 0
    commands_refused: int = 0
    commands_rebased: int = 0
    """Commands that a conflict hook gave another input."""


@dataclass(frozen=True, slots=True)
class OutboxHealth:
    """What the outbox has to tell of Health and Metrics."""

    waiting: int = 0
    failed: int = 0
    held_by: str = ""
    requests: int = 0
    applied: int = 0
    refused: int = 0
    rebased: int = 0


@dataclass(slots=True)
class Meter:
    """Collects what Metrics shows. All times are the monotonic clock's."""

    started_s: float
    connections: int = 0
    uptime_before_s: float = 0.0
    connections_before: int = 0
    events_before: int = 0
    _up_s: float = 0.0
    _up_since_s: float | None = None
    _down_since_s: float | None = None
    recoveries_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_RECOVERIES))
    _rates: deque[tuple[float, int]] = field(default_factory=deque)

    def moved(self, before: Machine, after: Machine, *, now_s: float) -> None:
        """The machine changed its state, or polling began to fail, or works again."""
        if before.state is not after.state:
            self._note_stream(before.state, after.state, now_s)
        was_up, is_up = status_of(before) in _UP, status_of(after) in _UP
        if was_up and not is_up and self._up_since_s is not None:
            self._up_s += now_s - self._up_since_s
            self._up_since_s = None
        elif is_up and not was_up:
            self._up_since_s = now_s

    def _note_stream(self, before: State, after: State, now_s: float) -> None:
        if after is State.CONNECTED:
            self.connections += 1
            if self._down_since_s is not None:
                self.recoveries_s.append(now_s - self._down_since_s)
                self._down_since_s = None
        elif before is State.CONNECTED and after is not State.CLOSED:
            self._down_since_s = now_s

    def up_s(self, now_s: float) -> float:
        """Connected, or polling with success, since the start."""
        return self._up_s + (now_s - self._up_since_s if self._up_since_s is not None else 0.0)

    def rate(self, events: int, *, now_s: float) -> float:
        """Events a second over the last minute; *events* is the count so far."""
        rates = self._rates
        rates.append((now_s, events))
        while len(rates) > 2 and now_s - rates[1][0] >= RATE_WINDOW_S:
            rates.popleft()
        first_s, first = rates[0]
        since_s = now_s - (self.started_s if len(rates) == 1 else first_s)
        count = events if len(rates) == 1 else events - first
        return count / since_s if since_s > 0.001 else 0.0

    def restore(self, text: str) -> None:
        """What an earlier run wrote."""
        try:
            document = json.loads(text)
            connections, events = int(document["totalConnections"]), int(document["totalEvents"])
            uptime_s = int(document["uptime"]) / 1000
        except (ValueError, KeyError, TypeError, OverflowError):
            return  # a person may have written it: it came in by an import
        self.connections_before, self.events_before, self.uptime_before_s = connections, events, uptime_s

    def document(self, events: int, *, now_s: float) -> dict[str, Any]:
        """The seed's connectionMetrics: counts over all runs, uptime in milliseconds."""
        return {
            "totalConnections": self.connections_before + self.connections,
            "totalEvents": self.events_before + events,
            "uptime": round((self.uptime_before_s + self.up_s(now_s)) * 1000),
        }


def as_rows(value: Health | Metrics) -> dict[str, Any]:
    """For tables."""
    return asdict(value)
