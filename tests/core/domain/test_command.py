"""Declarations, and the working set of one command."""

import contextlib
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sync_core.domain import bays, orders, queues, waiting
from sync_core.domain.catalog import DOMAIN, REGISTRY
from sync_core.domain.changes import Changes, Context, RuleConflict, Unloaded
from sync_core.domain.command import Command, CommandInput, Domain, command
from sync_core.domain.document import Known, Ref
from sync_core.domain.fields import DocumentID, Names
from sync_core.domain.orders import Order, Stage
from sync_core.domain.queues import Queue
from sync_core.events import EventType
from sync_core.filters import ENTITY_KEYS
from sync_core.problems import Forbidden, NotFound, Unprocessable
from tests.core.domain.shop import ITEM, data_of, open_shop, replay, types_of


def ids(declared: Command) -> str:
    return f"{declared.target.kind}.{declared.name}"


@pytest.mark.parametrize("declared", DOMAIN.commands, ids=ids)
def test_a_declaration_is_whole(declared: Command) -> None:
    assert declared.summary.endswith(".")
    assert declared.permission
    assert declared.path.startswith(f"/{declared.target.path()}")
    assert declared.creates <= (declared.method == "POST")
    assert list(declared.input.model_fields)[: len(declared.path_parameters)] == list(declared.path_parameters)
    assert set(declared.emits) <= {event_type.name for event_type in REGISTRY}
    assert declared.max_events >= len(declared.emits)


@pytest.mark.parametrize("declared", DOMAIN.commands, ids=ids)
def test_an_unknown_field_is_refused(declared: Command) -> None:
    with pytest.raises(ValidationError) as caught:
        declared.input.model_validate({"ordreID": "x"})
    assert ("ordreID",) in [fault["loc"] for fault in caught.value.errors()]


@pytest.mark.parametrize(
    ("declared", "given", "refs"),
    [
        (orders.create, {}, []),
        (orders.create, {"orderID": "o"}, [Ref("order", "o")]),
        (orders.change_stage, {"orderID": "o", "newStage": "completed"}, [Ref("order", "o")]),
        (waiting.enter, {"queueID": "q", "orderID": "o"}, [Ref("queue", "q"), Ref("order", "o")]),
        (waiting.move, {"queueID": "q", "orderID": "o", "position": 1}, [Ref("queue", "q")]),
        (bays.call_next, {"queueID": "q", "bayID": "b"}, [Ref("queue", "q"), Ref("bay", "b")]),
        (bays.finish_job, {"bayID": "b", "jobID": "j"}, [Ref("bay", "b")]),
    ],
)
def test_a_command_says_what_it_will_look_at(declared: Command, given: dict[str, Any], refs: list[Ref]) -> None:
    assert declared.refs(declared.input.model_validate(given)) == refs


@pytest.mark.parametrize(
    ("declared", "given", "made"),
    [
        (orders.create, {}, "orderID"),
        (queues.create, {"name": "n"}, "queueID"),
        (bays.create, {"name": "n"}, "bayID"),
        (bays.start_job, {"bayID": "b", "orderID": "o"}, "jobID"),
        (bays.call_next, {"bayID": "b", "queueID": "q"}, "jobID"),
    ],
)
def test_an_id_that_the_caller_left_out_is_made_once(declared: Command, given: dict[str, Any], made: str) -> None:
    complete = declared.complete(declared.input.model_validate(given), lambda: "new")
    assert getattr(complete, made) == "new"
    assert declared.complete(complete, lambda: "newer") is complete, "a second time changes nothing"
    mine = declared.input.model_validate(given | {made: "mine"})
    assert declared.complete(mine, lambda: "new") is mine


def test_a_completed_create_names_what_it_will_look_at() -> None:
    given = orders.create.complete(orders.create.input(), lambda: "new")
    assert orders.create.refs(given) == [Ref("order", "new")]
    assert orders.create.target_ref(given) == Ref("order", "new")


def test_a_path_that_needs_no_document_has_no_target() -> None:
    assert orders.create.target_ref(orders.create.input()) is None
    enter = waiting.enter.input.model_validate({"queueID": "q", "orderID": "o"})
    assert waiting.enter.target_ref(enter) == Ref("queue", "q")


