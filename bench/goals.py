"""What the benches are to show, beside what they have shown: the first table of docs/performance.md.

A goal is judged by the results that lie in ``results/``, never by hand.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.report import RESULTS

__all__ = ["Goal", "goals", "section", "shown"]

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Goal:
    """*seen* are the figures that were *asked* for, of which each has to be at least (or, with *at_most*, at most)
    *bound*; NaN for one that was not measured. *why* is told where it is not reached."""

    what: str
    asked: str
    seen: tuple[float, ...]
    bound: float
    at_most: bool = False
    why: str = ""

    @property
    def reached(self) -> bool:
        return bool(self.seen) and all(
            value <= self.bound if self.at_most else value >= self.bound for value in self.seen
        )


PUBLISH_WHY = (
    "what is missing is not in the fan-out: an event is parsed, checked, written by a thread of its own and fsynced "
    "before anybody sees it, 0.5 to 0.7 ms of CPU when events come one by one; the others pass it on from memory. "
    "With 100 readers that is shared by 100 deliveries only."
)
KERNEL_WHY = (
    "three quarters of a delivery are the kernel's (perf at 5,000 readers: 75 % of the samples, 72 % below `write`), "
    "which is the same for all, a fifth of that the wake-up of who reads. The rest is Python, uvloop and the memory "
    "of thousands of connections in turn. `send` on the bare socket, beside the transport, was 0.4 us less in a trial, "
    "and not worth what it makes less safe."
)
CHAIN_WHY = (
    "one tenant's groups follow one another, each with three questions to MongoDB: the head 0.9 ms, a hundred events "
    "1.5, the commit 2.1, and 15 together once in a hundred, beside 2 ms of parsing and checking a request, on a "
    "machine that has one CPU for the server and one for mongod, its change stream and the publisher. At half of the "
    "goal the next request comes 6.7 ms later, and waits where one takes longer. Fewer and larger ones do better, and "
    "not well enough (batches of 300: p99 26 ms)."
)
LATENCY_WHY = (
    "the way from the first reader to the last is shorter than nchan's; before it come 2.5 ms of reading, checking, a "
    "thread, and 0.7 ms for the commit and its fsync, on a processor whose caches forgot all of it in the 50 ms "
    "since the last event (the same code takes a tenth of that without the pause). nchan answers from memory. Tried: "
    "past the transport with `write`, and all readers before the publisher has its answer: 0.2 to 0.3 ms less at p50 "
    "(ADR 2), and the answer after the last write, which is reckoned to be 80 ms with 10,000 readers: not worth it."
)


def goals() -> list[Goal]:
    """All of them, of the benches that have left a result."""
    found: list[Goal] = []
    for name, of in {
        "fanout": _fan_out, "latency": _latency, "connect": _connect, "storm": _storm, "filters": _filters,
        "publish": _publishing, "workers": _workers, "compression": _gzip, "soak": _soak,
    }.items():  # fmt: skip
        if (RESULTS / f"{name}.json").exists():
            found += of()
    return found


def section() -> str:
    """The table, and why not where not."""
    found = goals()
    lines = ["## goals", "", "| goal | asked for | seen | reached |", "|---|---|---|---|"]
    for goal in found:
        seen = " / ".join(shown(value) for value in goal.seen)
        lines.append(f"| {goal.what} | {goal.asked} | {seen} | {'yes' if goal.reached else '**no**'} |")
    reasons: dict[str, list[str]] = {}
    for goal in found:
        if not goal.reached and goal.why:
            reasons.setdefault(goal.why, []).append(goal.what)
    lines += ["", *(f"- Not reached ({'; '.join(names)}): {why}" for why, names in reasons.items())]
    return "\n".join(lines).rstrip()


def _fan_out() -> Iterable[Goal]:
    rows = _rows("fanout")
    ratio = "ours/this per CPU s"
    counts = sorted({row["readers"] for row in rows})

    def seen(load: str, server: str) -> tuple[float, ...]:
        of = {row["readers"]: row[ratio] for row in rows if row["load"] == load and row["server"] == server}
        return tuple(of.get(count, math.nan) for count in counts)

    at = f"x at {' / '.join(f'{count:,}' for count in counts)} readers"
    for server, bound, why in (
        ("nchan", 1.1, PUBLISH_WHY),
        ("node-ws", 1.3, KERNEL_WHY),
        ("sse-starlette", 4.0, PUBLISH_WHY),
        ("flask-socketio", 5.0, PUBLISH_WHY),
    ):
        for load in ("fixed", "closed"):
            name = f"fan-out per CPU second beside {server}, {load}"
            yield Goal(name, f"≥ {bound:g} {at}", seen(load, server), bound, why=why)
    yield Goal("the same in bursts beside nchan", f"≥ 3 {at}", seen("burst", "nchan"), 3.0)


def _latency() -> Iterable[Goal]:
    rows = {(row["readers"], row["server"]): row for row in _rows("latency")}
    ours, nchan = rows[1000, "ours, SQLite"], rows[1000, "nchan"]
    for figure in ("p50 ms", "p99 ms", "to all p50 ms", "to all p99 ms"):
        name = f"latency at 1,000 readers, 20/s: {figure}"
        asked = f"≤ nchan's {shown(nchan[figure])}"
        yield Goal(name, asked, (ours[figure],), nchan[figure], at_most=True, why=LATENCY_WHY)


def _connect() -> Iterable[Goal]:
    ours = _one("connect", server="ours")
    yield Goal("10,000 idle readers: kB each", "≤ 14", (ours["kB/reader"],), 14, at_most=True)
    yield Goal("10,000 readers connect: seconds", "≤ 3", (ours["connect s"],), 3, at_most=True)


def _storm() -> Iterable[Goal]:
    storms = _rows("storm")
    stores = " / ".join(row["store"] for row in storms)
    took_s = tuple(row["seconds"] for row in storms)
    yield Goal(f"5,000 come back and have caught up: seconds, {stores}", "≤ 10", took_s, 10, at_most=True)
    reads = tuple(row["log reads"] for row in storms)
    yield Goal("the same: pages read from the log for all of them", "< 5,000", reads, 4_999, at_most=True)


def _filters() -> Iterable[Goal]:
    times = "CPU, times the next row's"
    orders, tenants = _one("filters", load="orders")[times], _one("filters", load="100 tenants")[times]
    name = "10,000 readers of their own order: CPU, times that of the same deliveries in one channel"
    yield Goal(name, "≤ 2", (orders,), 2, at_most=True)
    yield Goal(
        "100 tenants: CPU, times that of one with the same deliveries", "about 1", (tenants,), 1.15, at_most=True
    )


def _publishing() -> Iterable[Goal]:
    from bench.publish import BATCH, GOALS

    for store, asked in GOALS.items():
        rows = {row["requests"]: row for row in _rows("publish") if row["store"] == store}
        for kind, best, at_half in (
            ("batched", "batches of 1000, 4 callers", f"batches of {BATCH}, {asked['batched'] / 2:,.0f}/s"),
            ("single", "single, 32 callers", f"single, {asked['single'] / 2:,.0f}/s"),
        ):
            name = f"publishing, durable, {store}, {kind}: events/s"
            yield Goal(name, f"≥ {asked[kind]:,}", (rows[best]["events/s"],), asked[kind], why=CHAIN_WHY)
            p99_ms = rows[at_half]["p99 ms"] if at_half in rows else math.nan
            name = f"the same at half of that, {store}, {kind}: p99 ms until the answer"
            yield Goal(name, "< 20", (p99_ms,), 20, at_most=True, why=CHAIN_WHY)


def _workers() -> Iterable[Goal]:
    two = _one("workers", workers=2, readers=5000)
    yield Goal("two workers on two CPUs, 5,000 readers: scaling", "≥ 1.8 x", (two["scaling"],), 1.8)
    few = _one("workers", workers=2, readers=50)
    kinds = [kind for kind in two if kind.startswith("mongod ")]
    times = sum(two[kind] for kind in kinds) / sum(few[kind] for kind in kinds)
    yield Goal("MongoDB's operations with 5,000 readers, times those with 50", "about 1", (times,), 1.15, at_most=True)


def _gzip() -> Iterable[Goal]:
    for load in ("single", "burst"):
        none, shared = (_one("compression", stream=stream, load=load) for stream in ("none", "shared gzip"))
        for figure in ("bytes/delivery", "us CPU/delivery"):
            name = f"shared gzip, {load}: {figure}"
            asked = f"≤ 1.05 x {shown(none[figure])}, which is without"
            yield Goal(name, asked, (shared[figure],), none[figure] * 1.05, at_most=True)


def _soak() -> Iterable[Goal]:
    for row in _rows("soak"):
        what = f"soak, {row['readers']:,} readers, {row['seconds'] / 3600:.1f} h"
        yield Goal(f"{what}: events/s", "50", (round(row["events/s"], 1),), 49.5)
        lost = (float(row["missed"]), float(row["repeated"]))
        yield Goal(f"{what}: missed / repeated", "0", lost, 0, at_most=True)
        growth = tuple(round(row[f"{name}, growth %"], 2) for name in ("RSS MB", "descriptors", "tasks"))
        yield Goal(f"{what}: growth of memory / descriptors / tasks, %", "≤ 5", growth, 5, at_most=True)


def _rows(name: str) -> list[Row]:
    table: list[Row] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["table"]
    return table


def _one(name: str, **wanted: object) -> Row:
    return next(row for row in _rows(name) if all(row[key] == value for key, value in wanted.items()))


def shown(value: float) -> str:
    """A figure with three digits that count."""
    if math.isnan(value):
        return "not measured"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
