/** The newest events of one view: at most 100, at most an hour old, each once. An immutable array after each change. */

import { asKept, MAX_EVENTS, withoutOld } from './store.js';

export class Recent {
  #events = Object.freeze([]);
  #wallMs;

  constructor({ wallMs = Date.now } = {}) {
    this.#wallMs = wallMs;
  }

  /** Oldest first; each an envelope with `metadata {receivedAt, processed, acknowledged, source}`. */
  get events() {
    return this.#events;
  }

  get latest() {
    return this.#events.at(-1) ?? null;
  }

  /** Add events; those that have metadata keep it. Whether there is anything new. */
  add(events, source) {
    const nowMs = this.#wallMs();
    const receivedAt = new Date(nowMs).toISOString();
    const isKnown = ({ id }) => id !== undefined && this.#events.some((event) => event.id === id);
    const fresh = events.filter((event) => !isKnown(event)).map((event) =>
      event.metadata ? event : asKept(event, { receivedAt, processed: true, acknowledged: false, source }));
    const kept = withoutOld(fresh.length ? [...this.#events, ...fresh] : this.#events, nowMs);
    if (kept === this.#events) return false;
    this.#events = Object.freeze(kept.slice(-MAX_EVENTS));
    return true;
  }

  acknowledge(id) {
    const found = this.#events.some((event) => event.id === id && !event.metadata.acknowledged);
    if (found) {
      this.#events = Object.freeze(this.#events.map((event) =>
        event.id === id ? { ...event, metadata: { ...event.metadata, acknowledged: true } } : event));
    }
    return found;
  }

  clear() {
    this.#events = Object.freeze([]);
  }
}
