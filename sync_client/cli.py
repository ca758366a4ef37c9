"""The command line: ``sync-client``. What its commands do is in console/."""

import asyncio
import importlib.metadata
import logging
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from sync_client.client import SyncClient
from sync_client.console import caches, check
from sync_client.console.debug import debug as show_panel
from sync_client.console.screen import err, out
from sync_client.console.watch import watch as show_events
from sync_client.errors import ConfigurationError
from sync_client.options import Options, cache_path, default_cache_dir, outbox_path
from sync_core.problems import SyncError

__all__ = ["main"]

DEFAULT_URL = "http://127.0.0.1:8000"
EXIT_FAILED = 1
EXIT_USAGE = 2
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

app = typer.Typer(
    help="Watch and look after order-sync on this machine.",
    epilog="Exit status: 0 it went well; 1 it did not (the server does not let us in, events do not come, the cache "
    "cannot be used); 2 wrong use, an address that is none; 130 interrupted. "
    "LOG_LEVEL=DEBUG|INFO|WARNING|ERROR sets how much the library tells on standard error.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cache_app = typer.Typer(
    help="What a client keeps on this machine. A cache belongs to a server, tenant, subject and client name.",
    no_args_is_help=True,
)
app.add_typer(cache_app, name="cache")
outbox_app = typer.Typer(
    help="Commands that a client has not sent, or that the server refused. An outbox belongs to a cache.",
    no_args_is_help=True,
)
app.add_typer(outbox_app, name="outbox")

UrlArgument = Annotated[str, typer.Argument(metavar="URL", help="Address of the server.")]
TokenOption = Annotated[
    str | None, typer.Option("--token", envvar="SYNC_CLIENT_TOKEN", help="Access token (or SYNC_CLIENT_TOKEN).")
]
NameOption = Annotated[str, typer.Option("--name", help="The client's name.")]
TenantOption = Annotated[str, typer.Option("--tenant", help="The client's tenant, if it names one.")]
SubjectOption = Annotated[str, typer.Option("--subject", help="Whose token it is, if the client names that.")]
DirOption = Annotated[
    Path | None, typer.Option("--cache-dir", metavar="DIR", help="Where caches are (default: this user's).")
]


def main() -> None:
    """Entry point of the command ``sync-client``."""
    _configure_output()
    try:
        app()
    except ConfigurationError as exc:
        _die(str(exc), EXIT_USAGE)
    except SyncError as exc:
        _die(str(exc))


def _configure_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        # What a terminal's encoding cannot show is no reason to end.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    level = os.environ.get("LOG_LEVEL", "ERROR").upper()
    if level not in LOG_LEVELS:
        _die(f"environment variable LOG_LEVEL: {level!r} is none of {', '.join(LOG_LEVELS)}", EXIT_USAGE)
    logging.basicConfig(format="%(message)s", level=level, stream=sys.stderr)


def _die(message: str, status: int = EXIT_FAILED) -> NoReturn:
    err.print(f"sync-client: {message}", markup=False)
    sys.exit(status)


def _run(work: Coroutine[Any, Any, int]) -> NoReturn:
    sys.exit(asyncio.run(work))


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"sync-client {importlib.metadata.version('order-sync')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Watch and look after order-sync on this machine."""


@app.command()
def watch(
    url: UrlArgument = DEFAULT_URL,
    order: Annotated[str | None, typer.Option(help="Only this order.")] = None,
    types: Annotated[str | None, typer.Option("--types", help="Only these event types (a,b).")] = None,
    start: Annotated[str, typer.Option("--from", help="now, earliest, or a cursor.")] = "now",
    count: Annotated[int | None, typer.Option(min=1, help="End after so many events.")] = None,
    transport: Annotated[Literal["sse", "ws"], typer.Option(help="ws: over a WebSocket.")] = "sse",
    token: TokenOption = None,
) -> None:
    """Show events as they come. Keeps nothing.

    Where standard output is no terminal: an event a line, as JSON; outages are told on standard error.
    Exit status 0 when it was stopped or has shown enough, 1 when the server does not let it in or sends it away.
    """
    chosen: dict[str, Any] = {}
    if order:
        chosen["orderID"] = order
    if types:
        names = chosen["eventTypes"] = [name.strip() for name in types.split(",")]
        _tell_of_unknown(names)
    client = SyncClient(
        url, token=token, client_name="sync-client", filter=chosen, cache=False, start=start, transport=transport
    )
    _run(show_events(client, count=count))


