import { COMMANDS, total } from '/js/commands.js';
import { Filter } from '/js/filter.js';
import { allCarried, carried, KINDS } from '/js/kinds.js';
import { Replica } from '/js/replica.js';
import { equal, ok, seeded, settle, test } from './harness.js';
import { Refused } from '/js/errors.js';

const order = (orderID, version, more = {}) => ({
  orderID,
  version,
  stage: 'initiated',
  items: [],
  payment: { status: 'pending', amount: '0.00', currency: 'USD' },
  createdAt: '2026-11-20T09:00:00.000Z',
  updatedAt: '2026-11-20T09:00:00.000Z',
  ...more,
});
const updated = (document, seq = 0) => ({
  id: `aaaaaaaa.${seq}`,
  eventType: 'order_updated',
  data: { order: document },
  version: document.version,
  orderID: document.orderID,
  ...(document.bayID ? { bayID: document.bayID } : {}),
});
const deleted = (orderID, version, seq = 0) => ({
  id: `aaaaaaaa.${seq}`,
  eventType: 'order_deleted',
  data: { deleted: true, order: { orderID } },
  version,
  orderID,
});
const pendingStage = (orderID, newStage, key = 'k') => ({
  key,
  name: 'orders.changeStage',
  given: { orderID, newStage },
  createdAt: '2026-11-20T10:00:00.000Z',
});

function make(
  time,
  {
    snapshot = () => ({ cursor: 'aaaaaaaa.5', orders: [] }),
    filter = {},
    kinds = ['orders'],
    commands = COMMANDS,
  } = {},
) {
  const seen = { changes: [], requests: [] };
  const http = {
    get: async (path, { params }) => {
      seen.requests.push(params);
      return snapshot(params, seen.requests.length);
    },
  };
  const replica = new Replica({
    http,
    kinds,
    filter: Filter.read(filter),
    commands,
    rng: () => 0.5,
    nowMs: time.wallMs,
  });
  replica.subscribe(({ ids, isReset }) => {
    if (ids.size || isReset)
      seen.changes.push(isReset ? 'reset' : [...ids].map(([kind, set]) => `${kind} ${[...set]}`).join('; '));
  });
  const stages = () => Object.fromEntries(replica.list('orders').map(({ orderID, stage }) => [orderID, stage]));
  const versions = () => Object.fromEntries(replica.list('orders').map(({ orderID, version }) => [orderID, version]));
  return { replica, seen, stages, versions };
}

test('it is the snapshot, and the feed on top of it', async ({ time }) => {
  const { replica, seen, versions } = make(time, {
    snapshot: () => ({ cursor: 'aaaaaaaa.5', orders: [order('A', 1), order('B', 1)] }),
  });
  equal([replica.status, replica.list('orders')], ['empty', []]);
  await replica.load('aaaaaaaa.5');
  equal([replica.status, replica.cursor, versions()], ['ready', 'aaaaaaaa.5', { A: 1, B: 1 }]);
  replica.take(updated(order('A', 2), 6));
  replica.take(deleted('B', 2, 7));
  replica.take(updated(order('C', 1), 8));
  equal(versions(), { A: 2, C: 1 });
  equal(seen.changes, ['reset', 'orders A', 'orders B', 'orders C']);
  equal(seen.requests, [{ kinds: 'orders', limit: '1000' }]);
});

test('the newest version wins, wherever it comes from', async ({ time }) => {
  const { replica, versions } = make(time, { snapshot: () => ({ cursor: 'aaaaaaaa.5', orders: [order('A', 4)] }) });
  await replica.load();
  replica.take(updated(order('A', 3)));
  replica.take(updated(order('A', 4, { stage: 'cancelled' })));
  equal([versions(), replica.get('orders', 'A').stage], [{ A: 4 }, 'initiated']);
  replica.take(deleted('A', 5));
  replica.take(updated(order('A', 4)));
  equal(versions(), {});
  replica.take(updated(order('A', 6)));
  equal(versions(), { A: 6 });
});

