"""The shop."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from e2e.client.harness import CONFIG, HEARTBEAT_S, Shop, open_shop, shop_before
from tests.mongod import External, ReplicaSet
from tests.servers import SyncServer


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncServer]:
    """One server for all tests that leave it alive. Its log holds the events of the tests before."""
    config = CONFIG.format(heartbeat_s=HEARTBEAT_S, max_age_s=600, max_events=1_000_000)
    with SyncServer(tmp_path_factory.mktemp("server"), config=config) as server:
        yield server


@pytest.fixture
async def shop(running_server: SyncServer, tmp_path: Path) -> AsyncIterator[Shop]:
    """A server with a heartbeat of a second, behind a proxy of the test's own that can misbehave."""
    async with shop_before(running_server, tmp_path) as opened:
        yield opened


@pytest.fixture(scope="session")
def running_mongodb_server(
    mongod: ReplicaSet | External, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SyncServer]:
    """As ``running_server``, with its log in MongoDB."""
    config = CONFIG.format(heartbeat_s=HEARTBEAT_S, max_age_s=600, max_events=1_000_000)
    log = f'[log]\nstore = "mongodb"\n[log.mongodb]\nuri = "{mongod.uri}"\ndatabase = "e2e_{uuid.uuid4().hex[:12]}"\n'
    with SyncServer(tmp_path_factory.mktemp("server"), config=config + log) as server:
        yield server


@pytest.fixture(params=["sqlite", "mongodb"])
async def any_shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    """As ``shop``, once for each store."""
    name = "running_server" if request.param == "sqlite" else "running_mongodb_server"
    async with shop_before(request.getfixturevalue(name), tmp_path) as opened:
        yield opened


@pytest.fixture
def order_id() -> str:
    """Of an order that no other test has."""
    return f"O-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def own_shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """A shop whose server may be killed, and whose log is empty."""
    async with open_shop(tmp_path) as opened:
        yield opened
