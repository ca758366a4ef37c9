"""Sweeps: what is due is done once, whoever looks, and one that fails holds nothing up."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from sync_core.domain import fuel_orders
from sync_core.domain.catalog import DOMAIN
from sync_core.domain.document import Document, Ref
from sync_core.domain.fuel_orders import OfferToAll, offer_to_all
from sync_server.access.caller import Caller
from sync_server.access.rights import OPEN_RIGHTS
from sync_server.commands.dispatch import Call, Dispatch, checked
from sync_server.commands.sweeps import PAGE, Sweep, Sweeps
from sync_server.fueling import offers_to_all
from sync_server.log.appender import Appender
from sync_server.log.base import DocumentPage, EventLog, Selection
from sync_server.log.open import open_log
from sync_server.metrics import Metrics
from sync_server.sections import FuelingSection
from tests.serving import sqlite_settings

OFFERS = offers_to_all(FuelingSection.model_validate({"offer_to_all_after": "60s"}))


class Yard:
    """A log with fuel orders, and a clock that a test sets."""

    def __init__(self, event_log: EventLog) -> None:
        self.log = event_log
        self.now_ms = 1_795_000_000_000
        self.appender = Appender(
            event_log, on_commit=lambda *_: None, metrics=Metrics(CollectorRegistry()), wall_ms=lambda: self.now_ms
        )
        self.dispatch = Dispatch(DOMAIN, self.appender)

    def sweeps(self, *sweeps: Sweep) -> Sweeps:
        return Sweeps(sweeps, event_log=self.log, dispatch=self.dispatch, wall_ms=lambda: self.now_ms)

    async def offer(self, count: int = 1, *, tenant: str = "default", share: float = 0.5) -> None:
        """Take *count* orders."""
        caller = Caller(tenant, "user:carla", OPEN_RIGHTS)
        given = checked(fuel_orders.create, b'{"offerShare": %g}' % share)
        await asyncio.gather(*(self.dispatch(caller, Call(fuel_orders.create, given)) for _ in range(count)))

    async def told(self, tenant: str = "default") -> Counter[str]:
        """How often each order was offered."""
        events = await self.log.read(tenant, after=0, limit=10_000)
        return Counter(event.reach.id for event in events if event.reach is not None)


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    event_log = open_log(sqlite_settings(tmp_path).log)
    await event_log.open()
    yard = Yard(event_log)
    yield yard
    await yard.appender.aclose()
    await event_log.aclose()


async def test_what_is_due_is_done_once_whoever_looks(yard: Yard) -> None:
    await yard.offer(PAGE + 20)
    await yard.offer(3, tenant="other")
    lookers = [yard.sweeps(OFFERS) for _ in range(3)]
    await lookers[0].once(OFFERS)
    assert set((await yard.told()).values()) == {1}, "nothing is due yet"
    yard.now_ms += 60_000
    await asyncio.gather(*(looker.once(OFFERS) for looker in lookers))
    assert (len(await yard.told()), set((await yard.told()).values())) == (PAGE + 20, {2})
    assert set((await yard.told("other")).values()) == {2}
    await lookers[0].once(OFFERS)
    assert set((await yard.told()).values()) == {2}


class CountingLog:
    """A log that counts how often documents are looked for."""

    def __init__(self, event_log: EventLog) -> None:
        self.looks = 0
        self._log = event_log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def documents(self, *args: Any, **more: Any) -> DocumentPage:
        self.looks += 1
        return await self._log.documents(*args, **more)


async def test_where_nothing_waits_nothing_is_read_until_something_is_written(yard: Yard) -> None:
    await yard.log.ensure("default")
    counting = CountingLog(yard.log)
    yard.log = cast("EventLog", counting)
    sweeps = yard.sweeps(OFFERS)
    for _ in range(5):
        await sweeps.once(OFFERS)
    assert counting.looks == 1
    await yard.offer()
    for _ in range(5):
        await sweeps.once(OFFERS)
    assert counting.looks == 6, "it waits for its time: that comes without anything being written"


async def test_the_servers_own_tenant_is_left_alone(yard: Yard) -> None:
    await yard.offer(tenant="_access")
    yard.now_ms += 60_000
    await yard.sweeps(OFFERS).once(OFFERS)
    assert set((await yard.told("_access")).values()) == {1}


async def test_one_that_is_gone_meanwhile_holds_nothing_up(yard: Yard) -> None:
    await yard.offer(3)
    first, *_ = sorted(await yard.told())

    def due(document: Document, now_ms: int) -> OfferToAll:
        del now_ms
        name = "nobody" if document.id == first else document.id
        return OfferToAll(fuelOrderID=name, waitedSeconds=0)

    sweep = Sweep("x", Selection((fuel_orders.FuelOrder.kind,)), 1.0, offer_to_all, due)
    await yard.sweeps(sweep).once(sweep)
    assert sorted((await yard.told()).values()) == [1, 2, 2]


async def test_one_that_a_newer_server_wrote_is_left_to_it(yard: Yard, tmp_path: Path) -> None:
    await yard.offer(3)
    first, *_ = sorted(await yard.told())
    with closing(sqlite3.connect(tmp_path / "sync.db")) as db, db:
        changed = db.execute(
            "UPDATE documents SET body = replace(body, '\"unassigned\"', '\"auctioned\"') WHERE id = ?", (first,)
        )
        assert changed.rowcount == 1
    yard.now_ms += 60_000
    await yard.sweeps(OFFERS).once(OFFERS)
    told = await yard.told()
    assert (told.pop(first), set(told.values())) == (1, {2})


async def test_a_sweep_that_fails_is_tried_again(yard: Yard) -> None:
    await yard.offer()
    looks = 0

    def due(document: Document, now_ms: int) -> OfferToAll:
        del now_ms
        nonlocal looks
        looks += 1
        if looks == 1:
            raise RuntimeError("a fault of ours")
        return OfferToAll(fuelOrderID=document.id, waitedSeconds=0)

    sweep = Sweep("x", Selection((fuel_orders.FuelOrder.kind,)), 0.01, offer_to_all, due)
    running = asyncio.create_task(yard.sweeps(sweep).run())
    async with asyncio.timeout(10):
        while set((await yard.told()).values()) != {2}:
            await asyncio.sleep(0.01)
    running.cancel()
    page = await yard.log.load("default", [Ref("fuel_order", next(iter(await yard.told())))])
    assert '"offeredToAll":true' in page.documents[0].body
