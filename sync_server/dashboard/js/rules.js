/**
 * The rules that the machine's table names: each takes a draft of the next machine and changes it.
 *
 * A port of sync_client/rules.py, rule by rule and in the same order of effects, which the tests compare. What is
 * active is part of the machine: a stream and a poll are never active together, and every state that waits has
 * something active that will end (a timer, a request) unless it is held. Source: protocol.md 6.
 */

import { around, delayS } from './backoff.js';
import { Activity, newMachine, OWN, State } from './states.js';

/** Goodbyes that the server does not say to all at the same time: a pause would only cost news. */
const SPREAD = new Set(['max_age', 'access_changed']);

const ORDER = new Map(Object.values(Activity).map((activity, number) => [activity, number]));

/** The next machine in the making, and the effects on the way to it. */
export class Draft {
  constructor(machine, happening, { policy, rng }) {
    this.machine = { ...machine, active: new Set(machine.active) };
    this.happening = happening;
    this.nowS = happening.nowS;
    this.policy = policy;
    this.rng = rng;
    this.effects = [];
  }

  isActive(activity) {
    return this.machine.active.has(activity);
  }

  set(changes) {
    Object.assign(this.machine, changes);
  }

  /** Go to `state`, letting go of what does not belong there. */
  enter(state, reason = '') {
    this.stop(...[...this.machine.active].filter((activity) => !OWN[state].includes(activity)));
    this.set({ sinceS: state === this.machine.state ? this.machine.sinceS : this.nowS, state, reason });
  }

  /** Start `activity`; timers after `delay` seconds. */
  start(activity, delay = null) {
    if (this.isActive(activity)) this.stop(activity);
    this.machine.active.add(activity);
    this.effects.push({ do: 'start', activity, delayS: delay });
    if (activity === Activity.RETRY_TIMER && delay !== null) this.set({ retryAtS: this.nowS + delay });
    else if (activity === Activity.STREAM) this.set({ retryAtS: null });
  }

  stop(...activities) {
    for (const activity of activities.sort((a, b) => ORDER.get(a) - ORDER.get(b))) {
      if (!this.machine.active.delete(activity)) continue;
      this.effects.push({ do: 'stop', activity, delayS: null });
      this.ended(activity);
    }
  }

  /** What goes with `activity` goes with it: nobody waits for a stream that is over to say `connected`. */
  ended(activity) {
    if (activity === Activity.STREAM || activity === Activity.PROBE) this.stop(Activity.OPENING_TIMER);
  }

  /** `delay`, or longer if the server's Retry-After is still running. */
  waitS(delay) {
    return Math.max(delay, this.machine.notBeforeS - this.nowS);
  }

  backoffS(attempt, retryAfterS = 0) {
    return delayS(attempt, { backoff: this.policy.backoff, rng: this.rng, retryAfterS });
  }

  /** Remember the wait that the answer asked for; it holds for all kinds of requests. */
  obeyRetryAfter() {
    const askedS = this.happening.delayS;
    if (askedS) {
      const untilS = this.nowS + this.backoffS(1, askedS);
      this.set({ notBeforeS: Math.max(this.machine.notBeforeS, untilS) });
    }
  }
}