junk = st.one_of(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    st.sampled_from(["o1", "q1", "b1", "j1", "1.5", "paid", "completed"]),
    st.lists(st.integers() | st.just(ITEM), max_size=2),
    st.dictionaries(st.text(max_size=4), st.floats() | st.text(max_size=4), max_size=2),
)


@given(st.data())
@settings(max_examples=200)
def test_no_input_brings_a_rule_to_fall(data: st.DataObject) -> None:
    shop = open_shop(waiting_in=["o1"], job="o2")
    chosen = data.draw(st.sampled_from(DOMAIN.commands))
    given = {name: data.draw(junk) for name in chosen.input.model_fields if data.draw(st.booleans())}
    for name in ("orderID", "queueID", "bayID", "jobID"):
        if name in chosen.input.model_fields and data.draw(st.booleans()):
            given[name] = {"orderID": "o1", "queueID": "q1", "bayID": "b1", "jobID": "j1"}[name]
    with contextlib.suppress(ValidationError, RuleConflict, Forbidden, NotFound, Unprocessable):
        shop.do(chosen, **given)
    replay(shop.log)


class Nothing(CommandInput):
    orderID: Annotated[DocumentID, Names("order")]  # noqa: N815 - the wire's name


def declared(name: str, path: str = "/orders/{orderID}/x", *, method: str = "POST", emits: str = "a") -> Command:
    def rule(shop: Changes, given: Nothing) -> None:
        """Does nothing."""

    rule.__name__ = name
    return command(method, path, target=Order, permission="p", emits=[emits])(rule)


