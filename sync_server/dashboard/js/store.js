/**
 * What a browser keeps in localStorage, in the persistence format version 1.0.0, to the letter:
 *
 *     {"events": [{id, eventType, data, orderID, timestamp, metadata: {receivedAt, processed, acknowledged, source}}],
 *      "configuration": {orderID, eventTypes, autoReconnect, maxReconnectAttempts},
 *      "lastConnectionTime", "connectionMetrics": {totalConnections, totalEvents, uptime}, "lastEventId", "version"}
 *
 * At most 100 events, at most an hour old; metrics go on for ever. Events and cursor are one write, at most a quarter
 * of a second after they came: what a crash takes with it comes again from the server. What the format has no place
 * for (the digest of rights, a resync that is due) stands under `<key>:session`. Only one tab writes.
 */

export const FORMAT_VERSION = '1.0.0';
export const RETENTION_MS = 3_600_000;
export const MAX_EVENTS = 100;
const MAX_CHARACTERS = 2 * 1024 * 1024; // half of what browsers give an origin
const WRITE_AFTER_MS = 250;
const NO_METRICS = Object.freeze({ totalConnections: 0, totalEvents: 0, uptime: 0 });

/** `storage` is the browser's localStorage, or null: then nothing is kept. `wallMs` is the wall clock. */
export class Store {
  #storage;
  #key;
  #wallMs;
  #events = [];
  #texts = new WeakMap(); // an event's JSON, made once
  #facts; // what stands beside the events: () => {configuration, lastConnectionTime, connectionMetrics, lastEventId}
  #timer = null;
  #session = {};
  /** Why nothing is kept; '' while it is. */
  problem = '';
  sizeBytes = 0;

  constructor({ storage, key, wallMs = Date.now }) {
    this.#storage = storage;
    this.#key = key;
    this.#wallMs = wallMs;
    if (storage === null) this.problem = 'there is no localStorage';
  }

  /** What an earlier life left; sound, whatever was there. */
  load() {
    const text = this.#read(this.#key);
    const document = parseObject(text);
    const isOurs = document.version === FORMAT_VERSION;
    const { lastConnectionTime, lastEventId } = isOurs ? document : {};
    this.sizeBytes = 2 * (text ?? '').length;
    this.#session = parseObject(this.#read(`${this.#key}:session`));
    return {
      events: this.#fresh(isOurs && Array.isArray(document.events) ? document.events.filter(isEvent) : []),
      configuration: isOurs ? objectOr(document.configuration, null) : null,
      lastConnectionTime: typeof lastConnectionTime === 'string' ? lastConnectionTime : null,
      connectionMetrics: readMetrics(isOurs ? document.connectionMetrics : null),
      lastEventId: typeof lastEventId === 'string' ? lastEventId : null,
      access: typeof this.#session.access === 'string' ? this.#session.access : null,
      resync: typeof this.#session.resync === 'string' ? this.#session.resync : '',
    };
  }

  /** Become the writer: `events` is what there is, `facts()` gives the rest of the document at each write. */
  open(events, facts) {
    this.#events = this.#fresh(events).slice(-MAX_EVENTS);
    this.#facts = facts;
  }

  /** What is kept, oldest first. */
  get events() {
    return this.#events;
  }

