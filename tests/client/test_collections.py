"""``client.orders`` and the like: looking, watching, and commands as methods."""

import asyncio
import inspect
from decimal import Decimal
from typing import Any, cast

import pytest

from sync_client.collections import Collection, Watches, checked, signature_of
from sync_client.errors import ClientError, InvalidCommand
from sync_client.replica import Entry, Replica
from sync_client.sent import Sent
from sync_core.cursor import Cursor
from sync_core.domain import bays, orders
from sync_core.domain.bays import Bay
from sync_core.domain.catalog import DOMAIN
from sync_core.domain.command import Command, CommandInput
from sync_core.domain.items import Item
from sync_core.domain.orders import Order, Stage
from tests.client.stock import EPOCH, envelopes, given, make_replica, page_of, tell
from tests.core.domain.shop import ITEM, Shop, open_shop


class Owner:
    """A client whose outbox only notes what it is given."""

    def __init__(self) -> None:
        self.submitted: list[tuple[str, dict[str, Any], int | None]] = []
        self.fresh = True
        self.age_s: float | None = 1.5
        self.has_started = True

    def check(self) -> None:
        if not self.has_started:
            raise ClientError("not started")

    async def submit(self, command: Command, given: CommandInput, *, if_match: int | None) -> Sent:
        self.submitted.append((command.name, given.model_dump(exclude_unset=True, mode="json"), if_match))
        return cast("Sent", "sent")


class Counter:
    """A replica of a shop, behind its collections."""

    def __init__(self, shop: Shop | None = None) -> None:
        self.shop = shop or open_shop(orders_in=["o2", "o1"])
        self.replica: Replica = make_replica()
        self.owner = Owner()
        self.watches = Watches(self.replica, fresh=lambda: self.replica.fresh)
        self.orders: Collection[Order] = self.collection(Order)
        self.bays: Collection[Bay] = self.collection(Bay)
        self.told = 0

    def collection(self, kind: type[Any]) -> Collection[Any]:
        return Collection(kind, self.replica, self.watches, self.owner, DOMAIN.of(kind))

    def hear(self) -> None:
        """All events that are new."""
        tell(self.replica, envelopes(self.shop, self.told))
        self.told = len(self.shop.log)

    def status(self, text: str, order_id: str = "o1") -> None:
        self.shop.do(orders.set_status, orderID=order_id, status=text)
        self.hear()


@pytest.fixture
async def counter() -> Counter:
    made = Counter()
    made.watches.begin()
    made.hear()
    return made


# -- looking ----------------------------------------------------------------------------------------------


def test_documents_are_found_by_id_and_in_order(counter: Counter) -> None:
    entry = counter.orders.get("o1")
    assert entry == Entry(counter.shop.order("o1"), pending=False)
    assert counter.orders.get("none") is None
    assert counter.bays.get("o1") is None
    assert [entry.document.id for entry in counter.orders] == ["o1", "o2"]
    assert len(counter.orders) == 2
    assert "o1" in counter.orders
    assert "b1" not in counter.orders
    assert 7 not in counter.orders


def test_an_empty_collection_is_no_missing_one() -> None:
    empty = Counter()
    assert empty.orders
    assert list(empty.orders) == []


def test_how_old_it_is_can_be_asked(counter: Counter) -> None:
    assert (counter.orders.fresh, counter.orders.age_s) == (True, 1.5)


def test_before_the_start_there_is_nothing_to_look_at(counter: Counter) -> None:
    counter.owner.has_started = False
    with pytest.raises(ClientError):
        counter.orders.get("o1")
    with pytest.raises(ClientError):
        list(counter.orders)


def test_a_loop_may_change_what_it_goes_over(counter: Counter) -> None:
    for entry in counter.orders:
        counter.shop.do(orders.delete, orderID=entry.document.id)
        counter.hear()
    assert len(counter.orders) == 0


# -- watching ---------------------------------------------------------------------------------------------


async def soon(watch: Any) -> Any:
    async with asyncio.timeout(5):
        return await anext(watch)


async def nothing(watch: Any) -> None:
    """It waits."""
    task = asyncio.ensure_future(anext(watch))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()


