"""The soak: 2,000 readers for an hour at 50 events/s, 20 of them cut off every second and coming back by cursor.

Every reader checks that each event has the next number. The server's memory and descriptors are looked at all along;
what counts is how they are in the last quarter of the time beside the second one: the first is for warming up.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from bench import report
from bench.harness import Generator, Process, Target, compiled, metric, publisher, store, sync_server, workspace

LINGER_S = 5
"""The last look is at a server that still has all its readers."""
CALLERS = 32
"""So many may wait for their answers at a time: a few would not hold the rate whenever the disk is busy."""


def main() -> None:
    """Measure, print, write results/soak.json."""
    options = _options()
    with workspace() as directory:
        rows = []
        samples = {}
        for name in options.stores:
            home = directory / name
            home.mkdir()
            samples[name] = _run(name, home, options)
            rows.append({"store": name, "readers": options.readers, **_summary(samples[name])})
    notes = [f"{row['store']}: {row['missed']} missed, {row['repeated']} repeated" for row in rows]
    report.show("Soak", rows, notes=notes)
    print(report.save("soak", rows=rows, rounds=samples, notes=notes))


def _run(name: str, home: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    samples = []
    with store(name) as log, sync_server(home, log) as target:
        length_s = options.seconds + LINGER_S
        command = [compiled("follower"), target.port, options.readers, target.stream_path, length_s, options.churn]
        with Generator(map(str, command)) as crowd, publisher(target, rate=options.rate, callers=CALLERS):
            while True:
                seen = crowd.result()
                samples.append({**seen, **_look(target)})
                print(json.dumps(samples[-1]), flush=True)
                if seen["seconds"] >= options.seconds:
                    return samples


def _look(target: Target) -> dict[str, float]:
    process: Process = target.process
    return {
        "at s": round(time.monotonic(), 1),
        "RSS MB": process.rss_kb / 1024,
        "descriptors": len(list(Path(f"/proc/{process.pid}/fd").iterdir())),
        "threads": len(list(Path(f"/proc/{process.pid}/task").iterdir())),
        "tasks": metric(target, "sync_tasks"),
        "server CPU s": process.usage().cpu_s,
    }


def _summary(samples: list[dict[str, Any]]) -> dict[str, Any]:
    quarter = max(len(samples) // 4, 1)
    early, late, last = samples[quarter : 2 * quarter] or samples[:1], samples[-quarter:], samples[-1]
    took_s = last["at s"] - samples[0]["at s"] or 1.0
    told = ("seconds", "streaming", "events", "missed", "repeated", "resets", "goodbyes", "cuts")
    figures: dict[str, Any] = {name: last[name] for name in told}
    for name in ("RSS MB", "descriptors", "tasks"):
        before, after = (sum(sample[name] for sample in part) / len(part) for part in (early, late))
        figures[name] = after
        figures[f"{name}, growth %"] = (after / before - 1) * 100
    figures["events/s"] = (last["events"] - samples[0]["events"]) / max(last["streaming"], 1) / took_s
    figures["server CPU"] = (last["server CPU s"] - samples[0]["server CPU s"]) / took_s
    figures["generator CPU"] = last["cpu_share"]
    return figures


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", nargs="+", choices=["sqlite", "mongodb"], default=["mongodb"])
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--readers", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=50.0, help="events a second")
    parser.add_argument("--churn", type=float, default=20.0, help="readers cut off a second")
    return parser.parse_args()


if __name__ == "__main__":
    main()
