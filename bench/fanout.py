"""Fan-out beside other servers: the same events to the same readers, one server after the other, in each round.

Three loads, each on fresh readers:
- *closed*: one publisher, the next event when the last was answered.
- *fixed*: single events at a rate that all but the slowest can keep up with (about 100,000 deliveries/s): net of how
  fast each one answers its publisher, ours after an fsync, the others from memory. From 1,000 readers on that is about
  one event a write, so CPU per delivery compares like with like; to 100 readers ours joins what comes within 10 ms.
- *burst*: 400 events/s; ours come ten to a request, so that a flush carries many; the others, which cannot do that,
  get the same events singly.
"""

import argparse
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench import report
from bench.harness import BenchError, Target, measured, median, publisher, readers, sync_server, workspace
from bench.peers import PEERS

FIXED_DELIVERIES_PER_S = 100_000
BURST_EVENTS_PER_S = 400
BURST = 10
LATENCY_SAMPLES = 500
LOADS = ("closed", "fixed", "burst")
OURS = "ours"
SERVERS = (OURS, *PEERS)
PATIENCE_S = 60

Rounds = dict[tuple[str, int, str], list[dict[str, float]]]


def main() -> None:
    """Measure, print, write results/fanout.json."""
    options = _options()
    rounds: Rounds = {}
    notes: list[str] = []
    with workspace() as directory:
        for number in range(options.rounds):
            for count in options.readers:
                for kind in options.servers:
                    for load in options.loads:
                        home = directory / f"{kind}-{load}-{number}-{count}"
                        home.mkdir()
                        try:
                            figures = _run(kind, load, count, home, options.window)
                        except BenchError as exc:
                            notes.append(f"{load}, {count} readers, {kind}: {str(exc).splitlines()[0]}")
                            print(notes[-1], flush=True)
                            continue
                        rounds.setdefault((load, count, kind), []).append(figures)
                        print(
                            f"round {number + 1}: {load} {count} {kind} {figures['deliveries/s']:,.0f}/s,"
                            f" {figures['us CPU/delivery']:.2f} us",
                            flush=True,
                        )
    order = [(load, count, kind) for load in options.loads for count in options.readers for kind in options.servers]
    rows = [_row(*what, rounds) for what in order if what in rounds]
    notes += report.limits(rows)
    report.show("Fan-out: server on one CPU, readers and publisher on the other; medians", rows, notes=notes)
    named = {" ".join(map(str, what)): figures for what, figures in rounds.items()}
    print(report.save(options.name, rows=rows, rounds=named, notes=notes))


def _run(kind: str, load: str, count: int, home: Path, window_s: float) -> dict[str, float]:
    server: AbstractContextManager[Target] = sync_server(home) if kind == OURS else PEERS[kind](home)
    with server as target:
        rss_before_kb = target.process.rss_kb
        with readers(target, count, w=1, d=window_s, s=max(1, count // LATENCY_SAMPLES), t=PATIENCE_S) as crowd:
            crowd.wait_for("CONNECTED")
            rss_after_kb = target.process.rss_kb
            with publisher(target, **_pace(kind, load, count)):
                figures, used = measured(crowd, target)
    deliveries = max(figures["deliveries"], 1)
    cpu_s = used["server"]
    return {
        "deliveries/s": deliveries / figures["window_s"],
        "deliveries/CPU s": deliveries / cpu_s,
        "us CPU/delivery": cpu_s / deliveries * 1e6,
        "p50 ms": figures["p50_ms"],
        "p99 ms": figures["p99_ms"],
        "server CPU": cpu_s / figures["window_s"],
        "generator CPU": figures["cpu_share"],
        "events/write": deliveries / max(figures["reads"], 1),
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
    if kind == OURS:
        return {"rate": BURST_EVENTS_PER_S / BURST, "batch": BURST}
    return {"rate": BURST_EVENTS_PER_S}


def _row(
    load: str, count: int, kind: str, rounds: dict[tuple[str, int, str], list[dict[str, float]]]
) -> dict[str, Any]:
    figures = median(rounds[load, count, kind])
    row: dict[str, Any] = {"load": load, "readers": count, "server": kind, **figures}
    # Of each round its own ratio: what disturbs the machine disturbs both servers of a round.
    pairs = zip(rounds.get((load, count, OURS), ()), rounds[load, count, kind], strict=False)
    ratios = [{"ratio": a["deliveries/CPU s"] / b["deliveries/CPU s"]} for a, b in pairs]
    row["ours/this per CPU s"] = round(median(ratios)["ratio"], 3) if ratios and kind != OURS else ""
    row["closed"] = int(row["closed"])
    return row


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, nargs="+", default=[100, 1000, 5000, 10_000])
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=list(LOADS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default="fanout", help="of the result, results/NAME.json")
    parser.add_argument("--window", type=float, default=3.0, help="seconds measured per run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
