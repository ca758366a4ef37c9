/**
 * All tabs of one origin, and which of them leads. Plumbing only: what they say to each other is group.js's.
 *
 * The leader holds a Web Lock, so the browser itself passes the lead on in the moment in which a tab goes away,
 * however it ends. Each tab holds a lock of its own too, by which the leader notices that it is gone. Messages go
 * over a BroadcastChannel. Both need a secure context (https or localhost); without them every tab is alone.
 */

const VERSION = 1; // of what tabs say to each other: an older page in another tab does not listen in

/** Whether tabs can find each other here. */
export function canShareTabs({ locks, BroadcastChannel }) {
  return typeof locks?.request === 'function' && typeof BroadcastChannel === 'function';
}

/**
 * `handlers`: `joined()`, `lead()`, `follow()` (the lead was taken away), `message(data)`, and `alone()`: the browser
 * allows no locks here after all (a sandboxed frame).
 */
export class Tabs {
  #name;
  #locks;
  #handlers;
  #channel;
  #release = null; // lets go of the lead
  #leave; // lets go of the tab's own lock
  #queued = null; // AbortController of the request that waits for the lead
  #isClosed = false;
  isShared = true;

  constructor({ name, id, locks, BroadcastChannel, handlers }) {
    this.#name = `order-sync/${VERSION}/${name}`;
    this.id = id;
    this.#locks = locks;
    this.#handlers = handlers;
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#handlers.message(data);
  }

  get isLeader() {
    return this.#release !== null;
  }

  /** Join, and wait for the lead. */
  start() {
    const hold = () => {
      if (this.#isClosed) return undefined;
      const left = new Promise((resolve) => {
        this.#leave = resolve;
      });
      this.#handlers.joined();
      this.#request({});
      return left;
    };
    this.#locks.request(`${this.#name}/tab/${this.id}`, hold).catch((error) => {
      console.warn(`order-sync: tabs cannot share one connection here: ${error.message}`);
      if (!this.#isClosed) this.#handlers.alone();
    });
  }

  /** Say it to all other tabs. */
  send(message) {
    if (!this.#isClosed) this.#channel.postMessage(message);
  }

  /** Take the lead from whoever has it. */
  steal() {
    if (this.isLeader || this.#isClosed) return;
    this.#queued?.abort();
    this.#request({ steal: true });
  }

  /** Call `gone()` when the tab `id` has gone away. Gives a function that ends the watch. */
  watch(id, gone) {
    const abort = new AbortController();
    this.#locks
      .request(`${this.#name}/tab/${id}`, { signal: abort.signal }, () => {
        if (!abort.signal.aborted) gone();
      })
      .catch(ignoreAbort);
    return () => abort.abort();
  }

  /** Leave; another tab leads from now on. */
  close() {
    this.#isClosed = true;
    this.#queued?.abort();
    this.#release?.();
    this.#leave?.();
    this.#channel.close();
  }

  async #request({ steal = false }) {
    const abort = new AbortController();
    this.#queued = abort;
    let wasGranted = false;
    let wasReleased = false;
    const hold = () => {
      if (this.#isClosed || (abort.signal.aborted && !steal)) return undefined;
      wasGranted = true;
      const held = new Promise((resolve) => {
        this.#release = () => {
          wasReleased = true;
          this.#release = null;
          resolve();
        };
      });
      this.#handlers.lead();
      return held;
    };
    try {
      // The two options exclude each other.
      await this.#locks.request(`${this.#name}/lead`, steal ? { steal } : { signal: abort.signal }, hold);
    } catch (error) {
      ignoreAbort(error);
    }
    if (!wasGranted || wasReleased || this.#isClosed) return;
    this.#release = null; // somebody has taken it
    this.#handlers.follow();
    this.#request({});
  }
}

/** One tab alone, with the same face: it leads from the start, and there is nobody to talk to. */
export class SingleTab {
  #handlers;
  isShared = false;
  isLeader = true;

  constructor({ id, handlers }) {
    this.id = id;
    this.#handlers = handlers;
  }

  start() {
    this.#handlers.joined();
    this.#handlers.lead();
  }

  send() {}

  steal() {}

  watch() {
    return () => {};
  }

  close() {}
}

function ignoreAbort(error) {
  if (error?.name !== 'AbortError') throw error;
}
