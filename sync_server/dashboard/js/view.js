/** What one part of a program sees of the feed: its own events, and whether all of them will come. */

import { Recent } from './recent.js';

/** See SyncClient.subscribe. `end()` is set by who makes it. */
export class View {
  #recent;
  #listeners = new Set();
  /** Whether everything that its filter lets through is sure to come from here on. */
  isReady = false;
  end = () => {};

  constructor({ events, wallMs }) {
    this.#recent = new Recent({ wallMs });
    this.#recent.add(events);
  }

  /** The newest 100, oldest first: an immutable array, another one after each change. */
  get events() {
    return this.#recent.events;
  }

  get latest() {
    return this.#recent.latest;
  }

  /** `listener()` after each change. Gives its end. */
  onChange(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** An event came. */
  add(event, source) {
    if (this.#recent.add([event], source)) this.#tell();
  }

  ready() {
    this.isReady = true;
    this.#tell();
  }

  #tell() {
    for (const listener of [...this.#listeners]) listener();
  }
}