def _tell_of_unknown(types: list[str]) -> None:
    """A misspelt name would be waited for in silence."""
    from difflib import get_close_matches

    from sync_core.domain.catalog import REGISTRY  # only here: it brings the domain along

    known = [event_type.name for event_type in REGISTRY]
    for name in (name for name in types if name and name not in known):
        meant = "".join(f" (did you mean {near}?)" for near in get_close_matches(name, known, n=1))
        text = f"{name} is no event type of order-sync{meant}. It is waited for, as the server may have its own."
        err.print(f"sync-client: {text}", markup=False)


@app.command()
def board(
    url: UrlArgument = DEFAULT_URL,
    name: Annotated[str, typer.Option("--name", help="Another one, for a second board on this machine.")] = "board",
    cache_dir: DirOption = None,
    for_s: Annotated[float | None, typer.Option("--for", min=0, help="End after so many seconds.")] = None,
    token: TokenOption = None,
) -> None:
    """Show the shop's bays and queues as they change: who is in which bay for how long, and who waits.

    It keeps the shop on this machine: without a connection it shows what was last known. Where standard output is no
    terminal: a line for each bay, queue and order, and again for each that changes.
    Exit status 0 when it was stopped, 1 when the server does not let it in or sends it away.
    """
    from sync_client.console.board import board as show_board  # only here: it brings the domain along

    client = SyncClient(url, token=token, client_name=name, cache_dir=cache_dir, replica=True)
    _run(show_board(client, for_s=for_s))


@app.command()
def status(
    url: UrlArgument = DEFAULT_URL,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0, help="How long to try, in seconds.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    token: TokenOption = None,
) -> None:
    """Connect once and tell how it went. Exit status 0 if events come, else 1."""
    client = SyncClient(url, token=token, client_name="sync-client-status", cache=False)
    _run(check.status(client, timeout_s=timeout_s, as_json=as_json))


@app.command()
def debug(
    url: UrlArgument = DEFAULT_URL,
    name: Annotated[str | None, typer.Option("--name", help="Look into the cache of the client of that name.")] = None,
    tenant: TenantOption = "",
    subject: SubjectOption = "",
    cache_dir: DirOption = None,
    for_s: Annotated[float | None, typer.Option("--for", min=0, help="End after so many seconds.")] = None,
    token: TokenOption = None,
) -> None:
    """The debug panel: state, errors, transitions, breaker, metrics of a connection of its own, live.

    With --name also what the cache of that client holds, running or not. It only looks: nothing is taken from that
    client, and its cache is not changed. Exit status 0.
    """
    cache = None if name is None else _path(url, name, tenant, subject, cache_dir)
    client = SyncClient(url, token=token, client_name="sync-client-debug", cache=False)
    _run(show_panel(client, cache=cache, for_s=for_s))


@app.command()
def probe(
    url: UrlArgument,
    watch_s: Annotated[float, typer.Option("--for", min=0, help="How long to watch a stream, in seconds.")] = 40.0,
    token: TokenOption = None,
) -> None:
    """Find out whether Server-Sent Events work on this network, and why not. Exit status 0 if they do, else 1."""
    _run(check.probe(url, watch_s=watch_s, token=token))


# -- cache ----------------------------------------------------------------------------------------------


def _path(url: str, name: str, tenant: str, subject: str, cache_dir: Path | None) -> Path:
    """Where that client's cache is, or would be. Raises ConfigurationError."""
    return cache_path(url, Options(client_name=name, tenant=tenant, subject=subject, cache_dir=cache_dir))


