"""Vehicles that say every second where they are, and maps that follow them: 1,000 and 200, some of them slow.

Each map has to end with the newest position of each vehicle, whatever its pace; the server's memory has to stay flat,
and the log to grow by one position of a vehicle in an interval. Latency is from the gateway's message to the map.
"""

import argparse
import asyncio
import json
import re
import resource
import socket
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import connect

from bench import report
from bench.harness import Target, metric, store, sync_server, usage, workspace

VEHICLES, MAPS, SLOW = 1000, 200, 20
SLOW_BYTES_S = 100_000
"""What a slow map reads: a third of what comes. Beyond that the system's own buffers are as old as they are large."""
GATEWAYS = 10
CALLERS = 16
PERIOD_S = 1.0
INTERVAL_S = 30
SETTLE_S = 60.0
_PLACE = re.compile(rb'"lon":(\d+)\.(\d+)[^}]*\}[^\n]*"vehicleID":"v(\d+)"')


@dataclass(slots=True)
class Map:
    """One reader of the stream and what it shows: by vehicle the number of its newest position."""

    slow: bool
    shown: dict[int, int] = field(default_factory=dict)
    received: int = 0
    backwards: int = 0
    took_ms: list[float] = field(default_factory=list)

    def take(self, text: bytes, sent_s: Sequence[Sequence[float]]) -> None:
        now_s = time.monotonic()
        for number, _, vehicle in _PLACE.findall(text):
            round_, name = int(number), int(vehicle)
            if round_ < self.shown.get(name, 0):
                self.backwards += 1
            self.shown[name] = round_
            self.received += 1
        if self.received and not self.slow:
            self.took_ms.append((now_s - sent_s[name % GATEWAYS][round_]) * 1000)


async def follow(port: int, shown: Map, sent_s: Sequence[Sequence[float]]) -> None:
    """Read the stream for ever; a slow map takes so little that its socket is always full."""
    sock = socket.socket()
    if shown.slow:  # or the system's buffers would read ahead for it
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=4096 if shown.slow else 1024 * 1024)
    writer.write(b"GET /api/v1/sync/events?eventTypes=vehicle_location HTTP/1.1\r\nHost: x\r\n\r\n")
    rest = b""
    try:
        while chunk := await reader.read(4096 if shown.slow else 256 * 1024):
            text = rest + chunk
            end = text.rfind(b"\n\n") + 2
            shown.take(text[:end], sent_s)
            rest = text[end:] if end > 1 else text
            if shown.slow:
                await asyncio.sleep(len(chunk) / SLOW_BYTES_S)
    finally:
        writer.close()


async def gateway(port: int, vehicles: Sequence[int], rounds: range, sent_s: list[float], *, late_s: float) -> None:
    """Say where *vehicles* are, once in a period; the longitude's whole number is the round."""
    began_s = time.monotonic() + late_s
    address = f"ws://127.0.0.1:{port}/ws/tracking?clientID=gateway&vehicleID=v{vehicles[0]}"
    async with connect(address) as connection:
        for count, round_ in enumerate(rounds):
            await asyncio.sleep(max(began_s + count * PERIOD_S - time.monotonic(), 0))
            sent_s[round_] = time.monotonic()
            locations = [
                {"vehicleID": f"v{n}", "lon": round_ + 0.5, "lat": n % 80, "heading": n % 360} for n in vehicles
            ]
            message = {"type": "vehicle_locations", "locations": locations, "id": str(round_)}
            await connection.send(json.dumps(message))
            while json.loads(await connection.recv()).get("type") not in ("ack", "error"):
                pass


@dataclass(slots=True)
class Outcome:
    """What came of it. *behind_s* is how long after the last position the last map showed it."""

    maps: list[Map]
    rounds: int
    behind_s: float
    lasted_s: float


async def drive(port: int, *, vehicles: int, maps: int, slow: int, rounds: range) -> Outcome:
    """Let *vehicles* move for so many periods, numbered as *rounds* are, before *maps*, *slow* of them slow.

    Raises TimeoutError if one of them never shows the newest position of each.
    """
    sent_s = [[0.0] * rounds.stop for _ in range(GATEWAYS)]
    shown = [Map(slow=number < slow) for number in range(maps)]
    began_s = time.monotonic()
    readers = [asyncio.create_task(follow(port, one, sent_s)) for one in shown]
    try:
        groups = [range(vehicles)[at::GATEWAYS] for at in range(min(GATEWAYS, vehicles))]
        await asyncio.gather(
            *(
                gateway(port, group, rounds, sent_s[at], late_s=at * PERIOD_S / len(groups))
                for at, group in enumerate(groups)
            )
        )
        ended_s = time.monotonic()
        async with asyncio.timeout(SETTLE_S):
            while any(len(one.shown) < vehicles or set(one.shown.values()) != {rounds[-1]} for one in shown):
                await asyncio.sleep(0.05)
        return Outcome(shown, len(rounds), time.monotonic() - ended_s, ended_s - began_s)
    finally:
        for task in readers:
            task.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


