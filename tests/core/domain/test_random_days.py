"""Any order of any commands on a small shop: what always holds of its documents and events."""

import json
from typing import Any, NoReturn

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic_core import from_json

from sync_core.domain import bays, orders, queues, waiting
from sync_core.domain.bays import Bay, BayStatus
from sync_core.domain.catalog import REGISTRY
from sync_core.domain.changes import DomainEvent, RuleConflict
from sync_core.domain.command import Command
from sync_core.domain.document import Document, Known, Ref
from sync_core.domain.orders import Order, Stage
from sync_core.domain.queues import Queue
from sync_core.filters import ENTITY_KEYS
from sync_core.problems import NotFound, Problem, Unprocessable
from tests.core.domain.shop import ITEM, Shop, data_of, replay

order_ids = st.sampled_from(["o1", "o2", "o3", "o4"])
queue_ids = st.sampled_from(["q1", "q1", "q2"])
bay_ids = st.sampled_from(["b1", "b1", "b2"])
job_ids = st.sampled_from(["j1", "j2"])
items = st.sampled_from([[], [ITEM], [ITEM | {"unitPrice": "0.07", "colour": {"a": [1]}}] * 3])
texts = st.sampled_from(["x", "كولا 🚗", "\x01\n", '"\\'])
maybe_text = st.none() | texts
amounts = st.sampled_from(["0", "-0.00", "12.5", "9999999999.99"])


def no_float(text: str) -> NoReturn:
    raise AssertionError(f"a float: {text}")


