"""What is counted over a client's life."""

from typing import Any

import pytest

from sync_client.health import Meter, Status, status_of
from sync_client.states import Machine, State


def course(*moves: tuple[float, Machine]) -> Meter:
    """A meter that was told of these moves, each from the one before."""
    meter, before = Meter(started_s=0.0), Machine()
    for at_s, after in moves:
        meter.moved(before, after, now_s=at_s)
        before = after
    return meter


CONNECTED, RECONNECTING = Machine(state=State.CONNECTED), Machine(state=State.RECONNECTING)
POLLING, FAILING = Machine(state=State.POLLING), Machine(state=State.POLLING, poll_failures=1)


def test_a_stream_and_polls_that_work_are_uptime() -> None:
    meter = course((10, CONNECTED), (30, RECONNECTING), (32, POLLING), (36, CONNECTED))
    assert meter.up_s(40) == 28


def test_polls_that_fail_are_none() -> None:
    assert status_of(FAILING) == Status.OFFLINE
    meter = course((10, POLLING), (15, FAILING), (50, POLLING), (52, FAILING), (60, CONNECTED))
    assert meter.up_s(61) == 5 + 2 + 1


def test_interruptions_last_from_one_stream_to_the_next() -> None:
    meter = course((10, CONNECTED), (30, RECONNECTING), (32, POLLING), (33, FAILING), (34, POLLING), (36, CONNECTED))
    assert (list(meter.recoveries_s), meter.connections) == ([6], 2)


def test_a_consumer_that_is_behind_for_a_moment_counts_no_connection() -> None:
    held = Machine(state=State.CONNECTED, held=True)
    assert course((10, CONNECTED), (11, held), (12, CONNECTED)).connections == 1


@pytest.mark.parametrize("text", ["", "null", "[]", "5", "no json", '{"totalConnections": "x"}',
             '{"totalConnections": 5, "totalEvents": 5, "uptime": null}',
             '{"totalConnections": Infinity, "totalEvents": 5, "uptime": 1}',
             '{"totalConnections": 5, "totalEvents": 5, "uptime": NaN}'])  # fmt: skip
def test_metrics_of_an_earlier_run_that_cannot_be_read_count_as_none(text: str) -> None:
    meter = Meter(started_s=0.0)
    meter.restore(text)
    expected: dict[str, Any] = {"totalConnections": 0, "totalEvents": 3, "uptime": 0}
    assert meter.document(3, now_s=5.0) == expected
