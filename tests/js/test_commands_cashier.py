"""The cashier's commands in JavaScript beside their declarations: random commands on random devices, one picture."""

import json
import random
from typing import Any

import pytest
from playwright.async_api import Page

from sync_core.domain.catalog import CASHIER
from sync_core.domain.document import Document, Ref
from tests.js.test_commands import NOW_MS, OVERLAYS, _after, _by_plural, _plain, _run, name_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


def line(rng: random.Random) -> dict[str, Any]:
    """An order as a till sends it."""
    found: dict[str, Any] = {"name": rng.choice(["كولا", "tea"]), "price": rng.choice(["1000", "0.5", "12.35"])}
    for name, value in (("quantity", 3), ("notes", "بارد"), ("lastOrderTime", "2026-02-03T02:25:33+03:00"),
                        ("firstOrderTime", "2026-02-03T02:20:00+03:00"), ("station", "bar")):  # fmt: skip
        if rng.random() < 0.5:
            found[name] = value
    return found


def wish(rng: random.Random, name: str) -> dict[str, Any]:
    """Something that *name* may be given."""
    device = {"deviceID": rng.choice(["pc1", "pc2", "pc3"])}
    some: dict[str, Any] = {
        "isRunning": rng.random() < 0.5, "elapsedSeconds": rng.randrange(5000), "mode": rng.choice(["single", "multi"]),
        "customerCount": rng.randrange(5), "notes": rng.choice(["", "VIP"]), "name": "PC",
    }  # fmt: skip
    picked = {key: value for key, value in some.items() if rng.random() < 0.4}
    match name.partition(".")[2]:
        case "create":
            return device | {key: picked[key] for key in picked if key not in ("isRunning", "elapsedSeconds")}
        case "update":
            return device | picked
        case "placeOrders":
            return device | {"orders": [line(rng) for _ in range(rng.randint(1, 3))]}
        case "editOrder":
            return device | {"orderIndex": rng.randrange(3)} | {k: v for k, v in line(rng).items() if k != "station"}
        case "removeOrder":
            return device | {"orderIndex": rng.randrange(3)}
        case "transfer":
            return device | {"toDeviceID": rng.choice(["pc1", "pc2", "pc3"])}
        case "setCategories":
            names = ["Drinks", "Food"][: rng.randrange(3)]
            return {"catalogID": "main", "categories": [{"name": category} for category in names]}
        case "setPrices":
            price = {"name": "tea", "price": "5", "category": rng.choice(["Drinks", "Food"])}
            return {"catalogID": "main", "prices": [price][: rng.randrange(2)]}
    return device


def cafe(rng: random.Random) -> dict[Ref, Document]:
    """Devices as a course of commands leaves them, an hour before and later."""
    found: dict[Ref, Document] = {}
    names = [name_of(command) for command in CASHIER.commands if command.name != "delete"]
    for number in range(20):
        name = rng.choice(["devices.create", *names])
        changed, _ = _run(found, name, wish(rng, name), now_ms=NOW_MS - 3_600_000 + number * 77_777)
        found.update({ref: document for ref, document in changed.items() if document is not None})
    return found


async def test_overlays_show_what_the_rules_will_do(unit_page: Page) -> None:
    rng = random.Random(3)
    names = [name_of(command) for command in CASHIER.commands]
    cases = [(cafe(rng), name := rng.choice(names), wish(rng, name)) for _ in range(400)]
    asked = [{"documents": _by_plural(found), "name": name, "given": given} for found, name, given in cases]
    shown = json.loads(await unit_page.evaluate(OVERLAYS, json.dumps(asked)))
    accepted = set()
    for (found, name, given), picture in zip(cases, shown, strict=True):
        expected = _after(found, name, given)
        if any(expected.values()):
            accepted.add(name)
        assert _plain(picture) == _plain(expected), (name, given, _plain(_by_plural(found)))
    assert accepted == set(names), "each of them is accepted at times"


async def test_the_clock_is_read_as_on_the_server(unit_page: Page) -> None:
    running = {"isRunning": True, "elapsedSeconds": 60, "countedAt": "2026-11-20T10:30:00.000Z"}
    stopped = {"isRunning": False, "elapsedSeconds": 60}
    found = await unit_page.evaluate(
        """async (cases) => {
          const { elapsedS } = await import('/js/devices.js');
          return cases.map(([device, at]) => elapsedS(device, Date.parse(at)));
        }""",
        [[running, "2026-11-20T10:30:01.999Z"], [running, "2026-11-20T10:29:00Z"], [stopped, "2026-11-20T11:30:00Z"]],
    )
    assert found == [61, 60, 60]
