"""The registry, and what an event has to look like before its type is asked."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from sync_core.domain.catalog import REGISTRY
from sync_core.events import CONTROL_EVENTS, Delivery, EventInput, EventRegistry, EventType
from sync_core.filters import ENTITY_KEYS

EVENT: dict[str, Any] = {"eventType": "stage_change", "data": {}}


def test_no_control_event_is_in_the_registry() -> None:
    assert not CONTROL_EVENTS & {event_type.name for event_type in REGISTRY}


@pytest.mark.parametrize(
    "name",
    [
        "stage_change",
        "order_stage_change",
        "status_update",
        "payment_update",
        "order_created",
        "order_deleted",
        "whatsapp_connected",
        "qr_generated",
    ],
)
def test_the_seeds_types_are_known(name: str) -> None:
    assert REGISTRY.get(name) is not None


@pytest.mark.parametrize(
    "name", ["order_stage_change", "order_created", "order_updated", "order_deleted", "queue_updated"]
)
def test_types_with_a_whole_document_say_so(name: str) -> None:
    event_type = REGISTRY.get(name)
    assert event_type is not None
    assert event_type.document is not None


def test_a_small_stage_change_carries_no_document() -> None:
    event_type = REGISTRY.get("stage_change")
    assert event_type is not None
    assert event_type.document is None


def test_the_entity_of_a_latest_type_is_an_envelope_key() -> None:
    assert {prefix.removesuffix("=") for prefix in REGISTRY.latest.values()} <= set(ENTITY_KEYS)


@pytest.mark.parametrize(
    ("delivery", "entity"),
    [(Delivery.LATEST, None), (Delivery.EVERY, "jobID"), (Delivery.EPHEMERAL, "jobID")],
)
def test_an_entity_goes_with_latest_and_only_with_it(delivery: Delivery, entity: str | None) -> None:
    with pytest.raises(ValueError, match="latest"):
        EventType("x", delivery=delivery, entity=entity)


def test_an_extended_registry_knows_both() -> None:
    extended = REGISTRY.extended([EventType("x", delivery=Delivery.LATEST, entity="deviceID")])
    assert extended.get("x") is not None
    assert extended.get("stage_change") is REGISTRY.get("stage_change")
    assert extended.latest["x"] == "deviceID="
    assert REGISTRY.get("x") is None


@pytest.mark.parametrize("taken", ["stage_change", "connected", "goodbye"])
def test_a_custom_type_cannot_take_a_known_name(taken: str) -> None:
    with pytest.raises(ValueError, match="built-in"):
        REGISTRY.extended([EventType(taken)])


def test_a_custom_type_cannot_be_there_twice() -> None:
    with pytest.raises(ValueError, match="twice"):
        EventRegistry([]).extended([EventType("x"), EventType("x")])


def test_every_entity_key_can_be_sent() -> None:
    event = EventInput.model_validate(EVENT | dict.fromkeys(ENTITY_KEYS, "x"))
    assert all(getattr(event, key) == "x" for key in ENTITY_KEYS)


@pytest.mark.parametrize(
    "change",
    [
        {"eventType": None},
        {"eventType": 5},
        {"eventType": ""},
        {"eventType": "1st"},
        {"eventType": "a\nb"},
        {"eventType": "stage_change\n"},
        {"eventType": "a\0"},
        {"eventType": "x" * 65},
        {"data": None},
        {"data": []},
        {"data": "x"},
        {"orderID": 5},
        {"orderID": ""},
        {"orderID": "a,b"},
        {"orderID": "a\r\nevent: reset"},
        {"orderID": "a\0"},
        {"orderID": "a\u2028b"},
        {"orderID": "x" * 129},
        {"key": ""},
        {"clientID": "a\tb"},
        {"orderId": "a typing error"},
        {"id": "k3f9a2c1.1"},
        {"version": 3},
    ],
)
def test_a_bad_envelope_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EventInput.model_validate(EVENT | change)


@pytest.mark.parametrize("name", ["occurredAt", "timestamp"])
@pytest.mark.parametrize(
    "value",
    [
        5,
        1705314600,
        1705314600.5,
        "1705314600",
        True,
        "",
        "now",
        "2024-01-15",
        "2024-01-15T10:30:00",
        "2024-13-15T10:30:00Z",
        "2024-01-15T25:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2024-01-15T10:30:00Z\n",
    ],
)
def test_only_iso_8601_with_an_offset_is_a_time(name: str, value: object) -> None:
    with pytest.raises(ValidationError):
        EventInput.model_validate(EVENT | {name: value})


@pytest.mark.parametrize("text", ["2026-02-03T02:25:33+03:00", "2026-02-02T23:25:33Z", "2026-02-02 23:25:33.000-00:00"])
def test_a_time_of_any_offset_is_taken_as_utc(text: str) -> None:
    occurred = EventInput.model_validate(EVENT | {"occurredAt": text}).occurredAt
    assert occurred == datetime(2026, 2, 2, 23, 25, 33, tzinfo=UTC)
