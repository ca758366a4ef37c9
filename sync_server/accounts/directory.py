"""Who is known here: users, API keys and ended sessions, in memory, following what any process changes.

The log of the accounts is looked at once a second; what changed since is read again, and who lost something by it
is told to the feed, so that its streams end. Nothing is asked of the store for a single request.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from pydantic_core import from_json

from sync_core.domain.document import Ref
from sync_server.accounts.records import ACCOUNTS_TENANT, ApiKeyRecord, User
from sync_server.log.base import EventLog, LogError, Selection
from sync_server.log.records import StoredDocument, StoredEvent

__all__ = ["Directory"]

LOOK_S = 1.0
PAGE = 1000

log = structlog.get_logger("sync_server.accounts")


@dataclass(frozen=True, slots=True)
class _Seen:
    epoch: str
    head: int


class Directory:
    """*changed* hears of principals (``user:default/ann``, ``key:abc``) whose rights are no longer what they were."""

    def __init__(self, event_log: EventLog, *, changed: Callable[[str, str], None], wall_ms: Callable[[], int]) -> None:
        self._log = event_log
        self._changed = changed
        self._wall_ms = wall_ms
        self._users: dict[str, User] = {}
        self._keys: dict[str, ApiKeyRecord] = {}
        self._ended: dict[str, int] = {}
        """Sessions that were ended, and when their tokens would have been over (Unix ms)."""
        self._seen: _Seen | None = None
        self.read_s = float("-inf")
        """When it was last known to be current (monotonic)."""

    def user(self, record: str) -> User | None:
        return self._users.get(record)

    def key(self, key_id: str) -> ApiKeyRecord | None:
        key = self._keys.get(key_id)
        return key if key is None or key.expires_ms is None or key.expires_ms > self._wall_ms() else None

    def has_ended(self, session: str) -> bool:
        return session in self._ended

    @property
    def users(self) -> list[User]:
        return sorted(self._users.values(), key=lambda user: user.recordID)

    @property
    def keys(self) -> list[ApiKeyRecord]:
        return sorted(self._keys.values(), key=lambda key: key.created_ms)

    async def follow(self) -> None:
        """Stay current until cancelled."""
        failing = False
        while True:
            try:
                await self.look()
                failing = False
            except LogError as exc:
                if not failing:
                    log.warning("accounts_unavailable", error=str(exc))
                failing = True
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Take in what has changed. Raises LogError."""
        bounds = (await self._log.bounds([ACCOUNTS_TENANT])).get(ACCOUNTS_TENANT)
        if bounds is None:
            bounds = await self._log.ensure(ACCOUNTS_TENANT)
        seen = self._seen
        if seen is None or seen.epoch != bounds.epoch or not bounds.floor <= seen.head <= bounds.head:
            await self._load_all(floor=bounds.floor)
        elif seen.head < bounds.head:
            self._seen = _Seen(bounds.epoch, await self._read_on(seen.head))
        self.read_s = asyncio.get_running_loop().time()
        now_ms = self._wall_ms()
        self._ended = {session: expires_ms for session, expires_ms in self._ended.items() if expires_ms > now_ms}

    async def _load_all(self, *, floor: int) -> None:
        """Everything anew; sessions that were ended are only in the events."""
        before: dict[str, User | ApiKeyRecord] = {**self._users, **self._keys}
        users: dict[str, User] = {}
        keys: dict[str, ApiKeyRecord] = {}
        after: Ref | None = None
        selection = Selection(kinds=(User.kind, ApiKeyRecord.kind))
        while True:
            page = await self._log.documents(ACCOUNTS_TENANT, selection, after=after, limit=PAGE)
            for stored in page.documents:
                if stored.kind == User.kind:
                    users[stored.id] = User.model_validate_json(stored.body)
                else:
                    keys[stored.id] = ApiKeyRecord.model_validate_json(stored.body)
            if page.next is None:
                break
            after = page.next
        self._users, self._keys = users, keys
        # From the start: documents were read while others may have changed them, and events bring those again.
        self._seen = _Seen(page.bounds.epoch, await self._read_on(floor))
        for record, known in before.items():
            if {**self._users, **self._keys}.get(record) != known:
                self._tell(known)

    async def _read_on(self, after: int) -> int:
        """Take in the events behind *after*; the seq of the last one."""
        while events := await self._log.read(ACCOUNTS_TENANT, after=after, limit=PAGE):
            refs = {Ref(e.reach.kind, e.reach.id) for e in events if e.reach is not None and e.reach.version}
            refs = {ref for ref in refs if ref.kind in (User.kind, ApiKeyRecord.kind)}
            page = await self._log.load(ACCOUNTS_TENANT, refs) if refs else None
            for stored in page.documents if page is not None else ():
                self._take(stored)
            for event in events:
                self._take_session(event)
            after = events[-1].seq
        return after

    def _take(self, stored: StoredDocument) -> None:
        records: dict[str, User] | dict[str, ApiKeyRecord]
        kind: type[User] | type[ApiKeyRecord]
        records, kind = (self._users, User) if stored.kind == User.kind else (self._keys, ApiKeyRecord)
        known = records.get(stored.id)
        if stored.deleted:
            records.pop(stored.id, None)
        elif known is None or known.version < stored.version:
            records[stored.id] = kind.model_validate_json(stored.body)  # type: ignore[assignment]
        if known is not None and (stored.deleted or known.version < stored.version):
            self._tell(known)

    def _take_session(self, event: StoredEvent) -> None:
        if event.event_type != "session_ended":
            return
        data = from_json("{" + event.tail)["data"]
        session, expires_ms = str(data["session"]), int(data["expiresMs"])
        if expires_ms > self._wall_ms() and session not in self._ended:
            self._ended[session] = expires_ms
            self._changed("session", session)

    def _tell(self, known: User | ApiKeyRecord) -> None:
        if isinstance(known, User):
            self._changed(known.tenant, f"user:{known.name}")
        else:
            self._changed(known.tenant, f"key:{known.recordID}")
