/** What a page does about the shop: the queue of commands, and the copies of documents that show what is queued. */

import { Actions } from './actions.js';
import { ActionDatabase } from './database.js';
import { Replica } from './replica.js';

/** handlers: `changed()`, `ended(action, outcome)`; `nowMs()` is the server's wall clock, as far as known. */
export class Work {
  #options;
  #http;
  #indexedDB;
  #name;
  #share;
  #handlers;
  #nowMs;
  #actions = null;
  #isLeading = false;
  #replicas = new Set();

  constructor({ options, http, indexedDB, name, share, nowMs, handlers }) {
    this.#options = options;
    this.#http = http;
    this.#indexedDB = indexedDB;
    this.#name = name;
    this.#share = share;
    this.#nowMs = nowMs;
    this.#handlers = handlers;
  }

  /** The queue; opened when it is first asked for. */
  get actions() {
    if (this.#actions === null) this.#open();
    return this.#actions;
  }

  /** How many wait, without opening anything. */
  get depth() {
    return this.#actions?.pending.length ?? 0;
  }

  #open() {
    const { commands, clientId, onConflict, rng, wallMs } = this.#options;
    this.#actions = new Actions({
      database: new ActionDatabase({ indexedDB: this.#indexedDB, name: this.#name() }),
      http: this.#http, commands, clientId, onConflict, rng, wallMs,
      share: this.#share,
      handlers: {
        changed: () => this.#changed(),
        ended: (action, outcome) => {
          this.#changed(outcome);
          this.#handlers.ended(action, outcome);
        },
      },
    });
    this.#actions.lead(this.#isLeading);
    this.#actions.load();
  }

  #changed(outcome = null) {
    for (const replica of this.#replicas) replica.setActions(this.#actions, outcome);
    this.#handlers.changed();
  }

  /** Whether this tab sends for all. */
  lead(isLeading) {
    this.#isLeading = isLeading;
    this.#actions?.lead(isLeading);
  }

  wake() {
    this.#actions?.wake();
  }

  /** A copy of documents of those kinds; `closed()` is called after its `close()`. */
  replica({ kinds, filter, closed }) {
    const { commands, rng } = this.#options;
    const replica = new Replica({ http: this.#http, kinds, filter, commands, rng, nowMs: this.#nowMs });
    replica.setActions(this.actions);
    this.#replicas.add(replica);
    const close = replica.close.bind(replica);
    replica.close = () => {
      close();
      if (this.#replicas.delete(replica)) closed();
    };
    return replica;
  }
}
