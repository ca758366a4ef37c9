"""The persistence format of version 1.0.0: the seed's own document, there and back."""

import json
from typing import Any

import pytest

from sync_client.persistence import ImportRefused, configuration, export_document, import_document
from sync_client.records import Mark

SEED: dict[str, Any] = {
    "events": [
        {
            "id": "event_123456",
            "eventType": "stage_change",
            "data": {"previousStage": "empty", "newStage": "initiated"},
            "orderID": "ORDER-001",
            "timestamp": "2024-01-15T10:30:00Z",
            "metadata": {
                "receivedAt": "2024-01-15T10:30:01Z",
                "processed": True,
                "acknowledged": False,
                "source": "sse",
            },
        }
    ],
    "configuration": {
        "orderID": "ORDER-001",
        "eventTypes": ["stage_change", "payment_update"],
        "autoReconnect": True,
        "maxReconnectAttempts": 5,
    },
    "lastConnectionTime": "2024-01-15T10:29:00Z",
    "connectionMetrics": {"totalConnections": 3, "totalEvents": 15, "uptime": 45000},
    "lastEventId": "event_123456",
    "version": "1.0.0",
}


def test_the_seeds_document_goes_in_and_comes_out_the_same() -> None:
    imported = import_document(SEED)
    again = export_document(imported.records, imported.meta, cursor=imported.cursor)
    expected = json.loads(json.dumps(SEED))
    expected["events"][0]["metadata"]["receivedAt"] = "2024-01-15T10:30:01.000Z"
    expected["lastEventId"] = None  # foreign: no log of ours gave it
    assert again == expected
    assert list(again) == list(SEED)
    assert list(again["events"][0]) == list(SEED["events"][0])


def test_a_foreign_last_event_id_counts_as_none() -> None:
    assert import_document(SEED).cursor is None
    assert import_document({**SEED, "lastEventId": "k3f9a2c1.1042"}).cursor == "k3f9a2c1.1042"


def test_flags_become_marks() -> None:
    (record,) = import_document(SEED).records
    assert (record.mark, record.acknowledged) == (Mark.PROCESSED, False)


def test_the_configuration_is_the_filter_in_the_seeds_words() -> None:
    document = {"orderID": ["ORDER-001"], "eventTypes": ["stage_change", "payment_update"]}
    assert configuration(document, max_reconnect_attempts=5) == SEED["configuration"]


@pytest.mark.parametrize(
    "change",
    [
        {"version": "2.0.0"},
        {"events": {}},
        {"events": [1]},
        {"events": [{"id": 5, "eventType": "x"}]},
        {"events": [{"id": "a", "eventType": "x", "metadata": {"receivedAt": "yesterday"}}]},
        {"events": [{"id": "a", "eventType": "x", "metadata": {"receivedAt": "2024-01-15T10:30:00"}}]},
        {"configuration": 5},
    ],
)
def test_what_is_not_of_this_format_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ImportRefused):
        import_document({**SEED, **change})


@pytest.mark.parametrize("document", [None, 5, "x", [], {}])
def test_other_documents_are_refused(document: Any) -> None:
    with pytest.raises(ImportRefused):
        import_document(document)
