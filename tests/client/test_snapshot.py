"""Fetching a snapshot: when, how often, what becomes of a wrong one; that nothing is lost between it and the feed."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic_core import from_json

from sync_client.errors import NetworkFailed, RequestFailed
from sync_client.intake import Intake, Resync
from sync_client.keeper import Keeper
from sync_client.memory import MemoryCache
from sync_client.records import Saved
from sync_client.replica import FINISHED_FOR_MS, Replica
from sync_client.snapshot import Snapshots
from sync_core.cursor import Cursor
from sync_core.domain import orders
from sync_core.domain.catalog import DOMAIN
from sync_core.domain.document import Ref
from sync_core.filters import Filter
from sync_core.sse import ServerSentEvent
from tests.client.stock import EPOCH, seen
from tests.core.domain.shop import Shop, open_shop
from tests.streams import eventually

Page = dict[str, Any]


class Floor:
    """A client's way in, and a server that it fetches snapshots from, a few documents a page."""

    def __init__(self, shop: Shop, *, per_page: int = 100, **options: Any) -> None:
        self.options = {"rng": lambda: 0.0, **options}
        self.shop = shop
        self.per_page = per_page
        self.requests: list[Mapping[str, str]] = []
        self.may_fetch = True
        self.between: Callable[[int], Any] = lambda number: None
        """Called before each answer with the number of the request, from 0; may raise, or give another page."""
        self.replica = Replica(DOMAIN)
        self.keeper = Keeper(MemoryCache, threaded=False)

    async def open(self, saved: Saved | None = None) -> None:
        await self.keeper.open()
        self.replica.load([], complete_to=None, due=None)
        self.intake = Intake(
            self.keeper, saved or Saved(), filter_=Filter(), start="now", resync=Resync.NOW, behind_bytes=10**9,
            clock=lambda: 0.0, news=lambda: None, wants=lambda kind: False, documents=self.replica,
        )  # fmt: skip
        await self.intake.open()
        self.snapshots = Snapshots(
            self.replica, self.keeper, self.intake, fetch=self.fetch, may_fetch=lambda: self.may_fetch,
            params={"orderID": "a,b"}, **self.options,
        )  # fmt: skip
        self.replica.changed = self.snapshots.wake

    async def fetch(self, path: str, params: Mapping[str, str]) -> Page:
        number = len(self.requests)
        self.requests.append(dict(params))
        await asyncio.sleep(0)
        instead = self.between(number)
        if asyncio.iscoroutine(instead):
            instead = await instead
        return self.page(params.get("pageToken", "")) if instead is None else instead

    def page(self, token: str) -> Page:
        """As the server does it: the cursor of the first page goes along in the token."""
        cursor, *after = json.loads(token) if token else (f"{EPOCH}.{len(self.shop.log)}",)
        left = sorted(ref for ref in self.shop.bodies if [*ref] > after)
        refs = left[: self.per_page]
        page: Page = {kind.plural: [] for kind in DOMAIN.kinds.values()}
        for ref in refs:
            page[DOMAIN.kinds[ref.kind].plural].append(from_json(self.shop.bodies[ref]))
        more = {"pageToken": json.dumps([cursor, *refs[-1]])} if len(left) > len(refs) else {}
        return page | {"cursor": cursor} | more

    async def connect(self) -> None:
        head = f"{EPOCH}.{len(self.shop.log)}"
        data = json.dumps({"cursor": head, "head": head, "resume": "now", "serverTime": "2026-11-21T09:03:16.499Z"})
        await self.intake.take([ServerSentEvent("connected", data, head)], last_event_id=head)

    async def feed(self) -> None:
        """All events behind the received cursor."""
        here = Cursor.parse(self.intake.received)
        events = [(f"{EPOCH}.{n}", text) for n, text in enumerate(self.shop.log, 1) if n > here.seq]
        if events:
            blocks = [ServerSentEvent(from_json(text)["eventType"], text, event_id) for event_id, text in events]
            await self.intake.take(blocks, last_event_id=events[-1][0])

    async def reset(self, reason: str = "expired") -> None:
        head = f"{EPOCH}.{len(self.shop.log)}"
        data = json.dumps({"reason": reason, "head": head, "floor": head})
        await self.intake.take([ServerSentEvent("reset", data, head)], last_event_id=head)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.snapshots.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    @property
    def truth(self) -> dict[str, Any]:
        return {f"{ref.kind} {ref.id}": (from_json(body), False) for ref, body in self.shop.bodies.items()}


