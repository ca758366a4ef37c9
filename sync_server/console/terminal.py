"""What all commands share: where they print, how they end, and their way straight to the log."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from sync_server.log.base import EventLog, LogMisconfigured
from sync_server.log.open import open_log
from sync_server.settings import LogSection, Settings

__all__ = ["EXIT_FAILED", "ConfigOption", "die", "err", "existing", "missing_file", "out", "with_log"]

EXIT_FAILED = 1
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="Configuration file (default: ./sync.toml).")
]


def die(message: str, status: int = EXIT_FAILED) -> NoReturn:
    """Say why, and end."""
    err.print(f"sync-server: {message}", markup=False)
    sys.exit(status)


def existing(settings: Settings) -> Settings:
    """*settings*, if their log is there: looking after a log must not make an empty one beside a typing error."""
    if (path := missing_file(settings.log)) is not None:
        raise LogMisconfigured(f"There is no log at {path} ([log.sqlite] path). `sync-server init` makes one.")
    return settings


def missing_file(settings: LogSection) -> Path | None:
    return settings.sqlite.path if settings.store == "sqlite" and not settings.sqlite.path.exists() else None


def with_log(
    settings: Settings,
    work: Callable[[EventLog], Coroutine[Any, Any, None]],
    *,
    exclusive: bool,
    check_seal: bool = True,
) -> None:
    """Run *work* on the open log. Not *exclusive*: beside a running server."""

    async def run() -> None:
        event_log = open_log(settings.log, exclusive=exclusive, check_seal=check_seal)
        try:
            await event_log.open()
            await work(event_log)
        finally:
            await event_log.aclose()

    asyncio.run(run())
