"""Documents: the versioned things that commands change. What all kinds have in common.

A document is an immutable value; a change is a new value with the next version. Its JSON is what readers get,
what is stored, and what a replica keeps: all three the same text. Source: protocol.md 1, domain.md.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

from sync_core.filters import tag

__all__ = ["Document", "Known", "Part", "Ref", "by_kind"]


class Ref(NamedTuple):
    """Which document."""

    kind: str
    id: str


class Part(BaseModel):
    """Base of what documents are made of."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Document(BaseModel):
    """Base of all kinds. Fields that a newer server wrote are kept as they are."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: ClassVar[str]
    """Its name in events, answers and filters: ``data.order``."""
    plural: ClassVar[str]
    """Its name in snapshots, and the client's attribute: ``client.orders``."""
    id_key: ClassVar[str]
    """The field and envelope key that holds its id."""
    view_permission: ClassVar[str]
    owner_key: ClassVar[str] = ""
    """The entity key that names its owner, of kinds that only their owner and admins see. That there is such a one is
    no secret then: who may not see it is refused (403), and lists are of the caller's own."""

    version: int = 0

    @classmethod
    def path(cls) -> str:
        """What its routes begin with below ``/api/v1/``: ``fuel-orders``."""
        return cls.plural.replace("_", "-")

    @classmethod
    def noun(cls) -> str:
        """For people: ``fuel order``."""
        return cls.kind.replace("_", " ")

    @classmethod
    def a_noun(cls) -> str:
        """For people, one of them: ``an order``."""
        noun = cls.noun()
        return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"  # and "a user"

    @classmethod
    def heading(cls) -> str:
        """For people: ``Fuel orders``."""
        return cls.plural.replace("_", " ").capitalize()

    @property
    def id(self) -> str:
        return str(getattr(self, self.id_key))

    @property
    def ref(self) -> Ref:
        return Ref(self.kind, self.id)

    def tags(self) -> tuple[str, ...]:
        """The entities under which filters find it."""
        return (tag(self.id_key, self.id),)

    def grants(self) -> tuple[str, ...]:
        """The entities to which a reader may be bound to see it. Never more than ``tags`` by accident: keys only
        filter, this is what gives access."""
        return (tag(self.id_key, self.id),)

    def audience(self) -> tuple[str, ...]:
        """Who alone may see it (``role:csr``, ``user:12``); empty: whoever may see this kind."""
        return ()

    @property
    def state(self) -> str:
        """What lists filter by: the stage of an order, the status of a bay."""
        return ""

    @property
    def is_open(self) -> bool:
        """Whether it belongs to a snapshot however old it is."""
        return True

    def render(self) -> str:
        """Its JSON text, without line breaks."""
        return self.model_dump_json(exclude_none=True)

    def content(self) -> dict[str, Any]:
        """Its JSON as Python values."""
        return self.model_dump(mode="json", exclude_none=True)


class Known(NamedTuple):
    """What a store or replica knows under a Ref: the *document*, or None with the version of its tombstone (or 0)."""

    document: Document | None
    version: int


def by_kind(documents: Iterable[tuple[type[Document], Any]]) -> dict[str, Any]:
    """Documents (or their JSON) by kind as answers carry them: ``{"order": {...}}``, ``{"orders": [...]}``."""
    kinds: dict[type[Document], list[Any]] = {}
    for kind, content in documents:
        kinds.setdefault(kind, []).append(content)
    return {
        (kind.kind if len(contents) == 1 else kind.plural): _one_or_all(contents) for kind, contents in kinds.items()
    }


def _one_or_all(contents: Sequence[Any]) -> Any:
    return contents[0] if len(contents) == 1 else list(contents)
