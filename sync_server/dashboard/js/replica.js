/**
 * A copy of the shop's documents in this tab: snapshot, then the feed, then what is queued on top.
 *
 * Per document the newest version wins, wherever it comes from: snapshot, event, or a command's answer; a deleted one
 * leaves its version behind. While a snapshot is under way, what comes is held and applied after it. A document that
 * no longer passes the filter leaves, as the server's `removed` would tell a reader with that filter of its own.
 * Source: protocol.md 1, 2.3, 4.
 */

import { delayS } from './backoff.js';
import { isAtOrBefore, leavesGap } from './cursor.js';
import { Refused } from './errors.js';
import { SNAPSHOT_PATH } from './http.js';
import { allCarried, carried, KINDS } from './kinds.js';
import { Overlay } from './overlay.js';
import { POLICY } from './states.js';

const MAX_TOMBSTONES = 10_000;
const FINISHED_FOR_MS = 24 * 3600 * 1000; // as long as a snapshot holds what is finished
const EVICT_EVERY_MS = 600_000;
const LAG_PAUSE_S = 0.5;
const MAX_LAG_PAUSES = 10;
const PAGE_LIMIT = '1000';

/**
 * `status`: 'empty', 'loading', 'ready', or 'failed' (the server refuses; `problem` says why). Documents are not to be
 * changed by whoever gets them.
 */
export class Replica {
  #http;
  #kinds;
  #filter;
  #rng;
  #nowMs;
  #listeners = new Set();
  #base = new Map(); // kind's plural to (id to document)
  #tombstones = new Map(); // `plural/id` to version
  #overlay;
  #lists = new Map();
  #held = null; // while a snapshot is under way: `plural/id` to the newest change
  #loading = null; // AbortController
  #failed = [];
  #evictTimer = null;
  #received = '';
  #answered = ''; // where the log stood behind the last action that was applied
  status = 'empty';
  problem = null;
  /** The snapshot's cursor; '' before there is one. */
  cursor = '';

