"""Fueling in JavaScript beside its rules in Python: the picture that is shown until the server has answered."""

import json
import random
from typing import Any

import pytest
from playwright.async_api import Page

from sync_core.domain.catalog import DOMAIN, FUELING
from sync_core.domain.changes import Changes, Context
from sync_core.domain.document import Document, Known, Ref
from sync_core.problems import SyncError
from tests.js.test_commands import COMMANDS, NOW_MS, OVERLAYS, _by_plural, _plain, name_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

Yard = dict[Ref, Document]
NAMES = [name_of(command) for command in FUELING.commands]
STATUSES = ["unassigned", "claimed", "en_route", "fueling", "completed", "cancelled"]


async def test_overlays_show_what_the_rules_will_do(unit_page: Page) -> None:
    """Random commands on random yards, as a client without a name of its own gives them."""
    rng = random.Random(11)
    cases = [_case(rng) for _ in range(1500)]
    asked = [{"documents": _by_plural(yard), "name": name, "given": given} for yard, name, given in cases]
    shown = json.loads(await unit_page.evaluate(OVERLAYS, json.dumps(asked)))
    accepted = dict.fromkeys(NAMES, 0)
    for (yard, name, given), picture in zip(cases, shown, strict=True):
        changed = _run(yard, name, given)
        expected: dict[str, dict[str, Any]] = {kind.plural: {} for kind in DOMAIN.kinds.values()}
        for ref, document in changed.items():
            expected[DOMAIN.kinds[ref.kind].plural][ref.id] = None if document is None else document.content()
        accepted[name] += bool(changed)
        assert _plain(picture) == _plain({plural: expected[plural] for plural in picture}), (name, given, yard)
    assert min(accepted.values()) > 5, accepted


@pytest.mark.parametrize("wish", [{}, {"notes": None}, {"notes": "x"}])
async def test_a_change_of_nothing_shows_nothing(unit_page: Page, wish: dict[str, Any]) -> None:
    yard: Yard = {}
    for given in ({"fuelOrderID": "F1"}, {"fuelOrderID": "F1", "status": "claimed", "assigneeID": "ann"}):
        name = "fuel_orders.changeStatus" if "status" in given else "fuel_orders.create"
        yard.update({ref: document for ref, document in _run(yard, name, given).items() if document is not None})
    asked = [{"documents": _by_plural(yard), "name": "fuel_orders.csrUpdate", "given": {"fuelOrderID": "F1", **wish}}]
    (picture,) = json.loads(await unit_page.evaluate(OVERLAYS, json.dumps(asked)))
    shown = picture["fuel_orders"].get("F1")
    assert (shown and (shown["changeVersion"], shown["pendingChanges"])) == ((1, ["notes"]) if wish else None)


@pytest.mark.parametrize(
    ("start", "end", "gallons"),
    [
        ("0.1", "0.3", "0.20"), ("100", "350.25", "250.25"), ("1.10", "3.30", "2.20"), ("5", "5.00", "0.00"),
        ("0", "9999999999.99", "9999999999.99"), ("350.26", "350.25", None),
    ],
)  # fmt: skip
async def test_gallons_are_exact(unit_page: Page, start: str, end: str, gallons: str | None) -> None:
    reckon = "([start, end]) => import('/js/fueling.js').then(({ dispensed }) => dispensed(start, end))"
    assert await unit_page.evaluate(reckon, [start, end]) == gallons


def _case(rng: random.Random) -> tuple[Yard, str, dict[str, Any]]:
    name = rng.choice(NAMES)
    fields: dict[str, Any] = {
        "fuelOrderID": rng.choice(["F1", "F2", "F2", "F3"]), "truckID": rng.choice(["T1", "T2"]), "reason": "No flight",
        "status": rng.choice(STATUSES),
        "assigneeID": rng.choice(["ann", "ben"]), "aircraft": rng.choice([None, "N1"]), "notes": "later",
        "requestedGallons": rng.choice(["12.5", "300"]), "offerShare": rng.choice([0.3, 0.7]), "name": "Truck",
        "change_version": rng.randint(0, 2), "startMeterReading": rng.choice(["1.5", "10"]),
        "endMeterReading": rng.choice(["9.75", "20"]), "currentMeterReading": rng.choice(["0.5", "7"]),
    }  # fmt: skip
    wanted = COMMANDS[name].input
    ids = {parameter for parameter in ("fuelOrderID", "truckID") if parameter == COMMANDS[name].target.id_key}
    kept = {field for field in wanted.model_fields if wanted.model_fields[field].is_required() or rng.random() < 0.7}
    # Who claims says so: a rule on a client knows nobody.
    kept |= ids | ({"assigneeID"} if name == "fuel_orders.changeStatus" else set())
    given = {key: fields[key] for key in sorted(kept) if key in fields}
    if name == "fuel_trucks.edit":
        given = {key: value for key, value in given.items() if value is not None}
    return _yard(rng), name, given


def _yard(rng: random.Random) -> Yard:
    """Orders as commands leave them, on the way that a random course of them takes."""
    yard: Yard = {}

    def do(name: str, /, **given: Any) -> None:
        yard.update({ref: document for ref, document in _run(yard, name, given).items() if document is not None})

    do("fuel_trucks.create", truckID="T1", name="Truck 1")
    for order in ("F1", "F2"):
        do("fuel_orders.create", fuelOrderID=order, truckID="T1" if rng.random() < 0.7 else None, notes="x")
        for status in STATUSES[1 : rng.randint(1, 4)]:
            do(
                "fuel_orders.changeStatus",
                fuelOrderID=order,
                status=status,
                assigneeID=rng.choice(["ann", "ann", "ben"]),
            )
        if rng.random() < 0.3:
            do("fuel_orders.csrUpdate", fuelOrderID=order, location="Gate 1")
            if rng.random() < 0.5:
                do("fuel_orders.acknowledgeChange", fuelOrderID=order, change_version=1)
        if rng.random() < 0.2:
            do("fuel_orders.cancel", fuelOrderID=order)
        elif rng.random() < 0.2:
            do("fuel_orders.submitData", fuelOrderID=order, startMeterReading="1", endMeterReading="2")
    return yard


def _run(yard: Yard, name: str, given: dict[str, Any]) -> dict[Ref, Document | None]:
    """What the rule changes (None for what it deletes), on a client's replica."""
    command = COMMANDS[name]
    changes = Changes(
        load=lambda ref: Known(yard.get(ref), yard[ref].version if ref in yard else 0),
        context=Context(NOW_MS, ""),
        kinds=DOMAIN.kinds,
    )
    try:
        command.rule(changes, command.input.model_validate(given))
    except SyncError:
        return {}
    carried = [event for event in changes.events if event.document is not None]
    return {event.document.ref: None if event.deleted else event.document for event in carried if event.document}
