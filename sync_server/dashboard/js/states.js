/**
 * The words of the state machine: states, signals, activities, and what it remembers. Only data.
 *
 * The same words and numbers as the Python client's (sync_client/states.py); one file of cases drives both
 * (tests/client/machine_cases.json). Times are seconds of a monotonic clock.
 */

const words = (...names) => Object.freeze(Object.fromEntries(names.map((name) => [name.toUpperCase(), name])));

/** Where the connection stands. `POLLING` is short for `polling_fallback`. */
export const State = Object.freeze({
  ...words('disconnected', 'connecting', 'connected', 'reconnecting', 'error', 'closed', 'failed'),
  POLLING: 'polling_fallback',
});

/** What can happen. */
export const Signal = words(
  // asked by the program
  'connect', 'close', 'token_changed', 'reopen', 'consumer_behind', 'consumer_ready',
  // the stream
  'first_byte', 'opened', 'first_byte_missed', 'attempt_failed', 'lost', 'goodbye',
  // the plain request that tells a buffering proxy from a dead network
  'plain_answered', 'plain_failed',
  // answers to any request; `source` says which
  'stopped', 'unauthorized', 'misconfigured', 'spinning', 'reset',
  // the token provider
  'token_ready', 'token_missing', 'token_failed',
  // polling and the probe beside it
  'polled', 'poll_failed', 'probe_opened', 'probe_failed',
  // timers
  'retry_due', 'healthy_due', 'patience_due', 'opening_due', 'poll_due', 'probe_due', 'unattended_due',
  // the machine slept, or the network changed
  'woke',
);

/** What is done until it reports back, or is told to stop. Stopped in this order. */
export const Activity = words(
  'stream', 'plain', 'token', 'poll', 'probe',
  'retry_timer', 'healthy_timer', 'patience_timer', 'opening_timer', 'poll_timer', 'probe_timer', 'unattended_timer',
);

/** What may be active in a state; entering it stops everything else. */
export const OWN = Object.freeze({
  [State.DISCONNECTED]: [],
  [State.CONNECTING]: [Activity.STREAM, Activity.OPENING_TIMER, Activity.PLAIN, Activity.TOKEN],
  [State.CONNECTED]: [Activity.STREAM, Activity.HEALTHY_TIMER],
  [State.RECONNECTING]: [
    Activity.STREAM, Activity.OPENING_TIMER, Activity.PLAIN, Activity.TOKEN, Activity.RETRY_TIMER,
    Activity.PATIENCE_TIMER,
  ],
  [State.ERROR]: [Activity.RETRY_TIMER],
  [State.POLLING]: [
    Activity.POLL, Activity.POLL_TIMER, Activity.PROBE, Activity.OPENING_TIMER, Activity.PROBE_TIMER, Activity.TOKEN,
  ],
  [State.CLOSED]: [],
  [State.FAILED]: [Activity.UNATTENDED_TIMER],
});

/** The numbers of protocol.md 6. */
export const POLICY = Object.freeze({
  backoff: Object.freeze({ baseS: 1, factor: 2, capS: 30 }),
  maxReconnectAttempts: 5,
  healthyS: 60,
  patienceS: 60,
  openingS: 10,
  flappingCloses: 4,
  flappingWindowS: 120,
  flappingLifeS: 20,
  bufferedAttempts: 2,
  briefGoodbyes: 3,
  briefLifeS: 1,
  probeFirstS: 15,
  probeMaxS: 300,
  relapseWindowS: 300,
  relapses: 2,
  demotionS: 900,
  demotionMaxS: 7200,
  spinPauseS: 1,
  unattended: false,
  unattendedS: 300,
  /** false: never fall back to polling, keep trying to stream. */
  polling: true,
});

/** Of requests: a stream's first event within firstByteS plus so many round trips; events a page. */
export const LIMITS = Object.freeze({ firstByteS: 2.5, firstByteRoundTrips: 4, pollLimit: 500 });

/** A machine that nothing has happened to. Its `active` is a Set of activities. */
export function newMachine(changes = {}) {
  return {
    state: State.DISCONNECTED,
    sinceS: 0,
    reason: '',
    active: new Set(),
    attempt: 0, // exponent of the backoff: unplanned ends in a row, forgotten after healthyS of health
    failures: 0, // failed attempts in a row since a stream was open
    buffered: 0, // streams without a first byte in a row, while plain requests were answered
    openedS: null,
    closes: [], // unplanned ends: [when, after how long a life]
    brief: 0, // goodbyes right after the beginning, in a row
    resets: 0, // resets in a row: each less than healthyS after the one before
    resetS: null,
    refreshed: false, // whether the token was renewed since a request was last let in
    held: false, // whether the consumer is behind: nothing is fetched
    notBeforeS: 0, // no request before that: the server's Retry-After
    pollFailures: 0,
    probeS: 0, // the next pause between probes, before jitter
    recoveredS: null,
    relapseCount: 0,
    demotions: 0,
    fallbacks: 0, // how often polling became necessary; a metric
    retryAtS: null, // when the next attempt is due, for display
    ...changes,
  };
}
