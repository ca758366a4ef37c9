"""Publish to delivery at 20 events/s: from before the publisher's write to after the reader's read, with few and many
readers, beside nginx+nchan. *to all* is the time until the last reader of an event has it.
"""

import argparse
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench import report
from bench.harness import IN_A_FILE, Target, measured, median, publisher, readers, store, sync_server, workspace
from bench.peers import nchan

EVENTS_PER_S = 20
SERVERS = ("sqlite", "mongodb", "nchan")
NAMES = {"sqlite": "ours, SQLite", "mongodb": "ours, MongoDB", "nchan": "nchan"}


def main() -> None:
    """Measure, print, write results/latency.json."""
    options = _options()
    rounds: dict[tuple[int, str], list[dict[str, float]]] = {}
    with workspace() as directory:
        for number in range(options.rounds):
            for count in options.readers:
                for kind in options.servers:
                    home = directory / f"{kind}-{number}-{count}"
                    home.mkdir()
                    figures = _run(kind, count, home, options.window)
                    rounds.setdefault((count, kind), []).append(figures)
                    print(f"round {number + 1}: {count} {kind} {figures['p50 ms']:.2f} ms", flush=True)
    rows: list[dict[str, Any]] = [
        {"readers": count, "server": NAMES[kind], **median(rounds[count, kind])}
        for count in options.readers
        for kind in options.servers
    ]
    notes = report.limits(rows)
    report.show(f"Publish to delivery at {EVENTS_PER_S} events/s; medians of the rounds", rows, notes=notes)
    named = {f"{count} {kind}": figures for (count, kind), figures in rounds.items()}
    print(report.save("latency", rows=rows, rounds=named, notes=notes))


def _run(kind: str, count: int, home: Path, window_s: float) -> dict[str, float]:
    with store("sqlite" if kind == "nchan" else kind) as log:
        server: AbstractContextManager[Target] = nchan(home) if kind == "nchan" else sync_server(home, log)
        with server as target, readers(target, count, w=2, d=window_s, l=1) as crowd:
            crowd.wait_for("CONNECTED")
            with publisher(target, rate=EVENTS_PER_S):
                figures, used = measured(crowd, target, IN_A_FILE if kind == "nchan" else log)
    return {
        "p50 ms": figures["p50_ms"],
        "p99 ms": figures["p99_ms"],
        "to all p50 ms": figures["last_p50_ms"],
        "to all p99 ms": figures["last_p99_ms"],
        "max ms": figures["max_ms"],
        "server CPU": used["server"] / figures["window_s"],
        "mongod CPU": used.get("mongod", 0.0) / figures["window_s"],
        "generator CPU": figures["cpu_share"],
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, nargs="+", default=[1, 1000])
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window", type=float, default=6.0, help="seconds measured per round")
    return parser.parse_args()


if __name__ == "__main__":
    main()
