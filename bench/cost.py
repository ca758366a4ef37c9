"""The cost model of docs/capacity.md: what one more reader, delivery, event and tenant takes of the server.

Each figure is a difference, so that what the process needs anyway is in none of them:
- *reader*: memory of idle readers by their number, and what they take of a CPU (heartbeats), less an idle server's.
- *delivery*: CPU of the same events to many readers less that to few, by the deliveries between.
- *event*: CPU of events that nobody reads, published singly by one caller, and in batches.
- *commit of another process*: CPU of a process on the same log that publishes nothing, with and without a reader; and
  of one that hears of 2,000 heads a second that change, as with as many small tenants on one cluster.
- *tenant*: memory and CPU of idle readers each in a tenant of its own, less that of as many in one.
"""

import argparse
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pymongo import MongoClient, UpdateOne

from bench import report
from bench.audiences import token
from bench.filters import TENANCY
from bench.harness import Store, Target, measured, median, publisher, readers, store, sync_server, workspace

FEW, MANY = 250, 2000
EVENTS_PER_S = 20.0
BATCH, BATCHES_PER_S = 100, 100.0
SINGLE_EVENTS_PER_S = 200.0
TENANTS = 1000
ARRIVE_AT_ONCE = 250
"""Of readers who bring a tenant each: on MongoDB a log is made for each, and who waits two seconds is sent away."""
COMMITS_PER_S, COMMITS_AT_ONCE = 2000, 20
SETTLE_S = 2.0
TENANTS_SETTLE_S = 10.0
"""On MongoDB each new tenant is news to every process."""

UNITS = {
    "idle process": "MB",
    "idle reader, memory": "kB",
    "idle reader, CPU": "us/s",
    "delivery": "us CPU",
    "single event": "us CPU",
    "single event, mongod": "us CPU",
    "event in a batch": "us CPU",
    "event in a batch, mongod": "us CPU",
    "commit of another process, read here": "us CPU",
    "commit of another process, not read here": "us CPU",
    "commit of another process, among 2,000/s": "us CPU",
    "idle tenant, memory": "kB",
    "idle tenant, CPU": "us/s",
}


def main() -> None:
    """Measure, print, write results/cost.json."""
    options = _options()
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in options.stores}
    with workspace() as directory:
        for number in range(options.rounds):
            for name in options.stores:
                figures: dict[str, float] = {}
                with store(name) as log:
                    for part in (_events, _deliveries, _others, _many_others, _idle, _tenants):
                        home = directory / f"{name}-{number}-{part.__name__}"
                        home.mkdir()
                        figures |= part(home, log, options.window)
                rounds[name].append(figures)
                print(f"round {number + 1}: {name} {figures}", flush=True)
    middle = {name: median(rounds[name]) for name in options.stores}
    rows: list[dict[str, Any]] = [
        {"what": what, "unit": unit, **{name: middle[name].get(what, 0.0) for name in options.stores}}
        for what, unit in UNITS.items()
    ]
    report.show("What one more takes of the server; medians of the rounds", rows)
    print(report.save("cost", rows=rows, rounds=rounds))


def _events(home: Path, log: Store, window_s: float) -> dict[str, float]:
    found = {}
    with sync_server(home, log) as target:
        time.sleep(SETTLE_S)
        found["idle process"] = target.process.rss_kb / 1024
        paces: dict[str, dict[str, float]] = {
            "single event": {"rate": SINGLE_EVENTS_PER_S},
            "event in a batch": {"rate": BATCHES_PER_S, "batch": BATCH},
        }
        for what, pace in paces.items():
            with publisher(target, window=window_s, **pace) as caller:
                figures, used = measured(caller, target, log)
            found[what] = used["server"] / figures["events"] * 1e6
            if "mongod" in used:
                found[f"{what}, mongod"] = used["mongod"] / figures["events"] * 1e6
    return found


def _deliveries(home: Path, log: Store, window_s: float) -> dict[str, float]:
    per_event_s = {}
    with sync_server(home, log) as target:
        for count in (FEW, MANY):
            with readers(target, count, w=1, d=window_s) as crowd:
                crowd.wait_for("CONNECTED")
                with publisher(target, rate=EVENTS_PER_S):
                    figures, used = measured(crowd, target)
            per_event_s[count] = used["server"] / (figures["deliveries"] / count)
    return {"delivery": (per_event_s[MANY] - per_event_s[FEW]) / (MANY - FEW) * 1e6}


