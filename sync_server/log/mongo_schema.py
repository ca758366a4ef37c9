"""What a MongoDB has to be to serve as event log, and the collections and indexes of ours."""

import asyncio
from typing import Any

from pymongo import ASCENDING, IndexModel
from pymongo.errors import CollectionInvalid, OperationFailure

from sync_server.log.base import LogMisconfigured
from sync_server.log.mongo_driver import settle, translate

__all__ = ["SCHEMA_VERSION", "migrate", "probe"]

SCHEMA_VERSION = 2
"""1: events and outcomes. 2: documents, and `reach` on events."""
SIGNAL_TTL_S = 60
_NAMESPACE_EXISTS = 48
_COLLECTIONS = ("meta", "heads", "events", "appenders")
_INDEXES = {
    "outcomes": [
        IndexModel([("tenant", ASCENDING), ("principal", ASCENDING), ("key", ASCENDING)], unique=True),
        IndexModel([("tenant", ASCENDING), ("expires_ms", ASCENDING)]),
    ],
    "documents": [  # tombstones only: 3 % of what a change costs mongod
        IndexModel([("_id.tenant", ASCENDING), ("seq", ASCENDING)], partialFilterExpression={"deleted": True})
    ],
    "signals": [IndexModel([("at", ASCENDING)], expireAfterSeconds=SIGNAL_TTL_S)],
}
_NO_REPLICA_SET = (
    "MongoDB at {address} is not a replica set, so it has neither transactions nor change streams. Start mongod "
    'with --replSet rs0 and run once:  mongosh --eval \'rs.initiate({{_id: "rs0", members: [{{_id: 0, host: '
    '"{address}"}}]}})\''
)


async def probe(client: Any, db: Any) -> None:
    """Raises LogMisconfigured where there is no replica set, no change stream."""
    hello = await client.admin.command("hello")
    if "setName" not in hello:
        host, port = await settle(client.address) or ("localhost", 27017)
        raise LogMisconfigured(_NO_REPLICA_SET.format(address=f"{host}:{port}"))
    try:
        async with await settle(db.watch([], max_await_time_ms=1)) as stream:
            await stream.try_next()
    except OperationFailure as exc:
        if translate(exc) is not None:
            raise
        raise LogMisconfigured(f"This MongoDB gives no change stream: {exc}") from exc


async def migrate(db: Any) -> None:
    """Make what is missing and bring an older database forward. Raises LogMisconfigured where it is a newer one.

    Every step may be done twice, by several processes at a time; the version is written last.
    """
    meta = await db["meta"].find_one({"_id": "schema"})
    if meta is not None and meta["version"] > SCHEMA_VERSION:  # it is left as it is
        raise LogMisconfigured(
            f"This database was written by a newer order-sync (schema {meta['version']}, this one knows "
            f"{SCHEMA_VERSION}). Update order-sync."
        )
    existing = set(await db.list_collection_names())
    # Each waits for a majority's disks, so they wait together. An index makes its collection.
    await asyncio.gather(
        *(_create_collection(db, name) for name in _COLLECTIONS if name not in existing),
        *(db[name].create_indexes(indexes) for name, indexes in _INDEXES.items()),
    )
    if meta is None or meta["version"] < SCHEMA_VERSION:
        await db["meta"].update_one({"_id": "schema"}, {"$max": {"version": SCHEMA_VERSION}}, upsert=True)


async def _create_collection(db: Any, name: str) -> None:
    try:
        await db.create_collection(name)
    except CollectionInvalid:  # another process was faster
        pass
    except OperationFailure as exc:  # and was so between the driver's own look and its command
        if exc.code != _NAMESPACE_EXISTS:
            raise
