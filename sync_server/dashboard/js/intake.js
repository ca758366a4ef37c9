/**
 * The way in: interprets what stream and poll bring, drops what is known, and keeps the received cursor.
 *
 * It does not matter which transport brings an event, or whether two overlap for a moment: the cursor decides, and
 * it never goes back within an epoch. Events are handed on before the cursor passes them, so whoever stores both
 * never has a cursor without its events. After a reset it goes on at the log's head: who shows state loads it anew.
 * Source: protocol.md 2, 6.
 */

import { isAtOrBefore, movesTo, parseCursor } from './cursor.js';
import { NotOurAnswer } from './errors.js';

export const DEFAULT_HEARTBEAT_S = 15;
const STALL_HEARTBEATS = 2.5;
const MAX_AGE_MS = 1e12;
const MAX_CUSTOM_TYPES = 500;

export class Intake {
  #cursor;
  #start;
  #access;
  #clock;
  #wallMs;
  #handlers;
  #isReset = false; // whether the open stream does not stand where it was asked to begin
  #resetsInARow = 0; // since anything came of one
  #told = null; // reason and head of the last reset that was told

  /** What the server said about itself and this connection, and counts; for health and metrics. */
  facts = {
    heartbeatS: DEFAULT_HEARTBEAT_S, head: '', caughtUp: false, tailAgeS: 0, tailSeenS: null, serverOffsetMs: 0,
    events: 0, duplicates: 0, malformed: 0, resets: 0, customTypes: [],
  };

  /**
   * cursor: where an earlier life stood, '' for none; start: where to begin then ('now', 'earliest' or a cursor).
   * access: the digest of rights that the cursor was received with, null for unknown. handlers: `events(envelopes,
   * source)`, `resync(reason)`, `control(type, data)`. `clock` is monotonic seconds, `wallMs` the wall clock.
   */
  constructor({ cursor = '', start = 'now', access = null, clock, wallMs = Date.now, handlers }) {
    this.#cursor = parseCursor(cursor) ? cursor : '';
    this.#start = start;
    this.#access = access;
    this.#clock = clock;
    this.#wallMs = wallMs;
    this.#handlers = handlers;
  }

  /** What the next request asks for. */
  get cursor() {
    return this.#cursor || this.#start;
  }

  /** Everything up to here was handed on; '' at the very beginning. */
  get received() {
    return this.#cursor;
  }

  get access() {
    return this.#access;
  }

  /** So long without a word, in seconds, and a stream is dead. */
  get stallS() {
    return this.facts.heartbeatS * STALL_HEARTBEATS;
  }

  streamBegins() {
    this.#isReset = false;
    this.facts.caughtUp = false;
  }

  /** One event of the stream. What it means for the stream: `{goodbye: reason, contradicted}` or nothing. */
  take(type, text, id) {
    const data = parseObject(text);
    let result = {};
    if (type === 'heartbeat') this.#noteHeartbeat(data);
    else if (type === 'connected') this.#takeConnected(data);
    else if (type === 'caught_up') this.#noteCaughtUp();
    else if (type === 'goodbye') result = { goodbye: String(data.reason ?? ''), contradicted: this.#resetsInARow > 1 };
    else if (type === 'reset') this.#takeReset(data);
    else {
      this.#takeEvents([type === 'removed' ? { id, eventType: 'removed', data } : data], { type, id, source: 'sse' });
      this.#move(id);
      return result;
    }
    // A stream that begins with a reset stands at the log's head already, and the reset is yet to come.
    if (type !== 'reset' && !(type === 'connected' && data.resume === 'reset')) this.#move(id);
    this.#handlers.control(type, data);
    return result;
  }

  /** A page of the poll; how many of its events were new. Throws NotOurAnswer for what no server of ours says. */
  takePage(page) {
    if (!Array.isArray(page.events) || parseCursor(page.cursor) === null) {
      throw new NotOurAnswer('the answer is not a page of events', { status: 200 });
    }
    const fresh = this.#takeEvents(page.events, { source: 'polling' });
    this.facts.head = String(page.head ?? '');
    this.facts.caughtUp = page.upToDate === true;
    if (this.facts.caughtUp) this.#resetsInARow = 0;
    this.#noteTail(page.tailAgeMs ?? 0);
    this.#noteServerTime(page.serverTime);
    this.#move(page.cursor);
    if (fresh) this.#handlers.control('polling_data_refresh', { events: fresh });
    return fresh;
  }

  /** The poll's 410: the body of a reset. */
  loseCursor(document) {
    this.#takeReset(document ?? {});
  }

  #takeEvents(envelopes, { type, id, source }) {
    const fresh = [];
    for (const envelope of envelopes) {
      const event = this.#checked(envelope, { type, id, source });
      if (event === null) continue;
      fresh.push(event);
    }
    if (!fresh.length) return 0;
    this.facts.events += fresh.length;
    this.#resetsInARow = 0;
    this.#handlers.events(fresh, source);
    return fresh.length;
  }