@pytest.mark.parametrize(
    ("commands", "fault"),
    [
        ([declared("x", emits="b")], "emits"),
        ([declared("x", "/orders/{order}")], "in its path"),
        ([declared("x"), declared("y")], "POST /orders/{}/x is declared twice"),
        ([declared("x"), declared("x", "/orders/{orderID}/y")], "order x is declared twice"),
    ],
)
def test_declarations_that_do_not_fit_together_are_found_at_start(commands: list[Command], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Domain(kinds=[Order], commands=commands, event_types=[EventType("a")])


def test_domains_add_up() -> None:
    one = Domain(kinds=[Order], commands=[declared("x")], event_types=[EventType("a")])
    two = Domain(kinds=[Queue], commands=[], event_types=[EventType("b")])
    both = one + two
    assert set(both.kinds) == {"order", "queue"}
    assert [c.name for c in both.of(Order)] == ["x"]
    assert [t.name for t in both.event_types] == ["a", "b"]
    with pytest.raises(ValueError, match="twice"):
        both + one


def changes(known: dict[Ref, Known]) -> Changes:
    def load(ref: Ref) -> Known:
        if ref not in known:
            raise Unloaded(frozenset({ref}))
        return known[ref]

    return Changes(load=load, context=Context(0, "p"), kinds=DOMAIN.kinds)


QUEUE = Queue(queueID="q", name="n")


def test_a_new_documents_version_goes_on_behind_its_tombstone() -> None:
    work = changes({QUEUE.ref: Known(None, 4)})
    assert work.create(QUEUE, "queue_updated").version == 5
    assert work.find(Queue, "q") == QUEUE.model_copy(update={"version": 5})


def test_what_exists_cannot_be_created() -> None:
    there = QUEUE.model_copy(update={"version": 3, "name": "there"})
    with pytest.raises(RuleConflict) as caught:
        changes({QUEUE.ref: Known(there, 3)}).create(QUEUE, "queue_updated")
    assert caught.value.documents == (there,)
    assert caught.value.document()["current"] == {"queue": there.content()}
    assert caught.value.document()["status"] == 409


def test_a_change_is_the_next_version_whatever_the_rule_made_of_it() -> None:
    work = changes({QUEUE.ref: Known(QUEUE.model_copy(update={"version": 3}), 3)})
    assert work.put(QUEUE.model_copy(update={"version": 99}), "queue_updated").version == 4


def test_a_deleted_document_is_gone_and_its_version_is_counted() -> None:
    there = QUEUE.model_copy(update={"version": 3})
    work = changes({QUEUE.ref: Known(there, 3)})
    work.delete(there, "queue_updated")
    assert work.known(QUEUE.ref) == Known(None, 4)
    (event,) = work.events
    assert (event.deleted, event.before, event.document) == (True, there, QUEUE.model_copy(update={"version": 4}))


def test_what_is_not_loaded_is_asked_for() -> None:
    with pytest.raises(Unloaded) as caught:
        changes({}).find(Queue, "q")
    assert caught.value.refs == {Ref("queue", "q")}


def test_a_document_is_loaded_once() -> None:
    loads: list[Ref] = []

    def load(ref: Ref) -> Known:
        loads.append(ref)
        return Known(None, 0)

    work = Changes(load=load, context=Context(0, "p"), kinds=DOMAIN.kinds)
    work.find(Queue, "q")
    work.create(QUEUE, "queue_updated")
    assert loads == [QUEUE.ref]


def test_what_is_missing_is_told_by_its_path_or_by_its_field() -> None:
    work = changes({QUEUE.ref: Known(None, 0)})
    with pytest.raises(NotFound, match="no queue q"):
        work.get(Queue, "q")
    with pytest.raises(Unprocessable) as caught:
        work.get(Queue, "q", field="queueID")
    assert [fault.path for fault in caught.value.errors] == ["queueID"]


def test_a_replica_without_all_documents_is_told_which_it_needs() -> None:
    """What a rule finds out on the way, such as the order that is next, is asked for as well."""
    shop = open_shop(waiting_in=["o1"])
    known = {ref: shop.known(ref) for ref in (Ref("queue", "q1"), Ref("bay", "b1"))}
    call = bays.call_next.complete(bays.CallNext(queueID="q1", bayID="b1"), lambda: "j")
    with pytest.raises(Unloaded) as caught:
        bays.call_next.rule(changes(known), call)
    assert caught.value.refs == {Ref("order", "o1")}


@pytest.mark.parametrize("again", [False, True])
def test_an_order_deleted_and_made_again_goes_on_in_every_replica(again: bool) -> None:
    shop = open_shop()
    shop.do(orders.delete, orderID="o1")
    if again:
        shop.do(orders.create, orderID="o1", notes="second")
    documents, versions = replay(shop.log)
    assert versions[Ref("order", "o1")] == (3 if again else 2)
    assert (Ref("order", "o1") in documents) is again


def test_a_delete_tells_the_id_alone() -> None:
    shop = open_shop()
    (event,) = shop.do(orders.delete, orderID="o1")
    assert data_of(event) == {"deleted": True, "order": {"orderID": "o1"}}
    assert event.document is not None
    assert event.document.version == 2


def test_the_small_stage_change_carries_no_document_and_no_version() -> None:
    shop = open_shop()
    small, whole = shop.do(orders.change_stage, orderID="o1", newStage="in_progress")
    assert types_of([small, whole]) == ["stage_change", "order_stage_change"]
    assert data_of(small) == {"order": {"orderID": "o1"}, "previousStage": "initiated", "newStage": "in_progress"}
    assert small.document is None
    assert small.judged_by is not None
    assert small.judged_by.id == "o1"
    assert '"version"' not in shop.log[-2]
    assert shop.log[-1].endswith('"version":2}')


def test_an_event_names_each_key_once() -> None:
    shop = open_shop(waiting_in=["o1"])
    for event in shop.do(bays.call_next, queueID="q1", bayID="b1"):
        keys = [item.partition("=")[0] for item in event.tags]
        assert len(set(keys)) == len(keys)
        assert set(keys) <= set(ENTITY_KEYS)


def test_stages_are_told_to_where_an_order_comes_from_and_where_it_goes() -> None:
    shop = open_shop(waiting_in=["o1"])
    called = next(
        e for e in shop.do(bays.call_next, queueID="q1", bayID="b1", jobID="j") if e.event_type == "stage_change"
    )
    assert set(called.tags) == {"orderID=o1", "queueID=q1", "bayID=b1"}
    finished = next(e for e in shop.do(bays.finish_job, bayID="b1", jobID="j") if e.event_type == "stage_change")
    assert set(finished.tags) == {"orderID=o1", "bayID=b1"}
    assert finished.judged_by is not None
    assert finished.judged_by.grants() == ("orderID=o1",)


def test_a_refusal_leaves_the_shop_as_it_was() -> None:
    shop = open_shop(waiting_in=["o1"])
    before = (dict(shop.bodies), list(shop.log))
    with pytest.raises(RuleConflict):
        shop.do(orders.change_stage, orderID="o1", newStage=Stage.COMPLETED)
    assert (shop.bodies, shop.log) == before
