"""Frames as RFC 6455 has them, judged by the library `websockets`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from sync_server.feed.frames import payloads, text_frame


def read(frames: bytes) -> list[Frame]:
    """What a client makes of it."""
    client = ClientProtocol(parse_uri("ws://a/"), state=State.OPEN, max_size=None)
    client.receive_data(frames)
    assert client.parser_exc is None
    return [event for event in client.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 300_000])
def test_each_length_form_is_read_as_one_whole_text_message(size: int) -> None:
    payload = b"x" * size
    (frame,) = read(text_frame(payload))
    assert (frame.opcode, frame.fin, bytes(frame.data)) == (Opcode.TEXT, True, payload)


@given(st.lists(st.text(max_size=200).map(str.encode) | st.integers(0, 70_000).map(bytes), max_size=8))
def test_joined_frames_are_read_one_by_one(messages: list[bytes]) -> None:
    frames = b"".join(map(text_frame, messages))
    assert list(payloads(frames)) == messages
    assert [bytes(frame.data) for frame in read(frames)] == messages
