"""``sync-client watch``: events as they come. Lines of JSON, and outages on standard error, where nobody watches."""

import asyncio
import os
import sys
import time

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sync_client.client import SyncClient
from sync_client.console.check import gave_up
from sync_client.console.screen import err, live, out, status_line, stop_on_signals
from sync_client.errors import ClientError
from sync_client.event import Event
from sync_client.health import Health, Status
from sync_client.states import State

__all__ = ["Outages", "watch"]

REFRESH_S = 0.25
MAX_SHOWN = 50
FRAME_LINES = 6
"""Of the display, beside the events: the table's frame, its head, and the status line."""
SLOW_S = 3.0
"""A first connection that takes longer is worth a word."""


class Outages:
    """Puts a connection's life into words: a line when events stop coming, and one when they come again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._down_since_s: float | None = None
        self._told = False

    def news(self, health: Health, *, now_s: float) -> str:
        """What there is to say since the last call; "" for nothing."""
        if health.status in (Status.HEALTHY, Status.POLLING):
            return self._up(health, now_s)
        if self._down_since_s is None:
            self._down_since_s = now_s
        if self._told:
            return ""
        if not health.attempt and health.status != Status.OFFLINE:  # a planned end, or a beginning
            if now_s - self._down_since_s < SLOW_S:
                return ""
            reason = health.reason or "no answer yet"
        else:
            reason = health.reason or health.last_error
        self._told = True
        when = "trying" if health.next_retry_s is None else f"next try in {health.next_retry_s:.1f} s, then"
        return f"reconnecting to {self._url}: {reason}; {when} until it works"

    def _up(self, health: Health, now_s: float) -> str:
        told, since_s = self._told, self._down_since_s
        self._told, self._down_since_s = False, None
        if not told or since_s is None:
            return ""
        how = f"polling ({health.reason})" if health.is_polling_fallback else "connected again"
        return f"{how} after {now_s - since_s:.1f} s"


async def watch(client: SyncClient, *, count: int | None) -> int:
    """Show events until it is stopped, or has shown *count*, or the reader of the lines is gone. The exit status."""
    shown = _Shown(count)
    stop_on_signals(shown.enough)
    client.on()(shown.add)
    outages = Outages(client.base_url)
    async with client:
        ended = asyncio.create_task(client.wait_for(State.CLOSED, State.FAILED))
        stopping = asyncio.create_task(shown.enough.wait())
        with live() as display:
            while not shown.enough.is_set() and not ended.done():
                if display is not None:
                    display.update(Group(status_line(client.health), shown.table(out.height - FRAME_LINES)))
                elif news := outages.news(client.health, now_s=time.monotonic()):
                    err.print(f"sync-client: {news}", markup=False)
                await asyncio.wait([stopping, ended], timeout=REFRESH_S, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        ended.cancel()
        if reason := gave_up(client):
            err.print(f"sync-client: {reason}", markup=False)
            return 1
    if shown.fault:
        raise ClientError(f"standard output cannot be written: {shown.fault}")
    return 0


class _Shown:
    """The newest events. *enough* is set when there is no more to be shown."""

    def __init__(self, count: int | None) -> None:
        self._left = count
        self._events: list[Event] = []
        self.enough = asyncio.Event()
        self.fault = ""

    def add(self, event: Event) -> None:
        if self.enough.is_set():
            return
        self._events.append(event)
        del self._events[:-MAX_SHOWN]
        if not out.is_terminal:
            self._print(event)
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self.enough.set()

    def _print(self, event: Event) -> None:
        try:
            print(event.envelope_json, flush=True)  # noqa: T201 - for programs: no wrapping, no markup
        except OSError as exc:
            if not isinstance(exc, BrokenPipeError):
                self.fault = str(exc)
            self.enough.set()
            # What could not be written would be tried again at the end of the program.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def table(self, rows: int) -> Table:
        """The last of them."""
        table = Table(expand=True)
        table.add_column("time", no_wrap=True, min_width=len("12:34:56.789"))
        for name in ("event", "about", "what"):
            table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1)
        for event in self._events[-max(rows, 1) :]:
            stage = event.data.get("newStage") or event.data.get("status") or ""
            before = event.data.get("previousStage")
            what = f"{before} → {stage}" if before else str(stage)
            cells = (event.timestamp[11:23], event.event_type, ", ".join(event.entities.values()), what)
            table.add_row(*(Text(cell) for cell in cells))
        return table
