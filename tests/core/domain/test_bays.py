"""Bays, and the jobs that take orders through them."""

from typing import Any

import pytest

from sync_core.domain import bays, orders, queues, waiting
from sync_core.domain.bays import BayStatus
from sync_core.domain.catalog import REGISTRY
from sync_core.domain.changes import RuleConflict
from sync_core.domain.document import Ref
from sync_core.domain.orders import Stage
from sync_core.events import Delivery
from sync_core.problems import NotFound, Unprocessable
from tests.core.domain.shop import Shop, data_of, open_shop, types_of

JOB = {
    "jobID": "j1", "orderID": "o1", "service": "polish", "startedAt": "2026-11-18T11:06:40.003Z",
    "expectedSeconds": 600, "progress": 0,
}  # fmt: skip


def test_a_new_bay_is_available() -> None:
    shop = Shop()
    (event,) = shop.do(bays.create, name="Bay 1")
    assert data_of(event) == {"bay": shop.bay("made-1").content(), "change": "created"}
    assert shop.bay("made-1").content() == {"version": 1, "bayID": "made-1", "name": "Bay 1", "status": "available"}


@pytest.mark.parametrize("status", ["available", "cleaning", "out_of_service"])
@pytest.mark.parametrize("before", ["available", "cleaning", "out_of_service"])
def test_a_bay_that_is_not_occupied_takes_any_other_status(before: str, status: str) -> None:
    shop = open_shop()
    shop.do(bays.edit, bayID="b1", status=before)
    (event,) = shop.do(bays.edit, bayID="b1", status=status)
    assert shop.bay().status == status
    assert data_of(event) == {"bay": shop.bay().content(), "change": "edited"}


def test_a_bay_is_renamed() -> None:
    shop = open_shop()
    shop.do(bays.edit, bayID="b1", name="New")
    assert (shop.bay().name, shop.bay().status) == ("New", "available")


@pytest.mark.parametrize(
    ("command", "given"), [(bays.edit, {"name": "x"}), (bays.edit, {"status": "available"}), (bays.delete, {})]
)
def test_an_occupied_bay_is_left_alone(command: Any, given: dict[str, Any]) -> None:
    shop = open_shop(job="o1")
    with pytest.raises(RuleConflict, match="finish or abort its job") as caught:
        shop.do(command, bayID="b1", **given)
    assert caught.value.documents == (shop.bay(),)


def test_a_bay_is_taken_away() -> None:
    shop = open_shop()
    shop.do(bays.delete, bayID="b1")
    assert Ref("bay", "b1") not in shop.bodies


def test_a_job_takes_its_order_along() -> None:
    shop = open_shop()
    events = shop.do(bays.start_job, bayID="b1", orderID="o1", jobID="j1", service="polish", expectedSeconds=600)
    assert types_of(events) == ["bay_updated", "job_started", "stage_change", "order_stage_change"]
    assert data_of(events[0]) == {"bay": shop.bay().content(), "change": "job_started"}
    assert data_of(events[1]) == {"bayID": "b1", "job": JOB}
    assert events[1].judged_by is not None
    assert events[1].judged_by.grants() == ("bayID=b1",), "an order's own customer does not see the bay"
    assert events[1].tags == ("bayID=b1", "orderID=o1", "jobID=j1")
    assert (shop.bay().status, shop.bay().content()["job"]) == (BayStatus.OCCUPIED, JOB)
    assert (shop.order().stage, shop.order().bayID) == (Stage.IN_PROGRESS, "b1")


def test_a_job_takes_its_order_out_of_its_queue() -> None:
    shop = open_shop(waiting_in=["o1", "o2"])
    events = shop.do(bays.start_job, bayID="b1", orderID="o2")
    assert types_of(events) == ["bay_updated", "job_started", "queue_updated", "stage_change", "order_stage_change"]
    assert [entry.orderID for entry in shop.queue().entries] == ["o1"]
    assert (shop.order("o2").queueID, shop.order("o2").bayID) == (None, "b1")


