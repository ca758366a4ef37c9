"""What the tests of the publish endpoint share: a server, an event, and what a refusal has to look like."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

EVENTS = "/api/v1/sync/events"
POLL = "/api/v1/sync/poll"
CONFIG = """
[events]
custom = [
  "note",
  { name = "level", delivery = "latest", entity = "deviceID" },
  { name = "blip", delivery = "ephemeral" },
]
"""
EVENT: dict[str, Any] = {"eventType": "stage_change", "data": {"newStage": "initiated"}, "orderID": "ORDER-001"}
JSON = {"Content-Type": "application/json"}


def send(client: httpx2.Client, document: object) -> httpx2.Response:
    """Publish *document* as JSON; text and bytes as they are."""
    if isinstance(document, str):
        body = document.encode("utf-8", "surrogatepass")
    elif isinstance(document, bytes):
        body = document
    else:
        body = json.dumps(document).encode()
    return client.post(EVENTS, content=body, headers=JSON)


def published(client: httpx2.Client, *events: dict[str, Any]) -> list[dict[str, Any]]:
    """Publish as one batch; the receipts."""
    reply = send(client, {"events": events})
    assert reply.status_code == 201, reply.text
    assert reply.headers["content-type"] == "application/json"
    receipts = reply.json()["events"]
    assert [receipt["eventType"] for receipt in receipts] == [event["eventType"] for event in events]
    return list(receipts)


def head(client: httpx2.Client) -> str:
    """The id of the newest event."""
    return str(client.get(POLL).json()["head"])


def read(client: httpx2.Client, *, after: str, **parameters: str) -> list[dict[str, Any]]:
    """All envelopes behind *after*, page by page."""
    events: list[dict[str, Any]] = []
    while True:
        page = client.get(POLL, params={"after": after, "limit": "1000"} | parameters).json()
        events += page["events"]
        after = page["cursor"]
        if page["upToDate"]:
            return events


def assert_problem(reply: httpx2.Response, status: int, *paths: str) -> None:
    """A refusal as protocol.md 5 wants it, with just these paths (none: without faults)."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["x-request-id"]
    document = reply.json()
    assert document["status"] == status
    assert document["title"]
    assert document["type"]
    assert document["detail"]
    faults = document.get("errors", [])
    assert [fault["path"] for fault in faults] == list(paths)
    assert all(fault["message"] for fault in faults)


@contextmanager
def log_untouched(client: httpx2.Client) -> Iterator[None]:
    """Nothing is written within the block."""
    before = head(client)
    yield
    assert head(client) == before