test('what comes while the snapshot is under way is applied after it', async ({ time }) => {
  let give;
  const { replica, versions } = make(time, {
    snapshot: () =>
      new Promise((resolve) => {
        give = resolve;
      }),
  });
  const loading = replica.load('aaaaaaaa.1');
  replica.take(updated(order('A', 3)));
  replica.take(updated(order('B', 1)));
  replica.take(deleted('B', 2));
  replica.take(updated(order('D', 9)));
  replica.setActions({ pending: [], failed: [] }, { status: 'applied', answer: { order: order('E', 5) } });
  replica.take(updated(order('E', 4))); // the feed is behind the answer
  await settle();
  equal(versions(), {});
  give({ cursor: 'aaaaaaaa.5', orders: [order('A', 2), order('C', 1), order('D', 10)] });
  await loading;
  equal(versions(), { A: 3, C: 1, D: 10, E: 5 });
});

test('a snapshot comes in pages, of which the newest version counts', async ({ time }) => {
  const pages = {
    undefined: { cursor: 'aaaaaaaa.5', orders: [order('A', 1)], pageToken: 'p2' },
    p2: { cursor: 'aaaaaaaa.9', orders: [order('A', 2), order('B', 7)], pageToken: 'p3' },
    p3: { cursor: 'aaaaaaaa.9', orders: [order('B', 6)] },
  };
  const { replica, versions, seen } = make(time, { snapshot: ({ pageToken }) => pages[pageToken] });
  await replica.load();
  equal([versions(), replica.cursor, seen.requests.length], [{ A: 2, B: 7 }, 'aaaaaaaa.5', 3]);
});

test('a snapshot that fails is tried again, one that is refused is told', async ({ time }) => {
  time.install();
  const failing = make(time, {
    snapshot: (_, number) => {
      if (number < 3) throw new TypeError('off');
      return { cursor: 'aaaaaaaa.5', orders: [order('A', 1)] };
    },
  });
  failing.replica.load();
  await time.advance(10);
  equal([failing.replica.status, failing.versions()], ['ready', { A: 1 }]);
  const refused = make(time, {
    snapshot: () => {
      throw new Refused('404', { status: 404, problem: { title: 'No' } });
    },
  });
  refused.replica.load();
  await time.advance(1);
  equal(
    [refused.replica.status, refused.replica.problem, refused.seen.requests.length],
    ['failed', { title: 'No' }, 1],
  );
});

test('a snapshot of a server process that lags behind is asked for again', async ({ time }) => {
  time.install();
  const { replica, versions } = make(time, {
    snapshot: (_, number) => ({ cursor: `aaaaaaaa.${number * 3}`, orders: [order('A', number)] }),
  });
  replica.load('aaaaaaaa.5');
  await time.advance(2);
  equal([replica.status, versions()], ['ready', { A: 2 }]);
});

test('a new load takes the place of all that was known', async ({ time }) => {
  const { replica, versions, seen } = make(time, {
    snapshot: (_, number) => ({
      cursor: `bbbbbbb${number}.1`,
      orders: number === 1 ? [order('A', 9), order('B', 9)] : [order('A', 1)],
    }),
  });
  await replica.load();
  await replica.load();
  equal([versions(), seen.changes], [{ A: 1 }, ['reset', 'reset']]);
});

test('what leaves the filter leaves the copy', async ({ time }) => {
  const { replica, versions, seen } = make(time, {
    filter: { bayID: '1' },
    snapshot: () => ({ cursor: 'aaaaaaaa.5', orders: [order('A', 1, { bayID: '1' })] }),
  });
  await replica.load();
  replica.take(updated(order('B', 1, { bayID: '2' })));
  equal(versions(), { A: 1 });
  replica.take(updated(order('A', 2, { bayID: '2' })));
  equal(versions(), {});
  replica.take(updated(order('A', 3, { bayID: '1' })));
  equal([versions(), seen.requests[0].bayID], [{ A: 3 }, '1']);
});

test('removed takes a document away, unless it is newer here', async ({ time }) => {
  const { replica, versions } = make(time, {
    snapshot: () => ({ cursor: 'aaaaaaaa.5', orders: [order('A', 3), order('B', 3)] }),
  });
  await replica.load();
  replica.take({ id: 'aaaaaaaa.6', eventType: 'removed', data: { kind: 'order', id: 'A', version: 4 } });
  replica.take({ id: 'aaaaaaaa.7', eventType: 'removed', data: { kind: 'order', id: 'B', version: 2 } });
  equal(versions(), { B: 3 });
});

