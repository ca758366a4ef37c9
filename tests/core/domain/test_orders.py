"""Orders: their stages, payment, edits and end."""

from typing import Any

import pytest

from sync_core.domain import orders
from sync_core.domain.changes import RuleConflict
from sync_core.domain.document import Ref
from sync_core.domain.orders import Stage
from sync_core.problems import NotFound
from tests.core.domain.shop import ITEM, Shop, data_of, open_shop, types_of


def order_at(stage: str) -> Shop:
    """An order o1 in no queue or bay, at *stage*."""
    shop = Shop()
    shop.do(orders.create, orderID="o1", items=[] if stage == "empty" else [ITEM])
    ways = {"in_progress": ["in_progress"], "completed": ["in_progress", "completed"], "cancelled": ["cancelled"]}
    for step in ways.get(stage, []):
        shop.do(orders.change_stage, orderID="o1", newStage=step)
    assert shop.order().stage == stage
    return shop


def paid_to(*statuses: str) -> Shop:
    """An order o1 over 25.00 whose payment went through *statuses*."""
    shop = open_shop()
    for status in statuses:
        shop.do(orders.set_payment, orderID="o1", status=status, amount="25.00")
    return shop


def refusal(shop: Shop, command: Any, **given: Any) -> RuleConflict:
    """The 409 of that command."""
    with pytest.raises(RuleConflict) as caught:
        shop.do(command, **given)
    return caught.value


def test_a_new_order_is_initiated_if_it_has_items() -> None:
    shop = Shop()
    (event,) = shop.do(orders.create, orderID="o1", items=[ITEM])
    assert event.event_type == "order_created"
    assert event.tags == ("orderID=o1",)
    assert shop.order().stage is Stage.INITIATED


def test_a_new_order_without_items_is_empty() -> None:
    shop = Shop()
    shop.do(orders.create, customer={"name": "Badr"}, notes=None)
    assert shop.order("made-1").content() == {
        "version": 1, "orderID": "made-1", "stage": "empty", "items": [], "customer": {"name": "Badr"},
        "payment": {"status": "pending", "amount": "0.00", "currency": "USD"},
        "createdAt": "2026-11-18T11:06:40.000Z", "updatedAt": "2026-11-18T11:06:40.000Z",
    }  # fmt: skip


def test_an_order_that_exists_is_not_made_again() -> None:
    shop = open_shop()
    assert refusal(shop, orders.create, orderID="o1").documents == (shop.order(),)


def test_what_is_to_be_paid_is_what_the_items_come_to() -> None:
    shop = Shop()
    items = [ITEM | {"quantity": 3, "unitPrice": "0.10"}, ITEM | {"quantity": 10_000, "unitPrice": "0.07"}]
    shop.do(orders.create, orderID="o1", items=items, currency="AED")
    assert shop.order().payment.model_dump(mode="json", exclude_none=True) == {
        "status": "pending", "amount": "700.30", "currency": "AED",
    }  # fmt: skip


ALLOWED = {
    ("empty", "initiated"),
    ("empty", "cancelled"),
    ("initiated", "in_progress"),
    ("initiated", "cancelled"),
    ("in_progress", "completed"),
}


@pytest.mark.parametrize("stage", [s.value for s in Stage])
@pytest.mark.parametrize("to", [s.value for s in Stage])
def test_an_order_moves_only_along_the_stages(stage: str, to: str) -> None:
    shop = order_at(stage)
    if (stage, to) in ALLOWED:
        small, whole = shop.do(orders.change_stage, orderID="o1", newStage=to)
        assert shop.order().stage == to
        assert small.data == {"order": {"orderID": "o1"}, "previousStage": stage, "newStage": to}
        assert data_of(whole) == {"order": shop.order().content(), "previousStage": stage, "newStage": to}
    else:
        refused = refusal(shop, orders.change_stage, orderID="o1", newStage=to)
        assert refused.detail == f"Order o1 is {stage} and cannot become {to}."
        assert refused.documents == (shop.order(),)


@pytest.mark.parametrize("to", ["in_progress", "cancelled"])
def test_who_leaves_initiated_leaves_the_queue_in_the_same_batch(to: str) -> None:
    shop = open_shop(waiting_in=["o1", "o2"])
    events = shop.do(orders.change_stage, orderID="o1", newStage=to)
    assert types_of(events) == ["queue_updated", "stage_change", "order_stage_change"]
    assert [entry.orderID for entry in shop.queue().entries] == ["o2"]
    assert shop.order().queueID is None
    assert (events[0].data, events[0].tags) == ({"change": "left"}, ("queueID=q1",))


def test_an_order_in_a_bay_is_moved_by_its_job_alone() -> None:
    shop = open_shop(job="o1")
    refused = refusal(shop, orders.change_stage, orderID="o1", newStage="completed")
    assert "finish or abort its job" in refused.detail
    assert refused.documents == (shop.order(),)


def test_a_status_is_said_in_free_words() -> None:
    shop = open_shop()
    (event,) = shop.do(orders.set_status, orderID="o1", status="جاهز", note="bay 2")
    assert data_of(event) == {"order": shop.order().content(), "status": "جاهز", "note": "bay 2"}
    assert shop.order().status == "جاهز"


