"""The configured position store."""

from sync_server.positions.base import PositionStore
from sync_server.positions.sqlite import SQLitePositions
from sync_server.settings import LogSection

__all__ = ["open_positions"]


def open_positions(settings: LogSection) -> PositionStore:
    """The store beside the event log that *settings* name, not yet opened."""
    if settings.store == "sqlite":
        path = settings.sqlite.path
        return SQLitePositions(path.with_name(f"{path.stem}.positions{path.suffix}"))
    from sync_server.positions.mongo import MongoPositions  # its drivers take 0.2 s to import

    mongodb = settings.mongodb
    return MongoPositions(mongodb.uri.get_secret_value(), mongodb.database, driver=mongodb.driver)
