"""``POST /api/v1/sync/events``: typed events in, ids out, once the log holds them durably. Source: protocol.md 3."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from sync_core.events import Delivery, EventRegistry
from sync_core.problems import Unavailable
from sync_server.access.caller import caller_of
from sync_server.api.body import client_id_of, json_body
from sync_server.api.submission import Receipt, Submission, parse_submission
from sync_server.feed.feed import Feed
from sync_server.log.appender import DEADLINE_S, MAX_WAITING_BYTES, RETRY_AFTER_S, Appender
from sync_server.log.once import Once
from sync_server.log.records import StoredEvent
from sync_server.permissions import PUBLISH_EVENTS

__all__ = ["Publish", "receipts_response"]

LARGE_BYTES = 16 * 1024
"""A body that is read in several turns."""


class _Line:
    """Large bodies are read one after the other: in turns with each other, all would be done only at the end, and the
    log idle until then. As with what waits for the log, there is a bound for how much waits and for how long.
    """

    def __init__(self) -> None:
        self._free = asyncio.Lock()
        self._waiting_bytes = 0

    @asynccontextmanager
    async def turn(self, size_bytes: int) -> AsyncIterator[None]:
        """For the block, in which a body of *size_bytes* is read. Raises Unavailable."""
        if self._waiting_bytes + size_bytes > MAX_WAITING_BYTES:
            raise Unavailable("Too much is waiting to be read.", retry_after_s=RETRY_AFTER_S)
        self._waiting_bytes += size_bytes
        try:
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await self._free.acquire()
            except TimeoutError:
                told = "The server does not keep up with what is published; nothing was written."
                raise Unavailable(told, retry_after_s=RETRY_AFTER_S) from None
            try:
                yield
            finally:
                self._free.release()
        finally:
            self._waiting_bytes -= size_bytes


class Publish:
    """The endpoint."""

    def __init__(self, registry: EventRegistry, appender: Appender, feed: Feed) -> None:
        self._registry = registry
        self._appender = appender
        self._feed = feed
        self._large = _Line()

    async def __call__(self, http: Request) -> Response:
        caller = caller_of(http.scope)
        caller.rights.require(PUBLISH_EVENTS)  # before the body is looked at
        client_id = client_id_of(http)
        body = await json_body(http)
        return receipts_response(await self.submit(caller.tenant, caller.principal, body, client_id=client_id))

    async def submit(
        self, tenant: str, principal: str, body: bytes, *, client_id: str | None, once: Once | None = None
    ) -> list[Receipt]:
        """Publish the JSON *body*; the receipts are in its order. With *once* only where that is the first time.

        Raises Problem.
        """
        async with self._large.turn(len(body)) if len(body) > LARGE_BYTES else nullcontext():
            items = await parse_submission(self._registry, body, principal=principal, client_id=client_id)
        logged = [item for item in items if item.delivery is not Delivery.EPHEMERAL]
        receipts: Iterator[Receipt] = iter(())
        if once is not None:
            once = replace(once, then=Submission.of(logged))
            receipts = iter(await self._appender.append(tenant, once))
        elif logged:
            receipts = iter(await self._appender.append(tenant, Submission.of(logged)))
        if len(logged) < len(items):
            now_ms = self._appender.wall_ms()
            passing = [item.event for item in items if item.delivery is Delivery.EPHEMERAL]
            try:
                await self._feed.signal(tenant, [StoredEvent(0, now_ms, *event) for event in passing])
            except Unavailable:
                # What was logged cannot be refused any more; an ephemeral event may always be lost.
                if not logged:
                    raise
        return [
            Receipt(None, item.event.event_type, duplicate=False)
            if item.delivery is Delivery.EPHEMERAL
            else next(receipts)
            for item in items
        ]


def receipts_response(receipts: Sequence[Receipt]) -> Response:
    """What became of each event, in order."""
    answer = {"events": [{"id": r.event_id, "eventType": r.event_type, "duplicate": r.duplicate} for r in receipts]}
    return Response(to_json(answer), status_code=201, media_type="application/json")
