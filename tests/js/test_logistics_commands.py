"""Logistics in JavaScript beside its rules in Python: the picture that is shown until the server has answered."""

import json
import random
from typing import Any

import pytest
from playwright.async_api import Page

from sync_core.domain.catalog import DOMAIN, LOGISTICS
from sync_core.domain.changes import Changes, Context
from sync_core.domain.document import Document, Known, Ref
from sync_core.problems import SyncError
from tests.js.test_commands import COMMANDS, NOW_MS, OVERLAYS, _by_plural, _plain, name_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

Yard = dict[Ref, Document]
NAMES = [name_of(command) for command in LOGISTICS.commands]
VINS = ["WDB9066331S123456", "VF1MA000064123457", "1HGCM82633A004352"]
PLATES = ["B 101", "b-102", "ب ١٠٣"]
SAME_PLATES = [*PLATES, "B\u200b\u2011101", "Ｂ102", "ب ۱۰۳", "O\u0308 ß\u00ad1", "Öss1"]
"""As they may be typed: some of them are one plate."""
POINT = {"type": "Point", "coordinates": [35.5, 33.9]}


async def test_overlays_show_what_the_rules_will_do(unit_page: Page) -> None:
    """Random commands on random yards."""
    rng = random.Random(13)
    cases = [_case(rng) for _ in range(1500)]
    asked = [{"documents": _by_plural(yard), "name": name, "given": given} for yard, name, given in cases]
    shown = json.loads(await unit_page.evaluate(OVERLAYS, json.dumps(asked)))
    accepted = dict.fromkeys(NAMES, 0)
    for (yard, name, given), picture in zip(cases, shown, strict=True):
        changed = _run(yard, name, given)
        expected: dict[str, dict[str, Any]] = {kind.plural: {} for kind in DOMAIN.kinds.values()}
        for ref, document in changed.items():
            content = None if document is None else json.loads(json.dumps(document.content()), parse_float=_number)
            expected[DOMAIN.kinds[ref.kind].plural][ref.id] = content
        accepted[name] += bool(changed)
        assert _plain(picture) == _plain({plural: expected[plural] for plural in picture}), (name, given, yard)
    assert min(accepted.values()) > 5, accepted


def _number(text: str) -> float | int:
    """As JavaScript writes it: 33.0 is 33."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _case(rng: random.Random) -> tuple[Yard, str, dict[str, Any]]:
    name = rng.choice(NAMES)
    vehicle, driver = rng.choice(["V1", "V2", "V3"]), rng.choice(["dan", "eve", "joe"])
    fields: dict[str, Any] = {
        "vehicleID": rng.choice([vehicle, vehicle, None]) if name == "transport_orders.assignVehicle" else vehicle,
        "driverID": rng.choice([driver, None]), "userID": driver, "name": "N", "phone": rng.choice([None, "1"]),
        "vin": rng.choice(VINS).lower(), "plateNumber": rng.choice(SAME_PLATES), "make": "MB", "model": "Vito",
        "fuelNorm": rng.choice(["8", "10.5"]), "transportOrderID": rng.choice(["T1", "T2", "T3", "T4"]),
        "customerID": "acme", "pickup": {"coordinates": [1.23456789, -0.5]}, "delivery": POINT,
        "price": rng.choice(["9", "12.5"]), "notes": rng.choice([None, "x"]),
        "status": rng.choice(["in_progress", "delivered"]), "reason": rng.choice([None, "why"]),
        "fuelLogID": rng.choice(["F1", "F2", "F3", "F4"]), "liters": rng.choice(["40", "33.35", "0.07"]),
        "odometer": rng.choice([900, 1300, 1337, 2000]), "at": rng.choice([None, "2026-11-20T10:00:00+02:00"]),
    }  # fmt: skip
    wanted = COMMANDS[name].input.model_fields
    optional = {"phone", "price", "notes", "reason", "at", "vin", "plateNumber", "fuelNorm", "make", "pickup"}
    given = {
        key: value
        for key, value in fields.items()
        if key in wanted and (wanted[key].is_required() or key not in optional or rng.random() < 0.6)
    }
    if name == "vehicles.edit":
        given = {key: value for key, value in given.items() if value is not None}
    return _yard(rng), name, given


def _yard(rng: random.Random) -> Yard:
    """Documents as commands leave them."""
    yard: Yard = {}

    def do(name: str, /, **given: Any) -> None:
        yard.update({ref: document for ref, document in _run(yard, name, given).items() if document is not None})

    for number, vehicle in enumerate(("V1", "V2")):
        do(
            "vehicles.create", vehicleID=vehicle, vin=VINS[number], plateNumber=PLATES[number], make="MB",
            model="Vito", fuelNorm="9.5",
        )  # fmt: skip
    for driver in ("dan", "eve"):
        do("drivers.create", userID=driver, name=driver)
    if rng.random() < 0.6:
        do("vehicles.assignDriver", vehicleID="V1", driverID="dan")
    for order in ("T1", "T2", "T3"):
        do("transport_orders.create", transportOrderID=order, customerID="acme", pickup=POINT, delivery=POINT)
        if rng.random() < 0.7:
            do("transport_orders.assignVehicle", transportOrderID=order, vehicleID=rng.choice(["V1", "V2"]))
            for status in ("in_progress", "delivered")[: rng.choice([0, 0, 1, 2])]:
                do("transport_orders.setStatus", transportOrderID=order, status=status)
        if rng.random() < 0.15:
            do("transport_orders.cancel", transportOrderID=order)
    for number in range(rng.choice([0, 1, 2, 3])):
        do("fuel_logs.create", fuelLogID=f"F{number + 1}", vehicleID="V1", liters="20.50", odometer=1000 + 300 * number)
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
