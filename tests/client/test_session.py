"""``client.session`` in the moments between: while it is opened, left, resolved, and while the disk takes its time."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sync_client.cart import line_id
from sync_client.errors import CacheUnwritable, ClientError, InvalidCommand
from sync_client.saving import SaveState
from sync_core.domain import orders
from tests.client.carts import COLA, Counter, disk_refuses, disk_stands_still, on_disk, open_counter
from tests.client.outboxes import given


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "till.outbox.sqlite"


@pytest.fixture
async def till(path: Path) -> AsyncIterator[Counter]:
    """``a`` is in ann's cart, and at the server."""
    async with open_counter(path, runs=True) as counter:
        counter.put_in("a")
        await counter.cart.save()
        await counter.takes(*[item.model_dump(mode="json") for item in counter.cart.items], version=1)
        yield counter


# -- while it is left -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edit",
    [
        lambda cart, line: cart.change(line, quantity=3),
        lambda cart, line: cart.remove(line),
        lambda cart, line: cart.replace([]),
    ],
    ids=["change", "remove", "replace"],
)
async def test_a_line_that_is_being_sold_cannot_be_changed_any_more(till: Counter, path: Path, edit: Any) -> None:
    (line,) = [line_id(item) for item in till.cart.items]
    with disk_stands_still(path):
        leaving = asyncio.create_task(till.cart.complete())
        await asyncio.sleep(0)
        with pytest.raises(ClientError, match="being left"):
            edit(till.cart, line)
        till.put_in("next")
    await leaving
    assert till.names == ["next"]
    await till.cart.save()
    assert [names for _, _, names in on_disk(path)] == [[], ["next"]]


async def test_a_line_that_another_program_put_in_is_not_sold_twice(till: Counter, path: Path) -> None:
    await till.hears(till.session(COLA, COLA, version=2))
    assert len({line_id(item) for item in till.cart.items}) == 2
    with disk_stands_still(path):
        leaving = asyncio.create_task(till.cart.complete())
        await asyncio.sleep(0)
        till.put_in("next")
    await leaving
    assert till.names == ["next"]


async def test_what_another_till_puts_in_meanwhile_is_not_sold_unseen(till: Counter, path: Path) -> None:
    status = given(orders.set_status, orderID="O", status="ready")
    with disk_stands_still(path):
        other = asyncio.create_task(till.desk.keeper.submit(orders.set_status, status))
        await asyncio.sleep(0)
        leaving = asyncio.create_task(till.cart.complete())
        await asyncio.sleep(0)
        await till.hears(till.session("a", "x", version=2))
    await asyncio.gather(other, leaving)
    assert [command.guard for command in till.desk.keeper.pending] == [None, 1], "what was on the screen"
    assert till.names == []


async def test_leaving_twice_at_once_leaves_the_next_cart_alone(till: Counter, path: Path) -> None:
    with disk_stands_still(path):
        first, second = asyncio.create_task(till.cart.complete()), asyncio.create_task(till.cart.complete())
        await asyncio.sleep(0)
        till.put_in("next")
    await first
    with pytest.raises(ClientError):
        await second
    assert till.names == ["next"]
    await till.cart.save()
    assert [command for _, command, _ in on_disk(path)] == ["complete", "create"]


async def test_who_gives_up_waiting_has_left_it_all_the_same(till: Counter, path: Path) -> None:
    with disk_stands_still(path):
        leaving = asyncio.create_task(till.cart.complete())
        await asyncio.sleep(0)
        leaving.cancel()
        till.put_in("next")
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert till.names == ["next"]
    await till.cart.save()
    assert [command for _, command, _ in on_disk(path)] == ["complete", "create"]


