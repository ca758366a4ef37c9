"""Bounds of what the driver does, and its counts."""

__all__ = ["DriverCounts", "Limits"]


class Limits:
    """How long what may take, in seconds, and how large it may be."""

    def __init__(
        self,
        *,
        first_byte_s: float | None = 2.5,
        first_byte_round_trips: float = 4.0,
        token_s: float = 30.0,
        poll_wait_s: float = 0.0,
        poll_limit: int = 500,
        max_event_bytes: int | None = 8 * 1024 * 1024,
    ) -> None:
        self.first_byte_s = first_byte_s
        self.first_byte_round_trips = first_byte_round_trips
        self.token_s = token_s
        self.poll_wait_s = poll_wait_s
        self.poll_limit = poll_limit
        self.max_event_bytes = max_event_bytes


class DriverCounts:
    """Counted since the start."""

    def __init__(self) -> None:
        self.attempts = 0
        self.failed_attempts = 0
        self.connections = 0
        self.stalls = 0
        self.polls = 0
        self.failed_polls = 0
        self.probes = 0
        self.spins = 0
