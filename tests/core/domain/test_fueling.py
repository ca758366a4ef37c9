"""Fuel orders: offered, claimed, changed by customer service meanwhile, completed together with the truck."""

from decimal import Decimal
from typing import Any

import pytest

from sync_core.domain import fuel_orders, fuel_trucks, fuelers
from sync_core.domain.catalog import DOMAIN, FUELING, REGISTRY
from sync_core.domain.changes import DomainEvent, RuleConflict
from sync_core.domain.document import Ref
from sync_core.domain.fields import MAX_AMOUNT
from sync_core.domain.fuel_orders import FuelOrder, FuelStatus
from sync_core.domain.fuel_trucks import FuelTruck
from sync_core.events import MAX_EVENT_BYTES
from sync_core.problems import NotFound, Unprocessable
from tests.core.domain.shop import START_MS, Shop, data_of, replay, types_of

CSR = "user:carla"
ANN, BEN = "user:ann", "user:ben"
WORKING = [FuelStatus.CLAIMED, FuelStatus.EN_ROUTE, FuelStatus.FUELING]
PATH: list[str] = [status.value for status in WORKING]


class Yard(Shop):
    """A shop of fuel: order f1, truck t1."""

    def by(self, who: str, command: Any, **given: Any) -> list[DomainEvent]:
        """*who* gives *command* on f1, or on what *given* names."""
        self.principal = who
        if "fuelOrderID" in command.input.model_fields:
            given = {"fuelOrderID": "f1", **given}
        return self.do(command, **given)

    @property
    def fuel_order(self) -> FuelOrder:
        found = self.find(FuelOrder, "f1")
        assert found is not None
        return found

    @property
    def truck(self) -> FuelTruck:
        found = self.find(FuelTruck, "t1")
        assert found is not None
        return found


def yard(status: str = "unassigned", **given: Any) -> Yard:
    """An order on its way, claimed by ann from there on."""
    here = Yard()
    here.by("user:boss", fuel_trucks.create, truckID="t1", name="Truck 1", currentMeterReading="100.00")
    here.by(CSR, fuel_orders.create, **{"aircraft": "N1", "truckID": "t1", "requestedGallons": "250", **given})
    for step in PATH[: PATH.index(status) + 1] if status in PATH else []:
        here.by(ANN, fuelers.change_status, status=step)
    if status == "completed":
        here.by(ANN, fuelers.change_status, status="claimed")
        here.by(ANN, fuelers.submit_data, startMeterReading="100", endMeterReading="110")
    if status == "cancelled":
        here.by(CSR, fuel_orders.cancel)
    return here


def refused(here: Yard, who: str, command: Any, match: str, **given: Any) -> RuleConflict:
    """*command* is refused and changes nothing."""
    before = dict(here.bodies)
    with pytest.raises(RuleConflict, match=match) as caught:
        here.by(who, command, **given)
    assert here.bodies == before
    return caught.value


# -- taking orders --------------------------------------------------------------------------------------------


def test_an_order_that_nobody_has_is_offered_to_every_fueler() -> None:
    here = Yard()
    (event,) = here.by(CSR, fuel_orders.create, aircraft="N1", location="Gate 4", requestedGallons="250.5")
    assert types_of([event]) == ["new_unclaimed_order"]
    assert (event.sample, event.tags) == (None, ("fuelOrderID=f1",))
    now = "2026-11-18T11:06:40.000Z"
    assert data_of(event) == {
        "fuel_order": {
            "version": 1, "fuelOrderID": "f1", "status": "unassigned", "aircraft": "N1", "location": "Gate 4",
            "requestedGallons": "250.50", "changeVersion": 0, "acknowledgedVersion": 0, "pendingChanges": [],
            "offeredAt": now, "offeredToAll": True, "createdAt": now, "updatedAt": now,
        }
    }  # fmt: skip
    assert here.fuel_order.audience() == ()


@pytest.mark.parametrize(("share", "sample", "to_all"), [(0.3, 0.3, False), (1, None, True), (1.0, None, True)])
def test_it_is_offered_to_a_share_of_them_first(share: float, sample: float | None, to_all: bool) -> None:
    here = Yard()
    (event,) = here.by(CSR, fuel_orders.create, offerShare=share)
    assert (event.sample, here.fuel_order.offeredToAll) == (sample, to_all)


