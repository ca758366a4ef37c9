"""examples/order_session.py plays a cart's day: with a server of its own, with rights, and with one that runs."""

import asyncio
import subprocess
import sys
from pathlib import Path

from tests.servers import SyncServer, clean_environment

SCRIPT = Path(__file__).parents[1] / "examples" / "order_session.py"
RUN_TIMEOUT_S = 100


async def played(*arguments: str, status: int = 0) -> str:
    """What it prints; it has to end with *status*."""

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(SCRIPT), *arguments], env=clean_environment(), capture_output=True, text=True,
            timeout=RUN_TIMEOUT_S,
        )  # fmt: skip

    done = await asyncio.to_thread(run)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


async def test_it_plays_the_whole_of_it_with_a_server_of_its_own() -> None:
    told = await played()
    for step in ("ann has an active session here", "it is open at till-1 too", "shows both", "in cash", "all is well"):
        assert step in told


async def test_it_plays_with_a_server_that_runs(tmp_path: Path) -> None:
    with SyncServer(tmp_path) as server:
        assert "all is well" in await played("--url", server.base_url)


async def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    server = SyncServer(tmp_path)  # its port is held, and nobody answers there
    try:
        assert "wrong: " in await played("--url", server.base_url, status=1)
    finally:
        server.close()
