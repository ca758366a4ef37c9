"""The event types: what each one's data must hold and how it is delivered.

Models check input only. What was accepted is stored and leaves as it came (``model_dump`` is never used),
so a newer client's extra fields survive an older server. Source: protocol.md 1, domain.md.
"""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from sync_core.filters import ENTITY_ID_PATTERN, ENTITY_KEYS, EVENT_TYPE_PATTERN
from sync_core.labels import PERSON, ROLE
from sync_core.times import ISO_8601, NO_TIME

__all__ = [
    "CONTROL_EVENTS",
    "INTEGRATION_TYPES",
    "MAX_AUDIENCE",
    "MAX_EVENT_BYTES",
    "Delivery",
    "EventInput",
    "EventRegistry",
    "EventType",
]

MAX_EVENT_BYTES = 256 * 1024
"""Most bytes of one event's envelope as UTF-8 JSON."""

MAX_AUDIENCE = 32

CONTROL_EVENTS = frozenset({"connected", "caught_up", "heartbeat", "reset", "removed", "goodbye"})
"""Raised by the feed itself; never logged, never publishable."""


def _iso_text(value: Any) -> Any:
    """Only text: pydantic would also take a number, as seconds or milliseconds by its size."""
    if not isinstance(value, str) or not ISO_8601.match(value):
        raise ValueError(NO_TIME)
    return value


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time has a year from 1 to 9999 in UTC") from None


EntityID = Annotated[str, StringConstraints(pattern=ENTITY_ID_PATTERN)]
TypeName = Annotated[str, StringConstraints(pattern=EVENT_TYPE_PATTERN)]
AudienceLabel = Annotated[
    str,
    StringConstraints(
        pattern=rf"^({ROLE}|{PERSON}|({'|'.join(ENTITY_KEYS)})=)[^\x00-\x20\x7f-\xa0,\u2028\u2029]"
        r"[^\x00-\x1f\x7f-\x9f,\u2028\u2029]{0,127}$"
    ),
]
"""``role:csr``, ``user:12``, or an entity (``bayID=B1``) to which a reader may be bound."""
Time = Annotated[AwareDatetime, BeforeValidator(_iso_text), AfterValidator(_in_utc)]


class Delivery(enum.Enum):
    """What a reader may count on. ``latest`` and ``ephemeral`` are opted into by a type, never by a reader."""

    EVERY = "every"
    LATEST = "latest"
    """Per entity; an older one is left out only if a newer one of the entity leaves in the same flush."""
    EPHEMERAL = "ephemeral"
    """Not logged, no id, not in replay or poll: for what is worthless a second later."""


class Data(BaseModel):
    """Base of all data models: known fields are checked, others let through."""

    model_config = ConfigDict(extra="allow")


class OrderReference(Data):
    orderID: EntityID | None = None


class StageChangeData(Data):
    previousStage: str | None = None
    newStage: str = Field(min_length=1)
    order: OrderReference | None = None


class StatusUpdateData(Data):
    status: str = Field(min_length=1)


class PaymentUpdateData(Data):
    status: str = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class EventType:
    """One entry of the registry.

    *entity* is the envelope key by which ``latest`` tells entities apart. *document* is the kind of whole
    document the type carries; such events are made by commands only, never published, as are *command_only* ones.
    To ask for the type by name takes the permission *asks*, where there is one; a sample of it is drawn among those
    who do not have the permission *spares*. *custom*: configured, so that no client knows it beforehand.
    """

    name: str
    data: type[BaseModel] = Data
    delivery: Delivery = Delivery.EVERY
    entity: str | None = None
    document: str | None = None
    command_only: bool = False
    asks: str | None = None
    spares: str | None = None
    custom: bool = False

    def __post_init__(self) -> None:
        if (self.delivery is Delivery.LATEST) != (self.entity is not None):
            raise ValueError(f"{self.name}: an entity goes with delivery 'latest', and only with it")

    @property
    def publishable(self) -> bool:
        """Whether it may be sent to the publish route."""
        return self.document is None and not self.command_only


class EventRegistry:
    """The known event types by name, immutable; ``extended`` gives a larger one."""

    def __init__(self, types: Iterable[EventType]) -> None:
        self._types = {event_type.name: event_type for event_type in types}
        self.latest = {t.name: f"{t.entity}=" for t in self._types.values() if t.entity is not None}
        """Types of delivery ``latest`` with the tag prefix of their entity."""

    def get(self, name: str) -> EventType | None:
        return self._types.get(name)

    def __iter__(self) -> Iterator[EventType]:
        return iter(self._types.values())

    def extended(self, custom: Iterable[EventType]) -> "EventRegistry":
        """This registry and the *custom* types; ValueError for a name that is taken."""
        added = list(custom)
        for _, clash in self.clashes([event_type.name for event_type in added]):
            raise ValueError(clash)
        return EventRegistry([*self, *added])

    def clashes(self, names: Iterable[str]) -> Iterator[tuple[int, str]]:
        """Which of *names* cannot be added: the position and the reason."""
        seen: set[str] = set()
        for position, name in enumerate(names):
            if name in self._types or name in CONTROL_EVENTS:
                yield position, f"{name!r} is a built-in event type"
            elif name in seen:
                yield position, f"{name!r} is there twice"
            seen.add(name)


INTEGRATION_TYPES = EventRegistry(
    [
        EventType("stage_change", StageChangeData),
        EventType("status_update", StatusUpdateData),
        EventType("payment_update", PaymentUpdateData),
        EventType("whatsapp_connected"),
        EventType("qr_generated"),
    ]
)
"""What may be published as it is; the domain adds what only commands make (sync_core.domain.catalog)."""


class EventInput(BaseModel):
    """One event as a publisher sends it. Unknown envelope fields are refused: a typo must not be stored."""

    model_config = ConfigDict(extra="forbid")

    eventType: TypeName
    data: dict[str, Any]
    orderID: EntityID | None = None
    queueID: EntityID | None = None
    bayID: EntityID | None = None
    jobID: EntityID | None = None
    deviceID: EntityID | None = None
    sessionID: EntityID | None = None
    userID: EntityID | None = None
    vehicleID: EntityID | None = None
    fuelOrderID: EntityID | None = None
    truckID: EntityID | None = None
    transportOrderID: EntityID | None = None
    tabID: EntityID | None = None
    tillID: EntityID | None = None
    catalogID: EntityID | None = None
    transactionID: EntityID | None = None
    fuelLogID: EntityID | None = None
    vehicleMarkID: EntityID | None = None
    clientID: EntityID | None = None
    occurredAt: Time | None = None
    timestamp: Time | None = None
    """The client's own time; kept as ``occurredAt``, since the log's time is the server's."""
    key: EntityID | None = None
    """Idempotency key, unique per tenant and principal."""
    audience: Annotated[list[AudienceLabel], Field(min_length=1, max_length=MAX_AUDIENCE)] | None = None
    """Who alone may see it; without one everybody who may see events that tell of no document. Not shown to anybody."""
    sample: Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)] | None = None
    """The share of its readers that it is delivered to; gives and takes no access. Not shown to anybody."""
