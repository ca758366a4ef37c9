"""What a replica knows after events, answers and snapshots, in whatever order; and what a screen sees of it."""

import dataclasses
from functools import partial
from typing import Any

import pytest
from pydantic_core import from_json

from sync_client.pending import PendingCommand
from sync_client.records import DocumentState
from sync_client.replica import FINISHED_FOR_MS, Entry, Replica
from sync_core.cursor import Cursor
from sync_core.domain import bays, orders, queues, waiting
from sync_core.domain.changes import Changes, Unloaded
from sync_core.domain.document import Document, Known, Ref
from sync_core.domain.orders import Order, Stage
from sync_core.domain.queues import Queue
from sync_core.filters import Filter
from tests.client.stock import EPOCH, answer_of, envelopes, given, make_replica, page_of, seen, tell
from tests.core.domain.shop import ITEM, Shop, open_shop

O1 = Ref("order", "o1")


def truth(shop: Shop) -> dict[str, Any]:
    """What a screen sees that shows all of *shop*."""
    return {f"{ref.kind} {ref.id}": (from_json(body), False) for ref, body in shop.bodies.items()}


def order(replica: Replica, order_id: str = "o1") -> Any:
    """The order as a screen sees it."""
    entry = replica.get(Ref("order", order_id))
    return None if entry is None else entry.document


def is_pending(replica: Replica, ref: Ref = O1) -> bool:
    entry = replica.get(ref)
    assert entry is not None
    return entry.pending


# -- events -----------------------------------------------------------------------------------------------


def test_events_alone_rebuild_the_shop() -> None:
    shop, replica = open_shop(orders_in=["o1", "o2"], waiting_in=["o3"], job="o4"), make_replica()
    tell(replica, envelopes(shop))
    assert seen(replica) == truth(shop)


def test_an_event_that_carries_no_whole_document_is_no_news() -> None:
    shop, replica = open_shop(), make_replica()
    tell(replica, envelopes(shop))
    before = len(shop.log)
    shop.do(orders.change_stage, orderID="o1", newStage="in_progress")
    small = [event for event in envelopes(shop, before) if event["eventType"] == "stage_change"]
    assert small
    assert tell(replica, small) == []
    assert order(replica).stage is Stage.INITIATED


def test_an_older_version_never_comes_back() -> None:
    shop, replica = open_shop(), make_replica()
    shop.do(orders.set_status, orderID="o1", status="dry")
    tell(replica, reversed(envelopes(shop)))
    assert order(replica).status == "dry"


def test_of_several_versions_in_one_chunk_the_newest_is_taken() -> None:
    shop, replica = open_shop(), make_replica()
    shop.do(orders.set_status, orderID="o1", status="dry")
    news = tell(replica, [*envelopes(shop), envelopes(shop)[2]])
    assert [(one.version, "dry" in one.body) for one in news if one.kind == "order"] == [(2, True)]


def test_a_deleted_document_does_not_come_back_with_its_older_version() -> None:
    shop, replica = open_shop(), make_replica()
    shop.do(orders.delete, orderID="o1")
    tell(replica, envelopes(shop))
    assert replica.get(O1) is None
    assert replica.known(O1) == Known(None, 2)
    tell(replica, envelopes(shop))
    assert replica.get(O1) is None


def test_one_that_is_made_again_under_its_id_goes_on_behind_its_tombstone() -> None:
    shop, replica = open_shop(), make_replica()
    shop.do(orders.delete, orderID="o1")
    shop.do(orders.create, orderID="o1", items=[], notes="again")
    tell(replica, envelopes(shop))
    assert (order(replica).notes, order(replica).version) == ("again", 3)


def removal(seq: int, version: int, *, ref: Ref = O1) -> dict[str, Any]:
    data = {"kind": ref.kind, "id": ref.id, "version": version}
    return {"id": f"{EPOCH}.{seq}", "eventType": "removed", "data": data}


