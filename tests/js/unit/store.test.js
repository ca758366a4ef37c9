import { Filter } from '/js/filter.js';
import { Meter, statusOf } from '/js/health.js';
import { Recent } from '/js/recent.js';
import { newMachine, State } from '/js/states.js';
import { configuration, Store } from '/js/store.js';
import { equal, ok, test } from './harness.js';

const envelope = (n) => ({
  id: `aaaaaaaa.${n}`,
  eventType: 'stage_change',
  timestamp: '2026-11-20T10:00:00.000Z',
  data: { n },
  orderID: 'A',
});
const metrics = { totalConnections: 3, totalEvents: 15, uptime: 45000 };
const facts = (lastEventId) => ({
  configuration: configuration(Filter.read({ orderID: 'A' }), { maxReconnectAttempts: 5 }),
  lastConnectionTime: '2026-11-20T09:59:00.000Z',
  connectionMetrics: metrics,
  lastEventId,
});

function make(time, { storage = localStorage, cursor = 'aaaaaaaa.9' } = {}) {
  const store = new Store({ storage, key: 'k', wallMs: time.wallMs });
  store.open(store.load().events, () => facts(cursor));
  return store;
}

const kept = () => JSON.parse(localStorage.getItem('k'));

test('the document is the persistence format, to the letter', ({ time }) => {
  const store = make(time);
  store.add([envelope(1)], 'sse');
  store.write();
  const text =
    '{"events":[{"id":"aaaaaaaa.1","eventType":"stage_change","data":{"n":1},"orderID":"A",' +
    '"timestamp":"2026-11-20T10:00:00.000Z","metadata":{"receivedAt":"2026-11-20T10:00:00.000Z","processed":false,' +
    '"acknowledged":false,"source":"sse"}}],"configuration":{"orderID":"A","eventTypes":[],"autoReconnect":true,' +
    '"maxReconnectAttempts":5},"lastConnectionTime":"2026-11-20T09:59:00.000Z","connectionMetrics":' +
    '{"totalConnections":3,"totalEvents":15,"uptime":45000},"lastEventId":"aaaaaaaa.9","version":"1.0.0"}';
  equal(localStorage.getItem('k'), text);
});

test('what is kept is found again, whole', ({ time }) => {
  const store = make(time);
  store.add([envelope(1), envelope(2)], 'polling');
  store.mark(['aaaaaaaa.1'], 'processed');
  store.mark(['aaaaaaaa.2'], 'acknowledged');
  store.remember({ access: 'viewer', resync: 'epoch' });
  store.write();
  const saved = new Store({ storage: localStorage, key: 'k', wallMs: time.wallMs }).load();
  equal(
    saved.events.map(({ metadata }) => [metadata.processed, metadata.acknowledged]),
    [
      [true, false],
      [false, true],
    ],
  );
  equal([saved.lastEventId, saved.access, saved.resync], ['aaaaaaaa.9', 'viewer', 'epoch']);
  equal(saved.connectionMetrics, metrics);
});

test('one hundred events are kept, for an hour', async ({ time }) => {
  const store = make(time);
  store.add([envelope(0)], 'sse');
  await time.advance(1800);
  for (let n = 1; n <= 120; n += 1) store.add([envelope(n)], 'sse');
  equal([store.events.length, store.events[0].data.n], [100, 21]);
  await time.advance(1801);
  store.add([envelope(121)], 'sse');
  equal(store.events.length, 100);
  await time.advance(1800);
  store.write();
  equal(
    kept().events.map(({ data }) => data.n),
    [121],
  );
  equal(kept().connectionMetrics, metrics);
});

test('a burst is one write, a quarter of a second later', async ({ time }) => {
  time.install();
  let writes = 0;
  const storage = {
    getItem: () => null,
    setItem: () => {
      writes += 1;
    },
  };
  const store = make(time, { storage });
  for (let n = 0; n < 50; n += 1) store.add([envelope(n)], 'sse');
  await time.advance(0.2);
  equal(writes, 0);
  await time.advance(0.1);
  equal(writes, 1);
});

