"""Reads health and metrics off the running parts. Nothing is kept here; each look makes plain values."""

import time
from collections.abc import Callable

from sync_client.attempts import DeliveryCounts
from sync_client.driver import Driver
from sync_client.health import Health, Meter, Metrics, OutboxHealth, status_of
from sync_client.intake import Intake
from sync_client.keeper import Keeper
from sync_client.states import Machine, State
from sync_core.times import iso_from_ms

__all__ = ["Gauges", "health_at_rest"]


class Gauges:
    """Of one running client."""

    def __init__(
        self,
        driver: Driver,
        intake: Intake,
        keeper: Keeper,
        *,
        delivered: DeliveryCounts,
        meter: Meter,
        stream: str = "sse",
    ) -> None:
        self._driver = driver
        self._intake = intake
        self._keeper = keeper
        self._delivered = delivered
        self._meter = meter
        self._stream = stream
        self.outbox: Callable[[], OutboxHealth] = OutboxHealth
        """What a client that gives commands has to tell of them."""

    def health(self) -> Health:
        """The connection at this moment."""
        machine, facts, outbox = self._driver.machine, self._intake.facts, self.outbox()
        now_s = time.monotonic()
        for_s = now_s - machine.since_s if machine.since_s else 0.0
        last_byte_s = None if self._driver.last_byte_s is None else max(now_s - self._driver.last_byte_s, 0.0)
        return Health(
            status=status_of(machine),
            state=machine.state.value,
            since=_since(for_s),
            for_s=for_s,
            reason=machine.reason,
            attempt=machine.attempt,
            next_retry_s=None if machine.retry_at_s is None else max(machine.retry_at_s - now_s, 0.0),
            cursor=self._intake.received,
            # The log's age as last told, plus the time since the server last said anything.
            stale_for_s=None if last_byte_s is None else last_byte_s + facts.tail_age_s,
            last_byte_s=last_byte_s,
            transport={State.CONNECTED: self._stream, State.POLLING: "polling"}.get(machine.state),
            caught_up=facts.caught_up,
            breaker=self._driver.breaker.state.value,
            queue_depth=self._keeper.backlog,
            held=machine.held,
            resync=self._intake.resync_reason,
            cache=self._keeper.cache.where + (f" ({self._keeper.note})" if self._keeper.note else ""),
            last_error=self._driver.last_error,
            commands_waiting=outbox.waiting,
            commands_failed=outbox.failed,
            commands_held_by=outbox.held_by,
        )

    def metrics(self) -> Metrics:
        """Counted since the start, some over all runs."""
        now_s = time.monotonic()
        facts, counts, delivered, meter = self._intake.facts, self._driver.counts, self._delivered, self._meter
        outbox = self.outbox()
        totals = meter.document(facts.events, now_s=now_s)
        attempts = counts.attempts + counts.polls
        return Metrics(
            total_connections=totals["totalConnections"],
            total_events=totals["totalEvents"],
            total_uptime_s=totals["uptime"] / 1000,
            uptime_share=min(meter.up_s(now_s) / max(now_s - meter.started_s, 0.001), 1.0),
            events_per_s=meter.rate(facts.events, now_s=now_s),
            fallbacks=self._driver.machine.fallbacks,
            recoveries_s=tuple(meter.recoveries_s),
            error_rate=(counts.failed_attempts + counts.failed_polls) / attempts if attempts else 0.0,
            attempts=counts.attempts,
            polls=counts.polls,
            duplicates_suppressed=facts.duplicates,
            malformed=facts.malformed,
            resets=facts.resets,
            delivered=delivered.delivered,
            handler_errors=delivered.handler_errors,
            parked=delivered.parked,
            storage_bytes=self._keeper.cache.size_bytes(),
            commands_sent=outbox.requests,
            commands_applied=outbox.applied,
            commands_refused=outbox.refused,
            commands_rebased=outbox.rebased,
        )


def health_at_rest(state: State) -> Health:
    """Of a client that has not been started."""
    return Health(
        status=status_of(Machine()), state=state.value, since=_since(0.0), for_s=0.0, reason="", attempt=0,
        next_retry_s=None, cursor="", stale_for_s=None, last_byte_s=None, transport=None, caught_up=False,
        breaker="closed", queue_depth=0, held=False, resync="", cache="", last_error="",
    )  # fmt: skip


def _since(for_s: float) -> str:
    return iso_from_ms(time.time_ns() // 1_000_000 - int(for_s * 1000))
