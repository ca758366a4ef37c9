"""Commands that failed: how that is told to handlers, and what is kept of it. Pure."""

import json
from collections.abc import Mapping
from typing import Any

from sync_client.pending import OutboxEntry
from sync_client.records import Arrival
from sync_core.times import iso_from_ms

__all__ = ["DISCARDED", "current_of", "damaged", "event_of", "kept_of"]

MAX_KEPT_BYTES = 64 * 1024
MAX_DETAIL = 2000
EVENT_TYPE = "sync_failed"

DISCARDED = {"type": "discarded", "title": "Discarded", "status": 0, "detail": "Somebody has discarded the command."}


def damaged(kept_as: str) -> dict[str, Any]:
    """The problem of an outbox that could not be read."""
    detail = f"The outbox could not be read. What was given and had not been sent is in {kept_as}."
    return {"type": "outbox-damaged", "title": "Outbox damaged", "status": 0, "detail": detail}


def current_of(problem: Mapping[str, Any]) -> Mapping[str, Any]:
    """The documents as they stand, by kind, of a refusal; empty where it shows none."""
    current = problem.get("current")
    return current if isinstance(current, dict) else {}


def kept_of(problem: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is kept of a problem document for a person to look at."""
    if len(json.dumps(problem)) <= MAX_KEPT_BYTES:
        return problem
    short = {name: value for name, value in problem.items() if name in ("type", "title", "status", "detail")}
    return {name: value[:MAX_DETAIL] if isinstance(value, str) else value for name, value in short.items()}


def event_of(entry: OutboxEntry | None, problem: Mapping[str, Any], *, event_id: str, now_ms: int) -> Arrival:
    """The event ``sync_failed`` {command, key, given, problem, current}, also about the document in question."""
    envelope: dict[str, Any] = {"id": event_id, "eventType": EVENT_TYPE, "timestamp": iso_from_ms(now_ms)}
    data: dict[str, Any] = {"command": None, "key": None, "given": None}
    if entry is not None:
        given = entry.given.model_dump(mode="json", exclude_unset=True)
        data = {"command": entry.name, "key": entry.key, "given": given}
        if (target := entry.command.target) is not None:
            envelope[entry.command.command.target.id_key] = target.id
    data["problem"] = {name: value for name, value in problem.items() if name != "current"}
    data["current"] = current_of(problem)
    return Arrival(event_id, EVENT_TYPE, json.dumps(envelope | {"data": data}))
