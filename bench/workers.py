"""Two processes beside one, on MongoDB: what the same fan-out costs. And MongoDB's work does not grow with readers.

The machine has two CPUs and the generator needs one, so two processes cannot show their whole speed here. What is
measured instead is the CPU that all server processes use for the same deliveries at a rate that one can keep up with:
if two use no more for it than one, two have twice the room. *scaling* is 2 x CPU of one / CPU of two; the generator's,
publisher's and mongod's CPU are not in it.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from bench import report
from bench.harness import (
    Store,
    children,
    median,
    publisher,
    readers,
    store,
    sync_server,
    usage,
    workspace,
)

COUNTED = ("insert", "query", "update", "getmore", "command")


def main() -> None:
    """Measure, print, write results/workers.json."""
    options = _options()
    rounds: dict[tuple[int, int], list[dict[str, float]]] = {}
    loads = [(workers, count) for count in options.readers for workers in (1, 2)]
    with workspace() as directory:
        for number in range(options.rounds):
            for workers, count in loads:
                home = directory / f"{workers}-{count}-{number}"
                home.mkdir()
                with store("mongodb") as log:
                    figures = _run(workers, count, home, log, options)
                rounds.setdefault((workers, count), []).append(figures)
                print(f"round {number + 1}: {workers} workers, {count} readers: {json.dumps(figures)}", flush=True)
    rows = [_row(workers, count, rounds) for workers, count in loads]
    notes = report.limits(rows)
    report.show("Processes, on MongoDB; medians", rows, notes=notes)
    named = {f"{workers} workers, {count} readers": figures for (workers, count), figures in rounds.items()}
    print(report.save("workers", rows=rows, rounds=named, notes=notes))


def _run(workers: int, count: int, home: Path, log: Store, options: argparse.Namespace) -> dict[str, float]:
    assert log.uri is not None
    rate = options.rate
    with (
        MongoClient[dict[str, Any]](log.uri) as mongo,
        sync_server(home, log, workers=workers) as target,
        readers(target, count, w=1, d=options.window, s=max(1, count // 500)) as crowd,
    ):
        crowd.wait_for("CONNECTED")
        pids = children(target.process.pid) if workers > 1 else [target.process.pid]
        with publisher(target, rate=rate):
            crowd.wait_for("MEASURE")
            before, counted_before = [usage(pid).cpu_s for pid in pids], _opcounters(mongo)
            figures = crowd.result()
            used = [usage(pid).cpu_s - cpu_s for pid, cpu_s in zip(pids, before, strict=True)]
            counted = _opcounters(mongo)
    window_s = figures["window_s"]
    operations = {name: (counted[name] - counted_before[name]) / window_s for name in COUNTED}
    return {
        "deliveries/s": figures["deliveries"] / window_s,
        "us CPU/delivery": sum(used) / figures["deliveries"] * 1e6,
        "server CPU": sum(used) / window_s,
        "most of one": max(used) / window_s,
        "p50 ms": figures["p50_ms"],
        "p99 ms": figures["p99_ms"],
        "events/write": figures["deliveries"] / figures["reads"],
        "generator CPU": figures["cpu_share"],
        **{f"mongod {name}/s": value for name, value in operations.items()},
    }


def _opcounters(mongo: MongoClient[dict[str, Any]]) -> dict[str, float]:
    found: dict[str, float] = mongo.admin.command("serverStatus")["opcounters"]
    return found


def _row(workers: int, count: int, rounds: dict[tuple[int, int], list[dict[str, float]]]) -> dict[str, Any]:
    row: dict[str, Any] = {"workers": workers, "readers": count, **median(rounds[workers, count])}
    pairs = zip(rounds[1, count], rounds[workers, count], strict=True)
    scaling = [{"scaling": workers * a["us CPU/delivery"] / b["us CPU/delivery"]} for a, b in pairs]
    row["scaling"] = round(median(scaling)["scaling"], 3) if workers > 1 else ""
    return row


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, nargs="+", default=[50, 5000])
    parser.add_argument("--rate", type=float, default=20.0, help="events a second")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window", type=float, default=5.0, help="seconds measured per run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
