"""Random fuelers and a restless customer service: whatever they try, what has to hold holds after each step."""

import random
from decimal import Decimal
from typing import Any

import pytest

from sync_core.domain import fuel_orders, fuel_trucks, fuelers
from sync_core.domain.catalog import FUELING
from sync_core.domain.changes import DomainEvent
from sync_core.domain.fuel_orders import FuelOrder, FuelStatus
from sync_core.domain.fuel_trucks import FuelTruck
from sync_core.problems import SyncError
from tests.core.domain.shop import Shop, replay

PEOPLE = ["ann", "ben", "cem"]
STEPS = 1500
FIGURES = ("startMeterReading", "endMeterReading", "gallonsDispensed")


def step(yard: Shop, rng: random.Random, first: int) -> list[DomainEvent]:
    """Somebody tries something with one of three orders; nothing happens where it is refused."""
    order, truck = f"f{first + rng.randint(0, 2)}", f"t{rng.randint(1, 2)}"
    yard.principal = f"user:{rng.choice(PEOPLE)}"
    start = Decimal(rng.randint(100, 999)).scaleb(-2)
    readings = {"startMeterReading": str(start), "endMeterReading": str(start + rng.randint(-1, 9))}
    command, given = rng.choice(
        [
            (fuel_orders.create, {"truckID": truck, "offerShare": rng.choice([None, 0.5])}),
            (fuel_orders.create, {"assigneeID": rng.choice(PEOPLE)}),
            (fuel_orders.csr_update, {"notes": "x", "truckID": rng.choice([None, truck])}),
            (fuel_orders.cancel, {}),
            (fuel_orders.delete, {}),
            (fuel_orders.offer_to_all, {"waitedSeconds": 0}),
            *[(fuelers.change_status, {"status": rng.choice(["claimed", *FuelStatus])})] * 8,
            *[(fuelers.acknowledge_change, {"change_version": rng.randint(0, 3)})] * 2,
            *[(fuelers.submit_data, {**readings, "truckID": rng.choice([None, truck])})] * 9,
        ]
    )
    try:
        return yard.do(command, fuelOrderID=order, **given)
    except SyncError:
        return []


@pytest.mark.parametrize("seed", range(3))
def test_what_has_to_hold_holds_after_each_step(seed: int) -> None:
    rng = random.Random(seed)
    yard = Shop()
    for truck in ("t1", "t2"):
        yard.do(fuel_trucks.create, truckID=truck, name=truck)
    meters = {"t1": Decimal("0.00"), "t2": Decimal("0.00")}
    done = 0
    for _ in range(STEPS):
        before = {order.fuelOrderID: order for order in yard.all(FuelOrder)}
        first = next(n for n in range(STEPS) if f"f{n}" not in before or before[f"f{n}"].is_open)
        for event in step(yard, rng, first):
            if isinstance(event.document, FuelOrder) and not event.deleted:
                check_change(before.get(event.document.fuelOrderID), event, yard)
            if event.event_type == "order_completed":
                completed: Any = event.document
                meters[completed.truckID] = completed.endMeterReading
                done += 1
        assert {truck.truckID: truck.currentMeterReading for truck in yard.all(FuelTruck)} == meters
    documents, _ = replay(yard.log, domain=FUELING)
    assert documents == {
        document.ref: document.content() for kind in (FuelOrder, FuelTruck) for document in yard.all(kind)
    }
    assert done > 5, "it was not put to the test"


def check_change(before: FuelOrder | None, event: DomainEvent, yard: Shop) -> None:
    order = event.document
    assert isinstance(order, FuelOrder)
    is_completed = order.status is FuelStatus.COMPLETED
    assert all((getattr(order, name) is not None) == is_completed for name in FIGURES)
    assert order.acknowledgedVersion <= order.changeVersion
    assert bool(order.pendingChanges) <= order.is_changed
    assert (order.assigneeID is None) >= (order.status is FuelStatus.UNASSIGNED)
    assert (order.audience() == ()) == (order.status is FuelStatus.UNASSIGNED)
    if before is None:
        return
    assert before.is_open, "what is done stays as it is"
    if before.is_changed:
        allowed = {"order_details_updated", "change_acknowledged", "new_unclaimed_order"}
        assert event.event_type in allowed or order.status is FuelStatus.CANCELLED
        assert order.status in (before.status, FuelStatus.CANCELLED), "it stands still until the change is read"
    if before.assigneeID is not None and event.event_type not in ("order_details_updated", "order_update"):
        assert yard.principal == f"user:{before.assigneeID}", "nobody works on what is another's"
