"""Washing bays and the jobs in them. A job takes its order along: in progress with it, completed by it.

Source: domain.md.
"""

import enum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from sync_core.domain.changes import Changes, RuleConflict
from sync_core.domain.command import CommandInput, command
from sync_core.domain.document import Document, Part
from sync_core.domain.fields import DocumentID, Label, Made, Names, Omittable, Text, Whole
from sync_core.domain.orders import Order, Stage, enter_stage
from sync_core.domain.queues import Queue, QueueID
from sync_core.events import Delivery, EventType
from sync_core.filters import tag
from sync_core.problems import NotFound

__all__ = ["COMMANDS", "EVENT_TYPES", "Bay", "BayStatus", "Job"]

Seconds = Annotated[Whole, Field(ge=1, le=24 * 3600)]
BayID = Annotated[DocumentID, Names("bay")]
OrderID = Annotated[DocumentID, Names("order")]
NewJobID = Annotated[DocumentID | None, Made()]


class BayStatus(enum.StrEnum):
    AVAILABLE = "available"
    OCCUPIED = "occupied"
    CLEANING = "cleaning"
    OUT_OF_SERVICE = "out_of_service"


class Job(Part):
    """What is being done in a bay. *progress* is in percent and never goes back."""

    jobID: DocumentID
    orderID: DocumentID
    service: Label
    startedAt: str
    expectedSeconds: Whole
    progress: Whole = 0


class Bay(Document):
    """One washing bay."""

    kind: ClassVar[str] = "bay"
    plural: ClassVar[str] = "bays"
    id_key: ClassVar[str] = "bayID"
    view_permission: ClassVar[str] = "view_bays"

    bayID: DocumentID
    name: Label
    status: BayStatus = BayStatus.AVAILABLE
    job: Job | None = None

    def tags(self) -> tuple[str, ...]:
        own = (tag("bayID", self.bayID),)
        return own if self.job is None else (*own, tag("orderID", self.job.orderID), tag("jobID", self.job.jobID))

    @property
    def state(self) -> str:
        return self.status.value


class JobData(BaseModel):
    """Data of the events that tell of a job without the bay."""

    model_config = ConfigDict(extra="allow")
    bayID: str
    job: Job


EVENT_TYPES = (
    EventType("bay_updated", document="bay"),
    # Latest of its bay, the document it carries: callers make job ids, and two bays may have the same.
    EventType("job_progress", document="bay", delivery=Delivery.LATEST, entity="bayID"),
    EventType("job_started", JobData, command_only=True),
    EventType("job_completed", JobData, command_only=True),
    EventType("job_aborted", JobData, command_only=True),
)


class CreateBay(CommandInput):
    bayID: Annotated[BayID | None, Made()] = None
    name: Label


@command("POST", "/bays", target=Bay, permission="manage_bays", emits=["bay_updated"], creates=True)
def create(shop: Changes, given: CreateBay) -> None:
    """Add a bay; it is available."""
    assert given.bayID is not None
    shop.create(Bay(bayID=given.bayID, name=given.name), "bay_updated", {"change": "created"})


class EditBay(CommandInput):
    bayID: BayID
    name: Omittable[Label] = None
    status: Omittable[Literal["available", "cleaning", "out_of_service"]] = None


@command("PATCH", "/bays/{bayID}", target=Bay, permission="run_bays", emits=["bay_updated"])
def edit(shop: Changes, given: EditBay) -> None:
    """Rename a bay, or say that it is clean, being cleaned, or broken; not while it is occupied."""
    bay = shop.get(Bay, given.bayID)
    if bay.status is BayStatus.OCCUPIED:
        raise RuleConflict(f"Bay {bay.bayID} is occupied; finish or abort its job.", bay)
    wanted: dict[str, Any] = {"name": given.name or bay.name}
    if given.status is not None:
        wanted["status"] = BayStatus(given.status)
    shop.put(bay.model_copy(update=wanted), "bay_updated", {"change": "edited"})


class DeleteBay(CommandInput):
    bayID: BayID


@command("DELETE", "/bays/{bayID}", target=Bay, permission="manage_bays", emits=["bay_updated"])
def delete(shop: Changes, given: DeleteBay) -> None:
    """Take a bay away that is not occupied."""
    bay = shop.get(Bay, given.bayID)
    if bay.status is BayStatus.OCCUPIED:
        raise RuleConflict(f"Bay {bay.bayID} is occupied; finish or abort its job.", bay)
    shop.delete(bay, "bay_updated")


class StartJob(CommandInput):
    bayID: BayID
    orderID: OrderID
    jobID: NewJobID = None
    service: Label = "wash"
    expectedSeconds: Seconds = 900


_STARTS = ["job_started", "bay_updated", "stage_change", "order_stage_change", "queue_updated"]


@command("POST", "/bays/{bayID}/jobs", target=Bay, permission="run_bays", emits=_STARTS, creates=True)
def start_job(shop: Changes, given: StartJob) -> None:
    """Start a job in an available bay for an initiated order."""
    bay = shop.get(Bay, given.bayID)
    order = shop.get(Order, given.orderID, field="orderID")
    _start(shop, bay, order, given)


