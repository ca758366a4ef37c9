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

import sync_server
from sync_server.demo import describe
from tests.server.commands import RUN_TIMEOUT_S, Running
from tests.server.publishing import published

DAY = Path(sync_server.__file__).parent / "demo_day.jsonl"


def url_of(demo: Running) -> str:
    demo.wait_for("served at")
    found = re.search(r"http://127\.0\.0\.1:\d+", "\n".join(demo.lines))
    assert found is not None
    return found[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_shows_its_day_over_and_over_until_it_is_ended(tmp_path: Path, number: int) -> None:
    with Running("demo", "--port", "0", "--speed", "500", cwd=tmp_path, env={"SYNC_LOG__STORE": "mongodb"}) as demo:
        demo.wait_for("day 2: the shop opens")
        demo.wait_for("كولا")
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
            demo.wait_for("whatsapp_connected")
            assert demo.end(signal.SIGINT) == 0


def test_what_is_published_beside_the_demo_shows_in_it(tmp_path: Path) -> None:
    with Running("demo", "--port", "0", "--speed", "1", cwd=tmp_path) as demo:
        with httpx2.Client(base_url=url_of(demo), trust_env=False) as client:
            published(client, {"eventType": "status_update", "orderID": "MINE", "data": {"status": "hello", "note": 5}})
        demo.wait_for("MINE")
        assert demo.end(signal.SIGINT) == 0


def test_the_curl_lines_hold_a_publishable_event(tmp_path: Path) -> None:
    with Running("demo", "--port", "0", "--speed", "1", cwd=tmp_path) as demo:
        url = url_of(demo)
        demo.wait_for("day 1")
        found = re.search(r"-d '(.*)'", "\n".join(demo.lines))
        assert found is not None
        with httpx2.Client(base_url=url, trust_env=False) as client:
            published(client, json.loads(found[1]))
        assert demo.end(signal.SIGINT) == 0


def test_the_command_that_publishes_can_be_pasted_as_it_stands(tmp_path: Path) -> None:
    with Running("demo", "--port", "0", "--speed", "1", cwd=tmp_path) as demo:
        demo.wait_for("day 1")
        first = demo.lines.index("  # an event of your own") + 1
        command = demo.lines[first : demo.lines.index("", first)]
        assert max(map(len, command)) < 100
        pasted = subprocess.run(
            ["sh", "-c", "\n".join(command)], capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=True
        )
        assert json.loads(pasted.stdout)["events"][0]["eventType"] == "status_update"
        assert demo.end(signal.SIGINT) == 0


def test_every_event_of_the_day_has_words() -> None:
    for line in DAY.read_text(encoding="utf-8").splitlines():
        event: dict[str, Any] = json.loads(line)
        words = describe(event["eventType"], event["data"])
        assert words
        assert "{" not in words


@pytest.mark.parametrize(
    ("event_type", "data"),
    [
        ("stage_change", {"newStage": 5}),
        ("stage_change", {"newStage": "x", "previousStage": 7}),
        ("payment_update", {"status": "x", "amount": "much", "currency": "IQD"}),
        ("device_updated", {"isRunning": True}),
        ("order_added", {"orders": 5}),
        ("order_modified", {"orderIndex": "a", "data": None}),
        ("unheard_of", {"a": 1}),
    ],
)
def test_data_of_another_form_is_shown_as_it_is(event_type: str, data: dict[str, Any]) -> None:
    assert describe(event_type, data) == json.dumps(data)