def test_the_first_in_the_queue_is_called() -> None:
    shop = open_shop(waiting_in=["o1", "o2"])
    events = shop.do(bays.call_next, queueID="q1", bayID="b1", jobID="j1")
    assert types_of(events) == ["queue_updated", "bay_updated", "job_started", "stage_change", "order_stage_change"]
    assert data_of(events[0]) == {"queue": shop.queue().content(), "change": "called", "bayID": "b1"}
    assert [entry.orderID for entry in shop.queue().entries] == ["o2"]
    assert (shop.order().stage, shop.order().queueID, shop.order().bayID) == ("in_progress", None, "b1")
    assert shop.bay().content()["job"]["orderID"] == "o1"


def test_a_paused_queue_is_still_called() -> None:
    shop = open_shop(waiting_in=["o1"])
    shop.do(queues.edit, queueID="q1", paused=True)
    shop.do(bays.call_next, queueID="q1", bayID="b1")
    assert shop.order().bayID == "b1"


@pytest.mark.parametrize("status", ["cleaning", "out_of_service", "occupied"])
def test_only_an_available_bay_takes_an_order(status: str) -> None:
    shop = open_shop(waiting_in=["o1"], job="o9" if status == "occupied" else None)
    if status != "occupied":
        shop.do(bays.edit, bayID="b1", status=status)
    with pytest.raises(RuleConflict, match=f"Bay b1 is {status}") as called:
        shop.do(bays.call_next, queueID="q1", bayID="b1")
    assert called.value.documents == (shop.queue(), shop.bay())
    with pytest.raises(RuleConflict, match=f"Bay b1 is {status}") as started:
        shop.do(bays.start_job, bayID="b1", orderID="o1")
    assert started.value.documents == (shop.bay(), shop.order())


def test_nobody_is_called_out_of_an_empty_queue() -> None:
    shop = open_shop()
    with pytest.raises(RuleConflict, match="Nobody waits") as caught:
        shop.do(bays.call_next, queueID="q1", bayID="b1")
    assert caught.value.documents == (shop.queue(), shop.bay())


@pytest.mark.parametrize("stage", ["empty", "in_progress", "completed", "cancelled"])
def test_only_an_initiated_order_starts(stage: str) -> None:
    shop = open_shop(orders_in=[])
    shop.do(orders.create, orderID="o1")
    for step in {
        "in_progress": ["initiated", "in_progress"],
        "completed": ["initiated", "in_progress", "completed"],
    }.get(stage, [stage] if stage != "empty" else []):
        shop.do(orders.change_stage, orderID="o1", newStage=step)
    with pytest.raises(RuleConflict, match=f"Order o1 is {stage}") as caught:
        shop.do(bays.start_job, bayID="b1", orderID="o1")
    assert caught.value.documents == (shop.bay(), shop.order())


def test_an_order_in_one_bay_does_not_start_in_another() -> None:
    shop = open_shop(job="o1")
    shop.do(bays.create, bayID="b2", name="Bay 2")
    with pytest.raises(RuleConflict, match="Order o1 is in_progress") as caught:
        shop.do(bays.start_job, bayID="b2", orderID="o1")
    assert caught.value.documents == (shop.bay("b2"), shop.order())


def test_progress_never_goes_back() -> None:
    shop = open_shop(job="o1")
    (event,) = shop.do(bays.report_progress, bayID="b1", jobID="j1", progress=40)
    assert event.event_type == "job_progress"
    assert data_of(event) == {"bay": shop.bay().content(), "jobID": "j1", "orderID": "o1", "progress": 40}
    shop.do(bays.report_progress, bayID="b1", jobID="j1", progress=40)
    with pytest.raises(RuleConflict, match="at 40 % already") as caught:
        shop.do(bays.report_progress, bayID="b1", jobID="j1", progress=39)
    assert caught.value.documents == (shop.bay(),)
    shop.do(bays.report_progress, bayID="b1", jobID="j1", progress=100)


