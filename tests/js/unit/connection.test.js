import { Breaker } from '/js/breaker.js';
import { Connection } from '/js/connection.js';
import { Filter } from '/js/filter.js';
import { Http } from '/js/http.js';
import { Intake } from '/js/intake.js';
import { LIMITS, POLICY, Signal } from '/js/states.js';
import { fakeEventSource } from '/js/testing.js';
import { Tokens } from '/js/tokens.js';
import { equal, ok, scriptedFetch, settle, test } from './harness.js';

const CURSOR = 'aaaaaaaa.5';
const page = (more = {}) => ({
  body: { events: [], cursor: CURSOR, head: CURSOR, upToDate: true, pollAfterMs: 1000, ...more },
});

/** A connection in time that stands still, with a network that does what the test says. */
function make(time, { answer = () => page(), policy = {}, token = null, filter = {}, baseUrl = '/' } = {}) {
  time.install();
  const fetch = scriptedFetch(answer);
  const factory = fakeEventSource();
  const tokens = new Tokens(token);
  const { clock, wallMs } = time;
  const rng = () => 0.5;
  const breaker = new Breaker({ clock, rng });
  const http = new Http({
    baseUrl,
    fetch,
    tokens,
    breaker,
    clock,
    clientId: 'me',
    csrf: { header: 'X-CSRF-Token', cookie: 'csrf' },
  });
  const seen = { states: [], numbers: [], resyncs: [], opened: 0 };
  const intake = new Intake({
    clock,
    wallMs,
    handlers: {
      events: (events) => seen.numbers.push(...events.map(({ data }) => data.n)),
      resync: (reason) => seen.resyncs.push(reason),
      control: () => {},
    },
  });
  const connection = new Connection({
    http,
    intake,
    clock,
    rng,
    factory,
    policy: { ...POLICY, ...policy },
    limits: LIMITS,
    isHidden: () => false,
    filter: () => Filter.read(filter),
    types: () => ['connected', 'heartbeat', 'goodbye', 'reset', 'stage_change'],
    changed: (before, after) => after.state !== before.state && seen.states.push(`${after.state}: ${after.reason}`),
    opened: () => {
      seen.opened += 1;
    },
  });
  const open = (more = {}) =>
    factory.lastInstance.simulateEvent('connected', {
      cursor: CURSOR,
      head: CURSOR,
      resume: 'now',
      heartbeatSeconds: 15,
      ...more,
    });
  const event = (n) => factory.lastInstance.simulateEvent('stage_change', { data: { n } }, { id: `aaaaaaaa.${n}` });
  return { connection, factory, fetch, seen, intake, open, event, http, breaker, tokens };
}

const polls = (fetch) => fetch.requests.filter(({ path }) => path.endsWith('/poll'));

test('a stream without credentials is opened in the very step', ({ time }) => {
  const { connection, factory, seen, open, event } = make(time, { filter: { orderID: 'A' } });
  connection.signal(Signal.CONNECT);
  ok(factory.lastInstance.url.endsWith('/api/v1/sync/events?orderID=A&lastEventId=now'), factory.lastInstance.url);
  open();
  event(6);
  equal([seen.states, seen.numbers, seen.opened], [['connecting: ', 'connected: '], [6], 1]);
  connection.signal(Signal.CLOSE);
  equal(factory.lastInstance.readyState, 2);
});

test('every source gets a ticket of its own', async ({ time }) => {
  let tickets = 0;
  const { connection, factory, fetch, open } = make(time, {
    token: async () => 'secret',
    answer: ({ path }) =>
      path.endsWith('/tickets') ? { status: 201, body: { ticket: `t${(tickets += 1)}` } } : page(),
  });
  connection.signal(Signal.CONNECT);
  await settle();
  ok(factory.lastInstance.url.includes('ticket=t1'));
  open();
  factory.lastInstance.simulateError();
  await time.advance(1);
  ok(factory.lastInstance.url.includes('ticket=t2') && factory.lastInstance.url.includes(`lastEventId=${CURSOR}`));
  equal(
    fetch.requests.map(({ method, path, headers }) => [method, path, headers.Authorization]),
    [
      ['POST', '/api/v1/auth/tickets', 'Bearer secret'],
      ['POST', '/api/v1/auth/tickets', 'Bearer secret'],
    ],
  );
  ok(!factory.instances.some(({ url }) => url.includes('secret')));
});

