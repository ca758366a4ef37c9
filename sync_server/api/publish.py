"""``POST /api/v1/sync/events``: typed events in, ids out, once the log holds them durably. Source: protocol.md 3."""

from collections.abc import Iterator

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from sync_core.events import Delivery, EventRegistry
from sync_core.problems import Unavailable
from sync_server.api.body import client_id_of, json_body
from sync_server.api.submission import Receipt, Submission, parse_submission
from sync_server.feed.feed import Feed
from sync_server.feed.request import ANONYMOUS, DEFAULT_TENANT
from sync_server.log.appender import Appender
from sync_server.log.records import StoredEvent

__all__ = ["Publish"]


class Publish:
    """The endpoint."""

    def __init__(self, registry: EventRegistry, appender: Appender, feed: Feed) -> None:
        self._registry = registry
        self._appender = appender
        self._feed = feed

    async def __call__(self, http: Request) -> Response:
        client_id = client_id_of(http)
        body = await json_body(http)
        receipts = await self.submit(DEFAULT_TENANT, ANONYMOUS, body, client_id=client_id)
        answer = {"events": [{"id": r.event_id, "eventType": r.event_type, "duplicate": r.duplicate} for r in receipts]}
        return Response(to_json(answer), status_code=201, media_type="application/json")

    async def submit(self, tenant: str, principal: str, body: bytes, *, client_id: str | None) -> list[Receipt]:
        """Publish the JSON *body*; the receipts are in its order. Raises Problem."""
        items = parse_submission(self._registry, body, principal=principal, client_id=client_id)
        logged = [item for item in items if item.delivery is not Delivery.EPHEMERAL]
        receipts: Iterator[Receipt] = iter(())
        if logged:
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
