/** How the client is doing: one look (`healthOf`) and what is counted over its life (`Meter`). */

import { State } from './states.js';

const RATE_WINDOW_S = 60;
const KEPT_RECOVERIES = 20;

const STATUS = {
  [State.DISCONNECTED]: 'offline',
  [State.CONNECTING]: 'reconnecting',
  [State.CONNECTED]: 'healthy',
  [State.RECONNECTING]: 'reconnecting',
  [State.ERROR]: 'error',
  [State.POLLING]: 'polling',
  [State.CLOSED]: 'offline',
  [State.FAILED]: 'error',
};

/** One of healthy, polling, reconnecting, error, offline. Polling without an answer is offline. */
export function statusOf({ state, pollFailures }) {
  return state === State.POLLING && pollFailures ? 'offline' : STATUS[state];
}

/** Nothing is known yet: what tabs show before anybody has told them. */
export const NO_SUMMARY = Object.freeze({
  state: State.DISCONNECTED, reason: '', attempt: 0, pollFailures: 0, forS: 0, nextRetryS: null, lastByteS: null,
  tailAgeS: 0, heartbeatS: 15, caughtUp: false, head: '', cursor: '', breaker: 'closed', lastError: '', storage: '',
  serverOffsetMs: 0, access: null, isHidden: false, metrics: null,
});

/**
 * What the tab that holds the connection tells of it, at this moment; durations in seconds, so that tabs with other
 * clocks understand it.
 */
export function summarize({ connection, intake, store, breaker, metrics, nowS, isHidden }) {
  const { machine } = connection;
  const { facts } = intake;
  return {
    state: machine.state,
    reason: machine.reason,
    attempt: machine.attempt,
    pollFailures: machine.pollFailures,
    forS: nowS - machine.sinceS,
    nextRetryS: machine.retryAtS === null ? null : Math.max(machine.retryAtS - nowS, 0),
    lastByteS: connection.lastByteS === null ? null : nowS - connection.lastByteS,
    tailAgeS: facts.tailAgeS,
    heartbeatS: facts.heartbeatS,
    caughtUp: facts.caughtUp,
    head: facts.head,
    cursor: intake.received,
    breaker: breaker.state,
    lastError: connection.lastError,
    storage: store.problem,
    serverOffsetMs: facts.serverOffsetMs,
    access: intake.access,
    isHidden,
    metrics,
  };
}

/**
 * The connection as shown: a summary that is `ageS` old, made present. `staleForS` is how old the newest sure
 * knowledge is (a shop without events is not stale, a dead log is); null before there is any. Durations in seconds.
 */
export function healthOf(summary, { ageS, wallMs, role, queueDepth }) {
  const since = (seconds) => (seconds === null ? null : seconds + ageS);
  const lastByteS = since(summary.lastByteS);
  const forS = summary.forS + ageS;
  const isPollingFallback = summary.state === State.POLLING;
  return {
    status: statusOf(summary),
    state: summary.state,
    isConnected: summary.state === State.CONNECTED,
    isPollingFallback,
    since: new Date(wallMs - forS * 1000).toISOString(),
    forS,
    reason: summary.reason,
    attempt: summary.attempt,
    nextRetryS: summary.nextRetryS === null ? null : Math.max(summary.nextRetryS - ageS, 0),
    cursor: summary.cursor,
    head: summary.head,
    staleForS: lastByteS === null ? null : lastByteS + summary.tailAgeS,
    lastByteS,
    transport: summary.state === State.CONNECTED ? 'sse' : isPollingFallback ? 'polling' : null,
    caughtUp: summary.caughtUp,
    breaker: summary.breaker,
    queueDepth,
    role,
    storage: summary.storage,
    lastError: summary.lastError,
    serverOffsetMs: summary.serverOffsetMs,
  };
}

const isUp = (machine) => machine.state === State.CONNECTED || machine.state === State.POLLING;

/** Collects what metrics show. All times are the monotonic clock's, in seconds. */
export class Meter {
  #startedS;
  #before;
  #upS = 0;
  #upSinceS = null;
  #downSinceS = null;
  #rates = [];
  connections = 0;
  recoveriesS = [];

  /** before: the connectionMetrics of earlier lives. */
  constructor({ startedS, before }) {
    this.#startedS = startedS;
    this.#before = before;
  }

  /** The machine changed its state. */
  moved(before, after, nowS) {
    if (after.state === State.CONNECTED && before.state !== State.CONNECTED) {
      this.connections += 1;
      if (this.#downSinceS !== null) {
        this.recoveriesS = [...this.recoveriesS.slice(1 - KEPT_RECOVERIES), nowS - this.#downSinceS];
        this.#downSinceS = null;
      }
    } else if (before.state === State.CONNECTED && after.state !== State.CONNECTED && after.state !== State.CLOSED) {
      this.#downSinceS = nowS;
    }
    if (isUp(before) && !isUp(after) && this.#upSinceS !== null) {
      this.#upS += nowS - this.#upSinceS;
      this.#upSinceS = null;
    } else if (isUp(after) && !isUp(before)) {
      this.#upSinceS = nowS;
    }
  }

  /** Connected or polling since the start, in seconds. */
  upS(nowS) {
    return this.#upS + (this.#upSinceS === null ? 0 : nowS - this.#upSinceS);
  }

  /** Events a second over the last minute; `events` is the count so far. */
  rate(events, nowS) {
    const rates = this.#rates;
    if (!rates.length || nowS - rates.at(-1)[0] >= 1) rates.push([nowS, events]);
    while (rates.length > 2 && nowS - rates[1][0] >= RATE_WINDOW_S) rates.shift();
    const [firstS, first] = rates.length === 1 ? [this.#startedS, 0] : rates[0];
    const sinceS = nowS - firstS;
    return sinceS > 0.001 ? (events - first) / sinceS : 0;
  }

  /** The format's connectionMetrics: counts over all lives, uptime in milliseconds. */
  document(events, nowS) {
    return {
      totalConnections: this.#before.totalConnections + this.connections,
      totalEvents: this.#before.totalEvents + events,
      uptime: Math.round(this.#before.uptime + this.upS(nowS) * 1000),
    };
  }

  /** Everything that is counted; `totals` over all lives, the others since this tab took over. */
  metrics({ counts, facts, machine, storageBytes }, nowS) {
    const attempts = counts.attempts + counts.polls;
    return {
      ...this.document(facts.events, nowS),
      uptimeShare: Math.min(this.upS(nowS) / Math.max(nowS - this.#startedS, 0.001), 1),
      eventsPerS: this.rate(facts.events, nowS),
      fallbacks: machine.fallbacks,
      recoveriesS: this.recoveriesS,
      errorRate: attempts ? (counts.failedAttempts + counts.failedPolls) / attempts : 0,
      attempts: counts.attempts,
      polls: counts.polls,
      duplicatesSuppressed: facts.duplicates,
      malformed: facts.malformed,
      resets: facts.resets,
      storageBytes,
    };
  }
}
