"""The client of order-sync: real-time events for tills, kiosks and washing bays that survives their crashes."""

import importlib
from typing import TYPE_CHECKING, Any

from sync_client.attempts import HandlerPolicy
from sync_client.backoff import Backoff
from sync_client.client import StateChange, SyncClient
from sync_client.errors import (
    CacheLocked,
    CacheUnwritable,
    ClientError,
    Closed,
    CommandFailed,
    ConfigurationError,
    InvalidCommand,
    NoReplica,
    OutboxFull,
)
from sync_client.event import Event
from sync_client.health import Health, Metrics
from sync_client.intake import Resync
from sync_client.records import Transaction
from sync_client.states import State

if TYPE_CHECKING:
    from sync_client.conflicts import Conflict
    from sync_client.pending import OutboxEntry
    from sync_client.replica import Entry
    from sync_client.sent import Sent

__all__ = [
    "Backoff",
    "CacheLocked",
    "CacheUnwritable",
    "ClientError",
    "Closed",
    "CommandFailed",
    "ConfigurationError",
    "Conflict",
    "Entry",
    "Event",
    "HandlerPolicy",
    "Health",
    "InvalidCommand",
    "Metrics",
    "NoReplica",
    "OutboxEntry",
    "OutboxFull",
    "Resync",
    "Sent",
    "State",
    "StateChange",
    "SyncClient",
    "Transaction",
]

_LATER = {"Conflict": "conflicts", "Entry": "replica", "OutboxEntry": "pending", "Sent": "sent"}
"""They bring the domain along, whose import takes a while, and are for programs with ``replica=True``."""


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f"sync_client.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
