"""examples/order_session.py plays a cart's day: with a server of its own, with rights, and with one that runs."""

from pathlib import Path

from e2e.examples import played
from tests.servers import SyncServer

EXAMPLE = "order_session.py"


async def test_it_plays_the_whole_of_it_with_a_server_of_its_own() -> None:
    told = await played(EXAMPLE)
    for step in ("ann has an active session here", "it is open at till-1 too", "shows both", "in cash", "all is well"):
        assert step in told


async def test_it_plays_with_a_server_that_runs(tmp_path: Path) -> None:
    with SyncServer(tmp_path) as server:
        assert "all is well" in await played(EXAMPLE, "--url", server.base_url)
