import { CursorLost, NetworkFailed } from '/js/errors.js';
import { Filter } from '/js/filter.js';
import { Member } from '/js/member.js';
import { equal, ok, settle, test } from './harness.js';

const id = (n) => `aaaaaaaa.${n}`;
const event = (n, orderID = 'A') => ({ id: id(n), eventType: 'stage_change', data: { n }, orderID });
const batch = (from, to) => ({
  from: from === null ? null : id(from),
  to: id(to),
  source: 'sse',
  events: Array.from({ length: to - (from ?? to - 1) }, (_, place) => event((from ?? to - 1) + place + 1)),
});

function make({
  page = () => {
    throw new Error('not expected');
  },
} = {}) {
  const seen = { numbers: [], resyncs: [], told: [], ready: [], errors: [], pages: [], wanted: 0 };
  const member = new Member({
    rng: () => 0.5,
    fetchPage: async (params) => {
      seen.pages.push(params);
      return page(params, seen.pages.length);
    },
    handlers: {
      wanting: () => {
        seen.wanted += 1;
      },
      told: (events) => {
        seen.told.push(...events.map(({ data }) => data.n));
      },
      resync: (reason) => {
        seen.resyncs.push(reason);
      },
      failed: (error) => seen.errors.push(error.message),
    },
  });
  const listen = (filter = {}, more = {}) =>
    member.subscribe({
      filter: Filter.read(filter),
      handler: ({ data }) => {
        seen.numbers.push(data.n);
      },
      ready: (cursor) => {
        seen.ready.push(cursor);
      },
      ...more,
    });
  return { member, seen, listen };
}

test('nothing is handed out before the welcome, and everything from its cursor on', () => {
  const { member, seen, listen } = make();
  listen();
  member.take(batch(0, 3));
  member.welcome(1, id(3));
  member.take(batch(3, 5));
  equal([seen.numbers, seen.ready, member.cursor], [[4, 5], [id(3)], id(5)]);
});

test('what overlaps is handed out once', () => {
  const { member, seen, listen } = make();
  listen();
  member.welcome(1, id(3));
  member.take(batch(3, 6));
  member.take(batch(2, 8));
  equal(seen.numbers, [4, 5, 6, 7, 8]);
});

test('a gap is fetched before what came after it', async () => {
  const { member, seen, listen } = make({
    page: ({ after }) => ({
      events: [event(Number(after.split('.')[1]) + 1)],
      cursor: id(Number(after.split('.')[1]) + 1),
    }),
  });
  listen({ orderID: 'A' });
  member.welcome(1, id(3));
  member.take(batch(5, 7));
  member.take(batch(7, 8));
  equal(seen.numbers, []);
  await settle();
  equal(seen.numbers, [4, 5, 6, 7, 8]);
  equal(
    seen.pages.map(({ after, orderID }) => [after, orderID]),
    [
      [id(3), 'A'],
      [id(4), 'A'],
    ],
  );
});

test('a gap that cannot be fetched yet is fetched later', async ({ time }) => {
  time.install();
  const { member, seen, listen } = make({
    page: (_, number) => {
      if (number < 3) throw new NetworkFailed('off');
      return { events: [event(4), event(5)], cursor: id(5) };
    },
  });
  listen();
  member.welcome(1, id(3));
  member.take(batch(5, 6));
  await time.advance(10);
  equal([seen.numbers, seen.pages.length], [[4, 5, 6], 3]);
});

test('a gap that is gone for good is a resync', async () => {
  const { member, seen, listen } = make({
    page: () => {
      throw new CursorLost('410', { problem: { reason: 'expired' } });
    },
  });
  listen();
  member.welcome(1, id(3));
  member.take(batch(50, 52));
  await settle();
  equal([seen.resyncs, member.cursor], [['expired'], id(52)]);
  member.take(batch(52, 53));
  equal(seen.numbers, [53]);
});

test('too much behind a gap is a resync', () => {
  const { member, seen, listen } = make({ page: () => new Promise(() => {}) });
  listen();
  member.welcome(1, id(3));
  member.take(batch(10, 20));
  member.take(batch(20, 6000));
  equal([seen.resyncs, member.cursor], [['behind'], id(6000)]);
});

