/** What queued commands will make of the documents: shown on top of what is known, until the server has answered. */

import { KINDS } from './kinds.js';

export class Overlay {
  #commands;
  #base;
  #pending = [];
  #isStale = false;
  #shown = new Map(); // plural to (id to document, or null for a deleted one)
  #keys = new Map(); // `plural/id` to keys of the actions that concern it
  #read = new Set(); // `plural/id` that the rules looked at
  #made = new Map(); // key of an action to what it makes: `plural/id` to {plural, id, document}
  #landed = new Map(); // likewise, of actions that the feed has told of: what it has not brought yet

  /** base(plural, id): what is known. */
  constructor({ commands, base }) {
    this.#commands = commands;
    this.#base = base;
  }

  has(plural, id) {
    return this.#shown.get(plural)?.has(id) ?? false;
  }

  get(plural, id) {
    return this.#shown.get(plural)?.get(id);
  }

  ids(plural) {
    return this.#shown.get(plural)?.keys() ?? [];
  }

  pending(plural, id) {
    return this.#keys.get(`${plural}/${id}`) ?? [];
  }

  setPending(actions) {
    const isSame = actions.length === this.#pending.length
      && actions.every(({ key }, number) => key === this.#pending[number].key);
    if (isSame) return;
    this.#pending = actions;
    this.#isStale = true;
    const keys = new Set(actions.map(({ key }) => key));
    for (const key of this.#landed.keys()) if (!keys.has(key)) this.#landed.delete(key);
  }

  /**
   * The feed is faster than the answer: it brings a document as the action under way (the first) has left it. That is
   * not to be shown on top of itself; of what is still to come the picture stays as it was.
   */
  land(clientId, plural, id) {
    const [first] = this.#pending;
    if (first === undefined || first.clientId !== clientId) return;
    const left = this.#landed.get(first.key) ?? new Map(this.#made.get(first.key));
    left.delete(`${plural}/${id}`);
    this.#landed.set(first.key, left);
    this.#isStale = true;
  }

  /** Make it anew if the queue or a document under it has changed; gives the ids whose picture may be another one. */
  settle(changedIds) {
    const isTouched = [...changedIds].some(([plural, ids]) => [...ids].some((id) => this.#read.has(`${plural}/${id}`)));
    if (!this.#isStale && !isTouched) return [];
    this.#isStale = false;
    const before = new Set(this.#keys.keys());
    this.#shown = new Map();
    this.#keys = new Map();
    this.#read = new Set();
    this.#made = new Map();
    for (const action of this.#pending) this.#lay(action);
    const touched = new Map();
    for (const ref of new Set([...before, ...this.#keys.keys()])) {
      const at = ref.indexOf('/');
      const plural = ref.slice(0, at);
      if (!touched.has(plural)) touched.set(plural, new Set());
      touched.get(plural).add(ref.slice(at + 1));
    }
    return touched;
  }

  #lay(action) {
    const { key, given } = action;
    const changes = this.#landed.get(key) ?? this.#changesOf(action);
    this.#made.set(key, changes);
    for (const { plural, id, document } of changes.values()) {
      if (!this.#shown.has(plural)) this.#shown.set(plural, new Map());
      this.#shown.get(plural).set(id, document);
    }
    const refs = new Set(changes.keys());
    for (const { plural, id } of Object.values(KINDS)) {
      if (typeof given[id] === 'string') refs.add(`${plural}/${given[id]}`);
    }
    for (const ref of refs) this.#keys.set(ref, [...(this.#keys.get(ref) ?? []), key]);
  }

  /** What its rule makes of what is shown so far; nothing where it refuses. */
  #changesOf({ name, given, createdAt }) {
    const changes = new Map();
    const docs = {
      get: (plural, id) => {
        const ref = `${plural}/${id}`;
        this.#read.add(ref);
        if (changes.has(ref)) return changes.get(ref).document ?? undefined;
        return this.has(plural, id) ? this.get(plural, id) ?? undefined : this.#base(plural, id);
      },
      put: (plural, document) => {
        const id = document[KINDS[plural].id];
        changes.set(`${plural}/${id}`, { plural, id, document });
      },
      remove: (plural, id) => changes.set(`${plural}/${id}`, { plural, id, document: null }),
    };
    try {
      if (this.#commands[name]?.overlay?.(given, docs, createdAt) === true) return changes;
    } catch (error) {
      console.error(`order-sync: the overlay of ${name} failed:`, error);
    }
    return new Map();
  }
}
