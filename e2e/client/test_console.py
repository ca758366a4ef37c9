"""``sync-client`` as people use it: what it looks into it does not change, and what goes wrong it says in a line."""

import asyncio
import json
import os
import pty
import re
import signal
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

import pytest

from e2e.client.harness import Shop, eventually
from e2e.client.test_programs import CLI, ROOT, cli
from sync_client.cache import FORMAT_VERSION, SQLiteCache
from sync_client.options import Options, cache_path
from tests.servers import clean_environment


def where(shop: Shop, *, tenant: str = "", subject: str = "") -> tuple[str, ...]:
    """The options that name the kiosk's cache."""
    owner = (*(("--tenant", tenant) if tenant else ()), *(("--subject", subject) if subject else ()))
    return (shop.proxy.url, "--name", "kiosk", "--cache-dir", str(shop.directory / "cache"), *owner)


def kiosk_file(shop: Shop, **owner: str) -> Path:
    return cache_path(shop.proxy.url, Options(client_name="kiosk", cache_dir=shop.directory / "cache", **owner))


async def leave_waiting(shop: Shop, count: int, **owner: str) -> None:
    """A kiosk that has received *count* events, and nobody has taken them."""
    async with shop.client("kiosk", **owner) as client:
        await eventually(lambda: client.is_connected and client.health.caught_up)
        await shop.publish(count)
        await eventually(lambda: client.health.queue_depth == count)


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


# -- looking changes nothing ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("debug", "--for", "0.3"), ("cache", "show"), ("cache", "export")])
async def test_a_look_takes_no_event_and_changes_no_file(shop: Shop, command: tuple[str, ...]) -> None:
    await leave_waiting(shop, 3)
    before = contents(shop.directory / "cache")
    await shop.publish(1)  # news for which debug's own stream has no use either
    status, out, err = await cli(*command, *where(shop))
    assert (status, err) == (0, "")
    assert "waiting for handlers" in out or json.loads(out)["events"][2]["metadata"]["processed"] is False
    assert contents(shop.directory / "cache") == before


async def test_debug_looks_into_a_cache_that_is_in_use(shop: Shop) -> None:
    async with shop.client("kiosk") as client:
        await eventually(lambda: client.is_connected and client.health.caught_up)
        await shop.publish(3)
        await eventually(lambda: client.health.queue_depth == 3)
        status, out, err = await cli("debug", *where(shop), "--for", "0.3")
        assert (status, err) == (0, "")
        assert re.search(r"waiting for handlers +3\b", out)
        assert client.health.queue_depth == 3


async def test_a_cache_of_a_newer_version_is_named_and_left_alone(shop: Shop) -> None:
    await leave_waiting(shop, 1)
    path = kiosk_file(shop)
    content = bytearray(path.read_bytes())
    content[60:64] = struct.pack(">I", FORMAT_VERSION + 1)  # user_version
    path.write_bytes(content)
    before = contents(path.parent)
    status, _, err = await cli("cache", "show", *where(shop))
    assert (status, err.count("\n"), "another version" in err) == (1, 1, True)
    assert contents(path.parent) == before


async def test_tenant_and_subject_name_another_cache(shop: Shop) -> None:
    await leave_waiting(shop, 2, tenant="north", subject="anna")
    status, out, _ = await cli("cache", "show", *where(shop, tenant="north", subject="anna"), COLUMNS="200")
    assert (status, out.count("stage_change")) == (0, 2)
    status, _, err = await cli("cache", "show", *where(shop, tenant="north"))
    assert (status, "there is no cache of 'kiosk' of tenant 'north'" in err) == (1, True)


# -- what changes caches ----------------------------------------------------------------------------------


async def test_an_import_never_moves_the_cursor_of_a_cache_in_service(shop: Shop, tmp_path: Path) -> None:
    await leave_waiting(shop, 1)
    file = tmp_path / "export.json"
    assert (await cli("cache", "export", *where(shop), "--to", str(file)))[0] == 0
    status, _, err = await cli("cache", "import", str(file), *where(shop))
    assert (status, "could leave events out" in err) == (1, True)


async def test_clearing_removes_what_a_client_would_only_set_aside(shop: Shop) -> None:
    path = kiosk_file(shop)
    path.parent.mkdir()
    path.write_bytes(b"no database" * 100)
    status, _, err = await cli("cache", "clear", *where(shop), "--yes")
    assert (status, err) == (0, "removed.\n")
    assert [file.name for file in path.parent.iterdir()] == [path.with_suffix(".lock").name]


async def test_clearing_asks_before_events_are_lost(shop: Shop) -> None:
    await leave_waiting(shop, 2)
    status, out, _ = await cli("cache", "clear", *where(shop))
    assert (status, "2 events wait" in out) == (1, True)
    cache = SQLiteCache(kiosk_file(shop))
    assert cache.backlog == 2
    cache.close()


# -- watch ------------------------------------------------------------------------------------------------


