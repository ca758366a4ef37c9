"""The contract, on each store and with each driver."""

from pathlib import Path
from typing import ClassVar

import pytest

from sync_server.log.base import EventLog
from sync_server.log.mongo import MongoLog
from sync_server.log.mongo_driver import Driver
from sync_server.log.open import new_epoch
from sync_server.log.sqlite import SQLiteLog
from tests.conftest import MongoDatabase
from tests.contract.event_log import EventLogContract, Open


class TestSQLite(EventLogContract):
    """One process: its writers share the log object, and further objects only read."""

    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.path = tmp_path / "log.db"

    def make(self) -> EventLog:
        return SQLiteLog(self.path, new_epoch=new_epoch, exclusive=False)

    async def writers(self, count: int, opened: Open) -> list[EventLog]:
        return [await opened()] * count


class MongoContract(EventLogContract):
    driver: ClassVar[Driver]

    @pytest.fixture(autouse=True)
    def _database(self, mongodb_database: MongoDatabase) -> None:
        self.database = mongodb_database

    def make(self) -> EventLog:
        return MongoLog(self.database.uri, self.database.name, new_epoch=new_epoch, driver=self.driver)

    async def writers(self, count: int, opened: Open) -> list[EventLog]:
        return [await opened() for _ in range(count)]


class TestMongoDBThroughPyMongo(MongoContract):
    driver = "pymongo"


class TestMongoDBThroughMotor(MongoContract):
    driver = "motor"