test('what was finished a day ago is forgotten', async ({ time }) => {
  const at = (hours) => new Date(time.wallMs() - hours * 3_600_000).toISOString();
  const { replica, versions } = make(time, {
    snapshot: () => ({
      cursor: 'aaaaaaaa.5',
      orders: [
        order('old', 1, { stage: 'completed', updatedAt: at(25) }),
        order('new', 1, { stage: 'completed', updatedAt: at(23) }),
        order('open', 1, { updatedAt: at(99) }),
      ],
    }),
  });
  await replica.load();
  equal(versions(), { new: 1, open: 1 });
});

test('a queued command is shown at once, and says that it is queued', async ({ time }) => {
  const { replica, stages, seen } = make(time, {
    snapshot: () => ({ cursor: 'aaaaaaaa.5', orders: [order('A', 1), order('B', 1)] }),
  });
  await replica.load();
  const pending = [pendingStage('A', 'in_progress', 'k1')];
  replica.setActions({ pending, failed: [] });
  equal(
    [stages(), replica.entry('orders', 'A').pending, replica.entry('orders', 'B').pending],
    [{ A: 'in_progress', B: 'initiated' }, ['k1'], []],
  );
  equal(seen.changes.at(-1), 'orders A');
});

test('a command that will be refused shows nothing but that it is queued', async ({ time }) => {
  const overlay = ({ orderID }, docs) => {
    docs.put('orders', { ...docs.get('orders', orderID), notes: 'half done' });
    return false;
  };
  const { replica, seen } = make(time, {
    snapshot: () => ({ cursor: 'aaaaaaaa.5', orders: [order('A', 1)] }),
    commands: { 'orders.note': { overlay } },
  });
  await replica.load();
  replica.setActions({
    failed: [],
    pending: [{ key: 'k', name: 'orders.note', given: { orderID: 'A' }, createdAt: '' }],
  });
  equal(
    [replica.get('orders', 'A').notes, replica.entry('orders', 'A').pending, seen.changes.at(-1)],
    [undefined, ['k'], 'orders A'],
  );
});

test('an answer ends the overlay and brings its documents in one step', async ({ time }) => {
  const { replica, seen } = make(time, { snapshot: () => ({ cursor: 'aaaaaaaa.5', orders: [order('A', 1)] }) });
  await replica.load();
  replica.setActions({ pending: [pendingStage('A', 'in_progress')], failed: [] });
  const shown = [];
  replica.subscribe(() => shown.push(replica.get('orders', 'A').stage));
  const answer = { order: order('A', 2, { stage: 'in_progress' }), cursor: 'aaaaaaaa.6' };
  replica.setActions({ pending: [], failed: [] }, { status: 'applied', answer });
  equal([shown, replica.entry('orders', 'A').document.version, seen.changes.length], [['in_progress'], 2, 3]);
  replica.take(updated(order('A', 2, { stage: 'in_progress' }), 6));
  equal(seen.changes.length, 3, 'the feed brings nothing new');
});

test('a refusal reverts the card and brings the document as it is', async ({ time }) => {
  const { replica, stages } = make(time, { snapshot: () => ({ cursor: 'aaaaaaaa.5', orders: [order('A', 1)] }) });
  await replica.load();
  const action = pendingStage('A', 'in_progress');
  replica.setActions({ pending: [action], failed: [] });
  const failed = [{ ...action, state: 'failed', problem: { detail: 'too late' } }];
  replica.setActions(
    { pending: [], failed },
    { status: 'rejected', current: { order: order('A', 2, { stage: 'cancelled' }) } },
  );
  equal([stages(), replica.entry('orders', 'A').failed.problem.detail], [{ A: 'cancelled' }, 'too late']);
  replica.setActions({ pending: [], failed: [] });
  equal(replica.entry('orders', 'A').failed, null);
});

test('a remote change while a command is queued shows below the overlay', async ({ time }) => {
  const { replica } = make(time, { snapshot: () => ({ cursor: 'aaaaaaaa.5', orders: [order('A', 1)] }) });
  await replica.load();
  replica.setActions({ pending: [pendingStage('A', 'in_progress')], failed: [] });
  replica.take(updated(order('A', 2, { notes: 'from the other till' }), 6));
  equal([replica.get('orders', 'A').stage, replica.get('orders', 'A').notes], ['in_progress', 'from the other till']);
});

