"""The command line: ``sync-server``."""

import asyncio
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import httpx2
import structlog
import typer
from rich.console import Console

from sync_core.problems import Problem, SyncError
from sync_core.sse import SSEDecoder
from sync_core.times import iso_from_ms
from sync_server import demo as demo_module
from sync_server.api.publish import MAX_EVENTS
from sync_server.feed.request import ANONYMOUS, DEFAULT_TENANT
from sync_server.log.base import EventLog, LogError, LogMisconfigured, LogUnavailable
from sync_server.log.open import new_epoch, open_log
from sync_server.serve import EXIT_CONFIG, bind, run_worker, serve, worker_socket
from sync_server.settings import DEFAULT_FILE, ConfigError, Settings, load_settings

__all__ = ["main"]

EXIT_FAILED = 1

app = typer.Typer(
    help="Real-time order sync: a durable event log, streamed.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False,
)  # fmt: skip
log_app = typer.Typer(help="Look after the event log.", no_args_is_help=True)
app.add_typer(log_app, name="log")
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="Configuration file (default: sync.toml).")]
TenantOption = Annotated[str, typer.Option("--tenant", help="Whose log.")]


def main() -> None:
    """Entry point of the command ``sync-server``."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=False)
            if sys.stderr.isatty()
            else structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelName(os.environ.get("LOG_LEVEL", "INFO").upper())
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        app()
    except ConfigError as exc:
        _die(str(exc), EXIT_CONFIG)
    except LogMisconfigured as exc:
        _die(str(exc), EXIT_CONFIG)
    except Problem as exc:
        _die("\n  - ".join([exc.detail, *(f"{e.path}: {e.message}" for e in exc.errors)]))
    except SyncError as exc:
        _die(str(exc))
    except httpx2.TransportError as exc:
        _die(f"the server does not answer: {exc}")
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)


def _die(message: str, status: int = EXIT_FAILED) -> NoReturn:
    err.print(f"sync-server: {message}", markup=False)
    sys.exit(status)


@app.command("serve")
def serve_command(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Number of processes (MongoDB only).")] = None,
    allow_open_network: Annotated[
        bool, typer.Option("--allow-open-network", help="Listen beyond this machine without access control.")
    ] = False,
) -> None:
    """Serve the feed until Ctrl-C or SIGTERM."""
    given = {"host": host, "port": port, "workers": workers, "allow_open_network": allow_open_network or None}
    settings = load_settings(config, server={k: v for k, v in given.items() if v is not None})
    try:
        sock = bind(settings.server.host, settings.server.port)
    except OSError as exc:
        _die(f"cannot listen on {settings.server.host}:{settings.server.port}: {exc.strerror}", EXIT_CONFIG)
    sys.exit(serve(settings, sock))


@app.command("worker", hidden=True)
def worker_command(fd: Annotated[int, typer.Option()]) -> None:
    """One process of `serve --workers N`; the supervisor starts it with its settings on standard input."""
    line = sys.stdin.buffer.readline()
    settings = Settings.model_validate_json(line)
    sys.exit(run_worker(settings, worker_socket(fd), parent_fd=sys.stdin.fileno()))


@app.command()
def init(
    config: Annotated[Path, typer.Option("--config", "-c", help="Where to write it.")] = DEFAULT_FILE,
) -> None:
    """Write a commented configuration and prepare the log it names."""
    if config.exists():
        out.print(f"{config} is there already and was left as it is.", markup=False)
    else:
        example = Path(__file__).parent / "config.example.toml"
        shutil.copyfile(example, config)
        out.print(f"Wrote {config}; every key in it has its default.", markup=False)
    settings = load_settings(config)

    async def prepare(event_log: EventLog) -> None:
        bounds = await event_log.ensure(DEFAULT_TENANT)
        out.print(f"The log is ready: epoch {bounds.epoch}, {bounds.head} events.")
        limit = getattr(event_log, "limit_transaction_lifetime", None)
        if limit is not None and (why := await limit()):
            out.print(f"transactionLifetimeLimitSeconds could not be set to 3 s: {why}", markup=False)

    _with_log(settings, prepare, exclusive=True)


@app.command()
def publish(
    file: Annotated[str, typer.Argument(help="JSON or JSON lines; - is standard input.")],
    config: ConfigOption = None,
) -> None:
    """Publish events from a file: one event, a batch, a list, or one event a line."""
    try:
        body = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as exc:
        _die(f"{file}: {exc.strerror}")
    batches = _batches(body, file)
    settings = load_settings(config)

    async def work() -> int:
        count = 0
        async with _publisher(settings) as send:
            for batch in batches:
                for event in await send(json.dumps({"events": batch}).encode()):
                    count += 1
                    out.print(f"{event['id']} {event['eventType']}", markup=False)
        return count

    count = asyncio.run(work())
    err.print(f"{count} events published.")


def _batches(body: bytes, name: str) -> list[list[Any]]:
    """The events in *body*, in batches that a request may carry."""
    try:
        document = json.loads(body)
        events = document if isinstance(document, list) else document.get("events", [document])
    except (ValueError, AttributeError):
        events = []
        for number, line in enumerate(body.splitlines(), 1):
            if line.strip():
                try:
                    events.append(json.loads(line))
                except ValueError as exc:
                    _die(f"{name}, line {number}: not JSON: {exc}")
    if not events:
        _die(f"{name}: there is no event in it")
    return [events[i : i + MAX_EVENTS] for i in range(0, len(events), MAX_EVENTS)]


@asynccontextmanager
async def _publisher(
    settings: Settings,
) -> AsyncIterator[Callable[[bytes], Coroutine[Any, Any, list[dict[str, Any]]]]]:
    """How to publish: through a running server, or into the log itself where nobody serves it."""
    async with _http(settings) as client:
        if await _is_served(client):

            async def over_http(body: bytes) -> list[dict[str, Any]]:
                reply = await client.post(
                    "/api/v1/sync/events", content=body, headers={"Content-Type": "application/json"}
                )
                return list(_checked(reply)["events"])

            yield over_http
            return
    from sync_server.app import open_application

    async with open_application(settings) as application:

        async def directly(body: bytes) -> list[dict[str, Any]]:
            receipts = await application.publish.submit(DEFAULT_TENANT, ANONYMOUS, body, client_id=None)
            return [{"id": r.event_id, "eventType": r.event_type} for r in receipts]

        yield directly


@app.command()
def tail(
    config: ConfigOption = None,
    after: Annotated[str, typer.Option(help="A cursor, `earliest` or `now`.")] = "now",
    types: Annotated[str | None, typer.Option("--types", help="Only these event types (a,b).")] = None,
    url: Annotated[str | None, typer.Option(help="Of the server (default: from the configuration).")] = None,
) -> None:
    """Print the feed of a running server, one envelope a line, until Ctrl-C."""
    settings = load_settings(config)
    asyncio.run(_tail(settings, after, types, url))


async def _tail(settings: Settings, after: str, types: str | None, url: str | None) -> None:
    decoder = SSEDecoder(last_event_id=after)
    parameters = {"eventTypes": types} if types else {}
    while True:
        async with _http(settings, url) as client:
            headers = {"Last-Event-ID": decoder.last_event_id}
            request = client.stream("GET", "/api/v1/sync/events", params=parameters, headers=headers)
            try:
                async with request as reply:
                    if reply.status_code != 200:
                        await reply.aread()
                        _checked(reply)
                    decoder.start_stream()
                    async for data in reply.aiter_raw():
                        for event in decoder.feed(data):
                            _print_event(event.event, event.data)
            except httpx2.TransportError as exc:
                err.print(f"disconnected ({exc or 'closed'}), reconnecting", markup=False)
        await asyncio.sleep((decoder.retry_ms or 1000) / 1000)


def _print_event(event_type: str, data: str) -> None:
    if event_type in ("connected", "caught_up", "heartbeat"):
        return
    if event_type in ("reset", "goodbye"):
        err.print(f"{event_type} {data}", markup=False)
    else:
        print(data, flush=True)  # noqa: T201 - machine-readable: no wrapping, no markup


@app.command()
def doctor(config: ConfigOption = None) -> None:
    """Check configuration, log and clock, and say what to do."""
    settings = load_settings(config)
    failed = False

    def report(ok: bool, what: str) -> None:
        nonlocal failed
        failed = failed or not ok
        out.print(f"{'[green]ok[/]  ' if ok else '[red]FAIL[/]'} ", end="")
        out.print(what, markup=False)

    report(True, f"configuration: store {settings.log.store}, {settings.server.host}:{settings.server.port}")
    asyncio.run(_examine(settings, report))
    sys.exit(EXIT_FAILED if failed else 0)


async def _examine(settings: Settings, report: Callable[[bool, str], None]) -> None:
    async with _http(settings) as client:
        served = await _is_served(client)
        if served:
            ready = await client.get("/readyz")
            report(ready.status_code == 200, f"server: answers, {ready.json()['status']}")
        else:
            report(True, "server: not running here (start it with `sync-server serve`)")
    event_log = open_log(settings.log, exclusive=not served)
    try:
        started = time.monotonic()
        await event_log.open()
        for name, value in (await event_log.describe()).items():
            bad_limit = name == "transaction lifetime limit" and value != "3 s"
            hint = " (higher than 3 s: a killed server may block a tenant; `sync-server init` sets it)"
            report(True, f"log: {name}: {value}{hint if bad_limit else ''}")
        report(True, f"log: answers in {(time.monotonic() - started) * 1000:.0f} ms")
        await _examine_clock(event_log, report)
    except LogError as exc:
        report(False, f"log: {exc}")
    finally:
        await event_log.aclose()


async def _examine_clock(event_log: EventLog, report: Callable[[bool, str], None]) -> None:
    """The log's times never go back, so a clock that was once in the future shows in the newest event."""
    now_ms = time.time_ns() // 1_000_000
    for tenant in await event_log.tenants():
        bounds = await event_log.ensure(tenant)
        newest = await event_log.read(tenant, after=max(bounds.head - 1, bounds.floor), limit=1)
        ahead_s = (newest[0].time_ms - now_ms) / 1000 if newest else 0
        report(
            ahead_s < 1,
            f"clock: {iso_from_ms(now_ms)}"
            + (f"; the newest event of tenant {tenant} is {ahead_s:.0f} s in the future: set the clock"
               if ahead_s >= 1 else f", not behind the log of tenant {tenant}"),
        )  # fmt: skip


