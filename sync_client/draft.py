"""The next machine in the making: what a rule changes, and the activities that it starts and stops."""

from dataclasses import replace
from typing import Any

from sync_client.backoff import Rng
from sync_client.states import Activity, Do, Effect, Happening, Machine, Policy, State

__all__ = ["OWN", "Draft"]

OWN: dict[State, frozenset[Activity]] = {
    State.DISCONNECTED: frozenset(),
    State.CONNECTING: frozenset({Activity.STREAM, Activity.OPENING_TIMER, Activity.PLAIN, Activity.TOKEN}),
    State.CONNECTED: frozenset({Activity.STREAM, Activity.HEALTHY_TIMER}),
    State.RECONNECTING: frozenset(
        {
            Activity.STREAM, Activity.OPENING_TIMER, Activity.PLAIN, Activity.TOKEN, Activity.RETRY_TIMER,
            Activity.PATIENCE_TIMER,
        }
    ),
    State.ERROR: frozenset({Activity.RETRY_TIMER}),
    State.POLLING: frozenset(
        {
            Activity.POLL, Activity.POLL_TIMER, Activity.PROBE, Activity.OPENING_TIMER, Activity.PROBE_TIMER,
            Activity.TOKEN,
        }
    ),
    State.CLOSED: frozenset(),
    State.FAILED: frozenset({Activity.UNATTENDED_TIMER}),
}  # fmt: skip
"""What may be active in a state; entering it stops everything else."""


class Draft:
    """The next machine in the making, and the effects on the way to it."""

    def __init__(self, machine: Machine, happening: Happening, *, policy: Policy, rng: Rng) -> None:
        self.machine = machine
        self.happening = happening
        self.now_s = happening.now_s
        self.policy = policy
        self.rng = rng
        self.effects: list[Effect] = []

    def set(self, **changes: Any) -> None:
        self.machine = replace(self.machine, **changes)

    def enter(self, state: State, *, reason: str = "") -> None:
        """Go to *state*, letting go of what does not belong there."""
        self.stop(*(a for a in self.machine.active if a not in OWN[state]))
        same = state is self.machine.state
        self.set(state=state, reason=reason, since_s=self.machine.since_s if same else self.now_s)

    def start(self, activity: Activity, *, delay_s: float | None = None) -> None:
        """Start *activity*; a request waits as long as the server asked for."""
        if activity in self.machine.active:
            self.stop(activity)
        self.set(active=self.machine.active | {activity})
        self.effects.append(Effect(Do.START, activity, delay_s))
        if activity is Activity.RETRY_TIMER and delay_s is not None:
            self.set(retry_at_s=self.now_s + delay_s)
        elif activity is Activity.STREAM:
            self.set(retry_at_s=None)

    def stop(self, *activities: Activity) -> None:
        for activity in sorted(activities, key=_ORDER.__getitem__):
            if activity in self.machine.active:
                self.set(active=self.machine.active - {activity})
                self.effects.append(Effect(Do.STOP, activity))
                self.ended(activity)

    def ended(self, activity: Activity) -> None:
        """What goes with *activity* goes with it: nobody waits for a stream that is over to say `connected`."""
        if activity in (Activity.STREAM, Activity.PROBE):
            self.stop(Activity.OPENING_TIMER)

    def report(self, reason: str) -> None:
        self.effects.append(Effect(Do.REPORT, reason=reason))

    def wait_s(self, delay_s: float) -> float:
        """*delay_s*, or longer if the server's Retry-After is still running."""
        return max(delay_s, self.machine.not_before_s - self.now_s)

    def obey_retry_after(self) -> None:
        """Remember the wait that the answer asked for; it holds for all kinds of requests."""
        asked_s = self.happening.delay_s
        if asked_s:
            # A little more, different for everybody: the same floor would send all of them back together.
            until_s = self.now_s + self.policy.backoff.delay_s(1, rng=self.rng, retry_after_s=asked_s)
            self.set(not_before_s=max(self.machine.not_before_s, until_s))


_ORDER = {activity: number for number, activity in enumerate(Activity)}
