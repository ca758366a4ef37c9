"""Who is known here: users, API keys and ended sessions, in memory, following what any process changes.

The log of the accounts is looked at once a second, and what changed since is read again. Nothing is asked of the
store for a single request; who is not known may be newer than the last look, and is looked for once, together with all
others of whom that is so.
"""

import asyncio
import random
from collections.abc import Callable, Mapping

import structlog
from pydantic import ValidationError

from sync_core.domain.document import Document, Ref
from sync_core.problems import Unavailable
from sync_server.accounts.records import ACCOUNTS_TENANT, ApiKeyRecord, EndedSession, User
from sync_server.log.base import Bounds, EventLog, LogError, Selection
from sync_server.log.records import StoredDocument

__all__ = ["UNREADABLE_RETRY_S", "AccountUnreadable", "Directory"]

LOOK_S = 1.0
STALE_S = 30.0
"""A log that is silent for longer leaves open who was let in; nobody is, then."""
UNREADABLE_RETRY_S = 60
SEEK_S = 0.1
SEEK_PATIENCE_S = 2.0
MAX_SOUGHT = 1000
PAGE = 1000
KINDS: Mapping[str, type[Document]] = {kind.kind: kind for kind in (User, ApiKeyRecord, EndedSession)}

log = structlog.get_logger("sync_server.accounts")


class AccountUnreadable(Unavailable):
    """A newer server wrote the account, and this one cannot judge what it allows. Nobody gets in by it here."""

    type = "unreadable"


