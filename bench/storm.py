"""A reconnect storm: readers with random cursors within the last 10,000 events come back all at once, after a restart,
so that nothing is in memory. The server must not read its log once for each of them.
"""

import argparse
import random
from pathlib import Path

from bench import report
from bench.harness import Store, head, measured, median, metric, publisher, readers, store, sync_server, workspace

PATIENCE_S = 120


def main() -> None:
    """Measure, print, write results/storm.json."""
    options = _options()
    rounds: dict[str, list[dict[str, float]]] = {}
    with workspace() as directory:
        for name in options.stores:
            home = directory / name
            home.mkdir()
            with store(name) as log:
                with (
                    sync_server(home, log) as target,
                    publisher(target, events=options.events, batch=500, callers=4) as source,
                ):
                    source.wait_for("{")
                for number in range(options.rounds):
                    figures = _run(home, log, options.readers, options.events, random.Random(number))
                    rounds.setdefault(name, []).append(figures)
                    print(f"round {number + 1}: {name} {figures['seconds']:.2f} s", flush=True)
    rows = [{"store": name, "readers": options.readers, **median(rounds[name])} for name in options.stores]
    notes = report.limits(rows)
    report.show(f"Back at once, each somewhere in the last {options.events:,} events; medians", rows, notes=notes)
    print(report.save("storm", rows=rows, rounds=rounds, notes=notes))


def _run(home: Path, log: Store, count: int, events: int, rng: random.Random) -> dict[str, float]:
    missed = [rng.randrange(1, events + 1) for _ in range(count)]
    with sync_server(home, log) as target:
        epoch, _, seq = head(target).partition(".")
        lines = home / "readers"
        lines.write_text("".join(f" Last-Event-ID: {epoch}.{int(seq) - lacks}\n" for lacks in missed))
        reads_before = metric(target, "sync_log_reads_total")
        with readers(target, count, lines=lines, n=sum(missed), t=PATIENCE_S) as crowd:
            figures, used = measured(crowd, target, log)
        reads = metric(target, "sync_log_reads_total") - reads_before
    return {
        "seconds": figures["took_s"],
        "events": figures["deliveries"],
        "events/s": figures["deliveries"] / figures["took_s"],
        "us CPU/event": used["server"] / figures["deliveries"] * 1e6,
        "log reads": reads,
        "MB": figures["bytes"] / 1e6,
        "server CPU": used["server"] / figures["took_s"],
        "mongod CPU": used.get("mongod", 0.0) / figures["took_s"],
        "generator CPU": figures["cpu_share"],
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", nargs="+", choices=["sqlite", "mongodb"], default=["sqlite", "mongodb"])
    parser.add_argument("--readers", type=int, default=5000)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
