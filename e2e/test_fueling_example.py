"""examples/fueling.py plays a fuel order's day: with a server of its own, which it kills, and with one that runs."""

from pathlib import Path

from e2e.examples import played
from tests.servers import SyncServer

EXAMPLE = "fueling.py"


async def test_it_plays_the_whole_of_it_over_a_killed_server() -> None:
    told = await played(EXAMPLE)
    for step in (
        "has been claimed by somebody else",
        "acknowledge change 1 first",
        "is dead",
        "is back",
        "all is well",
    ):
        assert step in told
    assert "event=" not in told, "the client's warnings do not stand between the lines of the story"


async def test_it_plays_with_a_server_that_runs(tmp_path: Path) -> None:
    config = '[fueling]\noffer_to_all_after = "1s"\n'
    with SyncServer(tmp_path, config=config) as server:
        assert "all is well" in await played(EXAMPLE, "--url", server.base_url)
