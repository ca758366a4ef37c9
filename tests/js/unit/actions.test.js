import { Actions } from '/js/actions.js';
import { Breaker } from '/js/breaker.js';
import { COMMANDS, requestOf } from '/js/commands.js';
import { ActionDatabase } from '/js/database.js';
import { Http } from '/js/http.js';
import { newId, newKey } from '/js/ids.js';
import { Tokens } from '/js/tokens.js';
import { equal, ok, scriptedFetch, settle, test, throws, until } from './harness.js';

const applied = ({ path }) => ({ body: { order: { orderID: path.split('/')[4], version: 2 }, cursor: 'aaaaaaaa.9' } });
const refusal = (status, more = {}) => ({
  status,
  body: { type: 'about:blank', title: 'No', detail: 'not so', ...more },
});

/** One tab's queue over a real IndexedDB; `name` is shared by tabs of one browser. */
async function make(
  time,
  { answer = applied, name = newId(), token = null, onConflict = null, lead = true, database } = {},
) {
  const fetch = scriptedFetch(answer);
  const { clock, wallMs } = time;
  const tokens = new Tokens(token);
  const http = new Http({
    baseUrl: '/',
    fetch,
    tokens,
    breaker: new Breaker({ clock, rng: () => 0.5 }),
    clock,
    clientId: 'till-1',
    csrf: { header: 'X-CSRF-Token', cookie: 'order_sync_csrf' },
  });
  const seen = { ended: [], shared: [] };
  const actions = new Actions({
    database: database ?? new ActionDatabase({ indexedDB, name }),
    http,
    commands: COMMANDS,
    clientId: 'till-1',
    rng: () => 0.001,
    wallMs,
    onConflict,
    share: (message) => seen.shared.push(message),
    handlers: {
      changed: () => {},
      ended: (action, outcome) => seen.ended.push([action.given.orderID ?? action.name, outcome.status]),
    },
  });
  if (lead) actions.lead(true);
  await actions.load();
  const move = (orderID, options) => actions.send('orders.changeStage', { orderID, newStage: 'in_progress' }, options);
  const keys = () => fetch.requests.map(({ headers }) => headers['Idempotency-Key']);
  return { actions, fetch, seen, move, name, keys, http };
}

test('commands are sent in order, with a key each', async ({ time }) => {
  const { actions, fetch, seen, move, keys } = await make(time);
  const sent = ['A', 'B', 'C'].map((id) => move(id, id === 'C' ? { ifMatch: 7 } : {}));
  equal(
    actions.pending.map(({ given }) => given.orderID),
    ['A', 'B', 'C'],
    'shown at once',
  );
  const outcomes = await Promise.all(sent.map(({ outcome }) => outcome));
  equal(
    outcomes.map(({ status }) => status),
    ['applied', 'applied', 'applied'],
  );
  equal(
    fetch.requests.map(({ method, path, body }) => [method, path, body]),
    ['A', 'B', 'C'].map((id) => ['POST', `/api/v1/orders/${id}/stage`, { newStage: 'in_progress' }]),
  );
  equal(
    keys(),
    sent.map(({ key }) => key),
  );
  equal(
    fetch.requests.map(({ headers }) => [headers['X-Client-ID'], headers['If-Match'] ?? null]),
    [
      ['till-1', null],
      ['till-1', null],
      ['till-1', '"7"'],
    ],
  );
  equal(
    [seen.ended, actions.list],
    [
      [
        ['A', 'applied'],
        ['B', 'applied'],
        ['C', 'applied'],
      ],
      [],
    ],
  );
});

test('state-changing requests carry the CSRF token of the cookie', async ({ time }) => {
  document.cookie = 'order_sync_csrf=a%20b';
  const { move, fetch } = await make(time);
  await move('A').outcome;
  document.cookie = 'order_sync_csrf=; max-age=0';
  equal(fetch.requests[0].headers['X-CSRF-Token'], 'a b');
});

test('a refusal does not hold up the rest', async ({ time }) => {
  const { actions, move, seen } = await make(time, {
    answer: (request) => (request.path.includes('/B/') ? refusal(422) : applied(request)),
  });
  const sent = ['A', 'B', 'C'].map((id) => move(id));
  const outcomes = await Promise.all(sent.map(({ outcome }) => outcome));
  equal(
    outcomes.map(({ status }) => status),
    ['applied', 'rejected', 'applied'],
  );
  equal([outcomes[1].problem.detail, seen.ended[1]], ['not so', ['B', 'rejected']]);
  equal(
    actions.failed.map(({ given, state, problem }) => [given.orderID, state, problem.status ?? problem.title]),
    [['B', 'failed', 'No']],
  );
});

