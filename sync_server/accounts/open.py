"""Access control as it is configured, put together."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from sync_core.domain.command import Domain
from sync_core.paths import STREAM_PATH
from sync_server.access.passwords import Passwords
from sync_server.access.roles import roles_of
from sync_server.access.tokens import JWKSKeys, Key, KeySource, StaticKeys, TokenVerifier, public_key
from sync_server.access_sections import AccessSection, JWTSection
from sync_server.accounts.authenticate import Authenticator
from sync_server.accounts.directory import Directory
from sync_server.accounts.logins import Logins, forget_stale
from sync_server.accounts.records import ACCOUNTS
from sync_server.accounts.routes import auth_routes
from sync_server.accounts.sessions import LoginSessions
from sync_server.accounts.tickets import Tickets
from sync_server.commands.dispatch import Dispatch
from sync_server.feed.feed import Feed
from sync_server.log.appender import Appender
from sync_server.log.base import EventLog, LogError
from sync_server.settings import ConfigError

__all__ = ["Accounts", "verifiers_of"]

PATIENCE_S = 2.0


class Accounts:
    """What a server with access control has beside one without; *domain* is what roles give permissions for."""

    def __init__(
        self,
        section: AccessSection,
        verifiers: Sequence[TokenVerifier],
        *,
        domain: Domain,
        event_log: EventLog,
        appender: Appender,
    ) -> None:
        assert section.secret is not None  # as the settings make sure of
        secret, wall_ms = section.secret.get_secret_value().encode(), appender.wall_ms
        roles = roles_of(section, domain)
        sessions = LoginSessions(secret, lifetime_s=section.session.total_seconds(), wall_ms=wall_ms)
        tickets = Tickets(secret, appender, roles, wall_ms=wall_ms)
        self._event_log = event_log
        self._wall_ms = wall_ms
        self._dispatch = Dispatch(ACCOUNTS, appender)
        self._passwords = Passwords()
        self.directory = Directory(event_log, wall_ms=wall_ms)
        self.authenticator = Authenticator(
            roles=roles,
            directory=self.directory,
            sessions=sessions,
            tickets=tickets,
            verifiers=verifiers,
            tenants=None if section.tenants == "any" else frozenset(section.tenants),
            ticket_paths=frozenset({STREAM_PATH}),
        )
        logins = Logins(self.directory, self._passwords, self._dispatch)
        self.routes = auth_routes(logins, sessions, tickets, self._dispatch, self.directory)

    async def begin(self, feed: Feed) -> None:
        """Read the directory, and keep it current in the feed's task group: who loses something by a change is
        dismissed from the feed. A log that does not answer yet is no error.
        """

        judged = -1

        def looked() -> None:
            nonlocal judged
            changes = self.directory.changes
            # Also without a change: who was let in before the last one may have begun a stream after it.
            changed = self.authenticator.changed(feed.newcomers() if changes == judged else feed.callers)
            if changed:
                feed.dismiss(changed)
            judged = changes

        with suppress(TimeoutError, LogError):
            async with asyncio.timeout(PATIENCE_S):
                await self.directory.look()
        feed.spawn(self.directory.follow(looked=looked))

    async def upkeep(self) -> None:
        """Forget what has no meaning any more. Raises LogError, Problem."""
        await forget_stale(self._event_log, self._dispatch, now_ms=self._wall_ms)

    def close(self) -> None:
        """End the thread that checks passwords."""
        self._passwords.close()


def verifiers_of(sections: Sequence[JWTSection]) -> list[TokenVerifier]:
    """What checks the tokens of identity providers. Raises ConfigError with every key that cannot be used."""
    verifiers: list[TokenVerifier] = []
    faults: list[str] = []
    for index, section in enumerate(sections):
        try:
            source = _key_source(section)
        except ValueError as exc:
            faults.append(f"[access] jwt[{index}].public_key_file: {section.public_key_file}: {exc}")
        else:
            verifiers.append(
                TokenVerifier(source, issuer=section.issuer, audience=section.audience, leeway_s=section.leeway_s)
            )
    if faults:
        raise ConfigError("The configuration cannot be used:\n" + "\n".join(f"  - {fault}" for fault in faults))
    return verifiers


def _key_source(section: JWTSection) -> KeySource:
    if section.jwks_url is not None:
        return JWKSKeys(section.jwks_url)
    if section.public_key_file is not None:
        assert section.algorithm is not None
        return StaticKeys([public_key(section.algorithm, section.public_key_file)])
    assert section.secret is not None
    return StaticKeys([Key("HS256", section.secret.get_secret_value().encode())])
