"""The composition root: which parts there are, and how they hang together.

``open_application`` builds log, appender, feed and routes and gives the ASGI application (asgi.py).
"""

import asyncio
import importlib.metadata
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, nullcontext
from time import time_ns

import structlog
from prometheus_client import CollectorRegistry

from sync_core.domain.catalog import DOMAIN
from sync_core.events import EventRegistry
from sync_core.problems import Problem
from sync_server.access.limits import Limits
from sync_server.accounts.open import Accounts, verifiers_of
from sync_server.accounts.records import ACCOUNTS_TENANT
from sync_server.accounts.routes import me_route
from sync_server.api.active_session import active_route
from sync_server.api.documents import Documents
from sync_server.api.health import Health
from sync_server.api.publish import Publish
from sync_server.api.webhooks import Webhooks
from sync_server.asgi import PUBLIC, Application
from sync_server.commands.dispatch import Dispatch
from sync_server.commands.routes import command_routes
from sync_server.commands.sweeps import Sweeps
from sync_server.dashboard.pages import Pages
from sync_server.devices.talk import CashierSockets
from sync_server.feed.feed import Feed
from sync_server.feed.hub import FeedSettings
from sync_server.fueling import fueling_defaults, offers_to_all
from sync_server.gate.guard import Guard
from sync_server.gate.headers import ResponseHeaders
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

__all__ = ["open_application"]

RETENTION_INTERVAL_S = 60.0

log = structlog.get_logger("sync_server")


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
        sockets=Sockets(sockets, feed=feed, guard=guard, origins=Origins(settings.access.cors_origins)),
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
            # The accounts last, and only when what their log tells of deleted users has been seen to.
            for tenant in sorted(await event_log.tenants(), key=lambda tenant: tenant == ACCOUNTS_TENANT):
                if tenant == ACCOUNTS_TENANT:
                    await deleted_users.sweep()
                await enforce(event_log, tenant, retention, now_ms=_wall_ms())
            if accounts is not None:
                await accounts.upkeep()
        except (LogError, Problem) as exc:
            log.info("retention_postponed", error=str(exc))
        except Exception:
            log.exception("retention_failed")


def _wall_ms() -> int:
    return time_ns() // 1_000_000