def test_what_leaves_the_view_is_gone_and_comes_back_only_newer() -> None:
    shop, replica = open_shop(), make_replica()
    tell(replica, envelopes(shop))
    tell(replica, [removal(99, 2)])
    assert replica.get(O1) is None
    tell(replica, envelopes(shop))
    assert replica.get(O1) is None, "version 1 is older than the one that left"
    shop.do(orders.set_status, orderID="o1", status="away")
    shop.do(orders.set_status, orderID="o1", status="back")
    tell(replica, [event | {"id": f"{EPOCH}.100"} for event in envelopes(shop) if event.get("version") == 3])
    assert order(replica).status == "back"


def test_a_rule_is_not_told_that_what_left_the_view_does_not_exist() -> None:
    replica = make_replica()
    tell(replica, [removal(1, 2)])
    with pytest.raises(Unloaded):
        replica.known(O1)


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"data": None},
        {"data": {"order": {"orderID": "o1"}}},
        {"data": {"order": {"orderID": "o1"}}, "version": "2"},
        {"data": {"order": {"orderID": "o1"}}, "version": True},
        {"data": {"order": {"orderID": "o1"}}, "version": 0},
        {"data": {"order": {"orderID": "o1"}}, "version": 2**63},
        {"data": {"order": {"orderID": ""}}, "version": 2},
        {"data": {"order": {"orderID": "\udc80"}}, "version": 2},
        {"data": {"order": {"orderID": 7}}, "version": 2},
        {"data": {"order": ["o1"]}, "version": 2},
        {"data": {"order": {"orderID": "o1", "notes": "\ud800"}}, "version": 2},
        {"data": {"ship": {"shipID": "o1"}}, "version": 2},
        {"data": {"order": {"orderID": "o1"}}, "version": 2, "id": "7"},
        {"eventType": "removed", "data": {"kind": "ship", "id": "s1", "version": 2}},
        {"eventType": "removed", "data": {"kind": ["order"], "id": "o1", "version": 2}},
        {"eventType": "removed", "data": {"kind": "order", "id": "o1", "version": None}},
    ],
)
def test_what_cannot_be_understood_is_no_news(event: dict[str, Any]) -> None:
    assert tell(make_replica(), [{"id": f"{EPOCH}.1", "eventType": "order_updated", **event}]) == []


def test_another_log_counts_its_versions_anew() -> None:
    shop, replica = open_shop(), make_replica()
    for status in ("a", "b", "c"):
        shop.do(orders.set_status, orderID="o1", status=status)
    tell(replica, envelopes(shop))
    restored = open_shop()
    tell(replica, [event | {"id": event["id"].replace(EPOCH, "newepoch")} for event in envelopes(restored)])
    assert (order(replica).version, order(replica).status) == (1, None)


def test_a_document_that_this_program_cannot_read_is_left_out_and_counted() -> None:
    shop, replica = open_shop(orders_in=["o1", "o2"]), make_replica()
    events = envelopes(shop)
    events[2]["data"]["order"]["stage"] = "polished"
    tell(replica, events)
    assert replica.get(O1) is None
    assert [ref.id for ref in replica.refs("order") if replica.get(ref)] == ["o2"]
    assert replica.unreadable == 1
    with pytest.raises(Unloaded):
        replica.known(O1)


def test_fields_of_a_newer_server_are_kept() -> None:
    shop, replica = open_shop(), make_replica()
    events = envelopes(shop)
    events[2]["data"]["order"]["loyalty"] = {"points": 3}
    tell(replica, events)
    assert order(replica).loyalty == {"points": 3}


# -- how far it is complete -------------------------------------------------------------------------------


def test_what_was_there_before_the_snapshot_brings_nothing_back() -> None:
    """Deleted long ago, so the snapshot does not even have a tombstone of it."""
    shop = open_shop()
    shop.do(orders.delete, orderID="o1")
    replica = make_replica(due="first")
    replica.install(page_of(shop), cursor=Cursor(EPOCH, len(shop.log)))
    assert tell(replica, envelopes(shop)) == []
    assert replica.get(O1) is None