@pytest.mark.parametrize("share", [0, -0.1, 1.1, "0.5", True])
def test_a_share_of_another_form_is_refused(share: Any) -> None:
    with pytest.raises(ValueError, match="offerShare"):
        Yard().by(CSR, fuel_orders.create, offerShare=share)


def test_an_order_for_somebody_is_told_to_nobody_else() -> None:
    here = Yard()
    (event,) = here.by(CSR, fuel_orders.create, assigneeID="ann")
    assert types_of([event]) == ["fuel_order_created"]
    order = here.fuel_order
    assert (order.status, order.audience()) == (FuelStatus.CLAIMED, ("role:csr", "role:admin", "user:ann"))
    assert order.tags() == ("fuelOrderID=f1", "userID=ann")


@pytest.mark.parametrize("more", [{}, {"assigneeID": "ann"}])
def test_an_order_that_exists_is_not_taken_again(more: dict[str, str]) -> None:
    here = yard()
    before = here.fuel_order
    assert refused(here, CSR, fuel_orders.create, "already", **more).documents == (before,)


def test_an_order_with_a_truck_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Unprocessable) as caught:
        Yard().by(CSR, fuel_orders.create, truckID="t9")
    assert [fault.path for fault in caught.value.errors] == ["truckID"]


# -- claiming, and going along --------------------------------------------------------------------------------


def test_an_order_is_claimed_by_who_asks() -> None:
    here = yard()
    (event,) = here.by(ANN, fuelers.change_status, status="claimed")
    order = here.fuel_order
    assert (order.status, order.assigneeID) == (FuelStatus.CLAIMED, "ann")
    assert types_of([event]) == ["order_claimed"]
    assert data_of(event) == {
        "fuel_order": order.content(), "previousStatus": "unassigned", "newStatus": "claimed",
    }  # fmt: skip
    assert order.audience() == ("role:csr", "role:admin", "user:ann")
    assert "userID=ann" in event.tags


@pytest.mark.parametrize("who", [ANN, BEN])
def test_what_is_claimed_cannot_be_claimed(who: str) -> None:
    here = yard("claimed")
    told = refused(here, who, fuelers.change_status, "cannot become|somebody else", status="claimed")
    assert who == ANN or "ann" not in told.detail, "who has it is nobody's business"


def test_a_machine_claims_under_its_own_name() -> None:
    here = yard()
    here.by("key:abc", fuelers.change_status, status="claimed")
    assert here.fuel_order.audience()[-1] == "user:key:abc"


def test_nobody_claims_for_another() -> None:
    with pytest.raises(Unprocessable, match="another"):
        yard().by(ANN, fuelers.change_status, status="claimed", assigneeID="ben")


@pytest.mark.parametrize("principal", ["", "anonymous"])
def test_where_nobody_is_known_who_claims_says_so(principal: str) -> None:
    """On a replica, and without access control."""
    here = yard()
    here.by(principal, fuelers.change_status, status="claimed", assigneeID="ann")
    assert here.fuel_order.assigneeID == "ann"
    refused(here, principal, fuelers.change_status, "somebody else", status="en_route", assigneeID="ben")
    here.by(principal, fuelers.change_status, status="en_route")
    assert here.fuel_order.status is FuelStatus.EN_ROUTE


def test_without_access_control_who_claims_need_not_say_so() -> None:
    here = yard()
    here.by("anonymous", fuelers.change_status, status="claimed")
    assert here.fuel_order.assigneeID == "anonymous"


@pytest.mark.parametrize("status", list(FuelStatus))
@pytest.mark.parametrize("before", list(FuelStatus))
def test_an_order_goes_only_along_its_statuses(before: FuelStatus, status: FuelStatus) -> None:
    here = yard(before.value)
    if (before, status) in {
        ("unassigned", "claimed"), ("claimed", "en_route"), ("en_route", "fueling"),
        ("claimed", "unassigned"), ("en_route", "unassigned"),
    }:  # fmt: skip
        here.by(ANN, fuelers.change_status, status=status.value)
        assert here.fuel_order.status is status
    else:
        refused(here, ANN, fuelers.change_status, f"is {before} and cannot become {status}", status=status.value)


