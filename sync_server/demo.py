"""``sync-server demo``: a shop day, published over HTTP and followed over a real event stream, in one terminal.

Server, publisher and follower are tasks of one process, so that Ctrl-C ends all of them; between them is a real
socket. The log lies in a temporary directory.
"""

import asyncio
import contextlib
import errno
import json
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console
from rich.text import Text

from sync_core.problems import SyncError
from sync_server.app import open_application
from sync_server.console.tail import follow
from sync_server.console.talk import checked, client
from sync_server.serve import bind, make_server
from sync_server.settings import Settings, load_settings

__all__ = ["describe", "run"]

HOST = "127.0.0.1"
SHOP_ZONE = timezone(timedelta(hours=3))
DAY = Path(__file__).parent / "demo_day.jsonl"
CONFIG = Path(__file__).parent / "demo.toml"
DRAIN_S = 0.2
END_S = 2.0

Data = dict[str, Any]


def run(*, port: int, events_per_s: float, console: Console) -> None:
    """Serve the shop day on *port* (or a free one) and show it on *console* until Ctrl-C or SIGTERM."""
    sock = _listen(port, console)
    with tempfile.TemporaryDirectory(prefix="order-sync-demo-") as directory:
        settings = load_settings(
            CONFIG,
            server={"host": HOST, "port": sock.getsockname()[1], "workers": 1},
            log={"store": "sqlite", "sqlite": {"path": str(Path(directory) / "demo.db")}},
        )
        with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError, BrokenPipeError):
            asyncio.run(_demo(settings, sock, events_per_s, console))
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


async def _demo(settings: Settings, sock: socket.socket, events_per_s: float, console: Console) -> None:
    whole = asyncio.current_task()
    assert whole is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, whole.cancel)
    url = f"http://{HOST}:{settings.server.port}"
    async with _serving(settings, sock):
        _greet(console, url)
        following = follow(
            settings,
            after="earliest",
            types=None,
            url=url,
            show=lambda envelope: _print(console, _line(json.loads(envelope))),
            note=lambda text: _print(console, Text(text, style="dim")),
        )
        # No task group: the one error that ends this is told as it is.
        tasks = [asyncio.create_task(work) for work in (following, _publish_days(url, events_per_s, console))]
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


async def _publish_days(url: str, events_per_s: float, console: Console) -> None:
    events = DAY.read_bytes().splitlines()
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    day = 0
    async with client(url) as http:
        while True:
            day += 1
            _print(console, Text(f"── day {day}: the shop opens ──", style="bold"))
            for event in events:
                await _publish(http, event)
                due_s = max(due_s + 1 / events_per_s, loop.time() - 1)
                await asyncio.sleep(due_s - loop.time())


async def _publish(http: httpx2.AsyncClient, event: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    checked(await http.post("/api/v1/sync/events", content=event, headers=headers))


def _print(console: Console, text: Text) -> None:
    try:
        console.print(text)
    except SystemExit:  # rich's answer to a closed pipe, which would end the event loop in mid-air
        raise BrokenPipeError from None


def _greet(console: Console, url: str) -> None:
    event = '{"eventType":"status_update","orderID":"ORDER-003","data":{"status":"hello"}}'
    console.print(Text.assemble("A shop day, served at ", (url, "bold"), ". Ctrl-C ends it."))
    console.print("Try beside it, in another terminal:\n")
    for what, command in (
        ("the stream of one order", f"curl -N '{url}/api/v1/sync/events?orderID=ORDER-003'"),
        ("the first events, by polling", f"curl '{url}/api/v1/sync/poll?after=earliest&limit=5'"),
        (
            "an event of your own",
            # In two lines, so that no terminal wraps it within the quotes.
            f"curl {url}/api/v1/sync/events -H 'Content-Type: application/json' \\\n    -d '{event}'",
        ),
    ):
        console.print(Text(f"  # {what}", style="dim"))
        console.print(Text(f"  {command}", style="cyan"))
    console.print()


# -- an event in plain words ----------------------------------------------------------------------------


def describe(event_type: str, data: Data) -> str:
    """What an event of *event_type* with that *data* says; whatever *data* holds, there is a text."""
    words = _WORDS.get(event_type)
    try:
        return words(data) if words is not None else _json(data)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return _json(data)  # of the user's own making: shown as it is


def _line(envelope: Data) -> Text:
    at = datetime.fromisoformat(envelope["occurredAt" if "occurredAt" in envelope else "timestamp"])
    event_type = envelope["eventType"]
    about = envelope.get("orderID") or envelope.get("deviceID") or ""
    return Text.assemble(
        (f"{at.astimezone(SHOP_ZONE):%H:%M}  ", "dim"),
        (f"{event_type:<19} ", _STYLES.get(event_type.partition("_")[0], "white")),
        (f"{about:<10} ", "bold"),
        describe(event_type, envelope["data"]),
    )


def _json(data: Data) -> str:
    return json.dumps(data, ensure_ascii=False) if data else ""


def _stage(data: Data) -> str:
    stages = [data["previousStage"], data["newStage"]] if data.get("previousStage") else [data["newStage"]]
    return " → ".join(stage.replace("_", " ") for stage in stages)


def _payment(data: Data) -> str:
    amount = f" {float(data['amount']):,.0f} {data['currency']}" if "amount" in data else ""
    method = f" by {data['method']}" if data.get("method") else ""
    return f"{data['status']}{amount}{method}"


def _status(data: Data) -> str:
    return f"{data['status']}: {data['note']}" if data.get("note") else str(data["status"])


def _device(data: Data) -> str:
    hours, minutes = divmod(int(data["elapsedSeconds"]) // 60, 60)
    people = f"{data['customerCount']} customer{'' if data['customerCount'] == 1 else 's'}"
    note = f", {data['notes']}" if data["notes"] else ""
    return f"{'running' if data['isRunning'] else 'stopped'} at {hours}:{minutes:02} h, {people}{note}"


def _item(item: Data) -> str:
    note = f" ({item['notes']})" if item.get("notes") else ""
    return f"{item['quantity']} × {item['name']}{note} at {item['price']:,}"


_STYLES = {
    "stage": "green", "payment": "yellow", "status": "blue", "whatsapp": "bright_green", "qr": "bright_black",
    "device": "magenta", "order": "cyan", "prices": "red", "categories": "red",
}  # fmt: skip

_WORDS: dict[str, Callable[[Data], str]] = {
    "stage_change": _stage,
    "payment_update": _payment,
    "status_update": _status,
    "whatsapp_connected": lambda data: f"WhatsApp {data['status']}, {data['phone']}",
    "qr_generated": lambda data: f"QR code for {data['url']}",
    "device_updated": _device,
    "device_created": lambda data: f"new device, {data['mode']} mode",
    "device_removed": lambda _: "taken away",
    "device_cleared": lambda _: "cleared for the next customer",
    "device_transferred": lambda data: f"takes over everything from {data['fromDeviceId']}",
    "order_added": lambda data: ", ".join(map(_item, data["orders"])),
    "order_modified": lambda data: f"item {data['orderIndex'] + 1} is now {_item(data['data'])}",
    "order_removed": lambda data: f"item {data['orderIndex'] + 1} taken off",
    "prices_updated": lambda _: "new prices for everybody",
    "categories_updated": lambda _: "new categories for everybody",
}
