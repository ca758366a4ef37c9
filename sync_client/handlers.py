"""Handlers by what they want to hear of, and the decorators that register them."""

import asyncio
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from sync_client.attempts import was_cancelled
from sync_client.errors import ConfigurationError
from sync_client.event import CONTROL_TYPES, Event

__all__ = ["Debounced", "Handlers", "Route"]

F = TypeVar("F", bound=Callable[..., Any])

STAGE_TYPES = ("stage_change", "order_stage_change")
EVERYTHING = "*"


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One registered handler. *call* is given the event; transactional ones the transaction as well."""

    call: Callable[..., Any]
    name: str
    transactional: bool = False
    wants: Callable[[Event], bool] | None = None


class Handlers:
    """All handlers of a client, and the decorators that register them."""

    def __init__(self) -> None:
        self._by_type: dict[str, list[Route]] = {}
        self._routes: dict[str, tuple[Route, ...]] = {}
        self.resync: list[Callable[[str], Any]] = []
        self.debounced: list[Debounced] = []
        self.changed: Callable[[], None] = lambda: None
        self.refresh_failed: Callable[[str, BaseException], None] = lambda *_: None
        """Told of a dashboard's refresh that raised."""

    def __bool__(self) -> bool:
        return bool(self._by_type)

    def routes(self, event_type: str) -> tuple[Route, ...]:
        """Handlers for *event_type*: those of the type, then those of all types; each once."""
        found = self._routes.get(event_type)
        if found is None:
            both = list(self._by_type.get(event_type, ()))
            if event_type not in CONTROL_TYPES:
                both += self._by_type.get(EVERYTHING, ())
            found = self._routes[event_type] = tuple(dict.fromkeys(both))
        return found

    def names(self, event_type: str) -> bool:
        """Whether a handler asks for *event_type* by name; control events are given to those only."""
        return event_type in self._by_type

    def add(self, types: Iterable[str], route: Route) -> None:
        for event_type in types:
            self._by_type.setdefault(event_type, []).append(route)
        self._routes.clear()
        self.changed()

    def on(self, *event_types: str, transactional: bool = False) -> Callable[[F], F]:
        """Decorator: call the function for events of these types; "*" (or none) stands for all.

        Plain: ``handler(event)``, sync or async, at least once. Transactional: sync ``handler(event, tx)``, runs
        in the cache's thread inside its transaction: what it puts into *tx* takes effect exactly once. It runs
        last, when the plain handlers and the iterators are through with the event.
        """

        def register(function: F) -> F:
            if transactional and inspect.iscoroutinefunction(function):
                raise ConfigurationError("a transactional handler cannot be async: it runs inside a transaction")
            self.add(event_types or (EVERYTHING,), Route(function, _name(function), transactional))
            return function

        return register

    def on_order(self, order_id: str, *, transactional: bool = False) -> Callable[[F], F]:
        """Decorator: events about that order."""

        def register(function: F) -> F:
            route = Route(function, _name(function), transactional, wants=lambda event: event.order_id == order_id)
            self.add((EVERYTHING,), route)
            return function

        return register

    def on_stage_change(self, order_id: str | None = None) -> Callable[[F], F]:
        """Decorator: ``handler(event, previous_stage, new_stage)``, of one order or of all."""

        def register(function: F) -> F:
            def call(event: Event) -> Any:
                return function(event, event.data.get("previousStage"), event.data.get("newStage"))

            def wants(event: Event) -> bool:
                return "newStage" in event.data and (order_id is None or event.order_id == order_id)

            self.add(STAGE_TYPES, Route(call, _name(function), wants=wants))
            return function

        return register

    def on_dashboard_change(
        self, *event_types: str, debounce_s: float = 0.3, at_most_s: float = 2.0
    ) -> Callable[[F], F]:
        """Decorator: ``refresh()`` after relevant events, once for a burst, never twice at a time.

        It is called *debounce_s* after the last of them, or *at_most_s* after the first. It is called after a
        resync too. Its errors are counted; nothing is repeated or parked for them.
        """

        def register(function: F) -> F:
            refresh = Debounced(
                function,
                debounce_s=debounce_s,
                at_most_s=at_most_s,
                failed=lambda exc: self.refresh_failed(_name(function), exc),
            )
            self.debounced.append(refresh)
            self.add(event_types or (EVERYTHING,), Route(refresh.trigger, _name(function)))
            return function

        return register

    def on_resync(self, function: Callable[[str], Any]) -> Callable[[str], Any]:
        """Decorator: ``handler(reason)`` when events may be missing: load the current state anew.

        Called again after a restart until it returned once. Reasons: expired, epoch, future, malformed (the server
        has not the events behind our cursor), filter, access (another view), cache_lost.
        """
        self.resync.append(function)
        self.changed()
        return function


class Debounced:
    """A refresh that follows bursts of events. Delivery ends it: ``stop``, then await the task that is left."""

    def __init__(
        self,
        refresh: Callable[[], Any],
        *,
        debounce_s: float,
        at_most_s: float,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._refresh = refresh
        self._debounce_s = debounce_s
        self._at_most_s = at_most_s
        self._failed = failed
        self._first_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._again = False
        self._stopped = False
        self.task: asyncio.Task[None] | None = None
        """The refresh that runs."""

    def trigger(self, _: Event | None = None) -> None:
        """Something happened."""
        if self._stopped:
            return
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if self._first_s is None:
            self._first_s = now_s
        if self._timer is not None:
            self._timer.cancel()
        due_s = min(now_s + self._debounce_s, self._first_s + self._at_most_s)
        self._timer = loop.call_at(due_s, self._run)

    def _run(self) -> None:
        self._timer = None
        self._first_s = None
        if self.task is not None:
            self._again = True
            return
        self.task = asyncio.get_running_loop().create_task(self._call(), name="sync-client-refresh")

    async def _call(self) -> None:
        try:
            await self._call_once()
            while self._again and not self._stopped:
                self._again = False
                await self._call_once()
        finally:
            self.task = None

    async def _call_once(self) -> None:
        try:
            result = self._refresh()
            if inspect.isawaitable(result):
                await result
        except asyncio.CancelledError as exc:
            if was_cancelled():
                raise
            self._failed(exc)  # of something that the refresh awaited
        except Exception as exc:  # noqa: BLE001 - the program's own code; told and counted
            self._failed(exc)

    def stop(self, *, spare: asyncio.Task[Any] | None = None) -> None:
        """No more of it. *spare*: the task that asks for it; when it is the refresh's own, it may finish."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.task is not None and self.task is not spare:
            self.task.cancel()


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__name__)
