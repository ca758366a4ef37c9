/** What this page knows of events: those of now, and what an earlier life of it left in localStorage. */

import { Recent } from './recent.js';
import { RETENTION_MS, Store } from './store.js';

export class History {
  #makeStore;
  #mayResume;
  #wallMs;
  #store = null;
  #recent;
  /** Where to go on; '' to begin anew. Known after `look`. */
  cursor = '';
  /** Whether there was a life before, too long ago to go on. */
  isExpired = false;

  /** storageKey(): only asked for when the storage is looked at, since rendering on a server has none. */
  constructor({ storage, storageKey, mayResume, wallMs }) {
    this.#makeStore = () => new Store({ storage, key: storageKey(), wallMs });
    this.#mayResume = mayResume;
    this.#wallMs = wallMs;
    this.#recent = new Recent({ wallMs });
  }

  get store() {
    this.look();
    return this.#store;
  }

  /** The newest events, those of an earlier life first. */
  get recent() {
    this.look();
    return this.#recent;
  }

  /** Look at what is stored, once. */
  look() {
    if (this.#store !== null) return;
    this.#store = this.#makeStore();
    const saved = this.#store.load();
    this.#recent.add(saved.events);
    if (!this.#mayResume || !saved.lastEventId) return;
    const lastMs = Math.max(
      Date.parse(saved.lastConnectionTime) || 0,
      ...saved.events.map(({ metadata }) => Date.parse(metadata.receivedAt) || 0),
    );
    this.isExpired = this.#wallMs() - lastMs > RETENTION_MS;
    if (!this.isExpired) this.cursor = saved.lastEventId;
  }
}
