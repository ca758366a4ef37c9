"""The client for programs without asyncio: a Tk or Qt kiosk, a plain script.

    client = SyncClient("http://127.0.0.1:8000", client_name="kiosk")

    @client.on("stage_change")
    def show(event): label["text"] = event.data["newStage"]

    client.start()
    def tick():                        # Tk: callbacks run here, in Tk's own thread
        client.process()
        root.after(50, tick)

A thread of its own runs the event loop; what it has to tell goes through a queue, and ``process`` calls the
callbacks in the thread that calls it. An event is marked processed after its callback returned, so delivery is at
least once here too. Transactional handlers are the exception: they run inside the cache's thread.
"""

import asyncio
import inspect
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from sync_client.client import StateChange
from sync_client.client import SyncClient as AsyncClient
from sync_client.delivery import Events
from sync_client.errors import ClientError, Closed, ConfigurationError
from sync_client.event import Event
from sync_client.health import Health, Metrics
from sync_client.states import State

__all__ = ["SyncClient"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
NEXT_S = 0.003
"""How long process() waits for the event after the one it has just handled: the way through the other thread."""
CLOSE_S = 5.0


class SyncClient:
    """Takes what sync_client.SyncClient takes. Made, used and closed by one thread; ``process`` drains it."""

    def __init__(self, base_url: str, **options: Any) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
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
        """End everything, within about a second; callbacks that wait are dropped and come again. Idempotent."""
        self._closed = True
        if self._thread is None:
            if self._loop is None:
                asyncio.run(self._client.close())
            return
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(CLOSE_S)
        self._thread = None
        self._queue.put(None)

    def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Run *work* in the loop's thread and wait for it."""
        if self._thread is None or self._loop is None:
            work.close()
            raise Closed("the client is closed") if self._closed else ClientError("the client has not been started")
        if threading.current_thread() is self._thread:
            work.close()
            raise ClientError("this would wait for itself: it was called from the client's own thread")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # -- callbacks --------------------------------------------------------------------------------------

    def process(self, budget_s: float = 0.02) -> int:
        """Call what is waiting, in this thread, for up to *budget_s* and at least one; how many."""
        end_s = time.monotonic() + budget_s
        count, wait_s = 0, 0.0
        while True:
            call = self._next(wait_s)
            if call is None:
                return count
            call()
            count += 1
            if time.monotonic() >= end_s:
                return count
            wait_s = NEXT_S

    def run_forever(self) -> None:
        """Call callbacks as they come, until the client is closed."""
        while not self._closed:
            call = self._next(0.5)
            if call is not None:
                call()

    def wait_for(self, *states: State, timeout_s: float = 30.0) -> State:
        """Call callbacks until the client is in one of *states*. Raises TimeoutError."""
        end_s = time.monotonic() + timeout_s
        while self.state not in states:
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"still {self.state.value} after {timeout_s:g} s")
            call = self._next(min(left_s, 0.05))
            if call is not None:
                call()
        return self.state

    def events(self, *, timeout_s: float | None = None) -> Iterator[Event]:
        """All events, in this thread, until close(), or until none came for *timeout_s*.

        An event counts as processed when the next one is asked for. Other callbacks run in between.
        """

        async def subscribe() -> Events:
            return self._client.events()

        events = self._ask(subscribe())
        assert self._loop is not None
        try:
            while not self._closed:
                coming = asyncio.run_coroutine_threadsafe(_next_of(events), self._loop)
                event = self._process_until(coming, timeout_s)
                if event is None:
                    return
                yield event
        finally:
            if not self._closed:
                self._ask(events.aclose())

    def _process_until(self, coming: "Future[Event | None]", timeout_s: float | None) -> Event | None:
        """Call callbacks until *coming* is there; None after *timeout_s*, or if the client is closed."""
        coming.add_done_callback(lambda _: self._queue.put(None))
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while not coming.done():
            if self._closed or (end_s is not None and time.monotonic() >= end_s):
                coming.cancel()
                return None
            call = self._next(0.05)
            if call is not None:
                call()
        return None if coming.cancelled() else coming.result()

    def _next(self, wait_s: float) -> Callable[[], None] | None:
        try:
            return self._queue.get(timeout=wait_s) if wait_s > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None

    def _elsewhere(self, function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, None]]:
        """*function*, called by ``process`` in its caller's thread; awaited from here."""
        if inspect.iscoroutinefunction(function):
            raise ConfigurationError("a blocking client calls plain functions; async ones are for SyncClient")

        async def call(*args: Any) -> None:
            loop = asyncio.get_running_loop()
            finished: asyncio.Future[None] = loop.create_future()

            def settle(exc: BaseException | None) -> None:
                if finished.done():
                    return
                if exc is None:
                    finished.set_result(None)
                else:
                    finished.set_exception(exc)

            def here() -> None:
                if finished.done():
                    return  # the client was closed meanwhile: the event comes again
                exc: BaseException | None = None
                try:
                    function(*args)
                except Exception as raised:  # noqa: BLE001 - handed to the delivery, which repeats and parks
                    exc = raised
                if not loop.is_closed():
                    loop.call_soon_threadsafe(settle, exc)

            self._queue.put(here)
            await finished

        call.__qualname__ = getattr(function, "__qualname__", "callback")
        return call

    def _on_loop(self, register: Callable[[], Any]) -> None:
        """Registrations change what the other thread reads."""
        if self._loop is not None and self._thread is not None:

            async def run() -> None:
                register()

            self._ask(run())
        else:
            register()

    def on(self, *event_types: str, transactional: bool = False) -> Callable[[F], F]:
        """Decorator, see sync_client.SyncClient.on; the function is called by ``process``."""

        def register(function: F) -> F:
            called = function if transactional else self._elsewhere(function)
            self._on_loop(lambda: self._client.on(*event_types, transactional=transactional)(called))
            return function

        return register

    def on_order(self, order_id: str) -> Callable[[F], F]:
        """Decorator: events about that order."""

        def register(function: F) -> F:
            called = self._elsewhere(function)
            self._on_loop(lambda: self._client.on_order(order_id)(called))
            return function

        return register

    def on_stage_change(self, order_id: str | None = None) -> Callable[[F], F]:
        """Decorator: ``handler(event, previous_stage, new_stage)``."""

        def register(function: F) -> F:
            called = self._elsewhere(function)
            self._on_loop(lambda: self._client.on_stage_change(order_id)(called))
            return function

        return register

    def on_dashboard_change(self, *event_types: str, debounce_s: float = 0.3) -> Callable[[F], F]:
        """Decorator: ``refresh()`` once for a burst of events."""

        def register(function: F) -> F:
            called = self._elsewhere(function)
            self._on_loop(lambda: self._client.on_dashboard_change(*event_types, debounce_s=debounce_s)(called))
            return function

        return register

    def on_resync(self, function: F) -> F:
        """Decorator: ``handler(reason)``."""
        called = self._elsewhere(function)
        self._on_loop(lambda: self._client.on_resync(called))
        return function

    def on_state_change(self, listener: F) -> F:
        """Decorator: ``listener(change)``, called by ``process``."""
        self._listeners.append(listener)
        return listener

    def _told(self, change: StateChange) -> None:
        for listener in self._listeners:
            self._queue.put(lambda listener=listener: listener(change))  # type: ignore[misc]

    # -- the rest ---------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self._client.state

    @property
    def is_connected(self) -> bool:
        return self.state is State.CONNECTED

    @property
    def health(self) -> Health:
        """See sync_client.SyncClient.health."""
        return self._client.health

    @property
    def metrics(self) -> Metrics:
        """See sync_client.SyncClient.metrics."""

        async def read() -> Metrics:
            return self._client.metrics

        return self._ask(read())

    def connect(self) -> None:
        """Try now."""

        async def run() -> None:
            self._client.connect()

        self._ask(run())

    def set_token(self, token: Any) -> None:
        """Another token."""

        async def run() -> None:
            self._client.set_token(token)

        self._ask(run())

    def acknowledge(self, event: Event | str) -> bool:
        """See sync_client.SyncClient.acknowledge."""
        return self._ask(self._client.acknowledge(event))

    def value(self, key: str, default: Any = None) -> Any:
        """What a transactional handler put under *key*."""
        return self._ask(self._client.value(key, default))

    def recent(self, limit: int = 100) -> list[Event]:
        """The newest events of the cache."""
        return self._ask(self._client.recent(limit))

    def export(self) -> dict[str, Any]:
        """The cache in the persistence format of version 1.0.0."""
        return self._ask(self._client.export())


async def _next_of(events: Events) -> Event | None:
    return await anext(events, None)
