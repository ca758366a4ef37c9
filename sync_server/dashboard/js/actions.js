/**
 * The action queue: commands that are sent in order as soon as the network allows, each applied once.
 *
 * An action is on disk, with its idempotency key, before it is sent; so a reload, or a crash in the middle, sends it
 * again with the same key, and the server answers what it answered then. One tab sends for all (the leader); where
 * two do for a moment, the key makes it harmless. A refusal by the rules ends an action without holding up the rest.
 * Source: protocol.md 4, 6.
 */

import { delayS } from './backoff.js';
import { requestOf } from './commands.js';
import { BreakerOpen, NetworkFailed, NotOurAnswer, RequestFailed, ServerBusy, Unauthorized } from './errors.js';
import { newKey } from './ids.js';
import { POLICY } from './states.js';

const PARK_AFTER_MS = 6 * 24 * 3600 * 1000; // the server forgets outcomes after seven days
const MAX_FAILED = 100;

/**
 * States: `queued`, `sending`, `failed` (refused), `parked` (too old to be sent again without a person). handlers:
 * `changed()`, and `ended(action, outcome)` with `{status: 'applied', answer}` or `{status: 'rejected', problem,
 * current}`, in the same step in which the action leaves the pending ones.
 */
export class Actions {
  #database;
  #http;
  #commands;
  #clientId;
  #rng;
  #wallMs;
  #share;
  #handlers;
  #onConflict;
  #actions = new Map(); // by key, in order
  #waiting = new Map(); // key to the function that resolves its outcome
  #isLeading = false;
  #isDraining = false;
  #hurry = null;
  #isWaitAsked = false; // by the server: nothing ends that wait early
  #failures = 0;
  #endedWhileLoading = null; // keys; what is read from disk may be older than what we heard
  /** Why nothing is sent although there is something: '' or 'unauthorized'. */
  paused = '';

  constructor({ database, http, commands, clientId, share, handlers, onConflict = null, rng = Math.random,
    wallMs = Date.now }) {
    this.#database = database;
    this.#http = http;
    this.#commands = commands;
    this.#clientId = clientId;
    this.#share = share;
    this.#handlers = handlers;
    this.#onConflict = onConflict;
    this.#rng = rng;
    this.#wallMs = wallMs;
  }

