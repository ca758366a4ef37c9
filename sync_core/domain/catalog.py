"""Everything there is: all kinds, all commands, all event types. What both sides start from.

One domain for each system, added up: whoever has a role in one of them only sees nothing of the others.
"""

from sync_core.domain import (
    assignments,
    bays,
    devices,
    drivers,
    fuel_logs,
    fuel_orders,
    fuel_trucks,
    fuelers,
    leaving,
    orders,
    products,
    queues,
    sessions,
    tabs,
    transactions,
    transport_orders,
    vehicles,
    waiting,
)
from sync_core.domain.command import Domain
from sync_core.events import INTEGRATION_TYPES

__all__ = ["CASHIER", "DOMAIN", "FUELING", "LOGISTICS", "REGISTRY", "SESSIONS", "SHOP"]

SHOP = Domain(
    kinds=[orders.Order, queues.Queue, bays.Bay],
    commands=[*orders.COMMANDS, *queues.COMMANDS, *waiting.COMMANDS, *bays.COMMANDS],
    event_types=[*INTEGRATION_TYPES, *orders.EVENT_TYPES, *queues.EVENT_TYPES, *bays.EVENT_TYPES],
)
"""Orders, queues and washing bays."""

CASHIER = Domain(
    kinds=[devices.Device, products.Catalog],
    commands=[*devices.COMMANDS, *products.COMMANDS],
    event_types=[*devices.EVENT_TYPES, *products.EVENT_TYPES],
)
"""Devices with a running clock and orders on them, and what things cost."""

LOGISTICS = Domain(
    kinds=[
        vehicles.Vehicle,
        vehicles.VehicleMark,
        drivers.Driver,
        transport_orders.TransportOrder,
        fuel_logs.FuelLog,
    ],
    commands=[
        *vehicles.COMMANDS,
        *drivers.COMMANDS,
        *transport_orders.COMMANDS,
        *assignments.COMMANDS,
        *fuel_logs.COMMANDS,
    ],
    event_types=[
        *vehicles.EVENT_TYPES,
        *drivers.EVENT_TYPES,
        *transport_orders.EVENT_TYPES,
        *fuel_logs.EVENT_TYPES,
    ],
)
"""Vehicles, their drivers, what they transport and what fuel they take. Positions are sync_server.positions."""

FUELING = Domain(
    kinds=[fuel_orders.FuelOrder, fuel_trucks.FuelTruck],
    commands=[*fuel_orders.COMMANDS, *fuelers.COMMANDS, *fuel_trucks.COMMANDS],
    event_types=[*fuel_orders.EVENT_TYPES, *fuel_trucks.EVENT_TYPES],
)
"""Fuel orders, who claims them, and the trucks that serve them."""

SESSIONS = Domain(
    kinds=[sessions.OrderSession, sessions.SessionSlot, tabs.Tab, transactions.Transaction],
    commands=[*sessions.COMMANDS, *leaving.COMMANDS, *tabs.COMMANDS],
    event_types=[*sessions.EVENT_TYPES, *tabs.EVENT_TYPES, *transactions.EVENT_TYPES],
)
"""A person's cart at any till, and what becomes of it."""

DOMAIN = SHOP + CASHIER + SESSIONS + LOGISTICS + FUELING

REGISTRY = INTEGRATION_TYPES.extended([t for t in DOMAIN.event_types if INTEGRATION_TYPES.get(t.name) is None])
"""All built-in event types."""