test('what may pass is sent again with the same key', async ({ time }) => {
  time.install();
  const answers = [
    () => {
      throw new TypeError('Failed to fetch');
    },
    () => refusal(503, { type: 'outcome-unknown' }),
    () => refusal(429),
    () => ({ status: 200, body: '<html>log in to the hotel</html>' }),
    () => refusal(408),
    () => refusal(425),
    applied,
  ];
  const { move, keys, fetch } = await make(time, { answer: (request, number) => answers[number - 1](request) });
  const { key, outcome } = move('A');
  let status;
  outcome.then((ended) => {
    status = ended.status;
  });
  await until(async () => {
    await time.advance(15);
    return status !== undefined;
  });
  equal([status, fetch.requests.length], ['applied', answers.length]);
  equal(new Set(keys()), new Set([key]));
});

test('a reload in the middle sends it again with the same key, before the rest', async ({ time }) => {
  const first = await make(time, { answer: () => new Promise(() => {}) });
  const sent = ['A', 'B', 'C'].map((id) => first.move(id));
  await Promise.all(sent.map(({ saved }) => saved));
  await until(() => first.fetch.requests.length === 1);
  first.actions.lead(false);
  const second = await make(time, { name: first.name });
  await until(() => second.actions.list.length === 0);
  equal(
    second.keys(),
    sent.map(({ key }) => key),
  );
  const third = await make(time, { name: first.name });
  equal([third.actions.list, third.fetch.requests], [[], []]);
});

test('twenty actions queued offline are each sent once after a reload', async ({ time }) => {
  const first = await make(time, { lead: false });
  const sent = Array.from({ length: 20 }, (_, n) => first.move(`O${n}`));
  await Promise.all(sent.map(({ saved }) => saved));
  const second = await make(time, { name: first.name });
  await until(() => second.actions.list.length === 0);
  equal(
    second.keys(),
    sent.map(({ key }) => key),
  );
});

test('failed ones are still there after a reload', async ({ time }) => {
  const first = await make(time, { answer: () => refusal(409, { current: { order: { orderID: 'A', version: 3 } } }) });
  const { outcome } = first.move('A');
  equal((await outcome).current, { order: { orderID: 'A', version: 3 } });
  await settle();
  let second;
  await until(async () => {
    second = await make(time, { name: first.name });
    return second.actions.failed.length === 1;
  });
  equal([second.actions.failed[0].problem.detail, second.fetch.requests.length], ['not so', 0]);
});

test('a retry is a new command with a new key, a discarded one is gone', async ({ time }) => {
  let refuse = true;
  const { actions, move, keys } = await make(time, { answer: (request) => (refuse ? refusal(409) : applied(request)) });
  await move('A').outcome;
  await move('B').outcome;
  refuse = false;
  const [a, b] = actions.failed.map(({ key }) => key);
  const retried = actions.retry(a);
  ok(actions.discard(b) && !actions.discard(b) && actions.retry(b) === null);
  equal([(await retried.outcome).status, retried.key === a], ['applied', false]);
  equal([actions.list, new Set(keys()).size], [[], 3]);
});

test('a program may rebase what met a conflict', async ({ time }) => {
  const { move, fetch, seen, actions } = await make(time, {
    answer: (request, number) =>
      number === 1
        ? refusal(409, { current: { order: { orderID: 'A', stage: 'completed', version: 3 } } })
        : applied(request),
    onConflict: ({ given, current }) =>
      current.order.stage === 'completed' ? { ...given, newStage: 'cancelled' } : null,
  });
  move('A');
  await until(() => fetch.requests.length === 2 && actions.list.length === 0);
  const [first, second] = fetch.requests;
  equal(
    [second.body, first.headers['Idempotency-Key'] === second.headers['Idempotency-Key']],
    [{ newStage: 'cancelled' }, false],
  );
  equal(
    seen.ended.map(([, status]) => status),
    ['rejected', 'applied'],
  );
});

test('without a login it pauses and goes on after one', async ({ time }) => {
  let isIn = false;
  const { actions, move, fetch } = await make(time, { answer: (request) => (isIn ? applied(request) : refusal(401)) });
  const { outcome } = move('A');
  await until(() => actions.paused === 'unauthorized');
  equal([actions.pending.length, fetch.requests.length], [1, 1]);
  isIn = true;
  actions.wake();
  equal((await outcome).status, 'applied');
});

test('a new connection ends a pause early, but not one that the server asked for', async ({ time }) => {
  time.install();
  for (const [headers, isEnded] of [[{}, true], [{ 'Retry-After': '5' }, false]]) {
    const { actions, move, fetch } = await make(time, {
      answer: (request, n) => (n > 1 ? applied(request) : { ...refusal(503), headers }),
    });
    const { outcome } = move('A');
    await until(() => fetch.requests.length === 1 && actions.pending[0].state === 'queued');
    actions.wake();
    if (!isEnded) {
      await time.advance(4);
      equal(fetch.requests.length, 1);
      await time.advance(1);
      await time.advance(2); // jitter
    }
    equal((await outcome).status, 'applied');
  }
});