test('what the feed tells before the answer is not shown twice, nor is it half undone', async ({ time }) => {
  const overlay = ({ orderID, queueID }, docs) => {
    const order = docs.get('orders', orderID);
    const queue = docs.get('queues', queueID);
    docs.put('orders', { ...order, notes: `${order.notes ?? ''}x` });
    docs.put('queues', { ...queue, name: `${queue.name}x` });
    return true;
  };
  const queue = (version, name) => ({ queueID: 'Q', name, paused: false, entries: [], nextTicket: 1, version });
  const { replica } = make(time, {
    kinds: ['orders', 'queues'],
    snapshot: () => ({ cursor: 'aaaaaaaa.5', orders: [order('A', 1)], queues: [queue(1, 'Q')] }),
    commands: { 'orders.count': { overlay } },
  });
  await replica.load();
  const action = (key) => ({
    key, name: 'orders.count', given: { orderID: 'A', queueID: 'Q' }, createdAt: '', clientId: 'tab#1',
  });
  const look = () => [replica.get('orders', 'A').notes, replica.get('queues', 'Q').name];
  const shown = [];
  replica.subscribe(() => shown.push(look().join(' ')));
  const own = (event) => replica.take({ ...event, clientID: 'tab#1' });
  replica.setActions({ pending: [action('k1'), action('k2')], failed: [] });
  own(updated(order('A', 2, { notes: 'x' }), 6));
  own({ id: 'aaaaaaaa.7', eventType: 'queue_updated', version: 2, data: { queue: queue(2, 'Qx') } });
  const answer = { order: order('A', 2, { notes: 'x' }), queue: queue(2, 'Qx'), cursor: 'aaaaaaaa.7' };
  replica.setActions({ pending: [action('k2')], failed: [] }, { status: 'applied', answer });
  equal([...new Set(shown)], ['xx Qxx']);
  await replica.load(); // from before it: its events come again, and are of none that is under way
  own(updated(order('A', 2, { notes: 'x' }), 6));
  own({ id: 'aaaaaaaa.7', eventType: 'queue_updated', version: 2, data: { queue: queue(2, 'Qx') } });
  equal(look(), ['xx', 'Qxx']);
  replica.take({ ...updated(order('A', 3, { notes: 'xy' }), 8), clientID: 'another' });
  equal(look(), ['xyx', 'Qxx']);
  own(updated(order('A', 4, { notes: 'xyx' }), 9));
  equal(look(), ['xyx', 'Qxx']);
});

test('queued commands build on each other', async ({ time }) => {
  const { replica } = make(time, {
    kinds: ['orders', 'queues', 'bays'],
    snapshot: () => ({
      cursor: 'aaaaaaaa.5',
      orders: [],
      queues: [{ queueID: 'q', name: 'Q', paused: false, entries: [], nextTicket: 1, version: 1 }],
      bays: [{ bayID: 'b', name: 'B', status: 'available', version: 1 }],
    }),
  });
  await replica.load();
  const action = (name, given, n) => ({ key: `k${n}`, name, given, createdAt: '2026-11-20T10:00:00.000Z' });
  replica.setActions({
    failed: [],
    pending: [
      action('orders.create', { orderID: 'A', items: [{ sku: 's', name: 'n', quantity: 3, unitPrice: '0.10' }] }, 1),
      action('queues.enter', { queueID: 'q', orderID: 'A' }, 2),
      action('queues.callNext', { queueID: 'q', bayID: 'b', jobID: 'j' }, 3),
    ],
  });
  const [a] = replica.list('orders');
  equal([a.stage, a.bayID, a.queueID, a.payment.amount], ['in_progress', 'b', undefined, '0.30']);
  equal([replica.get('queues', 'q').entries, replica.get('bays', 'b').job.orderID], [[], 'A']);
  equal(replica.entry('orders', 'A').pending, ['k1', 'k2', 'k3']);
  replica.setActions({ pending: [], failed: [] });
  equal([replica.list('orders'), replica.get('bays', 'b').status], [[], 'available']);
});

