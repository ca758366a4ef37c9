"""The way of the commands `key` and `user` to the accounts: straight into the log, also beside a running server."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from time import time_ns
from typing import Annotated, TypeVar

import typer
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from sync_core.domain.catalog import DOMAIN
from sync_core.domain.command import Command, CommandInput
from sync_core.domain.document import Document
from sync_core.faults import faults_of
from sync_core.problems import Unprocessable
from sync_server.access.roles import roles_of
from sync_server.accounts.directory import Directory
from sync_server.accounts.logins import SYSTEM
from sync_server.accounts.records import ACCOUNTS, AddUser, add_user
from sync_server.commands.dispatch import Call, Dispatch
from sync_server.console.terminal import die, err, existing, with_log
from sync_server.log.appender import Appender
from sync_server.log.base import EventLog
from sync_server.metrics import Metrics
from sync_server.sessions import delete_sessions
from sync_server.settings import Settings, load_settings

__all__ = [
    "Accounts",
    "BoundOption",
    "RolesOption",
    "TenantOption",
    "checked_access",
    "made",
    "tell_unreadable",
    "with_accounts",
]

I = TypeVar("I", bound=CommandInput)  # noqa: E741 - input

RolesOption = Annotated[
    list[str] | None, typer.Option("--role", metavar="ROLE", help="What it may do; may be given several times.")
]
BoundOption = Annotated[
    list[str] | None,
    typer.Option("--bound", metavar="KEY=ID", help="Sees only this, such as bayID=B1; may be given several times."),
]
TenantOption = Annotated[str, typer.Option("--tenant", metavar="NAME", help="Whose.")]


class Accounts:
    """The accounts, as they are in the log now."""

    def __init__(self, event_log: EventLog, appender: Appender) -> None:
        self._log = event_log
        self._shop = Dispatch(DOMAIN, appender)
        self._dispatch = Dispatch(ACCOUNTS, appender)
        self._directory = Directory(event_log, wall_ms=wall_ms)

    async def directory(self) -> Directory:
        """All who are known. Raises LogError."""
        await self._directory.look()
        return self._directory

    async def do(self, command: Command, given: CommandInput) -> None:
        """Change them. Raises Problem."""
        answer = await self._dispatch(SYSTEM, Call(command, given))
        if answer.refusal is not None:
            raise answer.refusal.problem(ACCOUNTS.kinds)

    async def add_user(self, given: AddUser) -> None:
        """Add a user. Raises LogError, Problem.

        What somebody deleted under this name has left goes first: nobody looks for it once the name is taken.
        """
        await self.delete_sessions(tenant=given.tenant, user=given.name)
        await self.do(add_user, given)

    async def delete_sessions(self, *, tenant: str, user: str) -> int:
        """Delete the order sessions of a user who is deleted; how many. Raises LogError, Problem."""
        return await delete_sessions(self._log, self._shop, tenant=tenant, user=user)


def with_accounts(config: Path | None, work: Callable[[Settings, Accounts], Awaitable[None]]) -> None:
    """Run *work* on the accounts of the configured log."""
    settings = existing(load_settings(config))

    async def on_log(event_log: EventLog) -> None:
        appender = Appender(event_log, on_commit=lambda *_: None, metrics=Metrics(CollectorRegistry()), wall_ms=wall_ms)
        try:
            await work(settings, Accounts(event_log, appender))
        finally:
            await appender.aclose()

    with_log(settings, on_log, exclusive=False)


def checked_access(settings: Settings, *, roles: list[str] | None, tenant: str) -> None:
    """End the command for roles and tenants that the configuration does not know; warn where all this has no effect."""
    table = roles_of(settings.access, DOMAIN).table
    if not roles:
        die(f"Give at least one --role; there are {', '.join(sorted(table))}.")
    if unknown := [role for role in roles if role not in table]:
        die(f"There is no role {unknown[0]!r}; there are {', '.join(sorted(table))} ([access.roles] adds some).")
    tenants = settings.access.tenants
    if tenants != "any" and tenant not in tenants:
        die(f"There is no tenant {tenant!r}; there are {', '.join(tenants)} ([access] tenants).")
    if settings.access.mode == "open":
        err.print('The server lets everybody in as long as [access] mode is "open".', markup=False)


def made(kind: type[I], **fields: object) -> I:
    """An input of *kind*. Raises Unprocessable with what is wrong with it."""
    try:
        return kind.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as exc:
        raise Unprocessable("That cannot be accepted.", errors=tuple(faults_of(exc))) from None


def tell_unreadable(directory: Directory, kind: type[Document]) -> None:
    """Tell of those accounts of *kind* that a newer server wrote: they are in no list."""
    for ref in directory.unreadable:
        if ref.kind == kind.kind:
            text = f"The {kind.noun()} {ref.id} was written by a newer version of this server: it lets nobody in here."
            err.print(text, markup=False)


def wall_ms() -> int:
    return time_ns() // 1_000_000
