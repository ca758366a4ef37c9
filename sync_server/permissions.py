"""The names of all permissions, and which of them each role has by default. Source: docs/security.md."""

from collections.abc import Mapping

from sync_core.domain.command import Domain

__all__ = [
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
EVERYTHING = "*"

_VIEW = frozenset({"view_orders", "view_queues", "view_bays", VIEW_EVENTS})
_COUNTER = frozenset({"create_orders", "edit_orders", "change_order_stage", "take_payments", "use_queues", "call_next"})

DEFAULT_ROLES: Mapping[str, frozenset[str]] = {
    "viewer": _VIEW,
    "cashier": _VIEW | _COUNTER,
    "bay": _VIEW | {"run_bays", "call_next"},
    "kiosk": _VIEW | {"create_orders", "use_queues"},
    "csr": _VIEW | _COUNTER | {"delete_orders", "edit_fuel_order", "view_fuel_orders"},
    "fueler": frozenset({VIEW_EVENTS, "access_fueler_dashboard", "view_fuel_orders", "fuel"}),
    "dispatcher": frozenset({VIEW_EVENTS, "view_vehicles", "view_transport_orders", "dispatch"}),
    "driver": frozenset({VIEW_EVENTS, "view_vehicles", "view_transport_orders", "drive"}),
    "client": frozenset({"view_orders", "view_transport_orders"}),
    "integrator": frozenset({PUBLISH_EVENTS, VIEW_EVENTS}),
    "admin": frozenset({EVERYTHING}),
}
"""What each role may do, unless the configuration says otherwise."""


def known_permissions(domain: Domain) -> frozenset[str]:
    """All permissions there are: a role that names another one is a typing error."""
    own = {PUBLISH_EVENTS, VIEW_METRICS, MANAGE_ACCESS, VIEW_EVENTS, EVERYTHING}
    of_domain = {command.permission for command in domain.commands}
    of_kinds = {kind.view_permission for kind in domain.kinds.values()}
    return frozenset(own | of_domain | of_kinds).union(*DEFAULT_ROLES.values())
