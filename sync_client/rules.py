"""The rules that the machine's table names: each takes a draft of the next machine and changes it.

Resources are *activities*: a rule starts and stops them, and what is active is part of the machine. So the
invariants can be read off it: a stream and a poll are never active together, and every state that waits has
something active that will end (a timer, a request) unless it is held for the consumer.
Source of all rules: protocol.md 6.
"""

from collections.abc import Callable

from sync_client.backoff import around
from sync_client.draft import Draft
from sync_client.states import Activity, Do, Effect, Machine, State

__all__ = ["RULES", "Rule"]

_SPREAD = frozenset({"max_age", "access_changed"})
"""Goodbyes that the server does not say to all at the same time: a pause would only cost news."""
Rule = Callable[[Draft], None]
RULES: dict[str, Rule] = {}
"""Rules by the names that the table uses."""


def rule(function: Rule) -> Rule:
    RULES[function.__name__] = function
    return function


@rule
def ignore(draft: Draft) -> None:
    """Nothing changes."""


# -- asked by the program -------------------------------------------------------------------------------


@rule
def begin(draft: Draft) -> None:
    """From nothing: forget earlier trouble and open the stream."""
    fallbacks = draft.machine.fallbacks
    held = draft.machine.held
    draft.enter(State.CONNECTING, reason=draft.happening.reason)
    draft.machine = Machine(
        state=State.CONNECTING, since_s=draft.now_s, reason=draft.happening.reason, fallbacks=fallbacks, held=held
    )
    _open(draft)


@rule
def close(draft: Draft) -> None:
    """For good, whatever is under way."""
    draft.enter(State.CLOSED, reason=draft.happening.reason or "close() was called")
    draft.set(held=False, retry_at_s=None)


@rule
def hurry(draft: Draft) -> None:
    """Do not wait for the timer any longer."""
    if Activity.RETRY_TIMER in draft.machine.active and draft.wait_s(0) <= 0:
        retry(draft)


@rule
def probe_now(draft: Draft) -> None:
    """While polling: try the stream now."""
    if not draft.machine.held and Activity.PROBE_TIMER in draft.machine.active and draft.wait_s(0) <= 0:
        draft.stop(Activity.PROBE_TIMER)
        draft.start(Activity.PROBE)


@rule
def hold(draft: Draft) -> None:
    """The consumer is behind: fetch nothing until it has caught up. No failure."""
    if draft.machine.state is State.CONNECTED:
        draft.enter(State.RECONNECTING)
    draft.set(held=True, reason=draft.happening.reason or "consumer_behind", opened_s=None, retry_at_s=None)
    draft.stop(*draft.machine.active - {Activity.TOKEN})


@rule
def unhold(draft: Draft) -> None:
    """The consumer has caught up."""
    if not draft.machine.held:
        return
    draft.set(held=False)
    if Activity.TOKEN in draft.machine.active:
        return
    if draft.machine.state is State.POLLING:
        _poll(draft)
        draft.start(Activity.PROBE_TIMER, delay_s=draft.wait_s(around(draft.policy.probe_first_s, rng=draft.rng)))
        return
    if draft.machine.state is State.RECONNECTING:
        draft.start(Activity.PATIENCE_TIMER, delay_s=draft.policy.patience_s)
    retry(draft)


@rule
def reopen(draft: Draft) -> None:
    """Our own wish: end the stream and open it again at the cursor that holds now. No failure."""
    state = draft.machine.state
    if draft.machine.held:
        return
    if state is State.POLLING:
        if Activity.TOKEN not in draft.machine.active:
            draft.stop(Activity.POLL, Activity.POLL_TIMER, Activity.PROBE)
            _poll(draft)
            _schedule_probe(draft)
    elif state is State.CONNECTED or Activity.STREAM in draft.machine.active:
        if state is State.CONNECTED:
            _be_reconnecting(draft, draft.happening.reason or "reopen")
        draft.stop(Activity.STREAM)
        _open(draft)


# -- the stream -----------------------------------------------------------------------------------------


@rule
def await_open(draft: Draft) -> None:
    """Bytes come, so nobody holds the stream back; but it is none before it has said so."""
    if Activity.OPENING_TIMER not in draft.machine.active:
        draft.start(Activity.OPENING_TIMER, delay_s=draft.policy.opening_s)


@rule
def never_opened(draft: Draft) -> None:
    """It went on and on, and never said `connected`: no stream of ours."""
    if draft.machine.state is State.POLLING:
        draft.stop(Activity.PROBE)
        probe_failed(draft)
        return
    draft.stop(Activity.STREAM)
    draft.set(buffered=0)
    _failed_attempt(draft, f"no `connected` within {draft.policy.opening_s:g} s of the first byte")