@pytest.mark.parametrize(
    ("command", "given"),
    [
        (fuelers.change_status, {"status": "en_route"}),
        (fuelers.change_status, {"status": "unassigned"}),
        (fuelers.acknowledge_change, {"change_version": 0}),
        (fuelers.submit_data, {"startMeterReading": "1", "endMeterReading": "2"}),
    ],
)
def test_only_its_assignee_works_on_an_order(command: Any, given: dict[str, Any]) -> None:
    refused(yard("claimed"), BEN, command, "somebody else", **given)


def test_an_order_that_is_given_back_is_offered_again() -> None:
    here = yard("claimed", offerShare=0.5)
    (event,) = here.by(ANN, fuelers.change_status, status="unassigned")
    assert (event.event_type, event.sample) == ("new_unclaimed_order", 0.5)
    assert (here.fuel_order.assigneeID, here.fuel_order.offeredToAll) == (None, False)
    here.by(BEN, fuelers.change_status, status="claimed")
    assert here.fuel_order.assigneeID == "ben"


def test_who_claims_may_take_another_truck() -> None:
    here = yard()
    here.by("user:boss", fuel_trucks.create, truckID="t2", name="Truck 2")
    (event,) = here.by(ANN, fuelers.change_status, status="claimed", truckID="t2")
    assert here.fuel_order.truckID == "t2"
    assert event.before is not None
    assert "truckID=t1" in event.before.tags()


# -- changes of customer service ------------------------------------------------------------------------------


def test_a_change_of_customer_service_counts_up() -> None:
    here = yard("claimed")
    (event,) = here.by(CSR, fuel_orders.csr_update, requestedGallons="300")
    order = here.fuel_order
    assert (order.changeVersion, order.acknowledgedVersion, order.is_changed) == (1, 0, True)
    assert (order.requestedGallons, order.aircraft) == (Decimal("300.00"), "N1")
    assert types_of([event]) == ["order_details_updated"]
    assert data_of(event) == {"fuel_order": order.content(), "changed": ["requestedGallons"]}
    here.by(CSR, fuel_orders.csr_update, notes="Hurry", aircraft=None)
    order = here.fuel_order
    assert (order.changeVersion, order.aircraft) == (2, None)
    assert order.pendingChanges == ("requestedGallons", "aircraft", "notes")


@pytest.mark.parametrize("before", ["unassigned", "claimed", "en_route", "fueling"])
def test_nothing_goes_on_until_a_change_is_acknowledged(before: str) -> None:
    here = yard(before)
    here.by(CSR, fuel_orders.csr_update, requestedGallons="300")
    readings = {"startMeterReading": "100", "endMeterReading": "110"}
    for status in fuelers.NEXT_STATUSES[FuelStatus(before)]:
        refused(here, ANN, fuelers.change_status, "acknowledge change 1 first", status=status.value)
    if before != "unassigned":
        refused(here, ANN, fuelers.submit_data, "acknowledge change 1 first", **readings)
    here.by(ANN, fuelers.acknowledge_change, change_version=1)
    if before == "unassigned":
        here.by(ANN, fuelers.change_status, status="claimed")
    here.by(ANN, fuelers.submit_data, **readings)
    assert here.fuel_order.status is FuelStatus.COMPLETED


def test_an_acknowledgement_says_who_and_when() -> None:
    here = yard("claimed")
    here.by(CSR, fuel_orders.csr_update, requestedGallons="300")
    (event,) = here.by(ANN, fuelers.acknowledge_change, change_version=1)
    order = here.fuel_order
    assert (order.is_changed, order.pendingChanges) == (False, ())
    assert (order.acknowledgedBy, order.acknowledgedAt) == ("ann", order.updatedAt)
    assert types_of([event]) == ["change_acknowledged"]
    assert data_of(event) == {"fuel_order": order.content(), "change_version": 1}


@pytest.mark.parametrize("version", [0, 1, 3])
def test_only_the_newest_change_is_acknowledged(version: int) -> None:
    here = yard("claimed")
    for gallons in ("300", "310"):
        here.by(CSR, fuel_orders.csr_update, requestedGallons=gallons)
    refused(here, ANN, fuelers.acknowledge_change, "newest change of fuel order f1 is 2", change_version=version)


