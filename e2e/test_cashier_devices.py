"""The evening of examples/cashier_devices.py: three tills over WebSocket, server processes on each store."""

from pathlib import Path

import pytest

from e2e.examples import played
from e2e.test_kills import config_for
from tests.fixtures import MongoDatabase
from tests.servers import SyncServer

EXAMPLE = "cashier_devices.py"
SAME = "All tills show the same, and so does the server."


@pytest.mark.parametrize("store", ["sqlite", "mongodb", "mongodb, two processes"])
async def test_the_evening_ends_with_the_same_picture_everywhere(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    config = ""
    if store != "sqlite":
        database: MongoDatabase = request.getfixturevalue("mongodb_database")
        config = config_for(database.uri, database.name)
    if store.endswith("processes"):
        config += "[server]\nworkers = 2\n"
    with SyncServer(tmp_path, config=config) as server:
        for _ in range(2):  # once more, with what the first evening left
            told = await played(EXAMPLE, "--url", server.base_url)
            for kind in ("device_transferred", "order_modified", "CONFLICT", "DEVICE_NOT_FOUND", "prices_updated"):
                assert kind in told
            assert told.splitlines()[-2:] == [SAME, "all is well"]
        assert "Traceback" not in server.log_text()


async def test_it_brings_its_own_server() -> None:
    assert SAME in await played(EXAMPLE)