@rule
def opened(draft: Draft) -> None:
    """It delivers."""
    draft.enter(State.CONNECTED)
    draft.set(opened_s=draft.now_s, failures=0, buffered=0, refreshed=False, not_before_s=0.0)
    draft.start(Activity.HEALTHY_TIMER, delay_s=draft.policy.healthy_s)


@rule
def check_plain(draft: Draft) -> None:
    """No first byte in time: is it the network, or somebody who holds the stream back?"""
    draft.start(Activity.PLAIN)


@rule
def buffered(draft: Draft) -> None:
    """A plain request is answered while the stream is silent. Twice running means a buffering proxy."""
    draft.set(buffered=draft.machine.buffered + 1)
    if draft.policy.polling and draft.machine.buffered >= draft.policy.buffered_attempts:
        _fall_back(draft, "a proxy on the way holds the stream back")
    else:
        _failed_attempt(draft, "no first byte")


@rule
def failed(draft: Draft) -> None:
    """An attempt came to nothing."""
    draft.set(buffered=0)
    draft.obey_retry_after()
    _failed_attempt(draft, draft.happening.reason)


@rule
def lost(draft: Draft) -> None:
    """The stream ended, unplanned."""
    policy, now_s = draft.policy, draft.now_s
    opened_s = draft.machine.opened_s if draft.machine.opened_s is not None else now_s
    closes = (*draft.machine.closes, (now_s, now_s - opened_s))
    closes = tuple(c for c in closes if now_s - c[0] <= policy.flapping_window_s)[-policy.flapping_closes :]
    draft.set(closes=closes, opened_s=None, attempt=draft.machine.attempt + 1, brief=0)
    flapping = (
        len(closes) >= policy.flapping_closes and _median([life_s for _, life_s in closes]) < policy.flapping_life_s
    )
    if policy.polling and flapping:
        draft.set(closes=())
        _fall_back(draft, "the stream breaks again and again")
        return
    _be_reconnecting(draft, draft.happening.reason)
    _retry_later(draft, draft.machine.attempt)


@rule
def reset(draft: Draft) -> None:
    """What we have leads nowhere: go on elsewhere, at once the first time, then as after failures."""
    policy, machine, now_s = draft.policy, draft.machine, draft.now_s
    in_a_row = machine.reset_s is not None and now_s - machine.reset_s < policy.healthy_s
    again = machine.resets if in_a_row else 0
    draft.set(resets=again + 1, reset_s=now_s)
    if machine.state is State.POLLING:
        # Not at once: a log that was replaced sends everybody here together.
        draft.set(poll_failures=again)
        delay_s = policy.backoff.delay_s(again or 1, rng=draft.rng)
        draft.start(Activity.POLL_TIMER, delay_s=draft.wait_s(delay_s))
        return
    draft.set(opened_s=None)
    _be_reconnecting(draft, draft.happening.reason)
    if again:
        _retry_later(draft, again)
    else:
        _open(draft)


@rule
def goodbye(draft: Draft) -> None:
    """The server ended it and said so. No failure: come back at once, or after the pause that it named for all."""
    policy, reason, pause_s = draft.policy, draft.happening.reason, draft.happening.delay_s
    opened_s = draft.machine.opened_s
    brief = opened_s is not None and draft.now_s - opened_s < policy.brief_life_s
    draft.set(opened_s=None, brief=draft.machine.brief + 1 if brief else 0)
    _be_reconnecting(draft, reason)
    if draft.machine.brief >= policy.brief_goodbyes:
        # Whatever it says: a token that is refused after the pause is renewed then. But there are tokens that are good
        # for a second, and whoever has such ones must not wait longer each time.
        attempt = 1 if reason == "token_expired" else draft.machine.brief
        delay_s = policy.backoff.delay_s(attempt, rng=draft.rng)
        draft.start(Activity.RETRY_TIMER, delay_s=draft.wait_s(max(delay_s, pause_s or 0.0)))
    elif reason == "token_expired":
        draft.start(Activity.TOKEN)
    elif reason in _SPREAD:
        _open(draft)
    else:
        draft.start(Activity.RETRY_TIMER, delay_s=draft.wait_s(draft.rng() if pause_s is None else pause_s))


# -- answers ----------------------------------------------------------------------------------------------


@rule
def stopped(draft: Draft) -> None:
    """204: the server wants no more of us."""
    draft.enter(State.CLOSED, reason="stopped by the server (204)")
    draft.set(held=False, retry_at_s=None)