test('a refused ticket asks for one new token, then it is over', async ({ time }) => {
  let tokens = 0;
  const { connection, factory, seen } = make(time, {
    token: () => `token${(tokens += 1)}`,
    answer: () => ({ status: 401, body: { detail: 'expired' } }),
  });
  connection.signal(Signal.CONNECT);
  await time.advance(60);
  equal([tokens, factory.instances.length, seen.states.at(-1)], [2, 0, 'failed: 401 expired']);
});

test('a token that expires is renewed and the stream goes on at the cursor', async ({ time }) => {
  let tokens = 0;
  const { connection, factory, seen, open, event } = make(time, {
    token: () => `token${(tokens += 1)}`,
    answer: () => ({ status: 201, body: { ticket: 't' } }),
  });
  connection.signal(Signal.CONNECT);
  await settle();
  open();
  event(6);
  factory.lastInstance.simulateEvent('goodbye', { reason: 'token_expired' });
  await settle();
  equal([tokens, factory.instances.length], [2, 2]);
  ok(factory.lastInstance.url.includes('lastEventId=aaaaaaaa.6'));
  open();
  equal(seen.states, ['connecting: ', 'connected: ', 'reconnecting: token_expired', 'connected: ']);
});

test('a token that has expired is not shown again, however short it lives', async ({ time }) => {
  let tokens = 0;
  const { connection, fetch, factory, open } = make(time, {
    token: () => `token${(tokens += 1)}`,
    answer: () => ({ status: 201, body: { ticket: 't' } }),
  });
  connection.signal(Signal.CONNECT);
  await settle();
  for (let n = 1; n <= 6; n += 1) {
    open();
    await time.advance(0.6);
    factory.lastInstance.simulateEvent('goodbye', { reason: 'token_expired' });
    await time.advance(0.6);
  }
  equal(
    fetch.requests.map(({ headers }) => headers.Authorization),
    [1, 2, 3, 4, 5, 6, 7].map((n) => `Bearer token${n}`),
  );
});

test('the poll says why a stream was refused', async ({ time }) => {
  const states = {
    204: 'closed',
    401: 'failed',
    403: 'failed',
    400: 'failed',
    404: 'failed',
    429: 'error',
    500: 'error',
  };
  for (const [status, told] of Object.entries(states)) {
    const { connection, factory, fetch, seen } = make(time, {
      filter: { orderID: 'A' },
      answer: () => ({ status: Number(status), body: { detail: 'because' }, headers: { 'Retry-After': '7' } }),
    });
    connection.signal(Signal.CONNECT);
    factory.lastInstance.simulateError({ refused: true });
    await settle();
    equal(seen.states.at(-1).split(':')[0], told, status);
    equal(
      fetch.requests.map(({ params }) => params),
      [{ orderID: 'A', limit: '1' }],
    );
    if (told === 'error') equal(connection.machine.notBeforeS > time.clock() + 6.9, true, 'Retry-After');
    connection.abandon();
  }
});

test('a stream that is refused while polls are answered is tried again', async ({ time }) => {
  const { connection, factory, seen } = make(time);
  connection.signal(Signal.CONNECT);
  factory.lastInstance.simulateError({ refused: true });
  await settle();
  equal(seen.states.at(-1), 'error: the stream was refused, though polls are answered');
  await time.advance(1);
  equal(factory.instances.length, 2);
});

