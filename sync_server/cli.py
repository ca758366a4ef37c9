"""The command line: ``sync-server``. Its commands are told apart by what they need: a server, a log, or both."""

import asyncio
import errno
import importlib.metadata
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import httpx2
import structlog
import typer

from sync_core.domain.catalog import DOMAIN
from sync_core.problems import Problem, SyncError
from sync_server.accounts.records import ACCOUNTS, ACCOUNTS_TENANT
from sync_server.console.doctor import examine
from sync_server.console.keys import key_app
from sync_server.console.publish import publish_file
from sync_server.console.tail import follow
from sync_server.console.terminal import EXIT_FAILED, ConfigOption, die, err, existing, out, with_log
from sync_server.console.users import user_app
from sync_server.console.verify import Report, verify
from sync_server.log.base import EventLog, LogMisconfigured
from sync_server.log.open import new_epoch
from sync_server.settings import DEFAULT_FILE, EXIT_CONFIG, ConfigError, Settings, load_settings
from sync_server.tenants import DEFAULT_TENANT

__all__ = ["main"]

EXIT_INTERRUPTED = 130
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
EXAMPLE_CONFIG = Path(__file__).parent / "config.example.toml"

app = typer.Typer(
    help="Real-time order sync: a durable event log, streamed to browsers and programs.",
    epilog="Without a configuration file everything has its default: a SQLite log in ./sync.db on 127.0.0.1:8000. "
    "LOG_LEVEL=DEBUG|INFO|WARNING|ERROR sets how much `serve` tells.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
log_app = typer.Typer(help="Look after the event log: info, trim, new-epoch.", no_args_is_help=True)
app.add_typer(log_app, name="log")
app.add_typer(key_app, name="key")
app.add_typer(user_app, name="user")

TenantOption = Annotated[str, typer.Option("--tenant", metavar="NAME", help="Whose log.")]
UrlOption = Annotated[
    str | None, typer.Option("--url", help="Of the server (default: host and port of the configuration).")
]
TokenOption = Annotated[
    str | None,
    typer.Option("--token", envvar="SYNC_CLIENT_TOKEN", help="API key or token, where the server asks for one."),
]


def main() -> None:
    """Entry point of the command ``sync-server``."""
    _configure_output()
    try:
        app()
    except (ConfigError, LogMisconfigured) as exc:
        die(str(exc), EXIT_CONFIG)
    except Problem as exc:
        die("\n  - ".join([exc.detail, *(f"{e.path}: {e.message}".removeprefix(": ") for e in exc.errors)]))
    except SyncError as exc:
        die(str(exc))
    except httpx2.InvalidURL as exc:
        die(f"this is no URL: {exc}", EXIT_CONFIG)
    except httpx2.TransportError as exc:
        die(f"the server does not answer: {str(exc) or type(exc).__name__}")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _configure_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        # What a terminal's encoding cannot show is no reason to end.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    level = os.environ.get("LOG_LEVEL", "INFO").upper()
    if level not in LOG_LEVELS:
        die(f"environment variable LOG_LEVEL: {level!r} is none of {', '.join(LOG_LEVELS)}", EXIT_CONFIG)
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
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"sync-server {importlib.metadata.version('order-sync')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Real-time order sync: a durable event log, streamed to browsers and programs."""


@app.command("serve")
def serve_command(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Number of processes (more than 1: MongoDB only).")] = None,
    allow_open_network: Annotated[
        bool, typer.Option("--allow-open-network", help="Listen beyond this machine without access control.")
    ] = False,
) -> None:
    """Serve the feed until Ctrl-C or SIGTERM.

    Exit status: 0 after an orderly end, 2 if configuration, port or log cannot be used.
    """
    from sync_server.serve import bind, serve  # with all of the server, which takes longer than most commands

    given = {"host": host, "port": port, "workers": workers, "allow_open_network": allow_open_network or None}
    settings = load_settings(config, server={k: v for k, v in given.items() if v is not None})
    where = f"{settings.server.host}:{settings.server.port}"
    try:
        sock = bind(settings.server.host, settings.server.port)
    except OSError as exc:
        hint = "; another program has the port: stop it, or take another one with --port"
        die(
            f"cannot listen on {where}: {exc.strerror or exc}{hint if exc.errno == errno.EADDRINUSE else ''}",
            EXIT_CONFIG,
        )
    sys.exit(serve(settings, sock))


@app.command("worker", hidden=True)
def worker_command(fd: Annotated[int, typer.Option()]) -> None:
    """One process of `serve --workers N`; the supervisor starts it with its settings on standard input."""
    from sync_server.serve import run_worker, worker_socket

    line = sys.stdin.buffer.readline()
    settings = Settings.model_validate_json(line)
    sys.exit(run_worker(settings, worker_socket(fd), parent_fd=sys.stdin.fileno()))


@app.command()
def init(
    config: Annotated[
        Path, typer.Option("--config", "-c", metavar="FILE", help="Where to write the configuration.")
    ] = DEFAULT_FILE,
) -> None:
    r"""Write a commented configuration and prepare the log it names.

    A file that is there already is left as it is; run it again after changing \[log], to make the indexes.
    """
    if config.exists():
        out.print(f"{config} is there already and was left as it is.", markup=False)
    else:
        try:
            with EXAMPLE_CONFIG.open("rb") as source, config.open("xb") as target:
                shutil.copyfileobj(source, target)
        except OSError as exc:
            die(f"cannot write {config}: {exc.strerror}")
        out.print(f"Wrote {config}; every setting in it has its default.", markup=False)
    settings = load_settings(config)

    async def prepare(event_log: EventLog) -> None:
        bounds = await event_log.ensure(DEFAULT_TENANT)
        out.print(f"The log is ready: epoch {bounds.epoch}, {bounds.head - bounds.floor} events.")
        limit = getattr(event_log, "limit_transaction_lifetime", None)
        if limit is not None and (why := await limit()):
            out.print(f"transactionLifetimeLimitSeconds could not be set to 3 s: {why}", markup=False)

    with_log(settings, prepare, exclusive=False)


@app.command()
def publish(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON or JSON lines; - is standard input.")],
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Publish events from a file: one event, a list, {"events": [...]}, or one event a line.

    Goes through the running server, or straight into the log where none runs. Prints id and type of each.
    Up to 1,000 events (1 MiB) are published all or none; what is larger goes in several such steps.
    """
    try:
        body = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as exc:
        die(f"{file}: {exc.strerror}")
    settings = load_settings(config)
    name = "standard input" if file == "-" else file
    count = asyncio.run(publish_file(settings, body, name=name, url=url, token=token, show=_show_published))
    err.print(f"{count} {'event' if count == 1 else 'events'} published.")


def _show_published(event_id: str | None, event_type: str, duplicate: bool) -> None:
    out.print(f"{event_id or '-'} {event_type}{' (was there already)' if duplicate else ''}", markup=False)


@app.command()
def tail(
    config: ConfigOption = None,
    after: Annotated[
        str, typer.Option(metavar="CURSOR", help="Begin behind this id, or at `earliest` or `now`.")
    ] = "now",
    types: Annotated[str | None, typer.Option("--types", metavar="A,B", help="Only these event types.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Print the feed of a running server, one envelope a line, until Ctrl-C.

    Waits for a server that is not there, and goes on without loss when it comes back.
    """
    settings = load_settings(config)

    def show(envelope: str) -> None:
        print(envelope, flush=True)  # noqa: T201 - machine-readable: no wrapping, no markup

    def note(text: str) -> None:
        err.print(text, markup=False)

    asyncio.run(follow(settings, after=after, types=types, url=url, token=token, show=show, note=note))


@app.command()
def doctor(config: ConfigOption = None) -> None:
    """Check configuration, server, log and clock, and say what to do.

    Exit status: 0 if all is well, 1 if something is wrong, 2 if the configuration cannot be used.
    """
    settings = load_settings(config)
    failed = False

    def report(ok: bool, what: str) -> None:
        nonlocal failed
        failed = failed or not ok
        out.print(f"{'[green]ok[/]  ' if ok else '[red]FAIL[/]'} ", end="")
        out.print(what, markup=False)

    asyncio.run(examine(settings, report))
    sys.exit(EXIT_FAILED if failed else 0)


@app.command("verify")
def verify_command(
    config: ConfigOption = None,
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only this one's log.")] = None,
) -> None:
    """Replay the log from its start and compare: are all stored documents what the events say?

    Only reads; a server may run meanwhile. Exit status: 0 if all is as it should be, 1 if something differs.
    """
    wrong = 0

    async def work(event_log: EventLog) -> None:
        nonlocal wrong
        for name in [tenant] if tenant is not None else await event_log.tenants():
            if not await event_log.bounds([name]):
                raise LogMisconfigured(f"There is no tenant {name!r} in this log.")
            report = await verify(event_log, name, ACCOUNTS if name == ACCOUNTS_TENANT else DOMAIN)
            wrong += report.finding_count
            _show_report(report)

    with_log(existing(load_settings(config)), work, exclusive=False)
    sys.exit(EXIT_FAILED if wrong else 0)


def _show_report(report: Report) -> None:
    covered = f", {report.uncovered} of them older than the log" if report.uncovered else ""
    verdict = f"{report.finding_count} differences" if report.finding_count else "no difference"
    out.print(
        f"tenant {report.tenant}: {report.events} events, {report.documents} documents{covered}: {verdict}",
        markup=False,
    )
    for finding in report.findings:
        out.print(f"  - {finding}", markup=False)
    if report.finding_count > len(report.findings):
        out.print(f"  ... and {report.finding_count - len(report.findings)} more")


@log_app.command("info")
def log_info(config: ConfigOption = None) -> None:
    """Where the log is, and each tenant's epoch, floor and head."""

    async def info(event_log: EventLog) -> None:
        for name, value in (await event_log.describe()).items():
            out.print(f"{name}: {value}", markup=False)
        for tenant, b in (await event_log.bounds(await event_log.tenants())).items():
            out.print(f"tenant {tenant}: epoch {b.epoch}, floor {b.floor}, head {b.head}, {b.head - b.floor} events")

    with_log(existing(load_settings(config)), info, exclusive=False)


@log_app.command("trim")
def log_trim(
    keep: Annotated[int, typer.Option(help="How many of the newest events stay.", min=0)],
    config: ConfigOption = None,
    tenant: TenantOption = DEFAULT_TENANT,
) -> None:
    """Remove all but the newest events now. Readers that stand below get a reset."""

    async def trim(event_log: EventLog) -> None:
        bounds = (await event_log.bounds([tenant])).get(tenant)
        if bounds is None:
            raise LogMisconfigured(f"There is no tenant {tenant!r} in this log.")
        trimmed = await event_log.trim(tenant, max(bounds.head - keep, 0))
        out.print(f"Removed {trimmed.floor - bounds.floor} events: floor {trimmed.floor}, head {trimmed.head}.")

    with_log(existing(load_settings(config)), trim, exclusive=False)


@log_app.command("new-epoch")
def log_new_epoch(config: ConfigOption = None, tenant: TenantOption = DEFAULT_TENANT) -> None:
    """Give a restored log a new epoch, so that every reader resyncs. The last step of a restore."""

    async def rename(event_log: EventLog) -> None:
        bounds = await event_log.new_epoch(tenant, new_epoch())
        out.print(f"Tenant {tenant}: epoch {bounds.epoch}, head {bounds.head}. All earlier cursors lead to a reset.")

    with_log(existing(load_settings(config)), rename, exclusive=False, check_seal=False)


@app.command()
def demo(
    port: Annotated[int, typer.Option(help="Port to serve on.", min=0, max=65535)] = 8000,
    speed: Annotated[float, typer.Option(help="Simulated seconds per second.", min=1, max=100_000)] = 60.0,
    seed: Annotated[int, typer.Option(help="Which day it is; the same number is the same day.")] = 1,
) -> None:
    """A washing shop's day, played by commands, served and shown in the terminal until Ctrl-C."""
    from sync_server.demo import run

    run(port=port, seed=seed, speed=speed, console=out)
