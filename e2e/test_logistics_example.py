"""examples/logistics.py plays a transport: with a server of its own and its people's rights, and with one that runs."""

import asyncio
import subprocess
import sys
from pathlib import Path

from tests.mongod import External, ReplicaSet
from tests.servers import SyncServer, clean_environment

SCRIPT = Path(__file__).parents[1] / "examples" / "logistics.py"
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


async def test_it_plays_the_whole_of_it_with_everybodys_rights() -> None:
    told = await played()
    for step in ("has the plate", "saw the van go", "m away", "sees it delivered", "1.20 over the norm", "all is well"):
        assert step in told


async def test_it_plays_with_a_server_on_mongodb(tmp_path: Path, mongod: ReplicaSet | External) -> None:
    name = f"logistics_{tmp_path.name[-24:]}".replace("-", "_")
    config = f'[log]\nstore = "mongodb"\n[log.mongodb]\nuri = "{mongod.uri}"\ndatabase = "{name[:38]}"\n'
    with SyncServer(tmp_path, config=config) as server:
        assert "all is well" in await played("--url", server.base_url)
        assert "Traceback" not in server.log_text()
