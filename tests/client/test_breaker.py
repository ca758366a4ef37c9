"""The circuit breaker."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sync_client.breaker import Breaker, BreakerState, Pass
from sync_client.errors import BreakerOpen


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


DOCUMENT: dict[str, Any] = json.loads((Path(__file__).parent / "breaker_cases.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", DOCUMENT["cases"], ids=lambda case: case["name"])
def test_case(case: dict[str, Any]) -> None:
    """The same cases as the breaker in JavaScript."""
    clock = Clock()
    breaker = Breaker(clock=clock, rng=lambda: case["random"])
    requests: dict[str, tuple[contextlib.ExitStack, Pass]] = {}
    began_s = clock.now_s

    def do(what: str, name: str) -> None:
        if what in ("fail", "succeed"):
            with breaker.request() as permission:
                permission.failed() if what == "fail" else permission.succeeded()
        elif what == "sign":
            breaker.give_a_chance()
        elif what == "begin":
            stack = contextlib.ExitStack()
            requests[name] = stack, stack.enter_context(breaker.request())
        elif what != "look":
            stack, permission = requests.pop(name)
            if what != "cancelled":
                getattr(permission, what)()
            stack.close()

    for number, given in enumerate(case["steps"]):
        clock.now_s = began_s + given["at_s"]
        what, _, name = given["do"].partition(" ")
        refused = None
        for _ in range(given.get("times", 1)):
            try:
                do(what, name)
            except BreakerOpen as exc:
                refused = exc
        assert refused is None or refused.retry_after_s == breaker.retry_in_s
        found = (refused is not None, breaker.state.value, round(breaker.retry_in_s, 6))
        assert found == (given.get("refused", False), given["state"], given["retry_in_s"]), f"step {number}"


async def test_a_cancelled_task_gives_its_place_back() -> None:
    clock = Clock()
    breaker = Breaker(clock=clock, rng=lambda: 0.5)
    for _ in range(5):
        with breaker.request() as permission:
            permission.failed()
    clock.now_s += 11

    async def request() -> None:
        with breaker.request():
            await asyncio.Event().wait()

    task = asyncio.create_task(request())
    await asyncio.sleep(0)
    with pytest.raises(BreakerOpen), breaker.request():
        pass
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with breaker.request() as permission:
        permission.succeeded()
    assert breaker.state is BreakerState.CLOSED


class AnyUse(RuleBasedStateMachine):
    """Requests that begin, end well or badly or not at all, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(clock=self.clock, rng=lambda: 0.5)
        self.under_way: list[tuple[contextlib.ExitStack, Pass]] = []

    @rule(gap_s=st.sampled_from([0.0, 1.0, 9.0, 11.0, 61.0]))
    def time_passes(self, gap_s: float) -> None:
        self.clock.now_s += gap_s

    @rule()
    def begin(self) -> None:
        state, stack = self.breaker.state, contextlib.ExitStack()
        probing = sum(permission._probe for _, permission in self.under_way)
        try:
            permission = stack.enter_context(self.breaker.request())
        except BreakerOpen:
            assert state is not BreakerState.CLOSED
            assert self.breaker.retry_in_s > 0
            return
        assert state is not BreakerState.OPEN, "a request while the breaker is open"
        assert state is BreakerState.CLOSED or probing == 0, "a second request through half open"
        self.under_way.append((stack, permission))

    @precondition(lambda self: self.under_way)
    @rule(outcome=st.sampled_from(["succeeded", "failed", "cancelled"]), index=st.integers(0, 100))
    def end(self, outcome: str, index: int) -> None:
        stack, permission = self.under_way.pop(index % len(self.under_way))
        if outcome != "cancelled":
            getattr(permission, outcome)()
        stack.close()

    @invariant()
    def it_is_never_stuck(self) -> None:
        if not self.under_way:
            assert self.breaker.retry_in_s <= 60 * 1.2


TestAnyUse = AnyUse.TestCase
TestAnyUse.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