/** Rules by the names that the table uses. */
export const RULES = {
  ignore() {},

  // -- asked by the program

  /** From nothing: forget earlier trouble and open the stream. */
  begin(draft) {
    const { fallbacks, held } = draft.machine;
    const reason = draft.happening.reason;
    draft.enter(State.CONNECTING, reason);
    draft.machine = newMachine({ state: State.CONNECTING, sinceS: draft.nowS, reason, fallbacks, held });
    open(draft);
  },

  /** For good, whatever is under way. */
  close(draft) {
    draft.enter(State.CLOSED, draft.happening.reason || 'close() was called');
    draft.set({ held: false, retryAtS: null });
  },

  /** Do not wait for the timer any longer. */
  hurry(draft) {
    if (draft.isActive(Activity.RETRY_TIMER) && draft.waitS(0) <= 0) RULES.retry(draft);
  },

  /** While polling: try the stream now. */
  probe_now(draft) {
    if (!draft.machine.held && draft.isActive(Activity.PROBE_TIMER) && draft.waitS(0) <= 0) {
      draft.stop(Activity.PROBE_TIMER);
      draft.start(Activity.PROBE);
    }
  },

  /** The consumer is behind: fetch nothing until it has caught up. No failure. */
  hold(draft) {
    if (draft.machine.state === State.CONNECTED) draft.enter(State.RECONNECTING);
    const reason = draft.happening.reason || 'consumer_behind';
    draft.set({ held: true, reason, openedS: null, retryAtS: null });
    draft.stop(...[...draft.machine.active].filter((activity) => activity !== Activity.TOKEN));
  },

  /** The consumer has caught up. */
  unhold(draft) {
    if (!draft.machine.held) return;
    draft.set({ held: false });
    if (draft.isActive(Activity.TOKEN)) return;
    if (draft.machine.state === State.POLLING) {
      poll(draft);
      draft.start(Activity.PROBE_TIMER, draft.waitS(around(draft.policy.probeFirstS, draft.rng)));
      return;
    }
    if (draft.machine.state === State.RECONNECTING) draft.start(Activity.PATIENCE_TIMER, draft.policy.patienceS);
    RULES.retry(draft);
  },

  /** Our own wish: end the stream and open it again at the cursor that holds now. No failure. */
  reopen(draft) {
    const state = draft.machine.state;
    if (draft.machine.held) return;
    if (state === State.POLLING) {
      if (!draft.isActive(Activity.TOKEN)) {
        draft.stop(Activity.POLL, Activity.POLL_TIMER, Activity.PROBE);
        poll(draft);
        scheduleProbe(draft);
      }
    } else if (state === State.CONNECTED || draft.isActive(Activity.STREAM)) {
      if (state === State.CONNECTED) beReconnecting(draft, draft.happening.reason || 'reopen');
      draft.stop(Activity.STREAM);
      open(draft);
    }
  },

  // -- the stream

  /** Bytes come, so nobody holds the stream back; but it is none before it has said so. */
  await_open(draft) {
    if (!draft.isActive(Activity.OPENING_TIMER)) draft.start(Activity.OPENING_TIMER, draft.policy.openingS);
  },

  /** It went on and on, and never said `connected`: no stream of ours. */
  never_opened(draft) {
    if (draft.machine.state === State.POLLING) {
      draft.stop(Activity.PROBE);
      RULES.probe_failed(draft);
      return;
    }
    draft.stop(Activity.STREAM);
    draft.set({ buffered: 0 });
    failedAttempt(draft, `no \`connected\` within ${draft.policy.openingS} s of the first byte`);
  },

  /** It delivers. */
  opened(draft) {
    draft.enter(State.CONNECTED);
    draft.set({ openedS: draft.nowS, failures: 0, buffered: 0, refreshed: false, notBeforeS: 0 });
    draft.start(Activity.HEALTHY_TIMER, draft.policy.healthyS);
  },

  /** No first byte in time: is it the network, or somebody who holds the stream back? */
  check_plain(draft) {
    draft.start(Activity.PLAIN);
  },

  /** A plain request is answered while the stream is silent. Twice running means a buffering proxy. */
  buffered(draft) {
    draft.set({ buffered: draft.machine.buffered + 1 });
    if (draft.policy.polling && draft.machine.buffered >= draft.policy.bufferedAttempts) {
      fallBack(draft, 'a proxy on the way holds the stream back');
    } else {
      failedAttempt(draft, 'no first byte');
    }
  },

  /** An attempt came to nothing. */
  failed(draft) {
    draft.set({ buffered: 0 });
    draft.obeyRetryAfter();
    failedAttempt(draft, draft.happening.reason);
  },

  /** The stream ended, unplanned. */
  lost(draft) {
    const { policy, nowS } = draft;
    const openedS = draft.machine.openedS ?? nowS;
    const closes = [...draft.machine.closes, [nowS, nowS - openedS]]
      .filter(([whenS]) => nowS - whenS <= policy.flappingWindowS)
      .slice(-policy.flappingCloses);
    draft.set({ closes, openedS: null, attempt: draft.machine.attempt + 1, brief: 0 });
    const flapping =
      closes.length >= policy.flappingCloses && median(closes.map(([, lifeS]) => lifeS)) < policy.flappingLifeS;
    if (policy.polling && flapping) {
      draft.set({ closes: [] });
      fallBack(draft, 'the stream breaks again and again');
      return;
    }
    beReconnecting(draft, draft.happening.reason);
    retryLater(draft, draft.machine.attempt);
  },

  /** What we have leads nowhere: go on elsewhere, at once the first time, then as after failures. */
  reset(draft) {
    const { policy, machine, nowS } = draft;
    const inARow = machine.resetS !== null && nowS - machine.resetS < policy.healthyS;
    const again = inARow ? machine.resets : 0;
    draft.set({ resets: again + 1, resetS: nowS });
    if (machine.state === State.POLLING) {
      // Not at once: a log that was replaced sends everybody here together.
      draft.set({ pollFailures: again });
      draft.start(Activity.POLL_TIMER, draft.waitS(draft.backoffS(again || 1)));
      return;
    }
    draft.set({ openedS: null });
    beReconnecting(draft, draft.happening.reason);
    if (again) retryLater(draft, again);
    else open(draft);
  },

  /** The server ended it and said so. No failure: come back at once, or after the pause that it named for all. */
  goodbye(draft) {
    const { openedS } = draft.machine;
    const { reason, delayS: pauseS } = draft.happening;
    const isBrief = openedS !== null && draft.nowS - openedS < draft.policy.briefLifeS;
    draft.set({ openedS: null, brief: isBrief ? draft.machine.brief + 1 : 0 });
    beReconnecting(draft, reason);
    if (draft.machine.brief >= draft.policy.briefGoodbyes) {
      // Whatever it says: a token that is refused after the pause is renewed then. But there are tokens that are good
      // for a second, and whoever has such ones must not wait longer each time.
      const delay = draft.backoffS(reason === 'token_expired' ? 1 : draft.machine.brief);
      draft.start(Activity.RETRY_TIMER, draft.waitS(Math.max(delay, pauseS ?? 0)));
    } else if (reason === 'token_expired') {
      draft.start(Activity.TOKEN);
    } else if (SPREAD.has(reason)) {
      open(draft);
    } else {
      draft.start(Activity.RETRY_TIMER, draft.waitS(pauseS ?? draft.rng()));
    }
  },

  // -- answers

  /** 204: the server wants no more of us. */
  stopped(draft) {
    draft.enter(State.CLOSED, 'stopped by the server (204)');
    draft.set({ held: false, retryAtS: null });
  },

  /** Not let in: one new token, then it is over. */
  renew(draft) {
    if (draft.machine.refreshed) {
      RULES.give_up(draft);
      return;
    }
    draft.set({ refreshed: true });
    draft.stop(...[...draft.machine.active].filter((activity) => activity !== Activity.PATIENCE_TIMER));
    draft.start(Activity.TOKEN);
  },

  /** Trying again as things are is useless; unattended programs do it all the same, rarely. */
  give_up(draft) {
    draft.enter(State.FAILED, draft.happening.reason);
    draft.set({ held: false, retryAtS: null, openedS: null });
    if (draft.policy.unattended) {
      draft.start(Activity.UNATTENDED_TIMER, around(draft.policy.unattendedS, draft.rng));
    }
  },

  /** The loop guard spoke: this must not happen, so say it, and slow down. */
  spin(draft) {
    const reason = 'the same request was about to be sent five times in half a second';
    draft.effects.push({ do: 'report', activity: null, delayS: null, reason });
    // Full jitter may be next to nothing; this pause may not.
    const pauseS = draft.backoffS(1, draft.policy.spinPauseS);
    draft.set({ notBeforeS: Math.max(draft.machine.notBeforeS, draft.nowS + pauseS) });
    if (draft.machine.state === State.POLLING) {
      if (draft.happening.source === Activity.PROBE) {
        RULES.probe_failed(draft);
      } else {
        draft.set({ pollFailures: Math.max(draft.machine.pollFailures, 2) });
        RULES.poll_failed(draft);
      }
      return;
    }
    draft.set({ attempt: Math.max(draft.machine.attempt, 2) });
    failedAttempt(draft, 'spinning');
  },

  // -- the token

  /** There is a token: go on where it was missing. */
  carry_on(draft) {
    if (draft.machine.held) return;
    if (draft.machine.state === State.POLLING) {
      poll(draft);
      scheduleProbe(draft);
    } else {
      open(draft);
    }
  },

  /** The provider did not work this time; that says nothing about the next. */
  token_failed(draft) {
    draft.set({ refreshed: false });
    if (draft.machine.held) return;
    if (draft.machine.state === State.POLLING) {
      RULES.poll_failed(draft);
      scheduleProbe(draft);
    } else {
      failedAttempt(draft, draft.happening.reason);
    }
  },

  // -- polling and the probe

  /** A page came; the next one after the pause that the server named. */
  polled(draft) {
    draft.set({ refreshed: false });
    if (draft.machine.pollFailures) {
      draft.set({ pollFailures: 0, notBeforeS: 0 });
      if (draft.isActive(Activity.PROBE_TIMER) && !isDemoted(draft)) {
        // The server is back: what the probes found meanwhile says nothing any more.
        draft.set({ probeS: draft.policy.probeFirstS });
        scheduleProbe(draft);
      }
    }
    draft.start(Activity.POLL_TIMER, draft.waitS(draft.happening.delayS || 0));
  },

  /** No page came. */
  poll_failed(draft) {
    draft.obeyRetryAfter();
    draft.set({ pollFailures: draft.machine.pollFailures + 1 });
    draft.start(Activity.POLL_TIMER, draft.waitS(draft.backoffS(draft.machine.pollFailures)));
  },

  /** The next page is due. */
  poll(draft) {
    draft.start(Activity.POLL);
  },

  /** The next try to stream is due. */
  probe(draft) {
    draft.start(Activity.PROBE);
  },

  /** The probe's stream stands at our cursor: from this step on it, and only it, hands events out. */
  adopt(draft) {
    draft.machine.active.delete(Activity.PROBE);
    draft.machine.active.add(Activity.STREAM);
    draft.set({ recoveredS: draft.nowS });
    draft.stop(Activity.POLL, Activity.POLL_TIMER);
    draft.effects.push({ do: 'adopt', activity: Activity.PROBE, delayS: null });
    draft.set({ attempt: 0, pollFailures: 0, closes: [] });
    RULES.opened(draft);
  },

  /** Still no stream: the next try after twice the time. */
  probe_failed(draft) {
    draft.obeyRetryAfter();
    draft.set({ probeS: Math.min(draft.machine.probeS * 2, draft.policy.probeMaxS) });
    scheduleProbe(draft);
  },

  // -- timers

  /** The wait is over. */
  retry(draft) {
    draft.stop(Activity.RETRY_TIMER);
    if (draft.machine.state === State.ERROR) draft.enter(State.CONNECTING, draft.machine.reason);
    open(draft);
  },

  /** A stream that lived so long makes up for what came before it. */
  healthy(draft) {
    draft.set({ attempt: 0, brief: 0 });
  },

  /** So long without a stream: fetch what there is meanwhile. */
  lose_patience(draft) {
    if (draft.policy.polling) fallBack(draft, `no stream for ${draft.policy.patienceS} s`);
  },

  /** The machine slept: connections from before are dead more often than not, and nobody's failure. */
  start_over(draft) {
    if (draft.machine.held) return;
    const state = draft.machine.state;
    draft.set({ attempt: 0, failures: 0, buffered: 0 });
    if (state === State.POLLING) {
      if (!draft.isActive(Activity.TOKEN)) {
        draft.stop(Activity.POLL, Activity.POLL_TIMER, Activity.PROBE, Activity.PROBE_TIMER);
        poll(draft);
        if (draft.waitS(0) <= 0 && !isDemoted(draft)) draft.start(Activity.PROBE);
        else scheduleProbe(draft);
      }
      return;
    }
    if (draft.isActive(Activity.TOKEN)) return;
    draft.set({ openedS: null });
    if (state === State.CONNECTED) beReconnecting(draft, 'woke up');
    else if (state === State.ERROR) draft.enter(State.CONNECTING, 'woke up');
    draft.stop(Activity.STREAM, Activity.PLAIN, Activity.RETRY_TIMER);
    open(draft);
  },
};

