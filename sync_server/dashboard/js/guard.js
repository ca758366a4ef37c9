/** Two watchers over the connection: one against spinning, one that notices that the machine slept. Pure. */

/**
 * Five requests at the same cursor within half a second are a fault somewhere, whatever the reason. Every road back
 * to the network passes here, so that no combination of answers can make the client spin.
 */
export class LoopGuard {
  #requests;
  #withinS;
  #recent = [];

  constructor({ requests = 5, withinS = 0.5 } = {}) {
    this.#requests = requests;
    this.#withinS = withinS;
  }

  /** Whether a request at `cursor` may be sent now; it is noted if so. */
  allows(cursor, nowS) {
    const recent = this.#recent;
    const isSpinning =
      recent.length === this.#requests - 1 &&
      nowS - recent[0].nowS <= this.#withinS &&
      recent.every((earlier) => earlier.cursor === cursor);
    if (!isSpinning) {
      recent.push({ nowS, cursor });
      if (recent.length >= this.#requests) recent.shift();
    }
    return !isSpinning;
  }
}

/**
 * Tells from the gaps between ticks that the page stood still: machine suspended, tab frozen. Never from the wall
 * clock. A hidden page's timers are slowed down to one a minute, which is no sleep: it gets a longer gap.
 */
export class SleepDetector {
  #gapS;
  #hiddenGapS;
  #lastS = null;
  #wasHidden = false;

  constructor({ tickS = 1, gapS = 5, hiddenGapS = 120 } = {}) {
    this.tickS = tickS;
    this.#gapS = gapS;
    this.#hiddenGapS = hiddenGapS;
  }

  /** The length of the sleep that just ended, in seconds, or 0. Call it every `tickS`. */
  tick(nowS, isHidden) {
    const sleptS = this.#lastS === null ? 0 : nowS - this.#lastS - this.tickS;
    const limitS = isHidden || this.#wasHidden ? this.#hiddenGapS : this.#gapS;
    this.#lastS = nowS;
    this.#wasHidden = isHidden;
    return sleptS >= limitS ? sleptS : 0;
  }
}