test('five failed attempts lead to polling, and a probe back', async ({ time }) => {
  const { connection, factory, fetch, seen, open, event } = make(time, {
    answer: ({ params }, number) =>
      page(
        number === 1
          ? {
              events: [{ id: 'aaaaaaaa.6', eventType: 'stage_change', data: { n: 6 } }],
              cursor: 'aaaaaaaa.6',
            }
          : { cursor: params.after },
      ),
  });
  connection.signal(Signal.CONNECT);
  for (let n = 1; n <= 5; n += 1) {
    factory.lastInstance.simulateError();
    for (let tenths = 0; n < 5 && factory.instances.length === n && tenths < 400; tenths += 1) await time.advance(0.1);
  }
  await settle();
  equal([seen.states.at(-1), seen.numbers], ['polling_fallback: no connection', [6]]);
  await time.advance(14);
  ok(polls(fetch).length >= 10);
  equal(factory.instances.length, 5);
  await time.advance(2);
  equal(factory.instances.length, 6, 'the probe');
  ok(factory.lastInstance.url.includes('lastEventId=aaaaaaaa.6'));
  event(6); // what the poll has brought already
  open({ resume: 'resumed' });
  event(7);
  const count = polls(fetch).length;
  await time.advance(5);
  equal([seen.numbers, seen.states.at(-1), polls(fetch).length - count], [[6, 7], 'connected: ', 0]);
});

test('no first event while a plain request is answered means a proxy that holds back', async ({ time }) => {
  const { connection, fetch, seen } = make(time);
  connection.signal(Signal.CONNECT);
  await time.advance(2.4);
  equal(fetch.requests.length, 0);
  await time.advance(0.2);
  equal([fetch.requests.length, seen.states.at(-1)], [1, 'error: no first byte']);
  await time.advance(4);
  equal(seen.states.at(-1), 'polling_fallback: a proxy on the way holds the stream back');
});

test('silence of two and a half heartbeats ends a stream', async ({ time }) => {
  const { connection, factory, seen, open } = make(time);
  connection.signal(Signal.CONNECT);
  open({ heartbeatSeconds: 2 });
  await time.advance(4.9);
  factory.lastInstance.simulateEvent('heartbeat', {}, { id: CURSOR });
  await time.advance(4.9);
  equal(seen.states.at(-1), 'connected: ');
  await time.advance(0.2);
  equal(seen.states.at(-1), 'reconnecting: silence');
});

test('a goodbye is no failure', async ({ time }) => {
  const { connection, factory, seen, open } = make(time);
  connection.signal(Signal.CONNECT);
  open();
  await time.advance(30);
  factory.lastInstance.simulateEvent('goodbye', { reason: 'max_age' });
  await time.advance(1);
  equal([factory.instances.length, connection.machine.attempt, seen.states.at(-1)], [2, 0, 'reconnecting: max_age']);
});

test('a goodbye for a dead log is waited out', async ({ time }) => {
  const { connection, factory, open } = make(time);
  connection.signal(Signal.CONNECT);
  open();
  await time.advance(30);
  factory.lastInstance.simulateEvent('goodbye', { reason: 'log_unavailable' });
  await time.advance(19);
  equal(factory.instances.length, 1);
  await time.advance(2);
  equal(factory.instances.length, 2);
});

test('an expired cursor while polling goes on at the head, not at once', async ({ time }) => {
  const { connection, factory, fetch, seen, intake } = make(time, {
    policy: { maxReconnectAttempts: 1 },
    answer: (_, number) =>
      number === 1
        ? { status: 410, body: { reason: 'expired', head: 'aaaaaaaa.90' } }
        : page({ cursor: 'aaaaaaaa.90' }),
  });
  connection.signal(Signal.CONNECT);
  factory.lastInstance.simulateError();
  await settle();
  equal([seen.resyncs, intake.received, polls(fetch).length], [['expired'], 'aaaaaaaa.90', 1]);
  await time.advance(0.6);
  equal([polls(fetch).length, polls(fetch)[1].params.after], [2, 'aaaaaaaa.90']);
});

test('five failed polls open the breaker, and streams go on being tried', async ({ time }) => {
  const { connection, factory, fetch, breaker } = make(time, {
    policy: { maxReconnectAttempts: 1 },
    answer: () => ({ status: 502, body: 'bad gateway' }),
  });
  connection.signal(Signal.CONNECT);
  factory.lastInstance.simulateError();
  for (let n = 0; n < 60 && breaker.state !== 'open'; n += 1) await time.advance(1);
  equal([breaker.state, polls(fetch).length], ['open', 5]);
  await time.advance(9);
  equal([polls(fetch).length, connection.counts.failedPolls], [5, 5], 'our own caution is no failure');
  ok(factory.instances.length >= 2, 'a probe');
});

