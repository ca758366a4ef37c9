"""The event log in MongoDB: a replica set, any number of server processes, the way to scale out.

Everything is read at majority on the primary, so what was shown can never roll back. How a group is committed:
mongo_group.py.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from pymongo import ASCENDING, ReadPreference, ReturnDocument
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from sync_core.domain.document import Ref
from sync_server.log.base import (
    Bell,
    Bounds,
    DocumentPage,
    LogMisconfigured,
    LogUnavailable,
    Selection,
    Signal,
    TransientFailure,
    WriteConflict,
)
from sync_server.log.group import Committed, Group
from sync_server.log.mongo_documents import fill_page, load_documents
from sync_server.log.mongo_doorbell import Doorbell
from sync_server.log.mongo_driver import (
    Driver,
    answering,
    open_client,
    settle,
    short,
    translate,
    translated,
    unavailable,
)
from sync_server.log.mongo_group import NoHead, commit_group
from sync_server.log.mongo_rows import between, bounds_of, event_of
from sync_server.log.mongo_schema import migrate, probe
from sync_server.log.mongo_sessions import SessionRegistry
from sync_server.log.mongo_sweep import sweep
from sync_server.log.paging import Paging
from sync_server.log.records import StoredEvent

__all__ = ["MongoLog"]

TRANSACTION_LIFETIME_S = 3
_TRIM_CHUNK = 5000
_NOT_INITIATED = (
    "MongoDB answers, but its replica set has not been initiated (or is just starting). If it is new, run once:  "
    "mongosh --port <its port> --eval 'rs.initiate()'"
)


class MongoLog:
    """An EventLog in one MongoDB database, through either driver."""

    def __init__(self, uri: str, database: str, *, new_epoch: Callable[[], str], driver: Driver = "pymongo") -> None:
        self._driver = driver
        self._client = open_client(driver, uri)
        self._db = self._client.get_database(
            database,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
        )
        self._new_epoch = new_epoch
        # A lease: a failover that loses it ends the sessions' transactions as well, so it needs no majority.
        leases = self._db["appenders"].with_options(read_concern=ReadConcern("local"), write_concern=WriteConcern(1))
        self._sessions = SessionRegistry(self._client, leases)
        self._doorbell = Doorbell(self._db, process_id=self._sessions.process_id, ready=self._ready)
        self._opening: asyncio.Task[None] | None = None
        self._opened = False
        self._closed = False

    # -- opening ------------------------------------------------------------------------------------

    async def open(self) -> None:
        await self._ready()

    async def _ready(self) -> None:
        """Open if that could not be done at start: a log that comes back needs no restart of ours."""
        if self._opened:
            return
        # One try for all who wait: one after the other, each would wait for the server anew.
        if self._opening is None or self._opening.done():
            self._opening = asyncio.get_running_loop().create_task(self._open(), name="log-open")
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        try:
            await probe(self._client, self._db)
            await migrate(self._db)
            await self._sessions.kill_dead()
        except OperationFailure as exc:
            if translate(exc) is not None:
                raise LogUnavailable(f"MongoDB cannot be used now: {short(exc)}") from exc
            raise LogMisconfigured(f"MongoDB refuses to serve as event log: {short(exc)}") from exc
        except PyMongoError as exc:
            if self._is_uninitiated():
                raise LogUnavailable(_NOT_INITIATED) from exc
            raise unavailable(exc) from exc
        self._opened = True

    def _is_uninitiated(self) -> bool:
        """Whether all servers that answer are replica set members without a set: never initiated, or just starting."""
        servers = self._client.topology_description.server_descriptions().values()
        kinds = {server.server_type_name for server in servers} - {"Unknown"}
        return kinds == {"RSGhost"}

    async def limit_transaction_lifetime(self) -> str | None:
        """Set the server's limit so that a lock nobody breaks ends by itself soon; why not, if it may not."""
        try:
            await self._client.admin.command(
                {"setParameter": 1, "transactionLifetimeLimitSeconds": TRANSACTION_LIFETIME_S}
            )
        except OperationFailure as exc:
            return str(exc.details.get("errmsg", exc) if exc.details else exc)
        return None

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        with suppress(PyMongoError, TimeoutError):
            async with asyncio.timeout(2):
                await self._sessions.aclose()
        await settle(self._client.close())
        if self._opening is not None:
            await asyncio.wait([self._opening], timeout=2)

    # -- reading ------------------------------------------------------------------------------------

    async def ensure(self, tenant: str) -> Bounds:
        await self._ready()
        async with answering():
            head = await self._db["heads"].find_one({"_id": tenant})
            if head is None:
                head = await self._make_head(tenant)
        if head is None:
            raise LogUnavailable(f"The log of tenant {tenant!r} could not be made.")
        return bounds_of(head)

    async def _make_head(self, tenant: str) -> dict[str, Any] | None:
        """The head of *tenant*, made by us or, meanwhile, by somebody else."""
        head: dict[str, Any] | None = {
            "_id": tenant, "tenant": tenant, "epoch": self._new_epoch(), "seq": 0, "floor": 0,
            "time_ms": 0, "groups": 0,
        }  # fmt: skip
        try:
            await self._db["heads"].insert_one(head)
        except DuplicateKeyError:
            head = await self._db["heads"].find_one({"_id": tenant})
        return head

    async def bounds(self, tenants: Collection[str]) -> dict[str, Bounds]:
        await self._ready()
        async with answering():
            heads = await self._db["heads"].find({"_id": {"$in": list(tenants)}}).to_list(None)
        return {head["_id"]: bounds_of(head) for head in heads}

    async def tenants(self) -> list[str]:
        await self._ready()
        async with answering():
            return sorted(await self._db["heads"].distinct("_id"))

    async def read(self, tenant: str, *, after: int, limit: int) -> list[StoredEvent]:
        await self._ready()
        async with answering():
            # One batch and no cursor: the server ends it at 16 MB, so a page of large events stays bounded.
            reply = await self._db.command(
                {
                    "find": "events", "filter": {"_id": between(tenant, after)}, "sort": {"_id": 1},
                    "limit": limit, "batchSize": limit, "singleBatch": True,
                    "projection": {"group": 0},
                    "readConcern": {"level": "majority"},
                }
            )  # fmt: skip
        return [event_of(row) for row in reply["cursor"]["firstBatch"]]

    async def load(self, tenant: str, refs: Collection[Ref]) -> DocumentPage:
        await self._ready()
        async with answering(), self._one_state(tenant) as (bounds, session):
            return DocumentPage(bounds, await load_documents(self._db, tenant, refs, session=session), None)

    async def documents(self, tenant: str, selection: Selection, *, after: Ref | None, limit: int) -> DocumentPage:
        paging = Paging(selection, after=after, limit=limit)
        await self._ready()
        async with answering(), self._one_state(tenant) as (bounds, session):
            await fill_page(self._db, tenant, selection, paging, session=session)
            return DocumentPage(bounds, paging.documents, paging.next)

    @asynccontextmanager
    async def _one_state(self, tenant: str) -> AsyncIterator[tuple[Bounds, Any]]:
        """A session whose reads all see one state, committed at majority, and the tenant's bounds in it."""
        async with await settle(self._client.start_session(snapshot=True)) as session:
            head = await self._db["heads"].find_one({"_id": tenant}, session=session)
            if head is None:
                raise LogMisconfigured(f"There is no tenant {tenant!r} in this log.")
            yield bounds_of(head), session

    # -- writing ------------------------------------------------------------------------------------

    async def transact(self, tenant: str, group: Group, *, now_ms: int, deadline_s: float) -> Committed:
        await self._ready()
        try:
            async with translated(), self._sessions.using(tenant) as session:
                committed = await commit_group(
                    self._db,
                    session,
                    tenant,
                    group,
                    process_id=self._sessions.process_id,
                    now_ms=now_ms,
                    deadline_s=deadline_s,
                )
        except NoHead as exc:
            await self.ensure(tenant)
            raise TransientFailure(f"The log of tenant {tenant!r} was just made.") from exc
        except WriteConflict:
            with suppress(PyMongoError):
                await self._sessions.conflicted(tenant)
            raise
        self._sessions.got_through(tenant)
        return committed

    async def signal(self, tenant: str, events: Sequence[StoredEvent], *, as_of: int | None = None) -> None:
        await self._ready()
        async with answering():
            await self._doorbell.signal(tenant, events, as_of=as_of)

    def wakeups(self) -> AsyncIterator[Bell | Signal]:
        return self._doorbell.wakeups()

    # -- upkeep -------------------------------------------------------------------------------------

    async def trim(self, tenant: str, floor: int) -> Bounds:
        await self._ready()
        async with answering():
            head = await self._db["heads"].find_one_and_update(
                {"_id": tenant},
                [{"$set": {"floor": {"$max": ["$floor", {"$min": [floor, "$seq"]}]}}}],
                return_document=ReturnDocument.AFTER,
            )
            if head is None:
                raise LogMisconfigured(f"There is no tenant {tenant!r} in this log.")
            bounds = bounds_of(head)
            while first := await self._db["events"].find_one(
                {"_id": between(tenant, 0, bounds.floor)}, sort=[("_id", ASCENDING)]
            ):
                upto = min(first["_id"]["seq"] + _TRIM_CHUNK, bounds.floor)
                await self._db["events"].delete_many({"_id": between(tenant, 0, upto)})
        return bounds

    async def new_epoch(self, tenant: str, epoch: str) -> Bounds:
        await self._ready()
        async with answering():
            head = await self._db["heads"].find_one_and_update(
                {"_id": tenant}, {"$set": {"epoch": epoch}}, return_document=ReturnDocument.AFTER
            )
        if head is None:
            raise LogMisconfigured(f"There is no tenant {tenant!r} in this log.")
        return bounds_of(head)

    async def sweep(self, tenant: str, *, now_ms: int) -> int:
        await self._ready()
        return await sweep(self._db, self._sessions, tenant, now_ms=now_ms)

    async def describe(self) -> dict[str, str]:
        await self._ready()
        async with answering():
            build = await self._client.admin.command("buildInfo")
            hello = await self._client.admin.command("hello")
            documents = await self._db["documents"].estimated_document_count()
            limit = "unknown (no right to read it)"
            with suppress(OperationFailure):
                reply = await self._client.admin.command({"getParameter": 1, "transactionLifetimeLimitSeconds": 1})
                limit = f"{reply['transactionLifetimeLimitSeconds']} s"
        return {
            "store": f"MongoDB {build['version']} through {self._driver}",
            "replica set": f"{hello['setName']}, {len(hello.get('hosts', []))} member(s)",
            "database": self._db.name,
            "documents": str(documents),
            "transaction lifetime limit": limit,
        }