async def test_what_was_refused_while_it_was_left_is_in_the_cart_that_comes_back(till: Counter, path: Path) -> None:
    a = till.cart.items[0].model_dump(mode="json")
    till.put_in("b")
    await till.cart.save()
    left_for_later = till.session(a, version=2, status="pending_logout")
    with disk_stands_still(path):
        refusing = asyncio.create_task(till.refuses(left_for_later))
        await asyncio.sleep(0)
        leaving = asyncio.create_task(till.cart.complete())
        await asyncio.sleep(0)
    await asyncio.gather(refusing, leaving)
    assert till.names == []
    await till.refuses(left_for_later)
    assert (till.names, till.cart.state) == (["a", "b"], SaveState.CONFLICT)


@pytest.mark.parametrize("leave", [lambda cart: cart.assign_to_tab("Tab 7"), lambda cart: cart.complete("cash")])
async def test_what_cannot_be_sent_is_refused_for_people(till: Counter, leave: Any) -> None:
    with pytest.raises(InvalidCommand, match=r"tabId|payment"):
        await leave(till.cart)
    assert till.names == ["a"]


async def test_a_line_that_is_put_in_twice_is_two_lines(till: Counter) -> None:
    till.cart.replace([*till.cart.items, *till.cart.items])
    first, second = [line_id(item) for item in till.cart.items]
    till.cart.change(second, quantity=2)
    assert [item.quantity for item in till.cart.items] == [1, 2]
    till.cart.remove(first)
    assert [line_id(item) for item in till.cart.items] == [second]


# -- while it is opened -----------------------------------------------------------------------------------


async def test_nothing_is_put_in_while_it_is_being_opened(path: Path) -> None:
    async with open_counter(path, is_open=False) as till:
        till.known.clear()
        opening = asyncio.create_task(till.cart.open(till="t"))
        await asyncio.sleep(0)
        with pytest.raises(ClientError, match="open"):
            till.put_in("a")
        till.known.set()
        await opening
        till.put_in("b")
        assert till.names == ["b"]


async def test_what_is_put_in_until_another_persons_cart_is_opened_is_kept(till: Counter, path: Path) -> None:
    till.put_in("b")
    with disk_stands_still(path):
        opening = asyncio.create_task(till.cart.open("bob", till="t"))
        await asyncio.sleep(0)
        till.put_in("c")
    await opening
    assert till.names == []
    assert on_disk(path) == [("queued", "update", ["a", "b", "c"])]


async def test_of_two_that_are_opened_at_once_the_second_follows_the_first(till: Counter, path: Path) -> None:
    till.known.clear()

    async def bob() -> None:
        await till.cart.open("bob", till="t")
        till.put_in("bobs")

    both = asyncio.gather(bob(), till.cart.open("cid", till="t"))
    await asyncio.sleep(0)
    till.known.set()
    await both
    assert till.names == []
    assert on_disk(path) == [("queued", "create", ["bobs"])]


async def test_a_cart_that_is_being_left_is_left_before_another_is_opened(till: Counter, path: Path) -> None:
    with disk_stands_still(path):
        leaving = asyncio.create_task(till.cart.complete())
        opening = asyncio.create_task(till.cart.open("bob", till="t"))
        await asyncio.sleep(0)
        till.put_in("next")
    await asyncio.gather(leaving, opening)
    assert till.names == []
    assert [names for _, _, names in on_disk(path)] == [[], ["next"]]


@pytest.mark.parametrize(
    ("names", "where"),
    [
        ({"till": "Till 1"}, "till"), ({"till": "."}, "till"), ({"till": ""}, "till"), ({"till": "x" * 65}, "till"),
        ({"till": 1.5}, "till"), ({"till": True}, "till"), ({"user": "a,b"}, "user"), ({"user": " ann"}, "user"),
        ({"user": "x" * 129}, "user"),
    ],
)  # fmt: skip
async def test_a_name_that_is_none_is_refused_at_once(till: Counter, names: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidCommand, match=rf"session\.open: {where}: ") as caught:
        await till.cart.open(**names)
    assert "^" not in str(caught.value), "for people"
    till.put_in("b")
    assert till.names == ["a", "b"], "the cart is open as before"
    await till.cart.save()


