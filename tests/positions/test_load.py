"""Many vehicles before many maps, some of them slow: a short version of ``python -m bench tracking``."""

import asyncio
import resource
from pathlib import Path

import httpx2
import pytest

from bench.tracking import drive, furnish
from tests.servers import SyncServer

VEHICLES, MAPS, SLOW, SECONDS = 200, 20, 4, 5


def rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def head(server: SyncServer) -> int:
    """How many events the log has had."""
    return int(httpx2.get(f"{server.base_url}/api/v1/sync/poll", trust_env=False).json()["head"].rpartition(".")[2])


@pytest.mark.alone
def test_every_map_shows_the_newest_of_each_vehicle_at_its_own_pace(tmp_path: Path) -> None:
    config = '[positions]\nlog_interval = "2s"\n'
    with SyncServer(tmp_path, config=config) as server:
        furnish(server.port, VEHICLES)
        asyncio.run(drive(server.port, vehicles=VEHICLES, maps=MAPS, slow=SLOW, rounds=range(1, 3)))
        before_mb, before = rss_mb(server.process.pid), head(server)
        outcome = asyncio.run(drive(server.port, vehicles=VEHICLES, maps=MAPS, slow=SLOW, rounds=range(3, 3 + SECONDS)))
        assert rss_mb(server.process.pid) - before_mb < 30
        assert head(server) - before <= VEHICLES * ((outcome.lasted_s + outcome.behind_s) / 2 + 1)
        assert all(one.backwards == 0 for one in outcome.maps)
        assert "Traceback" not in server.log_text()
