"""Tenants: each has a log and a feed of its own, in the same store."""

from typing import Annotated

from pydantic import StringConstraints

__all__ = ["DEFAULT_TENANT", "TENANT_PATTERN", "Tenant"]

TENANT_PATTERN = r"^[a-z0-9-]{1,64}$"
DEFAULT_TENANT = "default"
"""Of all who say no other, and the only one without access control."""
Tenant = Annotated[str, StringConstraints(pattern=TENANT_PATTERN)]