  /** What an earlier life of the page, or another tab, has queued. */
  async load() {
    const ended = (this.#endedWhileLoading = new Set());
    const saved = await this.#database.all();
    this.#endedWhileLoading = null;
    for (const action of saved) if (!ended.has(action.key)) this.#actions.set(action.key, afresh(action));
    this.#sort();
    this.#handlers.changed();
    this.#drain();
  }

  /** All that is not done, oldest first. */
  get list() {
    return [...this.#actions.values()];
  }

  /** Queued or being sent: what overlays are shown for. */
  get pending() {
    return this.list.filter(({ state }) => state === 'queued' || state === 'sending');
  }

  get failed() {
    return this.list.filter(({ state }) => state === 'failed' || state === 'parked');
  }

  /** '' or why queued actions would not survive a reload. */
  get problem() {
    return this.#database.problem;
  }

  /**
   * Queue a command: `send('orders.changeStage', {orderID, newStage})`. `ifMatch`: only if the document still has that
   * version. Gives `{key, saved, outcome}`: promises of being on disk, and of the outcome. Throws TypeError.
   */
  send(name, given, { ifMatch = null } = {}) {
    const command = this.#commands[name];
    if (command === undefined) throw new TypeError(`there is no command ${name}`);
    const complete = command.complete?.(given) ?? { ...given };
    requestOf(command, complete); // told now, not when it is sent
    const action = {
      key: newKey(), name, given: complete, ifMatch, clientId: this.#clientId, state: 'queued',
      createdAt: new Date(this.#wallMs()).toISOString(), firstSentMs: null, problem: null,
    };
    const outcome = new Promise((resolve) => this.#waiting.set(action.key, resolve));
    this.#set(action);
    return { key: action.key, saved: this.#save(action), outcome };
  }

  async #save(action) {
    const n = await this.#database.add(action);
    if (!this.#actions.has(action.key)) {
      await this.#database.delete(n); // discarded meanwhile
      return;
    }
    this.#set({ ...this.#actions.get(action.key), n });
    this.#share({ kind: 'action', action: this.#actions.get(action.key) });
    this.#drain();
  }

  /** Send a failed or parked action again, as a new one. Gives what `send` gives, or null if there is none. */
  retry(key) {
    const action = this.#actions.get(key);
    if (action === undefined || !['failed', 'parked'].includes(action.state)) return null;
    this.discard(key);
    return this.send(action.name, action.given, { ifMatch: null });
  }

  /** Forget an action that is not being sent; whether there was one. */
  discard(key) {
    const action = this.#actions.get(key);
    if (action === undefined || action.state === 'sending') return false;
    this.#remove(action);
    this.#share({ kind: 'gone', key });
    this.#resolve(key, { status: 'discarded' });
    return true;
  }

  /** Whether this tab sends for all. */
  lead(isLeading) {
    if (isLeading && !this.#isLeading) {
      for (const action of this.list) this.#actions.set(action.key, afresh(action)); // sent by who led before
    }
    this.#isLeading = isLeading;
    this.#drain();
  }

  /** There is reason to believe that it works now. */
  wake() {
    this.paused = '';
    this.#failures = 0;
    if (!this.#isWaitAsked) this.#hurry?.();
    this.#drain();
  }

  /** What another tab's queue says. */
  hear({ kind, action, key, outcome }) {
    if (kind === 'action') this.#set(action);
    else if (kind === 'gone') this.#forget(key);
    else if (kind === 'ended') this.#end(this.#actions.get(action.key) ?? action, outcome, { isOwn: false });
    this.#drain();
  }

  // -- sending

  async #drain() {
    if (!this.#isLeading || this.#isDraining) return;
    this.#isDraining = true;
    try {
      while (this.#isLeading && !this.paused) {
        const next = this.list.find(({ state, n }) => state === 'queued' && n !== undefined);
        if (next === undefined) return;
        const waitS = await this.#attempt(next);
        if (waitS > 0) await this.#pause(waitS);
      }
    } finally {
      this.#isDraining = false;
    }
  }

  /** Send it once; how long to wait before the next attempt, in seconds. */
  async #attempt(action) {
    const nowMs = this.#wallMs();
    if (action.firstSentMs !== null && nowMs - action.firstSentMs > PARK_AFTER_MS) {
      const title = 'Nobody knows any more whether this was done; look, and send or discard it.';
      this.#end(action, { status: 'parked', problem: { type: 'parked', title } });
      return 0;
    }
    const sending = { ...action, state: 'sending', firstSentMs: action.firstSentMs ?? nowMs };
    if (action.firstSentMs === null) await this.#database.put(sending);
    if (!this.#actions.has(action.key)) return 0;
    this.#set(sending);
    this.#share({ kind: 'action', action: sending });
    try {
      const answer = await this.#exchange(sending);
      this.#failures = 0;
      this.#end(sending, { status: 'applied', answer });
      return 0;
    } catch (error) {
      return this.#failedAttempt(sending, error);
    }
  }

  async #exchange(action, { isRepeat = false } = {}) {
    const { method, path, body } = requestOf(this.#commands[action.name], action.given);
    const headers = { 'Idempotency-Key': action.key, 'X-Client-ID': action.clientId };
    if (action.ifMatch !== null) headers['If-Match'] = `"${action.ifMatch}"`;
    try {
      const { document } = await this.#http.request(method, path, { body, headers });
      return document ?? {};
    } catch (error) {
      const isExpired = error instanceof Unauthorized && error.status === 401 && !isRepeat;
      if (!isExpired || !(await this.#http.tokens.renew().catch(() => false))) throw error;
      return this.#exchange(action, { isRepeat: true });
    }
  }

  #failedAttempt(action, error) {
    if (!(error instanceof RequestFailed)) {
      console.error('order-sync:', error);
      this.#end(action, { status: 'rejected', problem: { title: error.message } });
      return 0;
    }
    const isPassing = [BreakerOpen, NetworkFailed, NotOurAnswer, ServerBusy].some((kind) => error instanceof kind);
    if (!isPassing && error.status !== 401) {
      this.#failures = 0;
      this.#refused(action, error);
      return 0;
    }
    if (this.#actions.has(action.key)) this.#set({ ...action, state: 'queued' });
    this.#share({ kind: 'action', action: { ...action, state: 'queued' } });
    if (error.status === 401) {
      this.paused = 'unauthorized';
      this.#handlers.changed();
      return 0;
    }
    this.#isWaitAsked = false;
    if (error instanceof BreakerOpen) return error.retryAfterS;
    this.#failures += 1;
    this.#isWaitAsked = Boolean(error.retryAfterS);
    return delayS(this.#failures, { backoff: POLICY.backoff, rng: this.#rng, retryAfterS: error.retryAfterS });
  }

  #refused(action, error) {
    const problem = error.problem ?? { title: error.message, status: error.status };
    const current = error.problem?.current ?? null;
    const rebased = error.status === 409 ? this.#rebase(action, problem, current) : null;
    this.#end(action, { status: 'rejected', problem, current, isRebased: rebased !== null });
    if (rebased !== null) this.send(action.name, rebased, {});
  }

  /** What the program makes of a conflict: other parameters for a new attempt, or null. */
  #rebase(action, problem, current) {
    try {
      return this.#onConflict?.({ name: action.name, given: action.given, problem, current }) ?? null;
    } catch (error) {
      console.error('order-sync: onConflict failed:', error);
      return null;
    }
  }

  /** It is over, one way or the other. */
  #end(action, outcome, { isOwn = true } = {}) {
    this.#endedWhileLoading?.add(action.key);
    const isKept = outcome.status !== 'applied' && !outcome.isRebased;
    if (isKept) {
      const state = outcome.status === 'parked' ? 'parked' : 'failed';
      const failed = { ...action, state, problem: outcome.problem };
      this.#actions.set(action.key, failed);
      if (isOwn) this.#database.put(failed);
    } else {
      this.#actions.delete(action.key);
      if (isOwn) this.#database.delete(action.n);
    }
    this.#handlers.ended(action, outcome);
    this.#resolve(action.key, outcome);
    if (!isOwn) return;
    this.#share({ kind: 'ended', action, outcome });
    for (const old of this.failed.slice(0, -MAX_FAILED)) this.discard(old.key);
  }

  #pause(seconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      this.#hurry = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  // -- the list

  #set(action) {
    const isNew = !this.#actions.has(action.key);
    const gotPlace = isNew || this.#actions.get(action.key).n !== action.n;
    this.#actions.set(action.key, action);
    if (gotPlace) this.#sort();
    this.#handlers.changed();
  }

  /** By `n`; what is not on disk yet comes last, as it came. */
  #sort() {
    const ordered = this.list.sort((a, b) => (a.n ?? Infinity) - (b.n ?? Infinity) || 0);
    this.#actions = new Map(ordered.map((action) => [action.key, action]));
  }

  #remove(action) {
    this.#forget(action.key);
    if (action.n !== undefined) this.#database.delete(action.n);
  }

  #forget(key) {
    this.#endedWhileLoading?.add(key);
    if (this.#actions.delete(key)) this.#handlers.changed();
  }

  #resolve(key, outcome) {
    this.#waiting.get(key)?.(outcome);
    this.#waiting.delete(key);
  }
}

/** Nobody but the server knows the fate of what was being sent: it is sent again, with its key. */
function afresh(action) {
  return action.state === 'sending' ? { ...action, state: 'queued' } : action;
}
