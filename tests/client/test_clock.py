"""The wall clock jumps by a day, and back by two, under a client that runs: nothing changes for its events."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.servers import SyncServer, clean_environment, wait_until

DAY_S = 86_400
HEARTBEAT_S = 1.0
"""Silence of two and a half of them ends a stream, which a busy machine must not do."""
SAMPLED_S = 0.05

# Replaces the wall clock of its process before anything of the library is imported; the monotonic clock stays.
TILL = """
import asyncio, datetime, json, sys, time
from pathlib import Path

url, directory, sampled_s = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
control = {"shift_s": 0, "hold": False, "stop": False}
real_ns, real_datetime = time.time_ns, datetime.datetime

def time_ns():
    return real_ns() + control["shift_s"] * 1_000_000_000

class Shifted(real_datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time_ns() / 1e9, tz)

    @classmethod
    def utcnow(cls):
        return cls.now(datetime.timezone.utc).replace(tzinfo=None)

time.time_ns, time.time, datetime.datetime = time_ns, lambda: time_ns() / 1e9, Shifted
assert "sync_client" not in sys.modules

from sync_client import SyncClient

def say(**line):
    print(json.dumps(line), flush=True)

async def main():
    client = SyncClient(url, client_name="till", cache_dir=directory, trust_env=False)

    @client.on("stage_change")
    async def note(event):
        while control["hold"]:
            await asyncio.sleep(0.01)
        say(n=event.data["n"], received_at_ms=event.received_at_ms, source=event.source)

    async with client:
        while not control["stop"]:
            control.update(json.loads((directory / "control.json").read_text()))
            health, metrics = client.health, client.metrics
            say(
                told=dict(control), state=client.state.value, status=health.status, for_s=health.for_s,
                stale_for_s=health.stale_for_s, last_byte_s=health.last_byte_s, queue_depth=health.queue_depth,
                attempts=metrics.attempts, polls=metrics.polls, connections=metrics.total_connections,
                duplicates=metrics.duplicates_suppressed, resets=metrics.resets, parked=metrics.parked,
                uptime_share=metrics.uptime_share, changes=[change.after.value for change in client.transitions],
                events=metrics.total_events, cached=[event.data["n"] for event in await client.recent()],
            )
            await asyncio.sleep(sampled_s)

