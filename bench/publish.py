"""Publishing over HTTP, durable when answered: batches on a few connections, single events from 32 callers, and both
at half of what the design asks for, which is where the time until the answer counts.

mongod shares CPU 1 with the publisher, so its figures are those of a whole two-CPU machine.
"""

import argparse
from pathlib import Path
from typing import Any

from bench import report
from bench.harness import measured, median, publisher, store, sync_server, workspace

# What the design asks each store for, in events/s; how long an answer takes at half of it is measured as well.
GOALS = {"sqlite": {"batched": 40_000, "single": 4_000}, "mongodb": {"batched": 30_000, "single": 2_500}}
BATCH = 100


def _shapes(name: str) -> dict[str, dict[str, float]]:
    """What is sent to the store *name*: options of the publisher, by what they are called in the table."""
    batched, single = (goal / 2 for goal in GOALS[name].values())
    return {
        "batches of 1000, 4 callers": {"batch": 1000, "callers": 4},
        "batches of 500, 4 callers": {"batch": 500, "callers": 4},
        "single, 32 callers": {"batch": 1, "callers": 32},
        "single, 1 caller": {"batch": 1, "callers": 1},
        f"batches of {BATCH}, {batched:,.0f}/s": {"batch": BATCH, "callers": 8, "rate": batched / BATCH},
        f"single, {single:,.0f}/s": {"batch": 1, "callers": 32, "rate": single},
    }


def main() -> None:
    """Measure, print, write results/publish.json."""
    options = _options()
    rounds: dict[str, list[dict[str, float]]] = {}
    with workspace() as directory:
        for number in range(options.rounds):
            for name in options.stores:
                for index, (shape, pace) in enumerate(_shapes(name).items()):
                    home = directory / f"{name}-{number}-{index}"
                    home.mkdir()
                    figures = _run(name, pace, home, options.window)
                    rounds.setdefault(f"{name}, {shape}", []).append(figures)
                    print(f"round {number + 1}: {name}, {shape}: {figures['events/s']:,.0f} events/s", flush=True)
    rows: list[dict[str, Any]] = [
        {"store": name, "requests": shape, **median(rounds[f"{name}, {shape}"])}
        for name in options.stores
        for shape in _shapes(name)
    ]
    notes = report.limits(rows)
    report.show("Durable publishing; medians of the rounds", rows, notes=notes)
    print(report.save("publish", rows=rows, rounds=rounds, notes=notes))


def _run(name: str, pace: dict[str, float], home: Path, window_s: float) -> dict[str, float]:
    with (
        store(name) as log,
        sync_server(home, log) as target,
        publisher(target, warm=1.5, window=window_s, **pace) as source,
    ):
        figures, used = measured(source, target, log)
    return {
        "events/s": figures["events"] / figures["window_s"],
        "events/CPU s": figures["events"] / used["server"],
        "p50 ms": figures["p50_ms"],
        "p99 ms": figures["p99_ms"],
        "server CPU": used["server"] / figures["window_s"],
        "mongod CPU": used.get("mongod", 0.0) / figures["window_s"],
        "generator CPU": figures["cpu_share"],
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", nargs="+", choices=["sqlite", "mongodb"], default=["sqlite", "mongodb"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=float, default=4.0, help="seconds measured per round")
    return parser.parse_args()


if __name__ == "__main__":
    main()
