"""The commands in JavaScript beside their declarations in Python: routes, fields, and the picture they give."""

import json
import random
from typing import Any

import pytest
from playwright.async_api import Page

from sync_core.domain.catalog import DOMAIN, SHOP
from sync_core.domain.changes import Changes, Context, RuleConflict
from sync_core.domain.command import Command
from sync_core.domain.document import Document, Known, Ref
from sync_core.domain.orders import PaymentStatus
from sync_core.problems import SyncError
from sync_core.times import iso_from_ms

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOW_MS = 1_795_000_000_000
NOW = iso_from_ms(NOW_MS)

OVERLAYS = """async (text) => {
  const { COMMANDS } = await import('/js/commands.js');
  const { Overlay } = await import('/js/overlay.js');
  const { KINDS } = await import('/js/kinds.js');
  const results = JSON.parse(text).map(({ documents, name, given }) => {
    const overlay = new Overlay({ commands: COMMANDS, base: (kind, id) => documents[kind]?.[id] });
    overlay.setPending([{ key: 'k', name, given, createdAt: 'NOW' }]);
    overlay.settle(new Map());
    return Object.fromEntries(Object.keys(KINDS).map((kind) =>
      [kind, Object.fromEntries([...overlay.ids(kind)].map((id) => [id, overlay.get(kind, id)]))]));
  });
  return JSON.stringify(results);
}""".replace("'NOW'", f"'{NOW}'")


def name_of(command: Command) -> str:
    first, *rest = command.name.split("_")
    return f"{command.target.plural}.{first}" + "".join(word.capitalize() for word in rest)


COMMANDS = {name_of(command): command for command in DOMAIN.commands}


async def test_every_command_is_there_with_its_route(unit_page: Page) -> None:
    found = await unit_page.evaluate(
        """import('/js/commands.js').then(({ COMMANDS }) =>
          Object.fromEntries(Object.entries(COMMANDS).map(([name, { method, path }]) => [name, [method, path]])))"""
    )
    assert found == {name: [command.method, command.path] for name, command in COMMANDS.items()}


async def test_every_kind_is_there_with_its_names(unit_page: Page) -> None:
    found = await unit_page.evaluate(
        """import('/js/kinds.js').then(({ KINDS }) =>
          Object.fromEntries(Object.values(KINDS).map(({ plural, key, id }) => [plural, [key, id]])))"""
    )
    assert found == {kind.plural: [kind.kind, kind.id_key] for kind in DOMAIN.kinds.values()}


async def test_every_event_type_is_listened_for(unit_page: Page) -> None:
    """A native EventSource hands out only what it was told of."""
    found = await unit_page.evaluate("import('/js/source.js').then(({ EVENT_TYPES }) => EVENT_TYPES)")
    assert sorted(found) == sorted({event_type.name for event_type in DOMAIN.event_types})


async def test_overlays_show_what_the_rules_will_do(unit_page: Page) -> None:
    """Random commands on random shops: the same documents, and nothing shown where the rule refuses."""
    rng = random.Random(7)
    cases = [_case(rng) for _ in range(600)]
    asked = [{"documents": _by_plural(shop), "name": name, "given": given} for shop, name, given in cases]
    shown = json.loads(await unit_page.evaluate(OVERLAYS, json.dumps(asked)))
    accepted = 0
    for (shop, name, given), picture in zip(cases, shown, strict=True):
        expected = _after(shop, name, given)
        accepted += any(expected.values())
        assert _plain(picture) == _plain(expected), (name, given, _plain(_by_plural(shop)))
    assert accepted > 150, "most cases are refused: they say little"