def furnish(port: int, vehicles: int) -> None:
    """Vehicles v0, v1, ..."""

    def make(number: int) -> None:
        body = {
            "vehicleID": f"v{number}",
            "vin": f"{number:017}",
            "plateNumber": f"P {number}",
            "make": "x",
            "model": "y",
        }
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/v1/vehicles",
            json.dumps(body | {"fuelNorm": "9"}).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=30).close()

    with ThreadPoolExecutor(CALLERS) as callers:
        list(callers.map(make, range(vehicles)))


def main() -> None:
    """Measure, print, write results/tracking.json."""
    options = _options()
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    with workspace() as directory:
        for name in options.stores:
            home = directory / name
            home.mkdir()
            with (
                store(name) as log,
                sync_server(
                    home, log, config=f'[positions]\nlog_interval = "{INTERVAL_S}s"\n[sockets]\nconnections = 1000\n'
                ) as target,
            ):
                rows.append(_run(name, target, options))
    report.show(f"{options.vehicles:,} vehicles, one position a second; {options.maps} maps", rows, notes=notes)
    print(report.save("tracking", rows=rows, rounds={}, notes=notes))


def _run(name: str, target: Target, options: argparse.Namespace) -> dict[str, Any]:
    furnish(target.port, options.vehicles)
    asyncio.run(
        drive(target.port, vehicles=options.vehicles, maps=options.maps, slow=options.slow, rounds=range(1, 5))
    )  # warm
    head_before, rss_before, cpu_before = _head(target), target.process.rss_kb, usage(target.process.pid).cpu_s
    own_before_s = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    outcome = asyncio.run(
        drive(
            target.port,
            vehicles=options.vehicles,
            maps=options.maps,
            slow=options.slow,
            rounds=range(5, 5 + options.seconds),
        )
    )
    cpu_s = usage(target.process.pid).cpu_s - cpu_before
    fast = [one for one in outcome.maps if not one.slow]
    slow = [one for one in outcome.maps if one.slow]
    took = sorted(ms for one in fast for ms in one.took_ms) or [0.0]
    grown = _head(target) - head_before
    bound = options.vehicles * ((outcome.lasted_s + outcome.behind_s) / INTERVAL_S + 1)
    return {
        "store": name,
        "positions/s": options.vehicles * outcome.rounds / outcome.lasted_s,
        "deliveries/s": sum(one.received for one in outcome.maps) / outcome.lasted_s,
        "p50 ms": took[len(took) // 2],
        "p99 ms": took[int(len(took) * 0.99)],
        "of all, slow maps get %": 100
        * sum(one.received for one in slow)
        / max(len(slow) * options.vehicles * outcome.rounds, 1),
        "all newest after s": outcome.behind_s,
        "backwards": sum(one.backwards for one in outcome.maps),
        "log grew by": grown,
        "bound": bound,
        "memory grew MB": (target.process.rss_kb - rss_before) / 1024,
        "server CPU": cpu_s / outcome.lasted_s,
        "generator CPU": (resource.getrusage(resource.RUSAGE_SELF).ru_utime - own_before_s) / outcome.lasted_s,
        "slow closes": metric(target, "order_sync_slow_closes_total"),
    }


def _head(target: Target) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{target.port}/api/v1/sync/poll?limit=1", timeout=10) as reply:
        return int(json.load(reply)["head"].rpartition(".")[2])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", nargs="+", choices=["sqlite", "mongodb"], default=["sqlite", "mongodb"])
    parser.add_argument("--vehicles", type=int, default=VEHICLES)
    parser.add_argument("--maps", type=int, default=MAPS)
    parser.add_argument("--slow", type=int, default=SLOW, help="of the maps")
    parser.add_argument("--seconds", type=int, default=120, choices=range(5, 170), metavar="5...169")
    return parser.parse_args()


if __name__ == "__main__":
    main()
