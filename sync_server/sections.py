"""The sections of the configuration: what each key may hold, and its default. What they come to is in settings.py."""

import ipaddress
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

from sync_core.domain.catalog import DOMAIN, REGISTRY
from sync_core.events import Delivery, EventRegistry, EventType
from sync_core.filters import ENTITY_KEYS, EVENT_TYPE_PATTERN
from sync_server.permissions import known_permissions

__all__ = [
    "AccessSection",
    "EventsSection",
    "FeedSection",
    "JWTSection",
    "LimitsSection",
    "LogSection",
    "RetentionSection",
    "RoleSection",
    "Section",
    "ServerSection",
    "WebhookSection",
    "checked",
    "duration",
    "fault_details",
    "name_of",
]

MIN_SECRET_BYTES = 32
MIN_SECRET_CHARACTERS = 10
_SAFE_URL = re.compile(r"https://|http://(localhost|127\.0\.0\.1|\[::1\])[:/]")
_TENANT = re.compile(r"[a-z0-9-]{1,64}")
_PERMISSIONS = known_permissions(DOMAIN)
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


def _strong(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if len(text.encode()) < MIN_SECRET_BYTES or len(set(text)) < MIN_SECRET_CHARACTERS:
        raise ValueError(f"too weak: at least {MIN_SECRET_BYTES} random bytes, such as `openssl rand -base64 48` gives")
    return secret


Secret = Annotated[SecretStr, AfterValidator(_strong)]


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


class JWTSection(Section):
    """Tokens of an identity provider. One of secret, public_key_file and jwks_url for each."""

    algorithm: Literal["HS256", "RS256", "ES256"] | None = None
    secret: Secret | None = None
    public_key_file: ReadableFile | None = None
    jwks_url: str | None = None
    issuer: str | None = None
    audience: str | None = None
    leeway_s: float = Field(30.0, ge=0, le=300)

    @field_validator("jwks_url")
    @classmethod
    def _safe_url(cls, url: str | None) -> str | None:
        if url is not None and not _SAFE_URL.match(url):
            raise ValueError("begins with https://, or whoever is on the way decides whose tokens count")
        return url

    @model_validator(mode="after")
    def _one_source(self) -> "JWTSection":
        sources = [self.secret, self.public_key_file, self.jwks_url]
        if sum(source is not None for source in sources) != 1:
            raise ValueError("names exactly one of secret, public_key_file and jwks_url")
        if self.secret is not None and self.algorithm not in (None, "HS256"):
            raise ValueError(f"a secret is for HS256, not for {self.algorithm}")
        if self.public_key_file is not None and self.algorithm not in ("RS256", "ES256"):
            raise ValueError('public_key_file needs algorithm = "RS256" or "ES256": a key belongs to one algorithm')
        if self.jwks_url is not None and self.algorithm is not None:
            raise ValueError("with jwks_url each key says itself which algorithm it is for; leave algorithm out")
        if self.secret is None and self.audience is None:
            raise ValueError("needs an audience: the provider signs tokens for other services with the same keys")
        return self


class RoleSection(Section):
    permissions: tuple[str, ...]

    @field_validator("permissions")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(names) - _PERMISSIONS):
            raise ValueError(f"there is no permission {unknown[0]!r}; there are {', '.join(sorted(_PERMISSIONS))}")
        return names


class WebhookSection(Section):
    """An integration that signs its requests, and the event that each becomes.

    *keys* (entity keys) and *data* (fields) say where in its JSON the values stand, as JSON Pointers (``/doc/id``);
    without *data* all of it is the event's data. *key* is where it names what it tells of, so that a repetition is
    known.
    """

    secret: Secret
    event_type: str = Field(pattern=EVENT_TYPE_PATTERN)
    tenant: str = Field("default", pattern=f"^{_TENANT.pattern}$")
    signature_header: str = Field("X-Signature", pattern=r"^[A-Za-z0-9-]{1,64}$")
    timestamp_header: str = Field("X-Timestamp", pattern=r"^[A-Za-z0-9-]{1,64}$")
    key: str | None = None
    keys: dict[str, str] = {}
    data: dict[str, str] = {}
    audience: tuple[str, ...] = ()

    @field_validator("key")
    @classmethod
    def _place(cls, place: str | None) -> str | None:
        if place is not None and not place.startswith("/"):
            raise ValueError(f"{place!r} is no place in JSON; it begins with a slash, such as /doc/id")
        return place

    @field_validator("keys", "data")
    @classmethod
    def _places(cls, places: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if info.field_name == "keys" and (unknown := sorted(set(places) - set(ENTITY_KEYS))):
            raise ValueError(f"{unknown[0]!r} is no entity key; there are {', '.join(ENTITY_KEYS)}")
        for place in places.values():
            cls._place(place)
        return places


class AccessSection(Section):
    """Who is let in. ``open``: everybody who can reach the server."""

    mode: Literal["open", "required"] = "open"
    secret: Secret | None = None
    session: Duration = timedelta(hours=12)
    tenants: tuple[str, ...] | Literal["any"] = ("default",)
    jwt: tuple[JWTSection, ...] = ()
    roles: dict[str, RoleSection] = {}
    trusted_proxies: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()

    @field_validator("tenants")
    @classmethod
    def _names(cls, tenants: tuple[str, ...] | str) -> tuple[str, ...] | str:
        for tenant in tenants if isinstance(tenants, tuple) else ():
            if not _TENANT.fullmatch(tenant):
                raise ValueError(f"{tenant!r} is no tenant; it has 1 to 64 of a-z, 0-9 and hyphens")
        return tenants

    @field_validator("cors_origins")
    @classmethod
    def _exact(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:\d+)?|https?://\[[0-9a-f:]+\](:\d+)?", origin):
                raise ValueError(
                    f"{origin!r} is no origin; it is scheme, host and port, such as https://shop.example. With "
                    "cookies there is no *"
                )
        return origins

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as exc:
                raise ValueError(f"{network!r} is no address or network: {exc}") from None
        return networks

    @model_validator(mode="after")
    def _secret_where_needed(self) -> "AccessSection":
        if self.mode == "required" and self.secret is None:
            raise ValueError(
                'mode = "required" needs a secret, which signs sessions and tickets: openssl rand -base64 48'
            )
        if self.mode == "open" and (self.secret is not None or self.jwt or self.roles):
            raise ValueError('mode = "open" lets everybody in, whatever else is set here; use mode = "required"')
        return self


class LimitsSection(Section):
    """Rates as the library `limits` writes them (``10/second``), for each principal and for each address."""

    connects: str = "600/minute"
    reads: str = "500/second"
    publishes: str = "200/second"
    commands: str = "200/second"
    logins: str = "30/minute"
    bytes_per_minute: int = Field(64 * 1024 * 1024, ge=1024)
    streams_per_principal: int = Field(200, ge=1)
    streams_per_address: int = Field(1000, ge=1)
    streams: int = Field(20_000, ge=1)

    @field_validator("connects", "reads", "publishes", "commands", "logins")
    @classmethod
    def _rate(cls, rate: str) -> str:
        if not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)", rate):
            raise ValueError('a rate is a number and a time, such as "10/second" or "600/minute"')
        return rate


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
            EventType(event.name, delivery=event.delivery, entity=event.entity) for event in self.custom
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
