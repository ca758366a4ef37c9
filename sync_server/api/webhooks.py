"""``POST /api/v1/webhooks/{source}``: what a CMS, a payment or a messaging provider has to tell, as an event.

It signs its request: HMAC-SHA256 over ``<timestamp>.<body>``. The signature is remembered in the very commit that
publishes, so the same request is never taken twice, and one that could not be written may be sent again.
"""

import hmac
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_core.problems import Conflict, FieldError, InvalidRequest, NotFound, Unauthorized, Unprocessable
from sync_server.access.signatures import webhook_signature
from sync_server.access_sections import WebhookSection
from sync_server.api.body import json_body
from sync_server.api.publish import Publish, receipts_response
from sync_server.log.once import Once
from sync_server.log.records import OutcomeKey

__all__ = ["WEBHOOKS_PREFIX", "WINDOW_S", "Webhooks"]

WEBHOOKS_PREFIX = "/api/v1/webhooks/"
WINDOW_S = 300
"""How far a request's time may lie from ours."""
KEPT_MS = 3 * WINDOW_S * 1000
_SCHEME = "sha256="
_MISSING = object()


class Webhooks:
    """The endpoint for all configured *sources*. *wall_ms* is Unix time."""

    def __init__(self, sources: Mapping[str, WebhookSection], publish: Publish, *, wall_ms: Callable[[], int]) -> None:
        self._sources = sources
        self._publish = publish
        self._wall_ms = wall_ms

    def routes(self) -> list[Route]:
        return [Route(f"{WEBHOOKS_PREFIX}{{source}}", self.receive, methods=["POST"])]

    async def receive(self, http: Request) -> Response:
        """Publish what the source tells. Raises Unauthorized, Conflict for a request that was taken before."""
        name = http.path_params["source"]
        source = self._sources.get(name)
        if source is None:
            raise NotFound("There is no such source; see [webhooks] in the configuration.")
        body = await json_body(http)
        signature = self._checked(http, source, body)
        principal = f"webhook:{name}"
        once = Once(
            OutcomeKey(principal, f"signature:{signature}"),
            KEPT_MS,
            Conflict("This very request was taken before; nothing was published again."),
        )
        event = _event(source, body)
        receipts = await self._publish.submit(source.tenant, principal, to_json(event), client_id=None, once=once)
        return receipts_response(receipts)

    def _checked(self, http: Request, source: WebhookSection, body: bytes) -> str:
        """The signature, which is good. Raises Unauthorized."""
        timestamp = http.headers.get(source.timestamp_header, "")
        given = http.headers.get(source.signature_header, "").removeprefix(_SCHEME).lower()
        expected = webhook_signature(source.secret.get_secret_value().encode(), timestamp, body)
        # Before the time, and as bytes: text that is not ASCII cannot be compared in constant time.
        if not hmac.compare_digest(expected.encode(), given.encode()):
            raise Unauthorized(f"{source.signature_header} does not fit: it is HMAC-SHA256 over <timestamp>.<body>.")
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
            raise Unauthorized(f"{source.timestamp_header} is in whole seconds of Unix time.")
        if abs(int(timestamp) - self._wall_ms() / 1000) > WINDOW_S:
            raise Unauthorized(f"{source.timestamp_header} is more than {WINDOW_S} s off; sign the request anew.")
        return expected


def _event(source: WebhookSection, body: bytes) -> dict[str, Any]:
    """What the body says, as it would be published. Raises InvalidRequest, Unprocessable."""
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as exc:
        raise InvalidRequest("The body is not JSON.", errors=(FieldError("", str(exc)),)) from None
    data = {name: value for name, place in source.data.items() if (value := _at(document, place)) is not _MISSING}
    if not source.data:
        if not isinstance(document, dict):
            raise Unprocessable("The body is a JSON object.", errors=(FieldError("", "has to be a JSON object"),))
        data = document
    event: dict[str, Any] = {"eventType": source.event_type, "data": data}
    places = source.keys if source.key is None else {**source.keys, "key": source.key}
    for name, place in places.items():
        value = _at(document, place)
        if isinstance(value, str | int) and not isinstance(value, bool):
            event[name] = str(value)
    if source.audience:
        event["audience"] = list(source.audience)
    return event


def _at(document: Any, place: str) -> Any:
    """What stands at *place*, a JSON Pointer (RFC 6901); _MISSING where there is nothing."""
    for part in place.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict):
            document = document.get(name, _MISSING)
        elif isinstance(document, list) and name.isascii() and name.isdigit() and int(name[:9]) < len(document):
            document = document[int(name[:9])]
        else:
            return _MISSING
    return document
