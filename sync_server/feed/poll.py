"""``GET /api/v1/sync/poll``: the same feed, a page at a time, for clients to whom nothing can be streamed.

A page is what lies behind a cursor, filtered; its own cursor says how far was looked, so a page without events
moves on as well. With ``wait`` an empty page is held back until something comes. Source: protocol.md 2.2.
"""

import asyncio
import random
from dataclasses import dataclass
from time import time_ns

from starlette.requests import Request
from starlette.responses import Response

from sync_core.problems import CursorGone, Problem, Unavailable
from sync_core.times import iso_from_ms
from sync_server.feed.admission import LOG_LOST_RETRY_AFTER_S
from sync_server.feed.control import Reset
from sync_server.feed.feed import RETRY_AFTER_S, Feed
from sync_server.feed.hub import Hub
from sync_server.feed.pages import Hole
from sync_server.feed.pin import Pin, pin
from sync_server.feed.request import FeedRequest
from sync_server.feed.window import FeedEvent, thin
from sync_server.log.base import LogError

__all__ = ["Poll"]

MAX_LIMIT = 1000
DEFAULT_LIMIT = 500
MAX_WAIT_S = 30.0
MAX_SCANNED = 5000
MAX_PAGE_BYTES = 1024 * 1024
MAX_SCAN_S = 0.2
POLL_AFTER_MS = (1500, 2500)
_PARAMETERS = frozenset({"after", "limit", "wait"})


@dataclass(frozen=True, slots=True)
class Page:
    """Visible events behind *after*; *cursor* is how far was looked."""

    events: list[FeedEvent]
    after: int
    cursor: int
    up_to_date: bool


class Poll:
    """The endpoint."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    async def __call__(self, http: Request) -> Response:
        try:
            response = await self._answer(http)
        except Problem as problem:
            self._feed.metrics.polls.labels(str(problem.status)).inc()
            raise
        self._feed.metrics.polls.labels(str(response.status_code)).inc()
        return response

    async def _answer(self, http: Request) -> Response:
        request = FeedRequest.parse(http.scope, extra=_PARAMETERS)
        limit = int(request.number("limit", default=DEFAULT_LIMIT, low=1, high=MAX_LIMIT))
        wait_s = request.number("wait", default=0, low=0, high=MAX_WAIT_S)
        if self._feed.log_lost:
            raise Unavailable("The event log cannot be read.", retry_after_s=LOG_LOST_RETRY_AFTER_S)
        hub = await self._feed.hub(request.caller.tenant)
        begins = await pin(hub, request.cursor)
        if begins.reset is not None:
            raise _gone(hub, request, begins.reset)
        page = await self._page(hub, request, begins, limit=limit, wait_s=wait_s)
        etag = f'W/"{hub.cursor_text(page.after)}-{page.cursor}"'
        response = _response(hub, page)
        response.headers["ETag"] = etag
        # Only where nothing moved: else the cursor in the body is news even without events.
        if page.cursor == page.after and etag in http.headers.get("if-none-match", ""):
            response.status_code = 304
            response.body = b""
            del response.headers["content-length"]
        return response

    async def _page(self, hub: Hub, request: FeedRequest, begins: Pin, *, limit: int, wait_s: float) -> Page:
        deadline_s = hub.now() + min(wait_s, request.left_s)
        cursor = begins.seq
        while True:
            page = await _scan(hub, request, after=begins.seq, cursor=cursor, limit=limit)
            if hub.tail.epoch != begins.epoch:  # the log was replaced meanwhile
                raise _gone(hub, request, Reset.EPOCH)
            left_s = deadline_s - hub.now()
            if page.events or not page.up_to_date or left_s <= 0 or self._feed.draining:
                return page
            # No await since the scan saw the tail, so nothing can have slipped by before this waits.
            cursor = page.cursor
            if not await _wait_for_flush(hub, request, left_s):
                return page


async def _wait_for_flush(hub: Hub, request: FeedRequest, timeout_s: float) -> bool:
    """Until something that is for this reader was flushed, or *timeout_s* is over; False if it may no longer wait."""
    channel = hub.channels.channel(request.view.sight)
    waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    channel.waiters.add(waiter)
    hub.polls[waiter] = request.caller
    try:
        async with asyncio.timeout(timeout_s):
            return await waiter
    except TimeoutError:
        return True
    finally:
        del hub.polls[waiter]
        channel.waiters.discard(waiter)
        hub.channels.release(channel)


async def _scan(hub: Hub, request: FeedRequest, *, after: int, cursor: int, limit: int) -> Page:
    """Look through the events behind *cursor* until a page is full, or time or work is."""
    visible: list[FeedEvent] = []
    size_bytes = scanned = 0
    full = False
    end_s = hub.now() + MAX_SCAN_S
    while cursor < hub.tail.seq and not full:
        for event in await _next(hub, request, cursor):
            shown = request.view.shows(event)
            if shown is not None:
                size_bytes += len(shown.block)
                full = bool(visible) and size_bytes > MAX_PAGE_BYTES
                if full:
                    break
                visible.append(shown)
            cursor = event.seq
            scanned += 1
            full = len(visible) == limit or scanned == MAX_SCANNED
            if full:
                break
        full = full or hub.now() >= end_s
    return Page(thin(visible, hub.latest), after, cursor, cursor >= hub.tail.seq)


async def _next(hub: Hub, request: FeedRequest, cursor: int) -> list[FeedEvent]:
    """What follows *cursor*, from memory or from the log."""
    tail = hub.tail
    if cursor < tail.floor:
        raise _gone(hub, request, Reset.EXPIRED)
    if cursor >= tail.window.before:
        return tail.window.after(cursor, upto=tail.seq)
    try:
        events = await tail.pages.after(cursor, floor=tail.floor)
    except Hole:
        await tail.found_hole(cursor)
        if cursor < tail.floor:
            raise _gone(hub, request, Reset.EXPIRED) from None
        raise Unavailable("The event log is being repaired.", retry_after_s=RETRY_AFTER_S) from None
    except LogError as exc:
        raise Unavailable("The event log cannot be read now.", retry_after_s=RETRY_AFTER_S) from exc
    # A page may hold what this process has not taken in yet; a cursor beyond head would wait for it the next time.
    return [event for event in events if event.seq <= tail.seq]


def _gone(hub: Hub, request: FeedRequest, reason: Reset) -> CursorGone:
    hub.metrics.resets.labels(reason.value).inc()
    return CursorGone(
        "The cursor leads nowhere; load the current state and go on from head.",
        extensions=hub.reset_document(reason, root_path=request.root_path),
    )


def _response(hub: Hub, page: Page) -> Response:
    poll_after_ms = random.randint(*POLL_AFTER_MS) if page.up_to_date else 0
    flags = (b"true", b"false") if page.up_to_date else (b"false", b"true")
    body = (
        b'{"events":[%b],"cursor":"%b","head":"%b","upToDate":%b,"hasMore":%b,"pollAfterMs":%d,'
        b'"tailAgeMs":%d,"serverTime":"%b"}'
        % (
            b",".join([event.envelope for event in page.events]),
            hub.cursor_text(page.cursor).encode(),
            hub.cursor_text(hub.tail.seq).encode(),
            *flags,
            poll_after_ms,
            hub.tail.age_ms,
            iso_from_ms(time_ns() // 1_000_000).encode(),
        )
    )
    headers = {"Cache-Control": "private, no-store", "X-Poll-After-Ms": str(poll_after_ms)}
    return Response(body, media_type="application/json", headers=headers)
