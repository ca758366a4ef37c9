"""Publish to delivery at 20 events/s: from before the publisher's write to after the reader's read, one reader."""

import argparse
from pathlib import Path

from bench import report
from bench.harness import measured, median, publisher, readers, store, sync_server, workspace

EVENTS_PER_S = 20


def main() -> None:
    """Measure, print, write results/latency.json."""
    options = _options()
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in options.stores}
    with workspace() as directory:
        for number in range(options.rounds):
            for name in options.stores:
                home = directory / f"{name}-{number}"
                home.mkdir()
                rounds[name].append(_run(name, home, options.window))
    rows = [{"store": name, "readers": 1, "events/s": EVENTS_PER_S, **median(rounds[name])} for name in options.stores]
    report.show("Publish to delivery; medians of the rounds", rows)
    print(report.save("latency", rows=rows, rounds=rounds))


def _run(name: str, home: Path, window_s: float) -> dict[str, float]:
    with (
        store(name) as log,
        sync_server(home, log) as target,
        readers(target, 1, w=2, d=window_s) as reader,
    ):
        reader.wait_for("CONNECTED")
        with publisher(target, rate=EVENTS_PER_S):
            figures, used = measured(reader, target, log)
    return {
        "p50 ms": figures["p50_ms"],
        "p99 ms": figures["p99_ms"],
        "max ms": figures["max_ms"],
        "samples": figures["samples"],
        "server CPU": used["server"] / figures["window_s"],
        "mongod CPU": used.get("mongod", 0.0) / figures["window_s"],
        "generator CPU": figures["cpu_share"],
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", nargs="+", choices=["sqlite", "mongodb"], default=["sqlite", "mongodb"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=float, default=10.0, help="seconds measured per round")
    return parser.parse_args()


if __name__ == "__main__":
    main()
