"""What becomes of order sessions without anybody asking: they are left when nobody touched them for long, and go with
their user.

Source: seed 004, domain-more.md C.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import cast

from sync_core.domain.document import Document, Ref
from sync_core.domain.leaving import LogoutStale, is_stale, logout_stale
from sync_core.domain.sessions import DeleteSession, OrderSession, SessionStatus, delete
from sync_core.filters import tag
from sync_core.problems import NotFound
from sync_server.access.caller import Caller
from sync_server.access.rights import OPEN_RIGHTS
from sync_server.accounts.records import ACCOUNTS_TENANT, User, user_id
from sync_server.commands.dispatch import Call, Dispatch
from sync_server.commands.sweeps import SYSTEM, Sweep
from sync_server.log.base import DocumentPage, EventLog, Selection
from sync_server.log.records import StoredDocument
from sync_server.sections import SessionsSection

__all__ = ["DeletedUsers", "delete_sessions", "stale_sessions"]

LOOKS = 5
"""How often sessions are looked at in the time after which they are stale."""
MAX_INTERVAL_S = 60.0
PAGE = 100


def stale_sessions(section: SessionsSection) -> Sweep:
    """The sweep that leaves active sessions for later which nobody has changed for the configured time."""
    idle_s = section.stale_after / timedelta(seconds=1)

    def due(document: Document, now_ms: int) -> LogoutStale | None:
        session = cast("OrderSession", document)
        if not is_stale(session, now_ms=now_ms, idle_ms=int(idle_s * 1000)):
            return None
        return LogoutStale(sessionID=session.sessionID, idleSeconds=idle_s)

    return Sweep(
        name="stale_sessions",
        selection=Selection((OrderSession.kind,), states=frozenset({SessionStatus.ACTIVE.value})),
        every_s=min(idle_s / LOOKS, MAX_INTERVAL_S),
        command=logout_stale,
        due=due,
    )


async def delete_sessions(event_log: EventLog, dispatch: Dispatch, *, tenant: str, user: str) -> int:
    """Delete all sessions of *user*, who is deleted, finished ones too; how many. What was sold stays. Of anybody else
    nothing is touched. Raises LogError, Problem.
    """
    if not {tenant, ACCOUNTS_TENANT} <= set(await event_log.tenants()):
        return 0
    selection = Selection((OrderSession.kind,), frozenset({tag("userID", user)}))
    system, count = Caller(tenant, SYSTEM, OPEN_RIGHTS), 0

    async def forget(page: Sequence[StoredDocument]) -> None:
        nonlocal count
        # Asked after they were found: who is still deleted by now has made none of them under a new account.
        if not await _is_deleted(event_log, user_id(tenant, user)):
            return
        for stored in page:
            try:
                answer = await dispatch(system, Call(delete, DeleteSession(sessionID=stored.id)))
            except NotFound:
                continue  # somebody else was faster
            count += answer.refusal is None

    await _each(lambda after: event_log.documents(tenant, selection, after=after, limit=PAGE), forget)
    return count


async def _is_deleted(event_log: EventLog, record: str) -> bool:
    found = (await event_log.load(ACCOUNTS_TENANT, [Ref(User.kind, record)])).documents
    return bool(found) and all(stored.deleted for stored in found)


class DeletedUsers:
    """Deletes the sessions of users who are deleted: what a kill between the two leaves, or a session made meanwhile.

    Who was deleted stands in the log of the accounts until it is trimmed.
    """

    def __init__(self, event_log: EventLog, dispatch: Dispatch) -> None:
        self._log = event_log
        self._dispatch = dispatch
        self._seen: set[tuple[str, int]] = set()
        self._done: set[tuple[str, int]] = set()

    async def sweep(self) -> None:
        """Twice for each: a session may have been made in the moment until all processes knew. Raises LogError,
        Problem.
        """
        gone: set[tuple[str, int]] = set()

        async def look(page: Sequence[StoredDocument]) -> None:
            for stored in page:
                if not stored.deleted:
                    continue
                gone.add((stored.id, stored.version))
                if (stored.id, stored.version) not in self._done:
                    tenant, _, user = stored.id.partition("/")
                    await delete_sessions(self._log, self._dispatch, tenant=tenant, user=user)

        selection = Selection((User.kind,), deleted=True)
        if ACCOUNTS_TENANT in await self._log.tenants():
            read = self._log.documents
            await _each(lambda after: read(ACCOUNTS_TENANT, selection, after=after, limit=PAGE), look)
        self._seen, self._done = gone, self._seen & gone


async def _each(
    read: Callable[[Ref | None], Awaitable[DocumentPage]], work: Callable[[Sequence[StoredDocument]], Awaitable[None]]
) -> None:
    """*work* on all pages that *read* gives."""
    after: Ref | None = None
    while True:
        page = await read(after)
        await work(page.documents)
        after = page.next
        if after is None:
            return
