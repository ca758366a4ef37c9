"""The feed's own events, which are never logged: what they say, as SSE blocks. Source: protocol.md 2.1."""

import enum
from typing import Any

from pydantic_core import to_json

from sync_core.sse import encode_event

__all__ = ["Goodbye", "Reset", "control_event"]


class Reset(enum.Enum):
    """Why a cursor leads nowhere."""

    EXPIRED = "expired"
    EPOCH = "epoch"
    FUTURE = "future"
    MALFORMED = "malformed"


class Goodbye(enum.Enum):
    """Why the server ends a stream."""

    MAX_AGE = "max_age"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - a reason, no secret
    ACCESS_CHANGED = "access_changed"
    SHUTDOWN = "shutdown"
    SLOW = "slow"
    LOG_UNAVAILABLE = "log_unavailable"


def control_event(event: str, data: dict[str, Any], *, event_id: str | None) -> bytes:
    """One block; *event_id* moves the reader's cursor."""
    return encode_event(event=event, id=event_id, data=to_json(data).decode())
