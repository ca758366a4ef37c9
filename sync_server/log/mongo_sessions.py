"""Sessions that died inside a transaction, and how their locks are broken.

A process that is killed between taking a tenant's head and committing leaves the head locked until the
server's transactionLifetimeLimitSeconds is over (60 s by default, and half as much again). So every process
registers the sessions its appender uses and renews its entry; whoever keeps running into a locked head looks
for entries that were not renewed and kills their sessions. Killing one of a living process by mistake costs
it a retry, nothing else. Source: eventlog-evidence.md.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import structlog
from pymongo.errors import PyMongoError

from sync_server.log.mongo_driver import check_cancelled, settle

__all__ = ["SessionRegistry"]

STALE_MS = 1000
RENEW_S = 0.3
FRESH_S = 0.6
"""An entry renewed longer ago is renewed before the next use: somebody may have taken it for a dead one's."""
LINGER_S = 3.0
"""Renewing goes on for so long after the last use, so that steady slow traffic never waits for it."""
CONFLICT_S = 0.2
"""A head that stays locked for longer than this is looked into; a living appender holds it for some ms."""

log = structlog.get_logger("sync_server.mongo")


class SessionRegistry:
    """This process's appender sessions, one per tenant, and the killing of dead processes' ones."""

    def __init__(self, client: Any, collection: Any) -> None:
        self._client = client
        self._collection = collection
        self.process_id = uuid4().hex
        self._sessions: dict[str, Any] = {}
        self._in_use = 0
        self._used_s = float("-inf")
        self._renewed_s = float("-inf")
        self._renewal = asyncio.Lock()
        self._renewing: asyncio.Task[None] | None = None
        self._blocked_since: dict[str, float] = {}
        self._looked_s = float("-inf")

    @asynccontextmanager
    async def using(self, name: str) -> AsyncIterator[Any]:
        """The session *name* (a tenant's; one user at a time), registered as long as it is used.

        It is the same one after a failure too: the next transaction on it ends what the last one may have
        left open on the server, whatever became of its abort.
        """
        session = self._sessions.get(name)
        known = session is not None
        if session is None:
            session = self._sessions[name] = await settle(self._client.start_session(causal_consistency=False))
        loop = asyncio.get_running_loop()
        self._in_use += 1
        try:
            if not known or loop.time() - self._renewed_s > FRESH_S:
                try:
                    await self._renew()
                except BaseException:
                    if not known:
                        await self.drop(name)
                    raise
            if self._renewing is None or self._renewing.done():
                self._renewing = loop.create_task(self._keep_renewing(), name="session-renewal")
            yield session
        finally:
            self._in_use -= 1
            self._used_s = loop.time()

    async def drop(self, name: str) -> None:
        """End the session *name*; it is not in use."""
        session = self._sessions.pop(name, None)
        if session is not None:
            await settle(session.end_session())

    async def conflicted(self, tenant: str) -> None:
        """The tenant's head was locked. Breaks the lock if it has been for long and its holder is dead."""
        now = asyncio.get_running_loop().time()
        since = self._blocked_since.setdefault(tenant, now)
        if now - since >= CONFLICT_S and now - self._looked_s >= CONFLICT_S / 2:
            self._looked_s = now
            await self.kill_dead()

    def got_through(self, tenant: str) -> None:
        """The tenant's head was taken."""
        if self._blocked_since:
            self._blocked_since.pop(tenant, None)

    async def kill_dead(self) -> None:
        """Kill the sessions of every process whose entry was not renewed for STALE_MS."""
        stale = {"$expr": {"$lt": ["$seen", {"$subtract": ["$$NOW", STALE_MS]}]}}
        entries = await self._collection.find({"_id": {"$ne": self.process_id}, **stale}, max_time_ms=2000).to_list(100)
        for entry in entries:
            await self._client.admin.command({"killSessions": [{"id": s} for s in entry["sessions"]]})
            # Only if it is still stale: the process may have been paused, and have come back meanwhile.
            await self._collection.delete_one({"_id": entry["_id"], **stale})
            log.warning("dead_sessions_killed", process=entry.get("where"), sessions=len(entry["sessions"]))

    async def aclose(self) -> None:
        """End all sessions and take the entry back."""
        if self._renewing is not None:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([self._renewing])  # or it would put the entry back
        for name in list(self._sessions):
            await self.drop(name)
        await self._collection.delete_one({"_id": self.process_id})

    async def _renew(self) -> None:
        # One at a time, or an older list of sessions could arrive after a newer one.
        async with self._renewal:
            started_s = asyncio.get_running_loop().time()
            await self._collection.update_one(
                {"_id": self.process_id},
                {
                    "$set": {
                        "sessions": [s.session_id["id"] for s in self._sessions.values()],
                        "where": f"{socket.gethostname()}:{os.getpid()}",
                    },
                    "$currentDate": {"seen": True},
                },
                upsert=True,
            )
            self._renewed_s = started_s

    async def _keep_renewing(self) -> None:
        """Renew while there is work; an idle process holds no lock, so its entry may grow stale."""
        loop = asyncio.get_running_loop()
        while self._in_use or loop.time() - self._used_s < LINGER_S:
            await asyncio.sleep(RENEW_S)
            try:
                await self._renew()
            except PyMongoError as exc:
                log.debug("session_renewal_failed", error=str(exc)[:200])
            check_cancelled()