def test_a_feed_that_begins_again_brings_back_nothing_that_it_had_come_by() -> None:
    shop, replica = open_shop(), make_replica()
    shop.do(orders.delete, orderID="o1")
    tell(replica, envelopes(shop))
    here = Cursor(EPOCH, len(shop.log))
    replica.apply((), forgotten=replica.expired(here))
    replica.demand("access", at=here)
    assert tell(replica, envelopes(shop)) == []
    assert replica.get(O1) is None


def test_a_feed_that_begins_again_while_a_snapshot_is_due_is_not_taken_for_complete() -> None:
    shop, replica = open_shop(), make_replica(due="first")
    replica.demand("expired", at=Cursor(EPOCH, 99))
    tell(replica, envelopes(shop))
    assert order(replica) is not None


def test_an_answer_from_before_the_snapshot_brings_nothing_back() -> None:
    shop = open_shop()
    answer = answer_of(shop, lambda: shop.do(orders.set_status, orderID="o1", status="x"))
    shop.do(orders.delete, orderID="o1")
    replica = make_replica(due="first")
    replica.install(page_of(shop), cursor=Cursor(EPOCH, len(shop.log)))
    assert replica.newer(replica.of_answer(answer, at=Cursor(EPOCH, 99))) == []


def test_while_a_snapshot_is_due_it_is_not_fresh() -> None:
    replica = make_replica()
    assert replica.fresh
    replica.demand("expired", at=None)
    assert not replica.fresh
    replica.install([], cursor=Cursor(EPOCH, 5))
    assert replica.fresh


def test_a_snapshot_leaves_what_came_after_it() -> None:
    """The cache merges (test_cache.py); the replica takes over what is there then."""
    shop, replica = open_shop(), make_replica(due="first")
    tell(replica, envelopes(shop))
    stored = page_of(shop)
    shop.do(orders.set_status, orderID="o1", status="newer")
    newer = tell(replica, envelopes(shop, len(shop.log) - 1))
    replica.install([one for one in stored if one.id != "o1"] + newer, cursor=Cursor(EPOCH, 3))
    assert order(replica).status == "newer"
    assert seen(replica) == truth(shop)


# -- growing old ------------------------------------------------------------------------------------------


def finished(shop: Shop) -> None:
    shop.do(orders.change_stage, orderID="o1", newStage="cancelled")


def test_what_was_finished_a_day_ago_is_forgotten() -> None:
    shop, replica = open_shop(orders_in=["o1", "o2"]), make_replica()
    finished(shop)
    tell(replica, envelopes(shop))
    here = Cursor(EPOCH, len(shop.log))
    replica.server_ms = shop.now_ms + FINISHED_FOR_MS - 2
    assert replica.expired(here) == []
    replica.server_ms = shop.now_ms + FINISHED_FOR_MS
    assert replica.expired(here) == [("order", "o1")]
    replica.apply((), forgotten=replica.expired(here))
    assert sorted(seen(replica)) == ["bay b1", "order o2", "queue q1"]


def test_the_clock_that_it_grows_old_by_is_the_servers() -> None:
    replica = make_replica()
    replica.note_time("2026-11-21T09:03:16.499Z")
    replica.note_time("2020-01-01T00:00:00.000Z")
    replica.note_time("nonsense")
    assert replica.server_ms == 1795251796499


def test_tombstones_are_forgotten_when_nothing_older_can_come() -> None:
    shop, replica = open_shop(), make_replica()
    shop.do(orders.delete, orderID="o1")
    tell(replica, [*envelopes(shop), removal(50, 3, ref=Ref("bay", "b1"))])
    assert replica.expired(Cursor(EPOCH, 3)) == []
    assert replica.expired(Cursor(EPOCH, 49)) == [("order", "o1")]
    assert replica.expired(Cursor(EPOCH, 50)) == [("order", "o1"), ("bay", "b1")]
    assert replica.expired(None) == []


