"""Queues, and what orders do in them."""

from typing import Any

import pytest

from sync_core.domain import orders, queues, waiting
from sync_core.domain.changes import RuleConflict
from sync_core.domain.document import Ref
from sync_core.domain.queues import MAX_ENTRIES, Entry, Queue
from sync_core.problems import NotFound, Unprocessable
from tests.core.domain.shop import ITEM, Shop, data_of, open_shop, types_of


def waiting_orders(shop: Shop, queue_id: str = "q1") -> list[str]:
    return [entry.orderID for entry in shop.queue(queue_id).entries]


def test_a_new_queue_is_open_and_empty() -> None:
    shop = Shop()
    (event,) = shop.do(queues.create, name="Main")
    assert event.event_type == "queue_updated"
    assert data_of(event)["change"] == "created"
    assert shop.queue("made-1").content() == {
        "version": 1, "queueID": "made-1", "name": "Main", "paused": False, "entries": [], "nextTicket": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "name", "paused"),
    [
        ({"name": "New"}, "New", False),
        ({"paused": True}, "Main", True),
        ({"name": "N", "paused": True}, "N", True),
        ({}, "Main", False),
    ],
)
def test_a_queue_is_renamed_and_paused(given: dict[str, Any], name: str, paused: bool) -> None:
    shop = open_shop()
    (event,) = shop.do(queues.edit, queueID="q1", **given)
    assert (shop.queue().name, shop.queue().paused) == (name, paused)
    assert data_of(event) == {"queue": shop.queue().content(), "change": "edited"}


def test_only_an_empty_queue_is_deleted() -> None:
    shop = open_shop(waiting_in=["o1"])
    with pytest.raises(RuleConflict) as caught:
        shop.do(queues.delete, queueID="q1")
    assert caught.value.documents == (shop.queue(),)
    shop.do(waiting.leave, queueID="q1", orderID="o1")
    shop.do(queues.delete, queueID="q1")
    assert Ref("queue", "q1") not in shop.bodies


def test_who_enters_gets_the_next_ticket() -> None:
    shop = open_shop(orders_in=["o1", "o2"])
    events = shop.do(waiting.enter, queueID="q1", orderID="o1")
    assert types_of(events) == ["queue_updated", "order_updated"]
    assert data_of(events[0]) == {"queue": shop.queue().content(), "change": "entered"}
    assert events[0].tags == ("queueID=q1",)
    assert events[1].tags == ("orderID=o1", "queueID=q1")
    assert shop.order().queueID == "q1"
    shop.do(waiting.leave, queueID="q1", orderID="o1")
    shop.do(waiting.enter, queueID="q1", orderID="o2")
    assert shop.queue().entries[0].ticket == 2, "a ticket is never given twice"


@pytest.mark.parametrize(
    ("priorities", "expected"),
    [
        ([0, 0, 0], "abc"),
        ([0, 1, 0], "bac"),
        ([0, 0, 5], "cab"),
        ([5, 1, 5], "acb"),
        ([-1, 0, -1], "bac"),
        ([1, 2, 3], "cba"),
    ],
)
def test_a_higher_priority_is_called_first_then_the_lower_ticket(priorities: list[int], expected: str) -> None:
    shop = open_shop(orders_in="abc")
    for order_id, priority in zip("abc", priorities, strict=True):
        shop.do(waiting.enter, queueID="q1", orderID=order_id, priority=priority)
    assert "".join(waiting_orders(shop)) == expected


def not_initiated(shop: Shop) -> None:
    shop.do(orders.create, orderID="o1")


def gone_on(shop: Shop) -> None:
    shop.do(orders.create, orderID="o1", items=[ITEM])
    shop.do(orders.change_stage, orderID="o1", newStage="in_progress")


def waits_here(shop: Shop) -> None:
    shop.do(orders.create, orderID="o1", items=[ITEM])
    shop.do(waiting.enter, queueID="q1", orderID="o1")


def waits_elsewhere(shop: Shop) -> None:
    shop.do(orders.create, orderID="o1", items=[ITEM])
    shop.do(queues.create, queueID="q2", name="Other")
    shop.do(waiting.enter, queueID="q2", orderID="o1")


def paused(shop: Shop) -> None:
    shop.do(orders.create, orderID="o1", items=[ITEM])
    shop.do(queues.edit, queueID="q1", paused=True)


