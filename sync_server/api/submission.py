"""From the body of a publish request to what the appender takes: everything is checked before the log is touched.

The body is parsed once, every event is validated against its type, and what will leave again is rendered here,
once for all readers. Source: protocol.md 3.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json, to_json

from sync_core.cursor import Cursor
from sync_core.envelope import envelope_tail
from sync_core.events import CONTROL_EVENTS, MAX_EVENT_BYTES, Delivery, EventInput, EventRegistry
from sync_core.filters import ENTITY_KEYS, tag
from sync_core.problems import FieldError, InvalidRequest, TooLarge, Unprocessable
from sync_core.times import iso_from_ms, ms_from_datetime
from sync_server.log.group import OUTCOME_TTL_MS, Decision, NewEvent, Outcome, OutcomeKey, Receipt, View

__all__ = ["MAX_EVENTS", "Item", "Submission", "parse_submission"]

MAX_EVENTS = 1000
MAX_FAULTS = 20
MAX_PATH = 200
_ENVELOPE_HEAD_BYTES = 160
"""What id, type and timestamp add to an event's tail, at most."""

_events = TypeAdapter(list[EventInput])

_MESSAGES = {
    "extra_forbidden": "unknown field; what is not part of the envelope belongs into data",
    "missing": "is missing",
    "dict_type": "has to be a JSON object",
    "model_type": "has to be a JSON object",
    "string_pattern_mismatch": "has characters or a length that are not possible here",
}
"""For people, in place of pydantic's: one of those shows a regular expression."""


class Item(NamedTuple):
    """One accepted event; *key* and *fingerprint* where it is to be published at most once.

    *path* is where it stood in the request.
    """

    event: NewEvent
    delivery: Delivery
    key: OutcomeKey | None
    fingerprint: str
    path: str


@dataclass(frozen=True, slots=True)
class Submission:
    """A publish request as the appender takes it (a Write): all of its events, in order, or none."""

    items: Sequence[Item]
    size_bytes: int
    keys: tuple[OutcomeKey, ...]

    @classmethod
    def of(cls, items: Sequence[Item]) -> "Submission":
        size_bytes = sum(len(item.event.tail) for item in items)
        return cls(items, size_bytes, tuple(item.key for item in items if item.key is not None))

    @property
    def reserve(self) -> int:
        return len(self.items)

    def decide(self, view: View) -> Decision:
        events: list[NewEvent] = []
        receipts: list[Receipt] = []
        outcomes: dict[OutcomeKey, Outcome] = {}
        for item in self.items:
            known = view.outcomes.get(item.key) if item.key is not None else None
            if known is not None:
                if known.fingerprint != item.fingerprint:
                    raise _key_reused(item.path)
                receipts.append(Receipt(known.result, item.event.event_type, duplicate=True))
                continue
            event_id = str(Cursor(view.epoch, view.next_seq + len(events)))
            if item.key is not None:
                outcomes[item.key] = Outcome(item.fingerprint, event_id, view.time_ms + OUTCOME_TTL_MS)
            events.append(item.event)
            receipts.append(Receipt(event_id, item.event.event_type, duplicate=False))
        return Decision(events, outcomes, tuple(receipts))


def parse_submission(registry: EventRegistry, body: bytes, *, principal: str, client_id: str | None) -> list[Item]:
    """The events in the JSON *body* (one, or ``{"events": [...]}``), checked and rendered.

    Raises InvalidRequest, Unprocessable or TooLarge with every fault found, up to 20, and its path.
    """
    try:
        # No NaN, no Infinity, no lone surrogates, no nesting beyond 200 levels: the parser refuses them.
        document = from_json(body, allow_inf_nan=False)
    except ValueError as exc:
        raise InvalidRequest("The body is not JSON.", errors=(FieldError("", str(exc)),)) from None
    if isinstance(document, dict) and "events" in document and "eventType" not in document:
        raw, prefix = _batch(document), "events"
    else:
        raw, prefix = [document], ""
    try:
        inputs = _events.validate_python(raw)
    except ValidationError:
        raise _refused(_all_faults(registry, raw, prefix)) from None
    return _items(registry, inputs, raw, prefix=prefix, principal=principal, client_id=client_id)