@log_app.command("info")
def log_info(config: ConfigOption = None) -> None:
    """Where the log is, and each tenant's epoch, floor and head."""

    async def info(event_log: EventLog) -> None:
        for name, value in (await event_log.describe()).items():
            out.print(f"{name}: {value}", markup=False)
        for tenant in await event_log.tenants():
            b = await event_log.ensure(tenant)
            out.print(f"tenant {tenant}: epoch {b.epoch}, floor {b.floor}, head {b.head}, {b.head - b.floor} events")

    _with_log(load_settings(config), info, exclusive=False)


@log_app.command("trim")
def log_trim(
    keep: Annotated[int, typer.Option(help="How many of the newest events stay.", min=0)],
    config: ConfigOption = None,
    tenant: TenantOption = DEFAULT_TENANT,
) -> None:
    """Remove all but the newest events now. Readers below get a reset."""

    async def trim(event_log: EventLog) -> None:
        bounds = await event_log.trim(tenant, max((await event_log.ensure(tenant)).head - keep, 0))
        out.print(f"floor {bounds.floor}, head {bounds.head}")

    _with_log(load_settings(config), trim, exclusive=False)


@log_app.command("new-epoch")
def log_new_epoch(config: ConfigOption = None, tenant: TenantOption = DEFAULT_TENANT) -> None:
    """Give a restored log a new epoch, so that every reader resyncs. The last step of a restore."""

    async def rename(event_log: EventLog) -> None:
        bounds = await event_log.new_epoch(tenant, new_epoch())
        out.print(f"tenant {tenant}: epoch {bounds.epoch}, head {bounds.head}")

    _with_log(load_settings(config), rename, exclusive=False, check_seal=False)