def _others(home: Path, log: Store, window_s: float) -> dict[str, float]:
    if log.uri is None:  # one process only
        return {}
    found = {}
    for what, count in (("not read here", 0), ("read here", 1)):
        here, there = home / f"here-{count}", home / f"there-{count}"
        here.mkdir()
        there.mkdir()
        with sync_server(here, log) as target, sync_server(there, log) as other, readers(target, 1, i=1) as crowd:
            if count:
                crowd.wait_for("CONNECTED")
            else:
                crowd.stop()
            _, share = _rests(target, window_s)
            with publisher(other, window=window_s, rate=SINGLE_EVENTS_PER_S) as caller:
                figures, used = measured(caller, target)
            found[f"commit of another process, {what}"] = (
                (used["server"] - share * figures["window_s"]) / figures["events"] * 1e6
            )
    return found


def _many_others(home: Path, log: Store, window_s: float) -> dict[str, float]:
    if log.uri is None:
        return {}
    with sync_server(home, log) as target, MongoClient[dict[str, Any]](log.uri) as client:
        _, share = _rests(target, window_s)
        heads = client["bench"]["heads"]
        names = [f"many{number}" for number in range(TENANTS)]
        heads.insert_many(
            {"_id": name, "tenant": name, "epoch": "e", "seq": 0, "floor": 0, "time_ms": 0, "groups": 0}
            for name in names
        )
        time.sleep(SETTLE_S)
        before = target.process.usage()
        sent = 0
        while (elapsed_s := time.monotonic() - before.at_s) < window_s:
            if sent < elapsed_s * COMMITS_PER_S:
                changed = [names[(sent + n) % TENANTS] for n in range(COMMITS_AT_ONCE)]
                heads.bulk_write([UpdateOne({"_id": name}, {"$inc": {"seq": 1}}) for name in changed], ordered=False)
                sent += COMMITS_AT_ONCE
            else:
                time.sleep(0.001)
        after = target.process.usage()
        heads.delete_many({"_id": {"$in": names}})
    used_s = after.cpu_s - before.cpu_s - share * (after.at_s - before.at_s)
    return {"commit of another process, among 2,000/s": used_s / sent * 1e6}


def _idle(home: Path, log: Store, window_s: float) -> dict[str, float]:
    with sync_server(home, log) as target:
        alone, alone_share = _rests(target, window_s)
        with readers(target, MANY, i=1) as crowd:
            crowd.wait_for("CONNECTED")
            crowded, share = _rests(target, window_s)
    return {
        "idle reader, memory": (crowded - alone) / MANY,
        "idle reader, CPU": (share - alone_share) / MANY * 1e6,
    }


def _tenants(home: Path, log: Store, window_s: float) -> dict[str, float]:
    taken = {}
    for tenants in (1, TENANTS):
        place = home / str(tenants)
        place.mkdir()
        with ExitStack() as running:
            target = running.enter_context(sync_server(place, log, config=TENANCY))
            for begin in range(0, TENANTS, ARRIVE_AT_ONCE):
                shown = [
                    token(f"reader-{n}", "everybody", tenant=f"t{n % tenants}")
                    for n in range(begin, begin + ARRIVE_AT_ONCE)
                ]
                lines = place / f"readers-{begin}"
                lines.write_text("".join(f" Authorization: Bearer {text}\n" for text in shown))
                crowd = running.enter_context(readers(target, ARRIVE_AT_ONCE, lines=lines, i=1))
                crowd.wait_for("CONNECTED")
            time.sleep(TENANTS_SETTLE_S)
            taken[tenants] = _rests(target, window_s)
    (one_kb, one_share), (all_kb, all_share) = taken[1], taken[TENANTS]
    return {
        "idle tenant, memory": (all_kb - one_kb) / TENANTS,
        "idle tenant, CPU": (all_share - one_share) / TENANTS * 1e6,
    }


def _rests(target: Target, window_s: float) -> tuple[int, float]:
    """Memory in kB and the share of a CPU of a server that is left alone."""
    time.sleep(SETTLE_S)
    before = target.process.usage()
    time.sleep(window_s)
    after = target.process.usage()
    return target.process.rss_kb, (after.cpu_s - before.cpu_s) / (after.at_s - before.at_s)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", nargs="+", choices=["sqlite", "mongodb"], default=["sqlite", "mongodb"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=float, default=8.0, help="seconds measured per figure")
    return parser.parse_args()


if __name__ == "__main__":
    main()