test('what another leader hands on does not count before its welcome', async () => {
  const { member, seen, listen } = make({ page: () => ({ events: [event(4), event(5)], cursor: id(5) }) });
  listen();
  member.welcome(1, id(3));
  member.doubt(); // it may not know what we want
  member.take(batch(3, 5));
  equal([seen.numbers, member.cursor], [[], id(3)]);
  member.welcome(1, id(5));
  member.take(batch(5, 6));
  await settle();
  equal(seen.numbers, [4, 5, 6]);
});

test('a gap before the welcome is fetched though nothing follows', async () => {
  const { member, seen, listen } = make({ page: () => ({ events: [event(4), event(5)], cursor: id(5) }) });
  member.cursor = id(3); // where an earlier life stood
  listen();
  member.welcome(1, id(5));
  await settle();
  equal([seen.numbers, member.cursor], [[4, 5], id(5)]);
});

test('a leader that knows less than was promised promises nothing', () => {
  const { member, seen, listen } = make();
  listen({ orderID: 'A' });
  listen({ orderID: 'B' });
  member.welcome(2, id(3));
  member.doubt();
  member.welcome(1, id(3));
  member.take(batch(3, 5));
  equal([seen.numbers, member.cursor], [[], id(3)]);
  member.welcome(2, id(3));
  member.take(batch(3, 5));
  equal(seen.numbers, [4, 5]);
});

test('a welcome for older wishes is no promise for the newer ones', () => {
  const { member, seen, listen } = make();
  listen({ orderID: 'A' });
  member.welcome(1, id(3));
  listen({ orderID: 'B' });
  ok(!member.isReady);
  member.welcome(1, id(3));
  equal([seen.ready, member.isReady], [[id(3)], false]);
  member.welcome(2, id(3));
  equal([seen.ready, member.isReady], [[id(3), id(3)], true]);
});

test('a tab that leads begins at its own cursor and needs nobody', async () => {
  const { member, seen, listen } = make({ page: () => new Promise(() => {}) });
  listen();
  member.welcome(1, id(3));
  member.take(batch(5, 6)); // a gap, and then the leader is gone
  member.takeLead();
  member.take({ ...batch(3, 6), from: null });
  equal(seen.numbers, [4, 5, 6]);
});

test('each gets what its filter lets through; raw ones get all', () => {
  const { member, seen, listen } = make();
  const raw = [];
  listen({ orderID: 'A' });
  member.subscribe({
    filter: Filter.read({ orderID: 'Z' }),
    isRaw: true,
    handler: ({ data }) => {
      raw.push(data.n);
    },
  });
  member.welcome(2, id(0));
  member.take({ from: id(0), to: id(3), source: 'sse', events: [event(1, 'A'), event(2, 'B'), event(3, 'Z')] });
  equal([seen.numbers, raw, seen.told], [[1], [1, 2, 3], [1, 3]]);
});

test('a handler that throws does not stop the others', async () => {
  const { member, seen, listen } = make();
  member.subscribe({
    filter: Filter.read({}),
    handler: () => {
      throw new Error('mine');
    },
  });
  member.subscribe({
    filter: Filter.read({}),
    handler: async () => {
      throw new Error('later');
    },
  });
  listen();
  member.welcome(3, id(0));
  const pending = member.take(batch(0, 1));
  await Promise.all(pending);
  equal([seen.numbers, seen.errors], [[1], ['mine', 'later']]);
});

test('who has left is not told, and wishes grow smaller', () => {
  const { member, seen, listen } = make();
  const end = listen({ orderID: 'A' });
  listen({ orderID: 'B', eventTypes: ['x'] });
  equal(member.wishes(), {
    serial: 2,
    filters: [{ orderID: ['A'] }, { orderID: ['B'], eventTypes: ['x'] }],
    types: ['x'],
  });
  member.welcome(2, id(0));
  end();
  equal([member.wishes().filters.length, member.isReady, seen.wanted], [1, true, 3]);
  member.take(batch(0, 1));
  equal(seen.numbers, []);
});

test('custom types are asked for', () => {
  const { member, seen } = make();
  member.listenTo(['door_opened']);
  member.listenTo(['door_opened']);
  equal([member.wishes().types, seen.wanted], [['door_opened'], 1]);
});