def _batch(document: dict[str, Any]) -> list[Any]:
    faults = [FieldError(name[:MAX_PATH], "unknown field") for name in sorted(set(document) - {"events"})]
    raw = document["events"]
    if isinstance(raw, list) and 1 <= len(raw) <= MAX_EVENTS:
        if not faults:
            return raw
    else:
        faults.insert(0, FieldError("events", f"a list of 1 to {MAX_EVENTS} events"))
    raise Unprocessable("The batch cannot be accepted.", errors=tuple(faults[:MAX_FAULTS]))


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
        path = _path(prefix, (index,))
        faults += _content_faults(registry, given, path)
        if given.key is not None:
            if given.key in keys:
                faults.append(FieldError(_path(path, ("key",)), "the same key twice in one request"))
            keys.add(given.key)
        if len(faults) >= MAX_FAULTS:
            break
        if faults:
            continue
        data_json = to_json(given.data)
        if b"Infinity" in data_json and not _finite(given.data):  # 1e999 is JSON, but no number of ours
            faults.append(FieldError(_path(path, ("data",)), "a number is out of range"))
            continue
        item = _item(registry, given, raw[index], data_json.decode(), path, principal, client_id)
        if len(item.event.tail.encode()) + _ENVELOPE_HEAD_BYTES > MAX_EVENT_BYTES:
            fault = FieldError(path, "too large")
            raise TooLarge(f"An event has at most {MAX_EVENT_BYTES} bytes.", errors=(fault,))
        items.append(item)
    if faults:
        raise _refused(faults)
    return items


def _all_faults(registry: EventRegistry, raw: list[Any], prefix: str) -> list[FieldError]:
    """Faults of the envelopes, and of the contents of those that have none."""
    faults: list[FieldError] = []
    for index, item in enumerate(raw):
        path = _path(prefix, (index,))
        if not isinstance(item, dict):
            faults.append(FieldError(path, 'an event is a JSON object; several are {"events": [...]}'))
            continue
        try:
            given = EventInput.model_validate(item)
        except ValidationError as exc:
            faults += _faults(path, exc)
        else:
            faults += _content_faults(registry, given, path)
        if len(faults) >= MAX_FAULTS:
            break
    return faults


def _content_faults(registry: EventRegistry, given: EventInput, path: str) -> list[FieldError]:
    """What the event's type has against it."""
    where = _path(path, ("eventType",))
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
        return _faults(_path(path, ("data",)), exc)
    return []


def _item(
    registry: EventRegistry,
    given: EventInput,
    raw: Any,
    data_json: str,
    path: str,
    principal: str,
    client_id: str | None,
) -> Item:
    event_type = registry.get(given.eventType)
    assert event_type is not None
    fields = vars(given)
    tags = tuple([tag(key, fields[key]) for key in ENTITY_KEYS if fields[key] is not None])
    occurred = given.occurredAt or given.timestamp
    tail = envelope_tail(
        data_json,
        tags=tags,
        client_id=given.clientID or client_id,
        occurred_at=iso_from_ms(ms_from_datetime(occurred)) if occurred is not None else None,
    )
    event = NewEvent(given.eventType, tags, given.clientID or client_id, principal, tail)
    if given.key is None:
        return Item(event, event_type.delivery, None, "", path)
    # The same request in another field order is the same request.
    canonical = to_json(_sorted({name: value for name, value in raw.items() if name != "key"}))
    fingerprint = blake2b(canonical, digest_size=16).hexdigest()
    return Item(event, event_type.delivery, OutcomeKey(principal, given.key), fingerprint, path)


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


def _faults(prefix: str, error: ValidationError) -> list[FieldError]:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return [FieldError(_path(prefix, detail["loc"]), _message(detail)) for detail in details[:MAX_FAULTS]]


def _message(detail: ErrorDetails) -> str:
    return _MESSAGES.get(detail["type"], detail["msg"].removeprefix("Value error, "))


def _path(prefix: str, location: Iterable[int | str]) -> str:
    """``_path("events", (3, "data", "newStage")) == "events[3].data.newStage"``; a single event has no index.

    Names come from the request, so they are cut.
    """
    path = prefix
    for part in location:
        if isinstance(part, str):
            path = f"{path}.{part}" if path else part
        elif path:
            path = f"{path}[{part}]"
    return path[:MAX_PATH]


def _refused(faults: Sequence[FieldError]) -> Unprocessable:
    return Unprocessable("The event cannot be accepted.", errors=tuple(faults[:MAX_FAULTS]))


def _key_reused(path: str) -> Unprocessable:
    fault = FieldError(_path(path, ("key",)), "was used with another event; a new event needs a new key")
    return Unprocessable("An idempotency key was used before with another event.", errors=(fault,))
