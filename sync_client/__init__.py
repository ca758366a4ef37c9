"""The client of order-sync: real-time events for tills, kiosks and washing bays that survives their crashes."""

from sync_client.attempts import HandlerPolicy
from sync_client.backoff import Backoff
from sync_client.client import StateChange, SyncClient
from sync_client.errors import CacheLocked, ClientError, Closed, ConfigurationError
from sync_client.event import Event
from sync_client.health import Health, Metrics
from sync_client.intake import Resync
from sync_client.records import Transaction
from sync_client.states import State

__all__ = [
    "Backoff",
    "CacheLocked",
    "ClientError",
    "Closed",
    "ConfigurationError",
    "Event",
    "HandlerPolicy",
    "Health",
    "Metrics",
    "Resync",
    "State",
    "StateChange",
    "SyncClient",
    "Transaction",
]
