"""``sync-server demo``: a washing shop's day, played by commands over HTTP and followed live in the terminal.

Server and simulator are tasks of this process, so that Ctrl-C ends all of them; between them is a real socket. In a
terminal the board is the client library's own (`sync-client board`), a process of its own that keeps a replica;
elsewhere the feed is printed, a line an event. The log lies in a temporary directory.
"""

import asyncio
import contextlib
import errno
import json
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from sync_core.problems import SyncError
from sync_server.app import open_application
from sync_server.console.tail import follow
from sync_server.console.talk import client
from sync_server.console.words import line_of
from sync_server.serve import bind, make_server
from sync_server.settings import Settings, load_settings
from sync_server.simulator import Simulator

__all__ = ["run"]

HOST = "127.0.0.1"
CONFIG = Path(__file__).parent / "demo.toml"
DRAIN_S = 0.2
END_S = 2.0


def run(*, port: int, seed: int, speed: float, console: Console) -> None:
    """Serve the shop day on *port* (or a free one) and show it on *console* until Ctrl-C or SIGTERM.

    *speed* is simulated seconds per second.
    """
    sock = _listen(port, console)
    with tempfile.TemporaryDirectory(prefix="order-sync-demo-") as directory:
        settings = load_settings(
            CONFIG,
            server={"host": HOST, "port": sock.getsockname()[1], "workers": 1},
            log={"store": "sqlite", "sqlite": {"path": str(Path(directory) / "demo.db")}},
            access={"mode": "open"},
        )
        with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError, BrokenPipeError):
            asyncio.run(_demo(settings, sock, Path(directory), seed=seed, speed=speed, console=console))
    with contextlib.suppress(BrokenPipeError):
        console.print("\nThe shop is closed.")


def _listen(port: int, console: Console) -> socket.socket:
    try:
        return bind(HOST, port)
    except OSError as exc:
        if exc.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise SyncError(f"cannot listen on {HOST}:{port}: {exc.strerror}") from None
        console.print(f"Port {port} is taken ({exc.strerror}); using a free one.\n", markup=False)
        return bind(HOST, 0)


async def _demo(
    settings: Settings, sock: socket.socket, directory: Path, *, seed: int, speed: float, console: Console
) -> None:
    whole = asyncio.current_task()
    assert whole is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, whole.cancel)
    url = f"http://{HOST}:{settings.server.port}"
    async with _serving(settings, sock):
        _greet(console, url)
        show = _board(url, directory) if console.is_terminal and shutil.which("sync-client", path=_PATH) else None
        works = [_simulate(url, seed=seed, speed=speed), show or _print_feed(settings, url, console)]
        # No task group: the one error that ends this is told as it is.
        tasks = [asyncio.create_task(work) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


@contextlib.asynccontextmanager
async def _serving(settings: Settings, sock: socket.socket) -> AsyncIterator[None]:
    async with open_application(settings) as application:
        server = make_server(application)
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            yield
        finally:
            await application.feed.drain(DRAIN_S)
            server.should_exit = True
            _, late = await asyncio.wait([serving], timeout=END_S)
            for task in late:
                task.cancel()


async def _simulate(url: str, *, seed: int, speed: float) -> None:
    async with client(url) as http:
        await Simulator(http, seed=seed, speed=speed).run()


_PATH = str(Path(sys.executable).parent)


async def _board(url: str, directory: Path) -> None:
    """The client's live board, until it ends; Ctrl-C reaches it by itself."""
    program = shutil.which("sync-client", path=_PATH)
    assert program is not None
    process = await asyncio.create_subprocess_exec(program, "board", url, "--cache-dir", str(directory))
    try:
        await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def _print_feed(settings: Settings, url: str, console: Console) -> Coroutine[Any, Any, None]:
    return follow(
        settings,
        after="earliest",
        types=None,
        url=url,
        show=lambda envelope: _print(console, line_of(json.loads(envelope))),
        note=lambda text: _print(console, Text(text, style="dim")),
    )


def _print(console: Console, text: Text) -> None:
    try:
        console.print(text)
    except SystemExit:  # rich's answer to a closed pipe, which would end the event loop in mid-air
        raise BrokenPipeError from None


def _greet(console: Console, url: str) -> None:
    console.print(Text.assemble("A shop day, served at ", (url, "bold"), ". Ctrl-C ends it."))
    console.print("Try beside it, in another terminal:\n")
    for what, command in (
        ("the dashboard, in a browser", f"{url}/"),
        ("the stream of one bay", f"curl -N '{url}/api/v1/sync/events?bayID=BAY-1'"),
        ("the shop as it is now", f"curl '{url}/api/v1/sync/snapshot'"),
        (
            "an order of your own",
            # In two lines, so that no terminal wraps it within the quotes.
            f"curl {url}/api/v1/orders -H 'Content-Type: application/json' \\\n    -d '{_ORDER}'",
        ),
        ("all there is to call, in a browser", f"{url}/docs"),
    ):
        console.print(Text(f"  # {what}", style="dim"))
        console.print(Text(f"  {command}", style="cyan"))
    console.print()


_ORDER = '{"items":[{"sku":"S","name":"Wash","quantity":1,"unitPrice":"9.50"}]}'
