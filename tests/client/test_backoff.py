"""Delays: the window, the jitter, and what a Retry-After may say."""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_client.backoff import MAX_RETRY_AFTER_S, Backoff, parse_retry_after

NOW = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("attempt", "window_s"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (7, 30), (5000, 30)]
)
def test_the_window_doubles_up_to_its_cap(attempt: int, window_s: float) -> None:
    assert Backoff().delay_s(attempt, rng=lambda: 1.0) == window_s


def test_the_jitter_is_full() -> None:
    rng = random.Random(1)
    delays = [Backoff().delay_s(10, rng=rng.random) for _ in range(2000)]
    assert min(delays) < 1
    assert max(delays) > 29
    assert len(set(delays)) == 2000


def test_retry_after_is_a_floor_with_a_spread_above() -> None:
    rng = random.Random(1)
    delays = [Backoff().delay_s(1, rng=rng.random, retry_after_s=20) for _ in range(100)]
    assert min(delays) >= 20
    assert max(delays) <= 21
    assert len(set(delays)) == 100


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("1.5", 1.5),
        ("Fri, 20 Nov 2026 10:30:20 GMT", 20),
        ("Friday, 20-Nov-26 10:30:20 GMT", 20),
        ("Fri, 20 Nov 2026 10:29:00 GMT", 0),
        ("Fri, 20 Nov 2099 10:30:00 GMT", MAX_RETRY_AFTER_S),
        ("99999999999999999999", MAX_RETRY_AFTER_S),
        ("9" * 5000, MAX_RETRY_AFTER_S),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("nan", None),
        ("inf", None),
        ("1e9", None),
        ("٣", None),
        (None, None),
    ],
)
def test_retry_after(text: str | None, wait_s: float | None) -> None:
    assert parse_retry_after(text, now=NOW) == wait_s


@given(st.text())
def test_any_retry_after_stays_within_bounds(text: str) -> None:
    wait_s = parse_retry_after(text, now=NOW)
    assert wait_s is None or 0 <= wait_s <= MAX_RETRY_AFTER_S
