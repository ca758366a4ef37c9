"""Open logs on every store, and how to get in their way."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
from pymongo import AsyncMongoClient

from sync_server.log.base import EventLog
from sync_server.log.mongo import MongoLog
from sync_server.log.mongo_driver import Driver
from sync_server.log.open import new_epoch
from sync_server.log.sqlite import SQLiteLog
from tests.fixtures import MongoDatabase, missing
from tests.log.writes import TENANT
from tests.mongod import External, ReplicaSet
from tests.mongod_binary import unavailable_reason
from tests.rounds import rounds as rounds

OpenMongo = Callable[..., Awaitable[MongoLog]]


class Store:
    """One store of a test: opens logs on it, and holds its tenant's head as another writer would."""

    def __init__(
        self,
        stack: AsyncExitStack,
        *,
        path: Path | None = None,
        database: MongoDatabase | None = None,
        mongod: ReplicaSet | External | None = None,
    ) -> None:
        self._stack = stack
        self._path = path
        self._database = database
        self._mongod = mongod

    async def open(self) -> EventLog:
        event_log: EventLog
        if self._path is not None:
            event_log = SQLiteLog(self._path, new_epoch=new_epoch, exclusive=False)
        else:
            assert self._database is not None
            event_log = MongoLog(*self._database, new_epoch=new_epoch)
        self._stack.push_async_callback(event_log.aclose)
        await event_log.open()
        return event_log

    @asynccontextmanager
    async def head_held(self) -> AsyncIterator[None]:
        """Nobody else can write to the tenant meanwhile."""
        if self._path is not None:
            db = sqlite3.connect(self._path, isolation_level=None)
            db.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                db.close()
            return
        assert self._database is not None
        async with AsyncMongoClient[dict[str, Any]](self._database.uri) as client, client.start_session() as session:
            await session.start_transaction()
            heads = client[self._database.name]["heads"]
            await heads.update_one({"_id": TENANT}, {"$inc": {"held": 1}}, session=session)
            yield

    @asynccontextmanager
    async def hanging(self) -> AsyncIterator[None]:
        """The store takes what it is told and does not answer meanwhile."""
        if self._mongod is None:
            async with self.head_held():  # SQLite waits for a lock as it waits for a disk
                yield
            return
        if isinstance(self._mongod, External):
            missing("Somebody else's mongod is not to be stopped.")
        self._mongod.nodes[0].stop_signal()
        try:
            yield
        finally:
            self._mongod.nodes[0].cont()


@pytest.fixture(params=["sqlite", "mongodb"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Each store in turn."""
    async with AsyncExitStack() as stack:
        if request.param == "sqlite":
            yield Store(stack, path=tmp_path / "log.db")
        else:
            database, mongod = (request.getfixturevalue(name) for name in ("mongodb_database", "mongod"))
            yield Store(stack, database=database, mongod=mongod)


@pytest.fixture(params=get_args(Driver))
def driver(request: pytest.FixtureRequest) -> Driver:
    """Each driver in turn."""
    found: Driver = request.param
    return found


@pytest.fixture
async def open_mongo() -> AsyncIterator[OpenMongo]:
    """Opens logs on a MongoDB: ``open_mongo(uri, database, driver)``; closes them afterwards."""
    async with AsyncExitStack() as stack:

        async def open_one(uri: str, database: str, driver: Driver = "pymongo") -> MongoLog:
            event_log = MongoLog(uri, database, new_epoch=new_epoch, driver=driver)
            stack.push_async_callback(event_log.aclose)
            await event_log.open()
            return event_log

        yield open_one


@pytest.fixture(scope="module")
def lone_mongod() -> Iterator[ReplicaSet]:
    """One node of the module's own, to be killed and started again."""
    if reason := unavailable_reason():
        missing(reason)
    with ReplicaSet(test_commands=True) as replicas:
        yield replicas


class FailPoint:
    """Makes commands of our logs fail on the test's mongod. Source: MongoDB's failCommand."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]]) -> None:
        self._client = client

    async def set(self, *commands: str, times: int | None = None, skip: int | None = None, **data: Any) -> None:
        """The next *times* of *commands* fail as *data* says; or all, or all after the first *skip*."""
        mode = "alwaysOn" if times is None else {"times": times}
        await self._client.admin.command(
            "configureFailPoint",
            "failCommand",
            mode=mode if skip is None else {"skip": skip},
            data={"failCommands": list(commands), "appName": "order-sync", **data},
        )

    async def off(self) -> None:
        await self._client.admin.command("configureFailPoint", "failCommand", mode="off")


@pytest.fixture
async def fail_point(mongod: ReplicaSet | External) -> AsyncIterator[FailPoint]:
    if not mongod.test_commands:
        missing("This MongoDB does not allow fail points (enableTestCommands).")
    async with AsyncMongoClient[dict[str, Any]](mongod.uri) as client:
        point = FailPoint(client)
        try:
            yield point
        finally:
            await point.off()
