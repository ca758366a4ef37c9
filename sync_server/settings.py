"""The configuration: one frozen object, read once at the root. Source of every default.

Order of precedence: command line, environment (``SYNC_SERVER__PORT=9000``), the file (``--config`` or
``sync.toml``), the defaults here. Everything that is wrong is told in one message.
"""

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_origin

from pydantic import (
    BaseModel,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from sync_core.domain.catalog import REGISTRY
from sync_core.problems import SyncError
from sync_server.access_sections import AccessSection, LimitsSection, WebhookSection
from sync_server.sections import (
    EventsSection,
    FeedSection,
    FuelingSection,
    LogSection,
    PositionsSection,
    RetentionSection,
    ServerSection,
    SessionsSection,
    SocketsSection,
    checked,
    fault_details,
    name_of,
)

__all__ = ["DEFAULT_FILE", "EXIT_CONFIG", "ConfigError", "LogSection", "Settings", "is_loopback", "load_settings"]

DEFAULT_FILE = Path("sync.toml")
EXIT_CONFIG = 2
"""Exit status of a program that cannot work as it is set up."""
ENV_PREFIX = "SYNC_"
_FOREIGN_ENV = ("SYNC_TEST_", "SYNC_CLIENT_")


class ConfigError(SyncError):
    """The configuration cannot be used; the message holds every fault."""


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
    fueling: FuelingSection = FuelingSection()
    sessions: SessionsSection = SessionsSection()
    positions: PositionsSection = PositionsSection()
    sockets: SocketsSection = SocketsSection()
    access: AccessSection = AccessSection()
    limits: LimitsSection = LimitsSection()
    webhooks: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")], WebhookSection] = {}

    @model_validator(mode="wrap")
    @classmethod
    def _together(cls, data: Any, handler: ModelWrapValidatorHandler["Settings"]) -> "Settings":
        """What no key is wrong in by itself; told together with what is."""
        faults = [fault_details("together", fault) for fault in _faults_together(data)]
        return checked(cls.__name__, lambda: handler(data), faults)

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
    server, event_log, access = (_table(data, section) for section in ("server", "log", "access"))
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
    if isinstance(host, str) and not is_loopback(host) and not allowed and access.get("mode", "open") == "open":
        faults.append(
            f"[server] host: {host or 'every address'} can be reached from other machines and there is no access "
            'control; use 127.0.0.1, set [access] mode = "required", or ask for it with --allow-open-network '
            "([server] allow_open_network = true)"
        )
    return faults + _webhook_faults(data)


def _webhook_faults(data: Any) -> list[str]:
    """Webhooks whose event type cannot be published."""
    custom = _table(data, "events").get("custom", ())
    names = {event_type.name for event_type in REGISTRY if event_type.publishable}
    names |= (
        {name for entry in custom if isinstance(name := name_of(entry), str)}
        if isinstance(custom, list | tuple)
        else set()
    )
    faults = []
    for source, section in _table(data, "webhooks").items():
        event_type = section.get("event_type") if isinstance(section, dict) else None
        if isinstance(event_type, str) and event_type not in names:
            faults.append(
                f"[webhooks.{source}] event_type: {event_type!r} cannot be published; use one of "
                f"{', '.join(sorted(names))}, or add it to [events] custom"
            )
    return faults


def _table(data: Any, section: str) -> dict[str, Any]:
    value = data.get(section) if isinstance(data, dict) else None
    if isinstance(value, BaseModel):
        return value.model_dump()
    return value if isinstance(value, dict) else {}


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
    return _is_model(annotation) or get_origin(annotation) in (tuple, dict)


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


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    return host == "localhost" or host == "::1" or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None
