"""Documents: the same JSON whichever way they came about, and what a newer server wrote stays in them."""

from typing import Any

import pytest
from pydantic_core import from_json, to_json

from sync_core.domain import bays, orders, queues, waiting
from sync_core.domain.bays import Bay
from sync_core.domain.catalog import DOMAIN
from sync_core.domain.document import Document, Ref, by_kind
from sync_core.domain.orders import Order
from sync_core.domain.queues import Queue
from sync_core.filters import ENTITY_KEYS
from tests.core.domain.shop import ITEM, Shop, open_shop


def test_an_orders_json_is_this() -> None:
    shop = open_shop(orders_in=[])
    shop.do(orders.create, orderID="o1", items=[ITEM], customer={"phone": "+971", "name": "بدر"}, notes="a\nb")
    assert shop.bodies[Ref("order", "o1")] == (
        '{"version":1,"orderID":"o1","stage":"initiated",'
        '"items":[{"sku":"W1","name":"Wash","quantity":2,"unitPrice":"12.50"}],'
        '"payment":{"status":"pending","amount":"25.00","currency":"USD"},'
        '"customer":{"name":"بدر","phone":"+971"},"notes":"a\\nb",'
        '"createdAt":"2026-11-18T11:06:40.002Z","updatedAt":"2026-11-18T11:06:40.002Z"}'
    )


def test_a_queues_json_is_this() -> None:
    shop = open_shop(waiting_in=["o1"])
    assert shop.bodies[Ref("queue", "q1")] == (
        '{"version":2,"queueID":"q1","name":"Main","paused":false,'
        '"entries":[{"ticket":1,"orderID":"o1","priority":0,"enteredAt":"2026-11-18T11:06:40.003Z"}],"nextTicket":2}'
    )


def test_a_bays_json_is_this() -> None:
    shop = open_shop(job="o1")
    assert shop.bodies[Ref("bay", "b1")] == (
        '{"version":2,"bayID":"b1","name":"Bay 1","status":"occupied","job":{"jobID":"j1","orderID":"o1",'
        '"service":"wash","startedAt":"2026-11-18T11:06:40.003Z","expectedSeconds":900,"progress":0}}'
    )


def test_the_json_does_not_depend_on_the_way_a_document_took() -> None:
    """Changed fields stay in their place: what a rule made renders as what was read from the store."""
    shop = open_shop(waiting_in=["o1", "o2"])
    shop.do(orders.set_payment, orderID="o1", status="paid", amount="25", reference="r", method="card")
    shop.do(orders.edit, orderID="o1", notes="n", customer={"phone": "1"})
    shop.do(orders.set_status, orderID="o1", status="ready")
    shop.do(waiting.move, queueID="q1", orderID="o2", position=1)
    shop.do(bays.call_next, queueID="q1", bayID="b1")
    for text in shop.bodies.values():
        content = from_json(text)
        kind = next(
            kind for kind in DOMAIN.kinds.values() if kind.id_key in content and list(content)[1] == kind.id_key
        )
        again = kind.model_validate_json(to_json(dict(reversed(content.items()))))
        assert again.render() == text
        assert again.content() == content


ORDER: dict[str, Any] = {
    "version": 7, "orderID": "o1", "stage": "initiated", "items": [ITEM | {"colour": "red", "tags": [1, None]}],
    "payment": {"status": "pending", "amount": "25.00", "currency": "USD", "tip": "1.00"},
    "customer": {"name": "A", "tier": {"level": 3}}, "createdAt": "x", "updatedAt": "x",
    "branch": {"id": "b-9", "x": None},
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "given"),
    [
        (orders.change_stage, {"newStage": "in_progress"}),
        (orders.set_status, {"status": "ready"}),
        (orders.set_payment, {"status": "paid", "amount": "25.00"}),
        (orders.edit, {"notes": "new"}),
        (bays.start_job, {"bayID": "b1"}),
        (waiting.enter, {"queueID": "q1"}),
    ],
)
def test_what_a_newer_server_has_written_survives_every_change_of_an_order(command: Any, given: dict[str, Any]) -> None:
    shop = open_shop(orders_in=[])
    shop.keep(Order.model_validate(ORDER))
    shop.do(command, orderID="o1", **given)
    now = from_json(shop.bodies[Ref("order", "o1")])
    assert now["version"] == 8
    assert now["branch"] == ORDER["branch"]
    assert now["items"] == ORDER["items"]
    assert now["payment"]["tip"] == "1.00"
    assert now["customer"] == ORDER["customer"]


def test_what_a_newer_server_has_written_survives_in_queues_and_bays() -> None:
    shop = open_shop(waiting_in=["o1", "o2"])
    queue = from_json(shop.bodies[Ref("queue", "q1")])
    for entry in queue["entries"]:
        entry["colour"] = "red"
    shop.keep(Queue.model_validate(queue | {"branch": "x"}))
    shop.keep(Bay.model_validate(from_json(shop.bodies[Ref("bay", "b1")]) | {"lane": 3}))
    shop.do(bays.call_next, queueID="q1", bayID="b1", jobID="j1")
    shop.do(queues.edit, queueID="q1", name="New")
    job = shop.bay().content()["job"] | {"washer": "Ali"}
    shop.keep(Bay.model_validate(shop.bay().content() | {"job": job}))
    shop.do(bays.report_progress, bayID="b1", jobID="j1", progress=5)
    assert shop.queue().content()["branch"] == "x"
    assert [entry["colour"] for entry in shop.queue().content()["entries"]] == ["red"]
    assert shop.bay().content()["lane"] == 3
    assert shop.bay().content()["job"]["washer"] == "Ali"


def test_answers_carry_one_of_a_kind_by_its_name_and_several_by_their_plural() -> None:
    assert by_kind([(Order, 1), (Bay, 2), (Order, 3)]) == {"orders": [1, 3], "bay": 2}
    assert by_kind([]) == {}


@pytest.mark.parametrize("kind", DOMAIN.kinds.values())
def test_every_kind_has_a_key_that_filters_know(kind: type[Document]) -> None:
    assert kind.id_key in ENTITY_KEYS
    assert kind.id_key in kind.model_fields
    assert DOMAIN.kind_of(kind.plural) is kind


def test_who_is_bound_to_an_order_sees_neither_its_queue_nor_its_bay() -> None:
    shop = open_shop(waiting_in=["o1"], job="o2")
    assert shop.order("o1").grants() == ("orderID=o1", "queueID=q1")
    assert shop.order("o2").grants() == ("orderID=o2", "bayID=b1")
    assert shop.queue().grants() == ("queueID=q1",)
    assert shop.bay().grants() == ("bayID=b1",)
    assert shop.bay().tags() == ("bayID=b1", "orderID=o2", "jobID=j1"), "to be found by, not to be seen by"


def test_lists_tell_documents_apart_by_their_state() -> None:
    shop: Shop = open_shop(waiting_in=["o1"], job="o2")
    shop.do(queues.edit, queueID="q1", paused=True)
    shop.do(orders.create, orderID="o3")
    shop.do(orders.change_stage, orderID="o3", newStage="cancelled")
    states = {
        document.id: (document.state, document.is_open) for kind in (Order, Queue, Bay) for document in shop.all(kind)
    }
    assert states == {
        "o1": ("initiated", True),
        "o2": ("in_progress", True),
        "o3": ("cancelled", False),
        "q1": ("paused", True),
        "b1": ("occupied", True),
    }
