"""Fetches the snapshot when the replica needs one, page by page onto the disk, and installs it in one commit.

The feed goes on meanwhile, and what it brings is taken in as ever: of each document the newest version wins, so
nothing has to be held back. The snapshot's cursor must not lie before the feed's as it was when the fetching began:
then whatever the snapshot lacks, the feed has brought or will bring.

What keeps it from spinning: a pause with backoff after everything that went wrong, the breaker around each request,
and that it runs only while the connection stands. Source: protocol.md 2.3 and 6.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from sync_client import documents
from sync_client.backoff import Backoff, Rng
from sync_client.errors import CacheUnwritable, ClientError, NotAStream, RequestFailed
from sync_client.intake import Intake
from sync_client.keeper import Keeper
from sync_client.logs import get_logger
from sync_client.records import Batch, StagingLost
from sync_client.replica import MAX_EXPIRED, Replica
from sync_core.cursor import Cursor, MalformedCursor
from sync_core.paths import SNAPSHOT_PATH

__all__ = ["Snapshots"]

PAGE_LIMIT = 1000
MAX_PAGES = 10_000
EXPIRE_EVERY_S = 600.0
BACKOFF = Backoff(base_s=1.0, cap_s=60.0)

log = get_logger()

Fetch = Callable[[str, Mapping[str, str]], Awaitable[dict[str, Any]]]


class SnapshotUnfit(ClientError):
    """What was fetched cannot be used; internal, handled by fetching again."""


class Snapshots:
    """Runs as one task, ``run``. *may_fetch* says whether the connection stands."""

    def __init__(
        self,
        replica: Replica,
        keeper: Keeper,
        intake: Intake,
        *,
        fetch: Fetch,
        may_fetch: Callable[[], bool],
        params: Mapping[str, str],
        rng: Rng,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._replica = replica
        self._keeper = keeper
        self._intake = intake
        self._fetch = fetch
        self._may_fetch = may_fetch
        self._params = dict(params)
        self._rng = rng
        self._sleep = sleep
        self._bell = asyncio.Event()
        self.installed = 0
        """How many there were."""
        self.last_error = ""

    def wake(self) -> None:
        """Look again: one may be due, or the connection may stand."""
        self._bell.set()

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            if not self._is_wanted():
                failures = 0 if not self._replica.due else failures
                await self._rest()
                continue
            try:
                await self._renew()
            except (RequestFailed, SnapshotUnfit, StagingLost, CacheUnwritable) as exc:
                failures += 1
                self.last_error = str(exc) or type(exc).__name__
                delay_s = BACKOFF.delay_s(failures, rng=self._rng, retry_after_s=getattr(exc, "retry_after_s", None))
                log.info("snapshot_failed", error=self.last_error, delay_s=round(delay_s, 2))
                await self._sleep(delay_s)
            else:
                self.last_error = ""

    def _is_wanted(self) -> bool:
        return bool(self._replica.due) and self._may_fetch() and self._here() is not None

    def _here(self) -> Cursor | None:
        """Where the feed stands; None before it stands anywhere."""
        try:
            return Cursor.parse(self._intake.received)
        except MalformedCursor:
            return None

    async def _rest(self) -> None:
        """Until there may be something to do; meanwhile forget what has grown old."""
        self._bell.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(EXPIRE_EVERY_S):
                await self._bell.wait()
                return
        with suppress(CacheUnwritable):
            while True:
                if await self._intake.apart(self._forget) < MAX_EXPIRED:
                    return
                await asyncio.sleep(0)  # others have a turn

    async def _forget(self) -> int:
        """Documents that need not be known any more; how many."""
        here = self._here()
        expired = self._replica.expired(here)
        if expired:
            done = self._replica.completed(here)
            await self._keeper.commit(Batch(complete_to=None if done is None else str(done), forgotten=expired))
            self._replica.complete_to = done
            self._replica.apply((), forgotten=expired)
        return len(expired)

    # -- one snapshot -----------------------------------------------------------------------------------

    async def _renew(self) -> None:
        """Fetch one and install it. Raises RequestFailed, SnapshotUnfit, StagingLost, CacheUnwritable."""
        demands, here = self._replica.demands, self._here()
        assert here is not None
        cursor, count = await self._stage(here)
        await self._intake.apart(lambda: self._install(cursor, count=count, demands=demands))

    async def _stage(self, here: Cursor) -> tuple[Cursor, int]:
        """All pages, put aside as they come: the snapshot's cursor, and how many documents it has."""
        count, token, cursor = 0, "", here
        for number in range(MAX_PAGES):
            more = {"pageToken": token} if token else {}
            page = await self._fetch(SNAPSHOT_PATH, {**self._params, "limit": str(PAGE_LIMIT), **more})
            if number == 0:
                cursor = _checked(page, here)
            found = documents.of_page(page, self._replica.domain.kinds, cursor=cursor)
            count += len(found)
            await self._keeper.run(self._keeper.cache.stage, found, first=number == 0)
            token = page.get("pageToken", "")
            if not isinstance(token, str):
                raise NotAStream("the snapshot's page token is no text", status=200)
            if not token:
                return cursor, count
        raise SnapshotUnfit(f"the snapshot has more than {MAX_PAGES} pages")

    async def _install(self, cursor: Cursor, *, count: int, demands: int) -> None:
        here = self._here()
        if self._replica.demands != demands or here is None or here.epoch != cursor.epoch:
            raise SnapshotUnfit("another one became due while it was fetched")
        stored = await self._keeper.run(self._keeper.cache.install, cursor, count=count)
        self._replica.install(stored, cursor=cursor)
        self.installed += 1
        log.info("snapshot_installed", documents=count, cursor=str(cursor))


def _checked(page: Mapping[str, Any], here: Cursor) -> Cursor:
    """The snapshot's cursor. Raises NotAStream, and SnapshotUnfit if the feed has passed it."""
    cursor = documents.cursor_of(page)
    if cursor is None:
        raise NotAStream("the answer is no snapshot", status=200)
    if cursor.epoch != here.epoch or cursor.seq < here.seq:
        raise SnapshotUnfit(f"the snapshot is of {cursor}, and the feed is at {here} already")
    return cursor