@pytest.mark.parametrize("done", ["completed", "cancelled"])
def test_what_is_done_is_left_alone(done: str) -> None:
    here = yard(done)
    for who, command, given in (
        (CSR, fuel_orders.csr_update, {"notes": "x"}),
        (CSR, fuel_orders.cancel, {}),
        (ANN, fuelers.acknowledge_change, {"change_version": 0}),
        (ANN, fuelers.submit_data, {"startMeterReading": "1", "endMeterReading": "2"}),
    ):
        refused(here, who, command, f"is {done}", **given)


@pytest.mark.parametrize("before", ["unassigned", "claimed", "en_route", "fueling"])
def test_customer_service_cancels_what_is_not_done(before: str) -> None:
    here = yard(before)
    here.by(CSR, fuel_orders.csr_update, notes="Wait")
    (event,) = here.by(CSR, fuel_orders.cancel, reason="No flight")
    order = here.fuel_order
    assert (order.status, order.reason, order.is_open, order.is_changed) == ("cancelled", "No flight", False, False)
    assert data_of(event)["previousStatus"] == before
    assert order.audience() == ("role:csr", "role:admin", *(["user:ann"] if before != "unassigned" else []))


# -- completing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", PATH)
def test_order_and_truck_are_completed_together(before: str) -> None:
    here = yard(before)
    events = here.by(ANN, fuelers.submit_data, startMeterReading="100", endMeterReading="350.25")
    order, truck = here.fuel_order, here.truck
    assert (order.status, order.is_open) == (FuelStatus.COMPLETED, False)
    assert (order.startMeterReading, order.endMeterReading) == (Decimal("100.00"), Decimal("350.25"))
    assert (order.gallonsDispensed, truck.currentMeterReading) == (Decimal("250.25"), Decimal("350.25"))
    assert types_of(events) == ["order_completed", "truck_updated"]
    assert data_of(events[0]) == {"fuel_order": order.content()}
    assert data_of(events[1]) == {"fuel_truck": truck.content(), "change": "fuelled", "fuelOrderID": "f1"}


@pytest.mark.parametrize(
    ("start", "end", "gallons"),
    [
        ("0", "0", "0.00"), ("0.1", "0.30", "0.20"), ("1.10", "3.30", "2.20"),
        ("0", str(MAX_AMOUNT), str(MAX_AMOUNT)), ("0.01", str(MAX_AMOUNT), "9999999999.98"),
    ],
)  # fmt: skip
def test_gallons_are_exact(start: str, end: str, gallons: str) -> None:
    here = yard("claimed")
    here.by(ANN, fuelers.submit_data, startMeterReading=start, endMeterReading=end)
    assert here.fuel_order.content()["gallonsDispensed"] == gallons


def test_a_meter_does_not_run_backwards() -> None:
    here = yard("fueling")
    before = dict(here.bodies)
    with pytest.raises(Unprocessable) as caught:
        here.by(ANN, fuelers.submit_data, startMeterReading="100.01", endMeterReading="100")
    assert [fault.path for fault in caught.value.errors] == ["endMeterReading"]
    assert here.bodies == before


@pytest.mark.parametrize("reading", [100, 1.5, "-1", "1.005", "1e3", "", None, True])
def test_a_reading_is_a_decimal_as_text(reading: Any) -> None:
    with pytest.raises(ValueError, match="startMeterReading"):
        yard("fueling").by(ANN, fuelers.submit_data, startMeterReading=reading, endMeterReading="200")


def test_nobody_completes_what_nobody_has_claimed() -> None:
    refused(yard(), ANN, fuelers.submit_data, "claim it first", startMeterReading="1", endMeterReading="2")


def test_it_takes_a_truck_to_complete_an_order() -> None:
    here = yard("claimed", truckID=None)
    for said in ("names no truck", "names truck t2, which is no more"):
        with pytest.raises(Unprocessable, match=said) as caught:
            here.by(ANN, fuelers.submit_data, startMeterReading="1", endMeterReading="2")
        assert [fault.path for fault in caught.value.errors] == ["truckID"]
        if here.fuel_order.truckID is None:
            here.by("user:boss", fuel_trucks.create, truckID="t2", name="Truck 2")
            here.by(CSR, fuel_orders.csr_update, truckID="t2")
            here.by(ANN, fuelers.acknowledge_change, change_version=1)
            here.by("user:boss", fuel_trucks.delete, truckID="t2")
    here.by(ANN, fuelers.submit_data, startMeterReading="1", endMeterReading="2", truckID="t1")
    assert (here.fuel_order.truckID, here.truck.currentMeterReading) == ("t1", Decimal("2.00"))


