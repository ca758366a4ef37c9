"""The cashier's broadcast (seed 003, at most 100 ms): from a till's send to its arrival at each of 99 others on `/ws`.

Some tills change a device each, in turn, at the same rate; every socket is a plain one that notes when bytes came and
reads them after the window, so what is measured is the server and the machine, not a client library.
"""

import argparse
import asyncio
import base64
import json
import os
import time
import urllib.request
from pathlib import Path
from typing import Any

from bench import report
from bench.harness import BenchError, Target, median, store, sync_server, usage, workspace
from sync_server.feed.frames import payloads

SOCKETS = 100
SENDERS = 5
UPDATES_PER_S = 20.0
SETTLE_S = 0.5
PATIENCE_S = 20.0
GOAL_MS = 20.0
STORES = ("sqlite", "mongodb")


class Till(asyncio.Protocol):
    """A socket at `/ws`: what came, and when."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.came: list[tuple[float, bytes]] = []
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self.came.append((time.perf_counter(), data))

    def say(self, message: dict[str, Any]) -> None:
        """One text frame, masked with nothing but zeros."""
        payload = json.dumps(message).encode()
        size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
        self.transport.write(b"\x81" + size + bytes(4) + payload)

    async def heard(self, text: bytes) -> None:
        """Until *text* has come. Raises BenchError."""
        end_s = time.monotonic() + PATIENCE_S
        while text not in b"".join(data for _, data in self.came):
            if time.monotonic() > end_s or self.transport.is_closing():
                raise BenchError(f"{self.name} never heard {text!r}")
            await asyncio.sleep(0.01)

    def arrivals(self) -> dict[str, float]:
        """When each update came, by its notes. Raises BenchError."""
        found: dict[str, float] = {}
        rest = b""
        for at_s, data in self.came:
            rest += data
            whole = _whole(rest)
            for payload in payloads(rest[:whole]):
                message = json.loads(payload)
                if message["type"] == "device_updated":
                    found[message["data"]["notes"]] = at_s
                elif message["type"] == "error":
                    raise BenchError(f"{self.name}: {message}")
            rest = rest[whole:]
        return found


def _whole(frames: bytes) -> int:
    """How many bytes of *frames* are whole frames."""
    at = 0
    while len(frames) >= at + 4:
        size, head = frames[at + 1], 2
        if size == 126:
            size, head = int.from_bytes(frames[at + 2 : at + 4], "big"), 4
        if size == 127 or at + head + size > len(frames):
            break
        at += head + size
    return at


def main() -> None:
    """Measure, print, write results/devices.json."""
    options = _options()
    rounds: dict[str, list[dict[str, float]]] = {}
    with workspace() as directory:
        for number in range(options.rounds):
            for kind in STORES:
                home = directory / f"{kind}-{number}"
                home.mkdir()
                figures = _run(kind, home, options.window)
                rounds.setdefault(kind, []).append(figures)
                print(f"round {number + 1}: {kind} p99 {figures['p99 ms']:.2f} ms", flush=True)
    rows: list[dict[str, Any]] = [{"store": kind, "sockets": SOCKETS, **median(rounds[kind])} for kind in STORES]
    notes = [f"{UPDATES_PER_S:g} changes/s by {SENDERS} tills; goal: p99 < {GOAL_MS:g} ms"]
    report.show("Broadcast on /ws, send to arrival; medians of the rounds", rows, notes=notes)
    print(report.save("devices", rows=rows, rounds=rounds, notes=notes))


def _run(kind: str, home: Path, window_s: float) -> dict[str, float]:
    with store(kind) as log, sync_server(home, log) as target:
        for number in range(SENDERS):
            _create(target, f"pc{number}")
        return asyncio.run(_measure(target, window_s))


def _create(target: Target, device_id: str) -> None:
    body = json.dumps({"deviceID": device_id}).encode()
    url = f"http://127.0.0.1:{target.port}/api/v1/devices"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    urllib.request.urlopen(request, timeout=PATIENCE_S).close()


async def _measure(target: Target, window_s: float) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    tills = [Till(f"till-{number}") for number in range(SOCKETS)]
    for till in tills:
        await loop.create_connection(lambda till=till: till, "127.0.0.1", target.port)  # type: ignore[misc]
        await till.heard(b"101 ")
        till.came.clear()
        till.say({"type": "connect", "clientId": till.name})
        await till.heard(b'"pc%d"' % (SENDERS - 1))
    await asyncio.sleep(SETTLE_S)
    for till in tills:
        till.came.clear()
    before = usage(target.process.pid)
    sent = await _send(tills[:SENDERS], window_s)
    last = next(reversed(sent)).encode()
    for till in tills:
        if till is not sent[last.decode()][0]:
            await till.heard(b'"notes":"%b"' % last)
    after = usage(target.process.pid)
    target.process.check()
    arrivals = [(till, till.arrivals()) for till in tills]
    each, all_of_them = [], []
    for notes, (sender, at_s) in sent.items():
        took_ms = [(came[notes] - at_s) * 1000 for till, came in arrivals if till is not sender]
        each += took_ms
        all_of_them.append(max(took_ms))
        if notes in next(came for till, came in arrivals if till is sender):
            raise BenchError("it was sent back to its sender")
    for till in tills:
        till.transport.abort()
    return {
        "p50 ms": _quantile(each, 0.5),
        "p99 ms": _quantile(each, 0.99),
        "to all p50 ms": _quantile(all_of_them, 0.5),
        "to all p99 ms": _quantile(all_of_them, 0.99),
        "max ms": max(each),
        "server CPU": (after.cpu_s - before.cpu_s) / (after.at_s - before.at_s),
    }


async def _send(tills: list[Till], window_s: float) -> dict[str, tuple[Till, float]]:
    """Changes at an even pace; who sent each, and when, by its notes."""
    sent: dict[str, tuple[Till, float]] = {}
    begin_s = time.perf_counter()
    for number in range(int(window_s * UPDATES_PER_S)):
        await asyncio.sleep(max(begin_s + number / UPDATES_PER_S - time.perf_counter(), 0))
        till, notes = tills[number % len(tills)], f"n{number:06}"
        sent[notes] = (till, time.perf_counter())
        data = {"isRunning": True, "elapsedSeconds": number, "mode": "single", "customerCount": 2, "notes": notes}
        till.say({"type": "device_update", "deviceId": f"pc{number % len(tills)}", "data": data})
    return sent


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window", type=float, default=10.0, help="seconds measured per round")
    return parser.parse_args()


if __name__ == "__main__":
    main()
