"""Forgetting what is over: outcomes past their time, tombstones that the floor has passed.

Outcomes and documents are only ever touched under the tenant's head, or an appender could decide on a ghost.
"""

import asyncio
import random
from contextlib import suppress
from typing import Any
from uuid import uuid4

from pymongo.errors import PyMongoError

from sync_server.log.base import LogMisconfigured, LogUnavailable, TransientFailure
from sync_server.log.mongo_driver import answering, translated
from sync_server.log.mongo_group import begin
from sync_server.log.mongo_sessions import SessionRegistry

__all__ = ["sweep"]

PATIENCE_S = 5.0
"""A busy appender holds the head nearly always; the sweep has to win it once."""
_CHUNK = 500


async def sweep(db: Any, sessions: SessionRegistry, tenant: str, *, now_ms: int) -> int:
    """Forget some of it; how much, 0 when there was nothing. Raises LogError."""
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + PATIENCE_S
    while True:
        async with answering():
            try:
                async with translated():
                    return await _sweep(db, sessions, tenant, now_ms)
            except TransientFailure as exc:
                if loop.time() >= give_up_s:
                    raise LogUnavailable(f"Tenant {tenant!r} could not be swept: {exc}") from exc
        await asyncio.sleep(random.uniform(0.0005, 0.01))


async def _sweep(db: Any, sessions: SessionRegistry, tenant: str, now_ms: int) -> int:
    head = await db["heads"].find_one({"_id": tenant})
    if head is None:
        raise LogMisconfigured(f"There is no tenant {tenant!r} in this log.")
    # The floor never goes down, so what lies below it now will still do so under the head.
    over: dict[str, dict[str, Any]] = {
        "outcomes": {"tenant": tenant, "expires_ms": {"$lt": now_ms}},
        "documents": {"_id.tenant": tenant, "deleted": True, "seq": {"$lte": head["floor"]}},
    }
    found = {name: wanted for name, wanted in over.items() if await db[name].find_one(wanted, {"_id": 1}) is not None}
    if not found:
        return 0
    name = f"{tenant}:sweep:{uuid4().hex}"  # beside the appender's, and beside another sweep's
    try:
        async with sessions.using(name) as session:
            return await _delete(db, session, tenant, found)
    finally:
        await sessions.drop(name)


async def _delete(db: Any, session: Any, tenant: str, over: dict[str, dict[str, Any]]) -> int:
    """Delete some of what is *over*, by collection, in one transaction; how much."""
    count = 0
    await begin(session)
    try:
        await db["heads"].update_one({"_id": tenant}, {"$inc": {"groups": 1}}, session=session)
        for collection, wanted in over.items():
            rows = await db[collection].find(wanted, {"_id": 1}, session=session, limit=_CHUNK).to_list(None)
            ids = {"_id": {"$in": [row["_id"] for row in rows]}}
            count += (await db[collection].delete_many(ids, session=session)).deleted_count
        await session.commit_transaction()
    except BaseException:
        with suppress(PyMongoError):
            await session.abort_transaction()
        raise
    return count