# -- offers, deletes, trucks ----------------------------------------------------------------------------------


def test_what_nobody_claims_in_time_is_offered_to_all_once() -> None:
    here = yard(offerShare=0.2)
    here.now_ms = START_MS + 5000
    assert here.by("system", fuel_orders.offer_to_all, waitedSeconds=5) == [], "a millisecond too early"
    here.now_ms = START_MS + 5001
    (event,) = here.by("system", fuel_orders.offer_to_all, waitedSeconds=5)
    assert (event.event_type, event.sample, here.fuel_order.offeredToAll) == ("new_unclaimed_order", None, True)
    assert here.by("system", fuel_orders.offer_to_all, waitedSeconds=5) == []


def test_what_was_claimed_in_time_is_not_offered_again() -> None:
    here = yard("claimed", offerShare=0.2)
    here.now_ms = START_MS + 60_000
    assert here.by("system", fuel_orders.offer_to_all, waitedSeconds=5) == []
    here.by(ANN, fuelers.change_status, status="unassigned")
    assert here.by("system", fuel_orders.offer_to_all, waitedSeconds=5) == [], "offered anew, its time begins anew"


@pytest.mark.parametrize("status", list(FuelStatus))
def test_only_what_nobody_works_on_is_deleted(status: FuelStatus) -> None:
    here = yard(status.value)
    if status in (FuelStatus.UNASSIGNED, FuelStatus.CANCELLED):
        (event,) = here.by(CSR, fuel_orders.delete)
        assert data_of(event) == {"deleted": True, "fuel_order": {"fuelOrderID": "f1"}}
        assert Ref("fuel_order", "f1") not in here.bodies
    else:
        refused(here, CSR, fuel_orders.delete, "cannot be deleted")


def test_trucks_come_change_and_go() -> None:
    here = Yard()
    boss = "user:boss"
    here.by(boss, fuel_trucks.create, truckID="t1", name="Truck 1")
    assert here.truck.content() == {
        "version": 1, "truckID": "t1", "name": "Truck 1", "currentMeterReading": "0.00",
    }  # fmt: skip
    here.by(boss, fuel_trucks.edit, truckID="t1", currentMeterReading="12.5")
    here.by(boss, fuel_trucks.edit, truckID="t1", name="Big one")
    assert (here.truck.name, here.truck.currentMeterReading) == ("Big one", Decimal("12.50"))
    with pytest.raises(RuleConflict, match="already"):
        here.by(boss, fuel_trucks.create, truckID="t1", name="Other")
    here.by(boss, fuel_trucks.delete, truckID="t1")
    with pytest.raises(NotFound):
        here.by(boss, fuel_trucks.edit, truckID="t1", name="x")


def test_a_replica_of_the_events_has_the_documents() -> None:
    here = yard("fueling", offerShare=0.5)
    here.by(CSR, fuel_orders.csr_update, requestedGallons=None, location="Gate 5")
    here.by(ANN, fuelers.acknowledge_change, change_version=1)
    here.by(ANN, fuelers.submit_data, startMeterReading="100", endMeterReading="120")
    documents, _ = replay(here.log, domain=FUELING)
    assert documents == {ref: here.known(ref).document.content() for ref in here.bodies}  # type: ignore[union-attr]


def test_every_event_about_the_largest_order_fits() -> None:
    worst = "\x01"  # six bytes in JSON
    here = Yard()
    given = {"fuelOrderID": "x" * 64, "aircraft": worst * 200, "location": worst * 200, "notes": worst * 2000}
    here.by(CSR, fuel_orders.create, **given)
    here.by(CSR, fuel_orders.csr_update, **given)
    here.by(CSR, fuel_orders.cancel, fuelOrderID="x" * 64, reason=worst * 2000)
    assert max(len(text.encode()) for text in here.log) < MAX_EVENT_BYTES / 4


def test_the_declarations_are_what_the_documents_say() -> None:
    assert {kind.path() for kind in FUELING.kinds.values()} == {"fuel-orders", "fuel-trucks"}
    assert set(FUELING.kinds) <= set(DOMAIN.kinds)
    for event_type in FUELING.event_types:
        registered = REGISTRY.get(event_type.name)
        assert registered is event_type
        assert not registered.publishable
