import { NotOurAnswer } from '/js/errors.js';
import { Intake } from '/js/intake.js';
import { equal, test, throws } from './harness.js';

const id = (n, epoch = 'aaaaaaaa') => `${epoch}.${n}`;
const envelope = (n, more = {}) => ({ id: id(n), eventType: 'stage_change', data: { n }, ...more });

function make(time, given = {}) {
  const told = { numbers: [], sources: [], resyncs: [], controls: [], cursors: [] };
  const intake = new Intake({
    clock: time.clock,
    wallMs: time.wallMs,
    ...given,
    handlers: {
      events: (events, source) => {
        told.numbers.push(...events.map(({ data }) => data.n));
        told.sources.push(source);
        told.cursors.push(intake.received); // as it is while they are handed on
      },
      resync: (reason) => told.resyncs.push(reason),
      control: (type) => told.controls.push(type),
    },
  });
  const take = (type, data, eventId = data.id ?? '') => intake.take(type, JSON.stringify(data), eventId);
  return { intake, told, take, event: (n, more) => take('stage_change', envelope(n, more)) };
}

const connected = (cursor, more = {}) => ({ cursor, head: cursor, resume: 'now', heartbeatSeconds: 15, ...more });

test('an event is handed on before the cursor passes it', ({ time }) => {
  const { intake, told, event } = make(time, { cursor: id(4) });
  event(5);
  equal([told.numbers, told.cursors, intake.received], [[5], [id(4)], id(5)]);
});

test('what lies behind the cursor is dropped, whichever way it comes', ({ time }) => {
  const { intake, told, event } = make(time);
  event(1);
  event(2);
  event(1);
  equal(intake.takePage({ events: [envelope(1), envelope(2), envelope(3)], cursor: id(3) }), 1);
  equal([told.numbers, intake.facts.duplicates], [[1, 2, 3], 3]);
});

test('connected says where a reader without a cursor begins', ({ time }) => {
  const { intake, take } = make(time);
  equal(intake.cursor, 'now');
  take('connected', connected(id(7), { heartbeatSeconds: 2, serverTime: '2026-11-20T10:00:05.000Z' }), id(7));
  equal([intake.cursor, intake.stallS, intake.facts.serverOffsetMs], [id(7), 5, 5000]);
});

test('heartbeats move the cursor and tell how old the log is', async ({ time }) => {
  const { intake, take } = make(time, { cursor: id(4) });
  take('heartbeat', { head: id(90), tailAgeMs: 4000 }, id(80));
  equal([intake.received, intake.facts.head, intake.facts.tailAgeS], [id(80), id(90), 4]);
});

test('an empty page moves the cursor', ({ time }) => {
  const { intake } = make(time, { cursor: id(4) });
  intake.takePage({ events: [], cursor: id(9), head: id(9), upToDate: true });
  equal([intake.received, intake.facts.caughtUp], [id(9), true]);
});

test('after a reset it goes on at the head', ({ time }) => {
  const { intake, told, take, event } = make(time, { cursor: id(4) });
  take('connected', connected(id(50), { resume: 'reset' }), id(50));
  equal(intake.received, id(4), 'the reset is yet to come');
  take('reset', { reason: 'expired', head: id(50) }, id(50));
  equal([told.resyncs, intake.received], [['expired'], id(50)]);
  event(51);
  equal(told.numbers, [51]);
});

test('a reset that repeats itself is told once', ({ time }) => {
  const { intake, told, take, event } = make(time, { cursor: id(4, 'oldoldol') });
  for (let stream = 0; stream < 2; stream += 1) {
    intake.streamBegins();
    take('reset', { reason: 'epoch', head: id(50) });
    take('caught_up', {}); // with what it has instead
  }
  equal(told.resyncs, ['epoch']);
  equal(take('goodbye', { reason: 'max_age' }), { goodbye: 'max_age', contradicted: true });
  event(51);
  equal(take('goodbye', { reason: 'max_age' }).contradicted, false);
});

test('other rights are a resync at the cursor', ({ time }) => {
  const { intake, told, take } = make(time, { cursor: id(4), access: 'viewer' });
  take('connected', connected(id(4), { resume: 'resumed', access: 'viewer' }), id(4));
  equal(told.resyncs, []);
  take('connected', connected(id(4), { resume: 'resumed', access: 'cashier' }), id(4));
  equal([told.resyncs, intake.received, intake.access], [['access'], id(4), 'cashier']);
});

test('the 410 of a poll is a reset', ({ time }) => {
  const { intake, told } = make(time, { cursor: id(4, 'oldoldol') });
  intake.loseCursor({ reason: 'expired', head: id(20) });
  equal([told.resyncs, intake.received], [['expired'], id(20)]);
});

test('what should be an event and is none is counted, and the feed goes on', ({ time }) => {
  const { intake, told, event } = make(time);
  const wrong = [
    '{',
    '[]',
    '"x"',
    '{"id":"aaaaaaaa.2"}',
    '{"id":"aaaaaaaa.9","eventType":"stage_change","data":{}}',
    '{"id":"aaaaaaaa.2","eventType":"other","data":{}}',
    '{"id":"aaaaaaaa.2","eventType":"stage_change","data":[]}',
  ];
  event(1);
  for (const text of wrong) intake.take('stage_change', text, id(2));
  event(3);
  equal([told.numbers, intake.received], [[1, 3], id(3)]);
  equal(intake.facts.malformed > 0 && told.controls.every((type) => type === 'malformed'), true);
});

test('events without an id are handed on and move nothing', ({ time }) => {
  const { intake, told, take } = make(time, { cursor: id(4) });
  take('stage_change', { eventType: 'stage_change', data: { n: 7 } }, id(4));
  equal([told.numbers, intake.received, intake.facts.duplicates], [[7], id(4), 0]);
});

test('removed is handed on with the id of its block', ({ time }) => {
  const { intake, told, take } = make(time, { cursor: id(4) });
  take('removed', { kind: 'order', id: 'A', version: 3 }, id(5));
  equal([told.sources, intake.received], [['sse'], id(5)]);
});

test('a page that is none of ours is refused', ({ time }) => {
  const { intake } = make(time);
  for (const page of [{}, { events: [] }, { events: {}, cursor: id(1) }, { events: [], cursor: 'nonsense' }]) {
    throws(() => intake.takePage(page), NotOurAnswer);
  }
});

test('ids of any size do no harm', ({ time }) => {
  const { intake, event, take } = make(time, { cursor: id(4) });
  take('heartbeat', {}, `aaaaaaaa.${'9'.repeat(5000)}`);
  take('heartbeat', { tailAgeMs: 1e300, head: 7 }, id(5));
  event(6);
  equal([intake.received, intake.facts.tailAgeS], [id(6), 0]);
});
