/**
 * Cursors: where a reader stands in a log. `<epoch>.<seq>`; within an epoch, seq counts without holes. Different
 * epochs do not compare. Source: protocol.md 1.
 */

const CURSOR = /^([0-9a-z]{8})\.(0|[1-9][0-9]{0,14})$/; // 15 digits are exact as a number; a log never gets there

/** `{epoch, seq}`, or null for what is no cursor of ours. */
export function parseCursor(text) {
  const match = typeof text === 'string' ? CURSOR.exec(text) : null;
  return match === null ? null : { epoch: match[1], seq: Number(match[2]) };
}

/** Whether `text` lies at or before `cursor`: same epoch, not a larger seq. */
export function isAtOrBefore(text, cursor) {
  const one = parseCursor(text);
  const other = parseCursor(cursor);
  return one !== null && other !== null && one.epoch === other.epoch && one.seq <= other.seq;
}

/** Whether a reader that stands at `cursor` ('' at the very beginning) moves on to `next`. */
export function movesTo(next, cursor) {
  const one = parseCursor(next);
  const other = parseCursor(cursor);
  return one !== null && (other === null || (one.epoch === other.epoch && one.seq > other.seq));
}

/** Whether a reader at `cursor` would miss something if it went on at `from`. */
export function leavesGap(cursor, from) {
  const have = parseCursor(cursor);
  const next = parseCursor(from);
  if (have === null || next === null) return false;
  return have.epoch !== next.epoch || next.seq > have.seq;
}
