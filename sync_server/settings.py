"""The configuration: one frozen object, read once at the root. Source of every default.

Order of precedence: command line, environment (``SYNC_SERVER__PORT=9000``), the file (``--config`` or
``sync.toml``), the defaults here. Everything that is wrong is told in one message.
"""

import json
import os
import re
import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from sync_core.domain.catalog import REGISTRY
from sync_core.events import Delivery, EventRegistry, EventType
from sync_core.filters import ENTITY_KEYS, EVENT_TYPE_PATTERN
from sync_core.problems import SyncError

__all__ = ["ConfigError", "Settings", "load_settings"]

DEFAULT_FILE = Path("sync.toml")
ENV_PREFIX = "SYNC_"
_FOREIGN_ENV = ("SYNC_TEST_",)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MAX_DURATION_S = 100 * 366 * 86400


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


T = TypeVar("T")


class ConfigError(SyncError):
    """The configuration cannot be used; the message holds every fault."""


def _duration(value: Any) -> Any:
    if isinstance(value, timedelta):  # the default, where another key of its section was given
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value) if isinstance(value, str) else None
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0
    if not 1 <= seconds <= _MAX_DURATION_S:
        raise ValueError('a duration is a number with a unit, from "1s" on: "90s", "15m", "12h", "7d"')
    return timedelta(seconds=seconds)