asyncio.run(asyncio.wait_for(main(), 60))
"""


class Till:
    """The client's process, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        self.process = process
        self._directory = directory
        self._control: dict[str, Any] = {}

    def write(self, **control: Any) -> None:
        """Change what it is told; all of it takes effect at once, soon."""
        self._control |= control
        written = self._directory / "control.new"
        written.write_text(json.dumps(self._control), encoding="utf-8")
        written.replace(self._directory / "control.json")

    def tell(self, **control: Any) -> None:
        """As ``write``; returns when it has taken effect."""
        self.write(**control)
        wait_until(lambda: self.now.get("told") == self._control, what=f"an answer to {control}")

    def _lines(self) -> list[dict[str, Any]]:
        whole = (self._directory / "out").read_bytes().rpartition(b"\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    @property
    def samples(self) -> list[dict[str, Any]]:
        return [line for line in self._lines() if "state" in line]

    @property
    def now(self) -> dict[str, Any]:
        """The newest sample."""
        assert self.process.poll() is None, (self._directory / "err").read_text(encoding="utf-8")
        return (self.samples or [{}])[-1]

    def beats_since(self, sample_count: int) -> int:
        """How often the server said something, as seen by the samples after the first *sample_count*."""
        return len({round(line["for_s"] - line["last_byte_s"], 1) for line in self.samples[sample_count:]})

    @property
    def got(self) -> list[dict[str, Any]]:
        """The events that its handler was given."""
        return [line for line in self._lines() if "n" in line]

    @property
    def numbers(self) -> list[int]:
        return [event["n"] for event in self.got]


@contextmanager
def open_till(base_url: str, directory: Path) -> Iterator[Till]:
    directory.mkdir()
    (directory / "till.py").write_text(TILL, encoding="utf-8")
    root = str(Path(__file__).parents[2])
    argv = [sys.executable, str(directory / "till.py"), base_url, str(directory), str(SAMPLED_S)]
    with (directory / "out").open("wb") as out, (directory / "err").open("wb") as err:
        env = clean_environment({"PYTHONPATH": os.pathsep.join((root, os.environ.get("PYTHONPATH", "")))})
        till = Till(subprocess.Popen([*argv], env=env, stdout=out, stderr=err, stdin=subprocess.DEVNULL), directory)
    try:
        till.write(shift_s=0, hold=False, stop=False)
        yield till
    finally:
        till.process.kill()
        till.process.wait()


def publish(base_url: str, numbers: Sequence[int]) -> None:
    events = [{"eventType": "stage_change", "orderID": "ORDER-001", "data": {"newStage": "x", "n": n}} for n in numbers]
    reply = httpx2.post(f"{base_url}/api/v1/sync/events", json={"events": events}, trust_env=False, timeout=30)
    assert reply.status_code == 201, reply.text


def test_a_wall_clock_that_jumps_by_a_day_changes_nothing(tmp_path: Path) -> None:
    server = SyncServer(tmp_path / "server", config=f"[feed]\nheartbeat_s = {HEARTBEAT_S}\n")
    with server, open_till(server.base_url, tmp_path / "till") as till:
        wait_until(lambda: till.now.get("state") == "connected", what="connected")
        began = len(till.samples)
        publish(server.base_url, [0, 1, 2])
        wait_until(lambda: till.numbers == [0, 1, 2], what="events before the jump")
        till.tell(hold=True)
        publish(server.base_url, [3, 4, 5])
        wait_until(lambda: till.now["queue_depth"] == 3, what="events that wait for their handler")

        till.tell(shift_s=DAY_S)
        publish(server.base_url, [6, 7, 8])
        wait_until(lambda: till.now["queue_depth"] == 6, what="events after a jump forward")
        # Done with, and older than the retention by this clock: once they are gone, the retention has run.
        wait_until(lambda: not {0, 1, 2} & set(till.now["cached"]), what="the retention")
        assert till.now["cached"] == [3, 4, 5, 6, 7, 8]
        till.tell(hold=False)
        wait_until(lambda: till.numbers == list(range(9)), what="events that waited through the retention")

        till.tell(shift_s=-DAY_S)
        seen = len(till.samples)
        publish(server.base_url, [9, 10, 11])
        wait_until(lambda: till.numbers == list(range(12)), what="events after a jump back")
        wait_until(lambda: till.beats_since(seen) > 4, what="heartbeats for longer than the silence allowed")

        till.write(stop=True)
        assert till.process.wait(30) == 0
        check_clock(till)
        check_connection(till.samples[began - 1 :])


def check_clock(till: Till) -> None:
    """The library itself saw the jumps: its own timestamps show them."""
    shifts_s = [0] * 6 + [DAY_S] * 3 + [-DAY_S] * 3
    off_s = [event["received_at_ms"] / 1000 - time.time() for event in till.got]
    assert [round(off / DAY_S) * DAY_S for off in off_s] == shifts_s


def check_connection(samples: list[dict[str, Any]]) -> None:
    """One stream from beginning to end, and durations that know nothing of the jumps."""
    assert {sample["told"]["shift_s"] for sample in samples} == {0, DAY_S, -DAY_S}
    for sample in samples:
        assert (sample["state"], sample["status"]) == ("connected", "healthy")
        assert sample["changes"] == ["connecting", "connected"]
        assert (sample["attempts"], sample["connections"], sample["polls"]) == (1, 1, 0)
        assert (sample["duplicates"], sample["resets"], sample["parked"]) == (0, 0, 0)
        assert 0 <= sample["last_byte_s"] < 10
        assert 0 <= sample["stale_for_s"] < 30
        assert 0 <= sample["for_s"] < 60
        assert 0 < sample["uptime_share"] <= 1
    for before, after in itertools.pairwise(samples):
        assert after["for_s"] >= before["for_s"]
    assert samples[-1]["events"] == 12
