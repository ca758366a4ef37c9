"""``sync-client board``: the shop's bays and queues, live, from a replica. Lines where nobody watches."""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sync_client.client import SyncClient
from sync_client.collections import Collection
from sync_client.console.check import gave_up
from sync_client.console.screen import err, live, out, status_line, stop_on_signals
from sync_client.console.watch import Outages
from sync_client.errors import ClientError
from sync_client.health import Health
from sync_client.states import State
from sync_core.domain.bays import Bay, BayStatus
from sync_core.domain.orders import Order
from sync_core.domain.queues import Queue

__all__ = ["Floor", "Jobs", "bay_line", "board", "picture", "queue_line"]

REFRESH_S = 0.25
BAR_WIDTH = 20
MAX_NAMED = 12
"""Who waits is named up to here in a line."""
_COLOURS = {
    BayStatus.AVAILABLE: "green",
    BayStatus.OCCUPIED: "cyan",
    BayStatus.CLEANING: "yellow",
    BayStatus.OUT_OF_SERVICE: "red",
}


@dataclass(frozen=True, slots=True)
class Floor:
    """What there is to show. *left_s*: how many seconds a bay's job still takes, by the bay's id."""

    health: Health
    fresh: bool
    bays: Sequence[Bay]
    queues: Sequence[Queue]
    stages: Counter[str]
    left_s: dict[str, float]


@dataclass(slots=True)
class Jobs:
    """How long jobs still take: what they are expected to take, less what is done, less the time since that was told.

    By this machine's monotonic clock, since its other one may not be the server's.
    """

    _told: dict[str, tuple[str, int, float]] = field(default_factory=dict)
    """Of each bay: its job, how far that was, and when this was first seen."""

    def left_s(self, bay: Bay, *, now_s: float) -> float | None:
        """Of the job in *bay*; None where there is none."""
        job = bay.job
        if job is None:
            self._told.pop(bay.bayID, None)
            return None
        told = self._told.get(bay.bayID)
        if told is None or told[:2] != (job.jobID, job.progress):
            told = self._told[bay.bayID] = (job.jobID, job.progress, now_s)
        return max(job.expectedSeconds * (100 - job.progress) / 100 - (now_s - told[2]), 0.0)