test('a full storage keeps the newest events', ({ time }) => {
  const limited = {
    text: null,
    getItem() {
      return this.text;
    },
    setItem(_, text) {
      if (text.length > 3000) throw new DOMException('full', 'QuotaExceededError');
      this.text = text;
    },
  };
  const store = make(time, { storage: limited });
  for (let n = 0; n < 40; n += 1) store.add([envelope(n)], 'sse');
  store.write();
  const numbers = JSON.parse(limited.text).events.map(({ data }) => data.n);
  ok(numbers.length > 3 && numbers.length < 40);
  equal(numbers.at(-1), 39);
  equal(store.problem, '');
});

test('events of great size do not fill the storage', ({ time }) => {
  const store = make(time);
  for (let n = 0; n < 20; n += 1) store.add([{ ...envelope(n), data: { n, text: 'x'.repeat(250_000) } }], 'sse');
  store.write();
  equal(
    kept()
      .events.map(({ data }) => data.n)
      .at(-1),
    19,
  );
  ok(localStorage.getItem('k').length < 2_200_000);
});

test('nothing sound in storage is no trouble', ({ time }) => {
  for (const text of [
    '{',
    '[]',
    'null',
    '{"version":"2.0.0","events":[1]}',
    '{"version":"1.0.0","events":[1,{"id":2}],"connectionMetrics":{"uptime":"x"}}',
  ]) {
    localStorage.setItem('k', text);
    localStorage.setItem('k:session', text);
    const saved = new Store({ storage: localStorage, key: 'k', wallMs: time.wallMs }).load();
    equal([saved.events, saved.lastEventId, saved.access, saved.resync], [[], null, null, '']);
    equal(saved.connectionMetrics, { totalConnections: 0, totalEvents: 0, uptime: 0 });
  }
});

test('storage that may not be touched is told, and does no harm', ({ time }) => {
  const forbidden = {
    getItem() {
      throw new DOMException('no', 'SecurityError');
    },
    setItem() {
      throw new DOMException('no', 'SecurityError');
    },
  };
  const store = make(time, { storage: forbidden });
  store.add([envelope(1)], 'sse');
  store.write();
  ok(store.problem.includes('SecurityError'));
  equal(new Store({ storage: null, key: 'k' }).problem, 'there is no localStorage');
});

test('ephemeral events and removed are not kept', ({ time }) => {
  const store = make(time);
  const { id, ...ephemeral } = envelope(1);
  equal(store.add([ephemeral, { ...envelope(2), eventType: 'removed' }], 'sse'), []);
  ok(id);
});

test('a closed store writes nothing more', ({ time }) => {
  const store = make(time);
  store.add([envelope(1)], 'sse');
  store.close();
  store.write();
  equal(localStorage.getItem('k'), null);
});

test('recent events are each there once, and the array is another one only after a change', ({ time }) => {
  const recent = new Recent({ wallMs: time.wallMs });
  ok(recent.add([envelope(1), envelope(2)], 'sse'));
  const before = recent.events;
  ok(!recent.add([envelope(2)], 'sse'));
  ok(recent.events === before && Object.isFrozen(before));
  ok(recent.acknowledge('aaaaaaaa.2') && !recent.acknowledge('aaaaaaaa.2'));
  equal(
    recent.events.map(({ metadata }) => metadata.acknowledged),
    [false, true],
  );
});

test('the status has five words', () => {
  const words = Object.values(State).map((state) => statusOf({ state, pollFailures: 0 }));
  equal(words.sort(), ['error', 'error', 'healthy', 'offline', 'offline', 'polling', 'reconnecting', 'reconnecting']);
  equal(statusOf({ state: State.POLLING, pollFailures: 1 }), 'offline');
});

test('uptime, rate and recoveries are counted, and totals go on', () => {
  const meter = new Meter({ startedS: 0, before: metrics });
  const at = (state) => newMachine({ state });
  meter.moved(at(State.CONNECTING), at(State.CONNECTED), 10);
  meter.moved(at(State.CONNECTED), at(State.RECONNECTING), 30);
  meter.moved(at(State.RECONNECTING), at(State.POLLING), 32);
  meter.moved(at(State.POLLING), at(State.CONNECTED), 36);
  equal([meter.upS(40), meter.recoveriesS, meter.connections], [28, [6], 2]);
  equal(meter.document(7, 40), { totalConnections: 5, totalEvents: 22, uptime: 45000 + 28000 });
  equal([meter.rate(100, 40), meter.rate(160, 70)], [2.5, 2]);
});
