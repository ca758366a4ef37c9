/** What the pages look at: the copy of the shop's documents, told of at a pace that people can see; and what the viewer may do. */

import { el, paced } from './dom.js';
import { t } from './words.js';

export const NEXT_STAGES = Object.freeze({
  empty: ['initiated', 'cancelled'],
  initiated: ['in_progress', 'cancelled'],
  in_progress: ['completed'],
  completed: [],
  cancelled: [],
});
export const STAGES = Object.freeze(Object.keys(NEXT_STAGES));

const KINDS = { orders: 'view_orders', queues: 'view_queues', bays: 'view_bays', devices: 'view_devices', catalogs: 'view_catalog', fuel_orders: 'view_fuel_orders', fuel_trucks: 'view_fuel_trucks',
  vehicles: 'view_vehicles', drivers: 'view_drivers', transport_orders: 'view_transport_orders' };

export class Shop {
  #client;
  #permissions;
  #listeners = new Set();

  /** permissions: 'all' or a list of names. */
  constructor(client, { permissions }) {
    this.#client = client;
    this.#permissions = permissions;
    const kinds = Object.keys(KINDS).filter((kind) => this.may(KINDS[kind]));
    this.replica = client.replica({ kinds });
    this.replica.subscribe(paced(() => {
      for (const listener of [...this.#listeners]) listener();
    }));
  }

  may(permission) {
    return this.#permissions === 'all' || this.#permissions.includes(permission);
  }

  /** `listener()` when documents, or what is queued for them, have changed: paced. Gives its end. */
  onChange(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The document as it is to be shown, with what is queued for it; see Replica.entry. */
  entry(plural, id) {
    return this.replica.entry(plural, id);
  }

  list(plural) {
    return this.replica.list(plural);
  }

  get(plural, id) {
    return this.replica.get(plural, id);
  }

  /** Queue a command. What becomes of it is shown where its document is, and a refusal is told (notices.js). */
  send(name, given, options) {
    return this.#client.send(name, given, options);
  }

  /** Look for what is new, by whatever way there is. */
  refresh() {
    this.#client.retryNow();
    return this.replica.load(this.#client.cursor);
  }

  /** The server's time, in milliseconds. */
  nowMs() {
    return this.#client.serverNowMs();
  }

  /** Seconds since `iso`. */
  ageS(iso) {
    return Math.max((this.nowMs() - Date.parse(iso)) / 1000, 0);
  }

  /** What to show instead of documents while there are none; null once there are. */
  placeholder() {
    const { status, problem } = this.replica;
    if (status === 'failed') return el('p', { class: 'empty' }, t('shop.refused', { reason: problem?.detail ?? problem?.title ?? '' }));
    if (status === 'ready' || this.replica.cursor) return null;
    return el('p', { class: 'empty', role: 'status' }, t('shop.loading'));
  }

  /** Bays in which a job can start, by name. */
  freeBays() {
    return byName(this.list('bays').filter(({ status }) => status === 'available'));
  }
}

const collator = new Intl.Collator(document.documentElement.lang, { numeric: true });

export function byName(documents) {
  return documents.toSorted((a, b) => collator.compare(a.name, b.name));
}
