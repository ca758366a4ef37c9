"""Events, outcomes and bounds as MongoDB holds them."""

from typing import Any

from bson.max_key import MaxKey

from sync_server.log.base import Bounds
from sync_server.log.reach import reach_from_text, reach_text
from sync_server.log.records import Outcome, OutcomeKey, StoredEvent

__all__ = ["between", "bounds_of", "event_id", "event_of", "event_row", "outcome_of", "outcome_row"]

_END = MaxKey()


def bounds_of(head: dict[str, Any]) -> Bounds:
    return Bounds(head["epoch"], head["floor"], head["seq"])


def event_id(tenant: str, seq: int | MaxKey) -> dict[str, Any]:
    """An event's ``_id``, which is all the index that events have: a second one nearly doubles what a write costs.

    Embedded documents compare field by field, in this order; so a tenant's events lie together, by seq.
    """
    return {"tenant": tenant, "seq": seq}


def between(tenant: str, after: int, upto: int | MaxKey = _END) -> dict[str, Any]:
    """The range of ids from *after* + 1 to *upto*."""
    return {"$gt": event_id(tenant, after), "$lte": event_id(tenant, upto)}


def event_row(tenant: str, event: StoredEvent) -> dict[str, Any]:
    seq, time_ms, event_type, tags, client_id, principal, tail, reach = event
    row = {
        "_id": event_id(tenant, seq), "time_ms": time_ms, "type": event_type, "tags": tags,
        "client": client_id, "principal": principal, "tail": tail,
    }  # fmt: skip
    if reach is not None:
        row["reach"] = reach_text(reach)
    return row


def event_of(row: dict[str, Any]) -> StoredEvent:
    return StoredEvent(
        row["_id"]["seq"],
        row["time_ms"],
        row["type"],
        tuple(row["tags"]),
        row["client"],
        row["principal"],
        row["tail"],
        reach_from_text(row["reach"]) if "reach" in row else None,
    )


def outcome_row(tenant: str, key: OutcomeKey, outcome: Outcome) -> dict[str, Any]:
    return {"tenant": tenant, **key._asdict(), **outcome._asdict()}


def outcome_of(row: dict[str, Any]) -> tuple[OutcomeKey, Outcome]:
    key = OutcomeKey(row["principal"], row["key"])
    return key, Outcome(row["fingerprint"], row["result"], row["expires_ms"])
