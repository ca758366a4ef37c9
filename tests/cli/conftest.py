"""Places with a log on either store, and a running server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.places import FREE_PORT, Place
from tests.fixtures import MongoDatabase
from tests.server.publishing import CONFIG
from tests.servers import SyncServer


@pytest.fixture
def here(tmp_path: Path) -> Place:
    return Place(tmp_path, FREE_PORT)


@pytest.fixture(params=["sqlite", "mongodb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """The same for either store."""
    if request.param == "sqlite":
        return Place(tmp_path, FREE_PORT)
    database: MongoDatabase = request.getfixturevalue("mongodb_database")
    return Place(
        tmp_path,
        FREE_PORT
        | {
            "SYNC_LOG__STORE": "mongodb",
            "SYNC_LOG__MONGODB__URI": database.uri,
            "SYNC_LOG__MONGODB__DATABASE": database.name,
        },
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SyncServer]:
    with SyncServer(tmp_path / "server", config=CONFIG + "[server]\ndrain_s = 1\n") as server:
        yield server
