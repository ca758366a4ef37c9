"""Everything there is: all kinds, all commands, all event types. What both sides start from.

One domain for each system, added up: whoever has a role in one of them only sees nothing of the others.
"""

from sync_core.domain import bays, orders, queues, waiting
from sync_core.domain.command import Domain
from sync_core.events import INTEGRATION_TYPES

__all__ = ["DOMAIN", "REGISTRY", "SHOP"]

SHOP = Domain(
    kinds=[orders.Order, queues.Queue, bays.Bay],
    commands=[*orders.COMMANDS, *queues.COMMANDS, *waiting.COMMANDS, *bays.COMMANDS],
    event_types=[*INTEGRATION_TYPES, *orders.EVENT_TYPES, *queues.EVENT_TYPES, *bays.EVENT_TYPES],
)
"""Orders, queues and washing bays."""

DOMAIN = SHOP

REGISTRY = INTEGRATION_TYPES.extended([t for t in DOMAIN.event_types if INTEGRATION_TYPES.get(t.name) is None])
"""All built-in event types."""
