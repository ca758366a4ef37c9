"""The way in of a client with documents: they come with their events, in one commit, before handlers hear of them."""

import json
from typing import Any

import pytest
from pydantic_core import from_json

from sync_client.errors import CacheUnwritable
from sync_client.intake import Intake, Resync
from sync_client.keeper import Keeper
from sync_client.memory import MemoryCache
from sync_client.records import Batch, Saved
from sync_client.replica import Replica
from sync_core.domain import orders
from sync_core.domain.catalog import DOMAIN
from sync_core.filters import Filter
from sync_core.sse import ServerSentEvent
from tests.client.stock import EPOCH, seen
from tests.core.domain.shop import Shop, open_shop


class Door:
    """An intake with a replica behind it, and the shop whose events come in."""

    def __init__(self, **options: Any) -> None:
        self.shop: Shop = open_shop()
        self.replica = Replica(DOMAIN)
        self.keeper = Keeper(MemoryCache, threaded=False)
        self.options = options
        self.told: list[dict[str, Any]] = []
        """What the replica showed each time that there was news for handlers."""

    async def open(self, saved: Saved | None = None) -> "Door":
        await self.keeper.open()
        given = {"documents": self.replica, "resync": Resync.NOW, **self.options}
        self.intake = Intake(
            self.keeper, saved or Saved(cursor=f"{EPOCH}.0", filter="{}"), filter_=Filter(), start="now",
            behind_bytes=10**9, clock=lambda: 0.0, news=lambda: self.told.append(seen(self.replica)),
            wants=lambda kind: False, **given,
        )  # fmt: skip
        await self.intake.open()
        return self

    def blocks(self) -> list[ServerSentEvent]:
        return [
            ServerSentEvent(from_json(text)["eventType"], text, f"{EPOCH}.{n}")
            for n, text in enumerate(self.shop.log, 1)
        ]

    async def hear(self) -> None:
        await self.intake.take(self.blocks(), last_event_id=f"{EPOCH}.{len(self.shop.log)}")

    def kept(self) -> list[str]:
        """Types of the events that wait for handlers."""
        return [record.event_type for record in self.keeper.cache.waiting(after=0, limit=100)]


@pytest.fixture
async def door() -> Door:
    return await Door().open()


async def test_documents_are_committed_with_their_events_and_shown_before_handlers_hear(door: Door) -> None:
    await door.hear()
    assert [one.id for one in door.keeper.cache.documents()] == ["b1", "o1", "q1"]
    assert sorted(seen(door.replica)) == ["bay b1", "order o1", "queue q1"]
    assert door.told == [seen(door.replica)]


