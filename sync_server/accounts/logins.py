"""Logging in: the password, and the pauses that guessing costs. Counted per user name and per address, in the log
of the accounts, so that all processes agree."""

from collections.abc import Callable
from hashlib import blake2b

import structlog

from sync_core.domain.command import Command, CommandInput
from sync_core.domain.document import Ref
from sync_core.problems import TooManyRequests, Unauthorized, Unavailable
from sync_server.access.caller import Caller
from sync_server.access.passwords import MAX_PASSWORD, Passwords
from sync_server.access.rights import OPEN_RIGHTS
from sync_server.accounts.directory import Directory
from sync_server.accounts.records import (
    ACCOUNTS_TENANT,
    Lockout,
    NoteLogin,
    User,
    note_failure,
    note_success,
    user_id,
)
from sync_server.commands.dispatch import Call, Dispatch
from sync_server.log.base import EventLog, LogError

__all__ = ["SYSTEM", "Logins"]

SYSTEM = Caller(ACCOUNTS_TENANT, "system", OPEN_RIGHTS)
"""The server itself, where it writes to the log of the accounts."""

log = structlog.get_logger("sync_server.accounts")


class Logins:
    """Checks passwords against the directory."""

    def __init__(
        self,
        directory: Directory,
        passwords: Passwords,
        dispatch: Dispatch,
        event_log: EventLog,
        *,
        wall_ms: Callable[[], int],
    ) -> None:
        self._directory = directory
        self._passwords = passwords
        self._dispatch = dispatch
        self._log = event_log
        self._wall_ms = wall_ms

    async def check(self, *, tenant: str, name: str, password: str, address: str) -> User:
        """The user. Raises Unauthorized, the same for a wrong name and a wrong password; TooManyRequests while locked.

        A name that does not exist is locked out like one that does, and takes as long.
        """
        records = (_record("user", user_id(tenant, name)), _record("address", address))
        await self._refuse_locked(records)
        user = self._directory.user(user_id(tenant, name))
        stored = user.password if user is not None else None
        fits = len(password) <= MAX_PASSWORD and await self._passwords.fits(stored, password)
        if user is None or not fits:
            await self._note(note_failure, NoteLogin(records=records))
            log.info("login_refused", tenant=tenant)
            raise Unauthorized("The user name or the password is wrong.")
        # Only the name's: an address from which somebody guesses other names is not cleared by one success.
        await self._note(note_success, NoteLogin(records=records[:1]))
        return user

    async def _refuse_locked(self, records: tuple[str, ...]) -> None:
        try:
            await self._log.ensure(ACCOUNTS_TENANT)
            page = await self._log.load(ACCOUNTS_TENANT, [Ref(Lockout.kind, record) for record in records])
        except LogError as exc:
            raise Unavailable("The event log cannot be read now.", retry_after_s=2) from exc
        lockouts = [Lockout.model_validate_json(stored.body) for stored in page.documents if not stored.deleted]
        left_ms = max((lockout.until_ms for lockout in lockouts), default=0) - self._wall_ms()
        if left_ms > 0:
            raise TooManyRequests("Too many wrong passwords; wait.", retry_after_s=left_ms // 1000 + 1)

    async def _note(self, command: Command, given: CommandInput) -> None:
        await self._dispatch(SYSTEM, Call(command, given))


def _record(what: str, name: str) -> str:
    """Of a bounded form, whatever name was tried; and no list of names that do not exist."""
    return f"{what}:{blake2b(name.encode(), digest_size=16).hexdigest()}"
