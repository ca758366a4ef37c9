"""The event log in MongoDB: a replica set, any number of server processes, the way to scale out.

The order of operations inside a transaction is exact, and was found the hard way (eventlog-evidence.md):
first a real write to the tenant's head, which is the lock, fixes the snapshot and reserves the seqs; then the
reads; then decisions in memory; then writes that cannot be refused; then the commit, at majority.
Everything is read at majority on the primary, so what was shown can never roll back.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import structlog
from bson.max_key import MaxKey
from pymongo import ASCENDING, IndexModel, ReadPreference, ReturnDocument
from pymongo.errors import CollectionInvalid, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from sync_server.log.base import (
    Bell,
    Bounds,
    CommitUnknown,
    LogError,
    LogMisconfigured,
    LogUnavailable,
    Signal,
    TransientFailure,
    WriteConflict,
)
from sync_server.log.group import Committed, Group, Plan, View, decide
from sync_server.log.mongo_driver import (
    Driver,
    check_cancelled,
    open_client,
    settle,
    short,
    translate,
    unavailable,
    unknown_commit,
)
from sync_server.log.mongo_sessions import SessionRegistry
from sync_server.log.records import Outcome, OutcomeKey, StoredEvent

__all__ = ["MongoLog"]

SCHEMA_VERSION = 1
SIGNAL_TTL_S = 60
TRANSACTION_LIFETIME_S = 3
EXPIRY_PATIENCE_S = 5.0
"""A busy appender holds the head nearly always; the sweep has to win it once."""
_TRIM_CHUNK = 5000
_END = MaxKey()
_NAMESPACE_EXISTS = 48
_MAJORITY = ReadConcern("majority")
_W_MAJORITY = WriteConcern("majority")
_COLLECTIONS = ("meta", "heads", "events", "outcomes", "signals", "appenders")
_NO_REPLICA_SET = (
    "MongoDB at {address} is not a replica set, so it has neither transactions nor change streams. Start mongod "
    'with --replSet rs0 and run once:  mongosh --eval \'rs.initiate({{_id: "rs0", members: [{{_id: 0, host: '
    '"{address}"}}]}})\''
)
_NOT_INITIATED = (
    "MongoDB answers, but its replica set has not been initiated (or is just starting). If it is new, run once:  "
    "mongosh --port <its port> --eval 'rs.initiate()'"
)

log = structlog.get_logger("sync_server.mongo")


class MongoLog:
    """An EventLog in one MongoDB database, through either driver."""

    def __init__(self, uri: str, database: str, *, new_epoch: Callable[[], str], driver: Driver = "pymongo") -> None:
        self._driver = driver
        self._client = open_client(driver, uri)
        self._db = self._client.get_database(
            database,
            read_concern=_MAJORITY,
            write_concern=_W_MAJORITY,
            read_preference=ReadPreference.PRIMARY,
        )
        self._new_epoch = new_epoch
        # A lease: a failover that loses it ends the sessions' transactions as well, so it needs no majority.
        leases = self._db["appenders"].with_options(read_concern=ReadConcern("local"), write_concern=WriteConcern(1))
        self._sessions = SessionRegistry(self._client, leases)
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
            await self._probe()
            await self._migrate()
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

    async def _probe(self) -> None:
        hello = await self._client.admin.command("hello")
        if "setName" not in hello:
            host, port = await settle(self._client.address) or ("localhost", 27017)
            raise LogMisconfigured(_NO_REPLICA_SET.format(address=f"{host}:{port}"))
        try:
            async with await settle(self._db.watch([], max_await_time_ms=1)) as stream:
                await stream.try_next()
        except OperationFailure as exc:
            if translate(exc) is not None:
                raise
            raise LogMisconfigured(f"This MongoDB gives no change stream: {exc}") from exc

    async def _migrate(self) -> None:
        existing = set(await self._db.list_collection_names())
        for name in _COLLECTIONS:
            if name not in existing:
                await self._create_collection(name)
        meta = await self._db["meta"].find_one_and_update(
            {"_id": "schema"},
            {"$setOnInsert": {"version": SCHEMA_VERSION}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        if meta["version"] > SCHEMA_VERSION:
            raise LogMisconfigured(
                f"This database was written by a newer order-sync (schema {meta['version']}, this one knows "
                f"{SCHEMA_VERSION}). Update order-sync."
            )
        await self._db["outcomes"].create_indexes(
            [
                IndexModel([("tenant", ASCENDING), ("principal", ASCENDING), ("key", ASCENDING)], unique=True),
                IndexModel([("tenant", ASCENDING), ("expires_ms", ASCENDING)]),
            ]
        )
        await self._db["signals"].create_index("at", expireAfterSeconds=SIGNAL_TTL_S)

    async def _create_collection(self, name: str) -> None:
        try:
            await self._db.create_collection(name)
        except CollectionInvalid:  # another process was faster
            pass
        except OperationFailure as exc:  # and was so between the driver's own look and its command
            if exc.code != _NAMESPACE_EXISTS:
                raise

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
        async with _answering():
            head = await self._db["heads"].find_one({"_id": tenant})
            if head is None:
                with suppress(OperationFailure):  # 11000: somebody else made it
                    await self._db["heads"].insert_one(
                        {"_id": tenant, "tenant": tenant, "epoch": self._new_epoch(), "seq": 0, "floor": 0,
                         "time_ms": 0, "groups": 0}
                    )  # fmt: skip
                head = await self._db["heads"].find_one({"_id": tenant})
        if head is None:
            raise LogUnavailable(f"The log of tenant {tenant!r} could not be made.")
        return _bounds(head)

    async def bounds(self, tenants: Collection[str]) -> dict[str, Bounds]:
        await self._ready()
        async with _answering():
            heads = await self._db["heads"].find({"_id": {"$in": list(tenants)}}).to_list(None)
        return {head["_id"]: _bounds(head) for head in heads}

    async def tenants(self) -> list[str]:
        await self._ready()
        async with _answering():
            return sorted(await self._db["heads"].distinct("_id"))

    async def read(self, tenant: str, *, after: int, limit: int) -> list[StoredEvent]:
        await self._ready()
        async with _answering():
            # One batch and no cursor: the server ends it at 16 MB, so a page of large events stays bounded.
            reply = await self._db.command(
                {
                    "find": "events", "filter": {"_id": _between(tenant, after)}, "sort": {"_id": 1},
                    "limit": limit, "batchSize": limit, "singleBatch": True,
                    "projection": {"group": 0},
                    "readConcern": {"level": "majority"},
                }
            )  # fmt: skip
        return [_event(row) for row in reply["cursor"]["firstBatch"]]

    # -- writing ------------------------------------------------------------------------------------

    async def transact(self, tenant: str, group: Group, *, now_ms: int, deadline_s: float) -> Committed:
        await self._ready()
        try:
            async with _translated(), self._sessions.using(tenant) as session:
                committed = await self._transact(session, tenant, group, now_ms, deadline_s)
        except WriteConflict:
            with suppress(PyMongoError):
                await self._sessions.conflicted(tenant)
            raise
        self._sessions.got_through(tenant)
        return committed

    async def _transact(self, session: Any, tenant: str, group: Group, now_ms: int, deadline_s: float) -> Committed:
        await settle(session.start_transaction(read_concern=ReadConcern("snapshot"), write_concern=_W_MAJORITY))
        try:
            committed = await self._body(session, tenant, group, now_ms)
        except BaseException:
            # An exception of ours would leave the transaction, and with it the head's lock, open.
            with suppress(PyMongoError):
                await asyncio.shield(session.abort_transaction())
            raise
        # Stays if the commit fails in whatever way: one whose session was killed meanwhile is told to be aborted
        # (251, transient) and may stand all the same. Only a look under the head knows.
        group.doubtful = committed if committed.events else None
        await _commit(session, deadline_s)
        group.doubtful = None
        return committed

    async def _body(self, session: Any, tenant: str, group: Group, now_ms: int) -> Committed:
        """Everything between the start of the transaction and its commit."""
        reserve = group.reserve
        head = await self._db["heads"].find_one_and_update(
            {"_id": tenant},
            # `groups` makes it a write even where nothing is reserved: $inc by 0 alone would be no lock.
            {"$inc": {"seq": reserve, "groups": 1}, "$max": {"time_ms": now_ms}},
            session=session,
            return_document=ReturnDocument.AFTER,
        )
        if head is None:
            await session.abort_transaction()
            await self.ensure(tenant)
            raise TransientFailure(f"The log of tenant {tenant!r} was just made.")
        if group.doubtful is not None and await self._is_there(session, tenant, group):
            # Seen from inside a transaction is not yet durable; what this one commits at majority, and with it
            # all that came before, is.
            await self._db["heads"].update_one({"_id": tenant}, {"$inc": {"seq": -reserve}}, session=session)
            return group.doubtful
        if group.doubtful is not None and group.doubtful.events[0].seq <= head["floor"]:
            raise CommitUnknown("What may have been written was trimmed meanwhile.")
        before = head["seq"] - reserve
        outcomes = await self._read_outcomes(session, tenant, group.keys)
        view = View(head["epoch"], before + 1, head["time_ms"], outcomes)
        plan = decide(group, view)
        used = view.next_seq - 1 - before
        if used != reserve:
            await self._db["heads"].update_one({"_id": tenant}, {"$inc": {"seq": used - reserve}}, session=session)
        await self._write(session, tenant, group, plan)
        return Committed(head["epoch"], plan.events, plan.results)

    async def _is_there(self, session: Any, tenant: str, group: Group) -> bool:
        """Whether an earlier try of *group* was committed after all. The head is held, so the answer stands."""
        assert group.doubtful is not None
        first = group.doubtful.events[0]
        found = await self._db["events"].find_one(
            {"_id": _event_id(tenant, first.seq), "group": group.id.bytes}, session=session
        )
        return found is not None

    async def _read_outcomes(self, session: Any, tenant: str, keys: Sequence[OutcomeKey]) -> dict[OutcomeKey, Outcome]:
        if not keys:
            return {}
        by_principal: dict[str, list[str]] = {}
        for principal, key in keys:
            by_principal.setdefault(principal, []).append(key)
        wanted = [{"tenant": tenant, "principal": p, "key": {"$in": ks}} for p, ks in by_principal.items()]
        rows = await self._db["outcomes"].find({"$or": wanted}, session=session).to_list(None)
        return {
            OutcomeKey(r["principal"], r["key"]): Outcome(r["fingerprint"], r["result"], r["expires_ms"]) for r in rows
        }

    async def _write(self, session: Any, tenant: str, group: Group, plan: Plan) -> None:
        if plan.events:
            rows = [_row(tenant, event) for event in plan.events]
            rows[0]["group"] = group.id.bytes
            # As one command: insert_many's bulk machinery costs as much again as sending it.
            reply = await self._db.command({"insert": "events", "documents": rows}, session=session)
            if reply["n"] != len(rows):
                raise OperationFailure("events were not inserted", details=reply)
        if plan.outcomes:
            await self._db["outcomes"].insert_many(
                [{"tenant": tenant, **key._asdict(), **outcome._asdict()} for key, outcome in plan.outcomes.items()],
                session=session,
            )

    async def signal(self, tenant: str, events: Sequence[StoredEvent]) -> None:
        await self._ready()
        async with _answering():
            rows = [_row(tenant, event) for event in events]
            await self._db.command(
                # An update, because only that can put the server's own time, which the TTL is measured by.
                {
                    "update": "signals",
                    "updates": [
                        {
                            "q": {"_id": os.urandom(12).hex()},
                            "u": {
                                "$set": {
                                    "tenant": tenant,
                                    "process": self._sessions.process_id,
                                    "events": rows,
                                },
                                "$currentDate": {"at": True},
                            },
                            "upsert": True,
                        }
                    ],
                }
            )

    # -- doorbell -----------------------------------------------------------------------------------

    async def wakeups(self) -> AsyncIterator[Bell | Signal]:
        pause_s = 0.05
        while True:
            try:
                await self._ready()
                async with await self._watch() as stream:
                    yield Bell(None)  # whatever happened while there was no stream
                    pause_s = 0.05
                    while stream.alive:
                        change = await stream.try_next()
                        check_cancelled()
                        if change is not None and (wakeup := self._wakeup(change)) is not None:
                            yield wakeup
            except (PyMongoError, LogError) as exc:
                check_cancelled()
                log.debug("change_stream_reopens", error=str(exc)[:200])
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 1.0)

    async def _watch(self) -> Any:
        """A stream over commits and signals that misses none made after this call began."""
        # Open-then-read and read-then-open both missed commits; the operation time of a majority read does not.
        reply = await self._db.command(
            {"find": "meta", "limit": 1, "singleBatch": True, "readConcern": {"level": "majority"}}
        )
        return await settle(
            self._db.watch(
                [
                    {"$match": {"ns.coll": {"$in": ["heads", "signals"]}}},
                    {"$project": {"ns.coll": 1, "documentKey._id": 1, "updateDescription.updatedFields.seq": 1,
                                  "fullDocument.tenant": 1, "fullDocument.process": 1,
                                  "fullDocument.events": 1}},
                ],
                start_at_operation_time=reply["operationTime"],
                max_await_time_ms=1000,
            )
        )  # fmt: skip

    def _wakeup(self, change: dict[str, Any]) -> Bell | Signal | None:
        if "documentKey" not in change:
            return Bell(None)  # dropped, renamed: look at everything
        if change["ns"]["coll"] == "heads":
            updated = change.get("updateDescription", {}).get("updatedFields", {})
            return Bell(change["documentKey"]["_id"], updated.get("seq"))
        document = change.get("fullDocument")
        if document is None or document["process"] == self._sessions.process_id:
            return None
        return Signal(document["tenant"], tuple(_event(row) for row in document["events"]))

    # -- upkeep -------------------------------------------------------------------------------------

    async def trim(self, tenant: str, floor: int) -> Bounds:
        await self._ready()
        async with _answering():
            head = await self._db["heads"].find_one_and_update(
                {"_id": tenant},
                [{"$set": {"floor": {"$max": ["$floor", {"$min": [floor, "$seq"]}]}}}],
                return_document=ReturnDocument.AFTER,
            )
            if head is None:
                raise LogMisconfigured(f"There is no tenant {tenant!r} in this log.")
            bounds = _bounds(head)
            while first := await self._db["events"].find_one(
                {"_id": _between(tenant, 0, bounds.floor)}, sort=[("_id", ASCENDING)]
            ):
                upto = min(first["_id"]["seq"] + _TRIM_CHUNK, bounds.floor)
                await self._db["events"].delete_many({"_id": _between(tenant, 0, upto)})
        return bounds

    async def new_epoch(self, tenant: str, epoch: str) -> Bounds:
        await self._ready()
        async with _answering():
            head = await self._db["heads"].find_one_and_update(
                {"_id": tenant}, {"$set": {"epoch": epoch}}, return_document=ReturnDocument.AFTER
            )
        if head is None:
            raise LogMisconfigured(f"There is no tenant {tenant!r} in this log.")
        return _bounds(head)

    async def expire_outcomes(self, tenant: str, *, now_ms: int) -> int:
        await self._ready()
        give_up_s = asyncio.get_running_loop().time() + EXPIRY_PATIENCE_S
        while True:
            async with _answering():
                try:
                    async with _translated():
                        return await self._expire(tenant, {"tenant": tenant, "expires_ms": {"$lt": now_ms}})
                except TransientFailure as exc:
                    if asyncio.get_running_loop().time() >= give_up_s:
                        raise LogUnavailable(f"Outcomes of tenant {tenant!r} could not be swept: {exc}") from exc
            await asyncio.sleep(random.uniform(0.0005, 0.01))

    async def _expire(self, tenant: str, expired: dict[str, Any]) -> int:
        if await self._db["outcomes"].find_one(expired, {"_id": 1}) is None:
            return 0
        name = f"{tenant}:expiry:{uuid4().hex}"  # beside the appender's, and beside another sweep's
        try:
            async with self._sessions.using(name) as session:
                await settle(session.start_transaction(read_concern=ReadConcern("snapshot"), write_concern=_W_MAJORITY))
                try:
                    # Outcomes are only ever touched under the head, or an appender could decide on a ghost.
                    await self._db["heads"].update_one({"_id": tenant}, {"$inc": {"groups": 1}}, session=session)
                    old = await self._db["outcomes"].find(expired, {"_id": 1}, session=session, limit=500).to_list(None)
                    await self._db["outcomes"].delete_many(
                        {"tenant": tenant, "_id": {"$in": [o["_id"] for o in old]}}, session=session
                    )
                    await session.commit_transaction()
                except BaseException:
                    with suppress(PyMongoError):
                        await session.abort_transaction()
                    raise
        finally:
            await self._sessions.drop(name)
        return len(old)

    async def describe(self) -> dict[str, str]:
        await self._ready()
        async with _answering():
            build = await self._client.admin.command("buildInfo")
            hello = await self._client.admin.command("hello")
            limit = "unknown (no right to read it)"
            with suppress(OperationFailure):
                reply = await self._client.admin.command({"getParameter": 1, "transactionLifetimeLimitSeconds": 1})
                limit = f"{reply['transactionLifetimeLimitSeconds']} s"
        return {
            "store": f"MongoDB {build['version']} through {self._driver}",
            "replica set": f"{hello['setName']}, {len(hello.get('hosts', []))} member(s)",
            "database": self._db.name,
            "transaction lifetime limit": limit,
        }


async def _commit(session: Any, deadline_s: float) -> None:
    """Commit, repeating only the commit while its result is unknown."""
    loop = asyncio.get_running_loop()
    pause_s = 0.01
    while True:
        try:
            await session.commit_transaction()
        except PyMongoError as exc:
            if not unknown_commit(exc):
                raise
            if loop.time() + pause_s >= deadline_s:
                raise CommitUnknown("MongoDB did not say whether it committed.") from exc
        else:
            return
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.5)


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """In a transaction: the driver's errors become the log's; what repeating does not change passes through."""
    try:
        yield
    except PyMongoError as exc:
        error = translate(exc)
        if error is None:
            raise
        raise error from exc


@asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    """Elsewhere: whatever the driver reports, MongoDB does not answer as it should."""
    try:
        yield
    except PyMongoError as exc:
        raise unavailable(exc) from exc
    check_cancelled()


def _bounds(head: dict[str, Any]) -> Bounds:
    return Bounds(head["epoch"], head["floor"], head["seq"])


def _event_id(tenant: str, seq: int | MaxKey) -> dict[str, Any]:
    """An event's ``_id``, which is all the index that events have: a second one nearly doubles what a write costs.

    Embedded documents compare field by field, in this order; so a tenant's events lie together, by seq.
    """
    return {"tenant": tenant, "seq": seq}


def _between(tenant: str, after: int, upto: int | MaxKey = _END) -> dict[str, Any]:
    """The range of ids from *after* + 1 to *upto*."""
    return {"$gt": _event_id(tenant, after), "$lte": _event_id(tenant, upto)}


def _row(tenant: str, event: StoredEvent) -> dict[str, Any]:
    seq, time_ms, event_type, tags, client_id, principal, tail = event
    return {
        "_id": _event_id(tenant, seq), "time_ms": time_ms, "type": event_type, "tags": tags,
        "client": client_id, "principal": principal, "tail": tail,
    }  # fmt: skip


def _event(row: dict[str, Any]) -> StoredEvent:
    return StoredEvent(
        row["_id"]["seq"],
        row["time_ms"],
        row["type"],
        tuple(row["tags"]),
        row["client"],
        row["principal"],
        row["tail"],
    )
