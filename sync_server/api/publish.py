"""``POST /api/v1/sync/events``: typed events in, ids out, once the log holds them durably.

Everything is checked before the log is touched: the body is parsed once, every event is validated against
its type, and what will leave again is rendered here, once for all readers. Source: protocol.md 3.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response

from sync_core.cursor import Cursor
from sync_core.envelope import envelope_tail
from sync_core.events import (
    CONTROL_EVENTS,
    MAX_EVENT_BYTES,
    Delivery,
    EventInput,
    EventRegistry,
)
from sync_core.filters import ENTITY_KEYS, tag
from sync_core.problems import FieldError, InvalidRequest, Problem, TooLarge, Unprocessable, UnsupportedMedia
from sync_core.times import iso_from_ms, ms_from_datetime
from sync_server.feed.feed import Feed
from sync_server.feed.request import ANONYMOUS, DEFAULT_TENANT, MAX_CLIENT_ID
from sync_server.log.appender import Appender
from sync_server.log.group import (
    OUTCOME_TTL_MS,
    Decision,
    NewEvent,
    Outcome,
    OutcomeKey,
    Receipt,
    StoredEvent,
    View,
)

__all__ = ["MAX_BODY_BYTES", "MAX_EVENTS", "Publish", "Submission", "parse_submission"]

MAX_BODY_BYTES = 1024 * 1024
MAX_EVENTS = 1000
MAX_FAULTS = 20
_ENVELOPE_HEAD_BYTES = 160
"""What id, type and timestamp add to an event's tail, at most."""

_events = TypeAdapter(list[EventInput])


class Item(NamedTuple):
    """One accepted event; *key* and *fingerprint* where it is to be published at most once."""

    event: NewEvent
    delivery: Delivery
    key: OutcomeKey | None
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Submission:
    """A publish request as the appender takes it (a Write): all of its events, in order, or none."""

    items: Sequence[Item]
    size_bytes: int
    keys: tuple[OutcomeKey, ...]

    @property
    def reserve(self) -> int:
        return len(self.items)

    def decide(self, view: View) -> Decision:
        events: list[NewEvent] = []
        receipts: list[Receipt] = []
        outcomes: dict[OutcomeKey, Outcome] = {}
        for index, item in enumerate(self.items):
            known = view.outcomes.get(item.key) if item.key is not None else None
            if known is not None:
                if known.fingerprint != item.fingerprint:
                    raise _key_reused(index, len(self.items))
                receipts.append(Receipt(known.result, item.event.event_type, duplicate=True))
                continue
            event_id = str(Cursor(view.epoch, view.next_seq + len(events)))
            if item.key is not None:
                outcomes[item.key] = Outcome(item.fingerprint, event_id, view.time_ms + OUTCOME_TTL_MS)
            events.append(item.event)
            receipts.append(Receipt(event_id, item.event.event_type, duplicate=False))
        return Decision(events, outcomes, tuple(receipts))


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
        body = await _body(http)
        client_id = http.headers.get("x-client-id")
        if client_id is not None and (not client_id.isprintable() or len(client_id) > MAX_CLIENT_ID):
            raise InvalidRequest(f"X-Client-ID has 1 to {MAX_CLIENT_ID} printable characters.")
        receipts = await self.submit(DEFAULT_TENANT, ANONYMOUS, body, client_id=client_id)
        answer = {"events": [{"id": r.event_id, "eventType": r.event_type, "duplicate": r.duplicate} for r in receipts]}
        return Response(to_json(answer), status_code=201, media_type="application/json")

    async def submit(self, tenant: str, principal: str, body: bytes, *, client_id: str | None) -> list[Receipt]:
        """Publish the JSON *body*; the receipts are in its order. Raises Problem."""
        items = parse_submission(self._registry, body, principal=principal, client_id=client_id)
        logged = [item for item in items if item.delivery is not Delivery.EPHEMERAL]
        receipts: Iterator[Receipt] = iter(())
        if logged:
            size_bytes = sum(len(item.event.tail) for item in logged)
            keys = tuple(item.key for item in logged if item.key is not None)
            receipts = iter(await self._appender.append(tenant, Submission(logged, size_bytes, keys)))
        if len(logged) < len(items):
            now_ms = self._appender.wall_ms()
            passing = [item.event for item in items if item.delivery is Delivery.EPHEMERAL]
            await self._feed.signal(tenant, [StoredEvent(0, now_ms, *event) for event in passing])
        return [
            Receipt(None, item.event.event_type, duplicate=False)
            if item.delivery is Delivery.EPHEMERAL
            else next(receipts)
            for item in items
        ]


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


