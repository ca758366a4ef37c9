"""A cart's save and the end of the refused ones that it stands for are one write: an old cart never comes back."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sync_client.cart import line_id
from sync_client.errors import CacheUnwritable
from sync_client.saving import SaveState
from tests.client.carts import disk_refuses, disk_stands_still, on_disk, open_counter

NO_END = "DELETE ON commands WHEN old.state = 'failed'"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "till.outbox.sqlite"


@pytest.mark.parametrize(("choice", "kept"), [("both", ["a", "x", "b"]), ("mine", ["a", "b"])])
async def test_what_is_resolved_and_what_was_refused_change_places_in_one_write(
    path: Path, choice: Any, kept: list[str]
) -> None:
    refused = ("failed", "update", ["a", "b"])
    async with open_counter(path) as till:
        await till.in_conflict()
        assert on_disk(path) == [refused]
        with disk_refuses(path, NO_END):
            with pytest.raises(CacheUnwritable):
                await till.cart.resolve(choice)
            assert on_disk(path) == [refused], "as before, for a kill at this moment"
            assert (till.names, till.cart.state) == (kept, SaveState.FAILED)
        await till.cart.save()
        assert on_disk(path) == [("queued", "update", kept)]
    async with open_counter(path) as till:
        assert (till.names, till.cart.state) == (kept, SaveState.WAITING)
        await till.takes(*kept, version=3)
        assert (till.names, till.cart.state) == (kept, SaveState.SAVED)


async def test_what_could_not_be_let_go_of_when_theirs_was_taken_goes_with_the_next_write(path: Path) -> None:
    async with open_counter(path, runs=True) as till:
        await till.in_conflict()
        with disk_refuses(path, NO_END):
            with pytest.raises(CacheUnwritable):
                await till.cart.resolve("theirs")
            assert on_disk(path) == [("failed", "update", ["a", "b"])]
            assert (till.names, till.cart.state) == (["a", "x"], SaveState.SAVED)
        await till.hears(till.session("a", "x", "y", version=3))
        assert (till.names, till.cart.state) == (["a", "x", "y"], SaveState.SAVED), "no old cart"
        till.put_in("c")
        await till.cart.save()
        assert on_disk(path) == [("queued", "update", [*till.names])]


async def test_a_later_save_that_was_taken_ends_the_refused_one_with_the_next_write(path: Path) -> None:
    async with open_counter(path) as till:
        await two_under_way(till)
        await till.refuses(status=403)
        await till.takes("a", "b", "c", version=2)
        with disk_refuses(path, NO_END):
            with pytest.raises(CacheUnwritable):
                await till.cart.save()
            assert on_disk(path) == [("failed", "update", ["a", "b"])]
        await till.cart.save()
        assert on_disk(path) == [("queued", "update", ["a", "b", "c"])]


async def two_under_way(till: Any) -> None:
    """``b`` was sent, ``c`` waits behind it."""
    till.put_in("a")
    await till.cart.save()
    await till.takes("a", version=1)
    till.put_in("b")
    await till.cart.save()
    await till.desk.keeper.sending(till.head, now_ms=till.desk.now_ms)
    till.desk.now_ms += 1
    till.put_in("c")
    await till.cart.save()


async def test_two_that_were_refused_become_one_with_the_next_write(path: Path) -> None:
    async with open_counter(path) as till:
        await two_under_way(till)
        await till.refuses(till.session("a", "x", version=2))
        await till.refuses(till.session("a", "x", version=2))
        both = on_disk(path)
        assert both == [("failed", "update", ["a", "b"]), ("failed", "update", ["a", "b", "c"])]
        first = next(iter(till.desk.keeper.entries))
        with disk_refuses(path, f"DELETE ON commands WHEN old.key = '{first}'"):
            with pytest.raises(CacheUnwritable):
                await till.cart.save()
            assert on_disk(path) == both
        await till.cart.save()
        assert on_disk(path) == [("failed", "update", ["a", "b", "c"])]
        assert till.cart.state is SaveState.CONFLICT


async def test_a_refused_save_is_known_of_after_a_kill_while_a_later_one_waits(path: Path) -> None:
    async with open_counter(path) as till:
        await two_under_way(till)
        await till.refuses(till.session("a", "x", version=2))
    async with open_counter(path) as till:
        assert (till.names, till.cart.state) == (["a", "b", "c"], SaveState.CONFLICT)
        await till.takes("a", "b", "c", version=3)
        assert till.cart.state is not SaveState.CONFLICT, "the later one had all of it"
        await till.cart.save()
        await till.takes("a", "b", "c", version=4)
        assert (till.names, till.cart.state) == (["a", "b", "c"], SaveState.SAVED)
        assert list(till.desk.keeper.entries) == []


async def test_two_that_were_refused_are_one_conflict_after_a_kill(path: Path) -> None:
    async with open_counter(path) as till:
        await two_under_way(till)
        await till.refuses(till.session("a", "x", version=2))
        await till.refuses(till.session("a", "x", version=2))
    assert len(on_disk(path)) == 2
    async with open_counter(path) as till:
        assert (till.names, till.cart.state) == (["a", "b", "c"], SaveState.CONFLICT)
        till.put_in("d")
        await till.cart.save()
        assert on_disk(path) == [("failed", "update", ["a", "b", "c", "d"])]
        await till.cart.resolve("mine")
        assert on_disk(path) == [("queued", "update", ["a", "b", "c", "d"])]


async def test_a_refused_save_with_a_line_that_no_later_one_has_is_not_let_go_of(path: Path) -> None:
    async with open_counter(path) as till:
        await two_under_way(till)
        _, b, _ = [line_id(item) for item in till.cart.items]
        till.cart.remove(b)
        await till.cart.save()
        await till.refuses(till.session("a", "x", version=2))
    async with open_counter(path) as till:
        assert (till.names, till.cart.state) == (["a", "c"], SaveState.WAITING)
        await till.takes("a", "c", version=3)
        assert (till.names, till.cart.state) == (["a", "b"], SaveState.CONFLICT), "who knows whose it was"


async def test_a_refusal_while_the_refused_one_is_written_leaves_no_old_cart_behind(path: Path) -> None:
    async with open_counter(path) as till:
        await two_under_way(till)
        await till.refuses(till.session("a", "x", version=2))
        with disk_stands_still(path):
            refusal = asyncio.create_task(till.refuses(till.session("a", "x", version=2)))
            await asyncio.sleep(0)
            till.put_in("d")
            saving = asyncio.create_task(till.cart.save())
            await asyncio.sleep(0)
        await asyncio.gather(refusal, saving)
        await till.cart.save()
        assert on_disk(path) == [("failed", "update", ["a", "b", "c", "d"])]


async def test_a_cart_that_there_was_no_room_for_is_begun_by_the_next_save(path: Path) -> None:
    async with open_counter(path) as till:
        till.put_in("a")
        with disk_refuses(path, "INSERT ON commands"), pytest.raises(CacheUnwritable):
            await till.cart.save()
        assert till.cart.state is SaveState.FAILED
        await till.cart.save()
        assert on_disk(path) == [("queued", "create", ["a"])]
        assert till.cart.state is SaveState.WAITING