@app.command()
def demo(
    port: Annotated[int, typer.Option(help="Port to serve on.")] = 8000,
    speed: Annotated[float, typer.Option(help="Events a second.", min=0.1, max=1000)] = 2.0,
) -> None:
    """A shop day out of the examples, served and shown in the terminal until Ctrl-C."""
    demo_module.run(port=port, events_per_s=speed, console=out)


def _with_log(
    settings: Settings,
    work: Callable[[EventLog], Coroutine[Any, Any, None]],
    *,
    exclusive: bool,
    check_seal: bool = True,
) -> None:
    async def run() -> None:
        event_log = open_log(settings.log, exclusive=exclusive, check_seal=check_seal)
        try:
            await event_log.open()
            await work(event_log)
        finally:
            await event_log.aclose()

    try:
        asyncio.run(run())
    except LogUnavailable as exc:
        _die(str(exc), EXIT_CONFIG if isinstance(exc, LogMisconfigured) else EXIT_FAILED)


def _http(settings: Settings, url: str | None = None) -> httpx2.AsyncClient:
    host = settings.server.host if settings.server.host not in ("0.0.0.0", "::") else "127.0.0.1"
    base = url or f"http://{f'[{host}]' if ':' in host else host}:{settings.server.port}"
    return httpx2.AsyncClient(base_url=base, timeout=httpx2.Timeout(10, read=60), trust_env=False)


async def _is_served(client: httpx2.AsyncClient) -> bool:
    try:
        reply = await client.get("/healthz")
    except httpx2.TransportError:
        return False
    return reply.status_code == 200 and reply.json() == {"status": "ok"}


def _checked(reply: httpx2.Response) -> dict[str, Any]:
    """The JSON of a good answer. Raises the Problem that a bad one tells."""
    document = reply.json()
    if reply.status_code >= 400:
        faults = [f"{e['path']}: {e['message']}" for e in document.get("errors", ())]
        raise SyncError("\n  - ".join([f"{reply.status_code}: {document.get('detail')}", *faults]))
    return dict(document)
