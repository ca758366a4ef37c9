"""One transaction of a group in MongoDB.

The order of operations is exact, and was found the hard way (eventlog-evidence.md): first a real write to the
tenant's head, which is the lock, fixes the snapshot and reserves the seqs; then the reads; then decisions in
memory; then writes that cannot be refused; then the commit, at majority.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from sync_core.domain.document import Ref
from sync_server.log.base import CommitUnknown, TransientFailure
from sync_server.log.group import Committed, Group, Plan, View, decide
from sync_server.log.mongo_documents import load_documents, write_documents
from sync_server.log.mongo_driver import settle, unknown_commit
from sync_server.log.mongo_rows import event_id, event_row, outcome_of, outcome_row
from sync_server.log.records import Outcome, OutcomeKey

__all__ = ["NoHead", "begin", "commit_group"]


class NoHead(TransientFailure):
    """The tenant has no log yet."""


def commit_mark(process_id: str, group: Group) -> str:
    """What a head says of its last commit. It begins with the process, and is another one for each group, so that
    a change stream shows it each time."""
    return f"{process_id} {group.id.hex}"


async def begin(session: Any) -> None:
    """Start a transaction."""
    await settle(
        session.start_transaction(read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority"))
    )


async def commit_group(
    db: Any, session: Any, tenant: str, group: Group, *, process_id: str, now_ms: int, deadline_s: float
) -> Committed:
    """Commit *group* once, as process *process_id*. Raises NoHead, CommitUnknown, and what the driver raises."""
    await begin(session)
    try:
        committed = await _body(db, session, tenant, group, process_id, now_ms)
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


async def _body(db: Any, session: Any, tenant: str, group: Group, process_id: str, now_ms: int) -> Committed:
    """Everything between the start of the transaction and its commit."""
    reserve = group.reserve
    by = commit_mark(process_id, group)
    # `groups` makes it a write even where nothing is reserved: $inc by 0 alone would be no lock.
    update = {"$inc": {"seq": reserve, "groups": 1}, "$max": {"time_ms": now_ms}, "$set": {"by": by}}
    # As commands, this one and those that insert: the driver's own methods cost a tenth, or as much again.
    taking = {"findAndModify": "heads", "query": {"_id": tenant}, "update": update, "new": True}
    head = (await db.command(taking, session=session))["value"]
    if head is None:
        raise NoHead(f"There is no log of tenant {tenant!r} yet.")
    if group.doubtful is not None and await _is_there(db, session, tenant, group):
        # Seen from inside a transaction is not yet durable; what this one commits at majority, and with it
        # all that came before, is.
        await db["heads"].update_one({"_id": tenant}, {"$inc": {"seq": -reserve}}, session=session)
        return group.doubtful
    if group.doubtful is not None and group.doubtful.events[0].seq <= head["floor"]:
        raise CommitUnknown("What may have been written was trimmed meanwhile.")
    before = head["seq"] - reserve
    outcomes = await _read_outcomes(db, session, tenant, group.keys)
    view = View(head["epoch"], before + 1, head["time_ms"], outcomes)
    plan, read = await _decide(db, session, tenant, group, view)
    used = view.next_seq - 1 - before
    if used != reserve:
        fewer = {"$inc": {"seq": used - reserve}, "$set": {"by": f"{by} fewer"}}
        await db["heads"].update_one({"_id": tenant}, fewer, session=session)
    await _write(db, session, tenant, group, plan, read)
    return Committed(head["epoch"], plan.events, plan.results)


async def _is_there(db: Any, session: Any, tenant: str, group: Group) -> bool:
    """Whether an earlier try of *group* was committed after all. The head is held, so the answer stands."""
    assert group.doubtful is not None
    first = group.doubtful.events[0]
    found = await db["events"].find_one({"_id": event_id(tenant, first.seq), "group": group.id.bytes}, session=session)
    return found is not None


async def _read_outcomes(db: Any, session: Any, tenant: str, keys: Sequence[OutcomeKey]) -> dict[OutcomeKey, Outcome]:
    if not keys:
        return {}
    by_principal: dict[str, list[str]] = {}
    for principal, key in keys:
        by_principal.setdefault(principal, []).append(key)
    wanted = [{"tenant": tenant, "principal": p, "key": {"$in": ks}} for p, ks in by_principal.items()]
    rows = await db["outcomes"].find({"$or": wanted}, session=session).to_list(None)
    return dict(map(outcome_of, rows))


async def _decide(db: Any, session: Any, tenant: str, group: Group, view: View) -> tuple[Plan, dict[Ref, int]]:
    """What *group* wants written, and the version that each document had when it was read (0: there was none)."""
    plan, refs, read = Plan(), group.refs, dict[Ref, int]()
    while True:
        found = await load_documents(db, tenant, refs, session=session)
        view.load(refs, found)
        read |= dict.fromkeys(refs, 0) | {document.ref: document.version for document in found}
        if not (refs := decide(group, view, plan)):
            return plan, read


async def _write(db: Any, session: Any, tenant: str, group: Group, plan: Plan, read: dict[Ref, int]) -> None:
    if plan.events:
        rows = [event_row(tenant, event) for event in plan.events]
        rows[0]["group"] = group.id.bytes
        await _insert(db, session, "events", rows)
    await write_documents(db, tenant, plan.documents, read=read, session=session)
    if plan.outcomes:
        rows = [outcome_row(tenant, key, outcome) for key, outcome in plan.outcomes.items()]
        await _insert(db, session, "outcomes", rows)


async def _insert(db: Any, session: Any, collection: str, rows: list[dict[str, Any]]) -> None:
    reply = await db.command({"insert": collection, "documents": rows}, session=session)
    if reply["n"] != len(rows):
        raise OperationFailure(f"{collection} were not inserted", details=reply)


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
