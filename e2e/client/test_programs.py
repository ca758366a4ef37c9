"""The programs around the library: command line, examples, the stand-alone checks."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from e2e.client.harness import Shop, eventually
from sync_client.options import Options, cache_path
from tests.servers import SyncServer, clean_environment

ROOT = Path(__file__).parents[2]
CLI = [sys.executable, "-c", "from sync_client.cli import main; main()"]
ROUNDS = os.environ.get("SYNC_TEST_ROUNDS", "4")


async def run(*argv: str, within_s: float = 60, **env: str) -> tuple[int, str, str]:
    """Run a program to its end: status, output, error output."""
    process = await asyncio.create_subprocess_exec(
        *argv, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env={**clean_environment(), "NO_PROXY": "*", **env},
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(), within_s)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def cli(*argv: str, **env: str) -> tuple[int, str, str]:
    return await run(*CLI, *argv, LOG_LEVEL="ERROR", **env)


# -- sync-client ------------------------------------------------------------------------------------------


async def test_watch_prints_envelopes_where_nobody_watches(own_shop: Shop) -> None:
    await own_shop.publish(5)
    status, out, err = await cli("watch", own_shop.proxy.url, "--from", "earliest", "--count", "3")
    assert (status, err) == (0, "")
    assert [json.loads(line)["data"]["n"] for line in out.splitlines()] == [0, 1, 2]


async def test_watch_takes_filters(own_shop: Shop) -> None:
    await own_shop.publish(3)
    await own_shop.publish(1, orderID="ORDER-002")
    options = ("--from", "earliest", "--order", "ORDER-002", "--types", "stage_change", "--count", "1")
    _, out, _ = await cli("watch", own_shop.proxy.url, *options)
    assert json.loads(out)["orderID"] == "ORDER-002"


async def test_watch_ends_with_a_reason_when_it_is_not_let_in(shop: Shop) -> None:
    shop.proxy.stream.status = 403
    status, _, err = await cli("watch", shop.proxy.url)
    assert status == 1
    assert "failed: not let in (403)" in err


async def test_watch_ends_cleanly_on_a_signal(shop: Shop) -> None:
    process = await asyncio.create_subprocess_exec(*CLI, "watch", shop.proxy.url, cwd=ROOT)
    await eventually(lambda: shop.proxy.open_streams)
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_status_tells_and_says_it_to_programs(shop: Shop) -> None:
    status, out, _ = await cli("status", shop.proxy.url, "--json")
    told = json.loads(out)
    assert (status, told["status"], told["transport"], told["caught_up"]) == (0, "healthy", "sse", True)
    shop.proxy.stream.refused = shop.proxy.plain.refused = True
    status, out, _ = await cli("status", shop.proxy.url, "--timeout", "0.5")
    assert status == 1
    assert "error" in out


async def test_debug_shows_the_panel(shop: Shop, tmp_path: Path) -> None:
    status, out, _ = await cli("debug", shop.proxy.url, "--for", "1", "--cache-dir", str(tmp_path))
    assert status == 0
    for word in ("transitions", "breaker", "cursor", "last errors", "healthy_timer, stream", "connecting"):
        assert word in out


async def test_cache_commands(shop: Shop) -> None:
    async with shop.following("kiosk") as (client, got):
        await shop.publish(3)
        await eventually(lambda: len(got) == 3 and client.idle)
    where = (shop.proxy.url, "--name", "kiosk", "--cache-dir", str(shop.directory / "cache"))
    status, shown, _ = await cli("cache", "show", *where, COLUMNS="200")
    assert status == 0
    assert shown.count("stage_change") == 3
    export = shop.directory / "export.json"
    assert (await cli("cache", "export", *where, "--to", str(export)))[0] == 0
    document = json.loads(export.read_text())
    assert list(document) == [
        "events", "configuration", "lastConnectionTime", "connectionMetrics", "lastEventId", "version",
    ]  # fmt: skip
    assert (await cli("cache", "clear", *where, "--yes"))[0] == 0
    status, _, err = await cli("cache", "show", *where)
    assert (status, "there is no cache" in err) == (1, True)
    assert (await cli("cache", "import", str(export), *where))[0] == 0
    _, again, _ = await cli("cache", "export", *where)
    assert json.loads(again) == document
    await shop.publish(2)
    async with shop.following("kiosk") as (_, got):  # what was imported is where it goes on
        await eventually(lambda: len(got) == 2)


async def test_a_seeds_document_can_be_imported(shop: Shop, tmp_path: Path) -> None:
    from tests.client.test_persistence import SEED

    file = tmp_path / "seed.json"
    file.write_text(json.dumps(SEED))
    where = (shop.proxy.url, "--cache-dir", str(tmp_path))
    status, _, err = await cli("cache", "import", str(file), *where)
    assert (status, "goes on at now" in err) == (0, True)
    _, out, _ = await cli("cache", "export", *where)
    document = json.loads(out)
    assert document["configuration"] == SEED["configuration"]
    assert document["connectionMetrics"] == SEED["connectionMetrics"]
    assert document["lastEventId"] is None


async def test_a_cache_in_use_is_not_touched(shop: Shop) -> None:
    async with shop.following("kiosk"):
        where = (shop.proxy.url, "--name", "kiosk", "--cache-dir", str(shop.directory / "cache"))
        status, _, err = await cli("cache", "clear", *where, "--yes")
        assert (status, "in use" in err) == (1, True)
    assert cache_path(shop.proxy.url, Options(client_name="kiosk", cache_dir=shop.directory / "cache")).exists()


@pytest.mark.parametrize(
    ("fault", "works", "words"),
    [
        ({}, True, "works"),
        ({"buffered": True}, False, "buffers"),
        ({"cut_after_s": 1.5}, False, "cuts the stream"),
        ({"status": 403}, False, "refused"),
    ],
    ids=["good", "buffering", "idle cut", "refused"],
)
async def test_probe_says_whether_streams_work_and_why_not(
    shop: Shop, fault: dict[str, Any], works: bool, words: str
) -> None:
    shop.proxy.stream.__dict__.update(fault)
    status, out, _ = await cli("probe", shop.proxy.url, "--for", "4")
    assert (status == 0) is works
    assert words in out


async def test_probe_of_nothing() -> None:
    status, out, _ = await cli("probe", "http://127.0.0.1:9")
    assert (status, "cannot be reached" in out) == (1, True)


# -- examples ---------------------------------------------------------------------------------------------


async def test_example_watch_order(own_shop: Shop, tmp_path: Path) -> None:
    for stage in ("initiated", "in_progress", "completed"):
        await own_shop.publish(1, data={"newStage": stage, "n": 0})
    argv = (sys.executable, "examples/watch_order.py", "ORDER-001", "--url", own_shop.proxy.url)
    status, out, err = await run(*argv, XDG_CACHE_HOME=str(tmp_path))
    assert (status, err) == (0, "")
    assert re.findall(r"→ (\w+)", out) == ["initiated", "in_progress", "completed"]


async def test_example_kiosk(own_shop: Shop, tmp_path: Path) -> None:
    await own_shop.publish(1, data={"previousStage": "empty", "newStage": "initiated", "n": 0})
    argv = (sys.executable, "examples/kiosk_tk.py", "--text", "--for", "2", "--url", own_shop.proxy.url)
    status, out, err = await run(*argv, XDG_CACHE_HOME=str(tmp_path))
    assert (status, err) == (0, "")
    assert "ORDER-001: initiated" in out
    assert "[HEALTHY]" in out


async def test_example_kiosk_shows_after_a_restart_what_it_showed_before(own_shop: Shop, tmp_path: Path) -> None:
    argv = (sys.executable, "examples/kiosk_tk.py", "--text", "--for", "1", "--url", own_shop.proxy.url)
    await own_shop.publish(1, orderID="ORDER-007", data={"previousStage": "empty", "newStage": "initiated", "n": 0})
    for _ in range(2):  # the second one's server is gone: what it shows is its own
        status, out, err = await run(*argv, XDG_CACHE_HOME=str(tmp_path))
        assert (status, "Traceback" in err, out.count("ORDER-007: initiated")) == (0, False, 1)
        own_shop.proxy.stream.refused = own_shop.proxy.plain.refused = True


@pytest.mark.parametrize("example", ["kiosk_tk.py --text", "watch_order.py ORDER-001"])
async def test_examples_end_quietly_on_ctrl_c(shop: Shop, tmp_path: Path, example: str) -> None:
    name, *options = example.split()
    process = await asyncio.create_subprocess_exec(
        sys.executable, f"examples/{name}", *options, "--url", shop.proxy.url, cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env={**clean_environment(), "NO_PROXY": "*", "XDG_CACHE_HOME": str(tmp_path)},
    )  # fmt: skip
    await eventually(lambda: shop.proxy.open_streams)
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 10)
    assert (process.returncode, err.decode()) == (0, "")


# -- stand-alone checks -----------------------------------------------------------------------------------


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("script", ["crash_recovery", "comprehensive"])
async def test_stand_alone_check(script: str) -> None:
    status, out, err = await run(sys.executable, f"e2e/{script}.py", "--rounds", ROUNDS, within_s=3000)
    assert status == 0, out + err
    assert "PASSED" in out


@pytest.mark.timeout(60)
def test_the_checks_fail_when_something_is_lost(tmp_path: Path, running_server: SyncServer) -> None:
    """The count itself is checked: an event that the till never saw is a fault."""
    code = f"""
import asyncio, random, sys
from pathlib import Path
from e2e.client import chaos
from e2e.client.harness import open_shop
async def run():
    directory = Path({str(tmp_path)!r})
    chaos.SETTLE_S = 1
    async with open_shop(directory) as shop:
        c = chaos.Chaos(shop, directory, rng=random.Random(1))
        async def none(_): c._acknowledged[10**6] = "aaaaaaaa.1"
        verdict = await c.run(1, {{"none": none}}, progress=print)
    print(verdict.faults)
    sys.exit(0 if len(verdict.faults) == 2 else 1)
asyncio.run(run())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
