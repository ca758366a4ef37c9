"""SyncClient: the one object that a till, kiosk or washing-bay program makes. The composition root.

    async with SyncClient("http://127.0.0.1:8000", client_name="till-3") as client:
        async for event in client.events():
            print(event.event_type, event.data)

How an event gets here: driver.py holds the connection and reads it (transport.py), intake.py drops what is known
and commits the rest with its cursor (cache.py), delivery.py hands it to handlers and iterators and marks it.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sync_client.attempts import Attempts
from sync_client.backoff import Rng
from sync_client.breaker import Breaker
from sync_client.cache import SQLiteCache
from sync_client.changes import Changes, StateChange
from sync_client.delivery import Delivery
from sync_client.driver import Driver
from sync_client.errors import CacheError, CacheUnwritable, ClientError, Closed, NoReplica
from sync_client.event import Event
from sync_client.gauges import Gauges, health_at_rest
from sync_client.handlers import Handlers
from sync_client.health import Health, Meter, Metrics
from sync_client.intake import Intake, Resync
from sync_client.keeper import Keeper, open_keeper
from sync_client.limits import Limits
from sync_client.logs import get_logger
from sync_client.options import FilterLike, Options, cache_path, outbox_path, read_filter
from sync_client.persistence import export_document
from sync_client.records import Mark, Saved
from sync_client.states import Happening, Machine, Policy, Signal, State
from sync_client.subscriptions import Events, Subscriptions
from sync_client.tokens import TokenProvider, Tokens
from sync_client.transport import Transport
from sync_client.upkeep import Upkeep
from sync_client.websocket import SocketTransport
from sync_core.filters import Filter

if TYPE_CHECKING:  # a client without a replica does without the domain, whose import takes a while
    from sync_client.collections import Collection
    from sync_client.outbox import Outbox
    from sync_client.session import Session
    from sync_client.shop import Shop
    from sync_core.domain.bays import Bay
    from sync_core.domain.orders import Order
    from sync_core.domain.queues import Queue

__all__ = ["StateChange", "SyncClient"]

CLOSE_S = 0.25

log = get_logger()


class SyncClient:
    """See the module. Keyword arguments are those of ``Options``; *filter* may be a plain mapping.

    Handlers are registered before or after the start, with ``on``, ``on_order``, ``on_stage_change``,
    ``on_dashboard_change``, ``on_resync``. Events wait, on disk, until somebody takes them: a handler or an
    iterator. Raises ConfigurationError here, CacheLocked from ``start``.
    """

    _keeper: Keeper
    _meter: Meter
    _intake: Intake
    _driver: Driver
    _delivery: Delivery
    _upkeep: Upkeep
    _gauges: Gauges
    orders: "Collection[Order]"
    queues: "Collection[Queue]"
    bays: "Collection[Bay]"
    outbox: "Outbox"
    session: "Session"

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
        self.client_id = f"{client_name}#{secrets.token_hex(6)}"
        """This instance: what its events carry as clientID. No two are alike, also where all tills have one name."""
        self._handlers = Handlers()
        self.on = self._handlers.on
        self.on_order = self._handlers.on_order
        self.on_stage_change = self._handlers.on_stage_change
        self.on_dashboard_change = self._handlers.on_dashboard_change
        self.on_resync = self._handlers.on_resync
        self._subscriptions = Subscriptions()
        self._attempts = Attempts(policy=self.options.handler_policy, rng=rng)
        self._changes = Changes(self._attempts)
        self.on_state_change = self._changes.listen
        self._rng = rng
        self._tokens = Tokens(token)
        # Made here, so that a wrong address is told at once; it opens nothing yet.
        self._transport = Transport(
            base_url,
            verify=self.options.verify_tls,
            headers={"X-Client-ID": self.client_id, **self.options.headers},
            trust_env=self.options.trust_env,
        )
        self._sockets = self._make_sockets() if self.options.transport == "ws" else None
        self._shop = self._make_shop() if self.options.replica else None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._starting: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._started = False
        self._closed = False

    # -- life -------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Open the cache and connect. Raises CacheLocked if another program has it; it may be called again then.

        One that is cancelled closes the client.
        """
        if self._closed:
            raise Closed("a closed client cannot be started again; make a new one")
        if self._started:
            self._driver.signal(Signal.CONNECT)
            return
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._prepare(), name="sync-client-start")
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        starting = self._starting
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await self.close()
            raise
        finally:
            if starting.done():
                self._starting = None
        if self._closed:
            raise Closed("the client was closed while it started")
        if not self._started:
            self._begin()

    async def _prepare(self) -> None:
        """Everything of the start that takes time."""
        try:
            saved = await self._open_cache()
            if self._closed:
                raise Closed("the client was closed while it started")
            if self._shop is not None:
                documents = await self._keeper.run(self._keeper.cache.documents)
                # Only beside a cache on disk: its lock keeps others away from the outbox too.
                is_on_disk = isinstance(self._keeper.cache, SQLiteCache)
                outbox = outbox_path(self.base_url, self.options) if is_on_disk else None
                await self._shop.open(saved, documents, outbox=outbox)
            self._build(saved)
            try:
                await self._intake.open()
                await self._upkeep.save_configuration()
            except CacheUnwritable as exc:
                log.warning("cache_unwritable", error=str(exc))
                self._keeper.note = str(exc)
        except BaseException:
            if self._shop is not None:
                await self._shop.aclose()
            if hasattr(self, "_keeper"):
                await self._keeper.aclose()
            raise

    def _begin(self) -> None:
        """In the task of the program: an iterator that it makes now is there before anything is handed out."""
        self._started = True
        self._spawn(self._delivery.run(), "delivery")
        self._spawn(self._upkeep.run(), "upkeep")
        if self._shop is not None:
            for name, work in self._shop.begin().items():
                self._spawn(work, name)
        self._delivery.wake()
        self._driver.start()
        self._driver.signal(Signal.CONNECT)

    async def _open_cache(self) -> Saved:
        path = cache_path(self.base_url, self.options)
        retention_events = self.options.retention_events
        self._keeper = await open_keeper(path if self.options.cache else None, retention_events=retention_events)
        return await self._keeper.run(self._keeper.cache.load)

    def _build(self, saved: Saved) -> None:
        """The parts, from the cache upwards."""
        self._meter = Meter(started_s=time.monotonic())
        self._meter.restore(saved.meta.get("connectionMetrics", ""))
        self._intake = self._make_intake(saved)
        self._driver = self._make_driver()
        self._delivery = Delivery(
            self._keeper,
            self._handlers,
            self._subscriptions,
            attempts=self._attempts,
            own_client_id=self.client_id if self.options.hide_own else None,
            resync_due=lambda: self._intake.resync_reason,
            resync_done=self._intake.resync_done,
            progressed=self._progressed,
            resets=lambda: self._intake.facts.resets,
        )
        self._upkeep = Upkeep(
            self._keeper, self.options, meter=self._meter, facts=self._intake.facts, stale_s=self._stale_s
        )
        self._gauges = Gauges(
            self._driver,
            self._intake,
            self._keeper,
            delivered=self._attempts.counts,
            meter=self._meter,
            stream=self.options.transport,
        )
        if self._shop is not None:
            self._gauges.outbox = self._shop.courier.health
            self._tokens.changed = self._shop.courier.token_changed
            self._shop.build(self._keeper, self._intake, self._driver, news=self._delivery.wake)

    def _make_shop(self) -> "Shop":
        from sync_client.shop import Shop

        return Shop(
            self.options.replica,
            view=self.options.filter,
            client_id=self.client_id,
            rng=self._rng,
            age_s=self._stale_s,
            user=self.options.subject,
        )

    @property
    def _feed_filter(self) -> Filter:
        """What is asked of the server."""
        return self.options.filter if self._shop is None else self._shop.feed_filter

    def _make_sockets(self) -> SocketTransport:
        """Raises ConfigurationError where `websockets` is missing."""
        options = self.options
        headers = {"X-Client-ID": self.client_id, **options.headers}
        return SocketTransport(self.base_url, verify=options.verify_tls, headers=headers, trust_env=options.trust_env)

    def _stale_s(self) -> float | None:
        """How long ago the server last said how things stand, for clients whose screens show that."""
        return self.health.stale_for_s if self._shop is not None else None

    def _make_intake(self, saved: Saved) -> Intake:
        return Intake(
            self._keeper,
            saved,
            filter_=self._feed_filter,
            start=self.options.start,
            resync=self.options.on_reset,
            behind_bytes=int(self.options.cache_max_mb * 1024 * 1024),
            clock=asyncio.get_running_loop().time,
            news=lambda: self._delivery.wake(),
            wants=self._handlers.names,
            documents=None if self._shop is None else self._shop.replica,
            kinds=() if self._shop is None else self._shop.chosen,
            types=self.options.filter.event_types,
            stream=self.options.transport,
            listens=lambda: bool(self._handlers) or bool(self._subscriptions.open()),
        )

    def _make_driver(self) -> Driver:
        options = self.options
        policy = options.policy or Policy(
            max_reconnect_attempts=options.max_reconnect_attempts, unattended=options.unattended
        )
        params = {key: ",".join(values) for key, values in self._feed_filter.document().items()}
        return Driver(
            self._transport,
            self._intake,
            tokens=self._tokens,
            policy=policy,
            limits=Limits(first_byte_s=options.first_byte_s, poll_wait_s=options.poll_wait_s),
            breaker=Breaker(clock=time.monotonic, rng=self._rng),
            params={**params, **options.params},
            sockets=self._sockets,
            rng=self._rng,
            changed=self._state_changed,
            is_behind=self._is_behind,
        )

    async def close(self) -> None:
        """End everything, within a second. Events that were not handed out wait for the next start. Idempotent.

        Called from a handler, it lets the handler finish; called anywhere else it cancels the one that runs.
        """
        if self._closing is None:
            self._closed = True
            work = self._close(asyncio.current_task())
            self._closing = asyncio.get_running_loop().create_task(work, name="sync-client-close")
        # What has begun is finished even if the caller is cancelled: nothing else would let go of cache and sockets.
        await asyncio.shield(self._closing)

    async def _close(self, caller: asyncio.Task[Any] | None) -> None:
        if self._starting is not None:
            await asyncio.wait([self._starting], timeout=CLOSE_S)
        self._subscriptions.end()
        if self._shop is not None:
            self._shop.end()
        if self._started:
            await asyncio.gather(
                self._driver.aclose(), self._end_tasks(caller), self._changes.aclose(within_s=CLOSE_S, spare=caller)
            )
            with suppress(CacheError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._delivery.aclose(spare=caller)
                    await self._upkeep.save_metrics()
        # While it is being opened it is not ours yet: what opens it closes it.
        if self._shop is not None and (self._starting is None or self._starting.done()):
            await self._shop.aclose()
        if hasattr(self, "_keeper") and (self._starting is None or self._starting.done()):
            await self._keeper.aclose()
        self._changes.stir()
        await self._transport.aclose()

    async def _end_tasks(self, caller: asyncio.Task[Any] | None) -> None:
        self._delivery.end(spare=caller)
        tasks = [task for task in self._tasks if task is not caller]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> None:
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
        """``async for event in client.events()``: all events from here on, those of an earlier run first.

        Beside handlers, those of an earlier run are for iterators that were made before ``start``.
        """
        if self._closed:
            raise Closed("the client is closed")
        return self._subscriptions.add()

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
        return await self._read(limit, None)

    async def parked(self) -> list[Event]:
        """Events whose handlers failed for good."""
        return await self._read(1000, Mark.PARKED)

    async def _read(self, limit: int, mark: Mark | None) -> list[Event]:
        self._check()
        records = await self._keeper.run(self._keeper.cache.events, limit=limit, mark=mark)
        return [Event(record) for record in records]

    async def export(self) -> dict[str, Any]:
        """The cache in the persistence format of version 1.0.0."""
        self._check()
        await self._upkeep.save_metrics()
        saved = await self._keeper.run(self._keeper.cache.load)
        records = await self._keeper.run(self._keeper.cache.events, limit=1_000_000)
        return export_document(records, saved.meta, cursor=self.cursor or None)

    def __getattr__(self, name: str) -> Any:
        """The documents of a kind: ``orders``, ``queues``, ``bays``, ... Raises NoReplica."""
        shop = None if name.startswith("_") else self.__dict__.get("_shop")
        if shop is not None and name in shop.collections:
            return shop.collections[name]
        if shop is not None and name == "outbox":
            return shop.courier.outbox
        if shop is not None and name == "session" and shop.session is not None:
            return shop.session
        if not name.startswith("_"):
            _explain_absence(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(() if self._shop is None else self._shop.collections)})

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
                await self._changes.next()
        return self.state

    @property
    def health(self) -> Health:
        """The connection at this moment."""
        return self._gauges.health() if self._started else health_at_rest(self.state)

    @property
    def metrics(self) -> Metrics:
        """Counted since the start, some over all runs."""
        self._check(closed_too=True)
        return self._gauges.metrics()

    @property
    def transitions(self) -> list[StateChange]:
        """The last fifty."""
        return self._changes.kept

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
        self._changes.stir()
        if self._shop is not None:
            self._shop.stir()
        if before.state is after.state:
            return
        at_ms = time.time_ns() // 1_000_000
        self._changes.tell(StateChange(before.state, after.state, after.reason or happening.reason, at_ms))
        if after.state is State.CONNECTED and not self._closed:
            self._spawn(self._upkeep.note_connection(at_ms), "connected")


def _explain_absence(name: str) -> None:
    """Raises NoReplica if another ``replica`` would have given the client a *name*."""
    from sync_core.domain.catalog import DOMAIN, SHOP

    if name == "outbox" or SHOP.kind_of(name):
        raise NoReplica(f"this client keeps no {name}: make it with replica=True")
    if name == "session":
        raise NoReplica("this client keeps no session: make it with replica=SESSION_KINDS (sync_client.session)")
    if DOMAIN.kind_of(name):
        raise NoReplica(f'this client keeps no {name}: make it with replica=["{name}"]')
