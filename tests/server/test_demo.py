"""The demo as a process, and its words."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import termios
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sync_server.console.words import describe, line_of
from tests.server.commands import COMMAND, RUN_TIMEOUT_S, Running
from tests.server.publishing import published
from tests.servers import clean_environment

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


def test_in_a_terminal_the_bays_and_queues_are_shown_live_until_ctrl_c(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, 110))
    process = subprocess.Popen(
        [*COMMAND, "demo", "--port", "0", "--speed", "2000"], cwd=tmp_path,
        env=clean_environment({"TERM": "xterm-256color", "COLUMNS": "", "LINES": ""}),
        stdin=slave, stdout=slave, stderr=slave, preexec_fn=partial(os.login_tty, slave),
    )  # fmt: skip
    os.close(slave)
    screen = Screen(master)
    try:
        screen.wait_for(r"HEALTHY[^\n]*\s+orders: [^\n]*in progress")
        screen.wait_for(r"Bay 1 +occupied +D1-\d+ +\w+")
        screen.wait_for(r"Express +[1-9]\d* +\d+ D1-\d+")
        os.write(master, b"\x03")
        screen.wait_for("The shop is closed.")
        assert process.wait(RUN_TIMEOUT_S) == 0
        assert "Traceback" not in screen.text
    finally:
        process.kill()
        process.wait()
        os.close(master)


class Screen:
    """What a program writes to its terminal, without the colours."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._bytes = b""

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._bytes.decode(errors="replace")).replace("\r", "")

    def wait_for(self, pattern: str) -> None:
        """Until *pattern* was on the screen."""
        deadline_s = time.monotonic() + RUN_TIMEOUT_S
        while not re.search(pattern, self.text):
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, f"no {pattern!r} in {self.text[-3000:]}"
            if select.select([self._fd], [], [], left_s)[0]:
                self._bytes += os.read(self._fd, 65536)


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
COLA = {"name": "كولا", "price": "1000.00", "quantity": 2, "notes": "بارد"}
DEVICE = {"isRunning": True, "elapsedSeconds": 3600, "mode": "single", "customerCount": 2, "notes": "VIP"}
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
        ("device_updated", {"device": DEVICE}, "running at 1:00 h, 2 customers, VIP"),
        ("device_created", {"device": DEVICE}, "new device, single mode"),
        ("device_removed", {"deleted": True, "device": {"deviceID": "pc1"}}, "taken away"),
        ("device_cleared", {"device": DEVICE}, "cleared for the next customer"),
        ("device_transferred", {"device": DEVICE, "fromDeviceID": "pc1"}, "takes over everything from pc1"),
        ("order_added", {"device": DEVICE, "orders": [COLA]}, "2 × كولا (بارد) at 1000.00"),
        ("order_modified", {"orderIndex": 0, "order": COLA}, "item 1 is now 2 × كولا (بارد) at 1000.00"),
        ("order_removed", {"orderIndex": 0}, "item 1 taken off"),
        ("prices_updated", {}, "new prices for everybody"),
        ("categories_updated", {}, "new categories for everybody"),
        ("job_aborted", {"bayID": "B", "job": {"orderID": "A"}, "reason": "pump"}, "A in B, pump"),
    ],
)
def test_words(event_type: str, data: dict[str, Any], words: str) -> None:
    assert describe(event_type, data) == words


@pytest.mark.parametrize("event_type", ["stage_change", "order_created", "bay_updated", "somebody_elses"])
def test_data_of_another_form_is_shown_as_it_is(event_type: str) -> None:
    data = {"unheard": "of"}
    assert describe(event_type, data) == json.dumps(data)


def test_a_line_tells_the_time_of_who_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        event = {"eventType": "order_created", "timestamp": "2026-02-03T10:00:00Z", "data": {}}
        assert line_of(event).plain.startswith("15:30  order_created")
    finally:
        monkeypatch.undo()
        time.tzset()
