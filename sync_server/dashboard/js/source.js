/**
 * One EventSource, used for exactly one connection: its native reconnecting is never waited for, since it would
 * repeat a spent ticket and know nothing of our rules. The first `error` ends it. Source: protocol.md 6.
 *
 * A native EventSource hands out only the types that it was told of, so all that anybody listens for are named here;
 * `connected` names those that are configured at the server.
 */

import { DECLARED_EVENT_TYPES } from './declared.js';

/** What a server says about the stream itself; never stored. */
export const CONTROL_TYPES = Object.freeze(['connected', 'caught_up', 'heartbeat', 'reset', 'removed', 'goodbye']);

/** Types of the seeds and of all commands; custom ones come on top. */
export const EVENT_TYPES = DECLARED_EVENT_TYPES;

const CLOSED = 2;

export class Source {
  #native;
  #types = new Set();
  #handlers;

  /**
   * Opens at once. handlers: `event(type, text, id)`, `failed(isRefused)`: the connection is over, and whether the
   * browser gave up for good, which it does for any answer but a stream. No call comes after `close`.
   */
  constructor(url, { factory, withCredentials, types, handlers }) {
    this.#handlers = handlers;
    this.#native = factory(url, { withCredentials });
    this.#native.addEventListener('error', this.#onError);
    for (const type of types) this.listen(type);
  }

  /** Hand out events of `type` too, from here on. */
  listen(type) {
    if (this.#types.has(type) || type === 'error') return;
    this.#types.add(type);
    this.#native.addEventListener(type, this.#onEvent);
  }

  close() {
    this.#handlers = null;
    this.#native.removeEventListener('error', this.#onError);
    for (const type of this.#types) this.#native.removeEventListener(type, this.#onEvent);
    this.#native.close();
  }

  #onEvent = (event) => {
    this.#handlers?.event(event.type, event.data, event.lastEventId);
  };

  #onError = (event) => {
    if (typeof event.data === 'string') return; // an event of that name, not a failure
    const isRefused = this.#native.readyState === CLOSED;
    const handlers = this.#handlers;
    this.close();
    handlers?.failed(isRefused);
  };
}
