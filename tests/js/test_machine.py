"""The state machine in JavaScript beside the one in Python: the same cases, the same table, the same random courses."""

import json
import random
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from sync_client.machine import step, table_text
from sync_client.states import Activity, Effect, Happening, Machine, Policy, Signal

DOCUMENT: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "client" / "machine_cases.json").read_text(encoding="utf-8")
)
COURSES, STEPS = 150, 60

pytestmark = pytest.mark.asyncio(loop_scope="session")

RUN_CASE = """async (text) => {
  const { step } = await import('/js/machine.js');
  const { newMachine, POLICY } = await import('/js/states.js');
  const given = JSON.parse(text);
  const number = (value) => String(Number(value.toPrecision(6)));
  const words = ({ do: what, activity, delayS }) =>
    [what, activity, delayS === null ? null : number(delayS)].filter((word) => word !== null).join(' ');
  let machine = newMachine();
  const policy = { ...POLICY, ...given.policy };
  return given.steps.map(({ signal, at_s, source, delay_s, reason }) => {
    const happening = { signal, nowS: at_s };
    if (source !== undefined) happening.source = source;
    if (delay_s !== undefined) happening.delayS = delay_s;
    if (reason !== undefined) happening.reason = reason;
    const [after, effects] = step(machine, happening, { policy, rng: () => given.random });
    machine = after;
    return [machine.state, effects.map(words)];
  });
}"""

RUN_COURSES = """async (text) => {
  const { step } = await import('/js/machine.js');
  const { newMachine, POLICY } = await import('/js/states.js');
  const courses = JSON.parse(text).map(({ polling, unattended, steps }) => {
    let machine = newMachine();
    return steps.map(({ random, ...happening }) => {
      const policy = { ...POLICY, polling, unattended };
      const [after, effects] = step(machine, happening, { policy, rng: () => random });
      machine = after;
      return { machine: { ...machine, active: [...machine.active].sort() }, effects };
    });
  });
  return JSON.stringify(courses); // as text: a value of that size would take Playwright ten seconds
}"""


@pytest.mark.parametrize("case", DOCUMENT["cases"], ids=lambda case: case["name"])
async def test_case(case: dict[str, Any], unit_page: Page) -> None:
    found = await unit_page.evaluate(RUN_CASE, json.dumps(case))
    assert found == [[given["state"], given["effects"]] for given in case["steps"]]


async def test_the_table_is_the_same(unit_page: Page) -> None:
    table = await unit_page.evaluate("import('/js/machine.js').then(({ TABLE }) => TABLE)")
    assert table == table_text()


async def test_the_numbers_are_the_same(unit_page: Page) -> None:
    policy = await unit_page.evaluate("import('/js/states.js').then(({ POLICY }) => POLICY)")
    backoff = policy.pop("backoff")
    ours = Policy()
    assert policy == {_camel(f.name): getattr(ours, f.name) for f in fields(ours) if f.name != "backoff"}
    assert backoff == {"baseS": ours.backoff.base_s, "factor": ours.backoff.factor, "capS": ours.backoff.cap_s}


async def test_random_courses_end_alike(unit_page: Page) -> None:
    """Whatever happens in whatever order: state, everything remembered, and every effect."""
    rng = random.Random(20)
    courses = [_course(rng) for _ in range(COURSES)]
    found = json.loads(await unit_page.evaluate(RUN_COURSES, json.dumps([course for course, _ in courses])))
    for number, ((course, expected), got) in enumerate(zip(courses, found, strict=True)):
        for place, (wanted, seen) in enumerate(zip(expected, got, strict=True)):
            assert seen == wanted, f"course {number}, step {place}: {course['steps'][: place + 1]}"


def _course(rng: random.Random) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Signals in any order, and what the Python machine makes of them."""
    policy = Policy(polling=rng.random() < 0.9, unattended=rng.random() < 0.3)
    machine, now_s = Machine(), 0.0
    steps: list[dict[str, Any]] = []
    expected: list[dict[str, Any]] = []
    for place in range(STEPS):
        now_s += rng.choice([0.0, 0.125, 0.5, 1.0, 16.0, 61.0, 400.0])
        signal = Signal.CONNECT if place == 0 else _signal(rng, machine)
        source = rng.choice([Activity.STREAM, Activity.POLL, Activity.PROBE, None])
        delay_s = rng.choice([None, None, 0.0, 0.25, 30.0, 900.0])
        reason = rng.choice(["", "token_expired", "x"])
        chance = rng.choice([0.0, 0.5, 0.75])
        happening = Happening(signal, now_s, source=source, delay_s=delay_s, reason=reason)
        machine, effects = step(machine, happening, policy=policy, rng=lambda chance=chance: chance)
        steps.append(
            {
                "signal": signal.value, "nowS": now_s, "source": source.value if source else None, "delayS": delay_s,
                "reason": reason, "random": chance,
            }
        )  # fmt: skip
        expected.append({"machine": _machine(machine), "effects": [_effect(effect) for effect in effects]})
    return {"polling": policy.polling, "unattended": policy.unattended, "steps": steps}, expected


_LIKELY = {
    Activity.STREAM: [Signal.OPENED, Signal.LOST, Signal.ATTEMPT_FAILED, Signal.FIRST_BYTE_MISSED, Signal.GOODBYE],
    Activity.PLAIN: [Signal.PLAIN_ANSWERED, Signal.PLAIN_FAILED],
    Activity.TOKEN: [Signal.TOKEN_READY, Signal.TOKEN_MISSING, Signal.TOKEN_FAILED],
    Activity.POLL: [Signal.POLLED, Signal.POLL_FAILED],
    Activity.PROBE: [Signal.PROBE_OPENED, Signal.PROBE_FAILED],
}


def _signal(rng: random.Random, machine: Machine) -> Signal:
    """Mostly what is under way comes to an end, else anything."""
    active = sorted(machine.active, key=lambda activity: activity.value)
    if not active or rng.random() < 0.3:
        return rng.choice(list(Signal))
    activity = rng.choice(active)
    due = Signal(activity.value.replace("_timer", "_due")) if activity.value.endswith("_timer") else None
    return due if due is not None else rng.choice(_LIKELY[activity])


def _machine(machine: Machine) -> dict[str, Any]:
    values = {_camel(field.name): getattr(machine, field.name) for field in fields(machine)}
    return values | {
        "state": machine.state.value,
        "active": sorted(activity.value for activity in machine.active),
        "closes": [list(close) for close in machine.closes],
    }


def _effect(effect: Effect) -> dict[str, Any]:
    activity = effect.activity.value if effect.activity else None
    document = {"do": effect.do.value, "activity": activity, "delayS": effect.delay_s}
    return document | {"reason": effect.reason} if effect.do.value == "report" else document


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
