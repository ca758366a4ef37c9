/** How long to wait before trying again: full jitter over a window that doubles. Pure. Source: protocol.md 6. */

/** A server that asks for a year is wrong more often than right; a quarter of an hour spares it all the same. */
export const MAX_RETRY_AFTER_S = 900;

/**
 * The wait before trying again after `attempt` failures in a row (from 1), in seconds.
 *
 * With `retryAfterS` that much at least, and a little more that differs between clients: the same floor for
 * all of them would send them back together. `rng` gives numbers from 0 to below 1.
 */
export function delayS(attempt, { backoff, rng, retryAfterS = 0 }) {
  const floorS = retryAfterS || 0;
  const doublings = floorS ? 0 : Math.max(attempt, 1) - 1;
  return floorS + rng() * Math.min(backoff.baseS * backoff.factor ** doublings, backoff.capS);
}

/** `middle`, give or take `share` of it. */
export function around(middle, rng, share = 0.2) {
  return middle * (1 - share + 2 * share * rng());
}

/**
 * The seconds that a Retry-After header asks for, 0 to MAX_RETRY_AFTER_S; null if it says nothing usable.
 * Seconds and HTTP dates are understood; `nowMs` (wall clock) is for the second.
 */
export function parseRetryAfter(text, nowMs = Date.now()) {
  if (text === null || text === undefined) return null;
  const trimmed = text.trim();
  if (/^[0-9]+(\.[0-9]+)?$/.test(trimmed)) return Math.min(Number(trimmed), MAX_RETRY_AFTER_S);
  // Date.parse takes "1.5.2026" and a lot more; a HTTP date begins with the name of a day.
  const moment = /^[A-Za-z]{3,9},? /.test(trimmed) ? Date.parse(trimmed) : NaN;
  if (Number.isNaN(moment)) return null;
  return Math.min(Math.max((moment - nowMs) / 1000, 0), MAX_RETRY_AFTER_S);
}
