import { Debounced, stageChanges } from '/js/handlers.js';
import { ConfigurationError, SyncClient } from '/js/sync.js';
import { fakeEventSource } from '/js/testing.js';
import { equal, ok, scriptedFetch, settle, test, throws, until } from './harness.js';

const snapshot = { cursor: 'fake0000.0', orders: [], queues: [], bays: [] };

/** A client alone in its page, with a connection that does what the test says. */
function make(time, options = {}) {
  const source = fakeEventSource();
  const fetch =
    options.fetch ?? scriptedFetch(({ path }) => (path.endsWith('/snapshot') ? { body: snapshot } : { status: 503 }));
  const client = new SyncClient({
    eventSourceFactory: source,
    fetch,
    wallMs: time.wallMs,
    indexedDB: null,
    storageKey: 'client',
    ...options,
  });
  const say = (type, data, more) => source.lastInstance.simulateEvent(type, data, more);
  const open = (cursor = 'fake0000.0') =>
    say('connected', { cursor, head: cursor, resume: 'now', heartbeatSeconds: 15 });
  return { client, source, say, open, fetch };
}

const numbers = (events) => events.map(({ data }) => data.n);
const kept = () => JSON.parse(localStorage.getItem('client'));

test('nothing happens before connect', ({ time }) => {
  const { client, source } = make(time);
  equal([client.state, client.events, client.health.status, source.instances], ['disconnected', [], 'offline', []]);
});

test('a simulated event is handed out in the very step', ({ time }) => {
  const { client, say } = make(time);
  const seen = [];
  client.on('stage_change', (event) => {
    seen.push(event);
  });
  client.connect({ orderID: 'A' });
  equal(client.state, 'connecting');
  say('connected', { clientId: 'test-client' });
  equal([client.state, client.isConnected], ['connected', true]);
  say('stage_change', { previousStage: 'empty', newStage: 'initiated', order: { orderID: 'A' } });
  equal(
    [seen.length, seen[0].orderID, client.latestEvent.eventType, client.events.length],
    [1, 'A', 'stage_change', 1],
  );
  client.disconnect();
  equal(client.state, 'closed');
});

test('each state is told with before, after and reason', ({ time }) => {
  const { client, source, open } = make(time);
  const seen = [];
  client.onStateChange(({ before, after, reason }) => {
    seen.push([before, after, reason]);
  });
  client.connect();
  open();
  source.lastInstance.simulateError();
  client.disconnect();
  equal(seen, [
    ['disconnected', 'connecting', ''],
    ['connecting', 'connected', ''],
    ['connected', 'reconnecting', 'the connection was lost'],
    ['reconnecting', 'closed', 'close() was called'],
  ]);
  equal(
    client.transitions.map(({ after }) => after),
    ['connecting', 'connected', 'reconnecting', 'closed'],
  );
});

test('handlers hear what they ask for', ({ time }) => {
  const { client, say, open } = make(time);
  const heard = [];
  const note =
    (name) =>
    (...args) => {
      heard.push([name, ...args.slice(1)]);
    };
  client.on('*', note('all'));
  const end = client.on('payment_update', note('payment'));
  client.onOrder('B', note('order B'));
  client.onStageChange('A', note('stage A'));
  client.on('heartbeat', note('heartbeat'));
  client.connect();
  open();
  say('heartbeat', {}, { id: 'fake0000.0' });
  say('payment_update', { data: { status: 'paid' }, orderID: 'B' });
  end();
  say('payment_update', { data: { status: 'refunded' }, orderID: 'C' });
  say('stage_change', { data: { previousStage: 'empty', newStage: 'initiated' }, orderID: 'A' });
  equal(heard, [['heartbeat'], ['payment'], ['all'], ['order B'], ['all'], ['all'], ['stage A', 'empty', 'initiated']]);
  client.disconnect();
});

test('a custom type is listened for as soon as somebody wants it', async ({ time }) => {
  const { client, say, open } = make(time, { eventTypes: ['window_opened'] });
  const heard = [];
  client.on('door_opened', (event) => {
    heard.push(event.eventType);
  });
  client.connect();
  open();
  say('door_opened', { data: {} });
  client.on('bell', (event) => {
    heard.push(event.eventType);
  });
  await settle();
  say('bell', { data: {} });
  client.on('*', (event) => {
    heard.push(`* ${event.eventType}`);
  });
  say('window_opened', { data: {} });
  equal(heard, ['door_opened', 'bell', '* window_opened']);
  client.disconnect();
});

