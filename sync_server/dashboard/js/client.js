/**
 * SyncClient: the one object that a page makes. The composition root.
 *
 *     const client = new SyncClient({ baseUrl: '/' });
 *     client.on('stage_change', (event) => show(event.orderID, event.data.newStage));
 *     client.connect({ eventTypes: ['stage_change'] });
 *
 * How an event gets here: one tab leads (tabs.js, group.js) and holds the connection (leader.js, connection.js,
 * source.js); intake.js drops what is known, store.js keeps it, member.js hands it out, in this tab and the others.
 */

import { Breaker } from './breaker.js';
import { Filter } from './filter.js';
import { Group } from './group.js';
import { Debounced, Handlers, stageChanges } from './handlers.js';
import { healthOf } from './health.js';
import { History } from './history.js';
import { Http, POLL_PATH } from './http.js';
import { newId } from './ids.js';
import { Member } from './member.js';
import { readOptions, surroundings } from './options.js';
import { isHidden, watchPage } from './page.js';
import { Signal, State } from './states.js';
import { canShareTabs, SingleTab, Tabs } from './tabs.js';
import { Tokens } from './tokens.js';
import { View } from './view.js';
import { Work } from './work.js';

const LINGER_MS = 1000; // the last listener left; another page of the program may be about to come
const KEPT_TRANSITIONS = 50;

/** See the module. Options: options.js. Throws ConfigurationError. Does nothing before `connect` or `subscribe`. */
export class SyncClient {
  #options;
  #around;
  #tab = newId();
  #http;
  #breaker;
  #tokens;
  #member;
  #group;
  #history;
  #work;
  #handlers = new Handlers();
  #main = null; // what connect() asked for: {filter, end}
  #unwatchPage = null;
  #lingerTimer = null;
  #wasAway = false;
  #stateListeners = new Set();
  #changeListeners = new Set();
  #transitions = [];

