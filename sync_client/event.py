"""An event as handlers get it."""

import json
from functools import cached_property
from typing import Any

from sync_client.records import Mark, Record
from sync_core.filters import ENTITY_KEYS

__all__ = ["CONTROL_TYPES", "Event", "tags_of"]

CONTROL_TYPES = frozenset({"connected", "heartbeat", "caught_up", "goodbye", "reset", "polling_data_refresh"})
"""What is about the connection, not about the shop. Only handlers that ask for it by name get it."""


class Event:
    """One event; what its envelope says, read when it is asked for.

    ``id`` is None for an ephemeral event. ``source`` is "sse", "ws" or "polling".
    """

    __slots__ = ("__dict__", "_record")

    def __init__(self, record: Record) -> None:
        self._record = record

    @property
    def id(self) -> str | None:
        return self._record.id

    @property
    def event_type(self) -> str:
        return self._record.event_type

    @property
    def source(self) -> str:
        return self._record.source

    @property
    def received_at_ms(self) -> int:
        """Milliseconds since the epoch, by this machine's clock."""
        return self._record.received_at_ms

    @property
    def n(self) -> int:
        """Its place in the order of arrival on this machine."""
        return self._record.n

    @property
    def is_processed(self) -> bool:
        """Whether it had been handed out when it was read: so with ``recent()``."""
        return self._record.mark is not Mark.WAITING

    @property
    def is_acknowledged(self) -> bool:
        """Whether ``acknowledge`` had been called for it when it was read."""
        return self._record.acknowledged

    @property
    def envelope_json(self) -> str:
        """The envelope as it came."""
        return self._record.envelope

    @cached_property
    def envelope(self) -> dict[str, Any]:
        """The whole envelope."""
        document: dict[str, Any] = json.loads(self._record.envelope)
        return document

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.envelope.get("data", {})
        return data

    @property
    def timestamp(self) -> str:
        """ISO 8601, by the server's clock."""
        return str(self.envelope.get("timestamp", ""))

    @property
    def order_id(self) -> str | None:
        return self.envelope.get("orderID")

    @property
    def client_id(self) -> str | None:
        """The instance that caused it."""
        return self.envelope.get("clientID")

    @property
    def version(self) -> int | None:
        return self.envelope.get("version")

    @property
    def entities(self) -> dict[str, str]:
        """What it is about: key to id."""
        return {key: self.envelope[key] for key in ENTITY_KEYS if key in self.envelope}

    def __repr__(self) -> str:
        return f"Event(id={self.id!r}, event_type={self.event_type!r})"


def tags_of(envelope: dict[str, Any]) -> list[str]:
    """The tags by which filters know the event."""
    return [f"{key}={envelope[key]}" for key in ENTITY_KEYS if key in envelope]
