"""The command line: ``sync-client``."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from sync_client.cache import SQLiteCache, cache_files
from sync_client.client import SyncClient
from sync_client.errors import ClientError
from sync_client.event import Event
from sync_client.health import as_rows
from sync_client.options import Options, cache_path, default_cache_dir
from sync_client.persistence import export_document, import_document
from sync_client.probe import examine
from sync_client.records import Batch
from sync_client.states import State
from sync_client.transport import Transport
from sync_core.problems import SyncError

__all__ = ["main"]

DEFAULT_URL = "http://127.0.0.1:8000"
SHOWN_EVENTS = 15

app = typer.Typer(
    help="Watch and look after order-sync on this machine.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False,
)  # fmt: skip
cache_app = typer.Typer(help="What a client keeps on this machine.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

UrlArgument = Annotated[str, typer.Argument(help="Address of the server.")]
NameOption = Annotated[str, typer.Option("--name", help="The client's name, which names its cache.")]
DirOption = Annotated[Path | None, typer.Option("--cache-dir", help="Where caches are.")]
TokenOption = Annotated[
    str | None, typer.Option("--token", envvar="SYNC_CLIENT_TOKEN", help="Access token (or SYNC_CLIENT_TOKEN).")
]


def main() -> None:
    """Entry point of the command ``sync-client``."""
    logging.basicConfig(format="%(message)s", level=os.environ.get("LOG_LEVEL", "ERROR").upper(), stream=sys.stderr)
    try:
        app()
    except SyncError as exc:
        _die(str(exc))
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)


def _die(message: str, status: int = 1) -> NoReturn:
    err.print(f"sync-client: {message}", markup=False)
    sys.exit(status)


def _run(work: Coroutine[Any, Any, int]) -> NoReturn:
    sys.exit(asyncio.run(work))


def _stop_on_signals(stop: asyncio.Event) -> None:
    for name in ("SIGINT", "SIGTERM"):
        # Windows has no handlers in its loop; there KeyboardInterrupt ends the program.
        with contextlib.suppress(NotImplementedError, AttributeError):
            asyncio.get_running_loop().add_signal_handler(getattr(signal, name), stop.set)


# -- watch ----------------------------------------------------------------------------------------------


@app.command()
def watch(
    url: UrlArgument = DEFAULT_URL,
    order: Annotated[str | None, typer.Option(help="Only this order.")] = None,
    types: Annotated[str | None, typer.Option("--types", help="Only these event types (a,b).")] = None,
    start: Annotated[str, typer.Option("--from", help="now, earliest, or a cursor.")] = "now",
    count: Annotated[int | None, typer.Option(help="End after so many events.")] = None,
    token: TokenOption = None,
) -> None:
    """Show events as they come; plain lines where standard output is not a terminal. Keeps nothing."""
    chosen: dict[str, Any] = {}
    if order:
        chosen["orderID"] = order
    if types:
        chosen["eventTypes"] = types.split(",")
    client = SyncClient(url, token=token, client_name="sync-client", filter=chosen, cache=False, start=start)
    _run(_watch(client, count))


async def _watch(client: SyncClient, count: int | None) -> int:
    stop = asyncio.Event()
    _stop_on_signals(stop)
    shown: list[Event] = []
    seen = 0

    @client.on()
    def note(event: Event) -> None:
        nonlocal seen
        if count is not None and seen >= count:
            return
        seen += 1
        shown.append(event)
        del shown[:-SHOWN_EVENTS]
        if not out.is_terminal:
            print(event.envelope_json, flush=True)  # noqa: T201 - machine-readable: no wrapping, no markup
        if count is not None and seen >= count:
            stop.set()

    async with client:
        ended = asyncio.create_task(client.wait_for(State.CLOSED, State.FAILED))
        stopping = asyncio.create_task(stop.wait())
        with _live() as live:
            while not stop.is_set() and not ended.done():
                if live is not None:
                    live.update(Group(_events_table(shown), _status_line(client)))
                await asyncio.wait([stopping, ended], timeout=0.25, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        ended.cancel()
        if client.state in (State.FAILED, State.CLOSED):
            err.print(f"sync-client: {client.state.value}: {client.health.reason}", markup=False)
            return 1
    return 0


@contextlib.contextmanager
def _live() -> Any:
    """A live display, or None where nobody watches."""
    if not out.is_terminal:
        yield None
        return
    with Live(console=out, refresh_per_second=8) as live:
        yield live


def _events_table(events: list[Event]) -> Table:
    table = Table("time", "event", "about", "what", expand=True)
    for event in events:
        about = ", ".join(event.entities.values())
        stage = event.data.get("newStage") or event.data.get("status") or ""
        before = event.data.get("previousStage")
        table.add_row(event.timestamp[11:23], event.event_type, about, f"{before} → {stage}" if before else str(stage))
    return table


_COLOURS = {
    "healthy": "green",
    "polling": "yellow",
    "reconnecting": "yellow",
    "error": "red",
    "offline": "bright_black",
}


def _status_line(client: SyncClient) -> str:
    health = client.health
    colour = _COLOURS[health.status]
    parts = [f"[{colour}]{health.status.upper()}[/]"]
    if health.is_polling_fallback:
        parts[0] += " (polling)"
    if health.next_retry_s is not None:
        parts.append(f"next try in {health.next_retry_s:.0f} s")
    if health.reason and health.status != "healthy":
        parts.append(health.reason.replace("[", "\\["))
    parts.append(f"cursor {health.cursor or '-'}")
    if health.stale_for_s is not None:
        parts.append(f"fresh {health.stale_for_s:.0f} s ago")
    return " · ".join(parts)


# -- status and debug -----------------------------------------------------------------------------------


@app.command()
def status(
    url: UrlArgument = DEFAULT_URL,
    timeout_s: Annotated[float, typer.Option("--timeout", help="How long to try, in seconds.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    token: TokenOption = None,
) -> None:
    """Connect once and tell how it went. Exit status 0 if events come."""
    client = SyncClient(url, token=token, client_name="sync-client-status", cache=False)
    _run(_status(client, timeout_s, as_json=as_json))


async def _status(client: SyncClient, timeout_s: float, *, as_json: bool) -> int:
    async with client:
        with contextlib.suppress(TimeoutError):
            await client.wait_for(State.CONNECTED, State.FAILED, State.CLOSED, State.POLLING, timeout_s=timeout_s)
            for _ in range(100):  # the head comes with the same write, mostly
                if client.state is not State.CONNECTED or client.health.caught_up:
                    break
                await asyncio.sleep(0.02)
        rows = as_rows(client.health)
        good = client.state in (State.CONNECTED, State.POLLING)
    if as_json:
        print(json.dumps(rows))  # noqa: T201
    else:
        out.print(_table("health", rows))
    return 0 if good else 1


def _table(title: str, rows: dict[str, Any]) -> Table:
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        if isinstance(value, float):
            value = round(value, 3)
        elif isinstance(value, tuple):
            value = ", ".join(f"{item:.1f}" for item in value)
        table.add_row(name, "" if value is None else str(value))
    return table


@app.command()
def debug(
    url: UrlArgument = DEFAULT_URL,
    name: NameOption = "sync-client-debug",
    cache_dir: DirOption = None,
    for_s: Annotated[float | None, typer.Option("--for", help="End after so many seconds.")] = None,
    token: TokenOption = None,
) -> None:
    """The debug panel: states with their times, transitions, breaker, cursor, cache, last errors, live."""
    client = SyncClient(url, token=token, client_name=name, cache_dir=cache_dir)
    _run(_debug(client, for_s))


async def _debug(client: SyncClient, for_s: float | None) -> int:
    stop = asyncio.Event()
    _stop_on_signals(stop)
    client.on()(lambda _: None)
    end_s = None if for_s is None else time.monotonic() + for_s
    async with client:
        with _live() as live:
            while not stop.is_set() and (end_s is None or time.monotonic() < end_s):
                if live is not None:
                    live.update(_panel(client))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), 0.25)
        if not out.is_terminal:
            out.print(_panel(client))
    return 0


def _panel(client: SyncClient) -> RenderableType:
    machine = client.machine
    inside = {
        "active": ", ".join(sorted(activity.value for activity in machine.active)),
        "failures in a row": machine.failures,
        "next pause between probes": machine.probe_s,
        "relapses": machine.relapse_count,
    }
    transitions = Table("at", "from", "to", "why", title="transitions", title_justify="left")
    for change in client.transitions[-8:]:
        at = time.strftime("%H:%M:%S", time.localtime(change.at_ms / 1000))
        transitions.add_row(at, change.before.value, change.after.value, change.reason)
    errors = Table("ago", "error", title="last errors", title_justify="left")
    now_s = time.monotonic()
    for at_s, text in client.errors[-5:]:
        errors.add_row(f"{now_s - at_s:.0f} s", text)
    tables = [_table("health", as_rows(client.health)), _table("machine", inside), transitions, errors]
    return Group(*tables, _table("metrics", as_rows(client.metrics)))


# -- probe ----------------------------------------------------------------------------------------------


@app.command()
def probe(
    url: UrlArgument,
    watch_s: Annotated[float, typer.Option("--for", help="How long to watch a stream, in seconds.")] = 40.0,
    token: TokenOption = None,
) -> None:
    """Find out whether Server-Sent Events work on this network, and why not. Exit status 0 if they do."""
    _run(_probe(url, watch_s, token))


async def _probe(url: str, watch_s: float, token: str | None) -> int:
    transport = Transport(url)
    try:
        finding = await examine(transport, watch_s=watch_s, token=token)
    finally:
        await transport.aclose()
    beats = finding.beats_s
    rows = {
        "plain round trip": _seconds(finding.round_trip_s),
        "first byte of a stream": _seconds(finding.first_byte_s),
        "heartbeat announced": _seconds(finding.heartbeat_s),
        "gaps seen": f"{min(beats):.2f} to {max(beats):.2f} s" if beats else "-",
        "cut after": _seconds(finding.cut_after_s),
    }
    out.print(_table(f"Server-Sent Events at {url}", rows))
    out.print(finding.verdict, markup=False)
    return 0 if finding.works else 1


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} s"


# -- cache ----------------------------------------------------------------------------------------------


def _open(url: str, name: str, cache_dir: Path | None) -> SQLiteCache:
    """The cache of that client. It must not be running."""
    path = cache_path(url, Options(client_name=name, cache_dir=cache_dir))
    if not path.exists():
        _die(f"there is no cache of {name!r} for {url} in {cache_dir or default_cache_dir()}")
    return SQLiteCache(path)


@cache_app.command("show")
def cache_show(url: UrlArgument = DEFAULT_URL, name: NameOption = "default", cache_dir: DirOption = None) -> None:
    """What is in it."""
    cache = _open(url, name, cache_dir)
    try:
        saved = cache.load()
        rows = {
            "file": cache.where,
            "size": f"{cache.size_bytes()} bytes",
            "cursor": saved.cursor,
            "waiting for handlers": cache.backlog,
            "parked": cache.parked,
            "resync due": saved.resync or "no",
            "last connection": saved.meta.get("lastConnectionTime"),
        }
        out.print(_table("cache", rows))
        table = Table("id", "event", "mark", "acknowledged", "source")
        for record in cache.events(limit=100):
            acknowledged = "yes" if record.acknowledged else ""
            table.add_row(record.id or "-", record.event_type, record.mark.name.lower(), acknowledged, record.source)
        out.print(table)
    finally:
        cache.close()


@cache_app.command("export")
def cache_export(
    url: UrlArgument = DEFAULT_URL,
    name: NameOption = "default",
    cache_dir: DirOption = None,
    file: Annotated[str, typer.Option("--to", help="Where to; - is standard output.")] = "-",
) -> None:
    """Write it as JSON, in the persistence format of version 1.0.0."""
    cache = _open(url, name, cache_dir)
    try:
        saved = cache.load()
        document = export_document(cache.events(limit=1_000_000), saved.meta, cursor=saved.cursor)
    finally:
        cache.close()
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if file == "-":
        print(text)  # noqa: T201
    else:
        Path(file).write_text(text + "\n", encoding="utf-8")


@cache_app.command("import")
def cache_import(
    file: Annotated[Path, typer.Argument(help="An export.")],
    url: UrlArgument = DEFAULT_URL,
    name: NameOption = "default",
    cache_dir: DirOption = None,
) -> None:
    """Read an export in. A lastEventId that no log of ours can have given counts as none."""
    try:
        imported = import_document(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as exc:
        raise ClientError(f"{file}: {exc}") from exc
    cache = SQLiteCache(cache_path(url, Options(client_name=name, cache_dir=cache_dir)))
    try:
        for record in imported.records:
            cache.insert(record)
        for key, value in imported.meta.items():
            cache.set_meta(key, value)
        if imported.cursor is not None:
            cache.commit(Batch(cursor=imported.cursor))
    finally:
        cache.close()
    err.print(f"{len(imported.records)} events read; goes on at {imported.cursor or 'now'}.")


@cache_app.command("clear")
def cache_clear(
    url: UrlArgument = DEFAULT_URL,
    name: NameOption = "default",
    cache_dir: DirOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove it: events that wait are lost, and the client begins anew."""
    cache = _open(url, name, cache_dir)
    try:
        if cache.backlog and not yes:
            typer.confirm(f"{cache.backlog} events wait for their handlers and would be lost. Remove them?", abort=True)
    finally:
        cache.close()
    for path in cache_files(Path(cache.where)):
        path.unlink(missing_ok=True)
    err.print("removed.")
