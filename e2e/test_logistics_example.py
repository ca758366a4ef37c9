"""examples/logistics.py plays a transport: with a server of its own and its people's rights, and with one that runs."""

from pathlib import Path

from e2e.examples import played
from tests.mongod import External, ReplicaSet
from tests.servers import SyncServer

EXAMPLE = "logistics.py"


async def test_it_plays_the_whole_of_it_with_everybodys_rights() -> None:
    told = await played(EXAMPLE)
    for step in ("has the plate", "saw the van go", "m away", "sees it delivered", "1.20 over the norm", "all is well"):
        assert step in told


async def test_it_plays_with_a_server_on_mongodb(tmp_path: Path, mongod: ReplicaSet | External) -> None:
    name = f"logistics_{tmp_path.name[-24:]}".replace("-", "_")
    config = f'[log]\nstore = "mongodb"\n[log.mongodb]\nuri = "{mongod.uri}"\ndatabase = "{name[:38]}"\n'
    with SyncServer(tmp_path, config=config) as server:
        assert "all is well" in await played(EXAMPLE, "--url", server.base_url)
        assert "Traceback" not in server.log_text()
