"""The debug panel: all there is to know about a connection, the most important first, cut to fit the screen."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sync_client.client import StateChange
from sync_client.console.screen import grid, health_rows, status_line
from sync_client.health import Health, Metrics
from sync_client.states import Machine

__all__ = ["Facts", "panel"]

MAX_TRANSITIONS = 8
MAX_ERRORS = 5
LEAST_ROWS = 2
"""Of transitions, and of errors, before anything else is shown beside them."""
COLUMN_WIDTH = 40


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to show. *errors*: how many seconds ago, and what. *cache*: a title and what is below it."""

    health: Health
    metrics: Metrics
    machine: Machine
    transitions: Sequence[StateChange]
    errors: Sequence[tuple[float, str]]
    cache: tuple[str, Mapping[str, str]]


def panel(facts: Facts, *, width: int, height: int | None) -> RenderableType:
    """*height* lines at most; None: everything, one fact a line (for a file or a pipe)."""
    columns = 1 if height is None else max(min(width // COLUMN_WIDTH, 4), 1)
    head: list[RenderableType] = [status_line(facts.health), grid(health_rows(facts.health), columns=columns)]
    lines = 1 + _lines(len(health_rows(facts.health)), columns)
    transitions, errors = len(facts.transitions[-MAX_TRANSITIONS:]), len(facts.errors[-MAX_ERRORS:])
    rows = min(transitions, LEAST_ROWS) + min(errors, LEAST_ROWS)
    tail: list[RenderableType] = []
    free = None if height is None else height - lines - rows - 2
    for title, pairs in (facts.cache, ("machine", _machine(facts)), ("metrics", _metrics(facts.metrics))):
        if free is not None:
            needed = 1 + _lines(len(pairs), columns)
            if needed > free:
                continue
            free -= needed
        tail += [_title(title), grid(pairs, columns=columns)]
    if free is not None:
        errors = max(min(errors, LEAST_ROWS + free), 0)
        free -= max(errors - LEAST_ROWS, 0)
        transitions = max(min(transitions, LEAST_ROWS + free), 0)
    head += [_errors(facts.errors, errors), _transitions(facts.transitions, transitions)]
    return Group(*head, *tail)


def _lines(pairs: int, columns: int) -> int:
    return -(-pairs // columns)


def _title(text: str) -> Text:
    return Text(text, style="bold", no_wrap=True, overflow="ellipsis")


def _list(title: str, rows: Sequence[Sequence[str]]) -> RenderableType:
    """A title and a line for each row, its last cell cut at the edge."""
    if not rows:
        return _title(f"{title}: none")
    shown = Table(box=None, show_header=False, pad_edge=False)
    *fixed, _last = zip(*rows, strict=True)
    for cells in fixed:
        shown.add_column(no_wrap=True, min_width=max(map(len, cells)))
    shown.add_column(no_wrap=True, overflow="ellipsis")
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    return Group(_title(title), shown)


def _transitions(changes: Sequence[StateChange], count: int) -> RenderableType:
    rows = []
    for change in changes[len(changes) - count :]:
        at = time.strftime("%H:%M:%S", time.localtime(change.at_ms / 1000))
        rows.append((at, f"{change.before.value} → {change.after.value}", change.reason))
    return _list("transitions", rows)


def _errors(errors: Sequence[tuple[float, str]], count: int) -> RenderableType:
    return _list("last errors", [(f"{ago_s:.0f} s ago", text) for ago_s, text in errors[len(errors) - count :]])


def _machine(facts: Facts) -> dict[str, str]:
    machine = facts.machine
    return {
        "active": ", ".join(sorted(activity.value for activity in machine.active)) or "-",
        "failures": str(machine.failures),
        "probe pause": f"{machine.probe_s:.0f} s",
        "relapses": str(machine.relapse_count),
    }


def _metrics(metrics: Metrics) -> dict[str, str]:
    return {
        "connected": f"{metrics.uptime_share:.1%} of the time",
        "connections": str(metrics.total_connections),
        "events": f"{metrics.total_events} ({metrics.events_per_s:.1f}/s)",
        "attempts": f"{metrics.attempts} ({metrics.error_rate:.0%} failed)",
        "fallbacks": str(metrics.fallbacks),
        "polls": str(metrics.polls),
        "recoveries": ", ".join(f"{recovery_s:.1f} s" for recovery_s in metrics.recoveries_s) or "-",
        "duplicates dropped": str(metrics.duplicates_suppressed),
        "malformed": str(metrics.malformed),
        "resets": str(metrics.resets),
    }