@pytest.mark.parametrize("progress", [-1, 101])
def test_progress_is_in_percent(progress: int) -> None:
    with pytest.raises(ValueError, match="progress"):
        open_shop(job="o1").do(bays.report_progress, bayID="b1", jobID="j1", progress=progress)


def test_a_finished_job_completes_its_order() -> None:
    shop = open_shop(job="o1")
    shop.do(bays.report_progress, bayID="b1", jobID="j1", progress=40)
    events = shop.do(bays.finish_job, bayID="b1", jobID="j1")
    assert types_of(events) == ["bay_updated", "job_completed", "stage_change", "order_stage_change"]
    assert data_of(events[0]) == {"bay": shop.bay().content(), "change": "job_completed"}
    assert data_of(events[1])["job"]["progress"] == 100
    assert shop.bay().content() == {"version": 4, "bayID": "b1", "name": "Bay 1", "status": "cleaning"}
    assert (shop.order().stage, shop.order().bayID) == (Stage.COMPLETED, None)


def test_an_aborted_job_gives_its_order_back() -> None:
    shop = open_shop(job="o1")
    shop.do(bays.report_progress, bayID="b1", jobID="j1", progress=40)
    events = shop.do(bays.abort_job, bayID="b1", jobID="j1", reason="pump broken")
    assert types_of(events) == ["bay_updated", "job_aborted", "stage_change", "order_stage_change"]
    assert data_of(events[1])["reason"] == "pump broken"
    assert data_of(events[1])["job"]["progress"] == 40
    assert shop.bay().status is BayStatus.CLEANING
    assert (shop.order().stage, shop.order().bayID) == (Stage.INITIATED, None)
    shop.do(waiting.enter, queueID="q1", orderID="o1")


def test_who_watched_the_order_in_the_bay_is_told_that_it_left() -> None:
    shop = open_shop(job="o1")
    *_, whole = shop.do(bays.finish_job, bayID="b1", jobID="j1")
    assert whole.before is not None
    assert whole.document is not None
    assert set(whole.before.grants()) - set(whole.document.grants()) == {"bayID=b1"}


@pytest.mark.parametrize(
    ("command", "given"),
    [(bays.report_progress, {"progress": 1}), (bays.finish_job, {}), (bays.abort_job, {"reason": "x"})],
)
def test_a_job_that_is_not_there_is_not_found(command: Any, given: dict[str, Any]) -> None:
    shop = open_shop(job="o1")
    with pytest.raises(NotFound, match="no job j2 in bay b1"):
        shop.do(command, bayID="b1", jobID="j2", **given)
    shop.do(bays.finish_job, bayID="b1", jobID="j1")
    with pytest.raises(NotFound, match="no job j1 in bay b1"):
        shop.do(command, bayID="b1", jobID="j1", **given)
    with pytest.raises(NotFound, match="no bay bx"):
        shop.do(command, bayID="bx", jobID="j1", **given)


@pytest.mark.parametrize(
    ("command", "given", "path"),
    [
        (bays.start_job, {"bayID": "b1", "orderID": "ox"}, "orderID"),
        (bays.call_next, {"queueID": "q1", "bayID": "bx"}, "bayID"),
    ],
)
def test_what_is_missing_is_a_fault_of_the_body(command: Any, given: dict[str, Any], path: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        open_shop().do(command, **given)
    assert [fault.path for fault in caught.value.errors] == [path]


def test_of_progress_the_latest_of_a_bay_is_enough() -> None:
    """Not of a job: two bays may have jobs of one id, and each event carries its bay."""
    progress = REGISTRY.get("job_progress")
    assert progress is not None
    assert (progress.delivery, progress.entity, progress.document) == (Delivery.LATEST, "bayID", "bay")


@pytest.mark.parametrize("event_type", ["job_started", "job_completed", "job_aborted", "job_progress", "bay_updated"])
def test_what_tells_of_jobs_is_made_by_commands_only(event_type: str) -> None:
    known = REGISTRY.get(event_type)
    assert known is not None
    assert not known.publishable
