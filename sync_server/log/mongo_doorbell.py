"""The doorbell: what other processes committed or signalled, by a change stream.

It says "look", and is never a cursor: a bell that is missed is caught by polling.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from typing import Any

import structlog
from bson.regex import Regex
from pymongo.errors import CursorNotFound, OperationFailure, PyMongoError

from sync_server.log.base import Bell, LogError, Signal
from sync_server.log.mongo_driver import check_cancelled, settle, translate
from sync_server.log.mongo_rows import event_of, event_row
from sync_server.log.records import StoredEvent

__all__ = ["Doorbell"]

BATCH_INTERVAL_S = 0.005
"""Under load changes are asked for at most this often; the first one after a quiet moment comes at once."""

_COLLECTION = "$cmd.aggregate"
"""What the server calls the collection of a stream over a whole database."""
_OPEN: dict[str, Any] = {}
"""Stands for whatever happened while there was no stream."""

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
        """What other processes did, until cancelled. Reopens itself, where it was as far as the server remembers."""
        pause_s = 0.05
        after: Any = None
        while True:
            try:
                await self._ready()
                async with aclosing(self._batches(after)) as batches:
                    async for changes, after in batches:  # noqa: B007 - where to go on
                        pause_s = 0.05
                        for wakeup in self._wakeups(changes):
                            yield wakeup
            except (PyMongoError, LogError) as exc:
                check_cancelled()
                log.debug("change_stream_reopens", error=str(exc)[:200])
                if isinstance(exc, OperationFailure) and not isinstance(exc, CursorNotFound) and translate(exc) is None:
                    after = None  # it may be older than what the server remembers
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 1.0)

    async def _batches(self, after: Any) -> AsyncGenerator[tuple[list[dict[str, Any]], Any]]:
        """What a change stream brings, each time all there is, and from where to go *after* that. The first batch says
        that the stream is open. Ends when the server ends it.

        By commands and not by the driver's own object, which hands out changes one by one: most of what a change
        costs is the question for it, and so they are asked for together.
        """
        async with await settle(self._db.client.start_session(causal_consistency=False)) as session:
            cursor = await self._open(session, after)
            try:
                yield [_OPEN, *cursor["firstBatch"]], cursor["postBatchResumeToken"]
                while cursor["id"]:
                    more = {"getMore": cursor["id"], "collection": _COLLECTION, "maxTimeMS": 1000}
                    cursor = (await self._db.command(more, session=session))["cursor"]
                    check_cancelled()
                    yield cursor["nextBatch"], cursor["postBatchResumeToken"]
                    if cursor["nextBatch"]:
                        await asyncio.sleep(BATCH_INTERVAL_S)
            finally:
                if cursor["id"]:
                    with suppress(PyMongoError):
                        await self._db.command(
                            {"killCursors": _COLLECTION, "cursors": [cursor["id"]]}, session=session
                        )  # fmt: skip

    async def _open(self, session: Any, after: Any) -> dict[str, Any]:
        """The cursor of a change stream over commits and signals that goes on *after* that; without it one that misses
        none made after this call began.
        """
        begin = {"startAfter": after}
        if after is None:
            # Open-then-read and read-then-open both missed commits; the operation time of a majority read does not.
            reply = await self._db.command(
                {"find": "meta", "limit": 1, "singleBatch": True, "readConcern": {"level": "majority"}}
            )
            begin = {"startAtOperationTime": reply["operationTime"]}
        pipeline = [
            {"$changeStream": begin},
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
            {"ns.coll": "signals", "operationType": "insert", "fullDocument.process": {"$ne": own}},
        ]

    def _wakeups(self, changes: Sequence[dict[str, Any]]) -> Iterator[Bell | Signal]:
        """What *changes* say: the signals, and of each tenant the last bell. A commit of less than was reserved changes
        its head twice, and the second time it is right.
        """
        bells: dict[str | None, Bell] = {}
        for change in changes:
            if "documentKey" not in change:
                bells[None] = Bell(None)  # dropped, renamed, or just opened: look at everything
            elif change["ns"]["coll"] == "heads":
                tenant = change["documentKey"]["_id"]
                bells[tenant] = Bell(tenant, change.get("updateDescription", {}).get("updatedFields", {}).get("seq"))
            else:
                document = change["fullDocument"]
                events = tuple(event_of(row) for row in document["events"])
                yield Signal(document["tenant"], events, document.get("as_of"))
        yield from bells.values()
