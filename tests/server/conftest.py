"""A running server on each store, one for all tests of commands: they make ids of their own."""

import os
import uuid
from collections.abc import Iterator

import pytest
from pymongo import MongoClient

from tests.mongod import External, ReplicaSet
from tests.server.shop import Shop
from tests.servers import SyncServer


@pytest.fixture(scope="session", params=["sqlite", "mongodb"])
def shop_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncServer]:
    """The server; in its log, at the end, there is no fault of ours."""
    directory = tmp_path_factory.mktemp(f"shop-{request.param}")
    if request.param == "sqlite":
        with SyncServer(directory) as server:
            yield server
            assert "Traceback" not in server.log_text()
        return
    mongod: ReplicaSet | External = request.getfixturevalue("mongod")
    name = f"test_{os.getpid()}_{uuid.uuid4().hex[:8]}"
    config = f'[log]\nstore = "mongodb"\n[log.mongodb]\nuri = "{mongod.uri}"\ndatabase = "{name}"\n'
    with SyncServer(directory, config=config) as server:
        yield server
        assert "Traceback" not in server.log_text()
    with MongoClient(mongod.uri) as client:  # type: MongoClient[dict[str, object]]
        client.drop_database(name)


@pytest.fixture(scope="session")
def shop(shop_server: SyncServer) -> Iterator[Shop]:
    """What a test does in the shop, on each store. One for all, since a client takes 40 ms to make."""
    with Shop(shop_server.base_url) as shop:
        yield shop