@rule
def renew(draft: Draft) -> None:
    """Not let in: one new token, then it is over."""
    if draft.machine.refreshed:
        give_up(draft)
        return
    draft.set(refreshed=True)
    draft.stop(*draft.machine.active - {Activity.PATIENCE_TIMER})
    draft.start(Activity.TOKEN)


@rule
def give_up(draft: Draft) -> None:
    """Trying again as things are is useless; unattended programs do it all the same, rarely."""
    draft.enter(State.FAILED, reason=draft.happening.reason)
    draft.set(held=False, retry_at_s=None, opened_s=None)
    if draft.policy.unattended:
        delay_s = around(draft.policy.unattended_s, rng=draft.rng)
        draft.start(Activity.UNATTENDED_TIMER, delay_s=delay_s)


@rule
def spin(draft: Draft) -> None:
    """The loop guard spoke: this must not happen, so say it, and slow down."""
    draft.report("the same request was about to be sent five times in half a second")
    # Full jitter may be next to nothing; this pause may not.
    pause_s = draft.policy.backoff.delay_s(1, rng=draft.rng, retry_after_s=draft.policy.spin_pause_s)
    draft.set(not_before_s=max(draft.machine.not_before_s, draft.now_s + pause_s))
    if draft.machine.state is State.POLLING:
        if draft.happening.source is Activity.PROBE:
            probe_failed(draft)
        else:
            draft.set(poll_failures=max(draft.machine.poll_failures, 2))
            poll_failed(draft)
        return
    draft.set(attempt=max(draft.machine.attempt, 2))
    _failed_attempt(draft, "spinning")


# -- the token --------------------------------------------------------------------------------------------


@rule
def carry_on(draft: Draft) -> None:
    """There is a token: go on where it was missing."""
    if draft.machine.held:
        return
    if draft.machine.state is State.POLLING:
        _poll(draft)
        _schedule_probe(draft)
    else:
        _open(draft)


@rule
def token_failed(draft: Draft) -> None:
    """The provider did not work this time; that says nothing about the next."""
    draft.set(refreshed=False)
    if draft.machine.held:
        return
    if draft.machine.state is State.POLLING:
        poll_failed(draft)
        _schedule_probe(draft)
    else:
        _failed_attempt(draft, draft.happening.reason)


# -- polling and the probe --------------------------------------------------------------------------------


@rule
def polled(draft: Draft) -> None:
    """A page came; the next one after the pause that the server named."""
    draft.set(refreshed=False)
    if draft.machine.poll_failures:
        draft.set(poll_failures=0, not_before_s=0.0)
        if Activity.PROBE_TIMER in draft.machine.active and not _demoted(draft):
            # The server is back: what the probes found meanwhile says nothing any more.
            draft.set(probe_s=draft.policy.probe_first_s)
            _schedule_probe(draft)
    draft.start(Activity.POLL_TIMER, delay_s=draft.wait_s(draft.happening.delay_s or 0.0))


@rule
def poll_failed(draft: Draft) -> None:
    """No page came."""
    draft.obey_retry_after()
    draft.set(poll_failures=draft.machine.poll_failures + 1)
    delay_s = draft.policy.backoff.delay_s(draft.machine.poll_failures, rng=draft.rng)
    draft.start(Activity.POLL_TIMER, delay_s=draft.wait_s(delay_s))


@rule
def poll(draft: Draft) -> None:
    """The next page is due."""
    draft.start(Activity.POLL)


@rule
def probe(draft: Draft) -> None:
    """The next try to stream is due."""
    draft.start(Activity.PROBE)


@rule
def adopt(draft: Draft) -> None:
    """The probe's stream stands at our cursor: from this step on it, and only it, hands events out."""
    draft.set(active=draft.machine.active - {Activity.PROBE} | {Activity.STREAM}, recovered_s=draft.now_s)
    draft.stop(Activity.POLL, Activity.POLL_TIMER)
    draft.effects.append(Effect(Do.ADOPT, Activity.PROBE))
    draft.set(attempt=0, poll_failures=0, closes=())
    opened(draft)


@rule
def probe_failed(draft: Draft) -> None:
    """Still no stream: the next try after twice the time."""
    draft.obey_retry_after()
    draft.set(probe_s=min(draft.machine.probe_s * 2, draft.policy.probe_max_s))
    _schedule_probe(draft)


# -- timers -----------------------------------------------------------------------------------------------


@rule
def retry(draft: Draft) -> None:
    """The wait is over."""
    draft.stop(Activity.RETRY_TIMER)
    if draft.machine.state is State.ERROR:
        draft.enter(State.CONNECTING, reason=draft.machine.reason)
    _open(draft)


