"""Results: a table for people, a JSON file with everything that is needed to judge or repeat them."""

import importlib.metadata
import json
import os
import platform
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
GENERATOR_LIMIT = 0.93
"""A generator that used more than this share of its CPU was the limit, not the server."""


def show(title: str, rows: Sequence[Mapping[str, Any]], *, notes: Sequence[str] = ()) -> None:
    """Print *rows* as a table; the columns are the first row's keys."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    for note in notes:
        console.print(f"  {note}", highlight=False)


def save(name: str, *, rows: Sequence[Mapping[str, Any]], rounds: Any, notes: Sequence[str] = ()) -> Path:
    """Write results/*name*.json: the table, every round behind it, and where and how it was measured."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {
        "bench": name,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", f"bench.{name}", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "table": list(rows),
        "notes": list(notes),
        "rounds": rounds,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def limits(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A note for each row whose generator, not its server, was the limit."""
    return [
        f"{' '.join(str(v) for v in list(row.values())[:3])}: the generator was the limit ({row['generator CPU']:.2f})"
        for row in rows
        if row.get("generator CPU", 0) >= GENERATOR_LIMIT
    ]


def machine() -> dict[str, Any]:
    """What was measured on, and how busy it was besides."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    """Of everything that has a part in the figures."""
    # Which Python matters as much as its version: one that was built without profile-guided optimisation is slower.
    python = f"{platform.python_version()} ({Path(sys.executable).resolve()})"
    found = {"python": python, "sqlite": sqlite3.sqlite_version}
    for package in ("order-sync", "uvicorn", "uvloop", "httptools", "starlette", "pydantic", "pymongo"):
        found[package] = importlib.metadata.version(package)
    found["nginx"] = _first_line(["nginx", "-v"])
    found["commit"] = _first_line(["git", "rev-parse", "--short", "HEAD"])
    return found


def _first_line(command: list[str]) -> str:
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    except OSError:
        return "none"
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e6:
        value = int(value)
    if isinstance(value, float):
        if abs(value) >= 1000:
            return f"{value:,.0f}"
        return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
