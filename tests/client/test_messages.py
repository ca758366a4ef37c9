"""Messages read as the stream's events: the same whichever way, and nonsense survived."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_client.messages import MessageDecoder
from sync_core.sse import SSEDecoder
from sync_server.feed.frames import payloads
from sync_server.feed.framing import MESSAGES, SSE

CURSOR = "k3f9a2c1."

control = st.tuples(
    st.sampled_from(["connected", "caught_up", "heartbeat", "reset", "removed", "goodbye"]),
    st.dictionaries(st.text(max_size=5).filter(lambda name: name != "retryMs"), st.integers() | st.text(), max_size=3),
    st.integers(0, 10**6).map(lambda n: f"{CURSOR}{n}"),
    st.none() | st.integers(0, 10**6),
)


@given(st.lists(control | st.integers(0, 10**6), max_size=8))
def test_both_forms_are_read_as_the_same_events(items: list[Any]) -> None:
    stream, messages = SSEDecoder(), MessageDecoder()
    for item in items:
        frames, blocks = b"", b""
        if isinstance(item, int):
            frames, blocks = MESSAGES.advance(f"{CURSOR}{item}"), SSE.advance(f"{CURSOR}{item}")
        else:
            kind, data, event_id, retry_ms = item
            frames = MESSAGES.control(kind, data, event_id=event_id, retry_ms=retry_ms)
            blocks = SSE.control(kind, data, event_id=event_id, retry_ms=retry_ms)
        (payload,) = payloads(frames)
        read, expected = messages.feed(payload), stream.feed(blocks)
        assert [(e.event, e.id) for e in read] == [(e.event, e.id) for e in expected]
        for one, other in zip(read, expected, strict=True):
            assert {k: v for k, v in json.loads(one.data).items() if k != "retryMs"} == json.loads(other.data)
        assert messages.last_event_id == stream.last_event_id
        assert messages.retry_ms == stream.retry_ms


def test_an_envelope_is_the_events_data_as_it_came() -> None:
    decoder = MessageDecoder(last_event_id="k3f9a2c1.1")
    text = '{"id":"k3f9a2c1.2", "eventType":"stage_change","data":{"newStage":"مغسول"}}'
    (event,) = decoder.feed(text.encode())
    assert (event.event, event.data, event.id) == ("stage_change", text, "k3f9a2c1.2")
    ephemeral = '{"eventType":"typing","data":{}}'
    (event,) = decoder.feed(ephemeral.encode())
    assert (event.event, event.data, event.id, decoder.last_event_id) == ("typing", ephemeral, event.id, "k3f9a2c1.2")


@pytest.mark.parametrize("text", ["", '{"id":"a.9"}', '{"eventType":"pong"}', '{"eventType":"error","code":"X"}'])
def test_what_is_no_event_gives_none(text: str) -> None:
    assert MessageDecoder().feed(text.encode()) == []


@given(st.binary(max_size=60) | st.recursive(st.none() | st.text(max_size=5), st.lists).map(json.dumps).map(str.encode))
def test_nonsense_is_one_event_to_be_kept_aside(data: bytes) -> None:
    decoder = MessageDecoder(last_event_id="k3f9a2c1.1")
    assert len(decoder.feed(data)) <= 1
    assert decoder.last_event_id == "k3f9a2c1.1"


def test_an_id_that_is_no_cursor_moves_nothing() -> None:
    decoder = MessageDecoder(last_event_id="k3f9a2c1.1")
    for text in (" ", "x", "k3f9a2c1.", "k3f9a2c1.-1"):
        decoder.feed(json.dumps({"id": text}).encode())
    assert decoder.last_event_id == "k3f9a2c1.1"


@pytest.mark.parametrize("retry", [-1, 10**20, "5", None, True])
def test_a_senseless_retry_is_ignored(retry: Any) -> None:
    decoder = MessageDecoder()
    decoder.feed(json.dumps({"eventType": "goodbye", "data": {"retryMs": retry}}).encode())
    assert decoder.retry_ms is None
