"""Two tills that change the same order while both are offline: one is second, and both end with what the server has."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from e2e.client.harness import Shop, eventually, shop_before
from sync_client import Event, State, SyncClient
from sync_client.conflicts import Conflict
from sync_client.errors import CommandFailed

ITEM = {"sku": "W1", "name": "Wash", "quantity": 1, "unitPrice": "3.00"}


class Till:
    """A client behind a proxy of its own, which can be unplugged."""

    def __init__(self, shop: Shop, name: str) -> None:
        self.shop = shop
        self.client: SyncClient = shop.client(name, replica=True)
        self.failures: list[Event] = []
        self.client.on("sync_failed")(self.failures.append)

    async def unplug(self) -> None:
        self.shop.proxy.plain.refused = self.shop.proxy.stream.refused = True
        self.shop.proxy.cut_all()
        await eventually(lambda: self.client.state is not State.CONNECTED)

    async def plug_in(self) -> None:
        """And let it say what it has to say."""
        self.shop.proxy.plain.clear()
        self.shop.proxy.stream.clear()
        self.client.connect()
        await self.client.outbox.flush(30)

    def order(self, order_id: str) -> Any:
        entry = self.client.orders.get(order_id)
        return None if entry is None else entry.document


@asynccontextmanager
async def till(shop: Shop, name: str) -> AsyncIterator[Till]:
    """Connected, and it has the documents."""
    async with shop_before(shop.server, shop.directory) as own:
        opened = Till(own, name)
        async with opened.client as client:
            await client.wait_for(State.CONNECTED, timeout_s=10)
            await eventually(lambda: client.orders.fresh)
            yield opened


async def both_equal_the_server(shop: Shop, order_id: str, *tills: Till) -> dict[str, Any]:
    """What the server has, and both show; nothing of either is pending."""
    reply = await shop.http.get(f"/api/v1/orders/{order_id}")
    stored: dict[str, Any] = reply.json()["order"]
    for one in tills:
        await eventually(lambda one=one: (o := one.order(order_id)) is not None and o.version == stored["version"])
        entry = one.client.orders.get(order_id)
        assert entry is not None
        assert (entry.document.content(), entry.pending) == (stored, False)
        assert len(one.client.outbox) == 0
    return stored


async def make_order(shop: Shop, order_id: str) -> None:
    reply = await shop.http.post("/api/v1/orders", json={"orderID": order_id, "items": [ITEM], "notes": "as it was"})
    assert reply.status_code == 201


@asynccontextmanager
async def two_tills(shop: Shop, order_id: str) -> AsyncIterator[tuple[Till, Till]]:
    """Both know the order and are offline."""
    await make_order(shop, order_id)
    async with till(shop, "till-1") as one, till(shop, "till-2") as two:
        for each in (one, two):
            await eventually(lambda each=each: each.order(order_id) is not None)
            await each.unplug()
        yield one, two


async def test_the_second_till_s_hook_merges_and_both_end_with_what_the_server_has(
    any_shop: Shop, order_id: str
) -> None:
    async with two_tills(any_shop, order_id) as (one, two):
        conflicts: list[Conflict] = []

        @two.client.outbox.on_conflict
        async def merge(conflict: Conflict) -> dict[str, Any]:
            conflicts.append(conflict)
            return {"notes": conflict.current["order"]["notes"] + ", two"}

        first = await one.client.orders.edit(order_id, notes="one")
        second = await two.client.orders.edit(order_id, notes="two")
        later = await two.client.orders.set_status(order_id, "seen by two")
        assert (one.order(order_id).notes, two.order(order_id).notes) == ("one", "two")
        await one.plug_in()
        await first.done(1)
        await two.plug_in()
        assert (await second.done(1))["order"]["notes"] == "one, two"
        await later.done(1)
        (conflict,) = conflicts
        assert (conflict.problem["type"], conflict.current["order"]["version"]) == ("stale", 2)
        assert conflict.shown is not None
        assert (conflict.shown.notes, conflict.shown.status) == ("two", "seen by two")  # type: ignore[attr-defined]
        stored = await both_equal_the_server(any_shop, order_id, one, two)
        assert (stored["notes"], stored["status"], stored["version"]) == ("one, two", "seen by two", 4)
        assert (one.failures, two.failures) == ([], [])


async def test_the_second_till_gives_up_and_shows_what_the_first_has_done(shop: Shop, order_id: str) -> None:
    async with two_tills(shop, order_id) as (one, two):
        await one.client.orders.edit(order_id, notes="one")
        refused = await two.client.orders.edit(order_id, notes="two")
        await one.plug_in()
        await two.plug_in()
        with pytest.raises(CommandFailed, match="has changed"):
            await refused.done(1)
        stored = await both_equal_the_server(shop, order_id, one, two)
        assert stored["notes"] == "one"
        await eventually(lambda: two.failures)
        assert two.failures[0].data["current"]["order"]["notes"] == "one"
        assert [entry.given.notes for entry in two.client.outbox.failed] == ["two"]


async def test_what_the_rules_forbid_by_then_is_a_conflict_without_any_guard(shop: Shop, order_id: str) -> None:
    async with two_tills(shop, order_id) as (one, two):
        await one.client.orders.change_stage(order_id, "cancelled")
        refused = await two.client.orders.change_stage(order_id, "in_progress")
        assert two.order(order_id).stage == "in_progress"
        await one.plug_in()
        await two.plug_in()
        with pytest.raises(CommandFailed, match="is cancelled and cannot become in_progress"):
            await refused.done(1)
        stored = await both_equal_the_server(shop, order_id, one, two)
        assert stored["stage"] == "cancelled"


async def test_an_edit_on_top_of_a_refused_one_is_not_taken_for_one_that_saw_the_other_s(
    shop: Shop, order_id: str
) -> None:
    async with two_tills(shop, order_id) as (one, two):
        await one.client.orders.edit(order_id, notes="one")  # makes version 2
        await two.client.orders.edit(order_id, notes="two")  # would have made version 2
        await two.client.orders.edit(order_id, notes="two and more")  # given at that version 2
        await one.plug_in()
        await two.plug_in()
        stored = await both_equal_the_server(shop, order_id, one, two)
        assert stored["notes"] == "one"
        assert len(two.client.outbox.failed) == 2


async def test_both_tills_call_the_same_next_order_and_one_gets_it(shop: Shop, order_id: str) -> None:
    queue, bay = f"Q-{order_id}", f"B-{order_id}"
    async with two_tills(shop, order_id) as (one, two):
        await shop.http.post("/api/v1/queues", json={"queueID": queue, "name": "Line"})
        await shop.http.post(f"/api/v1/queues/{queue}/entries", json={"orderID": order_id})
        await shop.http.post("/api/v1/bays", json={"bayID": bay, "name": "Bay"})
        for each in (one, two):
            await each.plug_in()
            await eventually(lambda each=each: each.client.bays.get(bay) is not None)
            await each.unplug()
            await each.client.queues.call_next(queue, bay, service="wash", expectedSeconds=60)
            shown = each.client.bays.get(bay)
            assert shown is not None
            assert (shown.document.status, shown.pending) == ("occupied", True)
        await one.plug_in()
        await two.plug_in()
        assert (one.client.outbox.failed, len(two.client.outbox.failed)) == ([], 1)
        stored = await both_equal_the_server(shop, order_id, one, two)
        assert (stored["stage"], stored["bayID"]) == ("in_progress", bay)
        jobs = {each.client.bays.get(bay).document.job.jobID for each in (one, two)}  # type: ignore[union-attr]
        assert len(jobs) == 1


async def test_an_order_made_offline_under_an_id_that_was_deleted_takes_what_was_given_on_top(
    any_shop: Shop, order_id: str
) -> None:
    """The till has never heard of the one that was deleted, so it cannot know which version its own will have."""
    await make_order(any_shop, order_id)
    (await any_shop.http.delete(f"/api/v1/orders/{order_id}")).raise_for_status()
    async with till(any_shop, "till-1") as one, till(any_shop, "till-2") as two:
        await one.unplug()
        await one.client.orders.create(order_id, notes="made offline")
        await one.client.orders.set_status(order_id, "new")
        edited = await one.client.orders.edit(order_id, notes="and edited")
        await one.plug_in()
        await edited.done(1)
        stored = await both_equal_the_server(any_shop, order_id, one, two)
        assert (stored["notes"], stored["status"], stored["version"]) == ("and edited", "new", 5)
