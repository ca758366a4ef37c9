"""Half a day in the shop, played within a second into a log, as if it had just happened."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
from prometheus_client import CollectorRegistry
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from sync_core.domain.catalog import DOMAIN
from sync_core.problems import Problem
from sync_server.access.caller import OPEN_CALLER
from sync_server.api.problem import problem_response
from sync_server.commands.dispatch import Dispatch
from sync_server.commands.routes import command_routes
from sync_server.log.appender import Appender
from sync_server.log.open import new_epoch
from sync_server.log.sqlite import SQLiteLog
from sync_server.metrics import Metrics
from sync_server.simulator import Simulator

__all__ = ["play_half_a_day"]


class _Enough(Exception):
    """It is now."""


async def play_half_a_day(directory: Path, *, hours: float = 3.3) -> None:
    """Orders, queues and bays of the last *hours*, by the simulator, in the SQLite log in *directory*."""
    span_s = hours * 3600
    began_ms = now_ms = time.time_ns() // 1_000_000 - round(span_s * 1000)

    async def wait(offset_s: float) -> None:
        nonlocal now_ms
        if offset_s > span_s:
            raise _Enough
        now_ms = max(now_ms, began_ms + round(offset_s * 1000))

    event_log = SQLiteLog(directory / "sync.db", new_epoch=new_epoch, exclusive=True)
    await event_log.open()
    appender = Appender(
        event_log, on_commit=lambda *_: None, metrics=Metrics(CollectorRegistry()), wall_ms=lambda: now_ms
    )
    router = Router(command_routes(Dispatch(DOMAIN, appender)))

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["caller"] = OPEN_CALLER
        try:
            await router(scope, receive, send)
        except Problem as problem:
            await problem_response(problem)(scope, receive, send)

    transport: Any = httpx2.ASGITransport(application)
    async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as http:
        with suppress(_Enough):
            await Simulator(http, seed=3, speed=1.0, wait=wait).run()
    await appender.aclose()
    await event_log.aclose()
