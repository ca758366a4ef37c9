"""How fast readers are accepted, and what an idle one takes in the server's memory, beside other servers."""

import argparse
import time
from pathlib import Path
from typing import Any

from bench import report
from bench.harness import median, readers, sync_server, workspace
from bench.peers import PEERS

SETTLE_S = 1.0
PATIENCE_S = 60


def main() -> None:
    """Measure, print, write results/connect.json."""
    options = _options()
    kinds = options.servers
    rounds: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    with workspace() as directory:
        for number in range(options.rounds):
            for kind in kinds:
                home = directory / f"{kind}-{number}"
                home.mkdir()
                rounds[kind].append(_run(kind, home, options.readers))
    rows: list[dict[str, Any]] = [
        {"server": kind, "readers": options.readers, **median(rounds[kind])} for kind in kinds
    ]
    report.show("Connecting; medians of the rounds", rows)
    print(report.save("connect", rows=rows, rounds=rounds))


def _run(kind: str, home: Path, count: int) -> dict[str, float]:
    with sync_server(home) if kind == "ours" else PEERS[kind](home) as target:
        rss_before_kb, before = target.process.rss_kb, target.process.usage()
        with readers(target, count, i=1, t=PATIENCE_S) as crowd:
            figures = crowd.wait_for_json("CONNECTED")
            used_s = target.process.usage().cpu_s - before.cpu_s
            time.sleep(SETTLE_S)  # what is freed a moment later is not a reader's
            rss_after_kb = target.process.rss_kb
    return {
        "connect s": figures["connect_s"],
        "ms CPU/connect": used_s / count * 1e3,
        "kB/reader": (rss_after_kb - rss_before_kb) / count,
        "failed": figures["failed"],
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    servers = ("ours", *PEERS)
    parser.add_argument("--servers", nargs="+", choices=servers, default=list(servers))
    parser.add_argument("--readers", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
