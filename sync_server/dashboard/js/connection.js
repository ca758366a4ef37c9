/**
 * Does what the machine decides: one running thing per activity, one timer per timer, and a signal when one ends.
 *
 * A signal is handled to its end in one go: the machine steps, the effects are done, the listener is told. What a
 * stopped activity still has to say is dropped, because it is no longer the one in `#running`. What a browser
 * cannot see is left out: bytes before the first event, `retry:`, blocks of `id:` alone.
 */

import { BreakerOpen, ConfigurationError, CursorLost, NetworkFailed, RequestFailed, ServerBusy } from './errors.js';
import { FAILED, signalOf } from './failures.js';
import { LoopGuard, SleepDetector } from './guard.js';
import { POLL_PATH, STREAM_PATH } from './http.js';
import { step } from './machine.js';
import { Source } from './source.js';
import { Activity, LIMITS, newMachine, POLICY, Signal, State } from './states.js';

const DUE = {
  [Activity.RETRY_TIMER]: Signal.RETRY_DUE,
  [Activity.HEALTHY_TIMER]: Signal.HEALTHY_DUE,
  [Activity.PATIENCE_TIMER]: Signal.PATIENCE_DUE,
  [Activity.OPENING_TIMER]: Signal.OPENING_DUE,
  [Activity.POLL_TIMER]: Signal.POLL_DUE,
  [Activity.PROBE_TIMER]: Signal.PROBE_DUE,
  [Activity.UNATTENDED_TIMER]: Signal.UNATTENDED_DUE,
};

const SUSPECT_MS = 2500;
const LATE_POLL_S = 10; // a hidden page polls once a minute

/** The connection of one client. */
export class Connection {
  #http;
  #intake;
  #options;
  #clock;
  #rng;
  #policy;
  #running = new Map();
  #queue = [];
  #isStepping = false;
  #guard = new LoopGuard();
  #sleep = new SleepDetector();
  #ticker = null;
  #refusal = 'not let in';
  #effective = null;

  machine = newMachine();
  counts = {
    attempts: 0, failedAttempts: 0, connections: 0, stalls: 0, polls: 0, failedPolls: 0, probes: 0, spins: 0,
  };
  lastByteS = null;
  lastError = '';
  /** The last twenty: `[seconds, text]`. */
  errors = [];

  /**
   * options: `filter()` gives the Filter of the next request, `types()` the event types to listen for, `factory` makes
   * EventSources, `isHidden()` tells whether the page is, `changed(before, after)` is called after each step that
   * changed something, `opened(filter)` when what `filter` lets through is known to come from the cursor on.
   */
  constructor({ http, intake, clock, rng = Math.random, policy = POLICY, ...options }) {
    this.#http = http;
    this.#intake = intake;
    this.#clock = clock;
    this.#rng = rng;
    this.#policy = policy;
    this.#options = { limits: LIMITS, ...options };
  }

  /** What the open stream or the last page let through; null while another one is being asked for. */
  get effective() {
    return this.#effective;
  }

  /** Whether what is being asked for right now will let all of `filter` through. */
  isOpeningWith(filter) {
    const run = this.#running.get(Activity.STREAM) ?? this.#running.get(Activity.POLL);
    return run !== undefined && !run.isOpen && run.filter.covers(filter);
  }

  // -- signals