async def test_a_watch_begins_with_how_things_are(counter: Counter) -> None:
    assert await soon(counter.orders.watch("o1")) == counter.orders.get("o1")
    assert await soon(counter.orders.watch("none")) is None


async def test_a_watch_gives_each_newer_state_and_none_when_it_is_gone(counter: Counter) -> None:
    watch = counter.orders.watch("o1")
    await soon(watch)
    await nothing(watch)
    counter.status("a")
    assert (await soon(watch)).document.status == "a"
    counter.shop.do(orders.delete, orderID="o1")
    counter.hear()
    assert await soon(watch) is None


async def test_who_is_slow_gets_the_newest_only(counter: Counter) -> None:
    watch = counter.orders.watch("o1")
    for text in "abc":
        counter.status(text)
        await asyncio.sleep(0)
    assert (await soon(watch)).document.status == "c"
    await nothing(watch)


async def test_changes_of_others_do_not_wake_it(counter: Counter) -> None:
    watch = counter.orders.watch("o1")
    await soon(watch)
    counter.status("x", "o2")
    await nothing(watch)


async def test_what_comes_to_the_same_is_not_told(counter: Counter) -> None:
    watch = counter.orders.watch("o1")
    await soon(watch)
    counter.replica.set_pending([given(orders.set_status, orderID="o1", status="x")])
    counter.replica.set_pending([])
    await nothing(watch)


async def test_a_waiting_command_and_its_answer_are_two_states(counter: Counter) -> None:
    watch = counter.orders.watch("o1")
    await soon(watch)
    counter.replica.set_pending([given(orders.set_status, orderID="o1", status="x")])
    assert (await soon(watch)).pending
    counter.shop.do(orders.set_status, orderID="o1", status="x")
    news = counter.replica.newer(found for e in envelopes(counter.shop) if (found := counter.replica.of_event(e)))
    counter.replica.apply(news, pending=[])
    entry = await soon(watch)
    assert (entry.document.status, entry.pending) == ("x", False)


async def test_an_effect_on_other_documents_is_told_to_who_watches_them(counter: Counter) -> None:
    """A rule touches more than its command names."""
    watch = counter.bays.watch("b1")
    await soon(watch)
    counter.replica.set_pending([given(bays.start_job, bayID="b1", orderID="o1", jobID="j1")])
    assert (await soon(watch)).document.job.orderID == "o1"


async def test_a_whole_collection_is_given_after_every_change_in_it(counter: Counter) -> None:
    watch = counter.orders.watch()
    assert await soon(watch) is counter.orders
    await nothing(watch)
    counter.status("x", "o2")
    assert await soon(watch) is counter.orders
    counter.shop.do(bays.edit, bayID="b1", name="Another")
    counter.hear()
    await nothing(watch)


async def test_a_whole_collection_is_given_when_it_becomes_fresh(counter: Counter) -> None:
    await asyncio.sleep(0)
    watch = counter.orders.watch()
    await soon(watch)
    counter.replica.demand("expired", at=None)
    assert not (await soon(watch)).fresh or not counter.replica.fresh
    counter.replica.install(page_of(counter.shop), cursor=Cursor(EPOCH, counter.told))
    await soon(watch)
    await nothing(watch)


async def test_a_watch_that_was_made_before_the_start_waits_for_it() -> None:
    counter = Counter()
    watch = counter.orders.watch("o1")
    await nothing(watch)
    counter.hear()
    counter.watches.begin()
    assert (await soon(watch)).document.id == "o1"


async def test_a_watch_ends_with_the_client(counter: Counter) -> None:
    watch = counter.orders.watch("o1")
    await soon(watch)
    waiting = asyncio.ensure_future(anext(watch, "ended"))
    await asyncio.sleep(0)
    counter.watches.end()
    assert await waiting == "ended"
    assert await anext(watch, "ended") == "ended"
    assert [entry async for entry in counter.orders.watch("o1")] == []


async def test_one_that_is_dropped_is_forgotten(counter: Counter) -> None:
    async for _ in counter.orders.watch("o1"):
        break
    counter.status("a")
    await asyncio.sleep(0)
    assert counter.watches._all == {}


# -- commands ---------------------------------------------------------------------------------------------


