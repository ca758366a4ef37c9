"""What is kept beside events and cursor: retention, and the metrics and configuration that outlive a crash."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress

from sync_client.errors import CacheError
from sync_client.health import Meter
from sync_client.intake import Facts
from sync_client.keeper import Keeper
from sync_client.options import Options
from sync_client.persistence import configuration
from sync_core.times import iso_from_ms

__all__ = ["HEARD_KEY", "Upkeep"]

EVERY_S = 10.0
HEARD_KEY = "heardAt"
"""Where the cache keeps when the server last said how things stand (ISO 8601)."""


class Upkeep:
    """Runs as one task, ``run``, until cancelled."""

    def __init__(
        self,
        keeper: Keeper,
        options: Options,
        *,
        meter: Meter,
        facts: Facts,
        stale_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        """*stale_s*: how long ago the server last said how things stand, if that is to be remembered."""
        self._keeper = keeper
        self._options = options
        self._meter = meter
        self._facts = facts
        self._stale_s = stale_s

    async def run(self) -> None:
        """Retention and metrics, every 10 s."""
        saved_events = -1
        while True:
            await asyncio.sleep(EVERY_S)
            with suppress(CacheError):
                await self._keeper.run(
                    self._keeper.cache.trim,
                    now_ms=time.time_ns() // 1_000_000,
                    max_age_s=self._options.retention_s,
                    max_events=self._options.retention_events,
                )
                if self._facts.events != saved_events:
                    saved_events = self._facts.events
                    await self.save_metrics()
                else:
                    await self._save_heard()

    async def save_configuration(self) -> None:
        """Raises CacheUnwritable, as ``save_metrics``."""
        document = configuration(
            self._options.filter.document(), max_reconnect_attempts=self._options.max_reconnect_attempts
        )
        await self._keeper.run(self._keeper.cache.set_meta, "configuration", json.dumps(document))

    async def save_metrics(self) -> None:
        document = self._meter.document(self._facts.events, now_s=time.monotonic())
        await self._keeper.run(self._keeper.cache.set_meta, "connectionMetrics", json.dumps(document))
        await self._save_heard()

    async def _save_heard(self) -> None:
        stale_s = self._stale_s()
        if stale_s is not None:
            heard_ms = time.time_ns() // 1_000_000 - int(stale_s * 1000)
            await self._keeper.run(self._keeper.cache.set_meta, HEARD_KEY, iso_from_ms(heard_ms))

    async def note_connection(self, at_ms: int) -> None:
        """A stream was opened."""
        with suppress(CacheError):
            await self._keeper.run(self._keeper.cache.set_meta, "lastConnectionTime", iso_from_ms(at_ms))