def test_while_a_snapshot_is_due_nothing_is_forgotten() -> None:
    shop, replica = open_shop(), make_replica()
    finished(shop)
    tell(replica, envelopes(shop))
    replica.server_ms += 2 * FINISHED_FOR_MS
    replica.demand("expired", at=None)
    assert replica.expired(Cursor(EPOCH, 99)) == []


# -- answers ----------------------------------------------------------------------------------------------


def take(replica: Replica, answer: dict[str, Any], *, at: int = 0) -> None:
    replica.apply(replica.newer(replica.of_answer(answer, at=Cursor(EPOCH, at))))


def test_an_answer_changes_all_that_the_command_has_changed() -> None:
    shop, replica = open_shop(waiting_in=["o1", "o2"]), make_replica()
    tell(replica, envelopes(shop))
    take(replica, answer_of(shop, lambda: shop.do(bays.call_next, queueID="q1", bayID="b1")))
    assert seen(replica) == truth(shop)
    take(replica, answer_of(shop, lambda: shop.do(orders.delete, orderID="o2")))
    assert seen(replica) == truth(shop)
    assert replica.known(Ref("order", "o2")).version == 3


def test_a_late_answer_is_older_than_what_the_feed_has_brought() -> None:
    shop, replica = open_shop(), make_replica()
    answer = answer_of(shop, lambda: shop.do(orders.set_status, orderID="o1", status="mine"))
    shop.do(orders.set_status, orderID="o1", status="theirs")
    tell(replica, envelopes(shop))
    take(replica, answer)
    assert order(replica).status == "theirs"


def test_the_stored_answer_of_another_log_is_not_taken() -> None:
    shop, replica = open_shop(), make_replica()
    answer = answer_of(shop, lambda: shop.do(orders.set_status, orderID="o1", status="before the restore"))
    assert replica.of_answer(answer, at=Cursor("newepoch", 1)) == []
    assert replica.of_answer(answer | {"cursor": "none"}, at=None) == []


def test_an_answer_shows_only_what_this_client_asks_for() -> None:
    shop = open_shop(waiting_in=["o1"])
    replica = make_replica(view=Filter(tags=frozenset({"bayID=b1"})))
    take(replica, answer_of(shop, lambda: shop.do(bays.call_next, queueID="q1", bayID="b1")))
    assert sorted(seen(replica)) == ["bay b1", "order o1"]


def test_a_refusal_tells_of_known_documents_only() -> None:
    shop, replica = open_shop(orders_in=["o1", "o2"]), make_replica()
    tell(replica, envelopes(shop)[:3])
    shop.do(orders.set_status, orderID="o1", status="theirs")
    current = {"orders": [shop.order("o1").content(), shop.order("o2").content()]}
    replica.apply(replica.newer(replica.of_refusal(current)))
    assert order(replica).status == "theirs"
    assert order(replica, "o2") is None, "it may have been deleted since"


def test_an_old_refusal_changes_nothing() -> None:
    shop, replica = open_shop(), make_replica()
    current = {"order": shop.order().content()}
    shop.do(orders.set_status, orderID="o1", status="newer")
    tell(replica, envelopes(shop))
    assert replica.newer(replica.of_refusal(current)) == []


def test_a_refusal_tells_nothing_while_a_snapshot_is_due() -> None:
    """The one that is under way may be older: what it lacks would vanish, and the feed show older versions again."""
    shop, replica = open_shop(), make_replica()
    tell(replica, envelopes(shop))
    replica.demand("access", at=Cursor(EPOCH, len(shop.log)))
    shop.do(orders.edit, orderID="o1", notes="theirs")
    assert replica.of_refusal({"order": shop.order().content()}) == []


