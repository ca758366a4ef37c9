"""``sync-server doctor``: whether configuration, server, log and clock are as they should be, and what to do if not."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from sync_core.problems import SyncError
from sync_core.times import iso_from_ms
from sync_server.console.talk import checked, client, is_served, own_certificate, server_url
from sync_server.log.base import EventLog, LogError
from sync_server.log.open import open_log
from sync_server.settings import Settings

__all__ = ["examine"]

MAX_AHEAD_S = 1.0
WANTED_TRANSACTION_LIMIT = "3 s"

Report = Callable[[bool, str], None]


async def examine(settings: Settings, report: Report) -> None:
    """Tell *report* (is it well, what) of everything that was looked at.

    Raises LogMisconfigured where the configured log cannot even be opened.
    """
    report(True, f"configuration: store {settings.log.store}, {settings.server.host}:{settings.server.port}")
    served = await _examine_server(settings, report)
    path = settings.log.sqlite.path
    if settings.log.store == "sqlite" and not path.exists():
        _examine_place(path, report)
        return
    event_log = open_log(settings.log, exclusive=settings.log.store == "sqlite" and not served)
    try:
        started = time.monotonic()
        await event_log.open()
        for name, value in (await event_log.describe()).items():
            bad_limit = name == "transaction lifetime limit" and value != WANTED_TRANSACTION_LIMIT
            hint = " (not 3 s: a killed server may block its tenants for longer; `sync-server init` sets it)"
            report(True, f"log: {name}: {value}{hint if bad_limit else ''}")
        report(True, f"log: answers in {(time.monotonic() - started) * 1000:.0f} ms")
        await _examine_clock(event_log, report)
    except LogError as exc:
        report(False, f"log: {exc}")
    finally:
        await event_log.aclose()


async def _examine_server(settings: Settings, report: Report) -> bool:
    url = server_url(settings)
    async with client(url, verify=own_certificate(settings)) as http:
        if not await is_served(http):
            report(True, f"server: none runs at {url} (`sync-server serve` starts it)")
            return False
        ready = await http.get("/readyz")
        try:
            report(True, f"server: {url} is {checked(ready)['status']}")
        except SyncError:
            state = ready.json()
            report(False, f"server: {url} is {state['status']}: log {state['log']}, draining {state['draining']}")
        return True


def _examine_place(path: Path, report: Report) -> None:
    """There is no log yet; whether there could be one. Nothing is made by looking."""
    place = path.absolute().parent
    while not place.exists():
        place = place.parent
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        report(True, f"log: {path} is not there yet; `sync-server init` or `serve` makes it")
    else:
        report(False, f"log: {path} cannot be made: {place} is not a directory this user may write to")


async def _examine_clock(event_log: EventLog, report: Report) -> None:
    """The log's times never go back, so a clock that was once in the future shows in the newest event."""
    now_ms = time.time_ns() // 1_000_000
    for tenant, bounds in (await event_log.bounds(await event_log.tenants())).items():
        newest = await event_log.read(tenant, after=max(bounds.head - 1, bounds.floor), limit=1)
        ahead_s = (newest[0].time_ms - now_ms) / 1000 if newest else 0
        if ahead_s < MAX_AHEAD_S:
            report(True, f"clock: {iso_from_ms(now_ms)}, not behind the log of tenant {tenant}")
        else:
            report(
                False,
                f"clock: {iso_from_ms(now_ms)}, but the newest event of tenant {tenant} is {ahead_s:.0f} s ahead: set "
                "the clock (if it was wrong when that was written, events keep its time until the clock gets there)",
            )