class Directory:
    """The accounts as they were at the last look; *look_s* lies between two. *wall_ms* is Unix time."""

    def __init__(self, event_log: EventLog, *, wall_ms: Callable[[], int], look_s: float = LOOK_S) -> None:
        self._log = event_log
        self._wall_ms = wall_ms
        self._look_s = look_s
        self._known: dict[Ref, Document | None] = {}
        """None for what a newer server wrote and this one cannot read."""
        self._seen: Bounds | None = None
        """How far the log was read."""
        self.changes = 0
        """How often something has come to be known, or to be gone."""
        self._read_s = float("-inf")
        self._looking = asyncio.Lock()
        self._sought: set[str] = set()
        """Who was looked for in vain since the last look of ``follow``."""
        self._seeking: asyncio.Task[None] | None = None
        self._seek_s = float("-inf")

    def user(self, record: str) -> User | None:
        """Raises Unavailable, like all that follow; AccountUnreadable."""
        found = self._find(User.kind, record)
        return found if isinstance(found, User) else None

    def key(self, key_id: str) -> ApiKeyRecord | None:
        """The key, unless it is unknown, revoked or expired. Raises AccountUnreadable too."""
        found = self._find(ApiKeyRecord.kind, key_id)
        if not isinstance(found, ApiKeyRecord):
            return None
        return found if found.expires_ms is None or found.expires_ms > self._wall_ms() else None

    def has_ended(self, session: str) -> bool:
        self._require_fresh()
        return Ref(EndedSession.kind, session) in self._known

    @property
    def users(self) -> list[User]:
        """All, by name."""
        found = [record for record in self._known.values() if isinstance(record, User)]
        return sorted(found, key=lambda user: user.recordID)

    @property
    def keys(self) -> list[ApiKeyRecord]:
        """All, expired ones too, oldest first."""
        found = [record for record in self._known.values() if isinstance(record, ApiKeyRecord)]
        return sorted(found, key=lambda key: (key.created_ms, key.recordID))

    @property
    def unreadable(self) -> list[Ref]:
        """What a newer server wrote and this one cannot read."""
        return sorted(ref for ref, record in self._known.items() if record is None)

    def _find(self, kind: str, record: str) -> Document | None:
        self._require_fresh()
        found = self._known.get(Ref(kind, record))
        if found is None and Ref(kind, record) in self._known:
            raise AccountUnreadable(
                f"A newer version of this server wrote this {KINDS[kind].noun()}, and has to run here again.",
                retry_after_s=UNREADABLE_RETRY_S,
            )
        return found

    def _require_fresh(self) -> None:
        if asyncio.get_running_loop().time() - self._read_s > STALE_S:
            raise Unavailable("Who may come in cannot be read now.", retry_after_s=2)

    async def follow(self, *, looked: Callable[[], None]) -> None:
        """Stay current until cancelled; *looked* is called after each look."""
        failing = False
        while True:
            try:
                await self.look()
                self._sought.clear()
                looked()
            except LogError as exc:
                if not failing:
                    log.warning("accounts_unavailable", error=str(exc))
                failing = True
            except Exception:  # in the feed's task group it would end the feed; what stays unread is stale in 30 s
                log.exception("accounts_look_failed")
            else:
                failing = False
            await asyncio.sleep(self._look_s * random.uniform(0.8, 1.0))

    async def refresh(self) -> None:
        """Look now: somebody has shown what is newer than the last look. Raises Unavailable."""
        try:
            await self.look()
        except LogError as exc:
            raise Unavailable("Who may come in cannot be read now.", retry_after_s=2) from exc

    async def seek(self, who: str) -> None:
        """Look again for *who*, who is not known. Raises Unavailable.

        One look for all who ask within a tenth of a second, and one for each *who* until the next regular one:
        whoever shows keys that are none makes no more work than that.
        """
        if who in self._sought or len(self._sought) >= MAX_SOUGHT:
            return
        if self._seeking is None:
            self._seeking = asyncio.get_running_loop().create_task(self._seek(), name="accounts-seek")
            # Whether anybody still waits for it or not, its error has been seen.
            self._seeking.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._seeking)
        self._sought.add(who)

    async def _seek(self) -> None:
        now = asyncio.get_running_loop().time
        await asyncio.sleep(self._seek_s + SEEK_S - now())
        self._seek_s = now()
        self._seeking = None  # who asks from here on asks for what may be newer than this look
        try:
            async with asyncio.timeout(SEEK_PATIENCE_S):
                await self.refresh()
        except TimeoutError:
            raise Unavailable("Who may come in cannot be read now.", retry_after_s=2) from None

    async def look(self) -> None:
        """Take in what has changed. Raises LogError."""
        async with self._looking:
            bounds = (await self._log.bounds([ACCOUNTS_TENANT])).get(ACCOUNTS_TENANT)
            if bounds is None:
                bounds = await self._log.ensure(ACCOUNTS_TENANT)
            seen = self._seen
            if seen is None or seen.epoch != bounds.epoch or not bounds.floor <= seen.head <= bounds.head:
                await self._load_all()
            elif seen.head < bounds.head:
                await self._read_on(seen)
            self._read_s = asyncio.get_running_loop().time()

    async def _load_all(self) -> None:
        self._seen = None
        known: dict[Ref, Document | None] = {}
        first: Bounds | None = None
        after: Ref | None = None
        while first is None or after is not None:
            page = await self._log.documents(ACCOUNTS_TENANT, Selection(tuple(KINDS)), after=after, limit=PAGE)
            known |= {stored.ref: _read(stored) for stored in page.documents}
            first, after = first or page.bounds, page.next
        self._known = known
        self.changes += 1
        # Later pages may be newer than the first one; reading on from there brings whatever changed meanwhile.
        await self._read_on(first)

    async def _read_on(self, seen: Bounds) -> None:
        """Take in what lies behind *seen*. Each record is read as it is now, so never an older one than is known."""
        head = seen.head
        while events := await self._log.read(ACCOUNTS_TENANT, after=head, limit=PAGE):
            if events[0].seq != head + 1:  # trimmed meanwhile: all is read again at the next look
                self._seen = None
                return
            reaches = [event.reach for event in events if event.reach is not None and event.reach.version]
            refs = {Ref(reach.kind, reach.id) for reach in reaches if reach.kind in KINDS}
            if refs:
                page = await self._log.load(ACCOUNTS_TENANT, refs)
                found = {stored.ref: _read(stored) for stored in page.documents if not stored.deleted}
                for ref in refs - set(found):
                    self._known.pop(ref, None)
                self._known |= found
                self.changes += 1
            head = events[-1].seq
        self._seen = seen._replace(head=head)


def _read(stored: StoredDocument) -> Document | None:
    """None for what this server cannot read: the others are not to suffer for it."""
    try:
        return KINDS[stored.kind].model_validate_json(stored.body)
    except ValidationError as exc:
        log.error("account_unreadable", kind=stored.kind, id=stored.id, faults=exc.error_count())
        return None
