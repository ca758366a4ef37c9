"""Who calls: what every request carries once it is known who sent it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sync_server.access.rights import OPEN_RIGHTS, Rights
from sync_server.tenants import DEFAULT_TENANT

__all__ = ["OPEN_CALLER", "Caller", "caller_of"]


@dataclass(frozen=True, slots=True)
class Caller:
    """A principal of a tenant and its rights, good until *expires_ms* (Unix time, leeway included; None: for ever).

    *credential* names what it showed (``key:abc``, ``session:...``), so that this can be judged again later.
    """

    tenant: str
    principal: str
    rights: Rights
    expires_ms: int | None = None
    credential: str = ""

    def left_s(self, now_s: float) -> float:
        """How long its access lasts from *now_s* (Unix time) on."""
        return math.inf if self.expires_ms is None else max(self.expires_ms / 1000 - now_s, 0.0)


def caller_of(scope: Mapping[str, Any]) -> Caller:
    """Who sent the request with this ASGI *scope*.

    What stands in front of the routes puts it at ``scope["state"]["caller"]``. Nobody is let in by default: without
    it there is a fault in the server (LookupError).
    """
    caller = scope.get("state", {}).get("caller")
    if not isinstance(caller, Caller):
        raise LookupError("nobody has said who calls")
    return caller


OPEN_CALLER = Caller(DEFAULT_TENANT, "anonymous", OPEN_RIGHTS)
"""Everybody, where there is no access control."""
