"""The demo as a process, and its words."""

import json
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sync_server.console.words import describe
from tests.server.commands import RUN_TIMEOUT_S, Running
from tests.server.publishing import published

DAY = Path(__file__).parents[2] / "examples" / "shop_day.jsonl"


def url_of(demo: Running) -> str:
    demo.wait_for("served at")
    found = re.search(r"http://127\.0\.0\.1:\d+", "\n".join(demo.lines))
    assert found is not None
    return found[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_plays_a_shop_day_until_it_is_ended(tmp_path: Path, number: int) -> None:
    environment = {"SYNC_LOG__STORE": "mongodb"}
    with Running("demo", "--port", "0", "--speed", "5000", cwd=tmp_path, env=environment) as demo:
        for word in ("order_created", "Express: 1 waiting", "occupied", "job_completed", "payment_update"):
            demo.wait_for(word)
        assert demo.end(number) == 0
    assert demo.lines[-1] == "The shop is closed."
    assert demo.notes == []
    assert list(tmp_path.iterdir()) == []


def test_the_demo_takes_a_free_port_where_its_own_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Running("demo", "--port", str(port), cwd=tmp_path) as demo:
            assert url_of(demo) != f"http://127.0.0.1:{port}"
            assert demo.lines[0].startswith(f"Port {port} is taken")
            demo.wait_for("bay_updated")
            assert demo.end(signal.SIGINT) == 0


def test_what_is_published_beside_the_demo_shows_in_it(tmp_path: Path) -> None:
    with Running("demo", "--port", "0", "--speed", "1", cwd=tmp_path) as demo:
        with httpx2.Client(base_url=url_of(demo), trust_env=False) as client:
            published(client, {"eventType": "status_update", "orderID": "MINE", "data": {"status": "hello", "note": 5}})
        demo.wait_for("MINE")
        assert demo.end(signal.SIGINT) == 0


def test_the_command_that_orders_can_be_pasted_as_it_stands(tmp_path: Path) -> None:
    with Running("demo", "--port", "0", "--speed", "1", cwd=tmp_path) as demo:
        demo.wait_for("queue_updated")
        first = demo.lines.index("  # an order of your own") + 1
        command = demo.lines[first : demo.lines.index("  # all there is to call, in a browser")]
        assert max(map(len, command)) < 100
        pasted = subprocess.run(
            ["sh", "-c", "\n".join(command)], capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=True
        )
        assert json.loads(pasted.stdout)["order"]["stage"] == "initiated"
        assert demo.end(signal.SIGINT) == 0


def test_every_event_of_the_example_day_has_words_of_its_own() -> None:
    for line in DAY.read_text().splitlines():
        event: dict[str, Any] = json.loads(line)
        words = describe(event["eventType"], event["data"])
        assert words, event
        assert not words.startswith("{"), event


ORDER = {"orderID": "A", "stage": "initiated", "items": [], "payment": {"amount": "0.00", "currency": "USD"}}
BAY = {"bayID": "B", "name": "Bay 1", "status": "occupied", "job": {"orderID": "A", "progress": 40}}


@pytest.mark.parametrize(
    ("event_type", "data", "words"),
    [
        ("stage_change", {"newStage": "in_progress"}, "in progress"),
        ("stage_change", {"previousStage": "empty", "newStage": "initiated"}, "empty → initiated"),
        ("payment_update", {"status": "paid"}, "paid"),
        ("status_update", {"status": "ready", "note": "at the gate"}, "ready: at the gate"),
        ("order_created", {"order": ORDER}, "initiated: no items, 0.00 USD"),
        ("order_deleted", {"deleted": True, "order": {"orderID": "A"}}, "deleted"),
        ("queue_updated", {"queue": {"name": "Q", "entries": [{"orderID": "A"}]}}, "Q: 1 waiting (A)"),
        ("bay_updated", {"bay": BAY}, "Bay 1 occupied: A at 40 %"),
        ("job_aborted", {"bayID": "B", "job": {"orderID": "A"}, "reason": "pump"}, "A in B, pump"),
    ],
)
def test_words(event_type: str, data: dict[str, Any], words: str) -> None:
    assert describe(event_type, data) == words


@pytest.mark.parametrize("event_type", ["stage_change", "order_created", "bay_updated", "somebody_elses"])
def test_data_of_another_form_is_shown_as_it_is(event_type: str) -> None:
    data = {"unheard": "of"}
    assert describe(event_type, data) == json.dumps(data)
