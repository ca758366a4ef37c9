"""Fan-out beside nginx+nchan: the same events to the same readers, one server after the other, in each round.

Three loads, each on fresh readers:
- *closed*: one publisher, the next event when the last was answered; every event is a write to every reader.
- *fixed*: single events at a rate that both can keep up with (about 100,000 deliveries/s), for CPU per delivery
  net of how fast each one answers its publisher: ours after an fsync, nchan from memory.
- *batched*: our events come ten to a request, so that a flush carries many; nchan gets the same events singly.
"""

import argparse
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench import report
from bench.harness import Target, measured, median, nchan, publisher, readers, sync_server, workspace

FIXED_DELIVERIES_PER_S = 100_000
BATCHED_EVENTS_PER_S = 400
BATCH = 10
LATENCY_SAMPLES = 500


def main() -> None:
    """Measure, print, write results/fanout.json."""
    options = _options()
    rounds: dict[str, list[dict[str, float]]] = {}
    with workspace() as directory:
        for number in range(options.rounds):
            for count in options.readers:
                for kind in ("ours", "nchan"):
                    home = directory / f"{kind}-{number}-{count}"
                    home.mkdir()
                    for load in options.loads:
                        figures = _run(kind, load, count, home, options.window)
                        rounds.setdefault(f"{load} {count} {kind}", []).append(figures)
                        print(f"round {number + 1}: {load} {count} {kind} {figures['deliveries/s']:,.0f}/s", flush=True)
    rows = [
        _row(load, count, kind, rounds)
        for load in options.loads
        for count in options.readers
        for kind in ("ours", "nchan")
    ]
    notes = report.limits(rows)
    report.show("Fan-out: server on one CPU, readers and publisher on the other; medians", rows, notes=notes)
    print(report.save("fanout", rows=rows, rounds=rounds, notes=notes))


def _run(kind: str, load: str, count: int, home: Path, window_s: float) -> dict[str, float]:
    server: AbstractContextManager[Target] = sync_server(home) if kind == "ours" else nchan(home)
    with server as target:
        rss_before_kb = target.process.rss_kb
        with readers(target, count, w=1, d=window_s, s=max(1, count // LATENCY_SAMPLES)) as crowd:
            crowd.wait_for("CONNECTED")
            rss_after_kb = target.process.rss_kb
            with publisher(target, **_pace(kind, load, count)):
                figures, used = measured(crowd, target)
    deliveries = figures["deliveries"]
    cpu_s = used["server"]
    return {
        "deliveries/s": deliveries / figures["window_s"],
        "deliveries/CPU s": deliveries / cpu_s,
        "us CPU/delivery": cpu_s / deliveries * 1e6,
        "p50 ms": figures["p50_ms"],
        "p99 ms": figures["p99_ms"],
        "server CPU": cpu_s / figures["window_s"],
        "generator CPU": figures["cpu_share"],
        "events/write": deliveries / figures["reads"],
        "bytes/delivery": figures["bytes"] / deliveries,
        "kB/reader": (rss_after_kb - rss_before_kb) / count,
        "connect s": figures["connect_s"],
        "closed": figures["closed"] + figures["failed"],
    }


def _pace(kind: str, load: str, count: int) -> dict[str, float]:
    if load == "closed":
        return {}
    if load == "fixed":
        return {"rate": FIXED_DELIVERIES_PER_S / count}
    if kind == "ours":
        return {"rate": BATCHED_EVENTS_PER_S / BATCH, "batch": BATCH}
    return {"rate": BATCHED_EVENTS_PER_S}


def _row(load: str, count: int, kind: str, rounds: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    figures = median(rounds[f"{load} {count} {kind}"])
    row: dict[str, Any] = {"load": load, "readers": count, "server": kind, **figures}
    # Of each round its own ratio: what disturbs the machine disturbs both servers of a round.
    pairs = zip(rounds[f"{load} {count} ours"], rounds[f"{load} {count} nchan"], strict=True)
    ratios = [{"ratio": a["deliveries/CPU s"] / b["deliveries/CPU s"]} for a, b in pairs]
    row["ours/nchan per CPU s"] = round(median(ratios)["ratio"], 3) if kind == "ours" else ""
    row["closed"] = int(row["closed"])
    return row


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument(
        "--loads", nargs="+", choices=["closed", "fixed", "batched"], default=["closed", "fixed", "batched"]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=float, default=4.0, help="seconds measured per run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
