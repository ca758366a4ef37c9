/**
 * What the one tab does that leads: holds the connection for all of them, keeps localStorage, tells the others.
 *
 * The stream lets through the union of what the tabs want, without `clientID`, since one tab's echo is another's
 * news. A wish that the union does not cover yet reopens the stream at the cursor; only when that stream stands is
 * the tab told from where on it will get everything, and loads its state. So nothing falls between the two.
 */

import { CONTROL_TYPES, EVENT_TYPES } from './source.js';
import { Connection } from './connection.js';
import { Filter } from './filter.js';
import { Meter, summarize } from './health.js';
import { Intake } from './intake.js';
import { Signal } from './states.js';
import { configuration, isForKeeping } from './store.js';

const REOPEN_EVERY_S = 0.25; // the loop guard lets four requests at one cursor pass in half a second
const PING_MS = 5000;
const KEPT_TRANSITIONS = 50;

/** Runs work after the current task, in hidden pages too, where a timer of 0 ms takes a second. */
function soonAfter(work) {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    work();
  };
  port2.postMessage(null);
}

export class Leader {
  #tab;
  #member;
  #tabs;
  #store;
  #clock;
  #wallMs;
  #options;
  #handlers;
  #members = new Map(); // tab id to {serial, filters, types, welcomed, unwatch}
  #intake;
  #connection;
  #breaker;
  #meter;
  #outbox = [];
  #flushed;
  #isFlushDue = false;
  #isStatusDue = false;
  #lastReopenS = -Infinity;
  #reopenTimer = null;
  #pingTimer = null;
  #lastConnectionTime;
  #saved;
  #isStopping = false;
  transitions = [];

