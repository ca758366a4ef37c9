"""The sections of the configuration that say who may come in, and how often. Source: docs/security.md."""

import ipaddress
import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator

from sync_core.domain.catalog import DOMAIN
from sync_core.filters import ENTITY_KEYS, EVENT_TYPE_PATTERN
from sync_server.permissions import known_permissions
from sync_server.sections import Duration, ReadableFile, Section
from sync_server.tenants import DEFAULT_TENANT, TENANT_PATTERN, Tenant

__all__ = ["AccessSection", "JWTSection", "LimitsSection", "RoleSection", "WebhookSection"]

MIN_SECRET_BYTES = 32
MIN_SECRET_CHARACTERS = 10
_SAFE_URL = re.compile(r"https://|http://(localhost|127\.0\.0\.1|\[::1\])[:/]")
_PERMISSIONS = known_permissions(DOMAIN)


def _strong(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if len(text.encode()) < MIN_SECRET_BYTES or len(set(text)) < MIN_SECRET_CHARACTERS:
        raise ValueError(f"too weak: at least {MIN_SECRET_BYTES} random bytes, such as `openssl rand -base64 48` gives")
    return secret


Secret = Annotated[SecretStr, AfterValidator(_strong)]


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
    tenant: Tenant = DEFAULT_TENANT
    signature_header: str = Field("X-Signature", pattern=r"^[A-Za-z0-9-]{1,64}$")
    timestamp_header: str = Field("X-Timestamp", pattern=r"^[A-Za-z0-9-]{1,64}$")
    key: str | None = None
    keys: dict[str, str] = Field(default_factory=dict)
    data: dict[str, str] = Field(default_factory=dict)
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
    tenants: tuple[str, ...] | Literal["any"] = (DEFAULT_TENANT,)
    jwt: tuple[JWTSection, ...] = ()
    roles: dict[str, RoleSection] = Field(default_factory=dict)
    trusted_proxies: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()

    @field_validator("tenants", mode="before")
    @classmethod
    def _any_or_some(cls, tenants: Any) -> Any:
        if tenants != "any" and not isinstance(tenants, list | tuple):
            raise ValueError('has to be "any", or a list of names')
        return tenants

    @field_validator("tenants")
    @classmethod
    def _names(cls, tenants: tuple[str, ...] | str) -> tuple[str, ...] | str:
        for tenant in tenants if isinstance(tenants, tuple) else ():
            if not re.fullmatch(TENANT_PATTERN, tenant):
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
