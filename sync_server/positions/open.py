"""The configured position store."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sync_server.positions.base import PositionStore
from sync_server.positions.sqlite import SQLitePositions
from sync_server.settings import LogSection

__all__ = ["open_positions"]


@asynccontextmanager
async def open_positions(settings: LogSection) -> AsyncIterator[PositionStore]:
    """The store beside the event log that *settings* name. It connects when it is first used."""
    store = _store_of(settings)
    try:
        yield store
    finally:
        await store.aclose()


def _store_of(settings: LogSection) -> PositionStore:
    if settings.store == "sqlite":
        path = settings.sqlite.path
        return SQLitePositions(path.with_name(f"{path.stem}.positions{path.suffix}"))
    from sync_server.positions.mongo import MongoPositions  # its drivers take 0.2 s to import

    mongodb = settings.mongodb
    return MongoPositions(mongodb.uri.get_secret_value(), mongodb.database, driver=mongodb.driver)