test('a list is the same array until something in it changes', async ({ time }) => {
  const { replica } = make(time, {
    kinds: ['orders', 'bays'],
    snapshot: () => ({ cursor: 'aaaaaaaa.5', orders: [order('A', 1)], bays: [] }),
  });
  await replica.load();
  const [orders, bays] = [replica.list('orders'), replica.list('bays')];
  replica.take(updated(order('A', 1)));
  ok(replica.list('orders') === orders);
  replica.take(updated(order('A', 2)));
  ok(replica.list('orders') !== orders && replica.list('bays') === bays);
});

test('whatever order things come in, it ends as the server has it, without a step back', async ({ time }) => {
  for (let seed = 0; seed < 60; seed += 1) {
    const random = seeded(seed);
    const server = new Map([
      ['A', order('A', 1)],
      ['B', order('B', 1)],
    ]);
    const log = [];
    for (let seq = 2; seq < 40; seq += 1) {
      const id = random() < 0.5 ? 'A' : 'B';
      const version = server.get(id).version + 1;
      const isDeleted = random() < 0.15;
      server.set(id, isDeleted ? { version } : order(id, version));
      log.push({ seq, id, version, event: isDeleted ? deleted(id, version, seq) : updated(order(id, version), seq) });
    }
    const at = 5 + Math.floor(random() * 20);
    const snapshot = new Map([
      ['A', order('A', 1)],
      ['B', order('B', 1)],
    ]);
    for (const { seq, id, event } of log)
      if (seq <= at) event.data.deleted ? snapshot.delete(id) : snapshot.set(id, event.data.order);
    let give;
    const { replica, versions } = make(time, {
      snapshot: () =>
        new Promise((resolve) => {
          give = resolve;
        }),
    });
    const loading = replica.load('aaaaaaaa.1');
    const shown = { A: 0, B: 0 };
    const loadAfter = Math.floor(random() * log.length);
    for (const [place, { event, id, version }] of log.entries()) {
      if (place === loadAfter) {
        await settle(1);
        give({ cursor: `aaaaaaaa.${at}`, orders: [...snapshot.values()] });
        await loading;
      }
      replica.take(event);
      if (random() < 0.3) {
        // the same by a command's answer, earlier or later
        const document = event.data.deleted ? { orderID: id, version, deleted: true } : event.data.order;
        replica.setActions({ pending: [], failed: [] }, { status: 'applied', answer: { order: document } });
      }
      for (const [known, seenVersion] of Object.entries(versions())) {
        ok(seenVersion >= shown[known], `seed ${seed}: ${known} went back`);
        shown[known] = seenVersion;
      }
    }
    const truth = Object.fromEntries(
      [...server].filter(([, { orderID }]) => orderID).map(([id, { version }]) => [id, version]),
    );
    equal(
      Object.fromEntries(Object.entries(versions()).sort()),
      Object.fromEntries(Object.entries(truth).sort()),
      `seed ${seed}`,
    );
  }
});

test('what an event or an answer carries', () => {
  const kinds = Object.values(KINDS);
  equal(carried({ order: order('A', 2) }, 2, kinds).id, 'A');
  equal(
    [carried({ order: { orderID: 'A' } }, undefined, kinds), carried({ order: order('A', 2) }, 3, kinds)],
    [null, null],
  );
  equal(carried({ deleted: true, bay: { bayID: '1' } }, 4, kinds).document, null);
  const answer = {
    order: order('A', 2),
    queues: [
      { queueID: 'q', version: 1 },
      { queueID: 'r', version: 2, deleted: true },
    ],
    cursor: 'x',
    bay: 7,
  };
  equal(
    allCarried(answer, kinds).map(({ id, version, document }) => [id, version, document === null]),
    [
      ['A', 2, false],
      ['q', 1, false],
      ['r', 2, true],
    ],
  );
});

test('amounts are added without binary fractions', () => {
  const item = (unitPrice, quantity) => ({ unitPrice, quantity });
  equal(
    [total([item('0.10', 3)]), total([item('9999999.99', 10000), item('0.01', 1)]), total([])],
    ['0.30', '99999999900.01', '0.00'],
  );
});