class Watching:
    """A running ``sync-client watch`` whose output is no terminal."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process, self.out, self.err = process, process.stdout, process.stderr

    async def told(self) -> str:
        """The next line of its standard error."""
        async with asyncio.timeout(20):
            return (await self.err.readline()).decode()


@asynccontextmanager
async def watching(*argv: str) -> AsyncIterator[Watching]:
    process = await asyncio.create_subprocess_exec(
        *CLI, "watch", *argv, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**clean_environment(), "NO_PROXY": "*", "LOG_LEVEL": "ERROR"},
    )  # fmt: skip
    try:
        yield Watching(process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def test_watch_says_once_that_it_reconnects_and_why_and_when_it_is_back(shop: Shop) -> None:
    shop.proxy.stream.refused = shop.proxy.plain.refused = True
    async with watching(shop.proxy.url, "--count", "1") as watch:
        told = await watch.told()
        assert re.match(rf"sync-client: reconnecting to {shop.proxy.url}: .+; next try in [\d.]+ s, then until", told)
        await eventually(lambda: len(shop.proxy.requests) >= 2)
        shop.proxy.stream.clear()
        shop.proxy.plain.clear()
        assert re.match(r"sync-client: connected again after [\d.]+ s\n", await watch.told())
        await shop.publish(1)
        assert await asyncio.wait_for(watch.process.wait(), 20) == 0
        assert await watch.err.read() == b""


async def test_watch_says_which_type_it_does_not_know_and_waits_for_it_all_the_same(shop: Shop) -> None:
    async with watching(shop.proxy.url, "--types", "stage_chang,payment_update,own", "--count", "1") as watch:
        assert await watch.told() == (
            "sync-client: stage_chang is no event type of order-sync (did you mean stage_change?). "
            "It is waited for, as the server may have its own.\n"
        )
        assert "own is no event type of order-sync. It is waited for" in await watch.told()
        await eventually(lambda: shop.proxy.open_streams)
        watch.process.terminate()
        assert await asyncio.wait_for(watch.process.wait(), 20) == 0
        assert await watch.err.read() == b""


async def test_watch_ends_when_nobody_reads_its_lines_any_more(shop: Shop) -> None:
    async with watching(shop.proxy.url) as watch:
        await eventually(lambda: shop.proxy.open_streams)
        watch.process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        await shop.publish(1)
        assert await asyncio.wait_for(watch.process.wait(), 20) == 0
        assert await watch.err.read() == b""


# -- in a terminal ----------------------------------------------------------------------------------------


async def in_terminal(*argv: str, rows: int, columns: int, until: Callable[[str], bool]) -> str:
    """Run it in a terminal of that size until *until* holds for what it has written, then end it; all it wrote."""
    terminal, side = pty.openpty()
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**clean_environment(), "TERM": "xterm", "NO_PROXY": "*", "LOG_LEVEL": "ERROR"}
    for name in ("COLUMNS", "LINES"):
        environment.pop(name, None)
    process = await asyncio.create_subprocess_exec(
        *CLI, *argv, cwd=ROOT, stdin=side, stdout=side, stderr=side, env=environment
    )
    os.close(side)
    os.set_blocking(terminal, False)
    written = ""
    try:
        async with asyncio.timeout(20):
            while not until(written):
                with suppress(BlockingIOError):
                    written += os.read(terminal, 65536).decode()
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 10) == 0
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        os.close(terminal)
    return written


def frames(written: str) -> list[list[str]]:
    """The display's states, one after the other, without colours."""
    parts = re.split(r"(?:\r?\x1b\[(?:2K|1A))+", written)
    return [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", part).strip().splitlines() for part in parts]


async def test_debug_fits_a_terminal_of_thirty_lines(shop: Shop) -> None:
    shop.proxy.stream.refused = shop.proxy.plain.refused = True
    written = await in_terminal(
        "debug", shop.proxy.url, rows=30, columns=80, until=lambda text: "ERROR" in text and len(frames(text)) > 3
    )
    shown = max(frames(written), key=len)
    assert len(shown) < 30
    assert shown[0].startswith("ERROR")
    for word in ("breaker", "last errors", "transitions", "machine", "metrics"):
        assert any(word in line for line in shown)


# -- errors are for people ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (("watch", "http://127.0.0.1:99999"), 2, "not from 1 to 65535"),
        (("probe", "shop"), 2, "not the http(s) address of a server"),
        (("watch", "--from", "yesterday"), 2, '"now", "earliest" or a cursor'),
        (("cache", "show", "--name", ""), 2, "client_name"),
        (("cache", "import", "/nowhere/x.json"), 1, "No such file"),
    ],
)
async def test_wrong_use_is_a_line_and_a_status(argv: tuple[str, ...], status: int, words: str) -> None:
    ended, out, err = await cli(*argv)
    assert (ended, out, err.count("\n")) == (status, "", 1)
    assert words in err


async def test_a_wrong_log_level_is_told() -> None:
    process = await asyncio.create_subprocess_exec(
        *CLI, "status", cwd=ROOT, stderr=asyncio.subprocess.PIPE, env={**clean_environment(), "LOG_LEVEL": "LOUD"}
    )
    _, err = await process.communicate()
    assert (process.returncode, b"LOG_LEVEL" in err, err.count(b"\n")) == (2, True, 1)


@asynccontextmanager
async def another_server() -> AsyncIterator[str]:
    """Answers everything with a page."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
        )
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("watch", "instead of an event stream. Are http://"),
        ("status", "instead of an event stream. Are http://"),
        ("probe", "this is not the address of an order-sync server"),
    ],
)
async def test_another_server_is_recognised(command: str, words: str) -> None:
    async with another_server() as url:
        status, out, err = await cli(command, url)
    assert (status, words in out + err) == (1, True)


async def test_status_of_a_dead_port_says_so() -> None:
    status, _, err = await cli("status", "http://127.0.0.1:9", "--timeout", "0.2")
    assert (status, err.count("\n")) == (1, 1)
    assert re.match("sync-client: no connection to http://127.0.0.1:9: .+", err)


async def test_help_says_what_the_exit_statuses_mean() -> None:
    status, out, _ = await cli("--help")
    assert (status, "Exit status" in out) == (0, True)