test('after a reload it resumes, and knows what it knew', ({ time }) => {
  const first = make(time);
  first.client.connect();
  first.open();
  first.say('stage_change', { data: { n: 1 } }, { id: 'fake0000.1' });
  first.client.disconnect();
  const second = make(time);
  equal(numbers(second.client.events), [1]);
  second.client.connect();
  ok(second.source.lastInstance.url.includes('lastEventId=fake0000.1'));
  second.client.disconnect();
});

test('an hour later it begins anew, and says so', async ({ time }) => {
  const first = make(time);
  first.client.connect();
  first.open();
  first.say('stage_change', { data: { n: 1 } }, { id: 'fake0000.1' });
  first.client.disconnect();
  time.nowMs += 3_601_000;
  const second = make(time);
  const resyncs = [];
  second.client.on('resync', ({ data }) => {
    resyncs.push(data.reason);
  });
  second.client.connect();
  await settle();
  ok(second.source.lastInstance.url.includes('lastEventId=now'));
  equal([resyncs, second.client.events], [['expired'], []]);
  second.client.disconnect();
});

test('start now looks at nothing of before', ({ time }) => {
  const first = make(time);
  first.client.connect();
  first.open('fake0000.7');
  first.client.disconnect();
  const second = make(time, { start: 'now' });
  second.client.connect();
  ok(second.source.lastInstance.url.includes('lastEventId=now'));
  second.client.disconnect();
});

test('an event counts as processed when its handlers are done', async ({ time }) => {
  const { client, say, open } = make(time);
  let done;
  client.on(
    'stage_change',
    () =>
      new Promise((resolve) => {
        done = resolve;
      }),
  );
  client.connect();
  open();
  say('stage_change', { data: { n: 1 } });
  const processed = () => client.export().events.map(({ metadata }) => metadata.processed);
  equal(processed(), [false]);
  done();
  await settle();
  equal(processed(), [true]);
  client.disconnect();
});

test('what handlers were not done with comes again after a reload', async ({ time }) => {
  const first = make(time);
  first.client.on('stage_change', () => new Promise(() => {}));
  first.client.connect();
  first.open();
  first.say('stage_change', { data: { n: 1 } }, { id: 'fake0000.1' });
  first.client.disconnect();
  const second = make(time);
  const seen = [];
  second.client.on('stage_change', ({ data }) => {
    seen.push(data.n);
  });
  second.client.connect();
  second.open('fake0000.1');
  await settle();
  equal([seen, second.client.export().events[0].metadata.processed, second.client.events.length], [[1], true, 1]);
  second.client.disconnect();
});

test('a resync that was not finished is told again after a reload', async ({ time }) => {
  const first = make(time);
  first.client.on('resync', () => new Promise(() => {}));
  first.client.connect();
  first.say('connected', { cursor: 'fake0000.9', head: 'fake0000.9', resume: 'reset' });
  first.say('reset', { reason: 'epoch', head: 'fake0000.9' }, { id: 'fake0000.9' });
  first.client.disconnect();
  const reasons = [];
  const second = make(time);
  second.client.on('resync', ({ data }) => {
    reasons.push(data.reason);
  });
  second.client.connect();
  await settle();
  second.client.disconnect();
  const third = make(time);
  third.client.on('resync', ({ data }) => {
    reasons.push(data.reason);
  });
  third.client.connect();
  await settle();
  equal(reasons, ['epoch']);
  third.client.disconnect();
});

test('acknowledge sets a flag that is kept', ({ time }) => {
  const { client, say, open } = make(time);
  client.connect();
  open();
  const id = say('stage_change', { data: { n: 1 } });
  ok(client.acknowledge(id) && !client.acknowledge('fake0000.99'));
  client.disconnect();
  equal([client.events[0].metadata.acknowledged, kept().events[0].metadata.acknowledged], [true, true]);
});