def parse_submission(registry: EventRegistry, body: bytes, *, principal: str, client_id: str | None) -> list[Item]:
    """The events in the JSON *body* (one, or ``{"events": [...]}``), checked and rendered.

    Raises InvalidRequest, Unprocessable or TooLarge with every fault found, up to 20, and its path.
    """
    try:
        # No NaN, no Infinity, no lone surrogates, no nesting beyond 200 levels: the parser refuses them.
        document = from_json(body, allow_inf_nan=False)
    except ValueError as exc:
        raise InvalidRequest(f"The body is not JSON: {exc}.") from None
    single = not (isinstance(document, dict) and "events" in document and "eventType" not in document)
    if single:
        raw = [document]
    else:
        raw = document["events"]
        unknown = sorted(set(document) - {"events"})
        if unknown or not isinstance(raw, list) or not 1 <= len(raw) <= MAX_EVENTS:
            fault = FieldError(unknown[0], "unknown field") if unknown else _EVENTS_FAULT
            raise Unprocessable("The batch cannot be accepted.", errors=(fault,))
    prefix = "" if single else "events"
    try:
        inputs = _events.validate_python(raw)
    except ValidationError as exc:
        faults = tuple(
            FieldError(_path(prefix, error["loc"]), error["msg"])
            for error in exc.errors(include_url=False, include_context=False, include_input=False)
        )
        raise Unprocessable("The event cannot be accepted.", errors=faults[:MAX_FAULTS]) from None
    return _items(registry, inputs, raw, prefix=prefix, principal=principal, client_id=client_id)


_EVENTS_FAULT = FieldError("events", f"a list of 1 to {MAX_EVENTS} events")


def _items(
    registry: EventRegistry,
    inputs: list[EventInput],
    raw: list[Any],
    *,
    prefix: str,
    principal: str,
    client_id: str | None,
) -> list[Item]:
    items: list[Item] = []
    faults: list[FieldError] = []
    keys: set[str] = set()
    for index, given in enumerate(inputs):
        faults += _content_faults(registry, given, _path(prefix, (index,)))
        if given.key is not None and given.key in keys:
            faults.append(FieldError(_path(prefix, (index, "key")), "the same key twice in one request"))
        if len(faults) >= MAX_FAULTS:
            break
        if faults:
            continue
        if given.key is not None:
            keys.add(given.key)
        data_json = to_json(given.data)
        if b"Infinity" in data_json and not _finite(given.data):  # 1e999 is JSON, but no number of ours
            faults.append(FieldError(_path(prefix, (index, "data")), "a number is out of range"))
            continue
        item = _item(registry, given, raw[index], data_json.decode(), principal, client_id)
        if len(item.event.tail.encode()) + _ENVELOPE_HEAD_BYTES > MAX_EVENT_BYTES:
            raise TooLarge(
                f"An event has at most {MAX_EVENT_BYTES} bytes.",
                errors=(FieldError(_path(prefix, (index,)), "too large"),),
            )
        items.append(item)
    if faults:
        raise Unprocessable("The event cannot be accepted.", errors=tuple(faults[:MAX_FAULTS]))
    return items


def _content_faults(registry: EventRegistry, given: EventInput, path: str) -> list[FieldError]:
    """What the event's type has against it."""
    where = f"{path}.eventType".lstrip(".")
    if given.eventType in CONTROL_EVENTS:
        return [FieldError(where, f"{given.eventType} is raised by the feed itself")]
    event_type = registry.get(given.eventType)
    if event_type is None:
        return [FieldError(where, f"unknown event type {given.eventType}; add it to [events] custom")]
    if event_type.document is not None:
        return [FieldError(where, f"{given.eventType} carries a whole document; only commands make it")]
    try:
        event_type.data.model_validate(given.data)
    except ValidationError as exc:
        return [
            FieldError(_path(f"{path}.data".lstrip("."), error["loc"]), error["msg"])
            for error in exc.errors(include_url=False, include_context=False, include_input=False)
        ]
    return []


def _item(
    registry: EventRegistry,
    given: EventInput,
    raw: Any,
    data_json: str,
    principal: str,
    client_id: str | None,
) -> Item:
    event_type = registry.get(given.eventType)
    assert event_type is not None
    tags = tuple(tag(key, value) for key in ENTITY_KEYS if (value := getattr(given, key)) is not None)
    occurred = given.occurredAt or given.timestamp
    tail = envelope_tail(
        data_json,
        tags=tags,
        client_id=given.clientID or client_id,
        occurred_at=iso_from_ms(ms_from_datetime(occurred)) if occurred is not None else None,
    )
    event = NewEvent(given.eventType, tags, given.clientID or client_id, principal, tail)
    if given.key is None:
        return Item(event, event_type.delivery, None, "")
    # The same request in another field order is the same request.
    canonical = to_json(_sorted({name: value for name, value in raw.items() if name != "key"}))
    return Item(
        event,
        event_type.delivery,
        OutcomeKey(principal, given.key),
        blake2b(canonical, digest_size=16).hexdigest(),
    )


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value


def _finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _path(prefix: str, location: tuple[int | str, ...]) -> str:
    """``_path("events", (3, "data", "newStage")) == "events[3].data.newStage"``; a single event has no index."""
    if not prefix and location and isinstance(location[0], int):
        location = location[1:]
    path = prefix
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.lstrip(".")


def _key_reused(index: int, count: int) -> Problem:
    path = "key" if count == 1 else f"events[{index}].key"
    return Unprocessable(
        "An idempotency key was used before with another event.",
        errors=(FieldError(path, "was used with another event; a new event needs a new key"),),
    )
