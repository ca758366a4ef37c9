"""The client's state machine: a total table of signal and state, without I/O, clock or randomness.

``step`` takes the machine and what happened and gives the next machine and what the driver has to do. The
table below is the whole behaviour; what its words mean is in rules.py. A signal from something that is not
active any more (a stream that was given up a moment ago) changes nothing: that is decided here, once.

What keeps every road back to the network from spinning: ``attempt`` grows with each unplanned end and is
forgotten only after 60 s of health; goodbyes right after the beginning count too (``brief``), and so do resets
on the heels of others (``resets``); the server's ``Retry-After`` holds for all requests (``not_before_s``); and
the driver's loop guard (guard.py) behind all.

What keeps every state from lasting for ever: a request ends by itself (the driver bounds each), but a body that
has begun may go on and say nothing; so from its first byte to ``connected`` a timer runs beside it.
"""

from sync_client.backoff import Rng
from sync_client.draft import Draft
from sync_client.rules import RULES, Rule
from sync_client.states import Activity, Effect, Happening, Machine, Policy, Signal, State

__all__ = ["TABLE", "step", "table_text"]

_GRID = """
                   disconnected connecting   connected    reconnecting error        polling_fallback closed  failed
connect            begin        -            -            hurry        hurry        probe_now        begin   begin
close              close        close        close        close        close        close            -       close
token_changed      -            -            -            hurry        hurry        -                -       begin
reopen             -            reopen       reopen       reopen       -            reopen           -       -
consumer_behind    -            hold         hold         hold         hold         hold             -       -
consumer_ready     -            unhold       unhold       unhold       unhold       unhold           -       -
first_byte         -            await_open   -            await_open   -            await_open       -       -
opened             -            opened       -            opened       -            -                -       -
first_byte_missed  -            check_plain  lost         check_plain  -            -                -       -
attempt_failed     -            failed       lost         failed       -            -                -       -
lost               -            failed       lost         failed       -            -                -       -
goodbye            -            failed       goodbye      failed       -            -                -       -
plain_answered     -            buffered     -            buffered     -            -                -       -
plain_failed       -            failed       -            failed       -            -                -       -
stopped            -            stopped      stopped      stopped      -            stopped          -       -
unauthorized       -            renew        lost         renew        -            renew            -       -
misconfigured      -            give_up      lost         give_up      -            give_up          -       -
spinning           -            spin         lost         spin         -            spin             -       -
reset              -            failed       reset        failed       -            reset            -       -
token_ready        -            carry_on     -            carry_on     -            carry_on         -       -
token_missing      -            give_up      -            give_up      -            give_up          -       -
token_failed       -            token_failed -            token_failed -            token_failed     -       -
polled             -            -            -            -            -            polled           -       -
poll_failed        -            -            -            -            -            poll_failed      -       -
probe_opened       -            -            -            -            -            adopt            -       -
probe_failed       -            -            -            -            -            probe_failed     -       -
retry_due          -            -            -            retry        retry        -                -       -
healthy_due        -            -            healthy      -            -            -                -       -
patience_due       -            -            -            lose_patience -           -                -       -
opening_due        -            never_opened -            never_opened -            never_opened     -       -
poll_due           -            -            -            -            -            poll             -       -
probe_due          -            -            -            -            -            probe            -       -
unattended_due     -            -            -            -            -            -                -       begin
woke               -            start_over   start_over   start_over   start_over   start_over       -       -
"""

_REPORTS: dict[Signal, Activity] = {
    Signal.OPENED: Activity.STREAM,
    Signal.FIRST_BYTE_MISSED: Activity.STREAM,
    Signal.ATTEMPT_FAILED: Activity.STREAM,
    Signal.LOST: Activity.STREAM,
    Signal.GOODBYE: Activity.STREAM,
    Signal.PLAIN_ANSWERED: Activity.PLAIN,
    Signal.PLAIN_FAILED: Activity.PLAIN,
    Signal.TOKEN_READY: Activity.TOKEN,
    Signal.TOKEN_MISSING: Activity.TOKEN,
    Signal.TOKEN_FAILED: Activity.TOKEN,
    Signal.POLLED: Activity.POLL,
    Signal.POLL_FAILED: Activity.POLL,
    Signal.PROBE_OPENED: Activity.PROBE,
    Signal.PROBE_FAILED: Activity.PROBE,
    Signal.RETRY_DUE: Activity.RETRY_TIMER,
    Signal.HEALTHY_DUE: Activity.HEALTHY_TIMER,
    Signal.PATIENCE_DUE: Activity.PATIENCE_TIMER,
    Signal.OPENING_DUE: Activity.OPENING_TIMER,
    Signal.POLL_DUE: Activity.POLL_TIMER,
    Signal.PROBE_DUE: Activity.PROBE_TIMER,
    Signal.UNATTENDED_DUE: Activity.UNATTENDED_TIMER,
}
"""Who sends a signal. Those that several can send name their source themselves."""

_ANY_REQUEST = frozenset(
    {Signal.FIRST_BYTE, Signal.STOPPED, Signal.UNAUTHORIZED, Signal.MISCONFIGURED, Signal.SPINNING, Signal.RESET}
)
_GO_ON = frozenset({Signal.FIRST_BYTE, Signal.OPENED, Signal.PROBE_OPENED})
"""Reports after which the activity is still there."""


def _read_grid(grid: str) -> dict[tuple[State, Signal], str]:
    head, *rows = [line.split() for line in grid.strip().splitlines()]
    states = [State(name) for name in head]
    cells: dict[tuple[State, Signal], str] = {}
    for name, *rules in rows:
        for state, rule in zip(states, rules, strict=True):
            cells[state, Signal(name)] = "ignore" if rule == "-" else rule
    return cells


_CELLS = _read_grid(_GRID)
TABLE: dict[tuple[State, Signal], Rule] = {cell: RULES[name] for cell, name in _CELLS.items()}
"""Every state and signal; a missing one fails a test, and here with KeyError."""


def table_text() -> dict[str, dict[str, str]]:
    """The table as plain names: state to signal to rule."""
    text: dict[str, dict[str, str]] = {}
    for (state, signal), name in _CELLS.items():
        text.setdefault(state.value, {})[signal.value] = name
    return text


def step(machine: Machine, happening: Happening, *, policy: Policy, rng: Rng) -> tuple[Machine, tuple[Effect, ...]]:
    """The next machine, and the effects in the order in which they are to be done."""
    rule = TABLE[machine.state, happening.signal]
    draft = Draft(machine, happening, policy=policy, rng=rng)
    source = happening.source if happening.signal in _ANY_REQUEST else _REPORTS.get(happening.signal)
    if source is not None:
        if source not in machine.active:
            return machine, ()
        if happening.signal not in _GO_ON:
            draft.set(active=machine.active - {source})
            draft.ended(source)
    rule(draft)
    return draft.machine, tuple(draft.effects)
