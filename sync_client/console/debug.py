"""``sync-client debug``: a stream of its own, and a look at the cache of another client; it takes part in neither."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from sync_client.client import SyncClient
from sync_client.console.cache_view import CacheUnreadable, look
from sync_client.console.caches import view_rows
from sync_client.console.panel import Facts, panel
from sync_client.console.screen import live, out, stop_on_signals

__all__ = ["debug"]

REFRESH_S = 0.25
UNCUT = 10_000
"""Columns for what goes into a file or a pipe."""
LOOK_S = 1.0
"""How often the cache is looked at: counting what waits in a large one takes a while."""

Titled = tuple[str, Mapping[str, str]]


async def debug(client: SyncClient, *, cache: Path | None, for_s: float | None) -> int:
    """Show the panel until it is stopped, or for *for_s*; once at the end where nobody watches. The exit status."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    client.on()(lambda _: None)
    loop = asyncio.get_running_loop()
    end_s = None if for_s is None else loop.time() + for_s
    looked_s, seen = 0.0, await asyncio.to_thread(_look, cache)
    async with client:
        with live() as display:
            while not stop.is_set() and (end_s is None or loop.time() < end_s):
                if display is not None:
                    if loop.time() - looked_s > LOOK_S:
                        looked_s, seen = loop.time(), await asyncio.to_thread(_look, cache)
                    display.update(panel(_facts(client, seen), width=out.width, height=out.height - 1))
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), REFRESH_S)
        if not out.is_terminal:
            seen = await asyncio.to_thread(_look, cache)
            Console(width=UNCUT, highlight=False).print(panel(_facts(client, seen), width=UNCUT, height=None))
    return 0


def _look(cache: Path | None) -> Titled:
    if cache is None:
        return "cache: name a client with --name to look into its own", {}
    if not cache.exists():
        return f"cache: there is none yet: {cache}", {}
    try:
        view = look(cache, limit=0)
    except CacheUnreadable as exc:
        return f"cache: {exc}", {}
    return f"cache {cache}", view_rows(view)


def _facts(client: SyncClient, seen: Titled) -> Facts:
    now_s = time.monotonic()
    return Facts(
        health=client.health,
        metrics=client.metrics,
        machine=client.machine,
        transitions=client.transitions,
        errors=[(now_s - at_s, text) for at_s, text in client.errors],
        cache=seen,
    )
