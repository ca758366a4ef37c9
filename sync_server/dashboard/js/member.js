/**
 * One tab's part of the feed: what it wants, how far it has received, and who in it is told.
 *
 * The tab that leads hands on what the one stream brings, in batches that say from where to where they reach. A tab
 * that sees that a batch begins behind its own cursor (it joined late, or the lead changed while a message was under
 * way) fetches what lies between by polling, and only then goes on. So nothing is missed and nothing comes twice,
 * whoever leads. Source: protocol.md 6.
 */

import { delayS } from './backoff.js';
import { isAtOrBefore, leavesGap, parseCursor } from './cursor.js';
import { CursorLost, NotOurAnswer } from './errors.js';
import { Filter } from './filter.js';
import { POLICY } from './states.js';

const MAX_HELD_EVENTS = 5000;

export class Member {
  #subscriptions = new Set();
  #fetchPage;
  #handlers;
  #rng;
  #held = [];
  #healing = null; // AbortController
  #serial = 0;
  #types = []; // that handlers ask for by name
  #isPromised = false; // whether the leader of now knows all that was promised here
  /** Everything up to here was handed out; '' before there is any promise. */
  cursor = '';
  /** The largest serial that was answered. */
  welcomed = 0;
  /** Whether this page has received anything itself; what is kept from before is another life's. */
  hasReceived = false;

  /**
   * fetchPage(params, signal): one page of the poll. handlers: `wanting()`, the wishes have changed; `told(events,
   * source)`, events that somebody here wants; `resync(reason)`; `failed(error)`, somebody's handler threw.
   */
  constructor({ fetchPage, handlers, rng = Math.random }) {
    this.#fetchPage = fetchPage;
    this.#handlers = handlers;
    this.#rng = rng;
  }

