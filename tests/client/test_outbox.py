"""The outbox before a replica: what is shown, kept and told while commands wait, are answered, refused and rebased."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sync_client import outbox_keeper
from sync_client.conflicts import Conflict
from sync_client.errors import CacheUnwritable, ClientError, Closed, CommandFailed, OutboxFull
from sync_client.outbox import Outbox
from sync_client.outbox_file import OutboxFile
from sync_client.outbox_keeper import OutboxKeeper
from sync_client.pending import OutboxEntry, OutboxState
from sync_client.sent import Sent
from sync_core.domain import orders, queues, waiting
from sync_core.domain.catalog import DOMAIN
from tests.client.outboxes import ORDER, Desk, given, open_desk, order

QUEUE = {"queueID": "q", "name": "Q", "paused": False, "entries": [], "nextTicket": 1, "version": 3}
STALE = {"type": "stale", "title": "Conflict", "status": 409, "detail": "The order order has changed."}


async def set_status(desk: Desk, status: str, order_id: str = ORDER) -> Sent:
    return await desk.keeper.submit(orders.set_status, given(orders.set_status, orderID=order_id, status=status))


async def edit(desk: Desk, notes: str, **more: Any) -> Sent:
    return await desk.keeper.submit(orders.edit, given(orders.edit, orderID=ORDER, notes=notes), **more)


def head(desk: Desk) -> OutboxEntry:
    entry = desk.keeper.next()
    assert entry is not None
    return entry


def guards(desk: Desk) -> list[int | None]:
    return [command.guard for command in desk.keeper.pending]


# -- giving -----------------------------------------------------------------------------------------------


async def test_a_command_is_on_disk_and_shown_when_it_was_taken(tmp_path: Path) -> None:
    path = tmp_path / "x.outbox.sqlite"
    async with open_desk(path) as desk:
        desk.tells(order(version=3))
        sent = await set_status(desk, "waiting")
        assert (desk.shown().status, desk.shown().version) == ("waiting", 4)
        assert (sent.name, sent.id) == ("order.set_status", ORDER)
    (kept,) = OutboxFile(path, DOMAIN).load()
    assert (kept.key, kept.state, kept.command.given.status) == (sent.key, OutboxState.QUEUED, "waiting")  # type: ignore[attr-defined]


async def test_an_id_that_was_left_out_is_made_here_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.outbox.sqlite"
    async with open_desk(path) as desk:
        sent = await desk.keeper.submit(orders.create, given(orders.create))
        assert len(sent.id) == 12
        assert desk.shown(sent.id).stage == "empty"
    async with open_desk(path) as desk:
        assert desk.shown(sent.id).stage == "empty"
        (command,) = desk.keeper.pending
        assert f'"orderID":"{sent.id}"'.encode() in (command.body() or b"")


async def test_commands_that_are_given_at_once_keep_their_order(tmp_path: Path) -> None:
    async with open_desk(tmp_path / "x.outbox.sqlite") as desk:
        await asyncio.gather(*(set_status(desk, f"s{n}") for n in range(20)))
        assert desk.names == [f"s{n}" for n in range(20)]


async def test_the_outbox_comes_back_in_its_order_and_shown(tmp_path: Path) -> None:
    path = tmp_path / "x.outbox.sqlite"
    async with open_desk(path) as desk:
        for n in range(3):
            await set_status(desk, f"s{n}")
    async with open_desk(path) as desk:
        desk.tells(order())
        assert desk.names == ["s0", "s1", "s2"]
        assert desk.shown().status == "s2"


async def test_a_caller_who_is_cancelled_leaves_disk_memory_and_picture_alike(tmp_path: Path) -> None:
    async with open_desk(tmp_path / "x.outbox.sqlite") as desk:
        desk.tells(order())
        giving = asyncio.create_task(set_status(desk, "late"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        giving.cancel()
        await asyncio.wait([giving])
        assert desk.names == ["late"]
        assert desk.shown().status == "late"


async def test_a_full_disk_is_told_and_nothing_is_shown(tmp_path: Path) -> None:
    async with open_desk(tmp_path / "x.outbox.sqlite") as desk:
        desk.tells(order())
        file = desk.keeper._journal.file
        assert file is not None
        file._db.execute(f"PRAGMA max_page_count={file._db.execute('PRAGMA page_count').fetchone()[0]}")
        error = ""
        for _ in range(100):
            try:
                await set_status(desk, "x" * 1000)
            except CacheUnwritable as exc:
                error = str(exc)
                break
        assert "x.outbox.sqlite cannot be written" in error
        count = len(desk.keeper.entries)
        assert desk.shown().version == 1 + count
        assert len(file.load()) == count


async def test_the_outbox_takes_so_many_commands_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_keeper, "MAX_COMMANDS", 2)
    async with open_desk() as desk:
        desk.tells(order())
        first = await set_status(desk, "a")
        await set_status(desk, "b")
        with pytest.raises(OutboxFull, match="2 commands"):
            await set_status(desk, "c")
        assert desk.shown().status == "b"
        await desk.keeper.discard(first.key)
        await set_status(desk, "c")


async def test_the_outbox_takes_so_many_bytes_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_keeper, "MAX_BYTES", 4000)
    async with open_desk() as desk:
        first = await set_status(desk, "x" * 2000)
        with pytest.raises(OutboxFull):
            await set_status(desk, "x" * 2000)
        await desk.keeper.answered(head(desk), desk.says(order(version=2)).document)
        await set_status(desk, "x" * 2000)
        assert first.key not in desk.keeper.entries


# -- answers ----------------------------------------------------------------------------------------------


async def test_an_answer_ends_the_overlay_in_the_step_that_shows_its_documents() -> None:
    async with open_desk() as desk:
        desk.tells(order())
        sent = await set_status(desk, "ready")
        seen: list[tuple[str | None, bool]] = []

        def look() -> None:
            entry = desk.replica.get(desk.keeper.pending[0].target if desk.keeper.pending else ref_of())  # type: ignore[arg-type]
            assert entry is not None
            seen.append((entry.document.status, entry.pending))  # type: ignore[attr-defined]

        def ref_of() -> Any:
            return orders.set_status.target_ref(given(orders.set_status, orderID=ORDER, status="x"))

        desk.replica.changed = look
        answer = desk.says(order(version=2, status="ready")).document
        await desk.keeper.answered(head(desk), answer)
        assert seen == [("ready", False)]
        assert await sent.done(1) == answer
        assert not desk.keeper.entries


async def test_an_answer_that_cannot_be_committed_leaves_the_command_in_flight_and_shown() -> None:
    async with open_desk() as desk:
        desk.tells(order())
        await set_status(desk, "ready")
        entry = await desk.keeper.sending(head(desk), now_ms=5)
        assert entry is not None
        desk.fault = CacheUnwritable("full")
        with pytest.raises(CacheUnwritable):
            await desk.keeper.answered(entry, desk.says(order(version=2, status="ready")).document)
        assert head(desk).state is OutboxState.IN_FLIGHT
        assert desk.shown().status == "ready"


async def test_an_answer_that_the_outbox_cannot_write_down_leaves_the_command_shown(tmp_path: Path) -> None:
    async with open_desk(tmp_path / "x.outbox.sqlite") as desk:
        desk.tells(order())
        await set_status(desk, "ready")
        await set_status(desk, "next")
        file = desk.keeper._journal.file
        assert file is not None
        file.close()
        with pytest.raises(CacheUnwritable):
            await desk.keeper.answered(head(desk), desk.says(order(version=2, status="ready")).document)
        assert (desk.names, desk.shown().version) == (["ready", "next"], 4)


async def test_a_refusal_rolls_back_keeps_the_command_and_tells() -> None:
    async with open_desk() as desk:
        desk.tells(order())
        sent = await set_status(desk, "ready")
        await set_status(desk, "next")
        now = order(version=5, status="gone")
        await desk.keeper.refused(head(desk), {**STALE, "current": {"order": now}})
        assert desk.names == ["next"]
        assert (desk.shown().status, desk.shown().version) == ("next", 6)
        with pytest.raises(CommandFailed) as failed:
            await sent.done(1)
        assert failed.value.current == {"order": now}
        (event,) = desk.arrivals
        assert (event["eventType"], event["orderID"]) == ("sync_failed", ORDER)
        assert event["data"] == {
            "command": "order.set_status", "key": sent.key, "given": {"orderID": ORDER, "status": "ready"},
            "problem": STALE, "current": {"order": now},
        }  # fmt: skip
        kept = desk.keeper.entries[sent.key]
        assert (kept.state, kept.problem) == (OutboxState.FAILED, {**STALE, "current": {"order": now}})


async def test_a_refusal_with_huge_documents_is_kept_without_them() -> None:
    async with open_desk() as desk:
        sent = await set_status(desk, "ready")
        await desk.keeper.refused(head(desk), {**STALE, "current": {"order": order(notes="x" * 100_000)}})
        assert desk.keeper.entries[sent.key].problem == STALE


async def test_what_is_done_twice_is_told_once() -> None:
    async with open_desk() as desk:
        await set_status(desk, "ready")
        entry = head(desk)
        await desk.keeper.refused(entry, STALE)
        await desk.keeper.refused(entry, STALE)
        ids = [event["id"] for event in desk.arrivals]
        assert len(set(ids)) == 1  # as one id the cache stores it once


# -- guards -----------------------------------------------------------------------------------------------


async def test_a_guarded_command_has_the_version_that_the_person_saw() -> None:
    async with open_desk() as desk:
        desk.tells(order(version=5))
        await edit(desk, "a")
        await set_status(desk, "s")
        await edit(desk, "b")
        assert guards(desk) == [5, None, 7]


async def test_a_guarded_command_about_what_is_not_here_goes_without_a_guard() -> None:
    async with open_desk() as desk:
        await edit(desk, "a")
        assert guards(desk) == [None]


async def test_any_command_can_be_guarded_by_hand() -> None:
    async with open_desk() as desk:
        desk.tells(order(version=5))
        await desk.keeper.submit(orders.set_status, given(orders.set_status, orderID=ORDER, status="s"), if_match=4)
        await edit(desk, "a", if_match=2)
        assert guards(desk) == [4, 2]


async def test_a_refusal_lowers_the_guards_that_counted_the_refused_command_in() -> None:
    async with open_desk() as desk:
        desk.tells(order(version=5))
        await set_status(desk, "s")  # 6
        await edit(desk, "a")  # given at 6: to be 7
        await edit(desk, "b")  # given at 7
        # Somebody else has made version 6; the first is refused. At 6 "a" would overwrite what nobody here has seen.
        await desk.keeper.refused(head(desk), {**STALE, "current": {"order": order(version=6, notes="theirs")}})
        assert guards(desk) == [5, 6]
        await desk.keeper.refused(head(desk), STALE)
        assert guards(desk) == [5]


async def test_a_guard_given_when_the_feed_was_faster_than_the_answer_means_what_was_seen() -> None:
    async with open_desk() as desk:
        desk.tells(order(version=1))
        await set_status(desk, "s")
        desk.tells(order(version=2, status="s"))  # our own, by the feed; the picture puts the command on top once more
        await edit(desk, "a")
        await edit(desk, "b")
        await desk.keeper.answered(head(desk), desk.says(order(version=2, status="s")).document)
        assert guards(desk) == [2, 3]


async def test_an_answer_does_not_make_a_guard_cover_what_somebody_else_did_meanwhile() -> None:
    async with open_desk() as desk:
        desk.tells(order(version=1))
        await set_status(desk, "s")
        await edit(desk, "a")  # at 2
        desk.tells(order(version=2, notes="theirs"))
        await desk.keeper.answered(head(desk), desk.says(order(version=3, status="s")).document)
        assert guards(desk) == [2]


async def test_what_was_made_here_is_known_by_the_version_that_the_server_gave_it() -> None:
    """There was one under that id, and it was deleted before this client heard of anything."""
    async with open_desk() as desk:
        await desk.keeper.submit(orders.create, given(orders.create, orderID=ORDER))
        await set_status(desk, "s")
        await edit(desk, "a")
        assert guards(desk) == [None, None, 2]
        await desk.keeper.answered(head(desk), desk.says(order(version=7)).document)
        assert guards(desk) == [None, 8]
        desk.tells(order(version=8, notes="theirs"))
        await desk.keeper.answered(head(desk), desk.says(order(version=9, status="s")).document)
        assert guards(desk) == [8]


async def test_an_answer_about_an_entry_makes_no_document() -> None:
    async with open_desk() as desk:
        desk.replica.apply(
            desk.replica.newer(desk.replica.of_answer({"queue": QUEUE, "cursor": "aaaaaaaa.1"}, at=None))
        )
        desk.tells(order(version=1, stage="initiated"))
        await desk.keeper.submit(waiting.enter, given(waiting.enter, queueID="q", orderID=ORDER))
        await desk.keeper.submit(queues.edit, given(queues.edit, queueID="q", name="N"), if_match=4)
        assert guards(desk) == [None, 4]
        answer = {"queue": QUEUE | {"version": 5}, "cursor": "aaaaaaaa.9"}  # somebody else has made version 4
        await desk.keeper.answered(head(desk), answer)
        assert guards(desk) == [4]


async def test_a_discard_lowers_guards_too() -> None:
    async with open_desk() as desk:
        desk.tells(order(version=5))
        first = await set_status(desk, "s")
        await edit(desk, "a")
        await desk.keeper.discard(first.key)
        assert guards(desk) == [5]


async def test_guards_survive_a_restart_with_what_they_lean_on(tmp_path: Path) -> None:
    path = tmp_path / "x.outbox.sqlite"
    async with open_desk(path) as desk:
        desk.tells(order(version=5))
        await set_status(desk, "s")
        await edit(desk, "a")
    async with open_desk(path) as desk:
        await desk.keeper.refused(head(desk), STALE)
        assert guards(desk) == [5]


# -- conflicts --------------------------------------------------------------------------------------------


async def test_a_hook_puts_another_input_in_the_same_place_under_a_new_key() -> None:
    async with open_desk() as desk:
        desk.tells(order(version=5, notes="old"))
        sent = await edit(desk, "mine")
        await set_status(desk, "later")
        told: list[Conflict] = []

        @Outbox(desk.keeper).on_conflict
        def merge(conflict: Conflict) -> dict[str, Any]:
            told.append(conflict)
            return {"notes": conflict.current["order"]["notes"] + " and mine"}

        key, now = sent.key, order(version=6, notes="theirs")
        assert await desk.keeper.rebased(head(desk), {**STALE, "current": {"order": now}})
        (conflict,) = told
        assert (conflict.name, conflict.given.notes, conflict.current) == ("order.edit", "mine", {"order": now})  # type: ignore[attr-defined]
        assert conflict.shown is not None
        assert (conflict.shown.notes, conflict.shown.status) == ("mine", "later")  # type: ignore[attr-defined]
        first = head(desk)
        assert (first.given.notes, first.command.guard, first.rebases) == ("theirs and mine", 6, 1)  # type: ignore[attr-defined]
        assert (first.key != key, sent.key) == (True, first.key)
        assert desk.names == ["", "later"]
        assert desk.shown().notes == "theirs and mine"
        await desk.keeper.answered(first, desk.says(order(version=7)).document)
        await sent.done(1)


async def test_a_guard_that_counted_in_a_rebased_command_is_lowered_when_that_one_fails() -> None:
    async with open_desk() as desk:
        desk.tells(order(version=5))
        await edit(desk, "a")
        await edit(desk, "b")  # at 6
        desk.keeper.hook = lambda conflict: {}
        await desk.keeper.rebased(head(desk), {**STALE, "current": {"order": order(version=6)}})
        await desk.keeper.refused(head(desk), STALE)
        assert guards(desk) == [5]  # at 6 it would match the version that somebody else has made


@pytest.mark.parametrize("gives_up", [None, {"notes": 7}, {"colour": "red"}, ZeroDivisionError()], ids=repr)
async def test_a_hook_that_gives_up_raises_or_gives_nonsense_leaves_the_refusal(gives_up: Any) -> None:
    async with open_desk() as desk:
        await edit(desk, "mine")

        async def hook(conflict: Conflict) -> Any:
            if isinstance(gives_up, Exception):
                raise gives_up
            return gives_up

        desk.keeper.hook = hook
        assert not await desk.keeper.rebased(head(desk), STALE)
        assert head(desk).given.notes == "mine"  # type: ignore[attr-defined]


# -- retry and discard ------------------------------------------------------------------------------------


async def test_a_retry_is_a_new_command_at_the_end_with_what_is_seen_now() -> None:
    async with open_desk() as desk:
        desk.tells(order(version=5))
        failed = await edit(desk, "again")
        await set_status(desk, "other")
        await desk.keeper.refused(head(desk), {**STALE, "current": {"order": order(version=6)}})
        sent = await desk.keeper.retry(failed.key)
        assert desk.names == ["other", ""]
        assert sent.key != failed.key
        assert guards(desk) == [None, 7]
        assert failed.key not in desk.keeper.entries
        assert desk.shown().notes == "again"


async def test_only_what_has_failed_can_be_retried_and_only_what_is_there_discarded() -> None:
    async with open_desk() as desk:
        sent = await set_status(desk, "s")
        with pytest.raises(ClientError, match="has not failed"):
            await desk.keeper.retry(sent.key)
        with pytest.raises(ClientError, match="no command with the key nope"):
            await desk.keeper.discard("nope")


async def test_a_discarded_command_is_not_shown_any_more_and_its_giver_hears_of_it() -> None:
    async with open_desk() as desk:
        desk.tells(order())
        sent = await set_status(desk, "s")
        await desk.keeper.discard(sent.key)
        assert desk.shown().status is None
        with pytest.raises(CommandFailed, match="discarded"):
            await sent.done(1)


async def test_what_was_discarded_on_its_way_is_not_taken_for_the_next_one() -> None:
    """Which of the two an event of our own is of, nobody knows until an answer comes."""
    async with open_desk() as desk:
        desk.tells(order(version=1))
        first = await set_status(desk, "a")
        later = [await set_status(desk, text) for text in "bc"]
        assert desk.keeper.in_flight is None
        await desk.keeper.sending(head(desk), now_ms=1)
        assert desk.keeper.in_flight == first.key
        await desk.keeper.discard(first.key)
        await desk.keeper.sending(head(desk), now_ms=2)
        assert desk.keeper.in_flight is None
        await desk.keeper.answered(head(desk), desk.says(order(version=3)).document)
        await desk.keeper.sending(head(desk), now_ms=3)
        assert desk.keeper.in_flight == later[1].key


async def test_an_answer_to_a_command_that_was_discarded_meanwhile_is_news_all_the_same() -> None:
    async with open_desk() as desk:
        desk.tells(order())
        sent = await set_status(desk, "s")
        entry = await desk.keeper.sending(head(desk), now_ms=5)
        assert entry is not None
        await desk.keeper.discard(sent.key)
        assert await desk.keeper.sending(entry, now_ms=6) is None
        await desk.keeper.answered(entry, desk.says(order(version=2, status="s")).document)
        await desk.keeper.refused(entry, STALE)
        assert desk.shown().status == "s"
        assert not desk.keeper.entries


# -- restarts, closing ------------------------------------------------------------------------------------


async def test_the_fate_of_what_was_in_flight_is_unsettled_until_the_server_has_said_it(tmp_path: Path) -> None:
    path = tmp_path / "x.outbox.sqlite"
    async with open_desk(path) as desk:
        await set_status(desk, "a")
        await set_status(desk, "b")
        await desk.keeper.sending(head(desk), now_ms=5)
        assert not desk.keeper.unsettled
    async with open_desk(path) as desk:
        assert desk.keeper.unsettled
        looks: list[bool] = []
        desk.replica.changed = lambda: looks.append(desk.keeper.unsettled)
        await desk.keeper.answered(head(desk), desk.says(order(version=2)).document)
        assert not desk.keeper.unsettled
        assert looks[-1] is False  # whoever shows whether it is fresh looks again


async def test_whoever_waits_hears_that_the_client_was_closed(tmp_path: Path) -> None:
    async with open_desk(tmp_path / "x.outbox.sqlite") as desk:
        sent = await set_status(desk, "a")
        waiting = [asyncio.create_task(sent.done()), asyncio.create_task(Outbox(desk.keeper).flush())]
        await asyncio.sleep(0)
    for task in waiting:
        with pytest.raises(Closed):
            await asyncio.wait_for(task, 1)
    with pytest.raises(Closed):
        await set_status(desk, "b")


async def test_flush_waits_for_the_last_answer() -> None:
    async with open_desk() as desk:
        outbox = Outbox(desk.keeper)
        await outbox.flush(1)
        await set_status(desk, "a")
        with pytest.raises(TimeoutError):
            await outbox.flush(0.01)
        flushing = asyncio.create_task(outbox.flush(5))
        await asyncio.sleep(0)
        await desk.keeper.answered(head(desk), desk.says(order(version=2)).document)
        await flushing
        assert (len(outbox), list(outbox)) == (0, [])


async def test_a_damaged_outbox_is_told_in_every_way_there_is(tmp_path: Path) -> None:
    path = tmp_path / "x.outbox.sqlite"
    path.write_bytes(b"scrap" * 1000)
    async with open_desk(path) as desk:
        await desk.keeper.tell()
        (event,) = desk.arrivals
        assert (event["eventType"], event["data"]["problem"]["type"]) == ("sync_failed", "outbox-damaged")
        assert "x.outbox.sqlite.damaged-1" in desk.notes[0]
        await set_status(desk, "a")
    async with open_desk(path) as desk:
        await desk.keeper.tell()
        assert desk.arrivals == []
        assert "x.outbox.sqlite.damaged-1" in desk.notes[0]  # until somebody takes it away
        assert desk.names == ["a"]


async def test_an_outbox_that_cannot_be_opened_is_opened_as_soon_as_it_can(tmp_path: Path) -> None:
    path = tmp_path / "x.outbox.sqlite"
    async with open_desk(path) as desk:
        await set_status(desk, "earlier")
        await desk.keeper.sending(head(desk), now_ms=5)
    aside = path.rename(tmp_path / "aside")
    path.mkdir()
    desk = Desk()
    with pytest.raises(CacheUnwritable):
        await desk.keeper.open(path)
    with pytest.raises(CacheUnwritable):  # it would be in memory only, and nobody would know
        await set_status(desk, "lost")
    assert (desk.keeper.unsettled, desk.keeper.next()) == (True, None)
    path.rmdir()
    aside.rename(path)
    await set_status(desk, "now")
    assert desk.names == ["earlier", "now"]
    assert desk.keeper.unsettled
    await desk.keeper.aclose()


async def test_damage_in_use_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.outbox.sqlite"
    async with open_desk(path) as desk:
        for n in range(30):
            await set_status(desk, f"s{n}")
        file = desk.keeper._journal.file
        assert file is not None
        file._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 60_000)
        file._db.execute("PRAGMA cache_size = 0")
        await set_status(desk, "last")
        assert "written anew" in desk.notes[0]
    async with open_desk(path) as desk:
        assert desk.names == [*(f"s{n}" for n in range(30)), "last"]


def test_a_keeper_is_made_outside_of_any_event_loop() -> None:
    OutboxKeeper(
        DOMAIN, picture=lambda: Desk(), post=Desk().post, may_send=lambda: True, wall_ms=lambda: 0, note=print
    )  # fmt: skip