test('its own events can be left out', ({ time }) => {
  const { client, say, open } = make(time, { clientId: 'me', hideOwn: true });
  const view = client.subscribe({});
  client.connect();
  open();
  say('stage_change', { data: { n: 1 }, clientID: 'me' });
  say('stage_change', { data: { n: 2 }, clientID: 'other' });
  equal([numbers(client.events), numbers(view.events)], [[2], [2]]);
  client.disconnect();
});

test('each subscription has its own events', async ({ time }) => {
  const { client, source, say, open } = make(time);
  const a = client.subscribe({ orderID: 'A' });
  const b = client.subscribe({ orderID: 'B' });
  ok(source.lastInstance.url.includes('orderID=A&'));
  open();
  equal([a.isReady, b.isReady], [true, false]);
  await until(() => source.instances.length === 2);
  ok(source.lastInstance.url.includes('orderID=A%2CB'));
  open();
  ok(b.isReady);
  say('stage_change', { data: { n: 1 }, orderID: 'A' });
  say('stage_change', { data: { n: 2 }, orderID: 'B' });
  equal([numbers(a.events), numbers(b.events), b.latest.data.n], [[1], [2], 2]);
  a.end();
  b.end();
  client.disconnect();
});

test('what an earlier stream let through says nothing about the one that is being opened', async ({ time }) => {
  const { client, source, open } = make(time, { policy: { backoff: { baseS: 0.01, factor: 2, capS: 0.01 } } });
  const a = client.subscribe({ orderID: 'A' });
  const b = client.subscribe({ orderID: 'B' });
  await until(() => source.lastInstance.url.includes('orderID=A%2CB'));
  open();
  ok(a.isReady && b.isReady);
  b.end();
  await settle();
  const before = source.instances.length;
  source.lastInstance.simulateError();
  await until(() => source.instances.length > before);
  ok(source.lastInstance.url.includes('orderID=A&'));
  const again = client.subscribe({ orderID: 'B' });
  await settle();
  ok(!again.isReady);
  await until(() => source.lastInstance.url.includes('orderID=A%2CB'));
  open();
  ok(again.isReady);
  a.end();
  again.end();
  client.disconnect();
});

test('without listeners the connection ends, a moment later', async ({ time }) => {
  time.install();
  const { client, source, open } = make(time);
  const view = client.subscribe({ orderID: 'A' });
  open();
  view.end();
  await time.advance(0.5);
  const next = client.subscribe({ orderID: 'A' });
  await time.advance(5);
  equal([source.instances.length, client.state], [1, 'connected']);
  next.end();
  await time.advance(1.1);
  equal(client.state, 'closed');
});

test('a replica loads when the stream stands, and after a resync', async ({ time }) => {
  const { client, say, open, fetch } = make(time);
  const replica = client.replica({ kinds: ['orders'] });
  await settle();
  equal([replica.status, fetch.requests.length], ['empty', 0]);
  open();
  await until(() => replica.status === 'ready');
  const document = { orderID: 'A', version: 1, stage: 'empty', items: [], payment: {} };
  say('order_created', { data: { order: document }, version: 1, orderID: 'A' });
  equal(replica.list('orders'), [document]);
  say('reset', { reason: 'epoch', head: 'fake0001.0' }, { id: 'fake0001.0' });
  equal(replica.status, 'loading');
  await until(() => replica.status === 'ready');
  equal([replica.list('orders'), fetch.requests.length], [[], 2]);
  replica.close();
  client.disconnect();
});

test('a command is shown, sent, and ends with its answer', async ({ time }) => {
  const document = { orderID: 'A', version: 1, stage: 'initiated', items: [], payment: {} };
  const fetch = scriptedFetch(({ path }) =>
    path.endsWith('/snapshot')
      ? { body: { ...snapshot, orders: [document] } }
      : { body: { order: { ...document, version: 2, stage: 'in_progress' }, cursor: 'fake0000.9' } },
  );
  const { client, open } = make(time, { fetch });
  const heard = [];
  client.on('sync_applied', ({ data }) => {
    heard.push(data.action.name);
  });
  const replica = client.replica();
  open();
  await until(() => replica.status === 'ready');
  const { outcome } = client.send('orders.changeStage', { orderID: 'A', newStage: 'in_progress' });
  equal(
    [replica.get('orders', 'A').stage, replica.get('orders', 'A').version, client.health.queueDepth],
    ['in_progress', 1, 1],
  );
  await outcome;
  equal([replica.get('orders', 'A').version, client.actions.list, heard], [2, [], ['orders.changeStage']]);
  replica.close();
  client.disconnect();
});