def _case(rng: random.Random) -> tuple[dict[Ref, Document], str, dict[str, Any]]:
    shop = _shop(rng)
    name = name_of(rng.choice(SHOP.commands))
    order, queue, bay = rng.choice(["O1", "O2", "O3"]), rng.choice(["Q1", "Q2"]), rng.choice(["B1", "B2"])
    item = {"sku": "s", "name": "n", "quantity": rng.randint(1, 9), "unitPrice": rng.choice(["0.10", "12.35", "7.00"])}
    fields: dict[str, Any] = {
        "orderID": order, "queueID": queue, "bayID": bay, "jobID": rng.choice(["J1", "J2"]),
        "newStage": rng.choice(["initiated", "in_progress", "completed", "cancelled"]),
        "status": rng.choice(["available", "cleaning"] if name == "bays.edit" else list(PaymentStatus)),
        "items": rng.choice([[], [item], [item, item]]), "notes": rng.choice([None, "later"]), "name": "N",
        "paused": rng.choice([True, False]), "priority": rng.randint(-1, 1), "position": rng.randint(1, 4),
        "progress": rng.randint(0, 100), "reason": "broken", "amount": "3.50", "method": "card",
    }  # fmt: skip
    wanted = COMMANDS[name].input.model_fields
    return shop, name, {key: value for key, value in fields.items() if key in wanted}


def _shop(rng: random.Random) -> dict[Ref, Document]:
    """Documents as commands leave them: made by a random course of them."""
    shop: dict[Ref, Document] = {}

    def do(command: str, **given: Any) -> None:
        shop.update({ref: document for ref, document in _run(shop, command, given)[0].items() if document is not None})

    item = {"sku": "s", "name": "n", "quantity": 1, "unitPrice": "5.00"}
    for queue in ("Q1", "Q2"):
        do("queues.create", queueID=queue, name=queue)
    for bay in ("B1", "B2"):
        do("bays.create", bayID=bay, name=bay)
    for number, order in enumerate(("O1", "O2", "O3", "O4")):
        if rng.random() < 0.8:
            do("orders.create", orderID=order, items=[item] if rng.random() < 0.8 else [])
            if rng.random() < 0.6:
                do("queues.enter", queueID=rng.choice(["Q1", "Q2"]), orderID=order, priority=rng.randint(-1, 1))
            if rng.random() < 0.4:
                do("bays.startJob", bayID=rng.choice(["B1", "B2"]), orderID=order, jobID=f"J{number + 1}")
            if rng.random() < 0.2:
                do("orders.changeStage", orderID=order, newStage="cancelled")
            if rng.random() < 0.3:
                do("orders.setPayment", orderID=order, status="paid", amount="5.00")
    if rng.random() < 0.2:
        do("queues.edit", queueID="Q1", paused=True)
    return shop


def _run(
    shop: dict[Ref, Document], name: str, given: dict[str, Any], *, now_ms: int = NOW_MS
) -> tuple[dict[Ref, Document | None], bool]:
    """What the rule changes (None for what it deletes), and whether it accepts."""
    command = COMMANDS[name]
    changes = Changes(
        load=lambda ref: Known(shop.get(ref), shop[ref].version if ref in shop else 0),
        context=Context(now_ms, "somebody"),
        kinds=DOMAIN.kinds,
    )
    try:
        command.rule(changes, command.input.model_validate(given))
    except (RuleConflict, SyncError):
        return {}, False
    changed: dict[Ref, Document | None] = {}
    for event in changes.events:
        if event.document is not None:
            changed[event.document.ref] = None if event.deleted else event.document
    return changed, True


def _after(shop: dict[Ref, Document], name: str, given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    after: dict[str, dict[str, Any]] = {kind.plural: {} for kind in DOMAIN.kinds.values()}
    for ref, document in _run(shop, name, given)[0].items():
        plural = DOMAIN.kinds[ref.kind].plural
        after[plural][ref.id] = None if document is None else document.content()
    return after


def _by_plural(shop: dict[Ref, Document]) -> dict[str, dict[str, Any]]:
    documents: dict[str, dict[str, Any]] = {kind.plural: {} for kind in DOMAIN.kinds.values()}
    for ref, document in shop.items():
        documents[DOMAIN.kinds[ref.kind].plural][ref.id] = document.content()
    return documents


def _plain(documents: dict[str, dict[str, Any]]) -> list[str]:
    """As lines, without versions: an overlay keeps the one that it stands on."""
    return [
        f"{kind} {key} {value and json.dumps({k: v for k, v in value.items() if k != 'version'}, sort_keys=True)}"
        for kind, found in sorted(documents.items())
        for key, value in sorted(found.items())
    ]