  /**
   * kinds: plural names; filter: a Filter, of which the entities count; commands: for overlays; nowMs(): the server's
   * wall clock, as far as known.
   */
  constructor({ http, kinds, filter, commands, rng = Math.random, nowMs = Date.now }) {
    this.#http = http;
    this.#kinds = kinds.map((name) => KINDS[name]);
    const unknown = kinds.filter((name) => !(name in KINDS));
    if (unknown.length) throw new TypeError(`there is no kind ${unknown.join(', ')}`);
    this.#filter = filter.entities();
    this.#rng = rng;
    this.#nowMs = nowMs;
    for (const { plural } of this.#kinds) this.#base.set(plural, new Map());
    this.#overlay = new Overlay({ commands, base: (plural, id) => this.#base.get(plural)?.get(id) });
  }

  get filter() {
    return this.#filter;
  }

  // -- reading

  /** The document as it is to be shown, what is queued included; undefined if there is none. */
  get(plural, id) {
    return this.#overlay.has(plural, id) ? this.#overlay.get(plural, id) ?? undefined : this.#base.get(plural)?.get(id);
  }

  /** All documents of a kind as they are to be shown; the same array until one of them changes. */
  list(plural) {
    let list = this.#lists.get(plural);
    if (list === undefined) {
      const base = this.#base.get(plural) ?? new Map();
      const ids = new Set([...base.keys(), ...this.#overlay.ids(plural)]);
      list = [...ids].map((id) => this.get(plural, id)).filter((document) => document !== undefined);
      this.#lists.set(plural, list);
    }
    return list;
  }

  /** `{document, pending, failed}`: keys of queued actions that concern it, the last one that failed, or null. */
  entry(plural, id) {
    const failed = this.#failed.findLast((action) => concerns(action, plural, id)) ?? null;
    return { document: this.get(plural, id), pending: this.#overlay.pending(plural, id), failed };
  }

  /** `listener({ids, isReset})` after each step: `ids` maps a kind to the set of ids that changed. Gives its end. */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  // -- loading

  /** Load the snapshot (anew). `from`: the feed is sure to come from that cursor on. Resolves when it is done. */
  async load(from = '') {
    this.#loading?.abort();
    const abort = (this.#loading = new AbortController());
    this.#held ??= new Map();
    this.#received = from;
    this.#setStatus('loading');
    for (let failures = 1, pauses = 0; !abort.signal.aborted; ) {
      try {
        const snapshot = await this.#fetch(abort.signal);
        if (abort.signal.aborted) return;
        // Another process of the server that is behind the one that streams: a moment later it is not.
        if (leavesGap(snapshot.cursor, this.#received) && pauses < MAX_LAG_PAUSES) {
          pauses += 1;
          await pause(LAG_PAUSE_S);
          continue;
        }
        this.#install(snapshot);
        return;
      } catch (error) {
        if (abort.signal.aborted) return;
        this.problem = error.problem ?? { title: error.message, status: error.status ?? null };
        if (error instanceof Refused || error.status === 403) {
          this.#setStatus('failed');
          return;
        }
        await pause(delayS(failures, { backoff: POLICY.backoff, rng: this.#rng, retryAfterS: error.retryAfterS }));
        failures += 1;
      }
    }
  }

  async #fetch(signal) {
    const documents = new Map(this.#kinds.map(({ plural }) => [plural, new Map()]));
    const kinds = this.#kinds.map(({ plural }) => plural).join(',');
    const params = { kinds, limit: PAGE_LIMIT, ...this.#filter.params() };
    let cursor = '';
    for (let pageToken; ; ) {
      if (pageToken) params.pageToken = pageToken;
      const page = await this.#http.get(SNAPSHOT_PATH, { params: { ...params }, signal });
      cursor ||= String(page.cursor ?? '');
      for (const { kind, id, version, document } of allCarried(page, this.#kinds)) {
        const known = documents.get(kind.plural).get(id);
        if (document !== null && !(known?.version > version)) documents.get(kind.plural).set(id, document);
      }
      pageToken = page.pageToken;
      if (typeof pageToken !== 'string' || !pageToken) return { cursor, documents };
    }
  }

  #install({ cursor, documents }) {
    const held = this.#held;
    this.#held = null;
    this.#loading = null;
    const before = this.#base;
    this.#base = documents;
    this.#tombstones.clear();
    this.cursor = cursor;
    const ids = new Map();
    for (const { plural } of this.#kinds) {
      const changed = [...before.get(plural)].filter(([id, document]) => documents.get(plural).get(id) !== document);
      ids.set(plural, new Set([...changed.map(([id]) => id), ...documents.get(plural).keys()]));
    }
    for (const change of held.values()) this.#put(change, ids);
    this.#evict(ids);
    this.problem = null;
    this.status = 'ready';
    this.#evictTimer ??= setInterval(() => this.#evictNow(), EVICT_EVERY_MS);
    this.#settle(ids, { isReset: true });
  }

  #setStatus(status) {
    this.status = status;
    this.#tell({ ids: new Map(), isReset: false });
  }

  // -- what comes

  /** An event of the feed, whether it passes the filter or not. */
  take(event) {
    const change = event.eventType === 'removed' ? this.#removal(event.data) : this.#changeOf(event);
    if (change === null) return;
    if (this.#isOfActionUnderWay(event, change)) this.#overlay.land(event.clientID, change.kind.plural, change.id);
    this.#apply([change]);
  }

  /** Whether it is news, and not of an action that was answered before. The overlay knows whose it is. */
  #isOfActionUnderWay({ id: cursor, clientID }, { kind, id, version }) {
    const isNews = this.status === 'ready' && this.#held === null && version > this.#versionOf(kind.plural, id);
    return isNews && clientID !== undefined && !isAtOrBefore(cursor, this.#answered);
  }

  #changeOf(event) {
    const change = carried(event.data, event.version, this.#kinds);
    if (change === null || this.#filter.matches(event)) return change;
    // It went where we do not look; a reader of its own would have been sent `removed`.
    const { kind, id } = change;
    return this.#knows(kind.plural, id) ? { ...change, document: null } : null;
  }

  #removal({ kind: name, id, version }) {
    const kind = this.#kinds.find(({ key, plural }) => key === name || plural === name);
    return kind && typeof id === 'string' && Number.isInteger(version) ? { kind, id, version, document: null } : null;
  }

  #knows(plural, id) {
    return this.#base.get(plural).has(id) || (this.#held?.has(`${plural}/${id}`) ?? false);
  }

  #apply(changes) {
    if (this.status === 'empty' && this.#held === null) return; // the snapshot will have it
    if (this.#held !== null) {
      for (const change of changes) this.#hold(change);
      return;
    }
    const ids = new Map();
    for (const change of changes) this.#put(change, ids);
    if (ids.size) this.#settle(ids);
  }

  #hold(change) {
    const key = `${change.kind.plural}/${change.id}`;
    const held = this.#held.get(key);
    if (held === undefined || held.version < change.version) this.#held.set(key, change);
  }

  #versionOf(plural, id) {
    return this.#base.get(plural).get(id)?.version ?? this.#tombstones.get(`${plural}/${id}`) ?? -1;
  }

  #put({ kind, id, version, document }, ids) {
    const { plural } = kind;
    const documents = this.#base.get(plural);
    const key = `${plural}/${id}`;
    if (version <= this.#versionOf(plural, id)) return;
    if (document === null) {
      documents.delete(id);
      this.#tombstones.set(key, version);
      if (this.#tombstones.size > MAX_TOMBSTONES) this.#tombstones.delete(this.#tombstones.keys().next().value);
    } else {
      documents.set(id, document);
      this.#tombstones.delete(key);
    }
    if (!ids.has(plural)) ids.set(plural, new Set());
    ids.get(plural).add(id);
  }

  // -- what is queued

  /** The queue has changed. `outcome`: an action ended with it; its documents are committed in the same step. */
  setActions({ pending, failed }, outcome = null) {
    const ids = new Map();
    const before = this.#failed;
    this.#failed = failed;
    if (outcome !== null) {
      const answer = outcome.status === 'applied' ? outcome.answer : outcome.current;
      this.#answered = answer?.cursor ?? this.#answered;
      const changes = answer ? allCarried(answer, this.#kinds).filter((change) => this.#isOurs(change)) : [];
      if (this.#held !== null) for (const change of changes) this.#hold(change);
      else if (this.status !== 'empty') for (const change of changes) this.#put(change, ids);
    }
    for (const action of new Set([...before, ...failed])) {
      if (before.includes(action) && failed.includes(action)) continue;
      for (const [plural, id] of targetsOf(action)) {
        if (!ids.has(plural)) ids.set(plural, new Set());
        ids.get(plural).add(id);
      }
    }
    this.#overlay.setPending(pending);
    this.#settle(ids);
  }

  /** An answer holds documents that a filtered copy may not want. */
  #isOurs({ kind, id, document }) {
    return document === null || this.#knows(kind.plural, id) || this.#filter.matches(document);
  }

  /** Recompute what is shown, and tell who listens, once. */
  #settle(ids, { isReset = false } = {}) {
    for (const [plural, touched] of this.#overlay.settle(ids)) {
      if (!ids.has(plural)) ids.set(plural, new Set());
      for (const id of touched) ids.get(plural).add(id);
    }
    if (!ids.size && !isReset) return;
    this.#tell({ ids, isReset });
  }

  #tell(change) {
    for (const plural of change.ids.keys()) this.#lists.delete(plural);
    for (const listener of [...this.#listeners]) {
      try {
        listener(change);
      } catch (error) {
        console.error('order-sync: a listener failed:', error);
      }
    }
  }

  // -- what is finished

  #evictNow() {
    const ids = new Map();
    this.#evict(ids);
    if (ids.size) this.#settle(ids);
  }

  #evict(ids) {
    const oldestMs = this.#nowMs() - FINISHED_FOR_MS;
    for (const { plural, isOpen } of this.#kinds) {
      for (const [id, document] of this.#base.get(plural)) {
        if (isOpen(document) || !(Date.parse(document.updatedAt) < oldestMs)) continue;
        this.#base.get(plural).delete(id);
        if (!ids.has(plural)) ids.set(plural, new Set());
        ids.get(plural).add(id);
      }
    }
  }

  close() {
    this.#loading?.abort();
    this.#loading = null;
    clearInterval(this.#evictTimer);
    this.#evictTimer = null;
    this.#listeners.clear();
  }
}

/** The documents that an action names. */
export function targetsOf({ given }) {
  return Object.values(KINDS).flatMap(({ plural, id }) => (typeof given[id] === 'string' ? [[plural, given[id]]] : []));
}

function concerns(action, plural, id) {
  return targetsOf(action).some(([kind, target]) => kind === plural && target === id);
}

function pause(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