async def test_a_till_may_have_a_number(path: Path) -> None:
    async with open_counter(path, is_open=False) as till:
        await till.cart.open(till=7)
        till.put_in("a")
        await till.cart.save()
        assert getattr(till.head.given, "tillId", None) == "7"


# -- what cannot be saved ---------------------------------------------------------------------------------


async def test_a_cart_that_this_programs_rules_do_not_allow_is_shown_as_failed(path: Path) -> None:
    async with open_counter(path, is_open=False, runs=True) as till:
        many = [f"n{number}" for number in range(201)]
        till.tells(till.session(*many, version=4, session_id="s", status="pending_logout"))
        await till.cart.open(till="t")
        with pytest.raises(InvalidCommand, match="items"):
            await till.cart.save()
        view = till.cart.view
        assert (view.state, view.is_kept, len(view.items)) == (SaveState.FAILED, False, 201)
        assert view.problem is not None
        assert "items" in view.problem["detail"]
        till.cart.replace(till.cart.items[:200])
        await till.cart.save()
        assert till.cart.state is SaveState.WAITING
        await till.cart.aclose()


# -- while it is resolved ---------------------------------------------------------------------------------


async def test_whose_disk_was_full_and_takes_theirs_has_nothing_left_to_save(path: Path) -> None:
    async with open_counter(path) as till:
        await till.in_conflict()
        till.put_in("c")
        with disk_refuses(path, "INSERT ON commands"), pytest.raises(CacheUnwritable):
            await till.cart.save()
        await till.cart.resolve("theirs")
        assert (till.names, till.cart.state, till.cart.view.problem) == (["a", "x"], SaveState.SAVED, None)
        assert on_disk(path) == []


async def test_only_a_choice_there_is_resolves(path: Path) -> None:
    async with open_counter(path) as till:
        await till.in_conflict()
        before = till.cart.view
        with pytest.raises(InvalidCommand, match=r"session\.resolve: choice: has to be one of mine, theirs, both"):
            await till.cart.resolve("their")  # type: ignore[arg-type]
        assert till.cart.view == before


async def test_what_is_said_of_one_persons_cart_is_not_done_to_anothers(till: Counter, path: Path) -> None:
    await till.cart.open("bob", till="t")
    till.put_in("bobs")
    await till.cart.save()
    await till.refuses(status=403)
    await till.cart.open("ann", till="t")
    till.put_in("b")
    await till.cart.save()
    await till.desk.keeper.sending(till.head, now_ms=till.desk.now_ms)
    till.put_in("c")
    await till.cart.save()
    await till.refuses(status=403)
    resolving = asyncio.create_task(till.cart.resolve("theirs"))  # it waits for what is said to ``c``
    await asyncio.sleep(0)
    await till.cart.open("bob", till="t")
    with pytest.raises(ClientError, match="left already"):
        await resolving
    assert (till.names, till.cart.state) == (["bobs"], SaveState.FAILED)


async def test_what_begins_to_wait_while_it_is_resolved_is_waited_for(path: Path) -> None:
    async with open_counter(path, runs=True) as till:
        await till.in_conflict()
        (refused,) = till.desk.keeper.entries
        with disk_stands_still(path):
            discarding = asyncio.create_task(till.desk.keeper.discard(refused))
            await asyncio.sleep(0)
            till.put_in("c")
            saving = asyncio.create_task(till.cart.save())
            await asyncio.sleep(0)
            resolving = asyncio.create_task(till.cart.resolve("mine"))
            await asyncio.sleep(0)
        await asyncio.gather(discarding, saving)
        assert on_disk(path) == [("queued", "update", ["a", "b", "c"])]
        assert not resolving.done(), "what was not refused is not taken back"
        await till.takes("a", "b", "c", version=3)
        with pytest.raises(ClientError, match="nothing to resolve"):
            await resolving
