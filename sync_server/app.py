"""The composition root: which parts there are, and how they hang together.

``open_application`` builds log, appender, feed and routes and gives the ASGI application. Its outermost layer
does what every response needs (an id, headers, errors as problem documents), asks the guard who calls, and serves the
event stream itself, on the ASGI server's own ``send``; everything else goes through Starlette's router.
"""

import asyncio
import importlib.metadata
import random
import re
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing, nullcontext
from time import time_ns

import structlog
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Message, Receive, Scope, Send

from sync_core.domain.catalog import DOMAIN
from sync_core.events import EventRegistry
from sync_core.problems import InvalidRequest, MethodNotAllowed, NotFound, OutcomeUnknown, Problem
from sync_server.access.limits import Limits
from sync_server.access_sections import LimitsSection
from sync_server.accounts.open import Accounts, verifiers_of
from sync_server.accounts.routes import LOGIN_PATH, me_route
from sync_server.api.documents import Documents
from sync_server.api.health import Health
from sync_server.api.paths import POLL_PATH
from sync_server.api.problem import problem_response
from sync_server.api.publish import Publish
from sync_server.api.routing import merged
from sync_server.api.sessions import active_route
from sync_server.api.webhooks import WEBHOOKS_PREFIX, Webhooks
from sync_server.commands.dispatch import Dispatch
from sync_server.commands.routes import command_routes
from sync_server.commands.sweeps import Sweeps
from sync_server.dashboard.pages import ASSETS_PREFIX, PAGE_PATH, Pages
from sync_server.devices.talk import CashierSockets
from sync_server.feed.feed import Feed
from sync_server.feed.hub import FeedSettings
from sync_server.feed.poll import Poll
from sync_server.feed.stream import STREAM_PATH, EventStream
from sync_server.fueling import fueling_defaults, offers_to_all
from sync_server.gate.guard import Guard, PublicPaths
from sync_server.gate.headers import Header, ResponseHeaders, with_headers
from sync_server.gate.proxies import Proxies
from sync_server.log.appender import Appender
from sync_server.log.base import EventLog, LogError, LogMisconfigured, LogUnavailable
from sync_server.log.open import open_log
from sync_server.log.retention import Retention, enforce
from sync_server.metrics import Metrics
from sync_server.positions.intake import Intake
from sync_server.positions.open import open_positions
from sync_server.positions.routes import Positions
from sync_server.positions.tracking import Tracking
from sync_server.reference.routes import Reference
from sync_server.sessions import DeletedUsers, stale_sessions
from sync_server.settings import Settings
from sync_server.sockets.door import Sockets
from sync_server.sockets.feed import feed_route
from sync_server.sockets.limits import SocketLimits
from sync_server.sockets.origin import Origins

__all__ = ["Application", "open_application"]

RETENTION_INTERVAL_S = 60.0
PUBLIC = PublicPaths(
    paths=frozenset({LOGIN_PATH, PAGE_PATH}),
    # Webhooks have signatures of their own; the dashboard's files hold no data, and its login page is among them.
    prefixes=(WEBHOOKS_PREFIX, ASSETS_PREFIX),
    uncounted=frozenset({"/healthz", "/readyz"}),
)
"""What needs no credential. Everything else does, also what is not there."""
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
        guard: Guard | None = None,
        proxies: Proxies | None = None,
        headers: ResponseHeaders | None = None,
        sockets: Sockets | None = None,
    ) -> None:
        self.event_log = event_log
        self.feed = feed
        self.publish = publish
        self._guard = guard or Guard(None, Limits(LimitsSection()), PUBLIC, metrics=Metrics(CollectorRegistry()))
        self._proxies = proxies or Proxies()
        self._headers = headers or ResponseHeaders()
        self.sockets = sockets
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
        if scope["type"] not in ("http", "websocket"):
            return
        scope["state"] = dict(scope.get("state", ()))  # whatever the server shares: the caller is this request's own
        scope["app"] = self  # makes the router raise its refusals instead of answering in plain text
        self._proxies.locate(scope)
        request_id = _request_id(scope)
        added = [(b"x-request-id", request_id), *self._headers.of(scope)]
        if scope["type"] == "websocket":
            if self.sockets is not None:
                await self.sockets(scope, receive, send, headers=added)
            return
        begin = _Begin(send, added)
        del added  # needed once, and a stream lasts
        try:
            # For as long as a stream lasts, this frame and the stream's own are all there is of its request.
            admitted = await self._admit(scope, receive, begin)
            if admitted is None:
                pass
            elif scope["path"] == STREAM_PATH and scope["method"] in ("GET", "HEAD"):
                with self._guard.stream(scope):
                    await self._stream(scope, admitted, send, begin=begin)
            else:
                await self._router(scope, admitted, begin)
        except Problem as problem:
            await problem_response(problem)(scope, receive, begin)
        except HTTPException as refusal:
            await _refusal_response(scope, refusal)(scope, receive, begin)
        except ClientDisconnect:
            pass
        except asyncio.CancelledError:
            if not self.feed.draining:
                raise
            if not begin.done:  # cut off: the time for requests that are under way is over
                unknown = OutcomeUnknown("The server is shutting down; send again with the same keys.", retry_after_s=1)
                await problem_response(unknown)(scope, receive, begin)
        except Exception:
            log.exception("request_failed", path=scope["path"], request_id=request_id.decode())
            if begin.done:
                raise  # nothing can be said any more; the server cuts the connection
            bug = _Bug(f"This is a fault of the server; its log tells more under {request_id.decode()}.")
            await problem_response(bug)(scope, receive, begin)

    async def _admit(self, scope: Scope, receive: Receive, begin: Send) -> Receive | None:
        """The *receive* for what is to be served; None where that is done. Raises Problem."""
        preflight = self._headers.preflight(scope)
        if preflight is not None:
            await preflight(scope, receive, begin)
            return None
        return await self._guard.admit(scope, receive)


