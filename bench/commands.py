"""Commands over HTTP from 32 callers, durable when answered; and the snapshot of 50,000 orders, page by page.

mongod shares CPU 1 with the callers, so its figures are those of a whole two-CPU machine.
"""

import argparse
import http.client
import json
import time
from pathlib import Path
from typing import Any

from bench import report
from bench.commander import QUEUE
from bench.harness import Target, commander, measured, median, store, sync_server, workspace

SHAPES = {"an order's life": "order", "queue and bays": "queue"}
CALLERS = 32
SNAPSHOT_ORDERS = 50_000


def main() -> None:
    """Measure, print, write results/commands.json."""
    options = _options()
    rounds: dict[str, list[dict[str, float]]] = {}
    with workspace() as directory:
        for number in range(options.rounds):
            for name in options.stores:
                for shape in SHAPES:
                    home = directory / f"{name}-{number}-{SHAPES[shape]}"
                    home.mkdir()
                    figures = _run(name, SHAPES[shape], home, options.window)
                    rounds.setdefault(f"{name}, {shape}", []).append(figures)
                    print(f"round {number + 1}: {name}, {shape}: {figures['commands/s']:,.0f} commands/s", flush=True)
        snapshots = {name: _snapshot(name, directory / f"{name}-snapshot", options.orders) for name in options.stores}
    rows: list[dict[str, Any]] = [
        {"store": name, "commands": shape, **median(rounds[f"{name}, {shape}"])}
        for name in options.stores
        for shape in SHAPES
    ]
    notes = [
        *report.limits(rows),
        *(
            f"{name}: snapshot of {options.orders:,} orders in {s['s']:.2f} s, {s['pages']:.0f} pages, "
            f"{s['mb']:.0f} MB; the server grew by {s['growth_mb']:.1f} MB"
            for name, s in snapshots.items()
        ),
    ]
    report.show(f"Commands, {CALLERS} callers; medians of the rounds", rows, notes=notes)
    print(report.save("commands", rows=rows, rounds={**rounds, "snapshots": snapshots}, notes=notes))


def _run(name: str, shape: str, home: Path, window_s: float) -> dict[str, float]:
    with store(name) as log, sync_server(home, log) as target:
        _furnish(target)
        with commander(target, shape=shape, callers=CALLERS, warm=1.5, window=window_s) as source:
            figures, used = measured(source, target, log)
    return {
        "commands/s": figures["requests"] / figures["window_s"],
        "commands/CPU s": figures["requests"] / used["server"],
        "p50 ms": figures["p50_ms"],
        "p99 ms": figures["p99_ms"],
        "server CPU": used["server"] / figures["window_s"],
        "mongod CPU": used.get("mongod", 0.0) / figures["window_s"],
        "generator CPU": figures["cpu_share"],
    }


def _furnish(target: Target) -> None:
    """A queue for all callers, a bay for each."""
    connection = http.client.HTTPConnection("127.0.0.1", target.port)
    bodies = [("/queues", {"queueID": QUEUE, "name": "Hall"})]
    bodies += [("/bays", {"bayID": f"bay-{number}", "name": "Bay"}) for number in range(CALLERS)]
    for path, body in bodies:
        _post(connection, path, body)
    connection.close()


def _post(connection: http.client.HTTPConnection, path: str, body: object) -> None:
    connection.request("POST", f"/api/v1{path}", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 201:
        raise SystemExit(f"{path}: {answer.status} {answer.read()!r}")
    answer.read()


def _snapshot(name: str, home: Path, orders: int) -> dict[str, float]:
    """Read *orders* of two items each, at the largest page there is."""
    home.mkdir()
    with store(name) as log, sync_server(home, log) as target:
        with commander(target, shape="take", callers=CALLERS, events=orders) as source:
            source.result()
        connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
        _read(connection)  # warm, as a server is
        before_kb = target.process.rss_kb
        began_s = time.monotonic()
        pages, found, size = _read(connection)
        took_s = time.monotonic() - began_s
        growth_kb = target.process.rss_kb - before_kb
    if found != orders:
        raise SystemExit(f"{name}: the snapshot holds {found} orders, not {orders}")
    print(f"{name}: snapshot of {orders:,} orders in {took_s:.2f} s", flush=True)
    return {"s": took_s, "pages": pages, "mb": size / 1e6, "growth_mb": growth_kb / 1024}


def _read(connection: http.client.HTTPConnection) -> tuple[int, int, int]:
    """Pages, orders and bytes of a whole snapshot."""
    pages = found = size = 0
    token = ""
    while True:
        connection.request("GET", f"/api/v1/sync/snapshot?kinds=orders&limit=1000{token}")
        body = connection.getresponse().read()
        page = json.loads(body)
        pages, found, size = pages + 1, found + len(page["orders"]), size + len(body)
        if "pageToken" not in page:
            return pages, found, size
        token = f"&pageToken={page['pageToken']}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", nargs="+", choices=["sqlite", "mongodb"], default=["sqlite", "mongodb"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=float, default=4.0, help="seconds measured per round")
    parser.add_argument("--orders", type=int, default=SNAPSHOT_ORDERS, help="of the snapshot")
    return parser.parse_args()


if __name__ == "__main__":
    main()
