"""SyncClient: the one object that a till, kiosk or washing-bay program makes. The composition root.

    async with SyncClient("http://127.0.0.1:8000", client_name="till-3") as client:
        async for event in client.events():
            print(event.event_type, event.data)

How an event gets here: driver.py holds the connection and reads it (transport.py), intake.py drops what is known
and commits the rest with its cursor (cache.py), delivery.py hands it to handlers and iterators and marks it.
"""

import asyncio
import json
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sync_client.backoff import Rng
from sync_client.breaker import Breaker
from sync_client.cache import SQLiteCache
from sync_client.delivery import Delivery, Events
from sync_client.driver import Driver
from sync_client.errors import CacheError, CacheUnwritable, ClientError, Closed
from sync_client.event import Event
from sync_client.handlers import Handlers
from sync_client.health import Health, Meter, Metrics, status_of
from sync_client.intake import Intake, Resync
from sync_client.keeper import Keeper
from sync_client.limits import Limits
from sync_client.logs import get_logger
from sync_client.memory import MemoryCache
from sync_client.options import FilterLike, Options, cache_path, read_filter
from sync_client.persistence import configuration, export_document
from sync_client.records import Mark, Record, Saved
from sync_client.states import Happening, Machine, Policy, Signal, State
from sync_client.tokens import TokenProvider, Tokens
from sync_client.transport import Transport
from sync_core.times import iso_from_ms

__all__ = ["StateChange", "SyncClient"]

HOUSEKEEPING_S = 10.0
CLOSE_S = 0.6

log = get_logger()


@dataclass(frozen=True, slots=True)
class StateChange:
    """What state listeners get."""

    before: State
    after: State
    reason: str
    at_ms: int


StateListener = Callable[[StateChange], Awaitable[None] | None]


