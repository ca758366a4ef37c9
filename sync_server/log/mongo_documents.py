"""Documents as MongoDB holds them."""

from collections.abc import Collection, Mapping
from typing import Any

from bson.max_key import MaxKey
from pymongo import ASCENDING
from pymongo.errors import OperationFailure

from sync_core.domain.document import Ref
from sync_server.log.base import Selection
from sync_server.log.mongo_driver import settle
from sync_server.log.paging import SCAN_ROWS, Paging, Range
from sync_server.log.records import StoredDocument

__all__ = ["fill_page", "load_documents", "write_documents"]

_END = MaxKey()
_BATCH = 250
"""Documents that are fetched at a time: large ones soon fill the page, and the rest need not come."""


async def load_documents(db: Any, tenant: str, refs: Collection[Ref], *, session: Any) -> list[StoredDocument]:
    """Those of *refs* that exist, in the state that *session* reads."""
    if not refs:
        return []
    ids = [_document_id(tenant, *ref) for ref in refs]
    rows = await db["documents"].find({"_id": {"$in": ids}}, session=session, batch_size=len(ids) + 1).to_list(None)
    return [_document(row) for row in rows]


async def write_documents(
    db: Any, tenant: str, documents: Mapping[Ref, StoredDocument], *, read: Mapping[Ref, int], session: Any
) -> None:
    """Put *documents* in the place of those whose version was *read* (0: there was none), or fail."""
    if not documents:
        return
    updates = []
    for ref, document in documents.items():
        version, row = read.get(ref, 0), _row(tenant, document)
        updates.append({"q": {"_id": row["_id"], "version": version}, "u": row, "upsert": version == 0})
    reply = await db.command({"update": "documents", "updates": updates}, session=session)
    if reply["n"] != len(updates):
        raise OperationFailure("documents were not as they had been read", details=reply)


async def fill_page(db: Any, tenant: str, selection: Selection, paging: Paging, *, session: Any) -> None:
    """Look where *paging* wants to until it is complete, in the state that *session* reads."""
    conditions = _conditions(selection)
    while (place := paging.wanted()) is not None:
        behind = {"$gt": _document_id(tenant, place.kind, place.after), "$lt": _document_id(tenant, place.kind, _END)}
        found, complete = await _selected(db, behind, conditions, place, paging, session)
        taken = found[: paging.fitting(len(document.body) for document in found)]
        if not complete:
            upto: str | None = taken[-1].id if taken else place.after
        else:
            last = await db["documents"].find_one(
                {"_id": behind}, {"_id": 1}, sort=[("_id", ASCENDING)], skip=SCAN_ROWS - 1, session=session
            )
            upto = None if last is None else last["_id"]["id"]
        paging.take(taken, upto=upto)


async def _selected(
    db: Any, behind: dict[str, Any], conditions: dict[str, Any], place: Range, paging: Paging, session: Any
) -> tuple[list[StoredDocument], bool]:
    """The documents *behind* that are selected, about as many as fit, and whether there is no other to be looked at."""
    stages = [
        {"$match": {"_id": behind}},
        {"$sort": {"_id": 1}},
        {"$limit": SCAN_ROWS},
        {"$match": conditions},
        {"$limit": place.limit},
    ]
    found: list[StoredDocument] = []
    batch = min(_BATCH, place.limit + 1)  # by the one more the server knows that it is done
    async with await settle(db["documents"].aggregate(stages, session=session, batchSize=batch)) as cursor:
        while len(found) < place.limit and (rows := await cursor.to_list(batch)):
            found += map(_document, rows)
            if paging.fitting(len(document.body) for document in found) < len(found):
                return found, False
    return found, len(found) < place.limit


def _conditions(selection: Selection) -> dict[str, Any]:
    """What *selection* asks for beside kinds, as a filter."""
    conditions: dict[str, Any] = {}
    if not selection.deleted:
        conditions["deleted"] = False
    if selection.tags:
        conditions["tags"] = {"$in": sorted(selection.tags)}
    if selection.states:
        conditions["state"] = {"$in": sorted(selection.states)}
    if selection.updated_since_ms is not None:
        conditions["time_ms"] = {"$gte": selection.updated_since_ms}
    if selection.finished_since_ms is not None:
        conditions["$or"] = [{"is_open": True}, {"time_ms": {"$gte": selection.finished_since_ms}}]
    return conditions


def _document_id(tenant: str, kind: str, document_id: str | MaxKey) -> dict[str, Any]:
    """A document's ``_id``, in which a tenant's documents lie together, by kind and id."""
    return {"tenant": tenant, "kind": kind, "id": document_id}


def _row(tenant: str, d: StoredDocument) -> dict[str, Any]:
    return {
        "_id": _document_id(tenant, d.kind, d.id), "version": d.version, "deleted": d.deleted, "is_open": d.is_open,
        "state": d.state, "tags": d.tags, "grants": d.grants, "audience": d.audience, "seq": d.seq,
        "time_ms": d.time_ms, "body": d.body,
    }  # fmt: skip


def _document(row: dict[str, Any]) -> StoredDocument:
    return StoredDocument(
        row["_id"]["kind"], row["_id"]["id"], row["version"], row["deleted"], row["is_open"], row["state"],
        tuple(row["tags"]), tuple(row["grants"]), tuple(row["audience"]), row["seq"], row["time_ms"], row["body"],
    )  # fmt: skip
