"""Calls an event's handlers, and knows while the process lives which of them had it and which failed on it."""

import inspect
from collections.abc import Awaitable, Callable, Sequence

from sync_client.attempts import Attempts
from sync_client.cache import CacheDamaged
from sync_client.errors import CacheUnwritable, ConfigurationError
from sync_client.event import Event
from sync_client.handlers import Handlers, Route
from sync_client.records import Mark, Transaction

__all__ = ["Calls"]

Transact = Callable[[Callable[[Transaction], None], Mark], Awaitable[None]]
"""Runs the work given to it in the cache's transaction, which also sets the mark."""


class _Raised(Exception):
    """A transactional handler raised; what it was is in ``__cause__``."""

    def __init__(self, route: Route) -> None:
        super().__init__(route.name)
        self.route = route


class Calls:
    """No handler keeps another one from an event. Memory: a number for each handler, and what is not done with."""

    def __init__(self, handlers: Handlers, attempts: Attempts) -> None:
        self._handlers = handlers
        self._attempts = attempts
        self._reached: dict[Route, int] = {}
        """The event up to which each plain handler had everything it wants."""
        self._failed: dict[int, set[str]] = {}

    async def plain(self, event: Event) -> Sequence[Route]:
        """Call the plain handlers that have not had it, then again those that raised; the transactional ones."""
        transactional: list[Route] = []
        failing: list[Route] = []
        for route in self._handlers.routes(event.event_type):
            if route.transactional:
                if self._wants(route, event):
                    transactional.append(route)
            elif self._reached.get(route, 0) < event.n:
                if self._wants(route, event) and not await self._attempts.call(
                    route.name, route.call, event, event=event
                ):
                    failing.append(route)
                else:
                    self._reached[route] = event.n
        for route in failing:
            returned = await self._attempts.again(route.name, route.call, event, event=event)
            if self._attempts.has_ended:
                break
            if not returned:
                self._fail(route, event)
            self._reached[route] = event.n
        return transactional

    def _wants(self, route: Route, event: Event) -> bool:
        if route.wants is None:
            return True
        try:
            return route.wants(event)
        except Exception as exc:  # noqa: BLE001 - what the server sent is not what handlers may expect
            self._attempts.note_error(route.name, exc, event)
            self._fail(route, event)
            return False

    async def transactional(self, routes: Sequence[Route], event: Event, *, transact: Transact) -> bool:
        """All of them in one transaction, with the event's mark; False if there was none.

        When one raises, nothing of the transaction holds, and it is repeated. The one that raised too often is left
        out then, so that the others' effects and the mark that says so are still one commit.
        """
        left = list(routes)
        raised: dict[Route, int] = {}
        while left:
            mark = Mark.PARKED if event.n in self._failed else Mark.PROCESSED
            try:
                await transact(_all(left, event), mark)
            except _Raised as exc:
                route = exc.route
                self._attempts.note_error(route.name, exc.__cause__ or exc, event)
                raised[route] = raised.get(route, 0) + 1
                if raised[route] <= self._attempts.policy.retries:
                    await self._attempts.pause(raised[route])
                else:
                    left.remove(route)
                    self._fail(route, event)
            else:
                return True
        return False

    def _fail(self, route: Route, event: Event) -> None:
        self._failed.setdefault(event.n, set()).add(route.name)

    def failed(self, n: int) -> bool:
        """Whether a handler failed for good on event number *n*, which is not forgotten yet."""
        return n in self._failed

    def forget(self, n: int) -> set[str]:
        """It is done with; the handlers that failed for good on it."""
        return self._failed.pop(n, set())


def _all(routes: Sequence[Route], event: Event) -> Callable[[Transaction], None]:
    """What the cache runs. Raises _Raised."""

    def work(tx: Transaction) -> None:
        for route in routes:
            try:
                result = route.call(event, tx)
                if inspect.isawaitable(result):
                    if inspect.iscoroutine(result):
                        result.close()
                    raise ConfigurationError("a transactional handler cannot be async: it runs inside a transaction")
            except (CacheUnwritable, CacheDamaged):
                raise  # the disk's trouble, not the handler's
            except Exception as exc:
                raise _Raised(route) from exc

    return work