  /** Keep `envelopes`; those without an id are not for keeping. Gives the events as kept. */
  add(envelopes, source) {
    const receivedAt = new Date(this.#wallMs()).toISOString();
    const added = envelopes
      .filter(isForKeeping)
      .map((envelope) => asKept(envelope, { receivedAt, processed: false, acknowledged: false, source }));
    this.#events = this.#fresh([...this.#events, ...added]).slice(-MAX_EVENTS);
    this.writeSoon();
    return added;
  }

  /** Set `flag` ('processed' or 'acknowledged') of the events with these ids; whether there were any. */
  mark(ids, flag) {
    const wanted = new Set(ids);
    let found = false;
    this.#events = this.#events.map((event) => {
      if (!wanted.has(event.id) || event.metadata[flag]) return event;
      found = true;
      return { ...event, metadata: { ...event.metadata, [flag]: true } };
    });
    if (found) this.writeSoon();
    return found;
  }

  /** What is kept beside the format: `{access, resync}`; written at once, so before the cursor that goes with it. */
  remember(changes) {
    this.#session = { ...this.#session, ...changes };
    this.#write(`${this.#key}:session`, JSON.stringify(this.#session));
  }

  get session() {
    return this.#session;
  }

  writeSoon() {
    this.#timer ??= setTimeout(() => this.write(), WRITE_AFTER_MS);
  }

  /** Write now. */
  write() {
    clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#facts === undefined || this.#storage === null) return;
    this.#events = this.#fresh(this.#events);
    const facts = this.#facts();
    let texts = this.#within(MAX_CHARACTERS);
    for (;;) {
      const text = documentText(texts, facts);
      if (this.#write(this.#key, text)) {
        this.sizeBytes = 2 * text.length;
        return;
      }
      if (!texts.length) return;
      texts = texts.slice(Math.ceil(texts.length / 2)); // full: the oldest go
    }
  }

  /** Nothing more is written. */
  close() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#facts = undefined;
  }

  /** The whole document, as it would be written. */
  document() {
    if (this.#facts !== undefined) return JSON.parse(documentText(this.#within(Infinity), this.#facts()));
    const saved = this.load(); // another tab writes it
    return JSON.parse(documentText(saved.events.map((event) => JSON.stringify(event)), saved));
  }

  /** Forget events and cursor; metrics stay. */
  clear() {
    this.#events = [];
    this.write();
  }

  #fresh(events) {
    return withoutOld(events, this.#wallMs());
  }

  /** The newest events' texts, as many as fit. */
  #within(characters) {
    const texts = [];
    let left = characters;
    for (const event of [...this.#events].reverse()) {
      let text = this.#texts.get(event);
      if (text === undefined) this.#texts.set(event, (text = JSON.stringify(event)));
      left -= text.length;
      if (left < 0) break;
      texts.unshift(text);
    }
    return texts;
  }

  #read(key) {
    try {
      return this.#storage?.getItem(key) ?? null;
    } catch (error) {
      this.problem = `localStorage cannot be read: ${error.name}`;
      return null;
    }
  }

  #write(key, text) {
    try {
      this.#storage?.setItem(key, text);
      if (this.#storage !== null) this.problem = '';
      return true;
    } catch (error) {
      this.problem = `localStorage cannot be written: ${error.name}`;
      return false;
    }
  }
}

/** `events`, oldest first, without those that came too long ago; the same array if there are none. */
export function withoutOld(events, nowMs) {
  let old = 0;
  while (old < events.length && Date.parse(events[old].metadata.receivedAt) < nowMs - RETENTION_MS) old += 1;
  return old ? events.slice(old) : events;
}

/** The format's configuration block. One id is written as text, several as a list. */
export function configuration(filter, { maxReconnectAttempts }) {
  const { eventTypes = [], ...entities } = filter.document();
  const ids = Object.entries(entities).map(([key, values]) => [key, values.length === 1 ? values[0] : values]);
  return { ...Object.fromEntries(ids), eventTypes, autoReconnect: true, maxReconnectAttempts };
}

/** Ephemeral events have no id, and `removed` is for replicas. */
export function isForKeeping({ id, eventType }) {
  return typeof id === 'string' && eventType !== 'removed';
}

/** An event as the format has it: the known fields first, what else it carries, and what became of it. */
export function asKept(envelope, metadata) {
  const { id, eventType, data, orderID, timestamp, ...rest } = envelope;
  const event = { id, eventType, data };
  if (orderID !== undefined) event.orderID = orderID;
  return { ...event, timestamp, ...rest, metadata };
}

function documentText(texts, { configuration: settings, lastConnectionTime, connectionMetrics, lastEventId }) {
  const rest = JSON.stringify({
    configuration: settings ?? {},
    lastConnectionTime: lastConnectionTime ?? null,
    connectionMetrics: connectionMetrics ?? NO_METRICS,
    lastEventId: lastEventId || null,
    version: FORMAT_VERSION,
  });
  return `{"events":[${texts.join(',')}],${rest.slice(1)}`;
}

function isEvent(event) {
  return objectOr(event, null) !== null && typeof event.id === 'string' && typeof event.eventType === 'string'
    && objectOr(event.data, null) !== null && objectOr(event.metadata, null) !== null;
}

function readMetrics(value) {
  const given = objectOr(value, {});
  return Object.fromEntries(
    Object.entries(NO_METRICS).map(([key, none]) => [key, Number.isFinite(given[key]) ? given[key] : none]),
  );
}

function objectOr(value, otherwise) {
  return value !== null && typeof value === 'object' && !Array.isArray(value) ? value : otherwise;
}

function parseObject(text) {
  try {
    return objectOr(JSON.parse(text), {});
  } catch {
    return {};
  }
}
