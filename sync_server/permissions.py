"""The names of all permissions, and which of them each role has by default. Source: docs/security.md."""

from collections.abc import Mapping

from sync_core.domain.command import Domain

__all__ = [
    "CHECK_TILL",
    "DEFAULT_ROLES",
    "EVERYTHING",
    "MANAGE_ACCESS",
    "PUBLISH_EVENTS",
    "VIEW_EVENTS",
    "VIEW_METRICS",
    "known_permissions",
]

VIEW_EVENTS = "view_events"
"""For events that tell of no document."""
PUBLISH_EVENTS = "publish_events"
VIEW_METRICS = "view_metrics"
MANAGE_ACCESS = "manage_access"
CHECK_TILL = "check_till"
"""For a till's own key: to see whose sessions are active at the till that it is bound to."""
EVERYTHING = "*"

_VIEW = frozenset({"view_orders", "view_queues", "view_bays", VIEW_EVENTS})
_CAFE = frozenset({"view_devices", "view_catalog"})
_ROAD = frozenset({VIEW_EVENTS, "view_vehicles", "view_transport_orders", "view_drivers", "view_fuel_logs"})
_COUNTER = frozenset({"create_orders", "edit_orders", "change_order_stage", "take_payments", "use_queues", "call_next"})
_FUELING = frozenset({"view_fuel_orders", "view_fuel_trucks"})
_CART = frozenset({"view_order_sessions", "use_order_sessions", "view_tabs", "use_tabs", "view_transactions"})

DEFAULT_ROLES: Mapping[str, frozenset[str]] = {
    "viewer": _VIEW | _CAFE,
    "cashier": _VIEW | _COUNTER | _CAFE | _CART | {"use_devices", "manage_devices"},
    "bay": _VIEW | {"run_bays", "call_next"},
    "kiosk": _VIEW | {"create_orders", "use_queues"},
    "csr": _VIEW | _COUNTER | _CART | {"delete_orders", "edit_fuel_order", "access_fueler_dashboard"} | _FUELING,
    "till": frozenset({VIEW_EVENTS, CHECK_TILL}),
    "fueler": frozenset({VIEW_EVENTS, "access_fueler_dashboard", "fuel"}) | _FUELING,
    "dispatcher": _ROAD | {"dispatch", "drive", "request_transport"},
    "driver": _ROAD | {"drive"},
    "client": frozenset({"view_orders", "view_transport_orders", "request_transport"}),
    "integrator": frozenset({PUBLISH_EVENTS, VIEW_EVENTS}),
    "admin": frozenset({EVERYTHING}),
}
"""What each role may do, unless the configuration says otherwise."""


def known_permissions(domain: Domain) -> frozenset[str]:
    """All permissions there are: a role that names another one is a typing error."""
    own = {PUBLISH_EVENTS, VIEW_METRICS, MANAGE_ACCESS, VIEW_EVENTS, CHECK_TILL, EVERYTHING}
    of_domain = {command.permission for command in domain.commands}
    of_kinds = {kind.view_permission for kind in domain.kinds.values()}
    return frozenset(own | of_domain | of_kinds).union(*DEFAULT_ROLES.values())
