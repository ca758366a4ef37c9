"""From the body of a publish request to what the appender takes: everything is checked before the log is touched.

The body is parsed once, every event is validated against its type, and what will leave again is rendered here,
once for all readers. Source: protocol.md 3.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from sync_core.cursor import Cursor
from sync_core.domain.document import Ref
from sync_core.envelope import ENVELOPE_HEAD_BYTES, envelope_tail
from sync_core.events import CONTROL_EVENTS, MAX_EVENT_BYTES, Delivery, EventInput, EventRegistry
from sync_core.faults import MAX_FAULTS, MAX_PATH, faults_of, path_of
from sync_core.filters import ENTITY_KEYS, tag
from sync_core.problems import FieldError, InvalidRequest, TooLarge, Unprocessable
from sync_core.times import iso_from_ms, ms_from_datetime
from sync_server.api.canonical import fingerprint_of
from sync_server.log.group import Decision, View
from sync_server.log.records import OUTCOME_TTL_MS, NewEvent, Outcome, OutcomeKey, Reach

__all__ = ["MAX_EVENTS", "Item", "Receipt", "Submission", "parse_submission"]

MAX_EVENTS = 1000
AT_ONCE = 20
"""After so many others may have their turn, a third of a millisecond's work: 1,000 in one go would keep readers waiting
for 10 ms, and the commit of the group before, whose every answer from a store takes several turns to be heard."""

_events = TypeAdapter(list[EventInput])

_MESSAGES = {"extra_forbidden": "unknown field; what is not part of the envelope belongs into data"}


class Receipt(NamedTuple):
    """Answer for one published event; *event_id* is None for an ephemeral one."""

    event_id: str | None
    event_type: str
    duplicate: bool


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

    @property
    def refs(self) -> tuple[Ref, ...]:
        return ()

    def decide(self, view: View) -> Decision[tuple[Receipt, ...]]:
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


async def parse_submission(
    registry: EventRegistry, body: bytes, *, principal: str, client_id: str | None
) -> list[Item]:
    """The events in the JSON *body* (one, or ``{"events": [...]}``), checked and rendered. Of many, some at a time.

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
    turns = _Turns()
    try:
        inputs: list[EventInput] = []
        for begin in range(0, len(raw), AT_ONCE):
            if begin:
                await turns.pause()
            inputs += _events.validate_python(raw[begin : begin + AT_ONCE])
    except ValidationError:
        raise _refused(_all_faults(registry, raw, prefix)) from None
    return await _items(registry, inputs, raw, turns, prefix=prefix, principal=principal, client_id=client_id)


class _Turns:
    """Lets others have their turn, but no larger a share of the time than is taken here.

    Where they hold the event loop for long, as a flush to thousands of readers does, a batch would take as many of
    their turns as it has pieces.
    """

    def __init__(self) -> None:
        self._began_s = 0.0
        self._others_s = 0.0

    async def pause(self) -> None:
        now_s = time.monotonic()
        if now_s - self._began_s >= self._others_s:
            await asyncio.sleep(0)
            self._began_s = time.monotonic()
            self._others_s = self._began_s - now_s


def _batch(document: dict[str, Any]) -> list[Any]:
    faults = [FieldError(name[:MAX_PATH], "unknown field") for name in sorted(set(document) - {"events"})]
    raw = document["events"]
    if isinstance(raw, list) and 1 <= len(raw) <= MAX_EVENTS:
        if not faults:
            return raw
    else:
        faults.insert(0, FieldError("events", f"a list of 1 to {MAX_EVENTS} events"))
    raise Unprocessable("The batch cannot be accepted.", errors=tuple(faults[:MAX_FAULTS]))


async def _items(
    registry: EventRegistry,
    inputs: list[EventInput],
    raw: list[Any],
    turns: _Turns,
    *,
    prefix: str,
    principal: str,
    client_id: str | None,
) -> list[Item]:
    items: list[Item] = []
    faults: list[FieldError] = []
    keys: set[str] = set()
    for index, given in enumerate(inputs):
        if index and index % AT_ONCE == 0:
            await turns.pause()
        path = path_of(prefix, (index,))
        faults += _content_faults(registry, given, path)
        if given.key is not None:
            if given.key in keys:
                faults.append(FieldError(path_of(path, ("key",)), "the same key twice in one request"))
            keys.add(given.key)
        if len(faults) >= MAX_FAULTS:
            break
        if faults:
            continue
        data_json = to_json(given.data)
        if b"Infinity" in data_json and not _finite(given.data):  # 1e999 is JSON, but no number of ours
            faults.append(FieldError(path_of(path, ("data",)), "a number is out of range"))
            continue
        item = _item(registry, given, raw[index], data_json.decode(), path, principal, client_id)
        if len(item.event.tail.encode()) + ENVELOPE_HEAD_BYTES > MAX_EVENT_BYTES:
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
        path = path_of(prefix, (index,))
        if not isinstance(item, dict):
            faults.append(FieldError(path, 'an event is a JSON object; several are {"events": [...]}'))
            continue
        try:
            given = EventInput.model_validate(item)
        except ValidationError as exc:
            faults += faults_of(exc, prefix=path, messages=_MESSAGES)
        else:
            faults += _content_faults(registry, given, path)
        if len(faults) >= MAX_FAULTS:
            break
    return faults


def _content_faults(registry: EventRegistry, given: EventInput, path: str) -> list[FieldError]:
    """What the event's type has against it."""
    event_type = registry.get(given.eventType)
    if given.eventType in CONTROL_EVENTS:
        against = f"{given.eventType} is raised by the feed itself"
    elif event_type is None:
        against = f"unknown event type {given.eventType}; add it to [events] custom"
    elif not event_type.publishable:
        against = f"{given.eventType} tells what a command did; only commands make it"
    else:
        try:
            event_type.data.model_validate(given.data)
        except ValidationError as exc:
            return faults_of(exc, prefix=path_of(path, ("data",)))
        return []
    return [FieldError(path_of(path, ("eventType",)), against)]


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
    event = NewEvent(given.eventType, tags, given.clientID or client_id, principal, tail, _reach(given))
    if given.key is None:
        return Item(event, event_type.delivery, None, "", path)
    fingerprint = fingerprint_of({name: value for name, value in raw.items() if name != "key"})
    return Item(event, event_type.delivery, OutcomeKey(principal, given.key), fingerprint, path)


def _reach(given: EventInput) -> Reach | None:
    """Whom the publisher names. Entities in the audience are what readers may be bound to, beside its labels."""
    if given.audience is None and given.sample is None:
        return None
    audience = tuple(dict.fromkeys(given.audience or ()))
    return Reach("", "", 0, grants=tuple(filter(_is_entity, audience)), audience=audience, sample=given.sample)


def _is_entity(label: str) -> bool:
    return label.partition("=")[0] in ENTITY_KEYS


def _finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _refused(faults: Sequence[FieldError]) -> Unprocessable:
    return Unprocessable("The event cannot be accepted.", errors=tuple(faults[:MAX_FAULTS]))


def _key_reused(path: str) -> Unprocessable:
    fault = FieldError(path_of(path, ("key",)), "was used with another event; a new event needs a new key")
    return Unprocessable("An idempotency key was used before with another event.", errors=(fault,))
