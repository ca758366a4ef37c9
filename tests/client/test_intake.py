"""The way in: whatever a server sends, over whichever transport, each event is stored once, and the cursor moves on."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_client.cache import SQLiteCache
from sync_client.errors import CacheUnwritable, NotAStream
from sync_client.intake import Intake, Resync
from sync_client.keeper import Keeper
from sync_client.memory import MemoryCache
from sync_client.notes import Taken
from sync_client.records import Batch, Mark, Saved
from sync_core.cursor import EARLIEST, Cursor
from sync_core.filters import Filter
from sync_core.sse import ServerSentEvent

EPOCH = "aaaaaaaa"


async def make(
    *, saved: Saved | None = None, resync: Resync = Resync.EARLIEST, filter_: Filter | None = None
) -> tuple[Intake, MemoryCache]:
    keeper = Keeper(MemoryCache, threaded=False)
    await keeper.open()
    assert isinstance(keeper.cache, MemoryCache)
    intake = new_intake(keeper, saved or Saved(), resync=resync, filter_=filter_)
    await intake.open()
    return intake, keeper.cache


def new_intake(
    keeper: Keeper, saved: Saved, *, resync: Resync = Resync.EARLIEST, filter_: Filter | None = None
) -> Intake:
    return Intake(
        keeper, saved, filter_=filter_ or Filter(), start="now", resync=resync, behind_bytes=10**9,
        clock=lambda: 0.0, news=lambda: None, wants=lambda kind: False,
    )  # fmt: skip


def envelope(n: int, *, epoch: str = EPOCH, order: str = "A") -> dict[str, Any]:
    return {"id": f"{epoch}.{n}", "eventType": "stage_change", "data": {"n": n}, "orderID": order}


def event(n: int, *, epoch: str = EPOCH, order: str = "A") -> ServerSentEvent:
    text = json.dumps(envelope(n, epoch=epoch, order=order), separators=(",", ":"))
    return ServerSentEvent("stage_change", text, f"{epoch}.{n}")


def control(kind: str, event_id: str, **data: Any) -> ServerSentEvent:
    return ServerSentEvent(kind, json.dumps(data), event_id)


def page(first: int, last: int, *, head: int) -> dict[str, Any]:
    events = [envelope(n) for n in range(first, last + 1)]
    return {"events": events, "cursor": f"{EPOCH}.{last}", "head": f"{EPOCH}.{head}", "upToDate": last == head}


def stored(cache: MemoryCache) -> list[str | None]:
    return [record.id for record in cache.events(limit=10**6)]


async def test_hidden_events_move_the_cursor() -> None:
    intake, cache = await make()
    await intake.take([], last_event_id=f"{EPOCH}.500")
    assert intake.received == cache.load().cursor == f"{EPOCH}.500"


async def test_the_cursor_does_not_go_back() -> None:
    intake, _ = await make(saved=Saved(cursor=f"{EPOCH}.10", filter="{}"))
    await intake.take([event(5)], last_event_id=f"{EPOCH}.5")
    await intake.take_page(page(3, 7, head=20))
    assert intake.received == f"{EPOCH}.10"
    assert intake.facts.duplicates == 6


async def test_events_of_another_epoch_without_a_reset_do_not_move_it_either() -> None:
    intake, _ = await make(saved=Saved(cursor=f"{EPOCH}.10", filter="{}"))
    await intake.take([event(11, epoch="bbbbbbbb")], last_event_id="bbbbbbbb.11")
    assert intake.received == f"{EPOCH}.10"


OTHER = "bbbbbbbb"


async def reset_stream(intake: Intake, head: int, *more: ServerSentEvent, reason: str = "epoch") -> Taken:
    """A stream whose server sends a reset to *head*, and *more*."""
    intake.stream_begins()
    cursor = f"{OTHER}.{head}"
    opening = [control("connected", cursor, cursor=cursor, head=cursor, resume="reset")]
    opening.append(control("reset", cursor, reason=reason, head=cursor))
    return await intake.take([*opening, *more], last_event_id=more[-1].id if more else cursor)


async def good_stream(intake: Intake, cursor: str, *events: ServerSentEvent) -> Taken:
    """A stream that begins where it was asked to, and catches up."""
    intake.stream_begins()
    opening = control("connected", cursor, cursor=cursor, head=cursor, resume="start")
    end = events[-1].id if events else cursor
    return await intake.take([opening, *events, control("caught_up", end)], last_event_id=end)


async def test_a_reset_on_top_of_a_reset_ends_at_head() -> None:
    intake, cache = await make(saved=Saved(cursor=f"{EPOCH}.10", filter="{}"))
    assert (await reset_stream(intake, 7)).reopen == "epoch"
    assert (intake.cursor, cache.load().cursor, cache.load().resync) == (EARLIEST, EARLIEST, "epoch")
    assert (await reset_stream(intake, 7)).reopen is None
    assert intake.cursor == cache.load().cursor == f"{OTHER}.7"


async def test_a_row_of_resets_goes_back_to_the_earliest_event_once() -> None:
    intake, _ = await make(saved=Saved(cursor=f"{EPOCH}.10", filter="{}"))
    caught_up = control("caught_up", f"{OTHER}.99")  # at the head, which says nothing of where we were
    taken = [await reset_stream(intake, head, caught_up) for head in range(1, 8)]
    assert [t.reopen for t in taken] == ["epoch"] + [None] * 6
    assert [t.contradicted for t in taken] == [False] + [True] * 6


async def test_410s_and_resets_are_one_row() -> None:
    intake, _ = await make(saved=Saved(cursor=f"{EPOCH}.10", filter="{}"))
    assert (await intake.lose_cursor({"reason": "epoch", "head": f"{OTHER}.1"})).reopen == "epoch"
    assert (await reset_stream(intake, 2)).reopen is None
    assert (await intake.lose_cursor({"reason": "epoch", "head": f"{OTHER}.3"})).reopen is None
    assert intake.cursor == f"{OTHER}.3"


async def test_a_reset_after_an_event_goes_back_again() -> None:
    intake, _ = await make(saved=Saved(cursor=f"{EPOCH}.10", filter="{}"))
    await reset_stream(intake, 7)
    assert (await reset_stream(intake, 7, event(8, epoch=OTHER))).reopen is None
    assert (await reset_stream(intake, 9)).reopen == "epoch"


async def test_a_reset_after_a_quiet_but_good_stream_goes_back_again() -> None:
    intake, _ = await make(saved=Saved(cursor=f"{EPOCH}.10", filter="{}"))
    await reset_stream(intake, 7)
    await good_stream(intake, f"{OTHER}.7")
    assert (await reset_stream(intake, 90, reason="expired")).reopen == "expired"


async def test_a_reset_after_a_good_poll_goes_back_again() -> None:
    intake, _ = await make(saved=Saved(cursor=f"{EPOCH}.10", filter="{}"))
    await intake.lose_cursor({"reason": "epoch", "head": f"{OTHER}.1"})
    await intake.take_page({"events": [], "cursor": f"{OTHER}.1", "head": f"{OTHER}.1", "upToDate": True})
    assert (await intake.lose_cursor({"reason": "epoch", "head": f"{OTHER}.1"})).reopen == "epoch"


async def test_listeners_are_told_of_a_reset_to_the_same_head_once() -> None:
    intake, cache = await make(saved=Saved(cursor=f"{EPOCH}.10", filter="{}"))
    for _ in range(3):
        await reset_stream(intake, 7)
        await intake.resync_done(1)
    assert (intake.facts.resets, intake.resync_reason, cache.load().resync) == (1, "", "")
    await reset_stream(intake, 8)
    assert (intake.facts.resets, intake.resync_reason, cache.load().resync) == (2, "epoch", "epoch")


async def test_a_reset_that_repeats_one_that_was_not_told_yet_leaves_it_due() -> None:
    intake, cache = await make(saved=Saved(cursor=f"{EPOCH}.10", filter="{}"))
    for _ in range(3):
        await reset_stream(intake, 7)
    assert (intake.resync_reason, cache.load().resync) == ("epoch", "epoch")
    await intake.resync_done(1)
    assert (intake.resync_reason, cache.load().resync) == ("", "")


async def test_a_reset_while_listeners_are_told_of_another_is_still_due_after_them() -> None:
    intake, cache = await make(saved=Saved(cursor=f"{EPOCH}.10", filter="{}"))
    await reset_stream(intake, 7)
    await reset_stream(intake, 9, reason="expired")
    await intake.resync_done(1)
    assert (intake.resync_reason, cache.load().resync) == ("expired", "expired")


async def test_a_resync_that_is_due_is_due_in_the_next_life() -> None:
    intake, _ = await make(saved=Saved(cursor=EARLIEST, filter="{}", resync="epoch"))
    assert (intake.resync_reason, intake.cursor) == ("epoch", EARLIEST)
    await good_stream(intake, f"{OTHER}.5", event(6, epoch=OTHER))
    assert (intake.resync_reason, intake.received) == ("epoch", f"{OTHER}.6")


async def test_going_on_at_head_is_no_loop_either() -> None:
    intake, _ = await make(saved=Saved(cursor=f"{EPOCH}.10", filter="{}"), resync=Resync.NOW)
    taken = [await reset_stream(intake, head) for head in (7, 8, 9)]
    assert [(t.reopen, t.contradicted) for t in taken] == [(None, False), (None, True), (None, True)]
    assert intake.cursor == f"{OTHER}.9"


class FullDisk(MemoryCache):
    """Takes nothing while *is_full*. *cursors*: what a kill after each commit would have left."""

    is_full = False

    def __init__(self) -> None:
        super().__init__()
        self.cursors: list[str | None] = []

    def commit(self, batch: Batch) -> int:
        if self.is_full:
            raise CacheUnwritable("full")
        new = super().commit(batch)
        self.cursors.append(self.load().cursor)
        return new


async def on_full_disk(saved: Saved) -> tuple[Intake, FullDisk]:
    keeper = Keeper(FullDisk, threaded=False)
    await keeper.open()
    assert isinstance(keeper.cache, FullDisk)
    intake = new_intake(keeper, saved)
    await intake.open()
    return intake, keeper.cache


async def test_a_reset_that_cannot_be_written_is_taken_up_when_it_can() -> None:
    intake, cache = await on_full_disk(Saved(cursor=f"{EPOCH}.10", filter="{}"))
    cache.is_full = True
    with pytest.raises(CacheUnwritable):
        await reset_stream(intake, 7)
    assert (intake.cursor, intake.facts.resets, intake.resync_reason) == (f"{EPOCH}.10", 0, "")
    cache.is_full = False
    assert (await reset_stream(intake, 7)).reopen == "epoch"
    assert (intake.cursor, intake.facts.resets) == (EARLIEST, 1)


async def test_other_rights_that_cannot_be_written_are_noticed_when_they_can() -> None:
    intake, cache = await on_full_disk(Saved(cursor=f"{EPOCH}.10", filter="{}", access="mine"))
    connected = control("connected", f"{EPOCH}.10", cursor=f"{EPOCH}.10", access="yours")
    cache.is_full = True
    with pytest.raises(CacheUnwritable):
        await intake.take([connected], last_event_id=f"{EPOCH}.10")
    cache.is_full = False
    assert (await intake.take([connected], last_event_id=f"{EPOCH}.10")).reopen == "access"
    assert cache.load().access == "yours"


async def test_other_rights_on_a_stream_from_the_earliest_event_need_no_other_stream() -> None:
    saved = Saved(cursor=EARLIEST, filter="{}", access="mine", resync="filter")
    intake, cache = await on_full_disk(saved)
    intake.stream_begins()
    connected = control("connected", f"{EPOCH}.3", cursor=f"{EPOCH}.3", access="yours", resume="start")
    taken = await intake.take([connected], last_event_id=f"{EPOCH}.3")
    assert (taken.reopen, intake.received, cache.load().cursor) == (None, f"{EPOCH}.3", f"{EPOCH}.3")
    assert (cache.load().access, intake.resync_reason) == ("yours", "access")
    await intake.take([event(4)], last_event_id=f"{EPOCH}.4")
    assert stored(cache) == [f"{EPOCH}.4"]
    assert set(cache.cursors) == {f"{EPOCH}.3", f"{EPOCH}.4"}, "a kill in between would begin at the wrong place"


async def test_a_server_that_changes_between_two_logs_hands_out_nothing_twice() -> None:
    intake, cache = await make(saved=Saved(cursor=f"{EPOCH}.0", filter="{}"))
    await intake.take([event(1), event(2)], last_event_id=f"{EPOCH}.2")
    seen = []
    for epoch in (OTHER, EPOCH, OTHER, EPOCH):
        reset = control("reset", f"{epoch}.2", reason="epoch", head=f"{epoch}.2")
        intake.stream_begins()
        assert (await intake.take([reset], last_event_id=f"{epoch}.2")).reopen == "epoch"
        await good_stream(intake, f"{epoch}.0", event(1, epoch=epoch), event(2, epoch=epoch))
        waiting = cache.waiting(after=0, limit=99)
        seen += [record.id for record in waiting]
        cache.mark([record.n for record in waiting], Mark.PROCESSED)
        cache.trim(now_ms=0, max_age_s=0, max_events=0)  # no id is remembered
    assert seen == [f"{EPOCH}.1", f"{EPOCH}.2", f"{OTHER}.1", f"{OTHER}.2"]


async def test_events_before_a_reset_in_one_chunk_are_kept() -> None:
    intake, cache = await make(saved=Saved(cursor=f"{EPOCH}.10", filter="{}"), resync=Resync.NOW)
    chunk = [event(11), control("reset", "bbbbbbbb.7", reason="epoch", head="bbbbbbbb.7"), event(8, epoch="bbbbbbbb")]
    await intake.take(chunk, last_event_id="bbbbbbbb.8")
    assert stored(cache) == [f"{EPOCH}.11", "bbbbbbbb.8"]
    assert (intake.received, intake.resync_reason) == ("bbbbbbbb.8", "epoch")


async def test_a_commit_that_has_begun_is_finished_though_its_task_is_cancelled() -> None:
    intake, _ = await make()
    task = asyncio.create_task(intake.take([event(1)], last_event_id=f"{EPOCH}.1"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await intake.take([event(1), event(2)], last_event_id=f"{EPOCH}.2")
    assert intake.facts.events == 2


NO_EVENTS = [
    "not json", "[]", "5", '"text"', "", "{}", '{"id":', '{"id":"aaaaaaaa.1","data":5}', "[" * 100_000,
    '{"id":"aaaaaaaa.1","data":{"n":' + "9" * 5000 + "}}", '{"id":"aaaaaaaa.7","data":{}}',
]  # fmt: skip


@pytest.mark.parametrize("text", NO_EVENTS, ids=lambda text: text[:30])
async def test_what_is_no_event_is_kept_aside_and_the_feed_goes_on_behind_it(text: str) -> None:
    intake, cache = await make()
    bad = ServerSentEvent("stage_change", text, f"{EPOCH}.1")
    await intake.take([bad, event(2)], last_event_id=f"{EPOCH}.2")
    assert intake.received == f"{EPOCH}.2"
    assert [record.id for record in cache.waiting(after=0, limit=9)] == [f"{EPOCH}.2"]
    (kept,) = cache.events(limit=9, mark=Mark.PARKED)
    assert kept.event_type == "stage_change"
    assert json.loads(kept.envelope)["data"] == {"malformed": text[:16384]}
    assert (intake.facts.malformed, cache.backlog, cache.parked) == (1, 1, 1)


async def test_what_is_no_event_is_kept_once_however_often_it_comes() -> None:
    intake, cache = await make()
    for n in (1, 1, 2):
        await intake.take([ServerSentEvent("x", "junk", f"{EPOCH}.{n}")], last_event_id=f"{EPOCH}.{n}")
    assert len(stored(cache)) == 1


@pytest.mark.parametrize(
    "junk",
    [5, None, [], "x", {}, {"id": 5, "eventType": "x", "data": {}}, {"id": f"{EPOCH}.2", "eventType": "x"},
     {"id": f"{EPOCH}.2", "eventType": "\ud800", "data": {}}, {"id": "\ud800", "eventType": "x", "data": {}}],
)  # fmt: skip
async def test_what_is_no_event_in_a_page_is_kept_aside_and_the_page_is_taken(junk: Any) -> None:
    intake, cache = await make()
    answer = page(1, 3, head=3)
    answer["events"][1] = junk
    await intake.take_page(answer)
    assert intake.received == f"{EPOCH}.3"
    assert [record.id for record in cache.waiting(after=0, limit=9)] == [f"{EPOCH}.1", f"{EPOCH}.3"]
    (kept,) = cache.events(limit=9, mark=Mark.PARKED)
    assert json.loads(json.loads(kept.envelope)["data"]["malformed"]) == junk


async def test_half_a_character_can_be_stored_wherever_it_stands(tmp_path: Path) -> None:
    keeper = Keeper(lambda: SQLiteCache(tmp_path / "c.db"), threaded=True)
    await keeper.open()
    intake = new_intake(keeper, Saved(access="mine"), resync=Resync.NOW)
    answer = page(1, 1, head=1)
    answer["events"][0]["data"]["name"] = half = "\ud83d"
    try:
        await intake.take_page(answer)
        (record,) = await keeper.run(keeper.cache.waiting, after=0, limit=9)
        broken = control("connected", "", cursor=half, access=half), control("reset", "", reason=half, head=half)
        await intake.take(broken, last_event_id="")
        await intake.lose_cursor({"reason": half, "head": half})
        assert (await keeper.run(keeper.cache.load)).resync == "?"
    finally:
        await keeper.aclose()
    assert json.loads(record.envelope)["data"]["name"] == half


@pytest.mark.parametrize("age", ["NaN", "Infinity", "-5", "1" + "0" * 400, '"x"', "null", "[]"])
async def test_an_age_that_is_none_changes_nothing(age: str) -> None:
    intake, _ = await make()
    await intake.take([ServerSentEvent("heartbeat", '{"tailAgeMs": 2000}', f"{EPOCH}.1")], last_event_id=f"{EPOCH}.1")
    bad = ServerSentEvent("heartbeat", f'{{"tailAgeMs": {age}}}', f"{EPOCH}.2")
    await intake.take([bad, event(3)], last_event_id=f"{EPOCH}.3")
    await intake.take_page({**page(4, 4, head=4), "tailAgeMs": json.loads(age)})
    assert intake.facts.tail_age_s in (2, 0)
    assert intake.received == f"{EPOCH}.4"


@pytest.mark.parametrize("kind", ["connected", "heartbeat", "goodbye", "reset", "removed"])
@pytest.mark.parametrize("junk", ["not json", "[]", '{"heartbeatSeconds": "x", "cursor": 5, "head": null}'])
async def test_nonsense_in_control_events_is_survived(kind: str, junk: str) -> None:
    intake, _ = await make()
    await intake.take([ServerSentEvent(kind, junk, f"{EPOCH}.1")], last_event_id=f"{EPOCH}.1")
    await intake.take([event(2)], last_event_id=f"{EPOCH}.2")


@pytest.mark.parametrize("broken", [{}, {"events": 5, "cursor": f"{EPOCH}.1"}, {"events": [], "cursor": "x"},
                                    {"events": [], "cursor": 5}])  # fmt: skip
async def test_a_page_that_is_none_is_refused_whole(broken: dict[str, Any]) -> None:
    intake, cache = await make()
    with pytest.raises(NotAStream):
        await intake.take_page(broken)
    assert (stored(cache), intake.received) == ([], "")


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), retains=st.booleans())
def test_any_course_stores_each_event_once_and_never_goes_back(seed: int, retains: bool) -> None:
    """A server that grows; streams and polls from our cursor that overlap, end anywhere, and repeat themselves."""
    rng = random.Random(seed)

    async def course() -> None:
        intake, cache = await make(saved=Saved(cursor=f"{EPOCH}.0", filter="{}"))
        head, seen, overlapping = 0, [], []
        for _ in range(60):
            head += rng.randrange(4)
            before = Cursor.parse(intake.received)
            overlapping = [*overlapping[-2:], before.seq]
            start = rng.choice([before.seq, *overlapping])  # an older request's answer may still come
            last = rng.randint(start, head)
            if rng.random() < 0.5:
                chunk = [event(n) for n in range(start + 1, last + 1)]
                await intake.take(chunk, last_event_id=f"{EPOCH}.{last}")
            else:
                await intake.take_page(page(start + 1, last, head=head))
            after = Cursor.parse(intake.received)
            assert (after.epoch, after.seq >= before.seq) == (EPOCH, True)
            assert cache.load().cursor in (str(after), None if after.seq == 0 else str(after))
            waiting = cache.waiting(after=0, limit=10**6)
            seen += [record.id for record in waiting]
            if retains:
                cache.mark([record.n for record in waiting], Mark.PROCESSED)
                cache.trim(now_ms=0, max_age_s=0, max_events=0)  # no id is remembered: the cursor alone decides
            else:
                cache.mark([record.n for record in waiting], Mark.PROCESSED)
        assert seen == [f"{EPOCH}.{n}" for n in range(1, Cursor.parse(intake.received).seq + 1)]

    asyncio.run(course())
