"""What a credential says of its holder, checked: tenant, subject, roles, binding."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from sync_core.domain.fields import UserID
from sync_core.filters import ENTITY_KEYS
from sync_core.problems import Unauthorized
from sync_server.tenants import DEFAULT_TENANT, Tenant

__all__ = ["MACHINE", "Binding", "Claims", "Subject"]

MACHINE = "key:"
"""Subjects that are API keys begin with it; nobody else's may."""
MAX_TIME_S = 253_402_300_000
"""The year 9999: beyond it there are no dates to show."""


def _no_machine(subject: str) -> str:
    if subject.startswith(MACHINE):
        raise ValueError(f"{MACHINE} is how API keys are called")
    return subject


Subject = Annotated[UserID, AfterValidator(_no_machine)]
_TAG = re.compile(rf"(?:{'|'.join(ENTITY_KEYS)})=[^\x00-\x1f,]{{1,128}}")


def _a_tag(text: str) -> str:
    if _TAG.fullmatch(text) is None:
        raise ValueError(f"has to be KEY=ID, such as tillID=till-1; KEY is one of {', '.join(ENTITY_KEYS)}")
    return text


Binding = Annotated[str, AfterValidator(_a_tag)]


class Claims(BaseModel):
    """Who somebody is. *bound* are the only entities (``bayID=B1``) that they see; empty: not bound."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    tenant: Tenant = DEFAULT_TENANT
    sub: Subject
    roles: tuple[Annotated[str, StringConstraints(max_length=64)], ...] = Field(default=(), max_length=32)
    bound: tuple[Binding, ...] = Field(default=(), max_length=200)
    exp: float | None = Field(default=None, le=MAX_TIME_S)
    jti: str | None = None
    gen: int | None = None
    """Only in our own tokens: the user's generation."""

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> "Claims":
        """Out of a verified token's *content*. Raises Unauthorized: a claim of another form is never guessed at."""
        try:
            return cls.model_validate(dict(content), strict=False)
        except ValidationError as exc:
            names = ", ".join(sorted({str(error["loc"][0]) for error in exc.errors() if error["loc"]}))
            raise Unauthorized(f"The token's claims cannot be used: {names or 'wrong form'}.") from None