  /**
   * member: this tab's own Member; known: what other tabs want, by tab id, as far as this one has heard.
   * handlers: `summary(summary)` for this tab, `control(type, data)`, `transition(change)`.
   */
  constructor({ tab, tabs, member, known, http, breaker, store, clock, rng, wallMs, access, options, handlers }) {
    this.#tab = tab;
    this.#tabs = tabs;
    this.#member = member;
    this.#store = store;
    this.#clock = clock;
    this.#wallMs = wallMs;
    this.#breaker = breaker;
    this.#options = options;
    this.#handlers = handlers;
    const saved = store.load();
    this.#lastConnectionTime = saved.lastConnectionTime;
    store.open(mergeEvents(saved.events, options.recent), () => this.#facts());
    member.takeLead();
    this.#flushed = member.cursor;
    this.#intake = new Intake({
      cursor: member.cursor, start: options.start, access: access ?? saved.access, clock, wallMs,
      handlers: {
        events: (envelopes, source) => this.#distribute(envelopes, source),
        resync: (reason) => this.#resync(reason),
        control: (type, data) => this.#control(type, data),
      },
    });
    this.#connection = new Connection({
      http, intake: this.#intake, clock, rng, policy: options.policy, factory: options.factory,
      isHidden: options.isHidden, limits: options.limits,
      filter: () => this.#union(),
      types: () => this.#types(),
      changed: (before, after) => this.#changed(before, after),
      opened: () => this.#onOpened(),
    });
    this.#meter = new Meter({ startedS: clock(), before: saved.connectionMetrics });
    for (const [id, wishes] of known) this.#admit(id, wishes);
    this.#admit(tab, member.wishes());
    this.#saved = saved;
  }

  start() {
    this.#tabs.send({ type: 'leading', tab: this.#tab });
    if (this.#tabs.isShared) this.#pingTimer = setInterval(() => this.#ping(), PING_MS);
    if (!this.#member.hasReceived) this.#goOn();
    this.#connection.signal(Signal.CONNECT);
  }

  /** What an earlier life of this page did not get done with. */
  #goOn() {
    const reason = this.#saved.resync || (this.#options.isExpired ? 'expired' : '');
    if (reason) {
      this.#store.remember({ resync: reason });
      this.#settle(this.#member.resync(reason, this.#member.cursor));
    }
    const undone = this.#store.events.filter(({ metadata }) => !metadata.processed);
    if (undone.length) this.#mark(undone, this.#member.again(undone));
  }

  /** End it. isTaken: another tab leads already, and writes from here on; else it is told to this tab and kept. */
  stop({ isTaken = false } = {}) {
    this.#isStopping = true;
    if (!isTaken) this.#connection.signal(Signal.CLOSE);
    this.#flush();
    clearTimeout(this.#reopenTimer);
    clearInterval(this.#pingTimer);
    for (const { unwatch } of this.#members.values()) unwatch();
    this.#connection.abandon();
    if (!isTaken) this.#store.write();
    this.#store.close();
  }

  get machine() {
    return this.#connection.machine;
  }

  get errors() {
    return this.#connection.errors;
  }

  signal(signal, details) {
    this.#connection.signal(signal, details);
  }

  look() {
    this.#connection.look();
  }

  suspect() {
    this.#connection.suspect();
  }

  save() {
    this.#store.write();
  }

  get serverOffsetMs() {
    return this.#intake.facts.serverOffsetMs;
  }

  // -- the tabs

  /** A tab says what it wants; it will be welcomed when the stream covers that. */
  hello(id, wishes) {
    this.#admit(id, wishes);
    for (const type of wishes.types) this.#connection.listen(type);
    this.#welcomeCovered();
    this.#sendStatus();
  }

  /** A tab is gone. What only it wanted goes with the next stream. */
  bye(id) {
    this.#members.get(id)?.unwatch();
    this.#members.delete(id);
  }

  #admit(id, { serial, filters, types }) {
    const unwatch = this.#members.get(id)?.unwatch
      ?? (id === this.#tab ? () => {} : this.#tabs.watch(id, () => this.bye(id)));
    this.#members.set(id, { serial, filters: filters.map(Filter.read), types, welcomed: 0, unwatch });
  }

  /** What all tabs want, for a tab that may have to take over. */
  #wishes() {
    return [...this.#members].map(([id, { serial, filters, types }]) => [
      id, { serial, filters: filters.map((filter) => filter.document()), types },
    ]);
  }

  #union() {
    return Filter.union([...this.#members.values()].flatMap(({ filters }) => filters));
  }

  #types() {
    return new Set([...CONTROL_TYPES, ...EVENT_TYPES, ...[...this.#members.values()].flatMap(({ types }) => types)]);
  }

  #onOpened() {
    this.#lastConnectionTime = new Date(this.#wallMs()).toISOString();
    this.#store.writeSoon();
    if (this.#store.session.access !== this.#intake.access) this.#store.remember({ access: this.#intake.access });
    this.#welcomeCovered();
  }

  #welcomeCovered() {
    const covered = this.#connection.effective;
    const waiting = [...this.#members].filter(([, member]) => member.welcomed < member.serial);
    if (!waiting.length) return;
    this.#flush(); // a promise "from here on" comes behind what came before
    for (const [id, member] of waiting) {
      if (covered === null || !member.filters.every((filter) => covered.covers(filter))) {
        this.#reopenSoon();
        continue;
      }
      member.welcomed = member.serial;
      const cursor = this.#intake.received;
      if (id === this.#tab) this.#member.welcome(member.serial, cursor);
      else this.#tabs.send({ type: 'welcome', to: id, serial: member.serial, cursor, known: this.#wishes() });
    }
  }

  #reopenSoon() {
    if (this.#reopenTimer !== null || this.#connection.isOpeningWith(this.#union())) return;
    const waitS = Math.max(this.#lastReopenS + REOPEN_EVERY_S - this.#clock(), 0);
    this.#reopenTimer = setTimeout(() => {
      this.#reopenTimer = null;
      if (this.#connection.isOpeningWith(this.#union())) return;
      this.#lastReopenS = this.#clock();
      this.#connection.signal(Signal.REOPEN, { reason: 'filter' });
    }, waitS * 1000);
  }

  // -- what comes

  #distribute(envelopes, source) {
    const kept = this.#store.add(envelopes, source);
    this.#outbox.push({ events: envelopes, source });
    this.#flushSoon();
    this.#mark(kept, this.#member.take({ from: null, to: '', events: envelopes, source }));
  }

  /** Processed is what the handlers here are done with. */
  #mark(events, pending) {
    const ids = events.map(({ id }) => id);
    if (!pending.length) this.#store.mark(ids, 'processed');
    else Promise.all(pending).then(() => this.#store.mark(ids, 'processed'));
  }

  #resync(reason) {
    this.#flush();
    const cursor = this.#intake.received;
    this.#store.remember({ resync: reason, access: this.#intake.access });
    this.#store.writeSoon();
    this.#flushed = cursor;
    this.#tabs.send({ type: 'resync', reason, cursor });
    this.#settle(this.#member.resync(reason, cursor));
  }

  /** The listeners' resync is done when they are. */
  #settle(pending) {
    const { resets } = this.#intake.facts;
    Promise.all(pending).then(() => {
      if (this.#intake.facts.resets === resets) this.#store.remember({ resync: '' });
    });
  }

  #control(type, data) {
    if (type === 'malformed') console.warn(`order-sync: an event could not be understood: ${data.id}`);
    this.#flushSoon(); // the cursor may have moved
    if (type === 'heartbeat' || type === 'caught_up') this.#statusSoon();
    this.#tabs.send({ type: 'control', control: type, data });
    this.#handlers.control(type, data);
  }

  #flushSoon() {
    if (this.#isFlushDue) return;
    this.#isFlushDue = true;
    soonAfter(() => this.#flush());
  }

  /** Tell the others what has come since the last time, in pieces of one source. */
  #flush() {
    this.#isFlushDue = false;
    const to = this.#intake.received;
    if (to === this.#flushed && !this.#outbox.length) return;
    let from = this.#flushed;
    for (const { events, source } of joined(this.#outbox.splice(0))) {
      this.#tabs.send({ type: 'events', from, to: '', events, source });
      from = null; // the next one follows it
    }
    this.#tabs.send({ type: 'events', from, to, events: [], source: '' });
    this.#member.take({ from: null, to, events: [], source: '' });
    this.#flushed = to;
    this.#store.writeSoon();
  }

  // -- what is told of it

  #changed(before, after) {
    const nowS = this.#clock();
    if (after.state !== before.state) {
      this.#meter.moved(before, after, nowS);
      const at = new Date(this.#wallMs()).toISOString();
      const transition = { before: before.state, after: after.state, reason: after.reason, at };
      this.transitions = [...this.transitions.slice(1 - KEPT_TRANSITIONS), transition];
      this.#handlers.summary(this.summary()); // at once: whoever asks in this very step is told the truth
      this.#handlers.transition(transition);
    }
    this.#statusSoon();
  }

  #ping() {
    if (this.#members.size > 1) this.#sendStatus();
  }

  #statusSoon() {
    if (this.#isStatusDue || this.#isStopping) return;
    this.#isStatusDue = true;
    soonAfter(() => this.#sendStatus());
  }

  #sendStatus() {
    this.#isStatusDue = false;
    if (this.#isStopping) return;
    const summary = this.summary();
    this.#handlers.summary(summary);
    this.#tabs.send({ type: 'status', tab: this.#tab, summary, transitions: this.transitions });
  }

  summary() {
    const nowS = this.#clock();
    const { facts } = this.#intake;
    const metrics = this.#meter.metrics(
      { counts: this.#connection.counts, facts, machine: this.machine, storageBytes: this.#store.sizeBytes }, nowS,
    );
    return summarize({
      connection: this.#connection, intake: this.#intake, store: this.#store, breaker: this.#breaker, metrics, nowS,
      isHidden: this.#options.isHidden(),
    });
  }

  #facts() {
    return {
      configuration: configuration(this.#union(), this.#options.policy),
      lastConnectionTime: this.#lastConnectionTime,
      connectionMetrics: this.#meter.document(this.#intake.facts.events, this.#clock()),
      lastEventId: this.#intake.received,
    };
  }
}

/** Neighbours of the same source as one. */
function joined(pieces) {
  const batches = [];
  for (const { events, source } of pieces) {
    const last = batches.at(-1);
    if (last?.source === source) last.events = last.events.concat(events);
    else batches.push({ events, source });
  }
  return batches;
}

/** What was stored and what this tab remembers, each once. */
function mergeEvents(saved, recent) {
  const byId = new Map(saved.map((event) => [event.id, event]));
  for (const event of recent) if (isForKeeping(event) && !byId.has(event.id)) byId.set(event.id, event);
  return [...byId.values()];
}
