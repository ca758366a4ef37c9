"""A waiting command is given another input: in place, on disk, with what leans on it; and what a cart's save names."""

from pathlib import Path

import pytest

from sync_client import outbox_keeper
from sync_client.errors import CommandFailed, OutboxFull
from sync_client.outbox_file import OutboxFile
from sync_client.outbox_keeper import Seen
from sync_client.pending import OutboxState
from sync_core.domain import orders
from sync_core.domain.catalog import DOMAIN
from tests.client.outboxes import ORDER, Desk, given, open_desk, order
from tests.client.test_outbox import STALE, edit, guards, head, set_status


async def amend(desk: Desk, key: str, status: str) -> str | None:
    return await desk.keeper.amend(key, given(orders.set_status, orderID=ORDER, status=status))


async def test_it_keeps_its_place_and_is_shown_and_on_disk_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "x.outbox.sqlite"
    async with open_desk(path, is_up=False) as desk:
        desk.tells(order(version=3))
        first = await set_status(desk, "first")
        await set_status(desk, "second", "other")
        before = first.key
        desk.now_ms += 5
        key = await amend(desk, first.key, "other words")
        assert desk.names == ["other words", "second"]
        assert desk.shown().status == "other words"
        assert first.key == key != before
    kept = OutboxFile(path, DOMAIN).load()
    assert [entry.command.given.status for entry in kept] == ["other words", "second"]  # type: ignore[attr-defined]
    assert kept[0].command.created_ms > kept[1].command.created_ms, "the newest thing that a person did"


async def test_what_leans_on_it_leans_on_it_still() -> None:
    async with open_desk() as desk:
        desk.tells(order(version=3))
        first = await edit(desk, "first")
        await edit(desk, "second")
        await desk.keeper.amend(first.key, given(orders.edit, orderID=ORDER, notes="other"))
        assert guards(desk) == [3, 4]
        await desk.keeper.answered(head(desk), desk.says(order(version=4, notes="other")).document)
        assert guards(desk) == [4]


async def test_one_that_was_sent_is_not_touched() -> None:
    async with open_desk(is_up=True) as desk:
        first = await set_status(desk, "first")
        await desk.keeper.sending(head(desk), now_ms=desk.now_ms)
        assert await amend(desk, first.key, "other") is None
        assert await amend(desk, "no-such-key", "other") is None
        assert desk.names == ["first"]


async def test_one_that_failed_keeps_its_problem_and_is_not_sent() -> None:
    async with open_desk(is_up=True) as desk:
        desk.tells(order(version=3))
        first = await set_status(desk, "first")
        await desk.keeper.refused(head(desk), STALE)
        key = await amend(desk, first.key, "kept here")
        assert key is not None
        entry = desk.keeper.entries[key]
        assert (entry.state, entry.problem, desk.keeper.next()) == (OutboxState.FAILED, STALE, None)
        assert entry.given.status == "kept here"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("bound", "most"), [("MAX_COMMANDS", 2), ("MAX_BYTES", 1500)])
async def test_what_stands_for_a_refused_one_changes_places_with_it_in_one_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    path = tmp_path / "x.outbox.sqlite"
    async with open_desk(path, is_up=True) as desk:
        refused = []
        for status in ("first", "second"):
            refused.append((await set_status(desk, status)).key)
            await desk.keeper.refused(head(desk), STALE)
        monkeypatch.setattr(outbox_keeper, bound, most)
        with pytest.raises(OutboxFull):
            await set_status(desk, "third")
        third = given(orders.set_status, orderID=ORDER, status="third")
        sent = await desk.keeper.submit(orders.set_status, third, drop=[refused[0], "no-such-key"])
        assert list(desk.keeper.entries) == [refused[1], sent.key], "there is room in its place"
        await desk.keeper.amend(sent.key, given(orders.set_status, orderID=ORDER, status="4"), drop=[refused[1]])
        assert list(desk.keeper.entries) == [sent.key]
    (kept,) = OutboxFile(path, DOMAIN).load()
    assert kept.command.given.status == "4"  # type: ignore[attr-defined]


async def test_what_waits_is_not_dropped() -> None:
    async with open_desk(is_up=False) as desk:
        first = await set_status(desk, "first")
        second = given(orders.set_status, orderID=ORDER, status="second")
        await desk.keeper.submit(orders.set_status, second, drop=[first.key])
        await desk.keeper.drop([first.key])
        assert desk.names == ["first", "second"]


async def test_a_guard_may_name_what_was_seen_apart_from_what_is_shown() -> None:
    async with open_desk(is_up=False) as desk:
        desk.tells(order(version=9))
        first = await edit(desk, "first", seen=lambda: Seen(None, 3, {}))
        await edit(desk, "second", seen=lambda: Seen(None, 4, {first.key: 1}))
        assert guards(desk) == [3, 4]
        desk.is_up = True
        await desk.keeper.refused(head(desk), STALE)
        assert guards(desk) == [3], "somebody else has made version 4"


async def test_who_waits_for_an_answer_is_told_in_the_step_that_takes_it_in() -> None:
    async with open_desk(is_up=True) as desk:
        told: list[object] = []
        first, second = await set_status(desk, "first"), await set_status(desk, "second")
        first.then(lambda answer: told.append((answer, len(desk.keeper.pending))))
        desk.keeper.handle(second.key).then(told.append)
        answer = desk.says(order(status="first")).document
        await desk.keeper.answered(head(desk), answer)
        assert told == [(answer, 1)]
        await desk.keeper.refused(head(desk), STALE)
        assert isinstance(told[1], CommandFailed)
