"""What a caller may see, as a value, and what it takes to see an event or a document.

Rights are values because equal ones share work: readers with the same filter and the same shared rights are sent
the very same bytes. One rule judges everything that is shown, live and replayed, in lists, snapshots and answers:
``Rights.may_see``. Source: protocol.md 1 and 2.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import NamedTuple

from pydantic_core import to_json

from sync_core.domain.command import Domain
from sync_core.domain.document import Document
from sync_core.events import EventType
from sync_core.labels import PERSON, ROLE
from sync_core.problems import Forbidden
from sync_server.permissions import VIEW_EVENTS

__all__ = ["OPEN_RIGHTS", "VIEW_EVENTS", "Access", "AccessTable", "Rights"]

NOBODYS = ""
"""The permission for documents of a kind that this server does not know: no role has it."""


class Access(NamedTuple):
    """What it takes to see something: *permission*, and one label of its *audience* where it has one.

    Who is bound to entities sees it by one of *grants*, or by a label of its audience.
    """

    permission: str
    grants: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rights:
    """What a caller may see and do.

    *permissions* None: everything, whatever its audience; for a server without access control. *labels* are what
    audiences name (``role:csr``, ``user:12``). *bound*, where it is not empty, are the only entities (tags,
    ``orderID=X``) of which the caller sees anything, beside what its labels are addressed by.
    """

    permissions: frozenset[str] | None
    labels: frozenset[str] = frozenset()
    bound: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.permissions is None and self.bound:
            raise ValueError("who may see everything cannot be bound to entities: name the permissions")

    def allows(self, permission: str) -> bool:
        """Whether *permission* is among them."""
        return self.permissions is None or permission in self.permissions

    def require(self, permission: str) -> None:
        """Raises Forbidden without *permission*."""
        if not self.allows(permission):
            raise Forbidden(f"This needs the permission {permission}, which you do not have.")

    def sees_document(self, kind: type[Document], grants: tuple[str, ...], audience: tuple[str, ...]) -> bool:
        """Whether a document of *kind* with these *grants* and this *audience* may be shown."""
        return self.may_see(Access(kind.view_permission, grants, audience))

    def may_see(self, access: Access) -> bool:
        """Whether what has this *access* may be shown."""
        if self.permissions is None:
            return True
        if access.permission not in self.permissions:
            return False
        if not self.labels.isdisjoint(access.audience):
            return True
        # Without labels in its audience it is for everybody with the permission, but not for who is bound elsewhere.
        return not self.bound.isdisjoint(access.grants) if self.bound else not access.audience

    @property
    def personal(self) -> frozenset[str]:
        """The labels that name one person."""
        return frozenset(label for label in self.labels if label.startswith(PERSON))

    @property
    def roles(self) -> frozenset[str]:
        """The names of the roles that its labels tell of."""
        return frozenset(label.removeprefix(ROLE) for label in self.labels if label.startswith(ROLE))

    @property
    def shared(self) -> "Rights":
        """The same without the personal labels: what a colleague of the same role may see. Never more than this."""
        personal = self.personal
        return replace(self, labels=self.labels - personal) if personal else self

    @property
    def digest(self) -> str:
        """Short text, the same for equal rights in every process: a client with another one has to start afresh."""
        if self.permissions is None:
            return "open"
        content = [sorted(part) for part in (self.permissions, self.labels, self.bound)]
        return blake2b(to_json(content), digest_size=8).hexdigest()


OPEN_RIGHTS = Rights(None)
"""Of everybody, where there is no access control."""


class AccessTable:
    """Which permission shows what: documents by their kind, events by the document that they tell of."""

    def __init__(self, event_types: Iterable[EventType], domain: Domain) -> None:
        self._kinds = {name: kind.view_permission for name, kind in domain.kinds.items()}
        self._types: dict[str, Access] = {}
        self.spares: dict[str, str] = {}
        """The permission that spares from the draw, by type, where a sample of the type has one."""
        for event_type in event_types:
            if event_type.document is not None:
                self._types[event_type.name] = Access(self._kinds[event_type.document])
            if event_type.spares is not None:
                self.spares[event_type.name] = event_type.spares
        self._other = Access(VIEW_EVENTS)

    def of_type(self, event_type: str) -> Access:
        """What it takes to see an event of that type which names neither document, grants nor audience."""
        return self._types.get(event_type, self._other)

    def permission(self, kind: str, event_type: str) -> str:
        """The permission for an event of that type which tells of a document of *kind* ("": of none)."""
        return self._kinds.get(kind, NOBODYS) if kind else self.of_type(event_type).permission