  /** Something happened: step the machine and do what it says. */
  signal(signal, { source = null, delayS = null, reason = '' } = {}) {
    this.#queue.push({ signal, nowS: this.#clock(), source, delayS, reason });
    if (this.#isStepping) return; // an effect or the listener of the step before; in its turn
    this.#isStepping = true;
    try {
      while (this.#queue.length) this.#step(this.#queue.shift());
    } finally {
      this.#isStepping = false;
    }
  }

  #step(happening) {
    const before = this.machine;
    const [after, effects] = step(before, happening, { policy: this.#policy, rng: this.#rng });
    this.machine = after;
    for (const effect of effects) this.#do(effect);
    this.#tickWhileAlive();
    if (after !== before) this.#options.changed(before, after);
  }

  #do({ do: what, activity, delayS, reason }) {
    if (what === 'report') {
      this.counts.spins += 1;
      this.#noteError(reason);
      console.error(`order-sync: ${reason}`);
    } else if (what === 'adopt') {
      const run = this.#running.get(Activity.PROBE);
      this.#running.delete(Activity.PROBE);
      run.activity = Activity.STREAM;
      this.#running.set(Activity.STREAM, run);
    } else if (what === 'stop') {
      this.#stop(activity);
    } else if (activity in DUE) {
      const run = { activity, stop: () => clearTimeout(timer) };
      const timer = setTimeout(() => this.#due(run), (delayS ?? 0) * 1000);
      this.#running.set(activity, run);
    } else {
      this.#start(activity);
    }
  }

  #stop(activity) {
    const run = this.#running.get(activity);
    this.#running.delete(activity);
    run?.stop();
  }

  #due(run) {
    if (!this.#isCurrent(run)) return;
    this.#running.delete(run.activity);
    this.#checkSleep(); // a timer may be first to see the other side of a sleep
    this.signal(DUE[run.activity]);
  }

  #isCurrent(run) {
    return this.#running.get(run.activity) === run;
  }

  // -- activities

  #start(activity) {
    const abort = new AbortController();
    const run = { activity, source: null, timer: null, isOpen: false, filter: this.#options.filter(), abort };
    run.stop = () => {
      clearTimeout(run.timer);
      run.source?.close();
      abort.abort();
    };
    this.#running.set(activity, run);
    if (activity === Activity.STREAM || activity === Activity.POLL) this.#effective = null;
    if (activity === Activity.STREAM || activity === Activity.PROBE) this.#stream(run);
    else if (activity === Activity.POLL) this.#watch(run, this.#poll(run));
    else if (activity === Activity.PLAIN) this.#watch(run, this.#plain(run));
    else this.#watch(run, this.#renew(run));
  }

  /** Turn the failure of an asynchronous activity into its signal. */
  #watch(run, promise) {
    promise.catch((error) => {
      if (!this.#isCurrent(run)) return;
      if (!(error instanceof RequestFailed || error instanceof ConfigurationError)) console.error('order-sync:', error);
      this.#fail(run, error);
    });
  }

  #fail(run, error) {
    if (!this.#isCurrent(run)) return;
    const reason = error.message;
    this.#noteError(`${run.activity}: ${reason}`);
    const isOurs = error instanceof RequestFailed;
    const misconfigured = error instanceof ConfigurationError && Signal.MISCONFIGURED;
    const signal = isOurs ? signalOf(run.activity, error) : misconfigured || FAILED[run.activity];
    if (signal === Signal.UNAUTHORIZED) this.#refusal = reason;
    if (signal === Signal.ATTEMPT_FAILED) this.counts.failedAttempts += 1;
    else if (signal === Signal.POLL_FAILED) this.counts.failedPolls += 1;
    // What the breaker says is about plain requests only; the server's own Retry-After is about all of them.
    const delayS = error instanceof BreakerOpen ? null : error.retryAfterS ?? null;
    this.#report(run, signal, { delayS, reason });
  }

  /** The last word of an activity, if it is still wanted. */
  #report(run, signal, details = {}) {
    if (!this.#isCurrent(run)) return;
    this.#running.delete(run.activity);
    run.stop();
    this.signal(signal, { source: run.activity, ...details });
  }

  #noteError(text) {
    this.lastError = text;
    this.errors = [...this.errors.slice(-19), [this.#clock(), text]];
  }

  // -- the stream

  #stream(run) {
    if (run.activity === Activity.PROBE) this.counts.probes += 1;
    else this.counts.attempts += 1;
    if (!this.#guard.allows(this.#intake.cursor, this.#clock())) {
      this.#report(run, Signal.SPINNING);
      return;
    }
    if (!this.#http.tokens.isUsed) {
      this.#open(run); // in this very step: nothing to wait for
      return;
    }
    const opening = this.#http.ticket(run.abort.signal).then((ticket) => {
      if (this.#isCurrent(run)) this.#open(run, { ticket });
    });
    this.#watch(run, opening);
  }

