"""Accounts in a real log, with a clock that tests move and passwords that cost nothing."""

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from prometheus_client import CollectorRegistry

from sync_core.domain.catalog import DOMAIN
from sync_core.domain.command import Command, CommandInput
from sync_server.access.keyring import ApiKey, new_api_key
from sync_server.access.passwords import Passwords
from sync_server.access.roles import Roles
from sync_server.access.tokens import Key, StaticKeys, TokenVerifier
from sync_server.accounts import records
from sync_server.accounts.authenticate import Authenticator
from sync_server.accounts.directory import Directory
from sync_server.accounts.logins import SYSTEM, Logins
from sync_server.accounts.records import ACCOUNTS, ACCOUNTS_TENANT, User, user_id
from sync_server.accounts.sessions import LoginSessions
from sync_server.accounts.tickets import Tickets
from sync_server.commands.dispatch import Call, Dispatch
from sync_server.log.appender import Appender
from sync_server.log.base import EventLog, Selection
from sync_server.log.open import new_epoch
from sync_server.log.sqlite import SQLiteLog
from sync_server.metrics import Metrics
from tests.access.credentials import AUDIENCE, ISSUER, PROVIDER_SECRET

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "correct horse battery"
STREAM = "/api/v1/sync/events"


class Clock:
    """Unix time in milliseconds, moved by hand from now on."""

    def __init__(self) -> None:
        self.ms = time.time_ns() // 1_000_000

    def __call__(self) -> int:
        return self.ms


class Office:
    """One process's share in the accounts."""

    def __init__(self, event_log: EventLog, *, clock: Clock, secret: bytes = b"s" * 32) -> None:
        self.log = event_log
        self.clock = clock
        self.appender = Appender(
            event_log, on_commit=lambda *_: None, metrics=Metrics(CollectorRegistry()), wall_ms=clock
        )
        self.dispatch = Dispatch(ACCOUNTS, self.appender)
        self.directory = Directory(event_log, wall_ms=clock)
        self.passwords = Passwords(CHEAP)
        self.logins = Logins(self.directory, self.passwords, self.dispatch)
        self.roles = Roles.of(DOMAIN)
        self.sessions = LoginSessions(secret, lifetime_s=3600, wall_ms=clock)
        self.tickets = Tickets(secret, self.appender, self.roles, wall_ms=clock)
        provider = StaticKeys([Key("HS256", PROVIDER_SECRET)])
        self.authenticator = Authenticator(
            roles=self.roles,
            directory=self.directory,
            sessions=self.sessions,
            tickets=self.tickets,
            verifiers=[TokenVerifier(provider, issuer=ISSUER, audience=AUDIENCE, leeway_s=0)],
            tenants=frozenset({"default", "other"}),
            ticket_paths=frozenset({STREAM}),
        )

    async def do(self, command: Command, given: CommandInput) -> None:
        assert (await self.dispatch(SYSTEM, Call(command, given))).refusal is None

    async def add_user(self, name: str = "ann", *roles: str, tenant: str = "default", **more: Any) -> User:
        stored = await self.passwords.hash(PASSWORD)
        given = records.AddUser(name=name, tenant=tenant, password=stored, roles=roles or ("viewer",), **more)
        await self.do(records.add_user, given)
        await self.directory.look()
        user = self.directory.user(user_id(tenant, name))
        assert user is not None
        return user

    async def add_key(self, *roles: str, **more: Any) -> ApiKey:
        key = new_api_key()
        given = records.AddKey(record=key.id, name="till", digest=key.digest, roles=roles or ("viewer",), **more)
        await self.do(records.add_key, given)
        await self.directory.look()
        return key

    async def events(self) -> int:
        """How many events the accounts' log has."""
        return (await self.log.ensure(ACCOUNTS_TENANT)).head

    async def documents(self, *kinds: str) -> list[str]:
        """The ids of all records of *kinds*."""
        page = await self.log.documents(ACCOUNTS_TENANT, Selection(kinds), after=None, limit=100)
        return [stored.id for stored in page.documents]

    def make_newer(self, kind: str, record: str, field: str) -> None:
        """Give a stored record the shape that a newer server might."""
        with closing(sqlite3.connect(self.log._path)) as db, db:  # type: ignore[attr-defined]
            sql = "UPDATE documents SET body = json_set(body, ?, json(?)) WHERE kind = ? AND id = ?"
            changed = db.execute(sql, (f"$.{field}", '{"newer": 1}', kind, record)).rowcount
            assert changed == 1

    async def aclose(self) -> None:
        await self.appender.aclose()
        self.passwords.close()


@asynccontextmanager
async def office(directory: Path, *, exclusive: bool = True, clock: Clock | None = None) -> AsyncIterator[Office]:
    """An Office on the SQLite log in *directory*, its directory read."""
    event_log = SQLiteLog(directory / "sync.db", new_epoch=new_epoch, exclusive=exclusive)
    await event_log.open()
    opened = Office(event_log, clock=clock or Clock())
    try:
        await opened.directory.look()
        yield opened
    finally:
        await opened.aclose()
        await event_log.aclose()


def request(
    method: str = "GET", path: str = "/api/v1/orders", *, query: str = "", **headers: str | list[str]
) -> dict[str, Any]:
    """An ASGI scope; underscores in names of *headers* stand for hyphens."""
    listed = [
        (name.replace("_", "-").lower().encode(), value.encode("latin-1"))
        for name, values in headers.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    return {
        "type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": listed, "state": {},
        "scheme": "http", "client": ("127.0.0.1", 5),
    }  # fmt: skip
