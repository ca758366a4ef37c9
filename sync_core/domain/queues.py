"""Queues: orders that wait for a bay, in the order in which they will be called. Source: domain.md.

Who enters stands behind everybody of the same or a higher priority; ``move`` puts an order where a person wants it.
"""

from typing import Annotated, ClassVar

from sync_core.domain.changes import Changes, RuleConflict
from sync_core.domain.command import CommandInput, command
from sync_core.domain.document import Document, Part
from sync_core.domain.fields import DocumentID, Label, Made, Names, Omittable, StrictBool, Whole
from sync_core.events import EventType

__all__ = ["Entry", "Queue", "QueueID"]

MAX_ENTRIES = 500
"""A queue leaves as one event of at most 256 KiB."""

QueueID = Annotated[DocumentID, Names("queue")]


class Entry(Part):
    """One that waits. *ticket* is the number in the customer's hand."""

    ticket: Whole
    orderID: DocumentID
    priority: Whole
    enteredAt: str


class Queue(Document):
    """One queue."""

    kind: ClassVar[str] = "queue"
    plural: ClassVar[str] = "queues"
    id_key: ClassVar[str] = "queueID"
    view_permission: ClassVar[str] = "view_queues"

    queueID: DocumentID
    name: Label
    paused: StrictBool = False
    entries: tuple[Entry, ...] = ()
    nextTicket: Whole = 1

    @property
    def state(self) -> str:
        return "paused" if self.paused else "open"

    def with_entry(self, entry: Entry) -> "Queue":
        """The queue with *entry* behind everybody of its priority or a higher one."""
        place = max((i + 1 for i, other in enumerate(self.entries) if other.priority >= entry.priority), default=0)
        return self.with_entry_at(place, entry)

    def with_entry_at(self, place: int, entry: Entry) -> "Queue":
        entries = (*self.entries[:place], entry, *self.entries[place:])
        return self.model_copy(update={"entries": entries})

    def without(self, order_id: str) -> "Queue":
        """The queue without that order."""
        return self.model_copy(update={"entries": tuple(e for e in self.entries if e.orderID != order_id)})

    def entry_of(self, order_id: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.orderID == order_id), None)


EVENT_TYPES = (EventType("queue_updated", document="queue"),)


class CreateQueue(CommandInput):
    queueID: Annotated[QueueID | None, Made()] = None
    name: Label


@command("POST", "/queues", target=Queue, permission="manage_queues", emits=["queue_updated"], creates=True)
def create(shop: Changes, given: CreateQueue) -> None:
    """Open a new queue."""
    assert given.queueID is not None
    shop.create(Queue(queueID=given.queueID, name=given.name), "queue_updated", {"change": "created"})


class EditQueue(CommandInput):
    queueID: QueueID
    name: Omittable[Label] = None
    paused: Omittable[StrictBool] = None


@command("PATCH", "/queues/{queueID}", target=Queue, permission="manage_queues", emits=["queue_updated"])
def edit(shop: Changes, given: EditQueue) -> None:
    """Rename, pause or resume a queue. A paused one takes nobody in; those who wait are still called."""
    queue = shop.get(Queue, given.queueID)
    wanted = given.model_dump(exclude={"queueID"}, exclude_none=True)
    shop.put(queue.model_copy(update=wanted), "queue_updated", {"change": "edited"})


class DeleteQueue(CommandInput):
    queueID: QueueID


@command("DELETE", "/queues/{queueID}", target=Queue, permission="manage_queues", emits=["queue_updated"])
def delete(shop: Changes, given: DeleteQueue) -> None:
    """Delete a queue in which nobody waits."""
    queue = shop.get(Queue, given.queueID)
    if queue.entries:
        raise RuleConflict(f"{len(queue.entries)} orders wait in queue {queue.queueID}.", queue)
    shop.delete(queue, "queue_updated")


COMMANDS = (create, edit, delete)
