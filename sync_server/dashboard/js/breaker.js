/**
 * The circuit breaker around plain requests: it keeps a broken server from being asked again and again.
 *
 *     closed -- 5 failures in a row --> open -- 10 s, doubling to 60 s, jittered --> half open -- success --> closed
 *                                        ^                                              |
 *                                        +------------------- failure ------------------+
 *
 * Half open lets exactly one request through, whatever the number of those waiting; a cancelled one gives its place
 * back. Streams and probes do not pass here: a stream that fails has its own backoff; one that opens makes an open
 * breaker half open. A port of sync_client/breaker.py; the tests drive both with the same cases. Source: protocol.md 6.
 */

import { around } from './backoff.js';
import { BreakerOpen } from './errors.js';

export const FAILURES_TO_OPEN = 5;
export const FIRST_OPEN_S = 10;
export const MAX_OPEN_S = 60;

/** One per server. `clock` is monotonic, in seconds. */
export class Breaker {
  #clock;
  #rng;
  #failures = 0;
  #openUntilS = null;
  #openS = FIRST_OPEN_S;
  #isProbing = false;
  timesOpened = 0;

  constructor({ clock, rng = Math.random }) {
    this.#clock = clock;
    this.#rng = rng;
  }

  /** 'closed', 'open' or 'half_open'. */
  get state() {
    if (this.#openUntilS === null) return 'closed';
    return this.#clock() < this.#openUntilS ? 'open' : 'half_open';
  }

  /** In a row. */
  get failures() {
    return this.#failures;
  }

  /** How long until a request may be let through, in seconds; 0 where one may now. */
  get retryInS() {
    if (this.#openUntilS === null) return 0;
    const leftS = Math.max(this.#openUntilS - this.#clock(), 0);
    return this.#isProbing ? Math.max(leftS, 1) : leftS;
  }

  /** There is a sign that the server is back (a stream opened): half open from now on. */
  giveAChance() {
    if (this.#openUntilS !== null) this.#openUntilS = Math.min(this.#openUntilS, this.#clock());
  }

  /**
   * Permission for one request. Say how it went: `succeeded()` for any answer but 5xx, `failed()` for 5xx and the
   * network, and `end()` at last: what was not said counts as not sent. Throws BreakerOpen while there is no place.
   */
  request() {
    const state = this.state;
    if (state === 'open' || (state === 'half_open' && this.#isProbing)) {
      throw new BreakerOpen('the circuit breaker is open', { retryAfterS: this.retryInS });
    }
    const isProbe = state === 'half_open';
    if (isProbe) this.#isProbing = true;
    let isTold = false;
    const tell = (success) => {
      if (isTold) return;
      isTold = true;
      this.#settle(success, isProbe);
    };
    return {
      succeeded: () => tell(true),
      failed: () => tell(false),
      end: () => {
        if (!isTold && isProbe) this.#isProbing = false;
        isTold = true;
      },
    };
  }

  #settle(success, isProbe) {
    if (isProbe) this.#isProbing = false;
    // It was sent before the breaker opened. Only the probe's answer closes or opens it again.
    else if (this.#openUntilS !== null) return;
    if (success) {
      this.#failures = 0;
      this.#openUntilS = null;
      this.#openS = FIRST_OPEN_S;
      return;
    }
    this.#failures += 1;
    if (isProbe || this.#failures >= FAILURES_TO_OPEN) {
      this.#openUntilS = this.#clock() + around(this.#openS, this.#rng);
      this.#openS = Math.min(this.#openS * 2, MAX_OPEN_S);
      this.timesOpened += 1;
    }
  }
}