async def test_what_cannot_be_written_is_not_shown(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(batch: Batch) -> int:
        raise CacheUnwritable("full")

    monkeypatch.setattr(door.keeper.cache, "commit", full)
    with pytest.raises(CacheUnwritable):
        await door.hear()
    assert seen(door.replica) == {}
    assert door.intake.received == f"{EPOCH}.0"


async def test_documents_come_by_polls_too(door: Door) -> None:
    events = [from_json(text) for text in door.shop.log]
    removed = {"id": f"{EPOCH}.9", "eventType": "removed", "data": {"kind": "bay", "id": "b1", "version": 2}}
    await door.intake.take_page({"events": [*events, removed], "cursor": f"{EPOCH}.9", "head": f"{EPOCH}.9"})
    assert sorted(seen(door.replica)) == ["order o1", "queue q1"]


async def test_what_leaves_the_view_goes_and_handlers_are_told(door: Door) -> None:
    await door.hear()
    data = json.dumps({"kind": "order", "id": "o1", "version": 2})
    await door.intake.take([ServerSentEvent("removed", data, f"{EPOCH}.9")], last_event_id=f"{EPOCH}.9")
    assert sorted(seen(door.replica)) == ["bay b1", "queue q1"]
    assert door.kept()[-1] == "removed"


async def test_events_of_no_place_in_the_log_change_no_document(door: Door) -> None:
    envelope = {key: value for key, value in from_json(door.shop.log[2]).items() if key != "id"}
    await door.intake.take([ServerSentEvent("order_created", json.dumps(envelope), "")], last_event_id=f"{EPOCH}.0")
    assert seen(door.replica) == {}


async def test_types_that_are_not_for_handlers_are_for_the_documents_all_the_same() -> None:
    door = await Door(types=frozenset({"order_created"})).open()
    await door.hear()
    assert door.kept() == ["order_created"]
    assert len(seen(door.replica)) == 3
    assert door.intake.facts.events == 1
    assert door.intake.facts.duplicates == 0
    assert [kind for kind in ("removed", "sync_failed", "queue_updated") if door.intake.is_asked_for(kind)] == [
        "removed", "sync_failed",
    ]  # fmt: skip


async def test_events_are_kept_from_the_first_listener_on() -> None:
    listening = [False]
    door = await Door(listens=lambda: listening[0]).open()
    await door.hear()
    assert door.kept() == []
    assert door.told == []
    assert len(seen(door.replica)) == 3
    listening[0] = True
    door.shop.do(orders.set_status, orderID="o1", status="x")
    await door.hear()
    listening[0] = False
    door.shop.do(orders.set_status, orderID="o1", status="y")
    await door.hear()
    assert door.kept() == ["status_update", "status_update"]


async def test_without_documents_everything_is_kept_for_whoever_comes() -> None:
    door = await Door(documents=None, listens=lambda: False, types=frozenset({"x"})).open()
    await door.hear()
    assert len(door.kept()) == len(door.shop.log)
    assert door.keeper.cache.documents() == []


@pytest.mark.parametrize(("before", "after"), [("", "unattended"), (None, None), ("expired", None)])
async def test_a_run_without_documents_leaves_them_due(before: str | None, after: str | None) -> None:
    door = await Door(documents=None).open(Saved(cursor=f"{EPOCH}.0", filter="{}", snapshot_due=before))
    assert door.keeper.cache.load().snapshot_due == after


async def test_a_reset_makes_a_snapshot_due_in_the_commit_that_moves_the_cursor(door: Door) -> None:
    door.replica.load([], complete_to=None, due="")
    await door.hear()
    data = json.dumps({"reason": "expired", "head": f"{EPOCH}.50"})
    await door.intake.take([ServerSentEvent("reset", data, f"{EPOCH}.50")], last_event_id=f"{EPOCH}.50")
    saved = door.keeper.cache.load()
    assert (saved.cursor, saved.resync, saved.snapshot_due) == (f"{EPOCH}.50", "expired", "expired")
    assert (door.replica.due, door.replica.demands) == ("expired", 1)


async def test_a_cache_that_is_lost_makes_one_due(door: Door) -> None:
    await door.hear()
    door.replica.due = ""
    door.keeper.recovered += 1  # as the keeper does when the file turns out damaged
    door.shop.do(orders.set_status, orderID="o1", status="x")
    await door.hear()
    assert door.replica.due == "cache_lost"
    assert door.keeper.cache.load().snapshot_due == "cache_lost"


async def test_the_servers_clock_is_taken_from_whatever_tells_it(door: Door) -> None:
    times = ["2026-11-21T09:00:00.000Z", "2026-11-21T09:00:01.000Z", "2026-11-21T09:00:02.000Z"]
    found = []
    data = json.dumps({"cursor": f"{EPOCH}.0", "head": f"{EPOCH}.0", "resume": "resumed", "serverTime": times[0]})
    await door.intake.take([ServerSentEvent("connected", data, f"{EPOCH}.0")], last_event_id=f"{EPOCH}.0")
    found.append(door.replica.server_ms)
    await door.intake.take(
        [ServerSentEvent("heartbeat", json.dumps({"timestamp": times[1]}), f"{EPOCH}.0")], last_event_id=f"{EPOCH}.0"
    )
    found.append(door.replica.server_ms)
    await door.intake.take_page({"events": [], "cursor": f"{EPOCH}.0", "serverTime": times[2]})
    found.append(door.replica.server_ms)
    assert found == [1795251600000, 1795251601000, 1795251602000]