# -- what waiting commands make of it ---------------------------------------------------------------------


def test_a_waiting_command_is_shown_at_once() -> None:
    shop, replica = open_shop(orders_in=["o1", "o2"]), make_replica()
    tell(replica, envelopes(shop))
    replica.set_pending([given(orders.change_stage, orderID="o1", newStage="in_progress")])
    assert (order(replica).stage, is_pending(replica)) == (Stage.IN_PROGRESS, True)
    assert not is_pending(replica, Ref("order", "o2"))


def test_commands_see_each_others_effects_in_their_order() -> None:
    shop, replica = open_shop(), make_replica()
    tell(replica, envelopes(shop))
    replica.set_pending([
        given(orders.create, orderID="o9", items=[ITEM]),
        given(waiting.enter, queueID="q1", orderID="o9"),
        given(bays.call_next, queueID="q1", bayID="b1", jobID="j9"),
    ])  # fmt: skip
    bay: Entry[Document] | None = replica.get(Ref("bay", "b1"))
    assert bay is not None
    assert bay.document.model_dump()["job"]["orderID"] == "o9"
    assert order(replica, "o9").stage is Stage.IN_PROGRESS
    assert "order o9" in seen(replica)


def test_a_document_that_is_to_be_deleted_is_not_shown() -> None:
    shop, replica = open_shop(), make_replica()
    tell(replica, envelopes(shop))
    replica.set_pending([given(orders.delete, orderID="o1")])
    assert replica.get(O1) is None
    assert "order o1" not in seen(replica)
    replica.set_pending([])
    assert order(replica) is not None


def test_a_command_that_its_rule_refuses_changes_nothing() -> None:
    shop, replica = open_shop(), make_replica()
    tell(replica, envelopes(shop))
    replica.set_pending([
        given(orders.change_stage, orderID="o1", newStage="completed"),
        given(orders.set_status, orderID="none", status="x"),
    ])  # fmt: skip
    assert seen(replica) == truth(shop)


def test_one_that_needs_what_is_out_of_view_changes_nothing() -> None:
    replica = make_replica()
    tell(replica, [removal(1, 2)])
    replica.set_pending([given(orders.set_status, orderID="o1", status="x"), given(orders.create, orderID="o1")])
    assert replica.get(O1) is None


def test_a_rule_that_breaks_takes_nobody_along(monkeypatch: pytest.MonkeyPatch) -> None:
    shop, replica = open_shop(orders_in=["o1", "o2"]), make_replica()
    events = envelopes(shop)
    tell(replica, events)
    broken = given(orders.set_status, orderID="o1", status="x")
    broken = type(broken)(broken.key, broken.command, orders.create.input.model_construct(), broken.created_ms)
    replica.set_pending([broken, given(orders.set_status, orderID="o2", status="y")])
    assert (order(replica).status, order(replica, "o2").status) == (None, "y")


def test_a_remote_change_shows_through_what_waits_on_top() -> None:
    shop, replica = open_shop(), make_replica()
    tell(replica, envelopes(shop))
    replica.set_pending([given(orders.set_status, orderID="o1", status="mine")])
    before = len(shop.log)
    shop.do(orders.edit, orderID="o1", notes="theirs")
    tell(replica, envelopes(shop, before))
    assert (order(replica).status, order(replica).notes, order(replica).version) == ("mine", "theirs", 3)
    assert replica.truth(O1) == shop.order()


def test_a_remote_change_that_a_waiting_command_cannot_stand_on_takes_its_effect_away() -> None:
    shop, replica = open_shop(), make_replica()
    tell(replica, envelopes(shop))
    replica.set_pending([given(orders.change_stage, orderID="o1", newStage="in_progress")])
    before = len(shop.log)
    shop.do(orders.change_stage, orderID="o1", newStage="cancelled")
    tell(replica, envelopes(shop, before))
    assert seen(replica) == truth(shop)


