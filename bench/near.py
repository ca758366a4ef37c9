"""``GET /vehicles?near=`` over HTTP among 10,000 vehicles of one city: the nearest ten, and the nearest hundred."""

import argparse
import asyncio
import http.client
import json
import random
import time
from typing import Any

from websockets.asyncio.client import connect

from bench import report
from bench.harness import Target, store, sync_server, workspace
from bench.tracking import furnish

VEHICLES = 10_000
CITY = (35.5018, 33.8938)
SPREAD_DEG = 0.1
QUERIES = 300
SHAPES = {"10 within 1 km": (1000, 10), "100 within 5 km": (5000, 100), "100 of all": (50_000, 100)}


def main() -> None:
    """Measure, print, write results/near.json."""
    options = _options()
    rows: list[dict[str, Any]] = []
    with workspace() as directory:
        for name in options.stores:
            home = directory / name
            home.mkdir()
            with store(name) as log, sync_server(home, log) as target:
                furnish(target.port, options.vehicles)
                asyncio.run(_place(target.port, options.vehicles))
                rows += [{"store": name, "nearest": shape, **_ask(target, shape)} for shape in SHAPES]
    report.show(f"The nearest of {options.vehicles:,} vehicles", rows)
    print(report.save("near", rows=rows, rounds={}))


async def _place(port: int, vehicles: int) -> None:
    """All of them somewhere in the city."""
    rng = random.Random(1)
    address = f"ws://127.0.0.1:{port}/ws/tracking?clientID=bench&vehicleID=v0"
    async with connect(address) as connection:
        for begin in range(0, vehicles, 1000):
            locations = [
                {"vehicleID": f"v{n}", "lon": rng.gauss(CITY[0], SPREAD_DEG), "lat": rng.gauss(CITY[1], SPREAD_DEG)}
                for n in range(begin, min(begin + 1000, vehicles))
            ]
            await connection.send(json.dumps({"type": "vehicle_locations", "locations": locations, "id": "x"}))
            while (answer := json.loads(await connection.recv()))["type"] != "ack":
                if answer["type"] == "error":
                    raise SystemExit(str(answer))


def _ask(target: Target, shape: str) -> dict[str, float]:
    within_m, limit = SHAPES[shape]
    connection, rng = http.client.HTTPConnection("127.0.0.1", target.port), random.Random(2)
    took_ms, found = [], 0
    for _ in range(QUERIES):
        lon, lat = rng.gauss(CITY[0], SPREAD_DEG), rng.gauss(CITY[1], SPREAD_DEG)
        began_s = time.perf_counter()
        connection.request("GET", f"/api/v1/vehicles?near={lon:.6f},{lat:.6f}&withinMeters={within_m}&limit={limit}")
        body = connection.getresponse().read()
        took_ms.append((time.perf_counter() - began_s) * 1000)
        found += len(json.loads(body)["vehicles"])
    took_ms.sort()
    return {
        "found": found / QUERIES,
        "p50 ms": took_ms[QUERIES // 2],
        "p95 ms": took_ms[int(QUERIES * 0.95)],
        "p99 ms": took_ms[int(QUERIES * 0.99)],
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", nargs="+", choices=["sqlite", "mongodb"], default=["sqlite", "mongodb"])
    parser.add_argument("--vehicles", type=int, default=VEHICLES)
    return parser.parse_args()


if __name__ == "__main__":
    main()
