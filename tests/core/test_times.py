"""Times: milliseconds inside, ISO 8601 in UTC outside."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_core.times import iso_from_ms, ms_from_datetime

moments = st.datetimes(
    min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)
)  # fmt: skip


@given(moments)
def test_a_moment_survives_but_for_its_microseconds(moment: datetime) -> None:
    text = iso_from_ms(ms_from_datetime(moment))
    assert datetime.fromisoformat(text) == moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@given(moments)
def test_the_text_has_always_the_same_form(moment: datetime) -> None:
    text = iso_from_ms(ms_from_datetime(moment))
    assert len(text) == len("2026-11-20T10:30:00.123Z")
    assert text.endswith("Z")


@given(moments, moments)
def test_text_sorts_as_time(one: datetime, other: datetime) -> None:
    one_ms, other_ms = ms_from_datetime(one), ms_from_datetime(other)
    assert (iso_from_ms(one_ms) < iso_from_ms(other_ms)) == (one_ms < other_ms)


def test_any_offset_becomes_utc() -> None:
    moment = datetime(2026, 2, 3, 2, 25, 33, tzinfo=timezone(timedelta(hours=3)))
    assert iso_from_ms(ms_from_datetime(moment)) == "2026-02-02T23:25:33.000Z"


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (1763634600123, "2025-11-20T10:30:00.123Z"),
        (-46383408000000, "0500-03-03T00:00:00.000Z"),
    ],
)
def test_known_times(time_ms: int, text: str) -> None:
    assert iso_from_ms(time_ms) == text


def test_a_time_beyond_the_calendar_is_an_error() -> None:
    with pytest.raises(OverflowError):
        iso_from_ms(10**15)
