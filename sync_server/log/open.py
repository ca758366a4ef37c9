"""The configured event log."""

import os

from sync_core.cursor import epoch_from_bytes
from sync_server.log.base import EventLog
from sync_server.log.sqlite import SQLiteLog
from sync_server.settings import LogSection

__all__ = ["new_epoch", "open_log"]


def new_epoch() -> str:
    """A random epoch."""
    return epoch_from_bytes(os.urandom(5))


def open_log(settings: LogSection, *, exclusive: bool = True, check_seal: bool = True) -> EventLog:
    """The store that *settings* name, not yet opened.

    *exclusive* takes a SQLite file's lock for life; *check_seal* refuses a SQLite log that has gone back.
    """
    if settings.store == "sqlite":
        return SQLiteLog(settings.sqlite.path, new_epoch=new_epoch, exclusive=exclusive, check_seal=check_seal)
    from sync_server.log.mongo import MongoLog  # its drivers take 0.2 s to import

    return MongoLog(
        settings.mongodb.uri.get_secret_value(),
        settings.mongodb.database,
        new_epoch=new_epoch,
        driver=settings.mongodb.driver,
    )
