"""The plots of docs/performance.md."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update(
    {"svg.hashsalt": "order-sync", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
)

from matplotlib import pyplot as plt  # noqa: E402 - after its output was chosen

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
OURS, OTHERS = "#0b6e4f", "#9aa5b1"
Result = dict[str, Any]


def draw(name: str, result: Result) -> Iterator[tuple[str, str]]:
    """Draw what there is to see in the result of bench *name*: file names in docs/pictures, and what they show."""
    if name == "fanout":
        yield _bars(
            "bench-fanout.svg", "CPU per delivery at 1,000 readers, single events (us; less is better)",
            _rows(result, load="fixed", readers=1000), label="server", value="us CPU/delivery",
        )  # fmt: skip
        yield _bars(
            "bench-burst.svg", "Events delivered per CPU second at 1,000 readers, 400 events/s (more is better)",
            _rows(result, load="burst", readers=1000), label="server", value="deliveries/CPU s",
        )  # fmt: skip
    elif name == "latency":
        yield _bars(
            "bench-latency.svg", "Publish to delivery, 1,000 readers, median (ms; less is better)",
            _rows(result, readers=1000), label="server", value="p50 ms",
        )  # fmt: skip
    elif name == "connect":
        yield _bars(
            "bench-memory.svg", "Memory of an idle reader (kB; less is better)",
            result["table"], label="server", value="kB/reader",
        )  # fmt: skip
    elif name == "soak":
        yield _lines("bench-soak.svg", "Memory of the server over the soak (MB)", result["rounds"])


def _rows(result: Result, **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in result["table"] if all(row[name] == value for name, value in wanted.items())]


def _bars(file: str, title: str, rows: list[dict[str, Any]], *, label: str, value: str) -> tuple[str, str]:
    rows = sorted(rows, key=lambda row: row[value], reverse=True)
    figure, axes = plt.subplots(figsize=(7, 0.6 + 0.32 * len(rows)))
    colors = [OURS if row[label].startswith("ours") else OTHERS for row in rows]
    bars = axes.barh([row[label] for row in rows], [row[value] for row in rows], color=colors)
    axes.bar_label(bars, labels=[f" {row[value]:,.3g}" if row[value] < 1000 else f" {row[value]:,.0f}" for row in rows])
    axes.margins(x=0.12)
    axes.set_title(title, loc="left", fontsize=9)
    return _saved(figure, file, title)


def _lines(file: str, title: str, rounds: dict[str, list[dict[str, Any]]]) -> tuple[str, str]:
    figure, axes = plt.subplots(figsize=(7, 2.2))
    for store, samples in rounds.items():
        axes.plot([s["seconds"] / 60 for s in samples], [s["RSS MB"] for s in samples], color=OURS, label=store)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("minutes")
    axes.legend(frameon=False, loc="lower right")
    axes.set_title(title, loc="left", fontsize=9)
    return _saved(figure, file, title)


def _saved(figure: Any, file: str, title: str) -> tuple[str, str]:
    figure.savefig(PICTURES / file, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return file, title
