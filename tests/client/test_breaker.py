"""The circuit breaker."""

import asyncio
import contextlib

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


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock=clock, rng=lambda: 0.5)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with breaker.request() as permission:
            permission.failed()


def test_it_opens_after_five_failures_in_a_row(breaker: Breaker) -> None:
    fail(breaker, 4)
    assert breaker.state is BreakerState.CLOSED
    fail(breaker)
    assert breaker.state is BreakerState.OPEN
    with pytest.raises(BreakerOpen) as refused, breaker.request():
        pass
    assert refused.value.retry_after_s == 10


def test_a_success_in_between_starts_the_count_again(breaker: Breaker) -> None:
    fail(breaker, 4)
    with breaker.request() as permission:
        permission.succeeded()
    fail(breaker, 4)
    assert breaker.state is BreakerState.CLOSED


def test_half_open_lets_one_of_fifty_through(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    clock.now_s += 11
    sent = 0
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            with contextlib.suppress(BreakerOpen):
                stack.enter_context(breaker.request())
                sent += 1
    assert sent == 1


def test_the_pause_doubles_up_to_a_minute(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    pauses = []
    for _ in range(5):
        pauses.append(breaker.retry_in_s)
        clock.now_s += breaker.retry_in_s
        fail(breaker)
    assert pauses == [10, 20, 40, 60, 60]


def test_a_success_of_the_probe_closes_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    clock.now_s += 11
    with breaker.request() as permission:
        permission.succeeded()
    assert breaker.state is BreakerState.CLOSED
    fail(breaker, 5)
    assert breaker.retry_in_s == 10


async def test_a_cancelled_probe_gives_its_place_back(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
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


def test_a_late_answer_from_before_does_not_settle_the_probe(breaker: Breaker, clock: Clock) -> None:
    with breaker.request() as early:
        fail(breaker, 5)
        clock.now_s += 11
        with breaker.request() as probe:
            early.succeeded()
            assert breaker.state is BreakerState.HALF_OPEN
            probe.failed()
    assert breaker.state is BreakerState.OPEN


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