class CallNext(CommandInput):
    queueID: QueueID
    bayID: BayID
    jobID: NewJobID = None
    service: Label = "wash"
    expectedSeconds: Seconds = 900


@command("POST", "/queues/{queueID}/call-next", target=Queue, permission="call_next", emits=_STARTS)
def call_next(shop: Changes, given: CallNext) -> None:
    """Call the first of a queue into an available bay: queue, bay and order change together."""
    queue = shop.get(Queue, given.queueID)
    bay = shop.get(Bay, given.bayID, field="bayID")
    if bay.status is not BayStatus.AVAILABLE:
        raise RuleConflict(f"Bay {bay.bayID} is {bay.status}.", queue, bay)
    if not queue.entries:
        raise RuleConflict(f"Nobody waits in queue {queue.queueID}.", queue, bay)
    order_id = queue.entries[0].orderID
    order = shop.get(Order, order_id)
    shop.put(queue.without(order_id), "queue_updated", {"change": "called", "bayID": bay.bayID})
    _start(shop, bay, order, given, left_queue=True)


def _start(shop: Changes, bay: Bay, order: Order, given: StartJob | CallNext, *, left_queue: bool = False) -> None:
    if bay.status is not BayStatus.AVAILABLE:
        raise RuleConflict(f"Bay {bay.bayID} is {bay.status}.", bay, order)
    if order.stage is not Stage.INITIATED:
        raise RuleConflict(f"Order {order.orderID} is {order.stage}; only an initiated order can start.", bay, order)
    assert given.jobID is not None
    job = Job(
        jobID=given.jobID,
        orderID=order.orderID,
        service=given.service,
        startedAt=shop.context.now,
        expectedSeconds=given.expectedSeconds,
    )
    bay = bay.model_copy(update={"status": BayStatus.OCCUPIED, "job": job})
    bay = shop.put(bay, "bay_updated", {"change": "job_started"})
    _tell(shop, "job_started", bay, job)
    enter_stage(shop, order, Stage.IN_PROGRESS, left_queue=left_queue, bayID=bay.bayID)


def _tell(shop: Changes, event_type: str, bay: Bay, job: Job, **data: Any) -> None:
    content = {"bayID": bay.bayID, "job": job.model_dump(mode="json"), **data}
    about = (tag("bayID", bay.bayID), tag("orderID", job.orderID), tag("jobID", job.jobID))
    shop.emit(event_type, content, about=about, of=bay)


class ReportProgress(CommandInput):
    bayID: BayID
    jobID: DocumentID
    progress: Whole = Field(ge=0, le=100)


@command("PATCH", "/bays/{bayID}/jobs/{jobID}", target=Bay, permission="run_bays", emits=["job_progress"])
def report_progress(shop: Changes, given: ReportProgress) -> None:
    """Say how far a job is; it never goes back."""
    bay, job = _job(shop, given.bayID, given.jobID)
    if given.progress < job.progress:
        raise RuleConflict(f"Job {job.jobID} is at {job.progress} % already.", bay)
    job = job.model_copy(update={"progress": given.progress})
    bay = bay.model_copy(update={"job": job})
    shop.put(bay, "job_progress", {"jobID": job.jobID, "orderID": job.orderID, "progress": job.progress})


class FinishJob(CommandInput):
    bayID: BayID
    jobID: DocumentID


@command(
    "POST",
    "/bays/{bayID}/jobs/{jobID}/finish",
    target=Bay,
    permission="run_bays",
    emits=["job_completed", "bay_updated", "stage_change", "order_stage_change"],
)
def finish_job(shop: Changes, given: FinishJob) -> None:
    """Finish a job: the bay needs cleaning, the order is completed."""
    bay, job = _job(shop, given.bayID, given.jobID)
    _end(shop, "job_completed", bay, job.model_copy(update={"progress": 100}), Stage.COMPLETED)


class AbortJob(CommandInput):
    bayID: BayID
    jobID: DocumentID
    reason: Text


@command(
    "POST",
    "/bays/{bayID}/jobs/{jobID}/abort",
    target=Bay,
    permission="run_bays",
    emits=["job_aborted", "bay_updated", "stage_change", "order_stage_change"],
)
def abort_job(shop: Changes, given: AbortJob) -> None:
    """Abort a job: the bay needs cleaning, the order is initiated again."""
    bay, job = _job(shop, given.bayID, given.jobID)
    _end(shop, "job_aborted", bay, job, Stage.INITIATED, reason=given.reason)


def _end(shop: Changes, event_type: str, bay: Bay, job: Job, stage: Stage, **data: Any) -> None:
    bay = bay.model_copy(update={"status": BayStatus.CLEANING, "job": None})
    bay = shop.put(bay, "bay_updated", {"change": event_type})
    _tell(shop, event_type, bay, job, **data)
    order = shop.find(Order, job.orderID)
    if order is not None:
        enter_stage(shop, order, stage, bayID=None)


def _job(shop: Changes, bay_id: str, job_id: str) -> tuple[Bay, Job]:
    bay = shop.get(Bay, bay_id)
    if bay.job is None or bay.job.jobID != job_id:
        raise NotFound(f"There is no job {job_id} in bay {bay_id}.")
    return bay, bay.job


COMMANDS = (create, edit, delete, start_job, call_next, report_progress, finish_job, abort_job)