  constructor(options = {}) {
    const read = (this.#options = readOptions(options));
    this.#around = surroundings(read);
    const { clock, rng, wallMs } = read;
    this.#tokens = new Tokens(read.token);
    this.#breaker = new Breaker({ clock, rng });
    this.#http = new Http({
      baseUrl: read.baseUrl, fetch: this.#around.fetch, tokens: this.#tokens, breaker: this.#breaker, clock,
      clientId: read.clientId, credentials: read.credentials, csrf: read.csrf,
    });
    this.#member = new Member({
      fetchPage: (params, signal) => this.#http.get(POLL_PATH, { params, signal }), rng,
      handlers: {
        wanting: () => this.#group.wanting(),
        told: (events, source) => this.#told(events, source),
        resync: (reason) => this.#raise('resync', { reason }),
        failed: (error) => console.error('order-sync: a handler failed:', error),
      },
    });
    this.#history = new History({
      storage: this.#around.storage, storageKey: () => read.storageKey || this.#namespace(),
      mayResume: read.start === 'resume', wallMs,
    });
    this.#work = new Work({
      options: read, http: this.#http, indexedDB: this.#around.indexedDB, name: () => this.#namespace(),
      share: (message) => this.#group.share(message), nowMs: () => this.serverNowMs(),
      handlers: { changed: () => this.#changed(), ended: (action, outcome) => this.#actionEnded(action, outcome) },
    });
    this.#group = new Group({
      tab: this.#tab, member: this.#member, clock, isHidden,
      makeTabs: (handlers, { isAlone }) => this.#makeTabs(handlers, isAlone),
      leaderDeps: () => this.#leaderDeps(),
      handlers: {
        status: () => this.#changed(),
        transition: (change, all) => this.#transition(change, all),
        control: (type, data) => this.#control(type, data),
        shared: (message) => this.#hear(message),
        lead: (isLeading) => this.#work.lead(isLeading),
      },
    });
  }

  // -- life

  /**
   * Stream what `filter` lets through; without one: what it was, or everything. Again: try now, which ends `failed`
   * and any waiting.
   */
  connect(filter) {
    if (filter !== undefined || this.#main === null) {
      const read = Filter.read(filter);
      const before = this.#main;
      const handler = () => {};
      this.#main = { filter: read, end: this.#member.subscribe({ filter: read, handler }) };
      before?.end();
    }
    if (this.#group.isStarted) this.#group.hurry();
    else this.#start();
  }

  /** Try now, whatever is waited for; ends `failed`. */
  retryNow() {
    if (this.#group.isStarted) this.#group.hurry();
    else this.#start();
  }

  /** End the connection of this tab; others go on. What is queued stays queued. */
  disconnect() {
    clearTimeout(this.#lingerTimer);
    this.#main?.end();
    this.#main = null;
    this.#stop();
  }

  /** End the connection, unless somebody listens. */
  disconnectIfIdle() {
    if (!this.#member.isWanting) this.disconnect();
  }

  #start() {
    clearTimeout(this.#lingerTimer);
    if (this.#group.isStarted || !this.#member.isWanting) return;
    this.#resume();
    this.#unwatchPage ??= watchPage({
      hidden: () => this.#group.save(),
      visible: () => this.#group.look(),
      away: () => this.#away(),
      back: () => this.#back(),
      online: () => {
        this.#group.look({ woke: true });
        this.#work.wake();
        this.#changed();
      },
      offline: () => {
        this.#group.suspect();
        this.#changed();
      },
    });
    this.#group.start();
    void this.#work.actions; // what is queued from before is sent
  }

  /** Go on where an earlier life of the page stood. */
  #resume() {
    const history = this.#history;
    history.look();
    if (this.#member.cursor) return;
    this.#member.cursor = history.cursor;
  }

  #stop() {
    this.#unwatchPage?.();
    this.#unwatchPage = null;
    this.#wasAway = false;
    const before = this.state;
    const isEnding = this.#group.isStarted;
    this.#group.stop();
    const last = this.#transitions.at(-1);
    if (isEnding && last?.after !== State.CLOSED) {
      const at = new Date(this.#options.wallMs()).toISOString();
      this.#transition({ before, after: State.CLOSED, reason: 'close() was called', at });
    }
  }

  /** The page is put away: let another tab lead, and be able to come back. */
  #away() {
    if (!this.#group.isStarted) return;
    this.#group.stop();
    this.#wasAway = true;
  }

  #back() {
    if (!this.#wasAway) return;
    this.#wasAway = false;
    this.#group.start();
  }

  // -- what comes

  /**
   * Handlers for events of `type` ('*': all) that pass any filter of this tab, and by name for what only the client
   * raises: `connected caught_up heartbeat goodbye`, `polling_data_refresh`, `resync {reason}`, `sync_applied {action,
   * answer}`, `sync_failed {action, problem, current}`. Gives the function that ends it.
   */
  on(type, handler) {
    const end = this.#handlers.on(type, handler);
    this.#member.listenTo([...this.#options.eventTypes, ...this.#handlers.types]);
    return end;
  }

  /** Events about one order. */
  onOrder(orderID, handler) {
    return this.on('*', (event) => (event.orderID === orderID ? handler(event) : undefined));
  }

  /** `handler(event, previousStage, newStage)`, of one order or (null) of all, once for each change. */
  onStageChange(orderID, handler) {
    const changes = stageChanges(handler);
    return this.on('*', (event) => (orderID === null || event.orderID === orderID ? changes(event) : undefined));
  }

  /** `refresh()` after relevant events and after a resync, once for a burst, never twice at a time. */
  onDashboardChange(refresh, { types = [], debounceMs, atMostMs } = {}) {
    const debounced = new Debounced(refresh, {
      debounceMs, atMostMs, failed: (error) => console.error('order-sync: a refresh failed:', error),
    });
    const trigger = () => debounced.trigger();
    const ends = (types.length ? types : ['*']).map((type) => this.on(type, trigger));
    ends.push(this.on('resync', trigger));
    return () => {
      for (const end of ends) end();
      debounced.stop();
    };
  }

  /**
   * What a part of the program wants for itself. Gives `{events, latest, isReady, onChange(listener), end()}`;
   * `events` is an immutable array of the newest 100. handler, ready, resync: see member.js. Connects; a second after
   * the last one has ended the connection ends too, with `disconnectIfIdle` at once.
   */
  subscribe(filter, { handler = () => {}, ready = () => {}, resync = () => {}, isRaw = false } = {}) {
    const read = Filter.read(filter);
    const known = this.#history.recent.events.filter((event) => read.matches(event));
    const view = new View({ events: known, wallMs: this.#options.wallMs });
    const end = this.#member.subscribe({
      filter: read, isRaw, resync,
      handler: (event, source) => {
        if (this.#isHidden(event)) return undefined;
        if (read.matches(event)) view.add(event, source);
        return handler(event, source);
      },
      ready: (cursor) => {
        view.ready();
        return ready(cursor);
      },
    });
    view.end = () => {
      end();
      this.#lingerIfIdle();
    };
    this.#start();
    return view;
  }

  #lingerIfIdle() {
    if (this.#member.isWanting) return;
    clearTimeout(this.#lingerTimer);
    this.#lingerTimer = setTimeout(() => this.#member.isWanting || this.#stop(), LINGER_MS);
  }

  /** A replica of those kinds that loads and follows by itself until its `close()`. Connects. */
  replica({ kinds = ['orders', 'queues', 'bays'], filter } = {}) {
    const read = Filter.read(filter).entities();
    const replica = this.#work.replica({ kinds, filter: read, closed: () => view.end() });
    const view = this.subscribe(read, {
      isRaw: true,
      handler: (event) => replica.take(event),
      ready: (cursor) => void replica.load(cursor),
      resync: () => void (replica.status === 'empty' || replica.load()), // else `ready` is yet to come
    });
    return replica;
  }

  #told(events, source) {
    const shown = events.filter((event) => !this.#isHidden(event));
    this.#history.recent.add(shown, source);
    const pending = [];
    for (const event of shown) {
      this.#handlers.call(event.eventType, event, { run: (work) => this.#run(work, pending) });
    }
    if (shown.length) this.#changed();
    return pending.length ? Promise.all(pending) : undefined;
  }

  #isHidden(event) {
    return this.#options.hideOwn && event.clientID === this.#options.clientId;
  }

  #run(work, pending = []) {
    try {
      const result = work();
      if (typeof result?.then === 'function') {
        pending.push(result.then(undefined, (error) => console.error('order-sync: a handler failed:', error)));
      }
    } catch (error) {
      console.error('order-sync: a handler failed:', error);
    }
  }

  #control(type, data) {
    if (type === 'caught_up' || type === 'heartbeat') this.#changed();
    this.#raise(type, data);
  }

  /** What is no event of the log reaches those who ask for it by name. Gives a promise if somebody needs time. */
  #raise(type, data) {
    const pending = [];
    this.#handlers.call(type, { eventType: type, data }, { all: false, run: (work) => this.#run(work, pending) });
    return pending.length ? Promise.all(pending) : undefined;
  }

  // -- what goes

  /** Queue a command; see actions.js. */
  send(name, given, options) {
    return this.#work.actions.send(name, given, options);
  }

  /** The action queue: `list`, `pending`, `failed`, `retry(key)`, `discard(key)`, `problem`, `paused`. */
  get actions() {
    return this.#work.actions;
  }

  #actionEnded(action, outcome) {
    if (outcome.status === 'applied') this.#raise('sync_applied', { action, answer: outcome.answer });
    else {
      const { problem, current = null, isRebased = false } = outcome;
      if (!isRebased) this.#raise('sync_failed', { action, problem, current });
    }
  }

  // -- looking

  get clientId() {
    return this.#options.clientId;
  }

  get tenantId() {
    return this.#options.tenantId;
  }

  /** One of the states of states.js. */
  get state() {
    return this.#group.state;
  }

  /** Whether the stream delivers. */
  get isConnected() {
    return this.state === State.CONNECTED;
  }

  /** The newest events of this tab, oldest first; an immutable array. */
  get events() {
    return this.#history.recent.events;
  }

  get latestEvent() {
    return this.events.at(-1) ?? null;
  }

  /** Everything up to here was handed out. */
  get cursor() {
    return this.#member.cursor;
  }

  /** The connection at this moment; see health.js. */
  get health() {
    const { summary, ageS } = this.#group.connection;
    return {
      ...healthOf(summary, {
        ageS, wallMs: this.#options.wallMs(), role: this.#group.role, queueDepth: this.#work.depth,
      }),
      isOnline: globalThis.navigator?.onLine ?? true,
    };
  }

  /** Counted, as the leading tab last told; null before it did. */
  get metrics() {
    return this.#group.connection.summary.metrics;
  }

  /** The last fifty: `{before, after, reason, at}`. */
  get transitions() {
    return this.#transitions;
  }

  /** The leading tab's last errors: `[seconds, text]`; empty in others. */
  get errors() {
    return this.#group.errors;
  }

  /** The server's wall clock, as far as known, in milliseconds since 1970. */
  serverNowMs() {
    return this.#options.wallMs() + this.#group.serverOffsetMs;
  }

  /** Whether what this tab wants is sure to come from here on. */
  get isReady() {
    return this.#member.isReady;
  }

  /** `listener(change)` after each change of state: `{before, after, reason, at}`. Gives its end. */
  onStateChange(listener) {
    this.#stateListeners.add(listener);
    return () => this.#stateListeners.delete(listener);
  }

  /** `listener()` whenever anything that is shown may have changed. Gives its end. */
  onChange(listener) {
    this.#changeListeners.add(listener);
    return () => this.#changeListeners.delete(listener);
  }

  /** What is kept in localStorage, in the persistence format. */
  export() {
    return this.#history.store.document();
  }

  /** Set the event's `acknowledged` flag, which changes nothing else; whether it was here. */
  acknowledge(eventOrId) {
    const id = typeof eventOrId === 'string' ? eventOrId : eventOrId.id;
    const found = this.#history.recent.acknowledge(id);
    if (this.#group.isLeader) this.#history.store.mark([id], 'acknowledged');
    else this.#group.share({ kind: 'acknowledged', id });
    if (found) this.#changed();
    return found;
  }

  /** One page of the log beside the feed, as poll gives it: `{after, limit, ...filter}`. Throws RequestFailed. */
  page(params) {
    return this.#http.get(POLL_PATH, { params });
  }

  /** Any plain GET below the base address, through the circuit breaker. Throws RequestFailed. */
  get(path, params) {
    return this.#http.get(path, { params });
  }

  /** Another token, or another way to get one; ends `failed`. Without an argument: the cookie is another one. */
  setToken(token = null) {
    this.#tokens.replace(token);
    this.#group.hurry(Signal.TOKEN_CHANGED);
    this.#work.wake();
  }

  // -- inside

  #makeTabs(handlers, isAlone) {
    const { locks, BroadcastChannel } = this.#around;
    if (isAlone || !this.#options.tabs || !canShareTabs({ locks, BroadcastChannel })) {
      return new SingleTab({ id: this.#tab, handlers });
    }
    return new Tabs({ name: this.#namespace(), id: this.#tab, locks, BroadcastChannel, handlers });
  }

  #leaderDeps() {
    const { clock, rng, wallMs, policy, limits, start } = this.#options;
    return {
      http: this.#http, breaker: this.#breaker, store: this.#history.store, clock, rng, wallMs,
      options: {
        start: start === 'resume' ? 'now' : start, policy, limits,
        recent: this.#history.recent.events, isExpired: this.#history.isExpired,
        factory: this.#around.factory, isHidden,
      },
    };
  }

  /** Local state of one server, tenant and person. */
  #namespace() {
    const url = new URL(this.#http.url(''));
    const where = url.origin === globalThis.location?.origin ? url.pathname : url.href;
    const { tenantId, subject } = this.#options;
    const parts = ['order-sync', tenantId || 'default', subject, where === '/' ? '' : where];
    return parts.filter((part) => part).join(':');
  }

  #hear(message) {
    if (message.kind !== 'acknowledged') {
      this.#work.actions.hear(message);
      return;
    }
    if (this.#group.isLeader) this.#history.store.mark([message.id], 'acknowledged');
    if (this.#history.recent.acknowledge(message.id)) this.#changed();
  }

  #transition(change, all = null) {
    this.#transitions = all ?? [...this.#transitions.slice(1 - KEPT_TRANSITIONS), change];
    if (change.after === State.CONNECTED) {
      this.#breaker.giveAChance();
      this.#work.wake();
    }
    for (const listener of [...this.#stateListeners]) this.#run(() => listener(change));
    this.#changed();
  }

  #changed() {
    for (const listener of [...this.#changeListeners]) this.#run(listener);
  }
}