Duration = Annotated[timedelta, BeforeValidator(_duration)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        """``port = true`` would be port 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("true and false are no values for it")
        return value


class ServerSection(_Section):
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1, le=256)
    drain_s: float = Field(10.0, ge=0, le=600)
    allow_open_network: bool = False


class SQLiteSection(_Section):
    path: Path = Path("sync.db")


class MongoSection(_Section):
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


class LogSection(_Section):
    store: Literal["sqlite", "mongodb"] = "sqlite"
    sqlite: SQLiteSection = SQLiteSection()
    mongodb: MongoSection = MongoSection()


class RetentionSection(_Section):
    max_age: Duration = timedelta(days=7)
    max_events: int = Field(1_000_000, ge=1)


class FeedSection(_Section):
    heartbeat_s: float = Field(15.0, ge=0.1, le=300)
    max_age_s: float = Field(600.0, ge=1, le=86400)
    window_bytes: int = Field(16 * 1024 * 1024, ge=65536)
    slow_close_s: float = Field(30.0, ge=0.1, le=600)


class CustomEvent(_Section):
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


class EventsSection(_Section):
    custom: tuple[CustomEvent, ...] = ()

    @field_validator("custom", mode="wrap")
    @classmethod
    def _free_names(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> tuple[CustomEvent, ...]:
        """Clashes of names are told together with what is wrong in single entries."""
        entries = value if isinstance(value, list | tuple) else ()
        names = {index: name for index, entry in enumerate(entries) if isinstance(name := _name_of(entry), str)}
        places = list(names)
        clashes = [
            _details("clash", why, (places[position], "name")) for position, why in REGISTRY.clashes(names.values())
        ]
        return _checked(cls.__name__, lambda: handler(value), clashes)

    def registry(self) -> EventRegistry:
        """The built-in types and the custom ones."""
        return REGISTRY.extended(
            EventType(event.name, delivery=event.delivery, entity=event.entity) for event in self.custom
        )


def _name_of(entry: Any) -> Any:
    """The name of one unchecked entry of *custom*."""
    if isinstance(entry, dict):
        return entry.get("name")
    return entry.name if isinstance(entry, CustomEvent) else entry


def _checked(title: str, check: Callable[[], T], faults: list[InitErrorDetails]) -> T:
    """What *check* returns. Raises ValidationError with its faults and then *faults*."""
    try:
        value = check()
    except ValidationError as exc:
        faults = [_details(error["type"], error["msg"], error["loc"]) for error in exc.errors()] + faults
    else:
        if not faults:
            return value
    raise ValidationError.from_exception_data(title, faults)


class Settings(BaseSettings):
    """Everything that can be configured. Secrets do not show in its repr."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )
    file: ClassVar[Path | None] = None

    server: ServerSection = ServerSection()
    log: LogSection = LogSection()
    retention: RetentionSection = RetentionSection()
    feed: FeedSection = FeedSection()
    events: EventsSection = EventsSection()

    @model_validator(mode="wrap")
    @classmethod
    def _together(cls, data: Any, handler: ModelWrapValidatorHandler["Settings"]) -> "Settings":
        """What no key is wrong in by itself; told together with what is."""
        faults = [_details("together", fault) for fault in _faults_together(data)]
        return _checked(cls.__name__, lambda: handler(data), faults)

    @classmethod
    def settings_customise_sources(  # the base class's signature
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        assert isinstance(env_settings, EnvSettingsSource)
        # What is no JSON would end the reading at once; without it the other faults are found too.
        garbled = {name.lower() for name in _garbled_environment()}
        env_settings.env_vars = {n: v for n, v in env_settings.env_vars.items() if n not in garbled}
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        if cls.file is not None:
            sources += (TomlConfigSettingsSource(settings_cls, cls.file),)
        return sources


def load_settings(file: Path | None = None, **overrides: dict[str, Any]) -> Settings:
    """The settings out of *file* (default: sync.toml, if there is one), environment and *overrides*.

    Raises ConfigError with every fault.
    """
    if file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE
    if file is not None and not file.is_file():
        raise ConfigError(f"There is no configuration file {file}. `sync-server init --config {file}` writes one.")
    source = type("Settings", (Settings,), {"file": file, "__module__": __name__})
    faults = _unknown_environment()
    faults += [
        f"environment variable {name}: its value has to be JSON: {why}" for name, why in _garbled_environment().items()
    ]
    try:
        settings = source(**{section: values for section, values in overrides.items() if values})
    except ValidationError as exc:
        faults += [_fault(error) for error in exc.errors(include_url=False, include_input=False)]
    except tomllib.TOMLDecodeError as exc:
        faults.append(f"{file}: not TOML: {exc}")
    except UnicodeDecodeError as exc:
        faults.append(f"{file}: not UTF-8 text: byte {exc.start} cannot be read")
    except OSError as exc:
        faults.append(f"{file}: cannot be read: {exc.strerror}")
    if faults:
        where = f" ({file})" if file else ""
        raise ConfigError(f"The configuration{where} cannot be used:\n" + "\n".join(f"  - {f}" for f in faults))
    assert isinstance(settings, Settings)
    return settings


def _faults_together(data: Any) -> list[str]:
    """Faults of the merged but unchecked *data* that lie between keys; what has a wrong type has its own fault."""
    server, event_log = (_table(data, section) for section in ("server", "log"))
    host = server.get("host", ServerSection.model_fields["host"].default)
    allowed = str(server.get("allow_open_network", False)).lower() in ("true", "1", "yes", "on", "t", "y")
    faults = []
    if event_log.get("store", "sqlite") == "sqlite" and re.fullmatch(
        r"0*([2-9]|[1-9]\d+)", str(server.get("workers", 1))
    ):
        faults.append(
            "[server] workers: a SQLite log has one process, since nothing tells another one what was "
            'written; use workers = 1, or [log] store = "mongodb"'
        )
    if isinstance(host, str) and not _loopback(host) and not allowed:
        faults.append(
            f"[server] host: {host or 'every address'} can be reached from other machines and there is no access "
            "control; use 127.0.0.1, or ask for it with --allow-open-network "
            "([server] allow_open_network = true)"
        )
    return faults


def _table(data: Any, section: str) -> dict[str, Any]:
    value = data.get(section) if isinstance(data, dict) else None
    if isinstance(value, BaseModel):
        return value.model_dump()
    return value if isinstance(value, dict) else {}


def _details(kind: str, message: str, location: tuple[int | str, ...] = ()) -> InitErrorDetails:
    # As an error of its own kind: not all of pydantic's can be made anew. Without the input, which may be secret.
    text = _MESSAGES.get(kind, message.removeprefix("Value error, "))
    return {"type": PydanticCustomError("setting", "{fault}", {"fault": text}), "loc": location, "input": None}


def _unknown_environment() -> list[str]:
    known = {f"{ENV_PREFIX}{name}".upper() for name in Settings.model_fields}
    return [
        f"environment variable {name}: there is no such setting (sections and keys are joined by two underscores)"
        for name in sorted(os.environ)
        if name.startswith(ENV_PREFIX)
        and not name.startswith(_FOREIGN_ENV)
        and name.upper().split("__")[0] not in known
    ]


def _garbled_environment() -> dict[str, str]:
    """Variables that are to hold a table or a list, but no JSON; and what is wrong with each."""
    garbled: dict[str, str] = {}
    for name, value in sorted(os.environ.items()):
        prefix, path = name[: len(ENV_PREFIX)], name[len(ENV_PREFIX) :]
        if prefix.upper() == ENV_PREFIX and _holds_json(path.lower().split("__")):
            try:
                json.loads(value)
            except ValueError as exc:
                garbled[name] = str(exc)
    return garbled


def _holds_json(path: list[str]) -> bool:
    annotation: Any = Settings
    for key in path:
        fields = annotation.model_fields if _is_model(annotation) else {}
        if key not in fields:
            return False
        annotation = fields[key].annotation
    return _is_model(annotation) or get_origin(annotation) is tuple


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _fault(error: ErrorDetails) -> str:
    message = error["msg"]
    if not error["loc"]:
        return message
    tables: list[str] = []
    key = ""
    for part in error["loc"]:
        if isinstance(part, int):
            key += f"[{part}]"
        elif "[" in key:
            key += f".{part}"
        else:
            tables += [key] if key else []
            key = part
    return f"[{'.'.join(tables)}] {key}: {message}" if tables else f"[{key}]: {message}"


def _loopback(host: str) -> bool:
    return host == "localhost" or host == "::1" or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None
