"""The state machine: every case of machine_cases.json, the table's totality, and invariants over any course."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sync_client.draft import OWN
from sync_client.machine import TABLE, step, table_text
from sync_client.rules import RULES
from sync_client.states import Activity, Do, Effect, Happening, Machine, Policy, Signal, State

DOCUMENT: dict[str, Any] = json.loads((Path(__file__).parent / "machine_cases.json").read_text(encoding="utf-8"))


def effect_text(effect: Effect) -> str:
    parts = [effect.do.value]
    if effect.activity is not None:
        parts.append(effect.activity.value)
    if effect.delay_s is not None:
        parts.append(f"{effect.delay_s:g}")
    return " ".join(parts)


@pytest.mark.parametrize("case", DOCUMENT["cases"], ids=lambda case: case["name"])
def test_case(case: dict[str, Any]) -> None:
    machine = Machine()
    policy = Policy(**case["policy"])
    for number, given in enumerate(case["steps"]):
        happening = Happening(
            Signal(given["signal"]),
            given["at_s"],
            source=Activity(given["source"]) if "source" in given else None,
            delay_s=given.get("delay_s"),
            reason=given.get("reason", ""),
        )
        machine, effects = step(machine, happening, policy=policy, rng=lambda: case["random"])
        where = f"step {number}, {given['signal']}"
        assert (machine.state.value, [effect_text(e) for e in effects]) == (given["state"], given["effects"]), where


def test_every_state_has_a_rule_for_every_signal() -> None:
    assert set(TABLE) == {(state, signal) for state in State for signal in Signal}


def test_every_rule_is_used() -> None:
    assert {name for row in table_text().values() for name in row.values()} == set(RULES)


def test_the_cases_hold_the_table() -> None:
    """A machine in another language checks itself against the copy in the file."""
    assert DOCUMENT["table"] == table_text()


def test_every_rule_but_ignore_is_exercised_by_a_case() -> None:
    seen = set()
    for case in DOCUMENT["cases"]:
        state = State.DISCONNECTED
        for given in case["steps"]:
            seen.add(TABLE[state, Signal(given["signal"])].__name__)
            state = State(given["state"])
    assert set(RULES) - seen == set()


REQUESTS = {Activity.STREAM, Activity.POLL, Activity.PROBE}
TERMINAL = {State.DISCONNECTED, State.CLOSED, State.FAILED}
SOURCES = {
    Signal.FIRST_BYTE: [Activity.STREAM, Activity.PROBE],
    Signal.STOPPED: [Activity.STREAM, Activity.POLL, Activity.PROBE],
    Signal.UNAUTHORIZED: [Activity.STREAM, Activity.POLL, Activity.PROBE],
    Signal.MISCONFIGURED: [Activity.STREAM, Activity.POLL],
    Signal.SPINNING: [Activity.STREAM, Activity.POLL, Activity.PROBE],
    Signal.RESET: [Activity.STREAM, Activity.POLL],
}
ANSWERS: dict[Activity, list[Signal]] = {
    Activity.STREAM: [Signal.FIRST_BYTE, Signal.OPENED, Signal.LOST, Signal.ATTEMPT_FAILED, Signal.FIRST_BYTE_MISSED,
                      Signal.GOODBYE, Signal.RESET],
    Activity.PLAIN: [Signal.PLAIN_ANSWERED, Signal.PLAIN_FAILED],
    Activity.TOKEN: [Signal.TOKEN_READY, Signal.TOKEN_MISSING, Signal.TOKEN_FAILED],
    Activity.POLL: [Signal.POLLED, Signal.POLL_FAILED, Signal.RESET],
    Activity.PROBE: [Signal.FIRST_BYTE, Signal.PROBE_OPENED, Signal.PROBE_FAILED],
    Activity.RETRY_TIMER: [Signal.RETRY_DUE], Activity.HEALTHY_TIMER: [Signal.HEALTHY_DUE],
    Activity.PATIENCE_TIMER: [Signal.PATIENCE_DUE], Activity.OPENING_TIMER: [Signal.OPENING_DUE],
    Activity.POLL_TIMER: [Signal.POLL_DUE], Activity.PROBE_TIMER: [Signal.PROBE_DUE],
    Activity.UNATTENDED_TIMER: [Signal.UNATTENDED_DUE],
}  # fmt: skip


class AnyCourse(RuleBasedStateMachine):
    """Signals in any order, stale ones included, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine()
        self.now_s = 0.0
        self.running: set[Activity] = set()
        self.speaking: set[Activity] = set()
        """Streams whose body has begun and that are not open: they may go on for ever, so they are no end."""
        self.random = 0.5
        self.policy = Policy(unattended=False)

    def feed(self, signal: Signal, **details: Any) -> None:
        before = self.machine
        if signal.value.endswith("_due"):
            self.now_s = max(self.now_s, before.not_before_s)  # timers are set beyond it
        happening = Happening(signal, self.now_s, **details)
        self.machine, effects = step(before, happening, policy=self.policy, rng=lambda: self.random)
        if signal is Signal.FIRST_BYTE and before.state is not State.CONNECTED:
            self.speaking |= {happening.source} & before.active
        for effect in effects:
            if effect.do is Do.START:
                assert effect.activity is not None
                self.running.add(effect.activity)
                self.speaking.discard(effect.activity)
                if effect.activity in REQUESTS and TABLE[before.state, signal].__name__ != "begin":
                    assert self.now_s >= before.not_before_s, f"{effect.activity} in spite of Retry-After"
                assert effect.delay_s is None or effect.delay_s >= 0
            elif effect.do is Do.STOP:
                assert effect.activity is not None
                self.running.discard(effect.activity)
            elif effect.do is Do.ADOPT:
                self.running.add(Activity.STREAM)
        self.running &= self.machine.active  # what reported back has ended by itself
        self.speaking &= self.machine.active if self.machine.state is not State.CONNECTED else set()

    @rule(gap_s=st.sampled_from([0.0, 0.01, 0.3, 1.0, 16.0, 61.0, 400.0]))
    def time_passes(self, gap_s: float) -> None:
        self.now_s += gap_s

    @rule(random=st.sampled_from([0.0, 0.5, 0.999]))
    def chance(self, random: float) -> None:
        self.random = random

    @rule(
        signal=st.sampled_from(list(Signal)),
        delay_s=st.sampled_from([None, None, 0.0, 0.2, 30.0, 900.0]),
        data=st.data(),
    )
    def anything_happens(self, signal: Signal, delay_s: float | None, data: st.DataObject) -> None:
        source = data.draw(st.sampled_from(SOURCES[signal])) if signal in SOURCES else None
        self.feed(signal, delay_s=delay_s, source=source, reason="token_expired" if delay_s == 0.2 else "x")

    @precondition(lambda self: self.machine.active)
    @rule(data=st.data())
    def something_active_reports(self, data: st.DataObject) -> None:
        """Likelier than by chance: what is under way comes to an end."""
        activity = data.draw(st.sampled_from(sorted(self.machine.active, key=lambda a: a.value)))
        signal = data.draw(st.sampled_from(ANSWERS[activity]))
        self.feed(signal, source=activity if signal in SOURCES else None)

    @invariant()
    def what_runs_is_what_the_machine_believes(self) -> None:
        assert self.running == self.machine.active

    @invariant()
    def only_what_belongs_to_the_state_is_active(self) -> None:
        assert self.machine.active <= OWN[self.machine.state]

    @invariant()
    def one_loop_is_alive(self) -> None:
        assert not {Activity.STREAM, Activity.POLL} <= self.machine.active
        assert not {Activity.STREAM, Activity.PROBE} <= self.machine.active

    @invariant()
    def never_stuck_without_something_that_will_end(self) -> None:
        if self.machine.state not in TERMINAL and not self.machine.held:
            ends = self.machine.active - {Activity.PATIENCE_TIMER, Activity.HEALTHY_TIMER} - self.speaking
            assert ends, self.machine

    @invariant()
    def a_body_that_is_no_stream_yet_has_a_timer_beside_it(self) -> None:
        assert (Activity.OPENING_TIMER in self.machine.active) == bool(self.speaking), self.machine

    @invariant()
    def polling_always_has_a_way_back_to_the_stream(self) -> None:
        if self.machine.state is State.POLLING and not self.machine.held:
            assert self.machine.active & {Activity.PROBE, Activity.PROBE_TIMER, Activity.TOKEN}
            assert self.machine.active & {Activity.POLL, Activity.POLL_TIMER, Activity.TOKEN}

    @invariant()
    def nothing_is_fetched_while_held(self) -> None:
        if self.machine.held:
            assert not self.machine.active & REQUESTS

    @invariant()
    def a_connection_is_a_stream(self) -> None:
        if self.machine.state is State.CONNECTED:
            assert Activity.STREAM in self.machine.active

    @invariant()
    def the_end_is_the_end(self) -> None:
        if self.machine.state in TERMINAL:
            assert not self.machine.active


TestAnyCourse = AnyCourse.TestCase
TestAnyCourse.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)
