"""What orders and queues do together: entering, leaving, moving up. Source: domain.md."""

from typing import Annotated

from pydantic import Field

from sync_core.domain.changes import Changes, RuleConflict
from sync_core.domain.command import CommandInput, command
from sync_core.domain.fields import DocumentID, Names, Whole
from sync_core.domain.orders import Order, Stage
from sync_core.domain.queues import MAX_ENTRIES, Entry, Queue, QueueID
from sync_core.problems import NotFound

__all__ = ["COMMANDS"]

OrderID = Annotated[DocumentID, Names("order")]


class EnterQueue(CommandInput):
    queueID: QueueID
    orderID: OrderID
    priority: Whole = Field(default=0, ge=-1000, le=1000)
    """Larger goes first."""


@command(
    "POST",
    "/queues/{queueID}/entries",
    target=Queue,
    permission="use_queues",
    emits=["queue_updated", "order_updated"],
    creates=True,
)
def enter(shop: Changes, given: EnterQueue) -> None:
    """Let an initiated order wait; it waits in one queue only."""
    queue = shop.get(Queue, given.queueID)
    order = shop.get(Order, given.orderID, field="orderID")
    if queue.paused:
        raise RuleConflict(f"Queue {queue.queueID} is paused.", queue, order)
    if order.queueID is not None:
        raise RuleConflict(f"Order {order.orderID} waits in queue {order.queueID} already.", queue, order)
    if order.stage is not Stage.INITIATED or order.bayID is not None:
        raise RuleConflict(f"Order {order.orderID} is {order.stage}; only an initiated order can wait.", queue, order)
    if len(queue.entries) >= MAX_ENTRIES:
        raise RuleConflict(f"Queue {queue.queueID} is full ({MAX_ENTRIES} orders).", queue, order)
    now = shop.context.now
    entry = Entry(ticket=queue.nextTicket, orderID=order.orderID, priority=given.priority, enteredAt=now)
    queue = queue.with_entry(entry).model_copy(update={"nextTicket": queue.nextTicket + 1})
    shop.put(queue, "queue_updated", {"change": "entered"})
    shop.put(order.model_copy(update={"queueID": queue.queueID, "updatedAt": now}), "order_updated")


class LeaveQueue(CommandInput):
    queueID: QueueID
    orderID: OrderID


@command(
    "DELETE",
    "/queues/{queueID}/entries/{orderID}",
    target=Queue,
    permission="use_queues",
    emits=["queue_updated", "order_updated"],
)
def leave(shop: Changes, given: LeaveQueue) -> None:
    """Take an order out of its queue; it stays initiated."""
    queue, _ = _waiting(shop, given.queueID, given.orderID)
    shop.put(queue.without(given.orderID), "queue_updated", {"change": "left"})
    order = shop.find(Order, given.orderID)
    if order is not None:
        shop.put(order.model_copy(update={"queueID": None, "updatedAt": shop.context.now}), "order_updated")


class MoveEntry(CommandInput):
    queueID: QueueID
    orderID: DocumentID
    position: Whole = Field(ge=1, le=MAX_ENTRIES)
    """1 is called next; beyond the end means last."""


@command(
    "POST",
    "/queues/{queueID}/entries/{orderID}/move",
    target=Queue,
    permission="use_queues",
    emits=["queue_updated"],
)
def move(shop: Changes, given: MoveEntry) -> None:
    """Put a waiting order where a person wants it."""
    queue, entry = _waiting(shop, given.queueID, given.orderID)
    queue = queue.without(given.orderID).with_entry_at(given.position - 1, entry)
    shop.put(queue, "queue_updated", {"change": "moved"})


def _waiting(shop: Changes, queue_id: str, order_id: str) -> tuple[Queue, Entry]:
    queue = shop.get(Queue, queue_id)
    entry = queue.entry_of(order_id)
    if entry is None:
        raise NotFound(f"Order {order_id} does not wait in queue {queue_id}.")
    return queue, entry


COMMANDS = (enter, leave, move)
