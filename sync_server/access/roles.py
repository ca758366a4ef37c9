"""Roles: names for sets of permissions, and what a caller's claims come to.

A role says what may be done; binding says on what: a bay's kiosk is a ``kiosk`` bound to ``bayID=B1``. The
configuration replaces single roles of the default table or adds some. Source: docs/security.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from sync_core.domain.command import Domain
from sync_core.labels import person_label, role_label
from sync_server.access.rights import Rights
from sync_server.access_sections import AccessSection
from sync_server.permissions import DEFAULT_ROLES, EVERYTHING, known_permissions

__all__ = ["Roles", "roles_of"]


_UNBOUND: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Roles:
    """The table in force. *everything* is what ``*`` stands for."""

    table: Mapping[str, frozenset[str]]
    everything: frozenset[str]

    @classmethod
    def of(cls, domain: Domain, configured: Mapping[str, Iterable[str]] | None = None) -> "Roles":
        """The default table with the *configured* roles in place of theirs."""
        table = dict(DEFAULT_ROLES) | {name: frozenset(names) for name, names in (configured or {}).items()}
        return cls(table, known_permissions(domain) - {EVERYTHING})

    @lru_cache(maxsize=4096)  # noqa: B019 - one table for the life of the process; every stream asks once a second
    def rights(self, subject: str, roles: tuple[str, ...], bound: tuple[str, ...] = ()) -> Rights:
        """What *subject* with those *roles* may see and do; a role that is not in the table gives nothing."""
        permissions, labels = self._held(roles)
        return Rights(permissions, labels | {person_label(subject)}, frozenset(bound) if bound else _UNBOUND)

    @lru_cache(maxsize=1024)  # noqa: B019 - so that all who hold the same share these sets
    def _held(self, roles: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
        """The permissions and the labels of who has *roles*."""
        held = [role for role in roles if role in self.table]
        permissions: frozenset[str] = frozenset().union(*(self.table[role] for role in held))
        if EVERYTHING in permissions:
            permissions = self.everything
        return permissions, frozenset(role_label(role) for role in held)


def roles_of(section: AccessSection, domain: Domain) -> Roles:
    """The roles in force."""
    return Roles.of(domain, {name: role.permissions for name, role in section.roles.items()})
