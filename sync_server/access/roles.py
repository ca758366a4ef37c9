"""Roles: names for sets of permissions, and what a caller's claims come to.

A role says what may be done; binding says on what: a bay's kiosk is a ``kiosk`` bound to ``bayID=B1``. The table
here is the default; the configuration replaces single roles or adds some. Source: docs/security.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sync_core.domain.command import Domain
from sync_server.access.rights import VIEW_EVENTS, Rights

__all__ = ["DEFAULT_ROLES", "MANAGE_ACCESS", "PUBLISH_EVENTS", "VIEW_METRICS", "Roles", "known_permissions"]

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
    "kiosk": frozenset({"view_orders", "view_queues", "view_bays", VIEW_EVENTS, "create_orders", "use_queues"}),
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


@dataclass(frozen=True, slots=True)
class Roles:
    """The table in force. *everything* is what ``*`` stands for."""

    table: Mapping[str, frozenset[str]]
    everything: frozenset[str]

    @classmethod
    def of(cls, domain: Domain, configured: Mapping[str, Iterable[str]] | None = None) -> "Roles":
        """The default table with the *configured* roles in place of theirs."""
        table = dict(DEFAULT_ROLES) | {name: frozenset(names) for name, names in (configured or {}).items()}
        return cls(table, known_permissions(domain) - {EVERYTHING})

    def rights(self, *, subject: str, roles: Iterable[str], bound: Iterable[str] = ()) -> Rights:
        """What somebody with those *roles* may see and do; a role that is not in the table gives nothing."""
        held = [role for role in roles if role in self.table]
        permissions: frozenset[str] = frozenset().union(*(self.table[role] for role in held))
        if EVERYTHING in permissions:
            permissions = self.everything
        labels = frozenset({f"user:{subject}", *(f"role:{role}" for role in held)})
        return Rights(permissions, labels, frozenset(bound))
