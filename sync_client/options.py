"""The client's options: what they are by default, and what they may be."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sync_client.attempts import HandlerPolicy
from sync_client.errors import ConfigurationError
from sync_client.intake import Resync
from sync_client.states import Policy
from sync_core.cursor import EARLIEST, NOW, is_cursor
from sync_core.filters import Filter
from sync_core.problems import InvalidRequest

__all__ = ["FilterLike", "Options", "cache_path", "default_cache_dir", "outbox_path", "read_filter"]

FilterLike = Filter | Mapping[str, str | Iterable[str]] | None
"""``{"orderID": "ORDER-001", "eventTypes": ["stage_change", "payment_update"]}``, or None for everything."""

_SLUG = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything about a client but its server and token. Raises ConfigurationError."""

    client_name: str = "default"
    """Names this program on this machine; two that run at once need two names."""
    filter: Filter = field(default_factory=Filter)
    cache_dir: Path | None = None
    """None: the user's cache directory of this platform."""
    cache: bool = True
    """False: keep nothing on disk; a restart begins at ``start``."""
    start: str = NOW
    """Where a client without a cache begins: "now", "earliest", or a cursor."""
    on_reset: Resync = Resync.EARLIEST
    """Where to go on when the server no longer has what we missed."""
    tenant: str = ""
    subject: str = ""
    """Whose token it is; two people at one till do not share a cache."""
    unattended: bool = False
    """Try again every 5 minutes even when not let in."""
    replica: bool | Iterable[str] = False
    """Keep documents too, and have their commands: True for those of the shop (``client.orders``, ``client.queues``,
    ``client.bays``), or the names of kinds: ``("fuel_orders", "fuel_trucks")``."""
    hide_own: bool = True
    """Do not hand out events that this very instance caused."""
    max_reconnect_attempts: int = 5
    retention_s: float = 3600.0
    retention_events: int = 100
    cache_max_mb: float = 64.0
    """So much may wait for handlers; then nothing is fetched until half of it is gone."""
    handler_policy: HandlerPolicy = field(default_factory=HandlerPolicy)
    first_byte_s: float = 2.5
    poll_wait_s: float = 0.0
    """How long a poll may wait at the server for news, 0 to 30."""
    policy: Policy | None = None
    """All numbers of the state machine, for tests."""
    transport: Literal["sse", "ws"] = "sse"
    """What carries the stream; "ws" needs `pip install "order-sync[ws]"`. Polling stands in for either."""
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    verify_tls: bool = True
    trust_env: bool = True
    """Use HTTPS_PROXY and its like."""

    def __post_init__(self) -> None:
        faults = []
        if self.transport not in ("sse", "ws"):
            faults.append('transport: "sse" or "ws"')
        if isinstance(self.replica, str):
            faults.append(f'replica: True, or a list of names: ["{self.replica}"]')
        elif not isinstance(self.replica, bool):
            object.__setattr__(self, "replica", tuple(self.replica))
        if not self.client_name.strip() or len(self.client_name) > 100 or not self.client_name.isprintable():
            faults.append("client_name: 1 to 100 printable characters")
        if self.start not in (NOW, EARLIEST) and not is_cursor(self.start):
            faults.append('start: "now", "earliest" or a cursor')
        for name, low, high in (
            ("max_reconnect_attempts", 1, 1000),
            ("retention_s", 0, 1e9),
            ("retention_events", 0, 1_000_000),
            ("cache_max_mb", 0.01, 100_000),
            ("first_byte_s", 0.05, 600),
            ("poll_wait_s", 0, 30),
        ):
            if not low <= getattr(self, name) <= high:
                faults.append(f"{name}: {low} to {high:g}")
        if faults:
            raise ConfigurationError("these options cannot be used: " + "; ".join(faults))


def read_filter(given: FilterLike) -> Filter:
    """The filter that *given* describes. Raises ConfigurationError."""
    if isinstance(given, Filter):
        return given
    parameters = {}
    for key, value in (given or {}).items():
        parameters[key] = [value] if isinstance(value, str) else list(value)
    try:
        read = Filter.parse(parameters)
    except InvalidRequest as exc:
        faults = "; ".join(f"{e.path}: {e.message}" for e in exc.errors)
        raise ConfigurationError(f"filter: {exc.detail} {faults}") from exc
    unknown = sorted(
        set(parameters) - set(Filter.parse(parameters).document()) - {k for k, v in parameters.items() if not v}
    )
    if unknown:
        raise ConfigurationError(f"filter: unknown keys {', '.join(unknown)}")
    return read


def default_cache_dir() -> Path:
    """Of this user on this platform."""
    import platformdirs  # only here: most programs name a directory, and importing it takes a while

    return Path(platformdirs.user_cache_dir("order-sync", appauthor=False))


def cache_path(base_url: str, options: Options) -> Path:
    """The cache's file: one per server, tenant, subject and client name. Instance ids are not part of it."""
    whose = "\0".join((base_url.rstrip("/"), options.tenant, options.subject, options.client_name))
    digest = hashlib.sha256(whose.encode()).hexdigest()[:12]
    slug = _SLUG.sub("-", options.client_name).strip("-")[:40] or "client"
    return (options.cache_dir or default_cache_dir()) / f"{slug}-{digest}.db"


def outbox_path(base_url: str, options: Options) -> Path:
    """The file of the commands that wait; beside the cache."""
    return cache_path(base_url, options).with_suffix(".outbox.sqlite")
