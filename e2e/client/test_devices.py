"""``client.devices`` and ``client.catalogs`` against a real server: a replica, and commands that show at once."""

from typing import Any

import pytest

from e2e.client.harness import Shop, eventually
from e2e.client.test_replica import do
from sync_client import SyncClient
from sync_client.errors import CommandFailed, InvalidCommand

KINDS = ["devices", "catalogs"]
COLA: dict[str, Any] = {"name": "كولا", "price": "1000", "quantity": 2, "notes": "بارد"}


async def ready(client: SyncClient) -> None:
    await eventually(lambda: client.devices.fresh and client.health.caught_up, what="the snapshot")


def device(client: SyncClient, device_id: str) -> Any:
    entry = client.devices.get(device_id)
    assert entry is not None
    return entry.document


async def test_an_evening_by_the_client_s_commands(any_shop: Shop, order_id: str) -> None:
    one, two = f"{order_id}-pc1", f"{order_id}-pc2"
    async with any_shop.client("till", replica=KINDS) as till, any_shop.client("wall", replica=KINDS) as wall:
        await ready(till)
        await ready(wall)
        for device_id in (one, two):
            await (await till.devices.create(device_id)).done(timeout_s=10)
        steps = [
            await till.devices.update(one, isRunning=True, customerCount=2),
            await till.devices.place_orders(one, [COLA, COLA | {"name": "شاي"}]),
            await till.devices.edit_order(one, 0, quantity=3),
            await till.devices.remove_order(one, 1),
        ]
        shown = device(till, one)
        assert (shown.isRunning, [order.quantity for order in shown.orders]) == (True, [3]), "shown at once"
        for step in steps:
            await step.done(timeout_s=10)
        await eventually(lambda: (d := device(wall, one)).isRunning and [o.name for o in d.orders] == ["كولا"])
        await (await till.devices.transfer(one, two)).done(timeout_s=10)
        await eventually(lambda: len(device(wall, two).orders) == 1 and not device(wall, one).orders)
        await (await till.devices.reset(two)).done(timeout_s=10)
        await (await till.devices.delete(one)).done(timeout_s=10)
        await eventually(lambda: one not in wall.devices and not device(wall, two).isRunning)


async def test_an_order_at_a_place_that_means_another_one_by_now_is_refused(any_shop: Shop, order_id: str) -> None:
    pc = f"{order_id}-pc"
    await do(any_shop, "POST", "/devices", {"deviceID": pc})
    await do(any_shop, "POST", f"/devices/{pc}/orders", {"orders": [COLA, COLA | {"name": "شاي"}]})
    async with any_shop.client("till", replica=KINDS) as till:
        await ready(till)
        seen = device(till, pc).version
        await do(any_shop, "DELETE", f"/devices/{pc}/orders/0")
        sent = await till.devices.remove_order(pc, 0, if_match=seen)
        with pytest.raises(CommandFailed):
            await sent.done(timeout_s=10)
        await eventually(lambda: [order.name for order in device(till, pc).orders] == ["شاي"])
        with pytest.raises(InvalidCommand, match="price"):
            await till.devices.place_orders(pc, [{"name": "x", "price": 1000}])


async def test_prices_reach_every_client(any_shop: Shop, order_id: str) -> None:
    catalog = f"{order_id}-cafe"
    async with any_shop.client("office", replica=KINDS) as office, any_shop.client("till", replica=KINDS) as till:
        await ready(office)
        await ready(till)
        await (await office.catalogs.set_categories(catalog, [{"name": "مشروبات"}])).done(timeout_s=10)
        price = {"name": "كولا", "category": "مشروبات", "price": "1250"}
        await (await office.catalogs.set_prices(catalog, [price])).done(timeout_s=10)
        await eventually(lambda: (e := till.catalogs.get(catalog)) is not None and e.document.prices != ())
        entry = till.catalogs.get(catalog)
        assert entry is not None
        assert entry.document.content()["prices"] == [price | {"price": "1250.00"}]
