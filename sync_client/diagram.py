"""The state diagram, found by trying: every signal on every kind of machine that can come about.

python -m sync_client.diagram        # Mermaid, as in docs/client.md
"""

from dataclasses import replace

from sync_client.machine import step
from sync_client.states import Activity, Happening, Machine, Policy, Signal, State

__all__ = ["mermaid", "transitions"]

_SOURCES: dict[Signal, tuple[Activity, ...]] = {
    Signal.FIRST_BYTE: (Activity.STREAM, Activity.PROBE),
    Signal.STOPPED: (Activity.STREAM, Activity.POLL, Activity.PROBE),
    Signal.UNAUTHORIZED: (Activity.STREAM, Activity.POLL, Activity.PROBE),
    Signal.MISCONFIGURED: (Activity.STREAM, Activity.POLL),
    Signal.SPINNING: (Activity.STREAM, Activity.POLL, Activity.PROBE),
    Signal.RESET: (Activity.STREAM, Activity.POLL),
}


_NEVER: dict[State, frozenset[Signal]] = {
    State.CONNECTING: frozenset({Signal.LOST, Signal.GOODBYE, Signal.RESET}),
    State.RECONNECTING: frozenset({Signal.LOST, Signal.GOODBYE, Signal.RESET}),
    State.CONNECTED: frozenset(
        {
            Signal.FIRST_BYTE_MISSED, Signal.ATTEMPT_FAILED, Signal.UNAUTHORIZED, Signal.MISCONFIGURED, Signal.SPINNING,
            Signal.STOPPED,
        }
    ),
}  # fmt: skip
"""What a driver does not say there. The table has a rule for it all the same; the diagram is about what happens."""


def _kind(machine: Machine, policy: Policy) -> tuple[object, ...]:
    """What decides where a machine can go; counts matter only as far as a rule looks at them."""
    return (
        machine.state, machine.active, machine.held, machine.refreshed, machine.not_before_s > 0,
        min(machine.failures, policy.max_reconnect_attempts - 1), machine.buffered, min(len(machine.closes), 3),
    )  # fmt: skip


def transitions() -> dict[tuple[State, State], list[Signal]]:
    """Every change of state that can happen, and the signals that bring it about."""
    policy = Policy(max_reconnect_attempts=2, unattended=True)
    found: dict[tuple[State, State], set[Signal]] = {}
    waiting = [Machine()]
    seen = {_kind(waiting[0], policy)}
    while waiting:
        machine = waiting.pop()
        for signal in (s for s in Signal if s not in _NEVER.get(machine.state, ())):
            for source in _SOURCES.get(signal, (None,)):
                happening = Happening(signal, 1.0, source=source)
                after, _ = step(machine, happening, policy=policy, rng=lambda: 0.5)
                if after.state is not machine.state:
                    found.setdefault((machine.state, after.state), set()).add(signal)
                # Time stands still here, so what it would let fade is let go of.
                after = replace(after, attempt=0, brief=0, demotions=0, relapse_count=0, fallbacks=0)
                if _kind(after, policy) not in seen:
                    seen.add(_kind(after, policy))
                    waiting.append(after)
    order = list(Signal)
    return {edge: sorted(signals, key=order.index) for edge, signals in found.items()}


def mermaid() -> str:
    """The diagram's text. Ways to `closed` by close() are left out: they lead there from everywhere."""
    order = list(State)
    lines = ["stateDiagram-v2", "    [*] --> disconnected"]
    for (before, after), signals in sorted(transitions().items(), key=lambda e: [order.index(s) for s in e[0]]):
        named = [signal.value for signal in signals if signal is not Signal.CLOSE]
        if named:
            lines.append(f"    {before.value} --> {after.value}: {', '.join(named)}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(mermaid())  # noqa: T201 - for people