@asynccontextmanager
async def open_floor(shop: Shop | None = None, **options: Any) -> AsyncIterator[Floor]:
    floor = Floor(shop or open_shop(orders_in=["o1", "o2", "o3"]), **options)
    await floor.open()
    await floor.connect()
    async with floor.running():
        yield floor


def fail_always(_: int) -> None:
    raise RequestFailed("the server answers 404", status=404)


async def fresh(floor: Floor) -> None:
    await eventually(lambda: floor.replica.fresh)


async def test_the_first_snapshot_brings_all_there_is() -> None:
    async with open_floor() as floor:
        await fresh(floor)
        assert seen(floor.replica) == floor.truth
        assert floor.requests == [{"orderID": "a,b", "limit": "1000"}]
        assert floor.keeper.cache.load().snapshot_due == ""


async def test_pages_follow_by_their_token() -> None:
    async with open_floor(per_page=2) as floor:
        await fresh(floor)
        after = [json.loads(request.get("pageToken", "[0]"))[1:] for request in floor.requests]
        assert after == [[], ["order", "o1"], ["order", "o3"]]
        assert seen(floor.replica) == floor.truth


async def test_nothing_is_fetched_before_the_feed_stands_somewhere() -> None:
    floor = Floor(open_shop())
    await floor.open()
    async with floor.running():
        floor.snapshots.wake()
        await asyncio.sleep(0.01)
        assert floor.requests == []
        await floor.connect()
        await fresh(floor)


async def test_nothing_is_fetched_while_there_is_no_connection() -> None:
    floor = Floor(open_shop())
    floor.may_fetch = False
    await floor.open()
    async with floor.running():
        await floor.connect()
        await asyncio.sleep(0.01)
        assert floor.requests == []
        floor.may_fetch = True
        floor.snapshots.wake()
        await fresh(floor)


async def test_one_that_is_complete_is_not_fetched_again() -> None:
    async with open_floor() as floor:
        await fresh(floor)
        floor.snapshots.wake()
        await floor.connect()
        await asyncio.sleep(0.01)
        assert len(floor.requests) == 1


async def test_changes_while_the_pages_come_are_not_lost() -> None:
    """One that the snapshot has not, one that a later page has newer, one that is deleted behind its page."""

    async def change(number: int) -> None:
        if number == 0:
            floor.shop.do(orders.set_status, orderID="o3", status="early")
        if number == 1:
            floor.shop.do(orders.delete, orderID="o1")
            floor.shop.do(orders.create, orderID="a-new-one")
            floor.shop.do(orders.set_status, orderID="o3", status="later")
        await floor.feed()

    async with open_floor(per_page=2) as floor:
        floor.between = change
        await fresh(floor)
        await floor.feed()
        assert seen(floor.replica) == floor.truth
        assert "order o1" not in seen(floor.replica)


@pytest.mark.parametrize("failing", [0, 1, 2])
async def test_a_page_that_fails_begins_it_all_again(failing: int) -> None:
    def fail(number: int) -> None:
        if number == failing:
            raise NetworkFailed("cut")

    async with open_floor(per_page=2) as floor:
        floor.between = fail
        await fresh(floor)
        assert "pageToken" not in floor.requests[failing + 1]
        assert seen(floor.replica) == floor.truth


