"""Logging in: the password, and the pauses that guessing costs. Attempts are counted per user name and per address,
in the log of the accounts, so that all processes agree."""

from collections.abc import Callable

import structlog
from pydantic import ValidationError

from sync_core.domain.command import Command
from sync_core.domain.document import Ref
from sync_core.problems import Unauthorized, Unavailable
from sync_server.access.caller import Caller
from sync_server.access.passwords import MAX_PASSWORD, Passwords
from sync_server.access.rights import OPEN_RIGHTS
from sync_server.accounts.directory import UNREADABLE_RETRY_S, AccountUnreadable, Directory
from sync_server.accounts.records import (
    ACCOUNTS_TENANT,
    MAX_FORGOTTEN,
    EndedSession,
    Forget,
    Lockout,
    NoteLogin,
    User,
    forget,
    lockout_of_address,
    lockout_of_user,
    note_attempt,
    note_success,
    user_id,
)
from sync_server.commands.dispatch import Call, Dispatch
from sync_server.log.base import EventLog, Selection

__all__ = ["SYSTEM", "Logins", "forget_stale"]

SYSTEM = Caller(ACCOUNTS_TENANT, "system", OPEN_RIGHTS)
"""The server itself, where it writes to the log of the accounts."""

log = structlog.get_logger("sync_server.accounts")


class Logins:
    """Checks passwords against the directory; *dispatch* is that of the accounts."""

    def __init__(self, directory: Directory, passwords: Passwords, dispatch: Dispatch) -> None:
        self._directory = directory
        self._passwords = passwords
        self._dispatch = dispatch

    async def check(self, *, tenant: str, name: str, password: str, address: str) -> User:
        """The user. Raises Unauthorized, the same for a wrong name and a wrong password; TooManyRequests while locked;
        Unavailable.

        A name that does not exist is locked out like one that does, and takes as long.
        """
        attempt = NoteLogin(user=lockout_of_user(tenant, name), address=lockout_of_address(address))
        await self._note(note_attempt, attempt)
        await self._directory.refresh()  # a user who was just added, or whose password just changed, is looked up now
        user = self._user(tenant, name)
        stored = user.password if user is not None else None
        fits = len(password) <= MAX_PASSWORD and await self._passwords.fits(stored, password)
        if user is None or not fits:
            log.info("login_refused")
            raise Unauthorized("The user name or the password is wrong.")
        await self._note(note_success, attempt)
        return user

    async def _note(self, command: Command, attempt: NoteLogin) -> None:
        """Raises TooManyRequests, Unavailable: what is not counted is not tried."""
        if (await self._dispatch(SYSTEM, Call(command, attempt))).refusal is not None:
            raise Unavailable(
                "A newer version of this server has counted the attempts to log in, and has to run here again.",
                retry_after_s=UNREADABLE_RETRY_S,
            )

    def _user(self, tenant: str, name: str) -> User | None:
        try:
            return self._directory.user(user_id(tenant, name))
        except AccountUnreadable:  # refused like a name that does not exist: whoever guesses is not told that it does
            return None


async def forget_stale(event_log: EventLog, dispatch: Dispatch, *, now_ms: Callable[[], int]) -> None:
    """Delete lock-outs that are over and ended sessions whose tokens are. Raises LogError, Problem."""
    selection = Selection((EndedSession.kind, Lockout.kind))
    after: Ref | None = None
    while True:
        page = await event_log.documents(ACCOUNTS_TENANT, selection, after=after, limit=MAX_FORGOTTEN)
        sessions, lockouts = [], []
        for stored in page.documents:
            try:
                if stored.kind == EndedSession.kind:
                    if EndedSession.model_validate_json(stored.body).expires_ms <= now_ms():
                        sessions.append(stored.id)
                elif Lockout.model_validate_json(stored.body).is_forgotten(now_ms()):
                    lockouts.append(stored.id)
            except ValidationError:  # a newer server wrote it, and will look after it
                log.info("account_unreadable", kind=stored.kind, id=stored.id)
        if sessions or lockouts:
            await dispatch(SYSTEM, Call(forget, Forget(sessions=tuple(sessions), lockouts=tuple(lockouts))))
        if page.next is None:
            return
        after = page.next
