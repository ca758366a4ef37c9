"""A client that keeps documents of some kinds only, against a real server."""

from typing import Any

import pytest

from e2e.client.harness import Shop, eventually
from e2e.client.test_replica import bay, do, order
from sync_client import Event, SyncClient
from sync_client.errors import ConfigurationError, NoReplica


async def is_fresh(client: SyncClient, plural: str) -> None:
    await eventually(lambda: getattr(client, plural).fresh and client.health.caught_up, what="the snapshot")


def ids(client: SyncClient, plural: str) -> list[str]:
    return [entry.document.id for entry in getattr(client, plural)]


async def test_a_client_keeps_the_kinds_that_were_named(any_shop: Shop, order_id: str) -> None:
    bay_id = f"{order_id}-bay"
    await bay(any_shop, bay_id)
    await order(any_shop, order_id)
    async with any_shop.client("bays", replica=["bays"]) as client:
        await is_fresh(client, "bays")
        assert bay_id in client.bays
        with pytest.raises(NoReplica, match="replica=True"):
            client.orders  # noqa: B018
        # A rule that also wants what is not kept here shows nothing before the answer.
        sent = await client.bays.start_job(bay_id, order_id, "j1")
        entry = client.bays.get(bay_id)
        assert entry is not None
        assert entry.document.job is None
        answer = await sent.done(timeout_s=10)
        assert answer["order"]["stage"] == "in_progress"
        entry = client.bays.get(bay_id)
        assert entry is not None
        assert entry.document.job is not None
        assert entry.document.job.jobID == "j1"


async def test_another_choice_of_kinds_begins_with_a_snapshot(any_shop: Shop, order_id: str) -> None:
    await order(any_shop, order_id)
    bay_id = f"{order_id}-bay"
    view: Any = {"orderID": order_id, "bayID": bay_id}
    async with any_shop.client("screen", replica=["bays"], filter=view) as client:
        await is_fresh(client, "bays")
    await bay(any_shop, bay_id)
    async with any_shop.client("screen", replica=["orders", "bays"], filter=view) as client:
        await is_fresh(client, "orders")
        assert (ids(client, "orders"), ids(client, "bays")) == ([order_id], [bay_id])
    await do(any_shop, "POST", f"/orders/{order_id}/status", {"status": "x"})
    async with any_shop.client("screen", replica=["orders"], filter=view) as client:
        await is_fresh(client, "orders")
        entry = client.orders.get(order_id)
        assert entry is not None
        assert entry.document.status == "x"


async def test_documents_stay_current_beside_a_filter_for_types(any_shop: Shop, order_id: str) -> None:
    seen: list[str] = []
    asked: Any = {"orderID": order_id, "eventTypes": "stage_change"}
    client = any_shop.client("till", replica=["orders"], filter=asked)

    @client.on("*")
    def note(event: Event) -> None:
        seen.append(event.event_type)

    async with client:
        await is_fresh(client, "orders")
        await order(any_shop, order_id)
        await do(any_shop, "POST", f"/orders/{order_id}/status", {"status": "polished"})
        await do(any_shop, "POST", f"/orders/{order_id}/stage", {"newStage": "in_progress"})
        await eventually(lambda: seen == ["stage_change"])
        entry = client.orders.get(order_id)
        assert entry is not None
        assert (entry.document.status, entry.document.stage) == ("polished", "in_progress")


def test_what_is_no_kind_is_said_at_once() -> None:
    with pytest.raises(ConfigurationError, match="there are no 'cars'; there are orders"):
        SyncClient("http://shop", replica=["cars"])
    with pytest.raises(ConfigurationError, match=r'\["bays"\]'):
        SyncClient("http://shop", replica="bays")
