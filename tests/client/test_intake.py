"""The way in: whatever a server sends, over whichever transport, each event is stored once, and the cursor moves on."""

import asyncio
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_client.errors import NotAStream
from sync_client.intake import Intake, Resync
from sync_client.keeper import Keeper
from sync_client.memory import MemoryCache
from sync_client.records import Mark, Saved
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
    intake = Intake(
        keeper, saved or Saved(), filter_=filter_ or Filter(), start="now", resync=resync, behind_bytes=10**9,
        clock=lambda: 0.0, news=lambda: None, wants=lambda kind: False,
    )  # fmt: skip
    await intake.open()
    return intake, keeper.cache


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


async def test_a_reset_on_top_of_a_reset_ends_at_head() -> None:
    intake, cache = await make(saved=Saved(cursor=f"{EPOCH}.10", filter="{}"))
    reset = control("reset", "bbbbbbbb.7", reason="epoch", head="bbbbbbbb.7")
    intake.stream_begins()
    assert (await intake.take([reset], last_event_id="bbbbbbbb.7")).reopen == "epoch"
    assert (intake.cursor, cache.load().cursor, cache.load().resync) == (EARLIEST, EARLIEST, "epoch")
    intake.stream_begins()
    assert (await intake.take([reset], last_event_id="bbbbbbbb.7")).reopen is None
    assert intake.cursor == "bbbbbbbb.7"


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


@pytest.mark.parametrize("junk", ["not json", "[]", "5", '"text"', ""])
async def test_an_event_that_is_no_object_is_left_out_and_the_rest_is_not(junk: str) -> None:
    intake, cache = await make()
    bad = ServerSentEvent("stage_change", junk, f"{EPOCH}.1")
    await intake.take([bad, event(2)], last_event_id=f"{EPOCH}.2")
    assert stored(cache) == [f"{EPOCH}.2"]


@pytest.mark.parametrize("kind", ["connected", "heartbeat", "goodbye", "reset", "removed"])
@pytest.mark.parametrize("junk", ["not json", "[]", '{"heartbeatSeconds": "x", "cursor": 5, "head": null}'])
async def test_nonsense_in_control_events_is_survived(kind: str, junk: str) -> None:
    intake, _ = await make()
    await intake.take([ServerSentEvent(kind, junk, f"{EPOCH}.1")], last_event_id=f"{EPOCH}.1")
    await intake.take([event(2)], last_event_id=f"{EPOCH}.2")


@pytest.mark.parametrize("broken", [{}, {"events": 5, "cursor": f"{EPOCH}.1"}, {"events": [], "cursor": "x"},
                                    {"events": [{"id": 5}], "cursor": f"{EPOCH}.1"}])  # fmt: skip
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
