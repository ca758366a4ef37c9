import { around, delayS, MAX_RETRY_AFTER_S, parseRetryAfter } from '/js/backoff.js';
import { isAtOrBefore, leavesGap, movesTo, parseCursor } from '/js/cursor.js';
import { ConfigurationError } from '/js/errors.js';
import { Filter } from '/js/filter.js';
import { LoopGuard, SleepDetector } from '/js/guard.js';
import { readOptions } from '/js/options.js';
import { POLICY } from '/js/states.js';
import { equal, ok, test, throws } from './harness.js';

const delay = (attempt, random, retryAfterS) =>
  delayS(attempt, { backoff: POLICY.backoff, rng: () => random, retryAfterS });

test('the backoff doubles up to its cap, with full jitter', () => {
  equal(
    [1, 2, 3, 6, 60].map((attempt) => delay(attempt, 0.5)),
    [0.5, 1, 2, 15, 15],
  );
  equal(delay(3, 0), 0);
});

test('Retry-After is a floor with a spread above it', () => {
  equal([delay(6, 0.5, 20), delay(1, 0, 20)], [20.5, 20]);
});

test('around spreads by a fifth', () => {
  equal([around(10, () => 0), around(10, () => 0.5)], [8, 10]);
});

test('Retry-After is read as seconds or as a date, and bounded', () => {
  const now = Date.parse('2026-11-20T10:00:00Z');
  const read = (text) => parseRetryAfter(text, now);
  equal(['7', ' 1.5 ', '99999999999', 'Fri, 20 Nov 2026 10:00:30 GMT'].map(read), [7, 1.5, MAX_RETRY_AFTER_S, 30]);
  equal(['soon', '-3', '', '20.11.2026', null, 'Fri, 20 Nov 2026 09:00:00 GMT'].map(read), [
    null,
    null,
    null,
    null,
    null,
    0,
  ]);
});

test('the loop guard refuses the fifth request at one cursor within half a second', () => {
  const guard = new LoopGuard();
  equal(
    [0, 0.1, 0.2, 0.3, 0.4, 0.6].map((nowS) => guard.allows('a', nowS)),
    [true, true, true, true, false, true],
  );
  const other = new LoopGuard();
  equal(
    ['a', 'a', 'b', 'a', 'a'].map((cursor) => other.allows(cursor, 0)),
    [true, true, true, true, true],
  );
});

test('a gap in the ticks is a sleep, a slowed timer of a hidden page is none', () => {
  const detector = new SleepDetector();
  equal(
    [0, 1, 9].map((nowS) => detector.tick(nowS, false)),
    [0, 0, 7],
  );
  const hidden = new SleepDetector();
  equal(
    [0, 60, 119, 300].map((nowS) => hidden.tick(nowS, true)),
    [0, 0, 0, 180],
  );
  equal(hidden.tick(360, false), 0, 'the gap began while it was hidden');
});

test('cursors compare within their epoch only', () => {
  equal(parseCursor('aaaaaaaa.7'), { epoch: 'aaaaaaaa', seq: 7 });
  equal(['', 'x.1', 'aaaaaaaa.01', 'aaaaaaaa.-1', 'AAAAAAAA.1', null, 7].map(parseCursor), Array(7).fill(null));
  equal([isAtOrBefore('aaaaaaaa.7', 'aaaaaaaa.7'), isAtOrBefore('aaaaaaaa.8', 'aaaaaaaa.7')], [true, false]);
  equal(isAtOrBefore('bbbbbbbb.1', 'aaaaaaaa.7'), false);
  equal(
    [movesTo('aaaaaaaa.1', ''), movesTo('aaaaaaaa.8', 'aaaaaaaa.7'), movesTo('bbbbbbbb.8', 'aaaaaaaa.7')],
    [true, true, false],
  );
  equal(
    ['aaaaaaaa.7', 'aaaaaaaa.8', 'bbbbbbbb.1', null, ''].map((from) => leavesGap('aaaaaaaa.7', from)),
    [false, true, true, false, false],
  );
});

const event = (eventType, about = {}) => ({ eventType, ...about });

test('a filter lets through its types AND any of its entities', () => {
  const filter = Filter.read({ eventTypes: 'a,b', orderID: ['1', '2'], bayID: '9' });
  ok(filter.matches(event('a', { orderID: '2' })) && filter.matches(event('b', { bayID: '9', orderID: '7' })));
  ok(!filter.matches(event('c', { orderID: '2' })) && !filter.matches(event('a', { orderID: '3' })));
  ok(!filter.matches(event('a')) && Filter.read({}).matches(event('z')));
});

test('a union lets through what each of its filters does', () => {
  const one = Filter.read({ eventTypes: ['a'], orderID: '1' });
  const two = Filter.read({ eventTypes: ['b'], orderID: '2' });
  const union = Filter.union([one, two]);
  equal(union.document(), { eventTypes: ['a', 'b'], orderID: ['1', '2'] });
  ok(union.covers(one) && union.covers(two) && !one.covers(union));
  ok(Filter.union([one, Filter.read({})]).covers(Filter.read({ bayID: '1' })));
  equal(Filter.union([one, Filter.read({ eventTypes: ['a'] })]).document(), { eventTypes: ['a'] });
});

test('a union of too many values leaves out entities', () => {
  const ids = (prefix) => Array.from({ length: 150 }, (_, n) => `${prefix}${n}`);
  const one = Filter.read({ eventTypes: ['a'], orderID: ids('x') });
  const two = Filter.read({ eventTypes: ['a'], orderID: ids('y') });
  const union = Filter.union([one, two]);
  equal(union.document(), { eventTypes: ['a'] });
  ok(union.covers(one) && union.covers(two));
});

test('a filter is told what is wrong with it', () => {
  throws(() => Filter.read({ orderId: '1' }), ConfigurationError);
  throws(() => Filter.read({ orderID: 'a,,b' }), ConfigurationError);
  throws(() => Filter.read({ orderID: Array.from({ length: 201 }, (_, n) => `${n}`) }), ConfigurationError);
});

test('wrong options are told together', () => {
  const error = throws(
    () => readOptions({ baseURL: '/', start: 'then', maxReconnectAttempts: 0, policy: { x: 1 } }),
    ConfigurationError,
  );
  for (const word of ['baseURL', 'start', 'maxReconnectAttempts', 'policy']) ok(error.message.includes(word), word);
});
