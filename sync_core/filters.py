"""What a reader wants to see: event types AND any of its entities.

An entity is written as a *tag*, ``orderID=ORDER-001``: the event carries the tags of the entities it is
about, the filter the tags it asks for, and matching is a set operation on plain strings.
Source: protocol.md 2.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sync_core.problems import FieldError, InvalidRequest

__all__ = ["ENTITY_ID_PATTERN", "ENTITY_KEYS", "EVENT_TYPE_PATTERN", "MAX_FILTER_VALUES", "Filter", "tag"]

ENTITY_KEYS = (
    "orderID",
    "queueID",
    "bayID",
    "jobID",
    "deviceID",
    "sessionID",
    "userID",
    "vehicleID",
    "fuelOrderID",
    "truckID",
    "transportOrderID",
    "tabID",
    "tillID",
    "catalogID",
    "transactionID",
    "fuelLogID",
    "vehicleMarkID",
)
"""Names of the entities that an event's envelope can carry; filters use the same."""

MAX_FILTER_VALUES = 200

# A comma would break the lists of the filter, control characters the stream's lines and the log's rows.
ENTITY_ID_PATTERN = r"^[^\x00-\x20\x7f-\xa0,\u2028\u2029][^\x00-\x1f\x7f-\x9f,\u2028\u2029]{0,127}$"
EVENT_TYPE_PATTERN = r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$"

_ENTITY_ID = re.compile(ENTITY_ID_PATTERN.removesuffix("$") + r"\Z")
_EVENT_TYPE = re.compile(EVENT_TYPE_PATTERN.removesuffix("$") + r"\Z")


def tag(key: str, value: str) -> str:
    """``tag("orderID", "ORDER-001") == "orderID=ORDER-001"``"""
    return f"{key}={value}"


@dataclass(frozen=True, slots=True)
class Filter:
    """Empty *event_types* means all types, empty *tags* all entities. Equal filters share a channel."""

    event_types: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()

    def matches(self, event_type: str, tags: Iterable[str]) -> bool:
        """Whether an event of that type about those entities is asked for."""
        if self.event_types and event_type not in self.event_types:
            return False
        return not self.tags or not self.tags.isdisjoint(tags)

    @classmethod
    def parse(cls, parameters: Mapping[str, Sequence[str]]) -> "Filter":
        """The filter that query *parameters* (name to all its values) ask for; values are comma lists.

        Only ``eventTypes`` and the entity keys are looked at. Raises InvalidRequest with every fault.
        """
        faults: list[FieldError] = []
        types: set[str] = set()
        tags: set[str] = set()
        for name in ("eventTypes", *ENTITY_KEYS):
            pattern = _EVENT_TYPE if name == "eventTypes" else _ENTITY_ID
            for value in ",".join(parameters[name]).split(",") if name in parameters else ():
                if not pattern.match(value):
                    faults.append(FieldError(name, f"{value[:80]!r} cannot be a value of {name}"))
                elif name == "eventTypes":
                    types.add(value)
                else:
                    tags.add(tag(name, value))
        if len(types) + len(tags) > MAX_FILTER_VALUES:
            faults.append(FieldError("", f"a filter has at most {MAX_FILTER_VALUES} values"))
        if faults:
            raise InvalidRequest("The filter cannot be understood.", errors=tuple(faults[:20]))
        return cls(frozenset(types), frozenset(tags))

    def document(self) -> dict[str, list[str]]:
        """The filter as the wire shows it in ``connected``: parameter name to its sorted values."""
        document: dict[str, list[str]] = {}
        if self.event_types:
            document["eventTypes"] = sorted(self.event_types)
        for item in sorted(self.tags):
            key, _, value = item.partition("=")
            document.setdefault(key, []).append(value)
        return document