test('a refused command is told with its problem and the document as it is', async ({ time }) => {
  const document = { orderID: 'A', version: 1, stage: 'initiated', items: [], payment: {} };
  const current = { order: { ...document, version: 2, stage: 'cancelled' } };
  const fetch = scriptedFetch(({ path }) =>
    path.endsWith('/snapshot')
      ? { body: { ...snapshot, orders: [document] } }
      : { status: 409, body: { title: 'Conflict', detail: 'too late', current } },
  );
  const { client, open } = make(time, { fetch });
  const heard = [];
  client.on('sync_failed', ({ data }) => {
    heard.push([data.action.given.orderID, data.problem.detail, data.current.order.version]);
  });
  const replica = client.replica();
  open();
  await until(() => replica.status === 'ready');
  const { outcome, key } = client.send('orders.changeStage', { orderID: 'A', newStage: 'in_progress' });
  await outcome;
  const entry = replica.entry('orders', 'A');
  equal(
    [heard, entry.document.stage, entry.failed.key === key, entry.pending],
    [[['A', 'too late', 2]], 'cancelled', true, []],
  );
  replica.close();
  client.disconnect();
});

test('commands can be queued before there is a connection', async ({ time }) => {
  const fetch = scriptedFetch(() => ({ status: 201, body: { cursor: 'fake0000.9' } }));
  const { client, open } = make(time, { fetch });
  const { key, outcome } = client.send('orders.create', {});
  await settle();
  equal([fetch.requests.length, client.actions.pending.map((action) => action.key)], [0, [key]]);
  client.connect();
  open();
  equal((await outcome).status, 'applied');
  client.disconnect();
});

test('wrong options and filters are told', ({ time }) => {
  throws(() => new SyncClient({ tennantId: 'x' }), ConfigurationError);
  throws(() => make(time).client.connect({ orderId: 'x' }), ConfigurationError);
});

test('a burst is one refresh, and none runs beside another', async ({ time }) => {
  let running = 0;
  const runs = [];
  const debounced = new Debounced(
    async () => {
      running += 1;
      runs.push(running);
      await new Promise((resolve) => setTimeout(resolve, 30));
      running -= 1;
    },
    { debounceMs: 5, atMostMs: 20, failed: () => {} },
  );
  for (let n = 0; n < 5; n += 1) debounced.trigger();
  await until(() => runs.length === 1);
  debounced.trigger();
  await until(() => runs.length === 2);
  equal(runs, [1, 1]);
  const began = performance.now();
  const steady = new Debounced(
    () => {
      runs.push('steady');
    },
    { debounceMs: 50, atMostMs: 60, failed: () => {} },
  );
  while (!runs.includes('steady')) {
    steady.trigger();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  ok(performance.now() - began < 2000, 'it does not wait for ever');
  steady.stop();
  ok(time);
});

test('the two events of one change of stage are one', () => {
  const seen = [];
  const take = stageChanges((event, before, after) => {
    seen.push(`${before} ${after}`);
  });
  const event = (seq, eventType, previousStage, newStage) =>
    take({ id: `aaaaaaaa.${seq}`, eventType, orderID: 'A', data: { previousStage, newStage } });
  event(1, 'stage_change', 'empty', 'initiated');
  event(2, 'order_stage_change', 'empty', 'initiated');
  event(3, 'stage_change', 'initiated', 'in_progress');
  event(90, 'order_stage_change', 'initiated', 'in_progress');
  event(91, 'stage_change', 'initiated', 'in_progress');
  take({ id: 'aaaaaaaa.92', eventType: 'payment_update', orderID: 'A', data: { newStage: 'x' } });
  equal(seen, ['empty initiated', 'initiated in_progress', 'initiated in_progress']);
});
