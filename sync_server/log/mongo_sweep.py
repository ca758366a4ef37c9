"""Forgetting what is over: outcomes past their time, tombstones that the floor has passed.

Outcomes and documents are only ever touched under the tenant's head, or an appender could decide on a ghost. What
can go is looked for outside, so that the head is held for the deletes alone; they ask again.
"""

import asyncio
import random
from contextlib import suppress
from typing import Any
from uuid import uuid4

from pymongo.errors import PyMongoError

from sync_server.log.base import LogUnavailable, TransientFailure
from sync_server.log.mongo_driver import answering, translated
from sync_server.log.mongo_group import begin
from sync_server.log.mongo_sessions import SessionRegistry

__all__ = ["sweep"]

PATIENCE_S = 5.0
"""A busy appender holds the head nearly always; the sweep has to win it once."""
_CHUNK = 500

Candidates = list[tuple[str, dict[str, Any]]]
"""Per collection the filter of what is to be deleted there."""


async def sweep(db: Any, sessions: SessionRegistry, tenant: str, *, now_ms: int) -> int:
    """Forget some of it; how much, 0 when there was nothing. Raises LogUnavailable."""
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + PATIENCE_S
    while True:
        async with answering():
            try:
                async with translated():
                    candidates = await _candidates(db, tenant, now_ms)
                    return await _delete(db, sessions, tenant, candidates) if candidates else 0
            except TransientFailure as exc:
                if loop.time() >= give_up_s:
                    raise LogUnavailable(f"Tenant {tenant!r} could not be swept: {exc}") from exc
        await asyncio.sleep(random.uniform(0.0005, 0.01))


async def _candidates(db: Any, tenant: str, now_ms: int) -> Candidates:
    expired = {"tenant": tenant, "expires_ms": {"$lt": now_ms}}
    head = await db["heads"].find_one({"_id": tenant})
    passed = {"_id.tenant": tenant, "deleted": True, "seq": {"$lte": head["floor"] if head else 0}}
    candidates = []
    for name, wanted in (("outcomes", expired), ("documents", passed)):
        rows = await db[name].find(wanted, {"_id": 1}).limit(_CHUNK).to_list(None)
        if rows:
            candidates.append((name, wanted | {"_id": {"$in": [row["_id"] for row in rows]}}))
    return candidates


async def _delete(db: Any, sessions: SessionRegistry, tenant: str, candidates: Candidates) -> int:
    name = f"{tenant}:sweep:{uuid4().hex}"  # beside the appender's, and beside another sweep's
    count = 0
    try:
        async with sessions.using(name) as session:
            await begin(session)
            try:
                await db["heads"].update_one({"_id": tenant}, {"$inc": {"groups": 1}}, session=session)
                for collection, wanted in candidates:
                    count += (await db[collection].delete_many(wanted, session=session)).deleted_count
                await session.commit_transaction()
            except BaseException:
                with suppress(PyMongoError):
                    await session.abort_transaction()
                raise
    finally:
        await sessions.drop(name)
    return count