class _Begin:
    """The server's *send* with the headers that every response has: for heads, and all of what is no stream."""

    __slots__ = ("_added", "_send", "done")

    def __init__(self, send: Send, added: list[Header]) -> None:
        self._send = send
        self._added = added
        self.done = False
        """Whether a head was sent."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.done = True
            message["headers"] = with_headers(message.get("headers", ()), self._added)
            self._added = []
        await self._send(message)


class _Bug(Problem):
    status = 500


@asynccontextmanager
async def open_application(settings: Settings) -> AsyncIterator[Application]:
    """The application with everything it needs open; closed with the block.

    Raises LogMisconfigured. A log that does not answer yet is no error: it is asked again.
    """
    metrics = Metrics(CollectorRegistry())
    verifiers = verifiers_of(settings.access.jwt)
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
        accounts = None
        if settings.access.mode == "required":
            accounts = Accounts(settings.access, verifiers, domain=DOMAIN, event_log=event_log, appender=appender)
        with closing(accounts) if accounts is not None else nullcontext():
            async with open_positions(settings.log) as position_store, feed.run():
                dispatch = Dispatch(DOMAIN, appender, defaults=fueling_defaults(settings.fueling))
                feed.spawn(_retain(event_log, settings, accounts, DeletedUsers(event_log, dispatch)))
                sweeps = [offers_to_all(settings.fueling), stale_sessions(settings.sessions)]
                feed.spawn(Sweeps(sweeps, event_log=event_log, dispatch=dispatch, wall_ms=_wall_ms).run())
                positions = Intake(
                    position_store,
                    event_log,
                    appender,
                    feed,
                    interval_ms=int(settings.positions.log_interval.total_seconds() * 1000),
                    wall_ms=_wall_ms,
                    spawn=feed.spawn,
                )
                feed.spawn(positions.watch())
                if accounts is not None:
                    await accounts.begin(feed)
                try:
                    yield _application(settings, registry, event_log, appender, dispatch, feed, accounts, positions)
                finally:
                    await appender.aclose()
    finally:
        await event_log.aclose()


def _application(
    settings: Settings,
    registry: EventRegistry,
    event_log: EventLog,
    appender: Appender,
    dispatch: Dispatch,
    feed: Feed,
    accounts: Accounts | None,
    intake: Intake,
) -> Application:
    """The routes and what stands in front of them."""
    publish = Publish(registry, appender, feed)
    limits = settings.limits
    if accounts is None:  # all are one caller; what is left is the maximum of streams
        limits = limits.model_copy(
            update={"streams_per_principal": limits.streams, "streams_per_address": limits.streams}
        )
    guard = Guard(
        accounts.authenticator if accounts is not None else None,
        Limits(limits, workers=settings.server.workers),
        PUBLIC,
        metrics=feed.metrics,
    )
    documents = Documents(DOMAIN, event_log, wall_ms=_wall_ms)
    positions = Positions(intake, event_log, wall_ms=_wall_ms)
    routes = [
        active_route(documents),
        *positions.routes(),
        *positions.in_front_of(documents.routes()),
        *command_routes(dispatch),
        *Reference(
            DOMAIN, registry, version=importlib.metadata.version("order-sync"), access=accounts is not None
        ).routes(),
        *Webhooks(settings.webhooks, publish, wall_ms=_wall_ms).routes(),
        *Pages().routes(),
        *(accounts.routes if accounts is not None else [me_route()]),
    ]
    socket_limits = SocketLimits.configured(settings.sockets, workers=settings.server.workers)
    sockets = [
        feed_route(feed, streams=limits.streams),
        CashierSockets(dispatch, feed, event_log).route(socket_limits),
        Tracking(intake, feed, event_log, wall_ms=_wall_ms).route(socket_limits),
    ]
    return Application(
        event_log,
        feed,
        publish,
        Health(feed, feed.metrics),
        routes=routes,
        guard=guard,
        proxies=Proxies(settings.access.trusted_proxies),
        headers=ResponseHeaders(settings.access.cors_origins),
        sockets=Sockets(sockets, feed=feed, gate=guard, origins=Origins(settings.access.cors_origins)),
    )


async def _retain(
    event_log: EventLog, settings: Settings, accounts: Accounts | None, deleted_users: DeletedUsers
) -> None:
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
            if accounts is not None:
                await accounts.upkeep()
                await deleted_users.sweep()
        except (LogError, Problem) as exc:
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
