"""The client for programs without asyncio: a Tk or Qt kiosk, a plain script.

    client = SyncClient("http://127.0.0.1:8000", client_name="kiosk")

    @client.on("stage_change")
    def show(event): label["text"] = event.data["newStage"]

    client.start()
    def tick():                        # Tk: callbacks run here, in Tk's own thread
        client.process()
        root.after(50, tick)

A thread of its own runs the event loop; what it has to tell goes through a mailbox, and ``process`` calls the
callbacks in the thread that calls it. An event is marked processed after its callback returned, so delivery is at
least once here too. Transactional handlers are the exception: they run inside the cache's thread.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from sync_client.client import StateChange
from sync_client.client import SyncClient as AsyncClient
from sync_client.errors import ClientError, Closed
from sync_client.event import Event
from sync_client.health import Health, Metrics
from sync_client.logs import get_logger
from sync_client.mailbox import Mailbox
from sync_client.options import Options
from sync_client.states import Machine, State
from sync_client.subscriptions import Events as AsyncEvents
from sync_client.tokens import TokenProvider

if TYPE_CHECKING:  # a client without a replica does without the domain, whose import takes a while
    from sync_client.blocking_collections import Collection
    from sync_client.blocking_outbox import Outbox
    from sync_client.blocking_session import Session
    from sync_core.domain.bays import Bay
    from sync_core.domain.orders import Order
    from sync_core.domain.queues import Queue

__all__ = ["Events", "SyncClient"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
CLOSE_S = 1.0
LOOK_S = 0.05
"""How often those that wait here look whether the client was closed."""

log = get_logger()


class SyncClient:
    """Takes what sync_client.SyncClient takes. Made, used and closed by one thread; ``process`` drains it."""

    orders: "Collection[Order]"
    queues: "Collection[Queue]"
    bays: "Collection[Bay]"

    def __init__(self, base_url: str, **options: Any) -> None:
        self._mailbox = Mailbox()
        self._client = AsyncClient(base_url, **options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._listeners: list[Callable[[StateChange], Any]] = []
        self._client.on_state_change(self._told)

    # -- life -------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the thread and connect. Raises CacheLocked."""
        if self._closed:
            raise Closed("a closed client cannot be started again; make a new one")
        if self._thread is not None:
            self.connect()
            return
        ready: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="sync-client", daemon=True)
        self._thread.start()
        self._loop = ready.result()
        try:
            self._ask(self._client.start())
        except BaseException:
            self.close()
            raise

    def _run(self, ready: "Future[asyncio.AbstractEventLoop]") -> None:
        async def live() -> None:
            self._stop = asyncio.Event()
            ready.set_result(asyncio.get_running_loop())
            await self._stop.wait()
            await self._client.close()

        asyncio.run(live())

    def close(self) -> None:
        """End everything, within a second; callbacks that wait are dropped and come again. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._thread is None:
            # In a thread, because this one may have a running loop.
            self._thread = threading.Thread(target=lambda: asyncio.run(self._client.close()), daemon=True)
            self._thread.start()
        elif self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not threading.current_thread():
            self._thread.join(CLOSE_S)
            if self._thread.is_alive():
                log.warning("thread_left", why="it waits for a token function or a name server that does not answer")
        self._thread = None
        self._mailbox.wake()

    def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Run *work* in the loop's thread and wait for it."""
        if self._thread is None or self._loop is None:
            work.close()
            raise Closed("the client is closed") if self._closed else ClientError("the client has not been started")
        if threading.current_thread() is self._thread:
            work.close()
            raise ClientError("this would wait for itself: it was called from the client's own thread")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _do(self, function: Callable[[], T]) -> T:
        """Call *function* in the loop's thread; in this one while there is no other."""
        if self._thread is None:
            return function()

        async def run() -> T:
            return function()

        return self._ask(run())

    def _attend(self, work: Coroutine[Any, Any, T]) -> T:
        """Run *work* in the loop's thread; meanwhile call callbacks here. Raises what it raises, and Closed."""
        if self._thread is None or self._loop is None or threading.current_thread() is self._thread:
            return self._ask(work)  # which says what is wrong
        coming = asyncio.run_coroutine_threadsafe(work, self._loop)
        coming.add_done_callback(lambda _: self._mailbox.wake())
        while not coming.done():
            if self._closed:
                coming.cancel()
                raise Closed("the client was closed")
            self._mailbox.next(LOOK_S)
        return coming.result()

    # -- callbacks --------------------------------------------------------------------------------------

    def process(self, budget_s: float = 0.02) -> int:
        """Call what is waiting, in this thread, for up to *budget_s* and at least one; how many."""
        return self._mailbox.drain(budget_s)

    def run_forever(self) -> None:
        """Call callbacks as they come, until the client is closed."""
        while not self._closed:
            self._mailbox.next(0.5)

    def wait_for(self, *states: State, timeout_s: float | None = 30.0) -> State:
        """Call callbacks until the client is in one of *states*. Raises TimeoutError, Closed if it never can be."""
        end_s = _end_s(timeout_s)
        while (state := self.state) not in states:
            if self._closed:
                raise Closed("the client was closed")
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"still {state.value} after {timeout_s:g} s")
            self._mailbox.next(min(left_s, LOOK_S))
        return state

    def events(self, *, timeout_s: float | None = None) -> "Events":
        """All events, in this thread, until close(), or until none came for *timeout_s*.

        An event counts as processed when the next one is asked for. Other callbacks run in between. Beside
        handlers, events of an earlier run are for iterators that were made before ``start``.
        """
        return Events(self, self._do(self._client.events), timeout_s=timeout_s)

    def _wait(self, coming: "Future[Event | None]", timeout_s: float | None) -> Event | None:
        """Call callbacks until *coming* is there; None after *timeout_s*, or if the client is closed."""
        coming.add_done_callback(lambda _: self._mailbox.wake())
        end_s = _end_s(timeout_s)
        while not coming.done():
            if self._closed or time.monotonic() >= end_s:
                coming.cancel()
                return None
            self._mailbox.next(LOOK_S)
        return None if coming.cancelled() else coming.result()

    def on(self, *event_types: str, transactional: bool = False) -> Callable[[F], F]:
        """Decorator, see sync_client.SyncClient.on; the function is called by ``process``."""
        return self._registering(self._client.on(*event_types, transactional=transactional), elsewhere=transactional)

    def on_order(self, order_id: str, *, transactional: bool = False) -> Callable[[F], F]:
        """Decorator: events about that order."""
        return self._registering(self._client.on_order(order_id, transactional=transactional), elsewhere=transactional)

    def on_stage_change(self, order_id: str | None = None) -> Callable[[F], F]:
        """Decorator: ``handler(event, previous_stage, new_stage)``."""
        return self._registering(self._client.on_stage_change(order_id))

    def on_dashboard_change(
        self, *event_types: str, debounce_s: float = 0.3, at_most_s: float = 2.0
    ) -> Callable[[F], F]:
        """Decorator: ``refresh()`` once for a burst of events."""
        return self._registering(
            self._client.on_dashboard_change(*event_types, debounce_s=debounce_s, at_most_s=at_most_s)
        )

    def on_resync(self, function: F) -> F:
        """Decorator: ``handler(reason)``."""
        return self._registering(self._client.on_resync)(function)

    def _registering(self, register: Callable[[Any], Any], *, elsewhere: bool = False) -> Callable[[F], F]:
        """A decorator that registers in the loop's thread, which reads the registrations."""

        def decorate(function: F) -> F:
            called = function if elsewhere else self._mailbox.wrap(function)
            self._do(lambda: register(called))
            return function

        return decorate

    def on_state_change(self, listener: F) -> F:
        """Decorator: ``listener(change)``, called by ``process``. One that raises is counted with the handlers."""
        self._listeners.append(listener)
        return listener

    def _told(self, change: StateChange) -> None:
        for listener in self._listeners:
            self._mailbox.post(lambda listener=listener: listener(change))  # type: ignore[misc]

    # -- the rest: see sync_client.SyncClient -------------------------------------------------------------

    @property
    def base_url(self) -> str:
        return self._client.base_url

    @property
    def options(self) -> Options:
        return self._client.options

    @property
    def client_id(self) -> str:
        return self._client.client_id

    @property
    def state(self) -> State:
        return self._client.state

    @property
    def is_connected(self) -> bool:
        return self._client.is_connected

    @property
    def cursor(self) -> str:
        return self._client.cursor

    @property
    def idle(self) -> bool:
        return self._client.idle

    @property
    def health(self) -> Health:
        return self._client.health

    @property
    def machine(self) -> Machine:
        return self._client.machine

    @property
    def transitions(self) -> list[StateChange]:
        return self._client.transitions

    @property
    def errors(self) -> list[tuple[float, str]]:
        return self._client.errors

    @property
    def metrics(self) -> Metrics:
        read = self._do(lambda: self._client.metrics)
        return replace(read, handler_errors=read.handler_errors + self._mailbox.failures)

    def __getattr__(self, name: str) -> Any:
        """The documents of a kind: ``orders``, ``queues``, ``bays``. Raises NoReplica."""
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._client, name)
        from sync_client.blocking_collections import Collection

        return Collection(_Thread(self), found)

    def __dir__(self) -> list[str]:
        kinds = set(dir(self._client)) - set(object.__dir__(self._client))
        return sorted({*super().__dir__(), *kinds})

    @property
    def outbox(self) -> "Outbox":
        """The commands that have no answer yet. Raises NoReplica."""
        from sync_client.blocking_outbox import Outbox

        return Outbox(_Thread(self), self._client.outbox, self._mailbox)

    @property
    def session(self) -> "Session":
        """A person's cart at this till. Raises NoReplica."""
        from sync_client.blocking_session import Session

        return Session(_Thread(self), self._client.session)

    def connect(self) -> None:
        """Try now: ends `failed` and any waiting."""
        self._do(self._client.connect)

    def set_token(self, token: TokenProvider | None) -> None:
        """Another token, or another way to get one; ends `failed`."""
        self._do(lambda: self._client.set_token(token))

    def acknowledge(self, event: Event | str) -> bool:
        return self._ask(self._client.acknowledge(event))

    def value(self, key: str, default: Any = None) -> Any:
        """What a transactional handler put under *key*."""
        return self._ask(self._client.value(key, default))

    def recent(self, limit: int = 100) -> list[Event]:
        """The newest events of the cache, oldest of them first."""
        return self._ask(self._client.recent(limit))

    def parked(self) -> list[Event]:
        """Events whose handlers failed for good."""
        return self._ask(self._client.parked())

    def export(self) -> dict[str, Any]:
        """The cache in the persistence format of version 1.0.0."""
        return self._ask(self._client.export())


