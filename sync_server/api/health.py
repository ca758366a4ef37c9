"""``/healthz``, ``/readyz`` and ``/metrics``: for those who run the server."""

import asyncio
import os

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sync_server.access.caller import caller_of
from sync_server.feed.feed import Feed
from sync_server.metrics import Metrics
from sync_server.permissions import VIEW_METRICS

__all__ = ["Health"]

READY_TAIL_AGE_S = 5.0
"""The log is asked every second; silent for longer than this it counts as unreachable."""


class Health:
    """The endpoints."""

    def __init__(self, feed: Feed, metrics: Metrics) -> None:
        self._feed = feed
        self._metrics = metrics

    async def alive(self, _http: Request) -> Response:
        """The process runs and its event loop turns. Nothing else: a dead log is no reason to restart us."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _http: Request) -> Response:
        """Whether to send clients here: the log answers, and the server is not shutting down."""
        log_ok = self._feed.tail_age_s <= READY_TAIL_AGE_S
        ready = log_ok and not self._feed.draining
        checks = {"log": "ok" if log_ok else "unreachable", "draining": self._feed.draining}
        headers = {} if ready else {"Retry-After": "2"}
        return JSONResponse(
            {"status": "ready" if ready else "not ready", **checks},
            status_code=200 if ready else 503,
            headers=headers,
        )

    async def metrics(self, http: Request) -> Response:
        """Prometheus' text format; of all workers together where there are several."""
        caller_of(http.scope).rights.require(VIEW_METRICS)
        self._metrics.tasks.set(len(asyncio.all_tasks()))
        registry = self._metrics.registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