@rule
def healthy(draft: Draft) -> None:
    """A stream that lived so long makes up for what came before it."""
    draft.set(attempt=0, brief=0)


@rule
def lose_patience(draft: Draft) -> None:
    """So long without a stream: fetch what there is meanwhile."""
    if draft.policy.polling:
        _fall_back(draft, f"no stream for {draft.policy.patience_s:g} s")


@rule
def start_over(draft: Draft) -> None:
    """The machine slept: connections from before are dead more often than not, and nobody's failure."""
    if draft.machine.held:
        return
    state = draft.machine.state
    draft.set(attempt=0, failures=0, buffered=0)
    if state is State.POLLING:
        if Activity.TOKEN not in draft.machine.active:
            draft.stop(Activity.POLL, Activity.POLL_TIMER, Activity.PROBE, Activity.PROBE_TIMER)
            _poll(draft)
            if draft.wait_s(0) <= 0 and not _demoted(draft):
                draft.start(Activity.PROBE)
            else:
                _schedule_probe(draft)
        return
    if Activity.TOKEN in draft.machine.active:
        return
    draft.set(opened_s=None)
    if state is State.CONNECTED:
        _be_reconnecting(draft, "woke up")
    elif state is State.ERROR:
        draft.enter(State.CONNECTING, reason="woke up")
    draft.stop(Activity.STREAM, Activity.PLAIN, Activity.RETRY_TIMER)
    _open(draft)


# -- shared -----------------------------------------------------------------------------------------------


def _be_reconnecting(draft: Draft, reason: str) -> None:
    draft.enter(State.RECONNECTING, reason=reason)
    draft.start(Activity.PATIENCE_TIMER, delay_s=draft.policy.patience_s)


def _open(draft: Draft) -> None:
    """Open the stream, now or when the server's Retry-After has passed."""
    if draft.machine.held:
        return
    wait_s = draft.wait_s(0)
    if wait_s <= 0:
        draft.start(Activity.STREAM)
        return
    if draft.machine.state is State.CONNECTING:
        draft.enter(State.ERROR, reason=draft.machine.reason)
    draft.start(Activity.RETRY_TIMER, delay_s=wait_s)


def _retry_later(draft: Draft, attempt: int) -> None:
    delay_s = draft.policy.backoff.delay_s(attempt, rng=draft.rng)
    draft.start(Activity.RETRY_TIMER, delay_s=draft.wait_s(delay_s))


def _failed_attempt(draft: Draft, reason: str) -> None:
    draft.set(attempt=draft.machine.attempt + 1, failures=draft.machine.failures + 1)
    if draft.policy.polling and draft.machine.failures >= draft.policy.max_reconnect_attempts:
        _fall_back(draft, reason)
        return
    if draft.machine.state is State.CONNECTING:
        draft.enter(State.ERROR, reason=reason)
    else:
        draft.set(reason=reason)
    _retry_later(draft, draft.machine.attempt)


def _fall_back(draft: Draft, reason: str) -> None:
    """To polling. A fall soon after a recovery is a relapse; two of them put the stream off for longer."""
    policy, machine = draft.policy, draft.machine
    relapsed = machine.recovered_s is not None and draft.now_s - machine.recovered_s < policy.relapse_window_s
    count = machine.relapse_count + 1 if relapsed else 0
    demotions = machine.demotions if relapsed else 0
    first_s = policy.probe_first_s
    if count >= policy.relapses:
        first_s = min(policy.demotion_s * 2**demotions, policy.demotion_max_s)
        demotions += 1
    draft.enter(State.POLLING, reason=reason)
    draft.set(
        relapse_count=count, demotions=demotions, probe_s=first_s, poll_failures=0, failures=0, buffered=0,
        opened_s=None, retry_at_s=None, fallbacks=machine.fallbacks + 1,
    )  # fmt: skip
    _poll(draft)
    _schedule_probe(draft)


def _median(values: list[float]) -> float:
    # Not the statistics module: importing it takes longer than all of this.
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _demoted(draft: Draft) -> bool:
    return draft.machine.relapse_count >= draft.policy.relapses


def _poll(draft: Draft) -> None:
    if Activity.TOKEN in draft.machine.active:
        return  # carry_on polls when there is one
    wait_s = draft.wait_s(0)
    if wait_s > 0:
        draft.start(Activity.POLL_TIMER, delay_s=wait_s)
    else:
        draft.start(Activity.POLL)


def _schedule_probe(draft: Draft) -> None:
    if Activity.TOKEN in draft.machine.active:
        return
    draft.start(Activity.PROBE_TIMER, delay_s=draft.wait_s(around(draft.machine.probe_s, rng=draft.rng)))