async def test_a_command_takes_its_path_then_its_body(counter: Counter) -> None:
    assert await counter.orders.change_stage("o1", "in_progress") == "sent"
    await counter.orders.change_stage(orderID="o1", newStage=Stage.IN_PROGRESS, if_match=3)
    await counter.orders.set_payment("o1", "paid", Decimal("12.5"), method="card")
    assert counter.owner.submitted == [
        ("change_stage", {"orderID": "o1", "newStage": "in_progress"}, None),
        ("change_stage", {"orderID": "o1", "newStage": "in_progress"}, 3),
        ("set_payment", {"orderID": "o1", "status": "paid", "amount": "12.50", "method": "card"}, None),
    ]


async def test_only_what_was_given_is_sent(counter: Counter) -> None:
    """Of a PATCH, what is absent stays and what is null is taken away."""
    await counter.orders.edit("o1", notes=None)
    await counter.orders.edit("o1")
    assert [fields for _, fields, _ in counter.owner.submitted] == [{"orderID": "o1", "notes": None}, {"orderID": "o1"}]


async def test_documents_parts_may_be_given_as_they_are(counter: Counter) -> None:
    entry = counter.orders.get("o1")
    assert entry is not None
    items: tuple[Item, ...] = entry.document.items
    await counter.orders.create("o9", items=[*items, ITEM])
    assert counter.owner.submitted[0][1]["items"] == [ITEM, ITEM]


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"orderID": "o 1", "newStage": "in_progress"}, "orderID"),
        ({"orderID": "o1", "newStage": "polished"}, "newStage"),
        ({"orderID": 1, "newStage": "in_progress"}, "orderID"),
        ({"orderID": "o1", "newStage": object()}, "newStage"),
        ({"orderID": "o1", "newStage": "\ud800"}, "newStage"),
    ],
)
async def test_what_the_server_would_refuse_is_refused_here(
    counter: Counter, arguments: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidCommand) as told:
        await counter.orders.change_stage(**arguments)
    assert [error.path for error in told.value.errors] == [path]
    assert str(told.value).startswith(f"order.change_stage: {path}: ")
    assert counter.owner.submitted == []


async def test_all_faults_come_in_one_message(counter: Counter) -> None:
    with pytest.raises(InvalidCommand) as told:
        await counter.orders.create(items=[ITEM | {"unitPrice": 12.5}, {"sku": "x"}], currency="dollars")
    paths = {error.path for error in told.value.errors}
    assert {"items[0].unitPrice", "items[1].name", "currency"} <= paths


async def test_wrong_arguments_are_a_type_error_as_of_any_function(counter: Counter) -> None:
    with pytest.raises(TypeError, match=r"orders\.change_stage\(\): missing .* 'newStage'"):
        await counter.orders.change_stage("o1")
    with pytest.raises(TypeError, match="'stage'"):
        await counter.orders.change_stage("o1", "in_progress", stage="in_progress")


def test_commands_can_be_found_by_people_and_tools(counter: Counter) -> None:
    assert {"create", "change_stage", "get", "watch", "fresh"} <= set(dir(counter.orders))
    method = counter.orders.change_stage
    assert list(inspect.signature(method).parameters) == ["orderID", "newStage", "if_match"]
    assert (method.__doc__ or "").startswith("Move an order along its stages")
    assert method.__name__ == "change_stage"
    assert inspect.iscoroutinefunction(method)


def test_what_is_no_command_is_told(counter: Counter) -> None:
    with pytest.raises(AttributeError, match="'polish' is no command; there are change_stage, create"):
        counter.orders.polish  # noqa: B018
    assert not hasattr(counter.orders, "__fspath__")
    assert repr(counter.orders) == "<orders>"


def test_what_has_to_be_given_comes_before_what_may_be() -> None:
    assert str(signature_of(bays.create)).startswith("(name: str, bayID: Optional[str] = None, *, if_match:")


def test_no_command_is_hidden_by_what_a_collection_has() -> None:
    assert {command.name for command in DOMAIN.commands} & set(dir(Collection)) == set()


def test_the_checked_input_is_what_the_server_reads() -> None:
    found = checked(orders.create, {"items": [ITEM]})
    assert found == orders.create.input.model_validate_json(f'{{"items": [{Item(**ITEM).model_dump_json()}]}}')
