"""The two MongoDB drivers behind one face: PyMongo's AsyncMongoClient and Motor.

They differ in which calls are awaitable (Motor awaits ``start_session`` but neither ``start_transaction`` nor
``aggregate`` nor ``watch``); ``settle`` takes either. Their errors are PyMongo's in both cases, and are
translated here, once. Codes and labels: eventlog-evidence.md, MongoDB's error_codes.yml.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from pymongo import AsyncMongoClient
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
)

from sync_server.log.base import LogError, LogMisconfigured, LogUnavailable, TransientFailure, WriteConflict

__all__ = [
    "Driver",
    "answering",
    "check_cancelled",
    "open_client",
    "settle",
    "short",
    "translate",
    "translated",
    "unavailable",
    "unknown_commit",
]

Driver = Literal["pymongo", "motor"]

# Longer than an election with the settings of docs (2 to 3 s), shorter than a caller's patience.
_OPTIONS: dict[str, Any] = {
    "serverSelectionTimeoutMS": 5000,
    "connectTimeoutMS": 1000,
    "heartbeatFrequencyMS": 1000,
    "socketTimeoutMS": 10000,
    "appname": "order-sync",
    "tz_aware": True,
}

_WRITE_CONFLICT = 112
# Shutting down, stepping down, interrupted, killed session, lock and time limits: gone in a moment.
_PASSING = frozenset({24, 50, 64, 89, 91, 189, 246, 251, 262, 290, 10107, 11600, 11601, 11602, 13435, 13436})


def open_client(driver: Driver, uri: str) -> Any:
    """A client that connects when it is first used. Raises LogMisconfigured for a URI that cannot work."""
    try:
        if driver == "motor":
            try:
                from motor.motor_asyncio import AsyncIOMotorClient
            except ImportError:
                raise LogMisconfigured(
                    "[log.mongodb] driver: Motor is not installed; pip install 'order-sync[motor]', or use "
                    'driver = "pymongo".'
                ) from None
            return AsyncIOMotorClient(uri, **_OPTIONS)
        return AsyncMongoClient(uri, **_OPTIONS)
    except (InvalidURI, ConfigurationError, ValueError, OSError) as exc:  # the last: files that it names
        raise LogMisconfigured(f"[log.mongodb] uri: {exc}") from exc


async def settle(result: Any) -> Any:
    """*result*, awaited where this driver wants that."""
    return await result if inspect.isawaitable(result) else result


def check_cancelled() -> None:
    """Raise CancelledError in a task that is being cancelled.

    PyMongo sends through asyncio.wait_for, which swallows a cancellation that comes together with its result
    (CPython gh-86296, mended in 3.12). A task that loops over the driver would go on for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def translate(error: PyMongoError) -> LogError | None:
    """What *error* means for the log; None for a fault that repeating does not change."""
    if isinstance(error, OperationFailure) and error.code == _WRITE_CONFLICT:
        return WriteConflict(str(error))
    if isinstance(error, ConnectionFailure | WaitQueueTimeoutError):
        return LogUnavailable(f"MongoDB does not answer: {short(error)}")
    if error.has_error_label("TransientTransactionError"):
        return TransientFailure(short(error))
    if isinstance(error, OperationFailure) and error.code in _PASSING:
        return TransientFailure(short(error))
    return None


def unavailable(error: PyMongoError) -> LogUnavailable:
    """*error* outside of transactions, where nothing is repeated."""
    return LogUnavailable(f"MongoDB cannot be used now: {short(error)}")


def unknown_commit(error: PyMongoError) -> bool:
    """Whether the commit that failed with *error* may have taken effect."""
    return error.has_error_label("UnknownTransactionCommitResult")


def short(error: PyMongoError) -> str:
    """What *error* says, without the topology and the reply that some carry along."""
    return str(error).split(", full error", 1)[0].split(", Topology Description", 1)[0][:300]


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """In a transaction: the driver's errors become the log's; what repeating does not change passes through."""
    try:
        yield
    except PyMongoError as exc:
        error = translate(exc)
        if error is None:
            raise
        raise error from exc


@asynccontextmanager
async def answering() -> AsyncIterator[None]:
    """Elsewhere: whatever the driver reports, MongoDB does not answer as it should."""
    try:
        yield
    except PyMongoError as exc:
        raise unavailable(exc) from exc
    check_cancelled()
