"""examples/fueling.py plays a fuel order's day: with a server of its own, which it kills, and with one that runs."""

import asyncio
import subprocess
import sys
from pathlib import Path

from tests.servers import SyncServer, clean_environment

SCRIPT = Path(__file__).parents[1] / "examples" / "fueling.py"
RUN_TIMEOUT_S = 100


async def played(*arguments: str) -> str:
    """What it prints; it has to end well."""

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(SCRIPT), *arguments], env=clean_environment(), capture_output=True, text=True,
            timeout=RUN_TIMEOUT_S,
        )  # fmt: skip

    done = await asyncio.to_thread(run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


async def test_it_plays_the_whole_of_it_over_a_killed_server() -> None:
    told = await played()
    for step in (
        "has been claimed by somebody else",
        "acknowledge change 1 first",
        "is dead",
        "is back",
        "all is well",
    ):
        assert step in told


async def test_it_plays_with_a_server_that_runs(tmp_path: Path) -> None:
    config = '[fueling]\noffer_to_all_after = "1s"\n'
    with SyncServer(tmp_path, config=config) as server:
        assert "all is well" in await played("--url", server.base_url)


async def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    server = SyncServer(tmp_path)  # its port is held, and nobody answers there
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(SCRIPT), "--url", server.base_url, env=clean_environment(),
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, said = await process.communicate()
        assert process.returncode == 1
        assert said.startswith(b"wrong: ")
        assert b"Traceback" not in said
    finally:
        server.close()