  #open(run, more = {}) {
    const params = { ...run.filter.params(), lastEventId: this.#intake.cursor, ...more };
    try {
      run.source = new Source(this.#http.url(STREAM_PATH, params), {
        factory: this.#options.factory,
        withCredentials: this.#http.withCredentials,
        types: this.#options.types(),
        handlers: {
          event: (type, text, id) => this.#onEvent(run, type, text, id),
          failed: (isRefused) => this.#onFailed(run, isRefused),
        },
      });
    } catch (error) {
      this.#fail(run, error instanceof ConfigurationError ? error : new ConfigurationError(error.message));
      return;
    }
    const { firstByteS, firstByteRoundTrips } = this.#options.limits;
    const patienceMs = (firstByteS + firstByteRoundTrips * this.#http.roundTripS) * 1000;
    run.timer = setTimeout(() => this.#onFirstByteMissed(run), patienceMs);
  }

  /** Listen for events of `type` too, from here on. */
  listen(type) {
    for (const run of this.#running.values()) run.source?.listen(type);
  }

  #onEvent(run, type, text, id) {
    if (!this.#isCurrent(run)) return;
    this.lastByteS = this.#clock();
    const opens = !run.isOpen;
    if (opens) {
      run.isOpen = true;
      clearTimeout(run.timer);
      this.#intake.streamBegins();
    }
    // `connected` says where the stream stands, which whoever is told that it is open wants to know.
    let taken = type === 'connected' ? this.#intake.take(type, text, id) : null;
    if (type === 'connected') for (const name of this.#intake.facts.customTypes) run.source.listen(name);
    if (opens) {
      this.#awaitSilence(run); // how long is said there too
      this.#onOpened(run);
    }
    if (!this.#isCurrent(run)) return;
    taken ??= this.#intake.take(type, text, id);
    if (taken.goodbye !== undefined) this.#onGoodbye(run, taken);
  }

  #onOpened(run) {
    this.counts.connections += 1;
    const isStream = run.activity === Activity.STREAM;
    this.signal(isStream ? Signal.OPENED : Signal.PROBE_OPENED, { source: run.activity });
    if (this.#isCurrent(run)) this.#setEffective(run.filter);
  }

  #setEffective(filter) {
    this.#effective = filter;
    this.#options.opened(filter);
  }

  #onGoodbye(run, { goodbye, contradicted }) {
    if (goodbye === 'token_expired') this.#http.tokens.expire();
    // A browser does not show the `retry:` that came with it. 0 to 1 s is what it says, but for a dead log.
    const delayS = goodbye === 'log_unavailable' ? 10 + 20 * this.#rng() : null;
    this.#report(run, contradicted ? Signal.LOST : Signal.GOODBYE, { reason: goodbye, delayS });
  }

  #onFirstByteMissed(run) {
    if (!this.#isCurrent(run)) return;
    if (run.activity === Activity.PROBE) {
      this.#report(run, Signal.PROBE_FAILED, { reason: 'no first byte' });
      return;
    }
    this.counts.failedAttempts += 1;
    this.#noteError('stream: no first byte');
    this.#report(run, Signal.FIRST_BYTE_MISSED);
  }

  #onFailed(run, isRefused) {
    if (!this.#isCurrent(run)) return;
    clearTimeout(run.timer);
    run.source = null;
    if (isRefused && !run.isOpen) {
      this.#watch(run, this.#askWhy(run));
      return;
    }
    const reason = run.isOpen ? 'the connection was lost' : 'no connection';
    this.#noteError(`stream: ${reason}`);
    if (run.activity === Activity.PROBE) {
      this.#report(run, Signal.PROBE_FAILED, { reason });
    } else {
      if (!run.isOpen) this.counts.failedAttempts += 1;
      this.#report(run, run.isOpen ? Signal.LOST : Signal.ATTEMPT_FAILED, { reason });
    }
  }

  /** The browser does not tell why a stream was refused; the poll has the status that the stream had. */
  async #askWhy(run) {
    await this.#http.get(POLL_PATH, { params: { ...run.filter.params(), limit: '1' }, signal: run.abort.signal });
    throw new ServerBusy('the stream was refused, though polls are answered');
  }

  // One timer for the whole life: setting it anew at every event would cost more than the events.
  #awaitSilence(run) {
    const leftS = this.lastByteS + this.#intake.stallS - this.#clock();
    run.timer = setTimeout(() => this.#onSilenceDue(run), Math.max(leftS, 0.01) * 1000);
  }

  #onSilenceDue(run) {
    if (!this.#isCurrent(run)) return;
    this.#checkSleep();
    if (!this.#isCurrent(run)) return;
    if (this.#clock() - this.lastByteS < this.#intake.stallS) {
      this.#awaitSilence(run);
      return;
    }
    this.counts.stalls += 1;
    this.#noteError('the stream fell silent');
    this.#report(run, Signal.LOST, { reason: 'silence' });
  }

  // -- plain requests

  async #poll(run) {
    const { retryInS } = this.#http;
    // Waited for here: it is our own caution with plain requests, and no reason to keep streams waiting.
    if (retryInS) await this.#pause(run, retryInS);
    if (!this.#isCurrent(run)) return;
    const { cursor } = this.#intake;
    if (!this.#guard.allows(`poll ${cursor}`, this.#clock())) {
      this.#report(run, Signal.SPINNING);
      return;
    }
    this.counts.polls += 1;
    const params = { ...run.filter.params(), limit: String(this.#options.limits.pollLimit), after: cursor };
    let page;
    try {
      page = await this.#http.get(POLL_PATH, { params, signal: run.abort.signal });
    } catch (error) {
      if (!(error instanceof CursorLost) || !this.#isCurrent(run)) throw error;
      this.lastByteS = this.#clock();
      this.#noteError(`poll: ${error.message}`);
      this.#intake.loseCursor(error.problem);
      this.#report(run, Signal.RESET, { reason: error.message });
      return;
    }
    if (!this.#isCurrent(run)) return;
    this.lastByteS = this.#clock();
    this.#intake.takePage(page);
    if (!this.#isCurrent(run)) return;
    const pauseMs = page.pollAfterMs;
    const pauseS = typeof pauseMs === 'number' && pauseMs >= 0 && pauseMs <= 600_000 ? pauseMs / 1000 : 2;
    // More, and still nothing: a server that contradicts itself is not asked again at once.
    const hasMore = page.hasMore === true && this.#intake.cursor !== cursor;
    this.#setEffective(run.filter); // which may want another page at once, with another filter
    this.#report(run, Signal.POLLED, { delayS: hasMore ? 0 : Math.max(pauseS, 0.1) });
  }

  #pause(run, seconds) {
    return new Promise((resolve) => {
      run.timer = setTimeout(resolve, seconds * 1000);
    });
  }

  /** A request that no proxy has a reason to hold back, beside a stream that stays silent. */
  async #plain(run) {
    await this.#http.get(POLL_PATH, { params: { limit: '1' }, signal: run.abort.signal });
    this.#report(run, Signal.PLAIN_ANSWERED);
  }

  async #renew(run) {
    let isRenewed;
    try {
      isRenewed = await this.#http.tokens.renew();
    } catch (error) {
      const reason = `token provider: ${error?.name ?? 'error'}`;
      this.#noteError(reason);
      this.#report(run, Signal.TOKEN_FAILED, { reason });
      return;
    }
    if (isRenewed) this.#report(run, Signal.TOKEN_READY);
    else this.#report(run, Signal.TOKEN_MISSING, { reason: this.#refusal });
  }

  // -- the clock

  #tickWhileAlive() {
    const isAlive = this.machine.active.size > 0;
    if (isAlive && this.#ticker === null) {
      this.#sleep.tick(this.#clock(), this.#options.isHidden());
      this.#ticker = setInterval(() => this.#checkSleep(), this.#sleep.tickS * 1000);
    } else if (!isAlive && this.#ticker !== null) {
      clearInterval(this.#ticker);
      this.#ticker = null;
      this.#sleep = new SleepDetector();
    }
  }

  #checkSleep() {
    const sleptS = this.#sleep.tick(this.#clock(), this.#options.isHidden());
    if (sleptS) this.signal(Signal.WOKE, { reason: `slept ${Math.round(sleptS)} s` });
  }

  /** The page is looked at again: find out now what slowed timers would find out later. */
  look() {
    this.#checkSleep();
    const run = this.#running.get(Activity.STREAM);
    if (run?.isOpen) {
      if (this.#clock() - this.lastByteS >= this.#intake.stallS) this.#onSilenceDue(run);
    } else if (this.machine.state === State.RECONNECTING || this.machine.state === State.ERROR) {
      this.signal(Signal.CONNECT);
    } else if (this.machine.state === State.POLLING && this.#clock() - this.lastByteS > LATE_POLL_S) {
      this.signal(Signal.WOKE, { reason: 'looked at again' });
    }
  }

  /** The browser says that there is no network, which may be another network than ours: ask. */
  suspect() {
    const run = this.#running.get(Activity.STREAM);
    if (!run?.isOpen) return;
    this.#http.get(POLL_PATH, { params: { limit: '1' }, timeoutMs: SUSPECT_MS }).catch((error) => {
      if (!(error instanceof NetworkFailed) || !this.#isCurrent(run)) return;
      this.#noteError('the network is gone');
      this.#report(run, Signal.LOST, { reason: 'offline' });
    });
  }

  /** End everything, in the state that it is in; nothing is told. */
  abandon() {
    for (const run of this.#running.values()) run.stop();
    this.#running.clear();
    if (this.#ticker !== null) clearInterval(this.#ticker);
    this.#ticker = null;
  }
}

