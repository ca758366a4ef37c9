"""The composition root: which parts there are, and how they hang together.

``open_application`` builds log, appender, feed and routes and gives the ASGI application. Its outermost layer
does what every response needs (an id, errors as problem documents) and serves the event stream itself, on the
ASGI server's own ``send``; everything else goes through Starlette's router.
"""

import asyncio
import importlib.metadata
import random
import re
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from time import time_ns

import structlog
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Message, Receive, Scope, Send

from sync_core.domain.catalog import DOMAIN
from sync_core.problems import InvalidRequest, MethodNotAllowed, NotFound, OutcomeUnknown, Problem
from sync_server.access.caller import OPEN_CALLER
from sync_server.api.documents import Documents
from sync_server.api.health import Health
from sync_server.api.paths import POLL_PATH
from sync_server.api.problem import problem_response
from sync_server.api.publish import Publish
from sync_server.api.routing import merged
from sync_server.commands.dispatch import Dispatch
from sync_server.commands.routes import command_routes
from sync_server.feed.feed import Feed
from sync_server.feed.hub import FeedSettings
from sync_server.feed.poll import Poll
from sync_server.feed.stream import STREAM_PATH, EventStream
from sync_server.log.appender import Appender
from sync_server.log.base import EventLog, LogError, LogMisconfigured, LogUnavailable
from sync_server.log.open import open_log
from sync_server.log.retention import Retention, enforce
from sync_server.metrics import Metrics
from sync_server.reference.routes import Reference
from sync_server.settings import Settings

__all__ = ["Application", "open_application"]

RETENTION_INTERVAL_S = 60.0
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

log = structlog.get_logger("sync_server")


class Application:
    """The ASGI application, and what the process around it needs to end it well."""

    def __init__(
        self,
        event_log: EventLog,
        feed: Feed,
        publish: Publish,
        health: Health,
        *,
        routes: Iterable[BaseRoute] = (),
    ) -> None:
        self.event_log = event_log
        self.feed = feed
        self.publish = publish
        self._stream = EventStream(feed)
        self.routes: tuple[BaseRoute, ...] = (
            # GET and HEAD are listed for the answer to other methods; the stream never gets here.
            Route(STREAM_PATH, publish.__call__, methods=["GET", "HEAD", "POST"]),
            Route(POLL_PATH, Poll(feed).__call__),
            *routes,
            Route("/healthz", health.alive),
            Route("/readyz", health.ready),
            Route("/metrics", health.metrics),
        )
        self._router = Router(merged(self.routes), redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        scope.setdefault("state", {}).setdefault("caller", OPEN_CALLER)
        scope["app"] = self  # makes the router raise its refusals instead of answering in plain text
        request_id = _request_id(scope)
        header = (b"x-request-id", request_id)
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        try:
            if scope["path"] == STREAM_PATH and scope["method"] in ("GET", "HEAD"):
                await self._stream(scope, receive, send, begin=send_with_id)
            else:
                await self._router(scope, receive, send_with_id)
        except Problem as problem:
            await problem_response(problem)(scope, receive, send_with_id)
        except HTTPException as refusal:
            await _refusal_response(scope, refusal)(scope, receive, send_with_id)
        except ClientDisconnect:
            pass
        except asyncio.CancelledError:
            if not self.feed.draining:
                raise
            if not started:  # cut off: the time for requests that are under way is over
                unknown = OutcomeUnknown("The server is shutting down; send again with the same keys.", retry_after_s=1)
                await problem_response(unknown)(scope, receive, send_with_id)
        except Exception:
            log.exception("request_failed", path=scope["path"], request_id=request_id.decode())
            if started:
                raise  # nothing can be said any more; the server cuts the connection
            bug = _Bug(f"This is a fault of the server; its log tells more under {request_id.decode()}.")
            await problem_response(bug)(scope, receive, send_with_id)


class _Bug(Problem):
    status = 500


@asynccontextmanager
async def open_application(settings: Settings) -> AsyncIterator[Application]:
    """The application with everything it needs open; closed with the block.

    Raises LogMisconfigured. A log that does not answer yet is no error: it is asked again.
    """
    metrics = Metrics(CollectorRegistry())
    event_log = open_log(settings.log)
    try:
        try:
            await event_log.open()
        except LogMisconfigured:
            raise
        except LogUnavailable as exc:
            log.warning("log_unavailable", error=str(exc))
        appender = Appender(
            event_log,
            on_commit=lambda tenant, committed: feed.committed(tenant, committed),
            metrics=metrics,
            wall_ms=_wall_ms,
        )
        registry = settings.events.registry()
        feed = Feed(
            event_log,
            registry=registry,
            settings=FeedSettings(**settings.feed.model_dump()),
            metrics=metrics,
            is_writing=appender.is_writing,
        )
        async with feed.run():
            feed.spawn(_retain(event_log, settings))
            routes = [
                *Documents(DOMAIN, event_log, wall_ms=_wall_ms).routes(),
                *command_routes(Dispatch(DOMAIN, appender)),
                *Reference(DOMAIN, registry, version=importlib.metadata.version("order-sync")).routes(),
            ]
            try:
                yield Application(
                    event_log, feed, Publish(registry, appender, feed), Health(feed, metrics), routes=routes
                )
            finally:
                await appender.aclose()
    finally:
        await event_log.aclose()


async def _retain(event_log: EventLog, settings: Settings) -> None:
    """Trim every tenant's log once a minute; processes that do it at the same time do no harm."""
    retention = Retention(
        max_age_ms=int(settings.retention.max_age.total_seconds() * 1000),
        max_events=settings.retention.max_events,
    )
    while True:
        await asyncio.sleep(RETENTION_INTERVAL_S * random.uniform(0.5, 1.0))
        try:
            for tenant in await event_log.tenants():
                await enforce(event_log, tenant, retention, now_ms=_wall_ms())
        except LogError as exc:
            log.info("retention_postponed", error=str(exc))
        except Exception:
            log.exception("retention_failed")


def _wall_ms() -> int:
    return time_ns() // 1_000_000


def _request_id(scope: Scope) -> bytes:
    """The caller's X-Request-ID if it is one, else a new one."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8).encode()


def _refusal_response(scope: Scope, refusal: HTTPException) -> Response:
    """The router's own refusals: no such route, wrong method, a body that cannot be read."""
    path = str(scope["path"])[:200]
    problem: Problem
    match refusal.status_code:
        case 404:
            problem = NotFound(f"There is nothing at {path}.")
        case 405:
            problem = MethodNotAllowed(f"{str(scope['method'])[:20]} is not possible at {path}.")
        case _:
            problem = InvalidRequest(str(refusal.detail))
    response = problem_response(problem)
    response.headers.update(refusal.headers or {})
    return response