def full(shop: Shop) -> None:
    shop.do(orders.create, orderID="o1", items=[ITEM])
    entries = tuple(Entry(ticket=n, orderID=f"x{n}", priority=0, enteredAt="t") for n in range(MAX_ENTRIES))
    shop.keep(Queue(queueID="q1", name="Main", entries=entries, nextTicket=MAX_ENTRIES, version=9))


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (not_initiated, "only an initiated order"),
        (gone_on, "only an initiated order"),
        (waits_here, "waits in queue q1 already"),
        (waits_elsewhere, "waits in queue q2 already"),
        (paused, "paused"),
        (full, "full"),
    ],
)
def test_who_cannot_enter_is_told_why_with_queue_and_order(state: Any, why: str) -> None:
    shop = open_shop(orders_in=[])
    state(shop)
    with pytest.raises(RuleConflict, match=why) as caught:
        shop.do(waiting.enter, queueID="q1", orderID="o1")
    assert caught.value.documents == (shop.queue(), shop.order())
    assert set(caught.value.document()["current"]) == {"queue", "order"}


def test_who_leaves_stays_initiated_and_may_enter_another_queue() -> None:
    shop = open_shop(waiting_in=["o1"])
    shop.do(queues.create, queueID="q2", name="Other")
    events = shop.do(waiting.leave, queueID="q1", orderID="o1")
    assert types_of(events) == ["queue_updated", "order_updated"]
    assert events[0].data == {"change": "left"}
    assert (shop.order().stage, shop.order().queueID) == ("initiated", None)
    shop.do(waiting.enter, queueID="q2", orderID="o1")
    assert (waiting_orders(shop), waiting_orders(shop, "q2")) == ([], ["o1"])


def test_a_paused_queue_lets_out_and_reorders() -> None:
    shop = open_shop(waiting_in=["a", "b"])
    shop.do(queues.edit, queueID="q1", paused=True)
    shop.do(waiting.move, queueID="q1", orderID="b", position=1)
    shop.do(waiting.leave, queueID="q1", orderID="a")
    assert waiting_orders(shop) == ["b"]


@pytest.mark.parametrize(
    ("order_id", "position", "expected"),
    [("c", 1, "cabd"), ("a", 2, "bacd"), ("a", 4, "bcda"), ("a", 500, "bcda"), ("b", 2, "abcd"), ("d", 3, "abdc")],
)
def test_an_order_is_put_at_a_position(order_id: str, position: int, expected: str) -> None:
    shop = open_shop(waiting_in="abcd")
    (event,) = shop.do(waiting.move, queueID="q1", orderID=order_id, position=position)
    assert "".join(waiting_orders(shop)) == expected
    assert data_of(event) == {"queue": shop.queue().content(), "change": "moved"}


def test_who_enters_after_a_move_stands_behind_everybody_of_the_same_priority() -> None:
    shop = open_shop(orders_in="abcd")
    for order_id, priority in (("a", 5), ("b", 0), ("c", 0)):
        shop.do(waiting.enter, queueID="q1", orderID=order_id, priority=priority)
    shop.do(waiting.move, queueID="q1", orderID="b", position=1)
    shop.do(waiting.enter, queueID="q1", orderID="d", priority=3)
    assert "".join(waiting_orders(shop)) == "badc"


@pytest.mark.parametrize("command", [waiting.leave, waiting.move])
def test_who_does_not_wait_there_is_not_found(command: Any) -> None:
    shop = open_shop(orders_in=["o1"])
    position = {"position": 1} if command is waiting.move else {}
    with pytest.raises(NotFound, match="does not wait in queue q1"):
        shop.do(command, queueID="q1", orderID="o1", **position)


@pytest.mark.parametrize(
    ("command", "given"),
    [
        (queues.edit, {"paused": True}),
        (queues.delete, {}),
        (waiting.enter, {"orderID": "o1"}),
        (waiting.leave, {"orderID": "o1"}),
        (waiting.move, {"orderID": "o1", "position": 1}),
    ],
)
def test_a_queue_that_is_not_there_is_not_found(command: Any, given: dict[str, Any]) -> None:
    with pytest.raises(NotFound, match="no queue qx"):
        open_shop().do(command, queueID="qx", **given)


def test_an_order_that_is_not_there_is_a_fault_of_the_body() -> None:
    with pytest.raises(Unprocessable) as caught:
        open_shop().do(waiting.enter, queueID="q1", orderID="ox")
    assert [fault.path for fault in caught.value.errors] == ["orderID"]
