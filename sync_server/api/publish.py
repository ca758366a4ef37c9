"""``POST /api/v1/sync/events``: typed events in, ids out, once the log holds them durably. Source: protocol.md 3."""

from collections.abc import Iterator

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from sync_core.events import Delivery, EventRegistry
from sync_core.problems import InvalidRequest, TooLarge, Unavailable, UnsupportedMedia
from sync_server.api.submission import Submission, parse_submission
from sync_server.feed.feed import Feed
from sync_server.feed.request import ANONYMOUS, DEFAULT_TENANT, MAX_CLIENT_ID
from sync_server.log.appender import Appender
from sync_server.log.group import Receipt, StoredEvent

__all__ = ["MAX_BODY_BYTES", "Publish"]

MAX_BODY_BYTES = 1024 * 1024


class Publish:
    """The endpoint."""

    def __init__(self, registry: EventRegistry, appender: Appender, feed: Feed) -> None:
        self._registry = registry
        self._appender = appender
        self._feed = feed

    async def __call__(self, http: Request) -> Response:
        media_type = http.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise UnsupportedMedia("Send the events as Content-Type: application/json.")
        if http.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise UnsupportedMedia("Send the events without Content-Encoding.")
        client_id = _client_id(http)
        body = await _body(http)
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


def _client_id(http: Request) -> str | None:
    client_id = http.headers.get("x-client-id")
    if client_id is not None and not (client_id.isprintable() and 1 <= len(client_id) <= MAX_CLIENT_ID):
        raise InvalidRequest(f"X-Client-ID has 1 to {MAX_CLIENT_ID} printable characters.")
    return client_id


async def _body(http: Request) -> bytes:
    """The request's body. Raises TooLarge before more than the limit was taken in."""
    declared = http.headers.get("content-length", "0")
    pieces: list[bytes] = []
    size_bytes = int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 19 else 0
    if size_bytes <= MAX_BODY_BYTES:
        size_bytes = 0
        async for piece in http.stream():
            size_bytes += len(piece)
            if size_bytes > MAX_BODY_BYTES:
                break
            pieces.append(piece)
    if size_bytes > MAX_BODY_BYTES:
        raise TooLarge(f"A body has at most {MAX_BODY_BYTES} bytes. Publish in several requests.")
    return b"".join(pieces)
