"""Compression: shared gzip, for which an event is compressed once, beside none, and beside a compressor per reader.

*single*: 50 events/s, one event a flush; *burst*: 500 events/s, ten to a flush. The per-reader one is sse-starlette
with Starlette's middleware, at 5 events/s, which is what it can take; look at its bytes and CPU per delivery.
"""

import argparse
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench import report
from bench.harness import Target, measured, median, metric, publisher, readers, sync_server, workspace
from bench.peers import sse_queue

STREAMS = ("none", "shared gzip", "sse-starlette, none", "sse-starlette, gzip")
LOADS: dict[str, dict[str, float]] = {"single": {"rate": 50.0}, "burst": {"rate": 50.0, "batch": 10}}
PEER_RATE = 5.0
WARM_S = 2
ON = "[feed]\ncompression = true\n"


def main() -> None:
    """Measure, print, write results/compression.json."""
    options = _options()
    rounds: dict[tuple[str, str], list[dict[str, float]]] = {}
    cases = [(stream, load) for stream in STREAMS for load in LOADS if "starlette" not in stream or load == "single"]
    with workspace() as directory:
        for number in range(options.rounds):
            for stream, load in cases:
                home = directory / f"{stream}-{load}-{number}".replace(" ", "-").replace(",", "")
                home.mkdir()
                figures = _run(stream, load, options.readers, home, options.window)
                rounds.setdefault((stream, load), []).append(figures)
                print(f"round {number + 1}: {stream}, {load}: {figures['us CPU/delivery']:.2f} us", flush=True)
    rows: list[dict[str, Any]] = [
        {"stream": stream, "load": load, "readers": options.readers, **median(rounds[stream, load])}
        for stream, load in cases
    ]
    report.show("Compression; medians", rows)
    print(report.save("compression", rows=rows, rounds={", ".join(case): found for case, found in rounds.items()}))


def _run(stream: str, load: str, count: int, home: Path, window_s: float) -> dict[str, float]:
    pace = LOADS[load]
    server: AbstractContextManager[Target]
    if "starlette" in stream:
        server, pace = sse_queue(home, gzip="gzip" in stream), {"rate": PEER_RATE}
    else:
        server = sync_server(home, config=ON if "gzip" in stream else "")
    lines = home / "readers"
    lines.write_text(" Accept-Encoding: gzip\n" if "gzip" in stream else " \n")
    with server as target:
        rss_before_kb = target.process.rss_kb
        # Published from the beginning: Starlette's middleware sends not even the head before there is an event.
        with publisher(target, **pace), readers(target, count, lines=lines, w=WARM_S, d=window_s, z=1, t=60) as crowd:
            crowd.wait_for("CONNECTED")
            delivered_before = _delivered(target)
            figures, used = measured(crowd, target)
            delivered = _delivered(target) - delivered_before
            rss_after_kb = target.process.rss_kb
    # A peer's readers get each event in a read of its own; ours tells how many it has sent, the warm-up included.
    deliveries = delivered * window_s / (window_s + WARM_S) if delivered else figures["reads"]
    return {
        "deliveries/s": deliveries / figures["window_s"],
        "us CPU/delivery": used["server"] / deliveries * 1e6,
        "bytes/delivery": figures["bytes"] / deliveries,
        "kB/reader": (rss_after_kb - rss_before_kb) / count,
        "server CPU": used["server"] / figures["window_s"],
        "generator CPU": figures["cpu_share"],
    }


def _delivered(target: Target) -> float:
    return metric(target, "sync_deliveries_total") if target.kind == "ours" else 0.0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window", type=float, default=4.0, help="seconds measured per run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