// -- shared

function beReconnecting(draft, reason) {
  draft.enter(State.RECONNECTING, reason);
  draft.start(Activity.PATIENCE_TIMER, draft.policy.patienceS);
}

/** Open the stream, now or when the server's Retry-After has passed. */
function open(draft) {
  if (draft.machine.held) return;
  const waitS = draft.waitS(0);
  if (waitS <= 0) {
    draft.start(Activity.STREAM);
    return;
  }
  if (draft.machine.state === State.CONNECTING) draft.enter(State.ERROR, draft.machine.reason);
  draft.start(Activity.RETRY_TIMER, waitS);
}

function retryLater(draft, attempt) {
  draft.start(Activity.RETRY_TIMER, draft.waitS(draft.backoffS(attempt)));
}

function failedAttempt(draft, reason) {
  draft.set({ attempt: draft.machine.attempt + 1, failures: draft.machine.failures + 1 });
  if (draft.policy.polling && draft.machine.failures >= draft.policy.maxReconnectAttempts) {
    fallBack(draft, reason);
    return;
  }
  if (draft.machine.state === State.CONNECTING) draft.enter(State.ERROR, reason);
  else draft.set({ reason });
  retryLater(draft, draft.machine.attempt);
}

/** To polling. A fall soon after a recovery is a relapse; two of them put the stream off for longer. */
function fallBack(draft, reason) {
  const { policy, machine } = draft;
  const relapsed = machine.recoveredS !== null && draft.nowS - machine.recoveredS < policy.relapseWindowS;
  const relapseCount = relapsed ? machine.relapseCount + 1 : 0;
  let demotions = relapsed ? machine.demotions : 0;
  let firstS = policy.probeFirstS;
  if (relapseCount >= policy.relapses) {
    firstS = Math.min(policy.demotionS * 2 ** demotions, policy.demotionMaxS);
    demotions += 1;
  }
  draft.enter(State.POLLING, reason);
  draft.set({
    relapseCount, demotions, probeS: firstS, pollFailures: 0, failures: 0, buffered: 0, openedS: null,
    retryAtS: null, fallbacks: machine.fallbacks + 1,
  });
  poll(draft);
  scheduleProbe(draft);
}

function median(values) {
  const ordered = [...values].sort((a, b) => a - b);
  const middle = Math.floor(ordered.length / 2);
  return ordered.length % 2 ? ordered[middle] : (ordered[middle - 1] + ordered[middle]) / 2;
}

function isDemoted(draft) {
  return draft.machine.relapseCount >= draft.policy.relapses;
}

function poll(draft) {
  if (draft.isActive(Activity.TOKEN)) return; // carry_on polls when there is one
  const waitS = draft.waitS(0);
  if (waitS > 0) draft.start(Activity.POLL_TIMER, waitS);
  else draft.start(Activity.POLL);
}

function scheduleProbe(draft) {
  if (draft.isActive(Activity.TOKEN)) return;
  draft.start(Activity.PROBE_TIMER, draft.waitS(around(draft.machine.probeS, draft.rng)));
}
