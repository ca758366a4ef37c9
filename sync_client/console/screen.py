"""What the commands show things with: consoles, tables, the status line, a display that renews itself."""

import asyncio
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sync_client.health import Health, Status

__all__ = ["err", "grid", "health_rows", "live", "out", "status_line", "stop_on_signals", "table"]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

_COLOURS = {
    Status.HEALTHY: "green",
    Status.POLLING: "yellow",
    Status.RECONNECTING: "yellow",
    Status.ERROR: "red",
    Status.OFFLINE: "bright_black",
}


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set *stop* on Ctrl-C and SIGTERM."""
    for name in ("SIGINT", "SIGTERM"):
        # Windows has no handlers in its loop; there KeyboardInterrupt ends the program.
        with suppress(NotImplementedError, AttributeError):
            asyncio.get_running_loop().add_signal_handler(getattr(signal, name), stop.set)


@contextmanager
def live() -> Iterator[Live | None]:
    """A display to be updated, or None where nobody watches."""
    if not out.is_terminal:
        yield None
        return
    # What does not fit is cut at its end: the most important is at the top.
    with Live(console=out, refresh_per_second=8, vertical_overflow="crop") as display:
        yield display


def status_line(health: Health) -> Text:
    """The connection in one line."""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(health.status.upper(), style=f"bold {_COLOURS[health.status]}")
    parts = []
    if health.next_retry_s is not None:
        parts.append(f"next try in {health.next_retry_s:.0f} s")
    if health.reason and health.status != Status.HEALTHY:
        parts.append(health.reason)
    if health.stale_for_s is not None:
        parts.append(f"data {health.stale_for_s:.0f} s old")
    parts.append(f"cursor {health.cursor or '-'}")
    return text.append("".join(f" · {part}" for part in parts))


def health_rows(health: Health) -> dict[str, str]:
    """What the status line does not say, in words."""
    commands = {}
    if health.commands_waiting or health.commands_failed:
        held_by = f" ({health.commands_held_by})" if health.commands_held_by else ""
        commands = {
            "commands waiting": f"{health.commands_waiting}{held_by}",
            "commands failed": str(health.commands_failed),
        }
    return {
        "state": health.state,
        "for": f"{health.for_s:.0f} s",
        "transport": health.transport or "-",
        "caught up": _yes(health.caught_up),
        "breaker": health.breaker,
        "failed attempts": str(health.attempt),
        "next try": _seconds(health.next_retry_s, "in {} s"),
        "cursor": health.cursor or "-",
        "data": _seconds(health.stale_for_s, "{} s old"),
        "last byte": _seconds(health.last_byte_s, "{} s ago"),
        "events waiting": str(health.queue_depth),
        "held back": _yes(health.held),
        "resync due": health.resync or "no",
        **commands,
    }


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _seconds(value: float | None, words: str) -> str:
    return "-" if value is None else words.format(f"{value:.1f}")


def table(title: str, rows: Mapping[str, Any]) -> Table:
    """Names and values, one pair a line. What is in it is text, never markup."""
    shown = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        shown.add_row(name, Text(str(value)))
    return shown


def grid(rows: Mapping[str, str], *, columns: int) -> Table:
    """Names and values, *columns* pairs beside each other, read downwards; nothing is ever wrapped."""
    shown = Table(box=None, show_header=False, pad_edge=False, expand=columns > 1)
    for _ in range(columns):
        shown.add_column(style="bright_black", no_wrap=True, overflow="ellipsis")
        shown.add_column(no_wrap=True, overflow="ellipsis", ratio=1 if columns > 1 else None)
    pairs = list(rows.items())
    height = -(-len(pairs) // columns)
    for number in range(height):
        cells: list[Text] = []
        for name, value in pairs[number::height]:
            cells += (Text(name), Text(value))
        shown.add_row(*cells)
    return shown
