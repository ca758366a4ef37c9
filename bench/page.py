"""Writes docs/performance.md, and its plots, from what the benches left in results/.

.venv/bin/python -m bench.page
"""

import json
from pathlib import Path
from typing import Any

from bench import goals, plots

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

COLUMNS = {
    "fanout": ["load", "readers", "server", "deliveries/s", "us CPU/delivery", "ours/this per CPU s", "events/write",
               "p50 ms", "p99 ms", "server CPU", "generator CPU"],
    "latency": ["readers", "server", "p50 ms", "p99 ms", "to all p50 ms", "to all p99 ms", "server CPU", "mongod CPU",
                "generator CPU"],
    "connect": ["server", "readers", "connect s", "ms CPU/connect", "kB/reader"],
    "storm": ["store", "readers", "seconds", "events", "us CPU/event", "log reads", "MB", "server CPU",
              "generator CPU"],
    "filters": ["load", "deliveries/s", "us CPU/delivery", "CPU, times the next row's", "p50 ms", "p99 ms",
                "server CPU"],
    "audiences": ["load", "audiences", "readers", "deliveries/s", "us CPU/delivery", "with/without per CPU s",
                  "of open per CPU s", "events/write", "p50 ms"],
    "workers": ["workers", "readers", "deliveries/s", "us CPU/delivery", "scaling", "server CPU", "most of one",
                "mongod query/s", "mongod getmore/s", "mongod command/s", "generator CPU"],
    "compression": ["stream", "load", "readers", "deliveries/s", "us CPU/delivery", "bytes/delivery", "p50 ms",
                    "kB/reader"],
    "publish": ["store", "requests", "events/s", "p50 ms", "p99 ms", "server CPU", "mongod CPU", "generator CPU"],
    "commands": ["store", "commands", "commands/s", "p50 ms", "p99 ms", "server CPU", "mongod CPU", "generator CPU"],
    "devices": ["store", "sockets", "messages/s", "p50 ms", "p99 ms", "server CPU", "generator CPU"],
    "near": ["store", "nearest", "found", "p50 ms", "p95 ms", "p99 ms"],
    "tracking": ["store", "positions/s", "deliveries/s", "p50 ms", "p99 ms", "of all, slow maps get %",
                 "all newest after s", "backwards", "log grew by", "bound", "memory grew MB", "server CPU",
                 "generator CPU"],
    "catchup": ["store", "events", "events/s", "server CPU", "generator CPU"],
    "cost": ["what", "unit", "sqlite", "mongodb"],
    "soak": ["store", "readers", "seconds", "events", "events/s", "missed", "repeated", "cuts", "RSS MB",
             "RSS MB, growth %", "descriptors, growth %", "tasks, growth %", "server CPU"],
}  # fmt: skip
"""The sections, in their order, and what of each result they show."""

TEXT = {
    "fanout": "Fan-out, beside other servers in the same run. `fixed`: the same rate of single events for all,\n"
    "100,000 deliveries a second; ours and Mercure's join what comes close together (*events/write*): at 1,000 events\n"
    "a second to 100 readers ours wait up to 10 ms for each other; from 1,000 readers on it is near one a write,\n"
    "and like is compared with like. `closed`: as fast as the publisher is answered. `burst`: 400 events a\n"
    "second; ours get ten to a request. Ours has parsed, checked and fsynced each event before it is delivered;\n"
    "the others keep it in memory. Mercure is its hub (Go, 0.16.0) in one process on one CPU, handed its updates\n"
    "without the form and the JWT of its own publishing.",
    "latency": "From publish to delivery, 20 events a second, to any reader and to the last one of all.",
    "connect": "Connecting, and what an idle reader takes.",
    "storm": "All readers come back at once after a restart, each with a cursor somewhere in the last 10,000 events.",
    "filters": "Readers that all want something else, and tenants, beside the same deliveries from one channel.",
    "audiences": "Readers of 50 audiences, beside the same deliveries without, and without access control (`open`).",
    "workers": "Two processes beside one. *scaling* is 2 x CPU of one / CPU of two for the same deliveries: with the\n"
    "generator on one of two CPUs, two processes cannot show their whole speed here.",
    "compression": "Shared gzip (one compressor a channel, the same bytes for all its readers) beside none.",
    "publish": "Publishing through HTTP, answered when durable. How long an answer takes at most is the machine's as\n"
    "much as ours: for batches of 100 on MongoDB earlier runs, at busier hours, had a p99 of 31 to 42 ms.",
    "commands": "Commands through HTTP with 32 callers, answered when durable.",
    "devices": "Broadcast to the sockets of cashier devices.",
    "near": "The nearest of 10,000 vehicles, asked for through HTTP, one request after the other.",
    "tracking": "1,000 vehicles that say every second where they are, and 200 maps that follow them, 20 of them slow.",
    "catchup": "A catch-up from `earliest` after a restart: nothing is in memory.",
    "cost": "What one more of each takes of the server; [capacity.md](capacity.md) reckons with it.",
    "soak": "An hour of readers that check every sequence. Growth: the last quarter beside the second one.",
}


def shown(value: Any) -> str:
    """A cell: figures with three digits that count."""
    if not isinstance(value, float):
        return str(value)
    return goals.shown(value)


def section(name: str) -> str:
    """The section of one bench."""
    result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    columns = [column for column in COLUMNS[name] if column in result["table"][0]]
    lines = [f"## {name}", "", TEXT[name], ""]
    for picture, what in plots.draw(name, result):
        lines += [f"![{what}](pictures/{picture})", ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(shown(row.get(column, "")) for column in columns) + " |" for row in result["table"]]
    load = result["machine"]["load_average"][0]
    measured = result["measured"][:16].replace("T", " ")
    of = f"commit {result['versions']['commit']}, Python {result['versions']['python']}"
    lines += ["", f"`{result['command']}`, {measured} UTC, {of}, load average before it {load}.", ""]
    return "\n".join([*lines, *(f"- {note}" for note in result["notes"])]).rstrip()


def main() -> None:
    """Write the page."""
    machine = json.loads((RESULTS / "fanout.json").read_text(encoding="utf-8"))["machine"]
    cpus = f"{machine['cpus']} CPUs ({machine['cpu']})"
    head = (
        "# Performance\n\n"
        "Written by `python -m bench.page` from `bench/results/*.json`; how it is measured, and what the columns\n"
        f"mean, is in [bench/README.md](../bench/README.md). Machine: {cpus}, shared with other work,\n"
        "so trust CPU per delivery and ratios of one run more than anything per second. The server has one core,\n"
        "the generator the other.\n"
    )
    names = [name for name in COLUMNS if (RESULTS / f"{name}.json").exists()]
    PAGE.write_text("\n\n".join([head.rstrip(), goals.section(), *map(section, names)]) + "\n", encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