async def board(client: SyncClient, *, for_s: float | None = None) -> int:
    """Show the shop until it is stopped, or for *for_s*, or the server sends us away. The exit status."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with client:
        works = [client.wait_for(State.CLOSED, State.FAILED), stop.wait(), _show(client)]
        tasks = [asyncio.ensure_future(work) for work in works]
        done, _ = await asyncio.wait(tasks, timeout=for_s, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in done:
            task.result()
        if reason := gave_up(client):
            err.print(f"sync-client: {reason}", markup=False)
            return 1
    return 0


async def _show(client: SyncClient) -> None:
    with live() as display:
        if display is None:
            await _print_changes(client)
            return
        jobs = Jobs()
        while True:
            display.update(picture(_floor(client, jobs), width=out.width, height=out.height - 1))
            await asyncio.sleep(REFRESH_S)


def _floor(client: SyncClient, jobs: Jobs) -> Floor:
    bays = [entry.document for entry in client.bays]
    now_s = time.monotonic()
    left_s = {bay.bayID: left for bay in bays if (left := jobs.left_s(bay, now_s=now_s)) is not None}
    queues = [entry.document for entry in client.queues]
    stages = Counter(entry.document.stage.value for entry in client.orders)
    return Floor(client.health, client.orders.fresh, bays, queues, stages, left_s)


# -- on a screen ------------------------------------------------------------------------------------------


def picture(floor: Floor, *, width: int, height: int) -> RenderableType:
    """*height* lines at most; bays come first, but never alone."""
    free = height - 4
    bays = floor.bays[: max(free - min(len(floor.queues), 2), 1)]
    queues = floor.queues[: max(free - len(bays), 1)]
    hidden = {"bays": len(floor.bays) - len(bays), "queues": len(floor.queues) - len(queues)}
    return Group(_head(floor), _counts(floor, hidden), _bays(bays, floor, width=width), _queues(queues))


def _head(floor: Floor) -> Text:
    head = status_line(floor.health)
    return head if floor.fresh else head.append(" · loading", style="yellow")


def _counts(floor: Floor, hidden: Mapping[str, int]) -> Text:
    counts = Text(no_wrap=True, overflow="ellipsis")
    if more := ", ".join(f"{count} {name}" for name, count in hidden.items() if count):
        counts.append(f"not shown: {more} · ", style="yellow")
    stages = [f"{count} {stage.replace('_', ' ')}" for stage, count in sorted(floor.stages.items())]
    return counts.append("orders: ", style="bold").append(" · ".join(stages) or "none")


def _bays(bays: Sequence[Bay], floor: Floor, *, width: int) -> Table:
    table = _table({"bays": 2, "status": 2, "order": 3, "job": 2})
    bar_width = BAR_WIDTH if width >= 80 else BAR_WIDTH // 4
    table.add_column("done", no_wrap=True, width=bar_width)
    table.add_column("left", no_wrap=True, justify="right", min_width=len("59:59"))
    for bay in bays:
        status = Text(bay.status.value.replace("_", " "), style=_COLOURS[bay.status])
        job = bay.job
        if job is None:
            table.add_row(Text(bay.name), status)
            continue
        bar = ProgressBar(total=100, completed=job.progress, width=bar_width)
        left = _clock(floor.left_s.get(bay.bayID, 0.0))
        table.add_row(Text(bay.name), status, Text(job.orderID), Text(job.service), bar, left)
    return table


def _queues(queues: Sequence[Queue]) -> Table:
    table = _table({"queues": 2})
    table.add_column("waiting", no_wrap=True, justify="right", min_width=len("waiting"))
    table.add_column("who", no_wrap=True, overflow="ellipsis", ratio=8)
    for queue in queues:
        name = Text(queue.name)
        if queue.paused:
            name.append(" (paused)", style="yellow")
        table.add_row(name, str(len(queue.entries)), Text(_waiting(queue)))
    return table


def _table(columns: Mapping[str, int]) -> Table:
    """One without a frame; *columns* with their shares of the width."""
    table = Table(box=None, expand=True, pad_edge=False, header_style="bold")
    for name, ratio in columns.items():
        table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=ratio)
    return table


def _waiting(queue: Queue) -> str:
    named = [f"{entry.ticket} {entry.orderID}" for entry in queue.entries[:MAX_NAMED]]
    return ", ".join(named) + (" …" if len(queue.entries) > MAX_NAMED else "")


def _clock(left_s: float) -> str:
    minutes, seconds = divmod(round(left_s), 60)
    return f"{minutes}:{seconds:02}"


# -- in lines ---------------------------------------------------------------------------------------------


def bay_line(bay: Bay) -> str:
    """A bay in words."""
    job = bay.job
    what = f": order {job.orderID}, {job.service}, {job.progress} %" if job is not None else ""
    return f"bay {bay.name} {bay.status.value.replace('_', ' ')}{what}"


def queue_line(queue: Queue) -> str:
    """A queue in words."""
    paused = " (paused)" if queue.paused else ""
    return f"queue {queue.name}{paused}: {len(queue.entries)} waiting" + (
        f": {_waiting(queue)}" if queue.entries else ""
    )


def order_line(order: Order) -> str:
    """An order in words."""
    return f"order {order.orderID} {order.stage.value.replace('_', ' ')}"


async def _print_changes(client: SyncClient) -> None:
    """A line for each document, and again for each that reads differently from then on, while somebody reads."""
    works = [
        _print_each(client.bays, bay_line),
        _print_each(client.queues, queue_line),
        _print_each(client.orders, order_line),
        _tell_outages(client),
    ]
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    for task in done:
        task.result()


async def _print_each(collection: Collection[Any], line_of: Callable[[Any], str]) -> None:
    shown: dict[str, str] = {}
    async for now in collection.watch():
        lines = {entry.document.id: line_of(entry.document) for entry in now}
        changed = [line for document_id, line in lines.items() if shown.get(document_id) != line]
        gone = [f"{shown[document_id].partition(':')[0]}: gone" for document_id in shown.keys() - lines.keys()]
        shown = lines
        if not _printed(changed + sorted(gone)):
            return


async def _tell_outages(client: SyncClient) -> None:
    outages = Outages(client.base_url)
    while True:
        if news := outages.news(client.health, now_s=time.monotonic()):
            err.print(f"sync-client: {news}", markup=False)
        await asyncio.sleep(REFRESH_S)


def _printed(lines: Sequence[str]) -> bool:
    """Whether anybody reads. Raises ClientError where they cannot be written."""
    try:
        for line in lines:
            print(line)  # noqa: T201 - no wrapping, no markup
        sys.stdout.flush()
    except OSError as exc:
        # What could not be written would be tried again at the end of the program.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(exc, BrokenPipeError):
            return False
        raise ClientError(f"standard output cannot be written: {exc}") from exc
    return True