def _existing(url: str, name: str, tenant: str, subject: str, cache_dir: Path | None) -> Path:
    """Where that client's cache is; ends the program if there is none."""
    path = _path(url, name, tenant, subject, cache_dir)
    if path.exists():
        return path
    whose = "".join(f" of {what} {value!r}" for what, value in (("tenant", tenant), ("subject", subject)) if value)
    place = cache_dir or default_cache_dir()
    others = ", ".join(sorted(other.name for other in place.glob("*.db"))[:9]) or "none"
    _die(f"there is no cache of {name!r}{whose} for {url} in {place} (caches there: {others})")


@cache_app.command("show")
def cache_show(
    url: UrlArgument = DEFAULT_URL,
    name: NameOption = "default",
    tenant: TenantOption = "",
    subject: SubjectOption = "",
    cache_dir: DirOption = None,
) -> None:
    """What is in it. Changes nothing; the client may be running."""
    caches.show(_existing(url, name, tenant, subject, cache_dir))


@cache_app.command("export")
def cache_export(
    url: UrlArgument = DEFAULT_URL,
    name: NameOption = "default",
    tenant: TenantOption = "",
    subject: SubjectOption = "",
    cache_dir: DirOption = None,
    file: Annotated[str, typer.Option("--to", metavar="FILE", help="Where to; - is standard output.")] = "-",
) -> None:
    """Write it as JSON, in the persistence format of version 1.0.0. Changes nothing; the client may be running."""
    caches.export(_existing(url, name, tenant, subject, cache_dir), file)


@cache_app.command("import")
def cache_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An export.")],
    url: UrlArgument = DEFAULT_URL,
    name: NameOption = "default",
    tenant: TenantOption = "",
    subject: SubjectOption = "",
    cache_dir: DirOption = None,
) -> None:
    """Read an export into a cache that is new. A lastEventId that no log of ours can have given counts as none."""
    caches.import_file(_path(url, name, tenant, subject, cache_dir), file)


@cache_app.command("clear")
def cache_clear(
    url: UrlArgument = DEFAULT_URL,
    name: NameOption = "default",
    tenant: TenantOption = "",
    subject: SubjectOption = "",
    cache_dir: DirOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove it: events that wait are lost, and the client begins anew. The client must not be running."""
    caches.clear(_existing(url, name, tenant, subject, cache_dir), ask=not yes)


# -- outbox ---------------------------------------------------------------------------------------------

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Of the command; its first characters are enough.")]


def _outbox(url: str, name: str, tenant: str, subject: str, cache_dir: Path | None) -> tuple[Path, Path]:
    """Where that client's outbox and its lock are; ends the program if there is none."""
    options = Options(client_name=name, tenant=tenant, subject=subject, cache_dir=cache_dir)
    path = outbox_path(url, options)
    if not path.exists():
        _die(f"there is no outbox of {name!r} for {url}: {path}")
    return path, cache_path(url, options).with_suffix(".lock")


@outbox_app.command("show")
def outbox_show(
    url: UrlArgument = DEFAULT_URL,
    name: NameOption = "default",
    tenant: TenantOption = "",
    subject: SubjectOption = "",
    cache_dir: DirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What waits and what failed, in order. Changes nothing; the client may be running."""
    from sync_client.console import outbox  # only here: it brings the domain along

    outbox.show(_outbox(url, name, tenant, subject, cache_dir)[0], as_json=as_json)


@outbox_app.command("retry")
def outbox_retry(
    key: KeyArgument,
    url: UrlArgument = DEFAULT_URL,
    name: NameOption = "default",
    tenant: TenantOption = "",
    subject: SubjectOption = "",
    cache_dir: DirOption = None,
) -> None:
    """Give a failed command once more, behind those that wait. The client must not be running; it sends it."""
    from sync_client.console import outbox  # only here: it brings the domain along

    outbox.retry(*_outbox(url, name, tenant, subject, cache_dir), key)


@outbox_app.command("discard")
def outbox_discard(
    key: KeyArgument,
    url: UrlArgument = DEFAULT_URL,
    name: NameOption = "default",
    tenant: TenantOption = "",
    subject: SubjectOption = "",
    cache_dir: DirOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget a command; one that was sent may have taken effect. The client must not be running."""
    from sync_client.console import outbox  # only here: it brings the domain along

    outbox.discard(*_outbox(url, name, tenant, subject, cache_dir), key, ask=not yes)
