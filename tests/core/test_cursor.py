"""Cursors: their text, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_core.cursor import Cursor, MalformedCursor, epoch_from_bytes

epochs = st.binary(min_size=5, max_size=5).map(epoch_from_bytes)


@given(epochs, st.integers(0, 10**18 - 1))
def test_a_cursor_survives_its_text(epoch: str, seq: int) -> None:
    assert Cursor.parse(str(Cursor(epoch, seq))) == Cursor(epoch, seq)


@given(st.text(max_size=40))
def test_text_is_a_cursor_only_if_it_is_that_cursors_text(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except MalformedCursor:
        return
    assert str(cursor) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "k3f9a2c1",
        "k3f9a2c1.",
        ".5",
        "k3f9a2c1.-1",
        "k3f9a2c1.+1",
        "k3f9a2c1.01",
        "k3f9a2c1.1.0",
        "k3f9a2c1.1\n",
        " k3f9a2c1.1",
        "K3F9A2C1.1",
        "k3f9a2c.1",
        "k3f9a2c1x.1",
        "k3f9a2c1.١",
        "k3f9a2c1.1e3",
        "k3f9a2c1." + "9" * 19,
        "event_123456",
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(MalformedCursor):
        Cursor.parse(text)


def test_a_long_text_is_not_repeated_whole_in_the_error() -> None:
    with pytest.raises(MalformedCursor) as caught:
        Cursor.parse("x" * 100_000)
    assert len(str(caught.value)) < 100


@given(st.binary(min_size=5, max_size=5), st.binary(min_size=5, max_size=5))
def test_different_randomness_gives_different_epochs(one: bytes, other: bytes) -> None:
    assert (epoch_from_bytes(one) == epoch_from_bytes(other)) == (one == other)


@given(epochs)
def test_an_epoch_is_eight_characters_that_cannot_be_confused(epoch: str) -> None:
    assert len(epoch) == 8
    assert set(epoch) <= set("0123456789abcdefghjkmnpqrstvwxyz")


@pytest.mark.parametrize("size", [0, 4, 6])
def test_an_epoch_needs_exactly_forty_bits(size: int) -> None:
    with pytest.raises(ValueError, match="5 random bytes"):
        epoch_from_bytes(bytes(size))