test('an expired token is renewed once, in place', async ({ time }) => {
  let tokens = 0;
  const { move, fetch } = await make(time, {
    token: () => `t${(tokens += 1)}`,
    answer: (request) => (request.headers.Authorization === 'Bearer t1' ? refusal(401) : applied(request)),
  });
  equal((await move('A').outcome).status, 'applied');
  equal(
    fetch.requests.map(({ headers }) => headers.Authorization),
    ['Bearer t1', 'Bearer t2'],
  );
});

test('what may be forgotten by the server is parked for a person', async ({ time }) => {
  const first = await make(time, { answer: () => new Promise(() => {}) });
  const { saved } = first.move('A');
  await saved;
  await until(() => first.fetch.requests.length === 1);
  first.actions.lead(false);
  time.nowMs += 6 * 24 * 3600 * 1000 + 1000;
  const second = await make(time, { name: first.name });
  await until(() => second.actions.failed.length === 1);
  equal([second.actions.failed[0].state, second.fetch.requests.length], ['parked', 0]);
});

test('one tab sends for all, and all learn how it ended', async ({ time }) => {
  const leader = await make(time);
  const other = await make(time, { name: leader.name, lead: false });
  const { saved, outcome } = other.move('A');
  await saved;
  equal([other.fetch.requests.length, other.seen.shared.map(({ kind }) => kind)], [0, ['action']]);
  other.seen.shared.forEach((message) => leader.actions.hear(message));
  await until(() => leader.actions.list.length === 0);
  leader.seen.shared.forEach((message) => other.actions.hear(message));
  equal([(await outcome).status, other.actions.list, leader.fetch.requests.length], ['applied', [], 1]);
  equal(leader.fetch.requests[0].headers['X-Client-ID'], 'till-1');
});

test('what ended while the disk was read is not brought back by it', async ({ time }) => {
  const action = {
    key: 'k',
    n: 1,
    name: 'orders.delete',
    given: { orderID: 'A' },
    ifMatch: null,
    clientId: 'x',
    state: 'queued',
    createdAt: '',
    firstSentMs: 1,
  };
  let give;
  const database = {
    all: () =>
      new Promise((resolve) => {
        give = resolve;
      }),
    put() {},
    delete() {},
    problem: '',
  };
  const { clock } = time;
  const actions = new Actions({
    database,
    http: {},
    commands: COMMANDS,
    clientId: 'x',
    share: () => {},
    clock,
    handlers: { changed: () => {}, ended: () => {} },
  });
  const loading = actions.load();
  actions.hear({ kind: 'ended', action, outcome: { status: 'applied', answer: {} } });
  give([action]);
  await loading;
  equal(actions.list, []);
});

test('who takes over sends what the other was sending', async ({ time }) => {
  const leader = await make(time, { answer: () => new Promise(() => {}) });
  const next = await make(time, { name: leader.name, lead: false });
  const sent = [leader.move('A'), leader.move('B')];
  await Promise.all(sent.map(({ saved }) => saved));
  await until(() => leader.fetch.requests.length === 1);
  leader.seen.shared.forEach((message) => next.actions.hear(message));
  next.actions.lead(true);
  await until(() => next.actions.list.length === 0);
  equal(
    next.keys(),
    sent.map(({ key }) => key),
  );
});

test('without IndexedDB it works from memory, and says so', async ({ time }) => {
  const { move, actions } = await make(time, { database: new ActionDatabase({ indexedDB: null, name: 'x' }) });
  equal((await move('A').outcome).status, 'applied');
  ok(actions.problem.includes('IndexedDB'));
});

test('a command that cannot be one is told at once', async ({ time }) => {
  const { actions } = await make(time);
  throws(() => actions.send('orders.explode', {}), TypeError);
  throws(() => actions.send('orders.changeStage', { newStage: 'x' }), TypeError);
  equal(actions.list, []);
});

test('a request is path, body and nothing else', () => {
  const request = (name, given) => Object.values(requestOf(COMMANDS[name], given));
  equal(request('orders.changeStage', { orderID: 'a/b ü', newStage: 'x' }), [
    'POST',
    'api/v1/orders/a%2Fb%20%C3%BC/stage',
    { newStage: 'x' },
  ]);
  equal(request('queues.leave', { queueID: 'q', orderID: 'o' }), ['DELETE', 'api/v1/queues/q/entries/o', undefined]);
  equal(request('bays.finishJob', { bayID: 'b', jobID: 'j' }), ['POST', 'api/v1/bays/b/jobs/j/finish', undefined]);
  equal(request('orders.edit', { orderID: 'o', notes: null, items: undefined }), [
    'PATCH',
    'api/v1/orders/o',
    { notes: null },
  ]);
});

test('ids and keys are what the server takes', () => {
  ok(/^[23456789abcdefghjkmnpqrstuvwxyz]{12}$/.test(newId()) && newId() !== newId());
  ok(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(newKey()));
});
