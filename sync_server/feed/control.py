"""The reasons that the feed's own events give. Source: protocol.md 2.1."""

import enum

__all__ = ["Goodbye", "Reset"]


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
