"""Logs that an older or newer order-sync has written."""

import fcntl
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from sync_server.log.base import EventLog, LogMisconfigured, LogUnavailable
from sync_server.log.mongo_driver import Driver
from sync_server.log.mongo_schema import SCHEMA_VERSION as MONGO_SCHEMA
from sync_server.log.open import new_epoch
from sync_server.log.records import StoredEvent
from sync_server.log.sqlite import SQLiteLog
from sync_server.log.sqlite_schema import SCHEMA_VERSION
from tests.fixtures import MongoDatabase
from tests.log.changes import Change, all_documents
from tests.log.conftest import OpenMongo
from tests.log.writes import TENANT, commit, note, read_all, receipts, submission

# What schema_1.sql, a dump of a file of the first version, holds of the tenant; 1 was trimmed.
TIME_MS = 1_763_634_601_000
EPOCH = "k3f9a2c1"
EVENTS = [
    StoredEvent(2, TIME_MS, "status_update", ("orderID=ORDER-1",), "till-3#8f2c", "anna", '"data":{"text": "b"}}'),
    StoredEvent(3, TIME_MS, "status_update", (), None, "anna", '"data":{"text": "c"}}'),
    StoredEvent(
        4, TIME_MS + 1000, "custom.type-1", ("orderID=A 17/ب", "bayID=bay 2"), None, "badr",
        '"data":{"text":"طلب\\u001e🚗"}}',
    ),
]  # fmt: skip
SCHEMA_1 = Path(__file__).with_name("schema_1.sql").read_text(encoding="utf-8")


async def check_goes_on(event_log: EventLog) -> None:
    """The older log is all there, and takes documents."""
    assert await event_log.tenants() == ["other", TENANT]
    assert await event_log.bounds([TENANT]) == {TENANT: (EPOCH, 1, 4)}
    assert await read_all(event_log, after=1) == EVENTS
    (again,) = receipts(await commit(event_log, submission(note("b"), key="k")))
    assert (again.event_id, again.duplicate) == (f"{EPOCH}.2", True)
    assert await all_documents(event_log) == []
    committed = await commit(event_log, Change("x", ("a",)))
    assert [document.seq for document in await all_documents(event_log)] == [5]
    assert await read_all(event_log, after=1) == [*EVENTS, *committed.events]
    assert committed.events[0].reach is not None


# -- SQLite -----------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "log.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA_1)
    return path


@pytest.fixture
async def sqlite_log(path: Path) -> AsyncIterator[SQLiteLog]:
    async with AsyncExitStack() as stack:
        event_log = SQLiteLog(path, new_epoch=new_epoch)
        stack.push_async_callback(event_log.aclose)
        yield event_log


def tables(path: Path) -> dict[str, Any]:
    """What the file is made of, and its version."""
    with closing(sqlite3.connect(path)) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master ORDER BY name")]
        columns = {name: db.execute(f"PRAGMA table_info({name})").fetchall() for name in names}
        return columns | {"version": db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()}


async def test_a_file_of_the_first_version_goes_on(sqlite_log: SQLiteLog, path: Path) -> None:
    await sqlite_log.open()
    await check_goes_on(sqlite_log)
    assert tables(path)["version"] == (str(SCHEMA_VERSION),)


async def test_a_migrated_file_is_made_as_a_new_one(sqlite_log: SQLiteLog, path: Path, tmp_path: Path) -> None:
    await sqlite_log.open()
    new = SQLiteLog(tmp_path / "new.db", new_epoch=new_epoch)
    await new.open()
    await new.aclose()
    assert tables(path) == tables(tmp_path / "new.db")


async def test_a_migration_that_fails_leaves_the_file_as_it_was(sqlite_log: SQLiteLog, path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE documents (somebody, elses)")
    before = tables(path)
    with pytest.raises(LogUnavailable):
        await sqlite_log.open()
    assert tables(path) == before


async def test_a_first_version_that_a_full_disk_left_without_its_tables_is_completed(
    sqlite_log: SQLiteLog, path: Path
) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript("DROP TABLE heads; DROP TABLE events; DROP TABLE outcomes")
    await sqlite_log.open()
    await commit(sqlite_log, Change("x", ("a",)))


async def test_a_log_that_an_older_server_is_serving_is_not_migrated_under_it(path: Path) -> None:
    before = tables(path)
    upkeep = SQLiteLog(path, new_epoch=new_epoch, exclusive=False)
    with path.with_name(path.name + ".lock").open("ab") as serving:
        fcntl.flock(serving, fcntl.LOCK_EX)
        with pytest.raises(LogMisconfigured, match="in use by another sync-server"):
            await upkeep.open()
    assert tables(path) == before
    await upkeep.open()  # it has ended
    await upkeep.aclose()
    assert tables(path) != before


async def test_a_newer_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT)")
        db.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION + 1),))
        db.commit()
    before = tables(path)
    event_log = SQLiteLog(path, new_epoch=new_epoch)
    with pytest.raises(LogMisconfigured, match="newer order-sync"):
        await event_log.open()
    await event_log.aclose()
    assert tables(path) == before


# -- MongoDB ----------------------------------------------------------------------------------------


def put_schema_1(database: MongoDatabase) -> None:
    """The same log as the first version had it in MongoDB."""
    with MongoClient[dict[str, Any]](database.uri) as client:
        db = client[database.name]
        db["meta"].insert_one({"_id": "schema", "version": 1})
        head = {"epoch": EPOCH, "time_ms": TIME_MS + 1000, "groups": 3}
        db["heads"].insert_many(
            [
                {"_id": TENANT, "tenant": TENANT, "seq": 4, "floor": 1, **head},
                {"_id": "other", "tenant": "other", "seq": 0, "floor": 0, **head},
            ]
        )
        db["events"].insert_many(
            [
                {"_id": {"tenant": TENANT, "seq": e.seq}, "time_ms": e.time_ms, "type": e.event_type, "tags": e.tags,
                 "client": e.client_id, "principal": e.principal, "tail": e.tail, "group": b"x"}
                for e in EVENTS
            ]
        )  # fmt: skip
        db["outcomes"].insert_one(
            {"tenant": TENANT, "principal": "anna", "key": "k", "fingerprint": "f", "result": f"{EPOCH}.2",
             "expires_ms": 2**50}
        )  # fmt: skip
        db["outcomes"].create_index([("tenant", 1), ("principal", 1), ("key", 1)], unique=True)
        db["outcomes"].create_index([("tenant", 1), ("expires_ms", 1)])


async def test_a_database_of_the_first_version_goes_on(
    open_mongo: OpenMongo, mongodb_database: MongoDatabase, driver: Driver
) -> None:
    put_schema_1(mongodb_database)
    await check_goes_on(await open_mongo(*mongodb_database, driver))
    with MongoClient[dict[str, Any]](mongodb_database.uri) as client:
        assert client[mongodb_database.name]["meta"].find_one() == {"_id": "schema", "version": MONGO_SCHEMA}


async def test_a_newer_database_is_refused_and_left_as_it_is(
    open_mongo: OpenMongo, mongodb_database: MongoDatabase
) -> None:
    with MongoClient[dict[str, Any]](mongodb_database.uri) as client:
        db = client[mongodb_database.name]
        db["meta"].insert_one({"_id": "schema", "version": MONGO_SCHEMA + 1})
        with pytest.raises(LogMisconfigured, match="newer order-sync"):
            await open_mongo(*mongodb_database)
        assert db.list_collection_names() == ["meta"]
        assert db["meta"].find_one() == {"_id": "schema", "version": MONGO_SCHEMA + 1}