def test_the_answer_and_the_end_of_the_command_are_one_step_for_who_looks() -> None:
    shop, replica = open_shop(), make_replica()
    tell(replica, envelopes(shop))
    replica.set_pending([given(orders.set_status, orderID="o1", status="mine")])
    looks: list[Any] = []
    replica.changed = lambda: looks.append((order(replica).status, is_pending(replica)))
    answer = answer_of(shop, lambda: shop.do(orders.set_status, orderID="o1", status="mine"))
    replica.apply(replica.newer(replica.of_answer(answer, at=None)), pending=[])
    assert looks == [("mine", False)]


def test_a_command_for_a_document_that_comes_later_is_shown_then() -> None:
    shop, replica = open_shop(), make_replica()
    replica.set_pending([given(orders.set_status, orderID="o1", status="mine")])
    assert order(replica) is None
    tell(replica, envelopes(shop))
    assert order(replica).status == "mine"


def test_another_order_of_the_commands_is_thought_through_again() -> None:
    shop, replica = open_shop(), make_replica()
    tell(replica, envelopes(shop))
    first = given(orders.set_status, orderID="o1", status="first")
    second = given(orders.set_status, orderID="o1", status="second")
    replica.set_pending([first, second])
    assert order(replica).status == "second"
    replica.set_pending([second, first])
    assert order(replica).status == "first"


def test_only_what_is_connected_is_thought_through_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answering one of many waiting commands must not cost a look at all of them."""
    names = [f"o{n}" for n in range(50)]
    shop, replica = open_shop(orders_in=names), make_replica()
    tell(replica, envelopes(shop))
    commands = [given(orders.set_status, orderID=name, status="x") for name in names]
    replica.set_pending(commands)
    assert all(order(replica, name).status == "x" for name in names)
    asked: list[Ref] = []
    known = replica._overlay._truth
    monkeypatch.setattr(replica._overlay, "_truth", lambda ref: (asked.append(ref), known(ref))[1])
    answer = answer_of(shop, lambda: shop.do(orders.set_status, orderID="o0", status="x"))
    replica.apply(replica.newer(replica.of_answer(answer, at=None)), pending=commands[1:])
    assert seen(replica)["order o0"][1] is False
    assert len(asked) == 0


def test_however_many_wait_on_one_document_one_more_and_one_answer_cost_a_run_or_two() -> None:
    runs: list[str] = []

    def rule(changes: Changes, wish: Any) -> None:
        runs.append(wish.status)
        orders.set_status.rule(changes, wish)

    counted = dataclasses.replace(orders.set_status, rule=rule)
    shop, replica = open_shop(), make_replica()
    tell(replica, envelopes(shop))
    commands = [given(counted, orderID="o1", status=str(n), created_ms=n) for n in range(200)]
    for count in range(1, 201):
        replica.set_pending(commands[:count])
        assert order(replica).status == str(count - 1)
    assert runs == [str(n) for n in range(200)]
    runs.clear()
    for n in range(200):
        answer = answer_of(shop, partial(shop.do, orders.set_status, orderID="o1", status=str(n)))
        replica.apply(replica.newer(replica.of_answer(answer, at=None)), pending=commands[n + 1 :])
        assert (order(replica).status, order(replica).version) == ("199", 201)
    assert runs == [str(n) for n in range(1, 200)], "each stands on another time than was shown; the rest on the same"


def test_commands_that_come_to_touch_the_same_document_are_connected() -> None:
    """Two queues, one bay: whose order gets in depends on the first, also when the truth about it changes."""
    shop = open_shop(waiting_in=["o1"])
    shop.do(queues.create, queueID="q2", name="Second")
    shop.do(orders.create, orderID="o2", items=[ITEM])
    shop.do(waiting.enter, queueID="q2", orderID="o2")
    replica = make_replica()
    tell(replica, envelopes(shop))
    replica.set_pending([
        given(bays.call_next, queueID="q1", bayID="b1", jobID="j1"),
        given(bays.call_next, queueID="q2", bayID="b1", jobID="j2"),
    ])  # fmt: skip
    assert (order(replica).stage, order(replica, "o2").stage) == (Stage.IN_PROGRESS, Stage.INITIATED)
    before = len(shop.log)
    shop.do(waiting.leave, queueID="q1", orderID="o1")
    tell(replica, envelopes(shop, before))
    assert (order(replica).stage, order(replica, "o2").stage) == (Stage.INITIATED, Stage.IN_PROGRESS)


def test_what_a_person_sees_counts_waiting_commands_in() -> None:
    shop, replica = open_shop(), make_replica()
    tell(replica, envelopes(shop))
    first, second = (given(orders.set_status, orderID="o1", status=text) for text in ("a", "b"))
    replica.set_pending([first, second])
    known, leans = replica.seen(O1)
    assert (known.version, leans) == (3, {first.key: 1, second.key: 1})
    replica.set_pending([])
    assert replica.seen(O1)[0].version == 1
    assert replica.seen(O1)[1] == {}
    assert replica.seen(Ref("order", "none"))[0] == Known(None, 0)


def test_an_effect_outside_the_view_is_not_shown() -> None:
    replica = make_replica(view=Filter(tags=frozenset({"orderID=o1"})))
    replica.set_pending([given(orders.create, orderID="o1"), given(orders.create, orderID="o2")])
    assert sorted(seen(replica)) == ["order o1"]


# -- the feed before the answer ---------------------------------------------------------------------------


def count_up(changes: Changes, wish: Any) -> None:
    """Done twice it shows: no command of the shop's is so."""
    order = changes.get(Order, wish.orderID)
    text = f"{order.status or ''}{wish.status}"
    changes.put(order.model_copy(update={"status": text}), "status_update")
    queue = changes.find(Queue, "q1")
    if queue is not None:
        changes.put(queue.model_copy(update={"name": f"{queue.name}{wish.status}"}), "queue_updated")


