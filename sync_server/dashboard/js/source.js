/**
 * One EventSource, used for exactly one connection: its native reconnecting is never waited for, since it would
 * repeat a spent ticket and know nothing of our rules. The first `error` ends it. Source: protocol.md 6.
 *
 * A native EventSource hands out only the types that it was told of, so all that anybody listens for are named here;
 * `connected` names those that are configured at the server.
 */

/** What a server says about the stream itself; never stored. */
export const CONTROL_TYPES = Object.freeze(['connected', 'caught_up', 'heartbeat', 'reset', 'removed', 'goodbye']);

/** Types of the seeds and of the shop's commands; custom ones come on top. */
export const EVENT_TYPES = Object.freeze([
  'stage_change', 'order_stage_change', 'status_update', 'payment_update', 'order_created', 'order_updated',
  'order_deleted', 'whatsapp_connected', 'qr_generated', 'queue_updated', 'bay_updated', 'job_started', 'job_progress',
  'job_completed', 'job_aborted', 'device_created', 'device_updated', 'order_added', 'order_modified', 'order_removed',
  'device_transferred', 'device_cleared', 'device_removed', 'categories_updated', 'prices_updated',
  'new_unclaimed_order', 'fuel_order_created', 'order_claimed', 'order_update', 'order_details_updated',
  'change_acknowledged', 'order_completed', 'fuel_order_deleted', 'truck_updated',
]);

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