class SyncClient:
    """See the module. Keyword arguments are those of ``Options``; *filter* may be a plain mapping.

    Handlers are registered before or after the start, with ``on``, ``on_order``, ``on_stage_change``,
    ``on_dashboard_change``, ``on_resync``. Events wait, on disk, until somebody takes them: a handler or an
    iterator. Raises ConfigurationError here, CacheLocked from ``start``.
    """

    _driver: Driver
    _delivery: Delivery
    _intake: Intake
    _keeper: Keeper
    _meter: Meter

    def __init__(
        self,
        base_url: str,
        *,
        token: TokenProvider | None = None,
        client_name: str = "default",
        filter: FilterLike = None,
        cache_dir: Path | str | None = None,
        on_reset: Resync | str = Resync.EARLIEST,
        rng: Rng = random.random,
        **options: Any,
    ) -> None:
        self.base_url = base_url
        self.options = Options(
            client_name=client_name,
            filter=read_filter(filter),
            cache_dir=None if cache_dir is None else Path(cache_dir),
            on_reset=Resync(on_reset),
            **options,
        )
        self.client_id = f"{client_name}#{secrets.token_hex(2)}"
        """This instance: what its events carry as clientID."""
        self.handlers = Handlers()
        self.on = self.handlers.on
        self.on_order = self.handlers.on_order
        self.on_stage_change = self.handlers.on_stage_change
        self.on_dashboard_change = self.handlers.on_dashboard_change
        self.on_resync = self.handlers.on_resync
        self._rng = rng
        self._tokens = Tokens(token)
        self._transport_options: dict[str, Any] = {
            "verify": self.options.verify_tls,
            "headers": {"X-Client-ID": self.client_id, **self.options.headers},
            "trust_env": self.options.trust_env,
        }
        # Made here, so that a wrong address is told at once; it opens nothing yet.
        self._transport = Transport(base_url, **self._transport_options)
        self._listeners: list[StateListener] = []
        self._moved = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._started = False
        self._closed = False
        self._cache_note = ""
        self.transitions: list[StateChange] = []
        """The last fifty."""

    # -- life -------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Open the cache and connect. Raises CacheLocked if another program has it."""
        if self._closed:
            raise Closed("a closed client cannot be started again; make a new one")
        if self._started:
            self._driver.signal(Signal.CONNECT)
            return
        loop = asyncio.get_running_loop()
        try:
            saved = await self._open_cache()
            if self._closed:
                raise Closed("the client was closed while it started")
        except BaseException:
            if hasattr(self, "_keeper"):
                await asyncio.shield(self._keeper.aclose())
            raise
        self._meter = Meter(started_s=time.monotonic())
        self._meter.restore(saved.meta.get("connectionMetrics", ""))
        self._intake = self._make_intake(saved, loop)
        self._driver = self._make_driver()
        self._delivery = Delivery(
            self._keeper,
            self.handlers,
            policy=self.options.handler_policy,
            rng=self._rng,
            own_client_id=self.client_id if self.options.hide_own else None,
            resync_due=lambda: self._intake.resync_reason,
            resync_done=self._intake.resync_done,
            progressed=self._progressed,
            resets=lambda: self._intake.facts.resets,
        )
        self.handlers.changed = self._delivery.wake
        self._started = True
        try:
            await self._intake.open()
            await self._remember_configuration()
        except CacheUnwritable as exc:
            self._note_cache(exc)
        self._spawn(self._delivery.run(), "delivery")
        self._spawn(self._housekeep(), "housekeeping")
        self._delivery.wake()
        self._driver.start()
        self._driver.signal(Signal.CONNECT)

    async def _open_cache(self) -> Saved:
        path = cache_path(self.base_url, self.options)
        self._keeper = Keeper(lambda: SQLiteCache(path), threaded=True) if self.options.cache else _in_memory()
        try:
            await self._keeper.open()
        except CacheUnwritable as exc:
            self._note_cache(exc)
            self._keeper = _in_memory()
            await self._keeper.open()
        cache = self._keeper.cache
        if isinstance(cache, SQLiteCache) and cache.set_aside is not None:
            log.warning("cache_set_aside", path=str(cache.set_aside))
            self._cache_note = f"the unusable one was kept as {cache.set_aside.name}"
        return await self._keeper.run(cache.load)

    def _note_cache(self, exc: CacheError) -> None:
        log.warning("cache_unwritable", error=str(exc))
        self._cache_note = str(exc)

    def _make_intake(self, saved: Saved, loop: asyncio.AbstractEventLoop) -> Intake:
        return Intake(
            self._keeper,
            saved,
            filter_=self.options.filter,
            start=self.options.start,
            resync=self.options.on_reset,
            behind_bytes=int(self.options.cache_max_mb * 1024 * 1024),
            clock=loop.time,
            news=lambda: self._delivery.wake(),
            wants=self.handlers.names,
        )

    def _make_driver(self) -> Driver:
        options = self.options
        policy = options.policy or Policy(
            max_reconnect_attempts=options.max_reconnect_attempts, unattended=options.unattended
        )
        params = {key: ",".join(values) for key, values in options.filter.document().items()}
        return Driver(
            self._transport,
            self._intake,
            tokens=self._tokens,
            policy=policy,
            limits=Limits(first_byte_s=options.first_byte_s, poll_wait_s=options.poll_wait_s),
            breaker=Breaker(clock=time.monotonic, rng=self._rng),
            params={**params, **options.params},
            rng=self._rng,
            changed=self._state_changed,
            is_behind=self._is_behind,
        )

    async def close(self) -> None:
        """End everything, within a second. Events that were not handed out wait for the next start. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._started:
            await self._driver.aclose()
            tasks = [task for task in self._tasks if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=CLOSE_S / 2)
            with suppress(CacheError, TimeoutError):
                async with asyncio.timeout(CLOSE_S / 2):
                    await self._delivery.aclose()
                    await self._save_metrics()
            await self._keeper.aclose()
            self._moved.set()
        await self._transport.aclose()

    def _spawn(self, work: Any, name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"sync-client-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.error("task_failed", task=task.get_name(), exc_info=exc)

    # -- what programs use ------------------------------------------------------------------------------

    def connect(self) -> None:
        """Try now: ends `failed` and any waiting."""
        self._check()
        self._driver.signal(Signal.CONNECT)

    def set_token(self, token: TokenProvider | None) -> None:
        """Another token, or another way to get one; ends `failed`."""
        changed = self._tokens.replace(token)
        if self._started and changed and not self._closed:
            self._driver.signal(Signal.TOKEN_CHANGED)

    def events(self) -> Events:
        """``async for event in client.events()``: all events from here on, those of an earlier run first."""
        self._check()
        return self._delivery.subscribe()

    async def acknowledge(self, event: Event | str) -> bool:
        """Set the event's `acknowledged` flag, which changes nothing else; False if the cache has it no more."""
        self._check()
        event_id = event.id if isinstance(event, Event) else event
        return event_id is not None and await self._keeper.run(self._keeper.cache.acknowledge, event_id)

    async def value(self, key: str, default: Any = None) -> Any:
        """What a transactional handler put under *key*."""
        self._check()
        return await self._keeper.run(self._keeper.cache.get_value, key, default)

    async def recent(self, limit: int = 100) -> list[Event]:
        """The newest events of the cache, oldest of them first."""
        self._check()
        return [Event(record) for record in await self._records(limit, None)]

    async def parked(self) -> list[Event]:
        """Events whose handlers failed for good."""
        self._check()
        return [Event(record) for record in await self._records(1000, Mark.PARKED)]

    async def _records(self, limit: int, mark: Mark | None) -> list[Record]:
        return await self._keeper.run(self._keeper.cache.events, limit=limit, mark=mark)

    async def export(self) -> dict[str, Any]:
        """The cache in the persistence format of version 1.0.0."""
        self._check()
        await self._save_metrics()
        saved = await self._keeper.run(self._keeper.cache.load)
        return export_document(await self._records(1_000_000, None), saved.meta, cursor=self.cursor or None)

    def on_state_change(self, listener: StateListener) -> StateListener:
        """Decorator: ``listener(change)``, sync or async, after each change of state."""
        self._listeners.append(listener)
        return listener

    @property
    def state(self) -> State:
        if not self._started:
            return State.CLOSED if self._closed else State.DISCONNECTED
        return self._driver.machine.state

    @property
    def is_connected(self) -> bool:
        """Whether the stream delivers."""
        return self.state is State.CONNECTED

    @property
    def cursor(self) -> str:
        """Everything up to here is stored; "" before the first connection."""
        return self._intake.received if self._started else ""

    @property
    def idle(self) -> bool:
        """Whether all that has arrived was handed out."""
        return self._started and self._delivery.idle.is_set() and not self._keeper.backlog

    async def wait_for(self, *states: State, timeout_s: float | None = None) -> State:
        """Wait until the client is in one of *states*. Raises TimeoutError, and Closed if it never can be."""
        async with asyncio.timeout(timeout_s):
            while self.state not in states:
                if self._closed:
                    raise Closed("the client was closed")
                self._moved.clear()
                await self._moved.wait()
        return self.state

    @property
    def health(self) -> Health:
        """The connection at this moment."""
        machine = self._driver.machine if self._started else Machine()
        now_s = time.monotonic()
        for_s = now_s - machine.since_s if machine.since_s else 0.0
        return Health(
            status=status_of(machine),
            state=self.state.value,
            since=iso_from_ms(time.time_ns() // 1_000_000 - int(for_s * 1000)),
            for_s=for_s,
            reason=machine.reason,
            attempt=machine.attempt,
            next_retry_s=None if machine.retry_at_s is None else max(machine.retry_at_s - now_s, 0.0),
            cursor=self.cursor,
            stale_for_s=self._stale_for_s(),
            last_byte_s=self._last_byte_ago_s(),
            transport={State.CONNECTED: "sse", State.POLLING: "polling"}.get(machine.state),
            caught_up=self._started and self._intake.facts.caught_up,
            breaker=self._driver.breaker.state.value if self._started else "closed",
            queue_depth=self._keeper.backlog if self._started else 0,
            held=machine.held,
            cache=self._cache_text(),
            last_error=self._driver.last_error if self._started else "",
        )

    def _cache_text(self) -> str:
        if not self._started:
            return ""
        return self._keeper.cache.where + (f" ({self._cache_note})" if self._cache_note else "")

    def _last_byte_ago_s(self) -> float | None:
        if not self._started or self._driver.last_byte_s is None:
            return None
        return max(time.monotonic() - self._driver.last_byte_s, 0.0)

    def _stale_for_s(self) -> float | None:
        """The log's age as last told, plus the time since the server last said anything."""
        ago_s = self._last_byte_ago_s()
        return None if ago_s is None else ago_s + self._intake.facts.tail_age_s

    @property
    def metrics(self) -> Metrics:
        """Counted since the start, some over all runs."""
        self._check(closed_too=True)
        now_s = time.monotonic()
        facts, counts, delivered = self._intake.facts, self._driver.counts, self._delivery.counts
        meter = self._meter
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
            resets=facts.resets,
            delivered=delivered.delivered,
            handler_errors=delivered.handler_errors,
            parked=delivered.parked,
            storage_bytes=self._keeper.cache.size_bytes(),
        )

    @property
    def errors(self) -> list[tuple[float, str]]:
        """The last twenty: seconds of the monotonic clock, and what it was."""
        return list(self._driver.errors) if self._started else []

    @property
    def machine(self) -> Machine:
        """The state machine's own view, for debugging."""
        return self._driver.machine if self._started else Machine()

    def _check(self, *, closed_too: bool = False) -> None:
        if self._closed and not closed_too:
            raise Closed("the client is closed")
        if not self._started:
            raise ClientError("the client has not been started: use `async with`, or await start()")

    # -- inside -----------------------------------------------------------------------------------------

    def _is_behind(self) -> bool:
        """Whether there is more than half of what may wait."""
        return self._keeper.backlog_bytes > self.options.cache_max_mb * 1024 * 1024 / 2

    def _progressed(self) -> None:
        if self._driver.machine.held and not self._is_behind() and self._driver.machine.reason == "consumer_behind":
            self._driver.signal(Signal.CONSUMER_READY)

    def _state_changed(self, before: Machine, after: Machine, happening: Happening) -> None:
        self._meter.moved(before, after, now_s=happening.now_s)
        self._moved.set()
        if before.state is after.state:
            return
        change = StateChange(before.state, after.state, after.reason or happening.reason, time.time_ns() // 1_000_000)
        self.transitions = [*self.transitions[-49:], change]
        self._log_change(change)
        for listener in self._listeners:
            try:
                result = listener(change)
            except Exception as exc:  # noqa: BLE001 - the program's own code
                log.warning("listener_failed", error=type(exc).__name__)
            else:
                if asyncio.iscoroutine(result):
                    self._spawn(result, "listener")
        if after.state is State.CONNECTED and not self._closed:
            self._spawn(self._remember_connection(change.at_ms), "remember")

    def _log_change(self, change: StateChange) -> None:
        # One WARNING per outage: when the connection is lost, not for every try.
        lost = change.before is State.CONNECTED and change.after is State.RECONNECTING
        bad = change.after is State.FAILED or (change.after is State.ERROR and len(self.transitions) < 4)
        write = log.warning if lost or bad else log.info
        write("state", before=change.before.value, after=change.after.value, reason=change.reason)

    async def _remember_connection(self, at_ms: int) -> None:
        with suppress(CacheError):
            await self._keeper.run(self._keeper.cache.set_meta, "lastConnectionTime", iso_from_ms(at_ms))

    async def _remember_configuration(self) -> None:
        document = configuration(
            self.options.filter.document(), max_reconnect_attempts=self.options.max_reconnect_attempts
        )
        await self._keeper.run(self._keeper.cache.set_meta, "configuration", json.dumps(document))

    async def _save_metrics(self) -> None:
        document = self._meter.document(self._intake.facts.events, now_s=time.monotonic())
        await self._keeper.run(self._keeper.cache.set_meta, "connectionMetrics", json.dumps(document))

    async def _housekeep(self) -> None:
        """Retention, and the metrics that outlive a crash."""
        saved_events = -1
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            with suppress(CacheError):
                await self._keeper.run(
                    self._keeper.cache.trim,
                    now_ms=time.time_ns() // 1_000_000,
                    max_age_s=self.options.retention_s,
                    max_events=self.options.retention_events,
                )
                if self._intake.facts.events != saved_events:
                    saved_events = self._intake.facts.events
                    await self._save_metrics()


def _in_memory() -> Keeper:
    return Keeper(MemoryCache, threaded=False)