COUNT_UP = dataclasses.replace(orders.set_status, rule=count_up)


def own(shop: Shop, first: int) -> list[dict[str, Any]]:
    """The events behind *first*, as caused by this client."""
    return [envelope | {"clientID": "till#1"} for envelope in envelopes(shop, first)]


def in_flight(shop: Shop, *commands: PendingCommand) -> tuple[Replica, int]:
    """A replica of *shop* where *commands* wait and the first was sent and has been done; the log's head before."""
    replica = make_replica()
    tell(replica, envelopes(shop))
    replica.client_id, replica.in_flight = "till#1", lambda: commands[0].key
    replica.set_pending(commands)
    before = len(shop.log)
    shop.do(COUNT_UP, orderID="o1", status="a")
    return replica, before


def look(replica: Replica) -> tuple[str, str]:
    queue = replica.get(Ref("queue", "q1"))
    assert queue is not None
    return order(replica).status, queue.document.model_dump()["name"]


def test_what_the_feed_tells_before_the_answer_is_not_shown_twice() -> None:
    shop = open_shop()
    command = given(COUNT_UP, orderID="o1", status="a")
    replica, before = in_flight(shop, command)
    looks = [(*look(replica), order(replica).version, is_pending(replica))]
    tell(replica, own(shop, before))
    looks.append((*look(replica), order(replica).version, is_pending(replica)))
    replica.apply((), pending=[])
    looks.append((*look(replica), order(replica).version, is_pending(replica)))
    assert looks == [("a", "Maina", 2, True), ("a", "Maina", 2, False), ("a", "Maina", 2, False)]


def test_what_the_feed_tells_piece_by_piece_does_not_flicker() -> None:
    shop = open_shop()
    replica, before = in_flight(shop, given(COUNT_UP, orderID="o1", status="a"))
    assert look(replica) == ("a", "Maina")
    for event in own(shop, before):
        tell(replica, [event])
        assert look(replica) == ("a", "Maina")
    assert replica.landed == {next(iter(replica.landed)): True}
    assert seen(replica) == truth(shop)


