"""What the contracts ask of each store's test class; a class per store and driver."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import ClassVar

import pytest

from sync_server.log.base import EventLog
from sync_server.log.mongo import MongoLog
from sync_server.log.mongo_driver import Driver
from sync_server.log.open import new_epoch
from sync_server.log.sqlite import SQLiteLog
from tests.fixtures import MongoDatabase

Open = Callable[[], Awaitable[EventLog]]


class StoreTests(ABC):
    """Base of all contracts."""

    @abstractmethod
    def make(self) -> EventLog:
        """Another log object on the test's own file or database, not yet opened."""

    @abstractmethod
    async def writers(self, count: int, opened: Open) -> list[EventLog]:
        """Logs through which *count* writers may write at the same time."""

    @pytest.fixture
    async def opened(self) -> AsyncIterator[Open]:
        """Opens further log objects; all are closed afterwards."""
        async with AsyncExitStack() as stack:

            async def open_one() -> EventLog:
                event_log = self.make()
                stack.push_async_callback(event_log.aclose)
                await event_log.open()
                return event_log

            yield open_one

    @pytest.fixture
    async def event_log(self, opened: Open) -> EventLog:
        return await opened()


class OnSQLite(StoreTests):
    """One process: its writers share the log object, and further objects only read."""

    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.path = tmp_path / "log.db"

    def make(self) -> EventLog:
        return SQLiteLog(self.path, new_epoch=new_epoch, exclusive=False)

    async def writers(self, count: int, opened: Open) -> list[EventLog]:
        return [await opened()] * count


class OnMongoDB(StoreTests):
    driver: ClassVar[Driver] = "pymongo"

    @pytest.fixture(autouse=True)
    def _database(self, mongodb_database: MongoDatabase) -> None:
        self.database = mongodb_database

    def make(self) -> EventLog:
        return MongoLog(self.database.uri, self.database.name, new_epoch=new_epoch, driver=self.driver)

    async def writers(self, count: int, opened: Open) -> list[EventLog]:
        return [await opened() for _ in range(count)]


class OnMongoDBThroughMotor(OnMongoDB):
    driver = "motor"