test('a server that lets nobody stay is not asked in a loop', async ({ time }) => {
  const { connection, factory, seen, open } = make(time, { policy: { polling: false } });
  connection.signal(Signal.CONNECT);
  for (let n = 0; n < 40; n += 1) {
    open();
    factory.lastInstance.simulateEvent('goodbye', { reason: 'max_age' });
    await time.advance(1);
  }
  ok(factory.instances.length < 25, `${factory.instances.length} streams in 40 s`);
  ok(seen.states.length > 5);
});

test('a page that promises more and brings nothing is not asked for again at once', async ({ time }) => {
  const { connection, factory, fetch } = make(time, {
    policy: { maxReconnectAttempts: 1 },
    answer: () => page({ hasMore: true, pollAfterMs: 3000 }),
  });
  connection.signal(Signal.CONNECT);
  factory.lastInstance.simulateError();
  await time.advance(2);
  equal(polls(fetch).length, 2, 'the first moved the cursor');
});

test('whatever asks for a new stream again and again is slowed down', async ({ time }) => {
  const { connection, factory, open } = make(time);
  connection.signal(Signal.CONNECT);
  open();
  for (let n = 0; n < 9; n += 1) connection.signal(Signal.REOPEN);
  equal([factory.instances.length, connection.counts.spins], [5, 1]);
  await time.advance(1);
  equal(factory.instances.length, 5);
  await time.advance(2);
  equal(factory.instances.length, 6);
});

test('after a sleep it reconnects at once', async ({ time }) => {
  const { connection, factory, open } = make(time);
  connection.signal(Signal.CONNECT);
  open({ heartbeatSeconds: 600 });
  await time.advance(2);
  time.nowMs += 30_000; // nothing ran meanwhile
  await time.advance(1);
  equal([factory.instances.length, connection.machine.reason], [2, 'woke up']);
});

test('offline ends a stream if the server is really gone', async ({ time }) => {
  const { connection, seen, open } = make(time, {
    answer: () => {
      throw new TypeError('Failed to fetch');
    },
  });
  connection.signal(Signal.CONNECT);
  open();
  connection.suspect();
  await settle();
  equal(seen.states.at(-1), 'reconnecting: offline');
});

test('offline means nothing if the server is on this machine', async ({ time }) => {
  const { connection, seen, open } = make(time);
  connection.signal(Signal.CONNECT);
  open();
  connection.suspect();
  await settle();
  equal(seen.states.at(-1), 'connected: ');
});

test('a page that polls and is looked at again polls at once', async ({ time }) => {
  const { connection, factory, fetch } = make(time, {
    policy: { maxReconnectAttempts: 1 },
    answer: () => page({ pollAfterMs: 60_000 }),
  });
  connection.signal(Signal.CONNECT);
  factory.lastInstance.simulateError();
  await time.advance(5);
  connection.look();
  await settle();
  equal(polls(fetch).length, 1, 'not yet');
  await time.advance(9);
  connection.look();
  await settle();
  equal(polls(fetch).length, 2);
});

test('a page that waits and is looked at again tries at once', async ({ time }) => {
  const { connection, factory, open } = make(time, {
    policy: { backoff: { baseS: 600, factor: 1, capS: 600 }, patienceS: 900 },
  });
  connection.signal(Signal.CONNECT);
  open();
  factory.lastInstance.simulateError();
  connection.look();
  equal(factory.instances.length, 2);
});

test('nothing runs any more after abandon', async ({ time }) => {
  const { connection, factory, fetch, open, event, seen } = make(time);
  connection.signal(Signal.CONNECT);
  open();
  const source = factory.lastInstance;
  connection.abandon();
  event(9);
  await time.advance(600);
  equal([source.readyState, factory.instances.length, fetch.requests.length, seen.numbers], [2, 1, 0, []]);
});

test('an address that is none fails at once', ({ time }) => {
  const { connection, seen } = make(time, { baseUrl: 'http://[' });
  connection.signal(Signal.CONNECT);
  equal([seen.states.at(-1).split(':')[0], connection.machine.active.size], ['failed', 0]);
  ok(seen.states.at(-1).includes('http://['));
});