def test_those_behind_stand_on_what_the_feed_tells() -> None:
    shop = open_shop()
    later = given(COUNT_UP, orderID="o1", status="b")
    replica, before = in_flight(shop, given(COUNT_UP, orderID="o1", status="a"), later)
    assert look(replica) == ("ab", "Mainab")
    tell(replica, own(shop, before))
    assert look(replica) == ("ab", "Mainab")
    assert replica.seen(O1)[1] == {later.key: 1}, "a person who edits now has seen version 2 and one of their own"
    shop.do(orders.edit, orderID="o1", notes="theirs")
    tell(replica, envelopes(shop, before))
    assert (*look(replica), order(replica).notes) == ("ab", "Mainab", "theirs")


@pytest.mark.parametrize("client_id", ["till#2", None])
def test_what_others_do_ends_no_picture(client_id: str | None) -> None:
    shop = open_shop()
    replica, before = in_flight(shop, given(COUNT_UP, orderID="o1", status="b"))
    tell(replica, [envelope | ({"clientID": client_id} if client_id else {}) for envelope in envelopes(shop, before)])
    assert look(replica) == ("ab", "Mainab")


def test_the_events_of_a_command_that_was_answered_end_the_picture_of_no_other() -> None:
    """After a reset the feed may begin before them, and what they tell of may have been forgotten."""
    shop = open_shop()
    first, second = (given(COUNT_UP, orderID="o1", status=text) for text in "ab")
    replica, before = in_flight(shop, first, second)
    answer = {"cursor": f"{EPOCH}.{len(shop.log)}"}  # without documents: this client may not see them, say
    assert replica.of_answer(answer, at=None) == []
    replica.set_pending([second])
    replica.in_flight = lambda: second.key
    tell(replica, own(shop, before))
    assert (look(replica), replica.landed) == (("ab", "Mainab"), {})


# -- who is told ------------------------------------------------------------------------------------------


def test_what_may_look_different_is_named_once() -> None:
    shop, replica = open_shop(orders_in=["o1", "o2"]), make_replica()
    tell(replica, envelopes(shop))
    assert len(replica.stirred()) == 4
    assert replica.stirred() == set()
    replica.set_pending([given(orders.set_status, orderID="o1", status="x")])
    assert replica.stirred() == {O1}
    replica.set_pending([])
    replica.get(O1)
    assert replica.stirred() == {O1}, "a look in between takes nothing away"


def test_a_snapshot_names_what_it_has_changed() -> None:
    shop, replica = open_shop(orders_in=["o1", "o2"]), make_replica()
    tell(replica, envelopes(shop))
    replica.stirred()
    shop.do(orders.delete, orderID="o2")
    shop.do(orders.set_status, orderID="o1", status="x")
    replica.install(page_of(shop), cursor=Cursor(EPOCH, len(shop.log)))
    assert replica.stirred() == {O1, Ref("order", "o2")}


def test_what_comes_from_the_disk_is_all_there_at_once() -> None:
    shop = open_shop(orders_in=["o1", "o2"], job="o3")
    replica = make_replica()
    replica.load(page_of(shop), complete_to=Cursor(EPOCH, 3), due="")
    assert seen(replica) == truth(shop)
    assert replica.fresh
    replica.load([], complete_to=None, due=None)
    assert not replica.fresh
    assert seen(replica) == {}


def test_a_kind_of_a_newer_program_is_left_alone() -> None:
    shop, replica = open_shop(), make_replica()
    one = page_of(shop)[0]._replace(kind="ship", id="s1", state=DocumentState.LIVE)
    replica.load([one, *page_of(shop)], complete_to=None, due="")
    assert seen(replica) == truth(shop)
