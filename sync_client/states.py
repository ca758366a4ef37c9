"""The words of the state machine: states, signals, effects, and what it remembers. Only data.

Everything here has a plain text form, so that one file of cases can drive this machine and one written in
another language (tests/client/machine_cases.json). Times are seconds of a monotonic clock.
"""

import enum
from dataclasses import dataclass, field

from sync_client.backoff import Backoff

__all__ = ["Activity", "Do", "Effect", "Happening", "Machine", "Policy", "Signal", "State"]


class State(enum.Enum):
    """Where the connection stands. Source: protocol.md 6."""

    DISCONNECTED = "disconnected"
    """Not asked to connect yet."""
    CONNECTING = "connecting"
    """The first connection is being made."""
    CONNECTED = "connected"
    """The stream delivers."""
    RECONNECTING = "reconnecting"
    """There was a stream; another one is being made, or waited for."""
    ERROR = "error"
    """The first connection failed; waiting to try again."""
    POLLING = "polling_fallback"
    """Events are fetched page by page; beside it a stream is tried from time to time."""
    CLOSED = "closed"
    """close() was called, or the server said stop (204)."""
    FAILED = "failed"
    """Not let in, or wrongly configured: trying again as things are is useless."""


class Signal(enum.Enum):
    """What can happen."""

    # asked by the program
    CONNECT = "connect"
    CLOSE = "close"
    TOKEN_CHANGED = "token_changed"  # noqa: S105 - a name
    REOPEN = "reopen"
    """The stream has to begin again: the program wants it so."""
    CONSUMER_BEHIND = "consumer_behind"
    CONSUMER_READY = "consumer_ready"
    # the stream
    FIRST_BYTE = "first_byte"
    """A body has begun, but has not said `connected` yet; a probe's too."""
    OPENED = "opened"
    FIRST_BYTE_MISSED = "first_byte_missed"
    ATTEMPT_FAILED = "attempt_failed"
    LOST = "lost"
    """An open stream ended, unplanned: end of file, reset, silence, an event too large."""
    GOODBYE = "goodbye"
    """The server ended the stream and said so."""
    # the plain request that tells a buffering proxy from a dead network
    PLAIN_ANSWERED = "plain_answered"
    PLAIN_FAILED = "plain_failed"
    # answers to any request; `source` says which
    STOPPED = "stopped"
    UNAUTHORIZED = "unauthorized"
    MISCONFIGURED = "misconfigured"
    SPINNING = "spinning"
    """The loop guard refused the request."""
    RESET = "reset"
    """The cursor leads nowhere (`reset`, 410, other rights): the next request goes to another place in the log."""
    # the token provider
    TOKEN_READY = "token_ready"  # noqa: S105 - a name
    TOKEN_MISSING = "token_missing"  # noqa: S105 - a name
    TOKEN_FAILED = "token_failed"  # noqa: S105 - a name
    # polling and the probe beside it
    POLLED = "polled"
    POLL_FAILED = "poll_failed"
    PROBE_OPENED = "probe_opened"
    PROBE_FAILED = "probe_failed"
    # timers
    RETRY_DUE = "retry_due"
    HEALTHY_DUE = "healthy_due"
    PATIENCE_DUE = "patience_due"
    OPENING_DUE = "opening_due"
    POLL_DUE = "poll_due"
    PROBE_DUE = "probe_due"
    UNATTENDED_DUE = "unattended_due"
    # the machine slept, or the network changed
    WOKE = "woke"


class Activity(enum.Enum):
    """What the driver does until it reports back, or is told to stop."""

    STREAM = "stream"
    PLAIN = "plain"
    TOKEN = "token"  # noqa: S105 - a name
    POLL = "poll"
    PROBE = "probe"
    RETRY_TIMER = "retry_timer"
    HEALTHY_TIMER = "healthy_timer"
    PATIENCE_TIMER = "patience_timer"
    OPENING_TIMER = "opening_timer"
    POLL_TIMER = "poll_timer"
    PROBE_TIMER = "probe_timer"
    UNATTENDED_TIMER = "unattended_timer"


class Do(enum.Enum):
    START = "start"
    STOP = "stop"
    ADOPT = "adopt"
    """The probe becomes the stream, as it is."""
    REPORT = "report"
    """A diagnostic for people: `reason`."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing for the driver to do, in order. *delay_s* for timers."""

    do: Do
    activity: Activity | None = None
    delay_s: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Happening:
    """A signal with what belongs to it.

    source: the activity that reports, for signals that several can send. delay_s: the wait that the server
    asked for (Retry-After, the goodbye's retry, pollAfterMs). reason: for people and the health display.
    """

    signal: Signal
    now_s: float
    source: Activity | None = None
    delay_s: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """The numbers of protocol.md 6."""

    backoff: Backoff = field(default_factory=Backoff)
    max_reconnect_attempts: int = 5
    healthy_s: float = 60.0
    patience_s: float = 60.0
    opening_s: float = 10.0
    """From a stream's first byte to `connected`. Both leave the server in one write; TCP repeats a lost piece after
    1, 2 and 4 s (RFC 6298), so three losses in a row are still in time."""
    flapping_closes: int = 4
    flapping_window_s: float = 120.0
    flapping_life_s: float = 20.0
    buffered_attempts: int = 2
    brief_goodbyes: int = 3
    brief_life_s: float = 1.0
    probe_first_s: float = 15.0
    probe_max_s: float = 300.0
    relapse_window_s: float = 300.0
    relapses: int = 2
    demotion_s: float = 900.0
    demotion_max_s: float = 7200.0
    spin_pause_s: float = 1.0
    unattended: bool = False
    unattended_s: float = 300.0
    polling: bool = True
    """False: never fall back to polling, keep trying to stream."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The connection's state and all that later decisions need."""

    state: State = State.DISCONNECTED
    since_s: float = 0.0
    reason: str = ""
    active: frozenset[Activity] = frozenset()
    attempt: int = 0
    """Exponent of the backoff: unplanned ends in a row, forgotten after healthy_s of health."""
    failures: int = 0
    """Failed attempts in a row since a stream was open."""
    buffered: int = 0
    """Streams without a first byte in a row, while plain requests were answered."""
    opened_s: float | None = None
    closes: tuple[tuple[float, float], ...] = ()
    """Unplanned ends: (when, after how long a life)."""
    brief: int = 0
    """Goodbyes right after the beginning, in a row."""
    resets: int = 0
    """Resets in a row: each less than healthy_s after the one before."""
    reset_s: float | None = None
    """When the last one came."""
    refreshed: bool = False
    """Whether the token was renewed since a request was last let in."""
    held: bool = False
    """Whether the consumer is behind: nothing is fetched."""
    not_before_s: float = 0.0
    """No request before that: the server's Retry-After."""
    poll_failures: int = 0
    probe_s: float = 0.0
    """The next pause between probes, before jitter."""
    recovered_s: float | None = None
    relapse_count: int = 0
    demotions: int = 0
    fallbacks: int = 0
    """How often polling became necessary; a metric."""
    retry_at_s: float | None = None
    """When the next attempt is due, for display."""