  /** The filters and types of all who listen here; `serial` counts the changes. */
  wishes() {
    const all = [...this.#subscriptions];
    return {
      serial: this.#serial,
      filters: all.map(({ filter }) => filter.document()),
      types: [...new Set([...this.#types, ...all.flatMap(({ filter }) => filter.types)])],
    };
  }

  /** Custom event types that somebody here listens for. */
  listenTo(types) {
    if (types.every((type) => this.#types.includes(type))) return;
    this.#types = [...types];
    this.#serial += 1;
    this.#handlers.wanting();
  }

  get isWanting() {
    return this.#subscriptions.size > 0;
  }

  /** Whether the tab has been promised all that it wants now. */
  get isReady() {
    return this.isWanting && this.welcomed >= this.#serial;
  }

  /**
   * Listen. `handler(event, source)` for what `filter` lets through; with `isRaw` for everything that comes by.
   * `ready(cursor)` once it is sure that everything from that cursor on will come. Gives a function that ends it.
   */
  subscribe({ filter, handler, ready = () => {}, resync = () => {}, isRaw = false }) {
    this.#serial += 1;
    const subscription = { filter, handler, ready, resync, isRaw, serial: this.#serial, isReady: false };
    this.#subscriptions.add(subscription);
    this.#handlers.wanting();
    return () => {
      if (!this.#subscriptions.delete(subscription)) return;
      this.#serial += 1;
      this.welcomed = this.welcomed === this.#serial - 1 ? this.#serial : this.welcomed; // less is granted already
      this.#handlers.wanting();
    };
  }

  /** Whether what the leader hands on is all that was promised. */
  get isPromised() {
    return this.#isPromised;
  }

  /** Another tab leads from here on, and may not know yet what was promised to this one. */
  doubt() {
    this.#isPromised = false;
  }

  /** The leader's promise: all that was wanted up to `serial` comes from `cursor` on. */
  welcome(serial, cursor) {
    this.#isPromised ||= serial >= this.welcomed;
    this.hasReceived = true;
    this.welcomed = Math.max(this.welcomed, serial);
    if (!this.cursor) this.cursor = cursor;
    else if (leavesGap(this.cursor, cursor)) this.#hold({ from: cursor, to: cursor, events: [], source: 'polling' });
    for (const subscription of [...this.#subscriptions]) {
      if (subscription.isReady || subscription.serial > serial) continue;
      subscription.isReady = true;
      this.#call(() => subscription.ready(cursor));
    }
  }

  /** What the leader hands on. Gives the promises of handlers that are not done yet. */
  take(batch) {
    if (!this.#isPromised) return []; // its welcome is yet to come, and says where to go on
    if (this.#healing !== null || leavesGap(this.cursor, batch.from)) {
      this.#hold(batch);
      return [];
    }
    return this.#handOut(batch);
  }

  /** Events that an earlier life of the page received, and whose handlers did not finish. */
  again(events) {
    const pending = [];
    const told = events.filter((event) => this.#tell(event, event.metadata.source, pending));
    if (told.length) this.#call(() => this.#handlers.told(told, 'storage'), pending);
    return pending;
  }

  /** What we have leads nowhere; go on at `cursor`. */
  resync(reason, cursor) {
    this.#stopHealing();
    this.cursor = cursor;
    const pending = [];
    for (const { resync } of [...this.#subscriptions]) this.#call(() => resync(reason), pending);
    this.#call(() => this.#handlers.resync(reason), pending);
    return pending;
  }

  /** This tab leads now, and its stream begins at our cursor: nothing is to be fetched in between. */
  takeLead() {
    this.#stopHealing();
    this.#isPromised = this.cursor !== '';
  }

  close() {
    this.#stopHealing();
    this.#isPromised = false;
    this.welcomed = 0;
    for (const subscription of this.#subscriptions) subscription.isReady = false;
  }

  #handOut({ to, events, source }) {
    const pending = [];
    const told = [];
    for (const event of events) {
      if (typeof event.id === 'string' && isAtOrBefore(event.id, this.cursor)) continue;
      if (this.#tell(event, source, pending)) told.push(event);
      if (parseCursor(event.id)) this.cursor = event.id;
    }
    if (told.length) this.#call(() => this.#handlers.told(told, source), pending);
    if (parseCursor(to) && !isAtOrBefore(to, this.cursor)) this.cursor = to;
    return pending;
  }

  /** Whether anybody wanted it. */
  #tell(event, source, pending) {
    let isWanted = false;
    for (const subscription of [...this.#subscriptions]) {
      const matches = event.eventType === 'removed' ? subscription.isRaw : subscription.filter.matches(event);
      isWanted ||= matches;
      if (matches || subscription.isRaw) this.#call(() => subscription.handler(event, source), pending);
    }
    return isWanted;
  }

  #call(work, pending = []) {
    try {
      const result = work();
      if (typeof result?.then === 'function') pending.push(result.then(undefined, this.#handlers.failed));
    } catch (error) {
      this.#handlers.failed(error);
    }
  }

  // -- what lies between

  #hold(batch) {
    this.#held.push(batch);
    const count = this.#held.reduce((sum, { events }) => sum + events.length, 0);
    if (count > MAX_HELD_EVENTS) this.resync('behind', batch.to);
    else if (this.#healing === null) this.#heal();
  }

  async #heal() {
    const abort = (this.#healing = new AbortController());
    for (let failures = 0; leavesGap(this.cursor, this.#held[0]?.from); ) {
      try {
        const before = this.cursor;
        const page = await this.#page(abort.signal);
        if (abort.signal.aborted) return;
        this.#handOut({ to: page.cursor, events: page.events, source: 'polling' });
        if (abort.signal.aborted) return;
        if (this.cursor === before) throw new NotOurAnswer('the page does not move on', { status: 200 });
        failures = 0;
      } catch (error) {
        if (abort.signal.aborted) return;
        if (error instanceof CursorLost) {
          this.resync(String(error.problem?.reason ?? 'unknown'), this.#held.at(-1)?.to ?? '');
          return;
        }
        failures += 1;
        await pause(delayS(failures, { backoff: POLICY.backoff, rng: this.#rng, retryAfterS: error.retryAfterS }));
      }
    }
    this.#healing = null;
    const held = this.#held.splice(0);
    for (const batch of held) this.take({ ...batch, from: null });
  }

  async #page(signal) {
    const filter = Filter.union([...this.#subscriptions].map((subscription) => subscription.filter));
    const page = await this.#fetchPage({ ...filter.params(), after: this.cursor, limit: '500' }, signal);
    if (!Array.isArray(page.events) || parseCursor(page.cursor) === null) {
      throw new NotOurAnswer('the answer is not a page of events', { status: 200 });
    }
    return page;
  }

  #stopHealing() {
    this.#healing?.abort();
    this.#healing = null;
    this.#held = [];
  }
}

function pause(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
