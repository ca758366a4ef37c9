"""The polling endpoint over real HTTP, on both stores."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sync_server.feed import poll as poll_module
from sync_server.feed.pages import PAGE_EVENTS
from sync_server.log.open import new_epoch
from sync_server.log.records import NewEvent, Reach, StoredEvent
from sync_server.log.sqlite import SQLiteLog
from tests.feed.conftest import Start
from tests.feed.hubs import bench, poll_page
from tests.log.writes import commit, submission, texts
from tests.serving import Served, stage_change
from tests.streams import eventually, seqs, stream


async def poll(served: Served, *, headers: dict[str, str] | None = None, **parameters: Any) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=served.url, timeout=40, trust_env=False) as client:
        return await client.get("/api/v1/sync/poll", params=parameters, headers=headers)


def seq_of(cursor: str) -> int:
    return int(cursor.partition(".")[2])


async def page(served: Served, **parameters: Any) -> dict[str, Any]:
    reply = await poll(served, **parameters)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


async def poll_through(served: Served, **parameters: Any) -> list[dict[str, Any]]:
    """All events behind ``after``, page by page, until up to date."""
    events: list[dict[str, Any]] = []
    while True:
        found = await page(served, **parameters)
        events += found["events"]
        parameters["after"] = found["cursor"]
        if found["upToDate"]:
            return events


async def test_without_a_cursor_it_starts_now(start: Start) -> None:
    async with start() as served:
        ids = await served.stages(3)
        found = await page(served)
        assert found["events"] == []
        assert found["cursor"] == found["head"] == ids[-1]
        assert found["upToDate"] is True
        assert found["hasMore"] is False
        assert found["pollAfterMs"] > 0
        assert found["serverTime"].endswith("Z")
        await served.stages(1, first=3)
        assert seqs((await page(served, after=found["cursor"]))["events"]) == [4]


async def test_pages_end_at_the_limit_and_go_on_at_their_cursor(start: Start) -> None:
    async with start() as served:
        await served.stages(25)
        first = await page(served, after="earliest", limit=10)
        assert seqs(first["events"]) == list(range(1, 11))
        assert (first["hasMore"], first["upToDate"], first["pollAfterMs"]) == (True, False, 0)
        assert seqs(await poll_through(served, after="earliest", limit=10)) == list(range(1, 26))


async def test_stream_poll_and_long_poll_give_the_same(start: Start) -> None:
    async with start() as served:
        await served.stages(1300, order="A")
        await served.stages(700, order="B")
    async with start() as served:
        for parameters in ({}, {"orderID": "B"}, {"eventTypes": "stage_change", "orderID": "A,C"}):
            polled = await poll_through(served, after="earliest", **parameters)
            waited = await poll_through(served, after="earliest", wait=0.2, **parameters)
            async with stream(served.port, lastEventId="earliest", **parameters) as opened:
                await opened.until("caught_up")
            assert opened.envelopes == polled == waited


async def test_a_page_scans_at_most_so_much_and_moves_on_without_events(
    start_sqlite: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll_module, "MAX_SCAN_S", 30.0)  # on a busy machine the time would end it first
    async with start_sqlite() as served:
        await served.stages(poll_module.MAX_SCANNED + 10)
        found = await page(served, after="earliest", orderID="nobody")
        assert found["events"] == []
        assert found["hasMore"] is True
        assert found["cursor"].endswith(f".{poll_module.MAX_SCANNED}")
        assert (await page(served, after=found["cursor"], orderID="nobody"))["upToDate"] is True


class SlowLog(SQLiteLog):
    """On a disk that takes its time."""

    async def read(self, tenant: str, *, after: int, limit: int) -> list[StoredEvent]:
        await asyncio.sleep(0.06)
        return await super().read(tenant, after=after, limit=limit)


async def test_a_page_is_bounded_by_the_time_it_takes_to_look(tmp_path: Path) -> None:
    async with bench(tmp_path, events=5000, log_class=SlowLog) as on:
        assert 5000 / PAGE_EVENTS * 0.06 > 2 * poll_module.MAX_SCAN_S
        found = await poll_page(on.hub, "after=earliest&orderID=nobody")
        assert (found["events"], found["hasMore"], found["upToDate"]) == ([], True, False)
        assert 0 < seq_of(found["cursor"]) < 5000


async def test_a_page_is_bounded_by_its_bytes(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        for n in range(10):
            await served.publish(stage_change(n, data={"newStage": "x", "n": n, "text": "ü" * 100_000}))
        found = await page(served, after="earliest")
        assert 1 <= len(found["events"]) < 10
        events = await poll_through(served, after="earliest")
        assert [e["data"]["n"] for e in events] == list(range(10))


async def test_a_long_poll_waits_for_the_first_visible_event(start: Start) -> None:
    async with start() as served:
        head = (await page(served))["cursor"]
        waiting = asyncio.create_task(page(served, after=head, wait=20, orderID="A"))
        hub = await served.hub()
        await eventually(lambda: any(channel.waiters for channel in hub.channels))
        await served.stages(3, order="B")
        await served.stages(1, order="A")
        found = await waiting
        assert seqs(found["events"]) == [4]
        assert not len(hub.channels)


async def test_a_long_poll_is_told_at_once_that_the_log_was_replaced(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        await served.stages(3)
        head = (await page(served))["cursor"]
        waiting = asyncio.create_task(poll(served, after=head, wait=30))
        hub = await served.hub()
        await eventually(lambda: any(channel.waiters for channel in hub.channels))
        await served.application.event_log.new_epoch("default", new_epoch())
        async with asyncio.timeout(10):
            reply = await waiting
        assert reply.status_code == 410
        assert reply.json()["reason"] == "epoch"


async def test_a_cursor_is_never_beyond_the_head_that_is_known(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        await served.stages(10)
    async with start_sqlite() as served:
        hub = await served.hub()
        await commit(served.application.event_log, texts(*"abcde"), tenant="default")  # unknown to the hub as yet
        first = await page(served, after=hub.cursor_text(0))
        assert seq_of(first["cursor"]) <= seq_of(first["head"])
        await eventually(lambda: hub.tail.seq == 15)
        rest = await poll_through(served, after=first["cursor"])
        assert seqs(first["events"] + rest) == list(range(1, 16))


async def test_a_long_poll_ends_empty_when_its_time_is_over(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        found = await page(served, wait=0.3)
        assert found["events"] == []
        assert found["upToDate"] is True


async def test_echo_is_hidden_and_the_cursor_moves(start: Start) -> None:
    async with start() as served:
        await served.publish(stage_change(0), stage_change(1), client_id="till-1")
        found = await page(served, after="earliest", clientID="till-1")
        assert found["events"] == []
        assert found["cursor"] == found["head"]
        assert len((await page(served, after="earliest", clientID="till-2"))["events"]) == 2


async def test_latest_is_thinned_in_a_page_after_the_echo_is_hidden(start_sqlite: Start) -> None:
    custom = [{"name": "position", "delivery": "latest", "entity": "bayID"}]
    callers = ("till-2", "till-2", "till-1")
    batch = [
        {"eventType": "position", "data": {"n": n}, "bayID": "1", "clientID": caller}
        for n, caller in enumerate(callers)
    ]
    async with start_sqlite(events={"custom": custom}) as served:
        await served.publish(*batch)
        for client_id, expected in (("till-1", [2]), ("till-2", [3]), ("till-3", [3])):
            polled = await poll_through(served, after="earliest", clientID=client_id)
            assert seqs(polled) == expected


async def test_not_modified_only_if_nothing_moved(start: Start) -> None:
    async with start() as served:
        await served.stages(2)
        reply = await poll(served, orderID="A")
        etag, cursor = reply.headers["etag"], reply.json()["cursor"]
        again = await poll(served, headers={"If-None-Match": etag}, after=cursor, orderID="A")
        assert again.status_code == 304
        assert again.content == b""
        assert int(again.headers["x-poll-after-ms"]) > 0
        await served.stages(1, order="B")  # hidden, but the cursor moves
        moved = await poll(served, headers={"If-None-Match": etag}, after=cursor, orderID="A")
        assert moved.status_code == 200
        assert moved.json()["events"] == []
        assert moved.json()["cursor"] != cursor


@pytest.mark.parametrize(
    ("cursor", "reason"), [("garbage", "malformed"), ("zzzzzzzz.1", "epoch"), ("{epoch}.99", "future")]
)
async def test_a_bad_cursor_is_gone(start: Start, cursor: str, reason: str) -> None:
    async with start() as served:
        await served.stages(2)
        hub = await served.hub()
        reply = await poll(served, after=cursor.format(epoch=hub.tail.epoch))
        assert reply.status_code == 410
        assert reply.headers["content-type"] == "application/problem+json"
        problem = reply.json()
        assert problem["reason"] == reason
        assert problem["head"] == hub.cursor_text(2)
        assert problem["floor"] == hub.cursor_text(0)


async def test_a_trimmed_cursor_is_gone_even_before_the_hub_knows(start: Start) -> None:
    async with start() as served:
        await served.stages(1200)
    async with start() as served:
        hub = await served.hub()
        await served.application.event_log.trim("default", 600)
        reply = await poll(served, after=hub.cursor_text(100))
        assert reply.status_code == 410
        assert reply.json()["reason"] == "expired"


async def test_earliest_is_the_floor_even_before_the_hub_knows_it(start: Start) -> None:
    async with start() as served:
        await served.stages(20)
    async with start() as served:
        await served.hub()
        await served.application.event_log.trim("default", 15)
        assert seqs((await page(served, after="earliest"))["events"]) == [16, 17, 18, 19, 20]


@pytest.mark.parametrize(
    "parameters", [{"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"wait": "31"}, {"wait": "nan"}, {"before": "1"}]
)
async def test_a_query_that_cannot_be_understood_is_400(start_sqlite: Start, parameters: dict[str, str]) -> None:
    async with start_sqlite() as served:
        reply = await poll(served, **parameters)
        assert reply.status_code == 400
        assert reply.json()["errors"][0]["path"] == next(iter(parameters))


async def test_answers_are_private_and_not_stored(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        assert (await poll(served)).headers["cache-control"] == "private, no-store"


async def test_a_document_that_leaves_is_removed_by_stream_and_poll_alike(start: Start) -> None:
    """What stands on the event beyond its tags comes back from every store as it was written."""
    moved = NewEvent(
        "order_updated", ("orderID=A", "bayID=2"), "till-1", "anonymous", '"data":{"order":{}},"version":4}',
        Reach("order", "A", 4, left=("orderID=A", "bayID=1"), grants=("orderID=A",), grants_left=("orderID=A",)),
    )  # fmt: skip
    async with start() as served:
        event_log = served.application.event_log
        async with stream(served.port, bayID="1") as live, stream(served.port, bayID="1", clientID="till-1") as mine:
            for opened in (live, mine):
                await opened.until("caught_up")
            await commit(event_log, submission(moved), tenant="default")
            (await served.hub()).tail.ring()
            event = await live.until("removed")
            assert json.loads(event.data) == {"kind": "order", "id": "A", "version": 4}
            (found,) = (await page(served, after="earliest", bayID="1"))["events"]
            assert found == {"id": event.id, "eventType": "removed", "data": json.loads(event.data)}
            (whole,) = (await page(served, after="earliest", orderID="A", bayID="1"))["events"]
            assert (whole["id"], whole["version"]) == (event.id, 4)
            assert (await page(served, after="earliest", bayID="1", clientID="till-1"))["events"] == []
            assert [one.event for one in mine.seen] == ["connected", "caught_up"]
    async with start() as served, stream(served.port, lastEventId="earliest", bayID="1") as replayed:
        assert (await replayed.until("removed")).id == event.id
