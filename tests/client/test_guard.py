"""The loop guard and the sleep detector."""

import pytest

from sync_client.guard import LoopGuard, SleepDetector


def test_the_fifth_request_at_one_cursor_within_half_a_second_is_refused() -> None:
    guard = LoopGuard()
    assert [guard.allows("a.1", now_s=n / 10) for n in range(5)] == [True] * 4 + [False]


def test_a_moving_cursor_is_no_loop() -> None:
    guard = LoopGuard()
    assert all(guard.allows(f"a.{n}", now_s=n / 1000) for n in range(100))


def test_slow_requests_are_no_loop() -> None:
    guard = LoopGuard()
    assert all(guard.allows("a.1", now_s=n / 4) for n in range(100))


def test_after_a_pause_requests_are_let_through_again() -> None:
    guard = LoopGuard()
    for n in range(5):
        guard.allows("a.1", now_s=n / 10)
    assert guard.allows("a.1", now_s=2.0)


def test_a_gap_in_the_ticks_is_a_sleep() -> None:
    detector = SleepDetector()
    assert detector.tick(now_s=1, suspended_s=None) == 0
    assert detector.tick(now_s=2.2, suspended_s=None) == 0
    assert detector.tick(now_s=33.2, suspended_s=None) == pytest.approx(30)


def test_a_suspend_that_the_monotonic_clock_does_not_count_is_a_sleep() -> None:
    detector = SleepDetector()
    detector.tick(now_s=1, suspended_s=50)
    assert detector.tick(now_s=2, suspended_s=3650) == 3600
    assert detector.tick(now_s=3, suspended_s=3650) == 0
