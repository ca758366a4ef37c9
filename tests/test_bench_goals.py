"""The first table of docs/performance.md is judged from the results alone, and never says more than they do."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from bench import goals as module
from bench.goals import Goal, goals, section, shown

LATENCY = [
    {"readers": 1, "server": "ours, SQLite", "p50 ms": 9, "p99 ms": 9, "to all p50 ms": 9, "to all p99 ms": 9},
    {"readers": 1000, "server": "ours, SQLite", "p50 ms": 8, "p99 ms": 15, "to all p50 ms": 12, "to all p99 ms": 16},
    {"readers": 1000, "server": "nchan", "p50 ms": 7, "p99 ms": 15, "to all p50 ms": 13, "to all p99 ms": 16},
]
PUBLISHING = [
    {"store": "sqlite", "requests": "batches of 1000, 4 callers", "events/s": 39_999, "p99 ms": 200},
    {"store": "sqlite", "requests": "single, 32 callers", "events/s": 4000, "p99 ms": 200},
    {"store": "sqlite", "requests": "single, 2,000/s", "events/s": 2000, "p99 ms": 19.9},
]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return tmp_path


def leave(results: Path, name: str, table: list[dict[str, Any]]) -> None:
    (results / f"{name}.json").write_text(json.dumps({"table": table}))


@pytest.mark.parametrize(
    ("seen", "at_most", "reached"),
    [
        ((1.1,), False, True),
        ((1.09,), False, False),
        ((1.1,), True, True),
        ((1.11,), True, False),
        ((2.0, 1.0), False, False),
        ((2.0, math.nan), False, False),
        ((math.nan,), True, False),
        ((), False, False),
    ],
)
def test_a_goal_is_reached_where_all_its_figures_are_there_and_reach_it(
    seen: tuple[float, ...], at_most: bool, reached: bool
) -> None:
    assert Goal("it", "1.1", seen, 1.1, at_most=at_most).reached is reached


def test_a_bench_that_left_no_result_has_no_goals(results: Path) -> None:
    assert goals() == []
    leave(results, "latency", LATENCY)
    assert {goal.what.partition(" ")[0] for goal in goals()} == {"latency"}


def test_latency_is_compared_with_nchans_of_the_same_number_of_readers(results: Path) -> None:
    leave(results, "latency", LATENCY)
    assert [(goal.seen, goal.bound, goal.reached) for goal in goals()] == [
        ((8,), 7, False),
        ((15,), 15, True),
        ((12,), 13, True),
        ((16,), 16, True),
    ]


def test_what_was_not_measured_is_not_reached_and_says_so(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.publish.GOALS", {"sqlite": {"batched": 40_000, "single": 4_000}})
    leave(results, "publish", PUBLISHING)
    assert [goal.reached for goal in goals()] == [False, False, True, True]
    lines = section().splitlines()
    assert [line.rsplit("|", 3)[1:3] for line in lines[4:8]] == [
        [" 39,999 ", " **no** "],
        [" not measured ", " **no** "],
        [" 4,000 ", " yes "],
        [" 19.9 ", " yes "],
    ]
    assert len(lines) == 10
    assert lines[9].startswith("- Not reached (publishing, durable, sqlite, batched: events/s; the same at half")


def test_fan_out_needs_every_number_of_readers(results: Path) -> None:
    rows = [
        {"load": load, "server": server, "readers": readers, "ours/this per CPU s": 9.0}
        for load in ("fixed", "closed", "burst")
        for server in ("nchan", "node-ws", "sse-starlette", "flask-socketio")
        for readers in (100, 1000)
    ]
    leave(results, "fanout", rows)
    assert all(goal.reached and goal.seen == (9.0, 9.0) for goal in goals())
    leave(results, "fanout", rows[1:])
    assert [goal.what for goal in goals() if not goal.reached] == ["fan-out per CPU second beside nchan, fixed"]


@pytest.mark.parametrize(
    ("value", "text"), [(46465.2, "46,465"), (100, "100"), (99.96, "100"), (1.2649, "1.26"), (0.0, "0")]
)
def test_three_digits_count(value: float, text: str) -> None:
    assert shown(value) == text
