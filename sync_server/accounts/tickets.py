"""Tickets: what stands in a URL for the credential that a browser's EventSource cannot send. 30 s, and once.

That a ticket was used is an outcome in the log of the accounts, so it holds in every process and across restarts.
"""

from collections.abc import Callable

from sync_core.labels import user_of
from sync_core.problems import Unauthorized
from sync_server.access.caller import Caller
from sync_server.access.roles import Roles
from sync_server.access.signatures import Signer
from sync_server.accounts.records import ACCOUNTS_TENANT
from sync_server.log.appender import Appender
from sync_server.log.once import Once
from sync_server.log.records import OutcomeKey

__all__ = ["TICKET_S", "Tickets"]

TICKET_S = 30.0
KEPT_MS = 120_000
"""Longer than a ticket is good for, by more than clocks of several machines differ."""


class Tickets:
    """Issues and redeems. *wall_ms* is Unix time."""

    def __init__(self, secret: bytes, appender: Appender, roles: Roles, *, wall_ms: Callable[[], int]) -> None:
        self._signer = Signer(secret, "ticket")
        self._appender = appender
        self._roles = roles
        self._wall_ms = wall_ms

    def issue(self, caller: Caller) -> str:
        """A ticket with which somebody is *caller*, once, in the next 30 s."""
        rights = caller.rights
        content = {
            "t": caller.tenant, "p": caller.principal, "c": caller.credential, "x": caller.expires_ms,
            "r": sorted(rights.roles), "b": sorted(rights.bound),
        }  # fmt: skip
        return self._signer.sign(content, expires_s=self._wall_ms() / 1000 + TICKET_S)

    async def redeem(self, ticket: str) -> Caller:
        """Who it was issued to. Raises Unauthorized, Unavailable."""
        content = self._signer.read(ticket, now_s=self._wall_ms() / 1000)
        if content is None:
            raise Unauthorized("The ticket cannot be used; it is good for 30 s. Get another one.")
        used = Unauthorized("The ticket was used before. Get another one.")
        await self._appender.append(ACCOUNTS_TENANT, Once(OutcomeKey("ticket", str(content["n"])), KEPT_MS, used))
        principal = str(content["p"])
        subject = user_of(principal)
        rights = self._roles.rights(subject, tuple(content["r"]), tuple(content["b"]))
        return Caller(content["t"], principal, rights, content["x"], content["c"])