PAYMENTS = {("pending", "paid"), ("pending", "failed"), ("failed", "pending"), ("paid", "refunded")}
WAYS = {"pending": [], "paid": ["paid"], "failed": ["failed"], "refunded": ["paid", "refunded"]}


@pytest.mark.parametrize("status", WAYS)
@pytest.mark.parametrize("to", WAYS)
def test_a_payment_moves_only_along_its_statuses(status: str, to: str) -> None:
    shop = paid_to(*WAYS[status])
    if (status, to) in PAYMENTS:
        (event,) = shop.do(orders.set_payment, orderID="o1", status=to, amount="9", method="card", reference="#1")
        payment = {"status": to, "amount": "9.00", "currency": "USD", "method": "card", "reference": "#1"}
        assert data_of(event) == {"order": shop.order().content(), **payment}
        assert shop.order().content()["payment"] == payment
    else:
        refused = refusal(shop, orders.set_payment, orderID="o1", status=to, amount="9")
        assert refused.detail == f"The payment of order o1 is {status} and cannot become {to}."
        assert refused.documents == (shop.order(),)


def test_a_payment_keeps_what_is_not_said_anew() -> None:
    shop = open_shop()
    shop.do(orders.set_payment, orderID="o1", status="paid", amount="25", currency="AED", method="card", reference="#1")
    shop.do(orders.set_payment, orderID="o1", status="refunded", amount="20.5", method=None)
    assert shop.order().content()["payment"] == {
        "status": "refunded", "amount": "20.50", "currency": "AED", "method": "card", "reference": "#1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("statuses", "amount"),
    [((), "12.50"), (("failed",), "12.50"), (("paid",), "25.00"), (("paid", "refunded"), "25.00")],
)
def test_what_is_to_be_paid_follows_the_items_until_it_is_paid(statuses: tuple[str, ...], amount: str) -> None:
    shop = paid_to(*statuses)
    (event,) = shop.do(orders.edit, orderID="o1", items=[ITEM | {"quantity": 1}])
    assert event.event_type == "order_updated"
    assert shop.order().content()["payment"]["amount"] == amount


def test_an_order_whose_items_are_taken_away_costs_nothing() -> None:
    shop = open_shop()
    shop.do(orders.edit, orderID="o1", items=[])
    assert shop.order().content()["payment"]["amount"] == "0.00"
    assert shop.order().items == ()


def test_an_agreed_amount_stays_while_the_items_do() -> None:
    shop = paid_to("failed")
    shop.do(orders.set_payment, orderID="o1", status="pending", amount="20")
    shop.do(orders.edit, orderID="o1", notes="10 % off")
    assert shop.order().content()["payment"]["amount"] == "20.00"


def test_an_edit_takes_away_what_is_null_and_keeps_what_is_absent() -> None:
    shop = open_shop()
    shop.do(orders.edit, orderID="o1", customer={"name": "Badr", "phone": "1"}, notes="n")
    shop.do(orders.edit, orderID="o1", customer=None)
    assert shop.order().customer is None
    assert shop.order().notes == "n"
    shop.do(orders.edit, orderID="o1", notes=None)
    assert "notes" not in shop.order().content()
    assert shop.order().content()["items"] == [ITEM]


@pytest.mark.parametrize("stage", ["completed", "cancelled"])
def test_the_items_of_a_finished_order_stand(stage: str) -> None:
    shop = order_at(stage)
    assert refusal(shop, orders.edit, orderID="o1", items=[]).documents == (shop.order(),)
    shop.do(orders.edit, orderID="o1", notes="tip in cash")
    assert shop.order().notes == "tip in cash"


def test_the_time_of_the_last_change_is_the_events_own() -> None:
    shop = open_shop()
    created = shop.order().createdAt
    shop.now_ms += 60_000
    shop.do(orders.set_status, orderID="o1", status="x")
    assert shop.order().createdAt == created
    assert shop.order().updatedAt == "2026-11-18T11:07:40.003Z"


def test_a_deleted_order_is_forgotten_by_its_queue() -> None:
    shop = open_shop(waiting_in=["o1", "o2"])
    events = shop.do(orders.delete, orderID="o1")
    assert types_of(events) == ["queue_updated", "order_deleted"]
    assert [entry.orderID for entry in shop.queue().entries] == ["o2"]
    assert Ref("order", "o1") not in shop.bodies
    assert events[1].tags == ("orderID=o1", "queueID=q1"), "whoever watched the queue sees it go"


def test_an_order_in_a_bay_is_not_deleted() -> None:
    shop = open_shop(job="o1")
    assert refusal(shop, orders.delete, orderID="o1").documents == (shop.order(),)


@pytest.mark.parametrize(
    "command", [orders.change_stage, orders.set_status, orders.set_payment, orders.edit, orders.delete]
)
@pytest.mark.parametrize("deleted", [False, True])
def test_there_is_nothing_to_do_to_an_order_that_is_not_there(command: Any, deleted: bool) -> None:
    shop = Shop()
    if deleted:
        shop.do(orders.create, orderID="o1")
        shop.do(orders.delete, orderID="o1")
    given = {"newStage": "cancelled", "status": "paid", "amount": "1.00"}
    wanted = {name: value for name, value in given.items() if name in command.body_fields}
    with pytest.raises(NotFound, match="no order o1"):
        shop.do(command, orderID="o1", **wanted)