class _Thread:
    """See blocking_outbox.Thread."""

    def __init__(self, client: SyncClient) -> None:
        self._client = client

    def do(self, function: Callable[[], T]) -> T:
        return self._client._do(function)

    def attend(self, work: Coroutine[Any, Any, T]) -> T:
        return self._client._attend(work)

    def next_of(self, things: AsyncIterator[T], timeout_s: float | None) -> T:
        async def take() -> T | None:
            async with asyncio.timeout(timeout_s):
                return await anext(things, _ENDED)

        try:
            taken = self._client._attend(take())
        except (TimeoutError, Closed):
            raise StopIteration from None
        if taken is _ENDED:
            raise StopIteration
        return cast("T", taken)


_ENDED: Any = object()


class Events(Iterator[Event]):
    """``for event in client.events()``. Left by `break`, it lets go of the last event, which comes again."""

    def __init__(self, client: SyncClient, events: AsyncEvents, *, timeout_s: float | None) -> None:
        self._client = client
        self._events = events
        self._timeout_s = timeout_s

    def __iter__(self) -> "Events":
        return self

    def __next__(self) -> Event:
        client = self._client
        if client._closed:
            raise StopIteration
        if client._loop is None:
            raise ClientError("the client has not been started")
        coming = asyncio.run_coroutine_threadsafe(_next_of(self._events), client._loop)
        event = client._wait(coming, self._timeout_s)
        if event is None:
            self.close()
            raise StopIteration
        return event

    def close(self) -> None:
        """Let go. Idempotent."""
        self._events.close()


async def _next_of(events: AsyncEvents) -> Event | None:
    return await anext(events, None)


def _end_s(timeout_s: float | None) -> float:
    return float("inf") if timeout_s is None else time.monotonic() + timeout_s
