"""The sections of the configuration: what each key may hold, and its default. What they come to is in settings.py."""

import re
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from sync_core.domain.catalog import REGISTRY
from sync_core.events import Delivery, EventRegistry, EventType
from sync_core.filters import ENTITY_KEYS, EVENT_TYPE_PATTERN

__all__ = [
    "Duration",
    "EventsSection",
    "FeedSection",
    "FuelingSection",
    "LogSection",
    "PositionsSection",
    "ReadableFile",
    "RetentionSection",
    "Section",
    "ServerSection",
    "SessionsSection",
    "checked",
    "duration",
    "fault_details",
    "name_of",
]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MAX_DURATION_S = 100 * 366 * 86400

T = TypeVar("T")

_MESSAGES = {
    "extra_forbidden": "there is no such setting",
    "model_type": "has to be a table of settings",
    "model_attributes_type": "has to be a table of settings",
    "tuple_type": "has to be a list",
    "int_parsing": "has to be a whole number",
    "int_from_float": "has to be a whole number",
    "float_parsing": "has to be a number",
    "bool_parsing": "has to be true or false",
    "string_type": "has to be text in quotes",
    "path_type": "has to be a path in quotes",
    "string_pattern_mismatch": "has characters or a length that are not possible here",
    "missing": "is missing",
}


def duration(value: Any) -> timedelta:
    """``"90s"`` and the like. Raises ValueError."""
    if isinstance(value, timedelta):  # the default, where another key of its section was given
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value) if isinstance(value, str) else None
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0
    if not 1 <= seconds <= _MAX_DURATION_S:
        raise ValueError('a duration is a number with a unit, from "1s" on: "90s", "15m", "12h", "7d"')
    return timedelta(seconds=seconds)


Duration = Annotated[timedelta, BeforeValidator(duration)]


def _readable(path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as exc:
        raise ValueError(f"cannot be read: {exc.strerror}") from None
    return path


ReadableFile = Annotated[Path, AfterValidator(_readable)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        """``port = true`` would be port 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("true and false are no values for it")
        return value


class ServerSection(Section):
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1, le=256)
    drain_s: float = Field(10.0, ge=0, le=600)
    allow_open_network: bool = False
    tls_certificate: ReadableFile | None = None
    tls_key: ReadableFile | None = None

    @model_validator(mode="after")
    def _certificate_and_key(self) -> "ServerSection":
        if self.tls_certificate is None and self.tls_key is None:
            return self
        if self.tls_certificate is None or self.tls_key is None:
            raise ValueError("tls_certificate and tls_key go together")
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.tls_certificate, self.tls_key, password=lambda: "")  # never ask a terminal
        except ssl.SSLError as exc:
            raise ValueError(f"tls_certificate and tls_key cannot be used together: {exc.reason or exc}") from None
        return self


class SQLiteSection(Section):
    path: Path = Path("sync.db")


class MongoSection(Section):
    uri: SecretStr = SecretStr("mongodb://127.0.0.1:27017/?replicaSet=rs0")
    database: str = Field("order_sync", pattern=r"^[A-Za-z0-9_-]{1,38}$")
    driver: Literal["pymongo", "motor"] = "pymongo"

    @field_validator("uri")
    @classmethod
    def _scheme(cls, uri: SecretStr) -> SecretStr:
        """The rest is for the driver to judge, which takes too long to import here."""
        if not uri.get_secret_value().startswith(("mongodb://", "mongodb+srv://")):
            raise ValueError("has to begin with mongodb:// or mongodb+srv://")
        return uri


class LogSection(Section):
    store: Literal["sqlite", "mongodb"] = "sqlite"
    sqlite: SQLiteSection = SQLiteSection()
    mongodb: MongoSection = MongoSection()


class RetentionSection(Section):
    max_age: Duration = timedelta(days=7)
    max_events: int = Field(1_000_000, ge=1)


class FeedSection(Section):
    heartbeat_s: float = Field(15.0, ge=0.1, le=300)
    max_age_s: float = Field(600.0, ge=1, le=86400)
    window_bytes: int = Field(16 * 1024 * 1024, ge=65536)
    slow_close_s: float = Field(30.0, ge=0.1, le=600)
    compression: bool = False


class FuelingSection(Section):
    """Which share of the fuelers a new order is offered to at first, and after how long to all of them."""

    offer_share: float = Field(0.3, gt=0, le=1)
    offer_to_all_after: Duration = timedelta(seconds=60)


class PositionsSection(Section):
    """How often the position of a vehicle that moves comes into the event log."""

    log_interval: Duration = timedelta(seconds=30)


class SocketsSection(Section):
    """Of the WebSockets with protocols of their own; that of the feed is a stream like others."""

    connections: int = Field(100, ge=1, le=100_000)
    messages_per_s: int = Field(100, ge=1, le=100_000)
    idle: Duration = timedelta(minutes=5)


class SessionsSection(Section):
    """After how long without a change an active order session is left for later."""

    stale_after: Duration = timedelta(minutes=30)


class CustomEvent(Section):
    """A custom event type; a bare name stands for one that is delivered to everybody."""

    name: str = Field(pattern=EVENT_TYPE_PATTERN)
    delivery: Delivery = Delivery.EVERY
    entity: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _entity_of_latest(self) -> "CustomEvent":
        if self.entity is not None and self.entity not in ENTITY_KEYS:
            raise ValueError(f"entity must be one of {', '.join(ENTITY_KEYS)}")
        if (self.delivery is Delivery.LATEST) != (self.entity is not None):
            raise ValueError('entity goes with delivery = "latest", and only with it')
        return self


class EventsSection(Section):
    custom: tuple[CustomEvent, ...] = ()

    @field_validator("custom", mode="wrap")
    @classmethod
    def _free_names(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> tuple[CustomEvent, ...]:
        """Clashes of names are told together with what is wrong in single entries."""
        entries = value if isinstance(value, list | tuple) else ()
        names = {index: name for index, entry in enumerate(entries) if isinstance(name := name_of(entry), str)}
        places = list(names)
        clashes = [
            fault_details("clash", why, (places[position], "name"))
            for position, why in REGISTRY.clashes(names.values())
        ]
        return checked(cls.__name__, lambda: handler(value), clashes)

    def registry(self) -> EventRegistry:
        """The built-in types and the custom ones."""
        return REGISTRY.extended(
            EventType(event.name, delivery=event.delivery, entity=event.entity, custom=True) for event in self.custom
        )


def name_of(entry: Any) -> Any:
    """The name of one unchecked entry of *custom*."""
    if isinstance(entry, dict):
        return entry.get("name")
    return entry.name if isinstance(entry, CustomEvent) else entry


def checked(title: str, check: Callable[[], T], faults: list[InitErrorDetails]) -> T:
    """What *check* returns. Raises ValidationError with its faults and then *faults*."""
    try:
        value = check()
    except ValidationError as exc:
        faults = [fault_details(error["type"], error["msg"], error["loc"]) for error in exc.errors()] + faults
    else:
        if not faults:
            return value
    raise ValidationError.from_exception_data(title, faults)


def fault_details(kind: str, message: str, location: tuple[int | str, ...] = ()) -> InitErrorDetails:
    # As an error of its own kind: not all of pydantic's can be made anew. Without the input, which may be secret.
    text = _MESSAGES.get(kind, message.removeprefix("Value error, "))
    return {"type": PydanticCustomError("setting", "{fault}", {"fault": text}), "loc": location, "input": None}
