"""Any body whatever at the publish endpoint, over real HTTP: never a fault of the server's, and what it took is there.

SYNC_TEST_EXAMPLES sets how many bodies each test sends (default: 150).
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sync_core.filters import ENTITY_KEYS
from tests.server.publishing import CONFIG, EVENT, head, read, send
from tests.servers import SyncServer

thoroughly = settings(
    max_examples=int(os.environ.get("SYNC_TEST_EXAMPLES", "150")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncServer]:
    with SyncServer(tmp_path_factory.mktemp("server"), config=CONFIG) as server:
        yield server
        assert "request_failed" not in server.log_text()


@pytest.fixture(scope="module")
def client(server: SyncServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.base_url, timeout=30, trust_env=False) as client:
        yield client


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
objects = st.dictionaries(texts, values, max_size=4)
possible_ids = st.from_regex(r"[A-Za-z0-9_.=\u0600-\u06ff-]{1,20}", fullmatch=True)
valid_events = st.fixed_dictionaries(
    {"eventType": st.sampled_from(["note", "whatsapp_connected", "qr_generated"]), "data": objects},
    optional=dict.fromkeys((*ENTITY_KEYS[:3], "deviceID", "clientID"), possible_ids),
)
names = st.sampled_from(["eventType", "data", "orderID", "clientID", "occurredAt", "timestamp", "key", "events", "id"])
mutated_events = st.builds(
    lambda event, changes, dropped: {k: v for k, v in (event | changes).items() if k not in dropped},
    valid_events | st.just(EVENT),
    st.dictionaries(names | texts, values | st.text(max_size=5), max_size=2),
    st.sets(names, max_size=1),
)
bodies = (
    st.binary(max_size=60)
    | values.map(json.dumps)
    | mutated_events.map(json.dumps)
    | st.lists(mutated_events, max_size=3).map(lambda events: json.dumps({"events": events}))
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid body with a few of its bytes replaced, dropped or doubled."""
    body = bytearray(json.dumps(draw(valid_events), ensure_ascii=False).encode())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body) - 1))
        body[at : at + draw(st.integers(0, 2))] = draw(
            st.binary(max_size=2) | st.sampled_from([b"\n", b"\0", b'"', b"\\ud800"])
        )
        if not body:
            break
    return bytes(body)


@thoroughly
@given(body=bodies | damaged())
@example(body='{"eventType":"note","data":{"a":1e999}}')
@example(body="[" * 100_000)
@example(body='{"eventType":"note","data":{"\\ud800":1}}')
@example(body='{"eventType":"note","data":{},"occurredAt":"0001-01-01T00:00:00+23:59"}')
@example(body='{"eventType":"note","data":{},"occurredAt":-1e300}')
def test_every_body_is_taken_or_refused_with_a_reason(client: httpx2.Client, body: str | bytes) -> None:
    before = head(client)
    reply = send(client, body)
    written = len(read(client, after=before))
    if reply.status_code == 201:
        assert written == sum(not receipt["duplicate"] for receipt in reply.json()["events"])
        return
    assert reply.status_code in (400, 422)
    assert reply.headers["content-type"] == "application/problem+json"
    document = reply.json()
    assert document["status"] == reply.status_code
    assert document["errors"]
    assert all(isinstance(fault["path"], str) and fault["message"] for fault in document["errors"])
    assert written == 0


@thoroughly
@given(events=st.lists(valid_events, min_size=1, max_size=8))
def test_what_was_taken_comes_back_equal_and_in_order(client: httpx2.Client, events: list[dict[str, Any]]) -> None:
    before = head(client)
    reply = send(client, {"events": events})
    assert reply.status_code == 201, reply.text
    found = read(client, after=before)
    assert [event.pop("id") for event in found] == [receipt["id"] for receipt in reply.json()["events"]]
    for event in found:
        event.pop("timestamp")
    assert found == events
    # Equal for Python is not yet equal: True == 1, and 1 == 1.0.
    assert json.dumps(found, sort_keys=True) == json.dumps(events, sort_keys=True)