  /** The event, or null for what is known, and for what is none. */
  #checked(envelope, { type, id, source }) {
    const isObject = envelope !== null && typeof envelope === 'object' && !Array.isArray(envelope);
    const data = isObject ? envelope.data : null;
    const isEvent = data !== null && typeof data === 'object' && !Array.isArray(data)
      && typeof envelope.eventType === 'string';
    const hasId = isEvent && envelope.id !== undefined;
    const isSound = source === 'polling' ? hasId && typeof envelope.id === 'string' : !hasId || envelope.id === id;
    const own = hasId ? envelope.id : id;
    if (hasId && isAtOrBefore(own, this.#cursor)) {
      this.facts.duplicates += 1;
      return null;
    }
    if (!isEvent || !isSound || (type !== undefined && envelope.eventType !== type)) {
      if (isAtOrBefore(own, this.#cursor)) return null;
      // Asking for it again would bring the same, for ever: the feed goes on behind it.
      this.facts.malformed += 1;
      this.#handlers.control('malformed', { id: typeof own === 'string' ? own : '' });
      return null;
    }
    return envelope;
  }

  #takeConnected(data) {
    const { heartbeatSeconds, access, cursor } = data;
    if (typeof heartbeatSeconds === 'number' && heartbeatSeconds >= 0.05 && heartbeatSeconds <= 3600) {
      this.facts.heartbeatS = heartbeatSeconds;
    }
    this.facts.head = String(data.head ?? '');
    this.facts.customTypes = namesIn(data.customTypes);
    this.#noteTail(0);
    this.#noteServerTime(data.serverTime);
    if (data.resume !== 'reset' && !this.#cursor && parseCursor(cursor)) this.#cursor = cursor;
    if (typeof access !== 'string') return;
    const before = this.#access;
    this.#access = access;
    if (before !== null && before !== access) this.#beginAgain('access', { head: this.#cursor || cursor });
  }

  #takeReset(document) {
    const reason = String(document.reason ?? 'unknown');
    const head = String(document.head ?? '');
    const told = `${reason} ${head}`;
    this.#beginAgain(reason, { head, isNews: told !== this.#told || parseCursor(head) === null });
    this.#told = told;
  }

  #beginAgain(reason, { head, isNews = true }) {
    this.#cursor = parseCursor(head) ? head : '';
    this.#start = 'now';
    this.#isReset = true;
    this.#resetsInARow += 1;
    // A server that contradicts itself (two logs behind one address) is not news again and again.
    if (!isNews) return;
    this.facts.resets += 1;
    this.#handlers.resync(reason);
  }

  #noteCaughtUp() {
    this.facts.caughtUp = true;
    if (!this.#isReset) this.#resetsInARow = 0;
  }

  #noteHeartbeat(data) {
    if (typeof data.head === 'string') this.facts.head = data.head;
    this.#noteServerTime(data.timestamp);
    this.#noteTail(data.tailAgeMs);
  }

  #noteTail(ageMs) {
    if (typeof ageMs !== 'number' || !(ageMs >= 0 && ageMs <= MAX_AGE_MS)) return;
    this.facts.tailAgeS = ageMs / 1000;
    this.facts.tailSeenS = this.#clock();
  }

  #noteServerTime(text) {
    const serverMs = typeof text === 'string' ? Date.parse(text) : NaN;
    if (!Number.isNaN(serverMs)) this.facts.serverOffsetMs = serverMs - this.#wallMs();
  }

  #move(cursor) {
    if (movesTo(cursor, this.#cursor)) this.#cursor = cursor;
  }
}

function namesIn(value) {
  return Array.isArray(value) ? value.filter((name) => typeof name === 'string').slice(0, MAX_CUSTOM_TYPES) : [];
}

/** What `text` writes, if it is an object; else an empty one. */
function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === 'object' && !Array.isArray(value) ? value : {};
  } catch {
    return {};
  }
}