class RandomDay(RuleBasedStateMachine):
    """The shop q1, q2, b1, b2 and o1 ... o4."""

    @initialize()
    def open(self) -> None:
        self.shop = Shop()
        for name in ("1", "2"):
            self.do(queues.create, queueID=f"q{name}", name="Queue")
            self.do(bays.create, bayID=f"b{name}", name="Bay")
        for order_id in ("o1", "o2", "o3"):
            self.do(orders.create, orderID=order_id, items=[ITEM])
            self.do(waiting.enter, queueID="q1", orderID=order_id)

    def do(self, command: Command, **given: Any) -> None:
        shop = self.shop
        before = {ref: shop.known(ref) for ref in shop.versions}
        seen = len(shop.log)
        refused: Problem | None = None
        events: list[DomainEvent] = []
        try:
            events = shop.do(command, **given)
        except (RuleConflict, NotFound, Unprocessable) as exc:
            refused = exc
        if refused is None:
            self.check_events(command, events, before)
            return
        assert len(shop.log) == seen
        assert {ref: shop.known(ref) for ref in shop.versions} == before
        if isinstance(refused, RuleConflict):
            assert refused.documents, "a 409 says how things stand"
            assert all(document == shop.known(document.ref).document for document in refused.documents)

    def check_events(self, command: Command, events: list[DomainEvent], before: dict[Ref, Known]) -> None:
        assert {event.event_type for event in events} <= set(command.emits)
        assert 1 <= len(events) <= command.max_events
        carried = [event for event in events if event.document is not None]
        changed = [
            ref for ref, version in self.shop.versions.items() if before.get(ref, Known(None, 0)).version != version
        ]
        assert sorted(event.document.ref for event in carried if event.document) == sorted(changed), (
            "one event for each"
        )
        for event in events:
            declared = REGISTRY.get(event.event_type)
            assert declared is not None
            declared.data.model_validate(data_of(event))
            if event.document is None:
                assert event.judged_by is not None
                self.check_tags(event.tags, event.judged_by)
            else:
                was = before.get(event.document.ref, Known(None, 0))
                assert event.before == was.document
                assert event.document.version == was.version + 1
                assert event.tags == event.document.tags()
                self.check_tags(event.tags, event.document)

    def check_tags(self, tags: tuple[str, ...], seen_by: Document) -> None:
        keys = [item.partition("=")[0] for item in tags]
        assert len(set(keys)) == len(keys)
        assert set(keys) <= set(ENTITY_KEYS)
        assert seen_by.grants()
        assert set(seen_by.grants()) <= set(seen_by.tags())

    def free_bays(self) -> list[str]:
        return [bay.id for bay in self.shop.all(Bay) if bay.status is BayStatus.AVAILABLE]

    def jobs(self) -> list[tuple[str, str]]:
        return [(bay.id, bay.job.jobID) for bay in self.shop.all(Bay) if bay.job is not None]

    @rule(order_id=order_ids | st.none(), items=items, notes=maybe_text, customer=st.none() | st.just({"name": "A"}))
    def create_order(self, order_id: str | None, **given: Any) -> None:
        self.do(orders.create, orderID=order_id, **given)

    @rule(order_id=order_ids, stage=st.sampled_from(Stage))
    def change_stage(self, order_id: str, stage: Stage) -> None:
        self.do(orders.change_stage, orderID=order_id, newStage=stage)

    @rule(order_id=order_ids, status=texts, note=maybe_text)
    def set_status(self, order_id: str, status: str, note: str | None) -> None:
        self.do(orders.set_status, orderID=order_id, status=status, note=note)

    @rule(order_id=order_ids, status=st.sampled_from(["pending", "paid", "failed", "refunded"]), amount=amounts)
    def set_payment(self, order_id: str, status: str, amount: str) -> None:
        self.do(orders.set_payment, orderID=order_id, status=status, amount=amount)

    @rule(order_id=order_ids, given=st.fixed_dictionaries({}, optional={"items": items, "notes": maybe_text}))
    def edit_order(self, order_id: str, given: dict[str, Any]) -> None:
        self.do(orders.edit, orderID=order_id, **given)

    @rule(order_id=st.sampled_from(["o4", "o4", "o3"]))
    def delete_order(self, order_id: str) -> None:
        self.do(orders.delete, orderID=order_id)

    @rule(queue_id=queue_ids, paused=st.booleans())
    def pause(self, queue_id: str, paused: bool) -> None:
        self.do(queues.edit, queueID=queue_id, paused=paused)

    @rule(queue_id=queue_ids, make=st.sampled_from([True, True, False]))
    def make_or_delete_queue(self, queue_id: str, make: bool) -> None:
        self.do(queues.create, queueID=queue_id, name="n") if make else self.do(queues.delete, queueID=queue_id)

    @rule(queue_id=queue_ids, order_id=order_ids, priority=st.integers(-2, 2))
    def enter(self, queue_id: str, order_id: str, priority: int) -> None:
        self.do(waiting.enter, queueID=queue_id, orderID=order_id, priority=priority)

    @rule(queue_id=queue_ids, order_id=order_ids)
    def leave(self, queue_id: str, order_id: str) -> None:
        self.do(waiting.leave, queueID=queue_id, orderID=order_id)

    @rule(queue_id=queue_ids, order_id=order_ids, position=st.integers(1, 5))
    def move(self, queue_id: str, order_id: str, position: int) -> None:
        self.do(waiting.move, queueID=queue_id, orderID=order_id, position=position)

    @precondition(lambda self: self.free_bays())
    @rule(queue_id=queue_ids, data=st.data(), job_id=job_ids | st.none())
    def call_next_into_a_free_bay(self, queue_id: str, data: st.DataObject, job_id: str | None) -> None:
        bay_id = data.draw(st.sampled_from(self.free_bays()))
        self.do(bays.call_next, queueID=queue_id, bayID=bay_id, jobID=job_id)

    @rule(queue_id=queue_ids, bay_id=bay_ids, job_id=job_ids | st.none())
    def call_next(self, queue_id: str, bay_id: str, job_id: str | None) -> None:
        self.do(bays.call_next, queueID=queue_id, bayID=bay_id, jobID=job_id)

    @rule(bay_id=bay_ids, order_id=order_ids, job_id=job_ids)
    def start_job(self, bay_id: str, order_id: str, job_id: str) -> None:
        self.do(bays.start_job, bayID=bay_id, orderID=order_id, jobID=job_id)

    @precondition(lambda self: self.jobs())
    @rule(data=st.data(), progress=st.integers(0, 100))
    def report_progress(self, data: st.DataObject, progress: int) -> None:
        bay_id, job_id = data.draw(st.sampled_from(self.jobs()))
        self.do(bays.report_progress, bayID=bay_id, jobID=job_id, progress=progress)

    @precondition(lambda self: self.jobs())
    @rule(data=st.data(), well=st.booleans())
    def end_job(self, data: st.DataObject, well: bool) -> None:
        bay_id, job_id = data.draw(st.sampled_from(self.jobs()))
        reason = {} if well else {"reason": "x"}
        self.do(bays.finish_job if well else bays.abort_job, bayID=bay_id, jobID=job_id, **reason)

    @rule(bay_id=bay_ids, job_id=job_ids, well=st.booleans())
    def end_some_job(self, bay_id: str, job_id: str, well: bool) -> None:
        reason = {} if well else {"reason": "x"}
        self.do(bays.finish_job if well else bays.abort_job, bayID=bay_id, jobID=job_id, **reason)

    @rule(bay_id=bay_ids, status=st.sampled_from(["available", "available", "cleaning", "out_of_service"]))
    def set_bay(self, bay_id: str, status: str) -> None:
        self.do(bays.edit, bayID=bay_id, status=status)

    @rule(bay_id=bay_ids, make=st.sampled_from([True, True, False]))
    def make_or_delete_bay(self, bay_id: str, make: bool) -> None:
        self.do(bays.create, bayID=bay_id, name="n") if make else self.do(bays.delete, bayID=bay_id)

    @invariant()
    def who_waits_is_known_to_both_sides(self) -> None:
        """An order waits at most once, in the queue that it names, with a ticket that is its own."""
        waits = [(entry.orderID, queue.id) for queue in self.shop.all(Queue) for entry in queue.entries]
        named = [(order.id, order.queueID) for order in self.shop.all(Order) if order.queueID is not None]
        assert sorted(waits) == sorted(named)
        assert len({order_id for order_id, _ in waits}) == len(waits)
        for queue in self.shop.all(Queue):
            tickets = [entry.ticket for entry in queue.entries]
            assert len(set(tickets)) == len(tickets)
            assert all(ticket < queue.nextTicket for ticket in tickets)

    @invariant()
    def who_is_in_a_bay_is_known_to_both_sides(self) -> None:
        jobs = [(bay.job.orderID, bay.id) for bay in self.shop.all(Bay) if bay.job is not None]
        named = [(order.id, order.bayID) for order in self.shop.all(Order) if order.bayID is not None]
        assert sorted(jobs) == sorted(named)
        for bay in self.shop.all(Bay):
            assert (bay.job is not None) == (bay.status is BayStatus.OCCUPIED)

    @invariant()
    def only_initiated_orders_wait_and_those_in_bays_are_in_progress(self) -> None:
        for order in self.shop.all(Order):
            assert order.queueID is None or order.stage is Stage.INITIATED
            assert order.bayID is None or order.stage is Stage.IN_PROGRESS
            assert order.updatedAt >= order.createdAt

    def teardown(self) -> None:
        """The log alone rebuilds the documents, their versions are dense, and no number in it has a point."""
        for text in self.shop.log:
            event = json.loads(text, parse_float=no_float, parse_constant=no_float)
            assert event["eventType"] != "stage_change" or "version" not in event
        documents, versions = replay(self.shop.log)
        assert versions == self.shop.versions
        assert documents == {ref: from_json(body) for ref, body in self.shop.bodies.items()}
        for ref, body in self.shop.bodies.items():
            document = self.shop.known(ref).document
            assert document is not None
            assert document.render() == body


RandomDay.TestCase.settings = settings(max_examples=30, stateful_step_count=40)
TestRandomDay = RandomDay.TestCase
