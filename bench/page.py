"""Writes docs/performance.md from what the benches left in results/.

.venv/bin/python -m bench.page
"""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

COLUMNS = {
    "fanout": ["load", "readers", "server", "deliveries/s", "us CPU/delivery", "ours/nchan per CPU s", "events/write",
               "p50 ms", "p99 ms", "server CPU", "generator CPU"],
    "connect": ["server", "readers", "connect s", "kB/reader"],
    "latency": ["store", "events/s", "p50 ms", "p99 ms", "server CPU", "mongod CPU"],
    "publish": ["store", "requests", "events/s", "p50 ms", "p99 ms", "server CPU", "mongod CPU", "generator CPU"],
    "catchup": ["store", "events", "events/s", "server CPU", "generator CPU"],
}  # fmt: skip

TEXT = {
    "fanout": "Fan-out, beside nginx+nchan in the same run. `fixed`: the same rate for both, about one event a\n"
    "write: the rows that compare like with like. `closed`: as fast as one publisher is answered; `batched`: ours\n"
    "get ten events a request. There our hub joins what is pending, which nchan does not.",
    "connect": "Connecting, and what an idle reader takes.",
    "latency": "From publish to delivery, one reader, 20 events a second.",
    "publish": "Publishing through HTTP, answered when durable.",
    "catchup": "A catch-up from `earliest` after a restart: nothing is in memory.",
}


def shown(value: Any) -> str:
    """A cell: figures with three digits that count."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(name: str) -> str:
    """The section of one bench."""
    result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    columns = COLUMNS[name]
    lines = [f"## {name}", "", TEXT[name], "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(shown(row.get(column, "")) for column in columns) + " |" for row in result["table"]]
    load = result["machine"]["load_average"][0]
    lines += [
        "",
        f"`{result['command']}`, {result['measured'][:16].replace('T', ' ')} UTC, load average before it {load}.",
    ]
    return "\n".join([*lines, *(f"- {note}" for note in result["notes"])])


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
    PAGE.write_text("\n\n".join([head.rstrip(), *map(table, names)]) + "\n", encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
