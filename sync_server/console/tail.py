"""``sync-server tail``: the feed of a running server, followed over its ends."""

import asyncio
import random
from collections.abc import Callable

import httpx2

from sync_core.paths import STREAM_PATH
from sync_core.sse import SSEDecoder
from sync_server.console.talk import Refused, checked, client, own_certificate, server_url
from sync_server.settings import Settings

__all__ = ["follow"]

RETRY_MS = 1000
SILENT_S = 60.0
"""Least time without a byte after which a connection counts as dead; heartbeats come more often."""
_SILENT_HEARTBEATS = 2.5
_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
NO_CONTENT = 204


async def follow(
    settings: Settings,
    *,
    after: str,
    types: str | None,
    url: str | None,
    token: str | None = None,
    show: Callable[[str], None],
    note: Callable[[str], None],
) -> None:
    """Hand every envelope to *show* and what happens beside to *note*, until cancelled or told to stop (204).

    Raises Refused when the server will not have it, httpx2.InvalidURL for a *url* that is none.
    """
    verify = own_certificate(settings) if url is None else True
    url = server_url(settings) if url is None else url
    decoder = SSEDecoder(last_event_id=after)
    timeout = httpx2.Timeout(10, read=max(SILENT_S, settings.feed.heartbeat_s * _SILENT_HEARTBEATS))
    away = False
    while True:
        # As a parameter: unlike a header it carries any text, and the server tells what is wrong with it.
        parameters = {"lastEventId": decoder.last_event_id} | ({"eventTypes": types} if types else {})
        trouble = ""
        try:
            async with (
                client(url, token=token, verify=verify) as http,
                http.stream("GET", STREAM_PATH, params=parameters, timeout=timeout) as reply,
            ):
                if reply.status_code == NO_CONTENT:
                    return
                await _accepted(reply)
                if away:
                    note("connected again")
                away = False
                await _read(reply, decoder, show, note)
        except Refused as exc:
            if exc.status not in _PASSING_STATUS:
                raise
            trouble = str(exc)
        except httpx2.TransportError as exc:
            trouble = f"no connection to {url} ({str(exc) or type(exc).__name__})"
        if trouble and not away:
            note(f"{trouble}; trying again")
            away = True
        await asyncio.sleep((decoder.retry_ms or RETRY_MS) / 1000 * random.uniform(0.8, 1.2))


async def _accepted(reply: httpx2.Response) -> None:
    """Raises Refused unless an event stream follows."""
    if reply.headers.get("content-type", "").partition(";")[0] != "text/event-stream":
        await reply.aread()
        checked(reply)
        raise Refused(reply.status_code, f"{reply.url} does not answer with an event stream", [])


async def _read(
    reply: httpx2.Response, decoder: SSEDecoder, show: Callable[[str], None], note: Callable[[str], None]
) -> None:
    decoder.start_stream()
    async for data in reply.aiter_raw():
        for event in decoder.feed(data):
            if event.event in ("reset", "goodbye"):
                note(f"{event.event} {event.data}")
            elif event.event not in ("connected", "caught_up", "heartbeat"):
                show(event.data)
