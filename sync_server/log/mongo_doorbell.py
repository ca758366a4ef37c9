"""The doorbell: what other processes committed or signalled, by a change stream.

It says "look", and is never a cursor: a bell that is missed is caught by polling.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import structlog
from bson.regex import Regex
from pymongo.errors import PyMongoError

from sync_server.log.base import Bell, LogError, Signal
from sync_server.log.mongo_driver import check_cancelled, settle
from sync_server.log.mongo_rows import event_of, event_row
from sync_server.log.records import StoredEvent

__all__ = ["Doorbell"]

BATCH_INTERVAL_S = 0.005
"""Under load changes are asked for at most this often; the first one after a quiet moment comes at once."""

log = structlog.get_logger("sync_server.mongo")


class Doorbell:
    """Rings for the processes of the database *db*. *ready* returns once that can be used."""

    def __init__(self, db: Any, *, process_id: str, ready: Callable[[], Awaitable[None]]) -> None:
        self._db = db
        self._process_id = process_id
        self._ready = ready

    async def signal(self, tenant: str, events: Sequence[StoredEvent], *, as_of: int | None) -> None:
        """Hand ephemeral *events* to the other processes, see Signal."""
        document = {
            "tenant": tenant,
            "process": self._process_id,
            "events": [event_row(tenant, event) for event in events],
            "as_of": as_of,
        }
        update = {"$set": document, "$currentDate": {"at": True}}
        # An update, because only that can put the server's own time, which the TTL is measured by.
        await self._db.command(
            {"update": "signals", "updates": [{"q": {"_id": os.urandom(12).hex()}, "u": update, "upsert": True}]}
        )

    async def wakeups(self) -> AsyncIterator[Bell | Signal]:
        """What other processes did, until cancelled. Reopens itself."""
        pause_s = 0.05
        while True:
            try:
                await self._ready()
                async with aclosing(self._batches()) as batches:
                    async for batch in batches:
                        pause_s = 0.05
                        for wakeup in batch:
                            yield wakeup
            except (PyMongoError, LogError) as exc:
                check_cancelled()
                log.debug("change_stream_reopens", error=str(exc)[:200])
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 1.0)

    async def _batches(self) -> AsyncGenerator[list[Bell | Signal]]:
        """What a change stream brings: each time all there is. Ends when the server ends it.

        By commands and not by the driver's own object, which hands out changes one by one: most of what a change
        costs is the question for it, and so they are asked for together.
        """
        async with await settle(self._db.client.start_session(causal_consistency=False)) as session:
            cursor = await self._open(session)
            yield [Bell(None), *map(self._wakeup, cursor["firstBatch"])]  # whatever happened while there was no stream
            while cursor["id"]:
                more = {"getMore": cursor["id"], "collection": "$cmd.aggregate", "maxTimeMS": 1000}
                cursor = (await self._db.command(more, session=session))["cursor"]
                check_cancelled()
                if cursor["nextBatch"]:
                    yield [*map(self._wakeup, cursor["nextBatch"])]
                    await asyncio.sleep(BATCH_INTERVAL_S)

    async def _open(self, session: Any) -> dict[str, Any]:
        """The cursor of a change stream over commits and signals that misses none made after this call began."""
        # Open-then-read and read-then-open both missed commits; the operation time of a majority read does not.
        reply = await self._db.command(
            {"find": "meta", "limit": 1, "singleBatch": True, "readConcern": {"level": "majority"}}
        )
        pipeline = [
            {"$changeStream": {"startAtOperationTime": reply["operationTime"]}},
            {"$match": {"$or": self._of_others()}},
            {"$project": {"ns.coll": 1, "documentKey._id": 1, "updateDescription.updatedFields.seq": 1,
                          "fullDocument.tenant": 1, "fullDocument.events": 1, "fullDocument.as_of": 1}},
        ]  # fmt: skip
        reply = await self._db.command({"aggregate": 1, "pipeline": pipeline, "cursor": {}}, session=session)
        check_cancelled()
        cursor: dict[str, Any] = reply["cursor"]
        return cursor

    def _of_others(self) -> list[dict[str, Any]]:
        """Conditions that changes meet which are not this process's own: each commit of its own would wake it again,
        which was a tenth of its work, and of its readers' latency."""
        own = self._process_id
        return [
            {"ns.coll": "heads", "updateDescription.updatedFields.by": {"$not": Regex(f"^{own} ")}},  # see commit_mark
            {"ns.coll": "signals", "operationType": {"$ne": "delete"}, "fullDocument.process": {"$ne": own}},
        ]

    def _wakeup(self, change: dict[str, Any]) -> Bell | Signal:
        if "documentKey" not in change:
            return Bell(None)  # dropped, renamed: look at everything
        if change["ns"]["coll"] == "heads":
            updated = change.get("updateDescription", {}).get("updatedFields", {})
            return Bell(change["documentKey"]["_id"], updated.get("seq"))
        document = change["fullDocument"]
        events = tuple(event_of(row) for row in document["events"])
        return Signal(document["tenant"], events, document.get("as_of"))