async def test_failures_have_pauses_between_them() -> None:
    pauses: list[float] = []

    async def sleep(delay_s: float) -> None:
        pauses.append(delay_s)
        if len(pauses) == 8:
            await asyncio.Event().wait()

    floor = Floor(open_shop(), sleep=sleep, rng=lambda: 1.0)
    floor.between = fail_always
    await floor.open()
    await floor.connect()
    async with floor.running():
        await eventually(lambda: len(pauses) == 8)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize(
    "page",
    [
        {},
        {"cursor": "nonsense", "orders": []},
        {"cursor": f"{EPOCH}.99", "orders": {}},
        {"cursor": f"{EPOCH}.99", "orders": [{"orderID": "x"}]},
        {"cursor": f"{EPOCH}.99", "orders": ["x"]},
        {"cursor": f"{EPOCH}.99", "pageToken": 7},
        {"cursor": f"{EPOCH}.1"},
        {"cursor": "newepoch.99"},
    ],
    ids=["empty", "no cursor", "no list", "no version", "no object", "wrong token", "before the feed", "another log"],
)
async def test_what_is_no_snapshot_of_here_changes_nothing(page: Page, caplog: pytest.LogCaptureFixture) -> None:
    async with open_floor() as floor:
        floor.replica.due = "first"
        floor.between = lambda number: page
        await eventually(lambda: floor.snapshots.last_error != "")
        assert not floor.replica.fresh
        assert seen(floor.replica) == {}


async def test_one_that_became_due_anew_while_it_was_fetched_is_fetched_again() -> None:
    async def reset(number: int) -> None:
        if number == 1:
            floor.shop.do(orders.create, orderID="missed")
            await floor.reset()

    async with open_floor(per_page=2) as floor:
        floor.between = reset
        await fresh(floor)
        assert len(floor.requests) > 3
        assert seen(floor.replica) == floor.truth


async def test_after_a_reset_it_is_fetched_again_and_old_documents_are_seen_meanwhile() -> None:
    async with open_floor() as floor:
        await fresh(floor)
        floor.may_fetch = False
        floor.shop.do(orders.delete, orderID="o1")
        await floor.reset()
        assert not floor.replica.fresh
        assert floor.keeper.cache.load().snapshot_due == "expired"
        assert "order o1" in seen(floor.replica)
        floor.may_fetch = True
        floor.snapshots.wake()
        await fresh(floor)
        assert seen(floor.replica) == floor.truth


async def test_other_rights_ask_for_another_one() -> None:
    async with open_floor() as floor:
        await fresh(floor)
        for access in ("a", "b"):
            data = json.dumps({"cursor": floor.intake.received, "access": access, "resume": "resumed"})
            await floor.intake.take([ServerSentEvent("connected", data, floor.intake.received)],
                                    last_event_id=floor.intake.received)  # fmt: skip
        assert floor.replica.due == "access" or floor.snapshots.installed == 2
        await eventually(lambda: floor.snapshots.installed == 2)


async def test_what_was_staged_and_lost_is_fetched_again() -> None:
    async with open_floor(per_page=2) as floor:
        floor.between = lambda number: floor.keeper.cache._staged.clear() if number == 2 else None  # type: ignore[union-attr]
        await fresh(floor)
        assert len(floor.requests) == 6
        assert seen(floor.replica) == floor.truth


async def test_old_documents_are_forgotten_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_client.snapshot.EXPIRE_EVERY_S", 0.01)
    async with open_floor() as floor:
        await fresh(floor)
        floor.shop.do(orders.change_stage, orderID="o1", newStage="cancelled")
        floor.shop.do(orders.delete, orderID="o2")
        await floor.feed()
        floor.replica.server_ms = floor.shop.now_ms + FINISHED_FOR_MS
        await eventually(lambda: floor.replica.get(Ref("order", "o1")) is None)
        kept = [one.id for one in floor.keeper.cache.documents() if one.kind == "order"]
        assert kept == ["o3"]
        assert floor.keeper.cache.load().complete_to == floor.intake.received


async def test_a_failure_is_told() -> None:
    async with open_floor() as floor:
        await fresh(floor)
        assert floor.snapshots.last_error == ""
        floor.between = fail_always
        await floor.reset()
        await eventually(lambda: floor.snapshots.last_error == "the server answers 404")
