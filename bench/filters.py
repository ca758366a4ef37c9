"""What filters and tenants cost: the same deliveries to readers who each want something else, and to one channel.

- *orders*: 10,000 readers each of its own order, 1,000 events/s over these orders: 1,000 deliveries/s, each to another
  reader. *one channel*: the same events to one reader of everything, beside as many readers as before that get nothing.
- *100 tenants*: 10 readers in each of 100 tenants, 2 events/s in each: 2,000 deliveries/s. *one tenant*: the same
  events, readers and deliveries in one.
"""

import argparse
from pathlib import Path
from typing import Any

from bench import report
from bench.audiences import CONFIG, token
from bench.harness import measured, median, publisher, readers, sync_server, workspace

EVENT = (
    '{"eventType":"stage_change","orderID":"%s","data":'
    '{"previousStage":"initiated","newStage":"in_progress","t":TIME,"note":"washed, dried, waiting at the gate"}}'
)
ORDERS = {"rate": 100.0, "batch": 10}
TENANTS = 100
TENANT_READERS = 10
TENANT_EVENTS_PER_S = 2
TENANCY = CONFIG.replace('mode = "required"', 'mode = "required"\ntenants = "any"')
LOADS = {"orders": "one channel", f"{TENANTS} tenants": "one tenant"}
"""A load, and what it is compared with."""


def main() -> None:
    """Measure, print, write results/filters.json."""
    options = _options()
    rounds: dict[str, list[dict[str, float]]] = {}
    with workspace() as directory:
        for number in range(options.rounds):
            for load in [name for pair in LOADS.items() for name in pair]:
                home = directory / f"{load}-{number}".replace(" ", "-")
                home.mkdir()
                run = _tenants if "tenant" in load else _orders
                figures = run(load, home, options.readers, options.window)
                rounds.setdefault(load, []).append(figures)
                print(f"round {number + 1}: {load} {figures['us CPU/delivery']:.0f} us", flush=True)
    rows = [_row(load, other, rounds) for load, other in LOADS.items() for load, other in ((load, other), (other, ""))]
    notes = report.limits(rows)
    report.show("Filters and tenants; medians", rows, notes=notes)
    print(report.save("filters", rows=rows, rounds=rounds, notes=notes))


def _orders(load: str, home: Path, count: int, window_s: float) -> dict[str, float]:
    lines, templates = home / "readers", home / "templates"
    wanted = [f"?orderID=ORDER-{number} " for number in range(count)]
    if load == "one channel":
        wanted = [" ", *(f"?orderID=NONE-{number} " for number in range(count - 1))]
    lines.write_text("\n".join(wanted) + "\n")
    templates.write_text("".join(_template(f"ORDER-{number}") for number in range(count)))
    with sync_server(home) as target, readers(target, count, lines=lines, w=2, d=window_s, t=60) as crowd:
        crowd.wait_for("CONNECTED")
        with publisher(target, templates=templates, **ORDERS):
            figures, used = measured(crowd, target)
    return _figures(figures, used["server"])


def _tenants(load: str, home: Path, _: int, window_s: float) -> dict[str, float]:
    count = TENANTS * TENANT_READERS
    names = [f"t{number % TENANTS}" if load != "one tenant" else "t0" for number in range(count)]
    lines, templates, tokens = home / "readers", home / "templates", home / "tokens"
    shown = [token(f"reader-{number}", "everybody", tenant=name) for number, name in enumerate(names)]
    lines.write_text(
        "".join(f"?orderID=ORDER-{n % TENANTS} Authorization: Bearer {text}\n" for n, text in enumerate(shown))
    )
    # Caller n publishes what the readers of tenant n, or of order n, are sent.
    templates.write_text("".join(_template(f"ORDER-{number}") for number in range(TENANTS)))
    publishers = [token("bench", "integrator", tenant=name) for name in names[:TENANTS]]
    tokens.write_text("\n".join(publishers) + "\n")
    with (
        sync_server(home, config=TENANCY) as target,
        readers(target, count, lines=lines, w=2, d=window_s) as crowd,
    ):
        crowd.wait_for("CONNECTED")
        pace = {"callers": TENANTS, "rate": float(TENANTS * TENANT_EVENTS_PER_S)}
        with publisher(target, templates=templates, tokens=tokens, **pace):
            figures, used = measured(crowd, target)
    return _figures(figures, used["server"])


def _template(order: str) -> str:
    return (EVENT % order).replace("TIME", "%d") + "\n"


def _figures(figures: dict[str, float], cpu_s: float) -> dict[str, float]:
    return {
        "deliveries/s": figures["deliveries"] / figures["window_s"],
        "us CPU/delivery": cpu_s / figures["deliveries"] * 1e6,
        "p50 ms": figures["p50_ms"],
        "p99 ms": figures["p99_ms"],
        "server CPU": cpu_s / figures["window_s"],
        "generator CPU": figures["cpu_share"],
    }


def _row(load: str, other: str, rounds: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    row: dict[str, Any] = {"load": load, **median(rounds[load])}
    pairs = zip(rounds[load], rounds.get(other, ()), strict=False)
    ratios = [{"ratio": a["server CPU"] / b["server CPU"]} for a, b in pairs]
    row["CPU, times the next row's"] = round(median(ratios)["ratio"], 3) if ratios else ""
    return row


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=10_000, help="of orders")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window", type=float, default=4.0, help="seconds measured per run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
