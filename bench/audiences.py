"""What audiences cost: the same deliveries to readers of 50 audiences, and without audiences; and to an open server.

Two loads, each at the same rate on all sides, one side after the other in each round:
- *all*: every event is for every reader. With audiences they have a role of 50 beside one that all have and that the
  event names: 50 kinds of rights, so 50 channels, where there is one without.
- *own*: every event is for a fiftieth of the readers: those of the role that it names, or without audiences those who
  filter by the order that it tells of.

*open* is without access control: nobody shows a token, nor does the publisher, whose token is verified at each request.
"""

import argparse
import json
from pathlib import Path
from time import time
from typing import Any

import jwt

from bench import report
from bench.harness import measured, median, publisher, readers, sync_server, workspace

AUDIENCES = 50
SIDES = ("open", "without", "with")
PACES: dict[str, dict[str, float]] = {"all": {"rate": 50.0}, "own": {"rate": 50.0, "batch": 10}}
"""Requests a second, and events a request."""
SECRET = "of-the-bench-0123456789abcdefghijklmnop"
VIEW = ["view_orders", "view_events"]
CONFIG = f"""
[access]
mode = "required"
secret = "{SECRET}"
[[access.jwt]]
secret = "{SECRET}"
[access.roles.everybody]
permissions = {VIEW}
{"".join(f"[access.roles.r{n}]{chr(10)}permissions = {VIEW}{chr(10)}" for n in range(AUDIENCES))}
[limits]
connects = "100000/second"
publishes = "100000/second"
bytes_per_minute = 1000000000
streams_per_address = 20000
"""


def main() -> None:
    """Measure, print, write results/audiences.json."""
    options = _options()
    rounds: dict[str, list[dict[str, float]]] = {}
    with workspace() as directory:
        for number in range(options.rounds):
            for load in PACES:
                for side in SIDES:
                    home = directory / f"{load}-{side}-{number}"
                    home.mkdir()
                    figures = _run(load, side, options.readers, home, options.window)
                    rounds.setdefault(f"{load} {side}", []).append(figures)
                    print(f"round {number + 1}: {load} {side} {figures['us CPU/delivery']:.2f} us", flush=True)
    rows = [_row(load, side, options.readers, rounds) for load in PACES for side in SIDES]
    notes = report.limits(rows)
    report.show(f"Fan-out with and without {AUDIENCES} audiences; medians", rows, notes=notes)
    print(report.save("audiences", rows=rows, rounds=rounds, notes=notes))


def _run(load: str, side: str, count: int, home: Path, window_s: float) -> dict[str, float]:
    lines, templates = home / "readers", home / "templates"
    lines.write_text("".join(f"{_line(load, side, number)}\n" for number in range(count)))
    templates.write_text("".join(f"{_template(load, side, number)}\n" for number in range(AUDIENCES)))
    config, pace = "" if side == "open" else CONFIG, PACES[load]
    with (
        sync_server(home, config=config) as target,
        readers(target, count, lines=lines, w=1, d=window_s) as crowd,
    ):
        connected = crowd.wait_for_json("CONNECTED")
        with publisher(target, templates=templates, token=token("bench", "integrator"), **pace):
            figures, used = measured(crowd, target)
    deliveries, cpu_s = figures["deliveries"], used["server"]
    return {
        "deliveries/s": deliveries / figures["window_s"],
        "deliveries/CPU s": deliveries / cpu_s,
        "us CPU/delivery": cpu_s / deliveries * 1e6,
        "p50 ms": figures["p50_ms"],
        "server CPU": cpu_s / figures["window_s"],
        "generator CPU": figures["cpu_share"],
        "events/write": deliveries / figures["reads"],
        "bytes/delivery": figures["bytes"] / deliveries,
        "closed": figures["closed"] + connected["failed"],
    }


def _line(load: str, side: str, number: int) -> str:
    """What the request of a reader adds, for loadgen."""
    group = number % AUDIENCES
    query = f"?orderID=ORDER-{group}" if load == "own" and side != "with" else ""
    roles = ("everybody", f"r{group}") if side == "with" else ("everybody",)
    return f"{query} " if side == "open" else f"{query} Authorization: Bearer {token(f'reader-{number}', *roles)}"


def _template(load: str, side: str, group: int) -> str:
    """One event for all, or for that *group*."""
    event: dict[str, Any] = {
        "eventType": "stage_change",
        "orderID": f"ORDER-{group}",
        "data": {"previousStage": "initiated", "newStage": "in_progress", "t": "TIME", "note": "waiting at the gate"},
    }
    if side == "with":
        event["audience"] = ["role:everybody" if load == "all" else f"role:r{group}"]
    return json.dumps(event, separators=(",", ":")).replace('"TIME"', "%d")


def token(subject: str, *roles: str, tenant: str = "default") -> str:
    """For an hour."""
    claims = {"sub": subject, "tenant": tenant, "roles": roles, "exp": int(time()) + 3600}
    return jwt.encode(claims, SECRET, algorithm="HS256")


def _row(load: str, side: str, count: int, rounds: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    row: dict[str, Any] = {"load": load, "audiences": side, "readers": count, **median(rounds[f"{load} {side}"])}
    for name, other in (("with/without per CPU s", "without"), ("of open per CPU s", "open")):
        is_compared = SIDES.index(side) > SIDES.index(other)
        row[name] = round(_ratio(rounds[f"{load} {side}"], rounds[f"{load} {other}"]), 3) if is_compared else ""
    row["closed"] = int(row["closed"])
    return row


def _ratio(rounds: list[dict[str, float]], others: list[dict[str, float]]) -> float:
    """Of each round its own: what disturbs the machine disturbs all sides of a round."""
    pairs = zip(rounds, others, strict=True)
    return median([{"ratio": a["deliveries/CPU s"] / b["deliveries/CPU s"]} for a, b in pairs])["ratio"]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=float, default=4.0, help="seconds measured per run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
