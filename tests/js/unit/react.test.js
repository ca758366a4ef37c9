import { ReactDOM, ReactDOMServer, createElement as h, useEffect, useState } from 'react';

import {
  SyncDebugPanel,
  SyncManagerProvider,
  useConnectionHealth,
  useDashboardSync,
  useOrderStageChange,
  useOrderSync,
  useQueueSync,
  useSyncClient,
  useSyncManager,
  useWashingBaySync,
} from '/js/react.js';
import { fakeEventSource } from '/js/testing.js';
import { equal, ok, scriptedFetch, settle, test, until } from './harness.js';

const queue = { queueID: 'q', name: 'Q', paused: false, entries: [], nextTicket: 1, version: 1 };
const job = { jobID: 'j', orderID: 'A', service: 'wash', startedAt: 'now', expectedSeconds: 900, progress: 10 };
const bays = [
  { bayID: '1', name: 'One', status: 'occupied', job, version: 1 },
  { bayID: '2', name: 'Two', status: 'available', version: 1 },
];
const shop = scriptedFetch(({ path, params, body }) => {
  if (path.endsWith('/snapshot'))
    return {
      body: {
        cursor: 'fake0000.0',
        orders: [],
        queues: [queue],
        bays: bays.filter(({ bayID }) => !params.bayID || bayID === params.bayID),
      },
    };
  if (path.endsWith('/queues/q')) return { body: { queue: { ...queue, ...body, version: 2 }, cursor: 'fake0000.9' } };
  return { status: 503 };
});

/** A tree on the page, with a connection that does what the test says. */
async function render(Component, { props = {}, options = {}, source = fakeEventSource() } = {}) {
  const container = document.createElement('div');
  document.body.append(container);
  const root = ReactDOM.createRoot(container);
  const show = async (more = {}) => {
    ReactDOM.flushSync(() =>
      root.render(
        h(
          SyncManagerProvider,
          { eventSourceFactory: source, fetch: shop, indexedDB: null, ...options },
          Component && h(Component, { ...props, ...more }),
        ),
      ),
    );
    await settle();
  };
  await show();
  const say = async (type, data, more) => {
    const id = source.lastInstance.simulateEvent(type, data, more);
    await settle();
    return id;
  };
  const open = () => say('connected', { clientId: 'test-client', cursor: 'fake0000.0', resume: 'now' });
  const unmount = async () => {
    ReactDOM.flushSync(() => root.unmount());
    container.remove();
    await settle();
  };
  return { container, source, show, say, open, unmount, text: () => container.textContent };
}

function OrderPage({ orderID }) {
  const { connectionState, isConnected, events, connect, disconnect } = useSyncManager();
  useEffect(() => {
    connect({ orderID });
    return () => disconnect();
  }, [orderID]);
  return h('div', { 'data-testid': 'connection-state' }, `${connectionState} ${isConnected} ${events.length}`);
}

test('useSyncManager connects, shows the state and the events', async () => {
  const page = await render(OrderPage, { props: { orderID: 'A' } });
  equal(page.text(), 'connecting false 0');
  ok(page.source.lastInstance.url.includes('orderID=A'));
  await page.say('connected', { clientId: 'test-client' });
  equal(page.text(), 'connected true 0');
  await page.say('stage_change', { data: { newStage: 'initiated' }, orderID: 'A' });
  await page.say('stage_change', { data: { newStage: 'initiated' }, orderID: 'B' });
  equal(page.text(), 'connected true 1');
  await page.unmount();
  equal(page.source.lastInstance.readyState, 2);
});

test('another order is another connection, and only its events', async () => {
  const page = await render(OrderPage, { props: { orderID: 'A' } });
  await page.open();
  await page.say('stage_change', { data: {}, orderID: 'A' });
  await page.show({ orderID: 'B' });
  await until(() => page.source.lastInstance.url.includes('orderID=B'));
  await page.open();
  await page.say('stage_change', { data: {}, orderID: 'A' });
  equal(page.text(), 'connected true 0');
  await page.unmount();
});

test('useSyncManager with a filter connects by itself, for its tenant', async () => {
  const seen = {};
  const page = await render(() => {
    const one = useSyncManager({ tenantId: 'tenant-123', orderID: 'order-456' });
    const same = useSyncClient({ tenantId: 'tenant-123' });
    const other = useSyncClient({ tenantId: 'other', clientId: 'till-3' });
    Object.assign(seen, { one, same, other });
    return one.events.length;
  });
  await page.open();
  await page.say('stage_change', { data: {}, orderID: 'order-456' });
  equal(page.text(), '1');
  ok(seen.one.client === seen.same && seen.other !== seen.same);
  equal([seen.same.tenantId, seen.other.tenantId, seen.other.clientId], ['tenant-123', 'other', 'till-3']);
  await page.unmount();
  equal(
    Object.keys(localStorage).filter((key) => !key.endsWith(':session')),
    ['order-sync:tenant-123'],
  );
});

test('useOrderSync gives events, the latest, and whether it is loading', async () => {
  const page = await render(
    ({ orderID }) => {
      const { events, latestEvent, isLoading } = useOrderSync(orderID);
      return `${events.length} ${latestEvent?.eventType} ${isLoading}`;
    },
    { props: { orderID: 'A' } },
  );
  equal(page.text(), '0 undefined true');
  await page.open();
  equal(page.text(), '0 undefined false');
  await page.say('payment_update', { data: { status: 'paid' }, orderID: 'A' });
  equal(page.text(), '1 payment_update false');
  await page.unmount();
});

test('useConnectionHealth has the words of the seed', async () => {
  const page = await render(
    () => {
      const health = useConnectionHealth();
      useOrderSync('A');
      return `${health.status} ${health.isPollingFallback}`;
    },
    {
      options: {
        maxReconnectAttempts: 1,
        fetch: scriptedFetch(() => ({ body: { events: [], cursor: 'fake0000.0', pollAfterMs: 60000 } })),
      },
    },
  );
  equal(page.text(), 'reconnecting false');
  await page.open();
  equal(page.text(), 'healthy false');
  page.source.lastInstance.simulateError();
  await until(() => page.source.instances.length === 2);
  page.source.lastInstance.simulateError();
  await until(() => page.text() === 'polling true');
  await page.unmount();
});

test('useOrderStageChange calls the newest handler, once for each change', async () => {
  const seen = [];
  const page = await render(
    ({ name }) => {
      useOrderStageChange('A', (event, before, after) => {
        seen.push(`${name} ${before} ${after}`);
      });
      return null;
    },
    { props: { name: 'first' } },
  );
  await page.open();
  const data = { previousStage: 'empty', newStage: 'initiated' };
  await page.say('stage_change', { data, orderID: 'A' });
  await page.say('order_stage_change', {
    data: { ...data, order: { orderID: 'A', version: 2 } },
    version: 2,
    orderID: 'A',
  });
  await page.say('stage_change', { data, orderID: 'B' });
  await page.show({ name: 'second' });
  await page.say('stage_change', { data: { previousStage: 'initiated', newStage: 'cancelled' }, orderID: 'A' });
  equal([seen, page.source.instances.length], [['first empty initiated', 'second initiated cancelled'], 1]);
  await page.unmount();
});

test('useDashboardSync refreshes once for a burst, and after a resync', async () => {
  let refreshed = 0;
  const page = await render(() => {
    useDashboardSync(
      () => {
        refreshed += 1;
      },
      { debounceMs: 5 },
    );
    return null;
  });
  await page.open();
  for (let n = 0; n < 10; n += 1)
    page.source.lastInstance.simulateEvent('order_created', { data: {}, orderID: `${n}` });
  await until(() => refreshed === 1);
  await page.say('reset', { reason: 'epoch', head: 'fake0001.0' }, { id: 'fake0001.0' });
  await until(() => refreshed === 2);
  await page.unmount();
});

test('useQueueSync gives the queues, and changes them', async () => {
  let update;
  const page = await render(() => {
    const { queues, updateQueue, isLoading } = useQueueSync();
    update = updateQueue;
    return `${isLoading} ${queues.map(({ name, paused, version }) => `${name} ${paused} ${version}`)}`;
  });
  equal(page.text(), 'true ');
  await page.open();
  await until(() => page.text() === 'false Q false 1');
  const outcome = update('q', { paused: true });
  await settle();
  ok(page.text().startsWith('false Q true'), 'at once');
  equal((await outcome).status, 'applied');
  await until(() => page.text() === 'false Q true 2');
  await page.unmount();
});

test('useWashingBaySync gives the jobs of one bay', async () => {
  const page = await render(() => {
    const { jobs, activeJobs, isLoading } = useWashingBaySync('1');
    return `${isLoading} ${activeJobs.map(({ jobID, progress }) => `${jobID} ${progress}`)} / ${jobs.map(({ jobID, status }) => `${jobID} ${status}`)}`;
  });
  await page.open();
  await until(() => page.text() === 'false j 10 / j active');
  const at = (progress, version) => ({ ...bays[0], job: { ...job, progress }, version });
  await page.say('job_progress', { data: { bay: at(55, 2) }, version: 2, bayID: '1' });
  equal(page.text(), 'false j 55 / j active');
  await page.say('bay_updated', {
    data: { bay: { bayID: '1', name: 'One', status: 'cleaning', version: 3 } },
    version: 3,
    bayID: '1',
  });
  await page.say('job_completed', { data: { bayID: '1', job: { ...job, progress: 100 } }, bayID: '1' });
  equal(page.text(), 'false  / j completed');
  await page.unmount();
});

test('what is hydrated is what was sent, whatever the browser remembers', async () => {
  localStorage.setItem(
    'order-sync:default',
    JSON.stringify({
      events: [
        {
          id: 'fake0000.1',
          eventType: 'stage_change',
          data: {},
          orderID: 'A',
          timestamp: '',
          metadata: { receivedAt: new Date().toISOString(), processed: true, acknowledged: false, source: 'sse' },
        },
      ],
      lastEventId: 'fake0000.1',
      lastConnectionTime: new Date().toISOString(),
      version: '1.0.0',
    }),
  );
  const source = fakeEventSource();
  const Page = () => {
    const { connectionState } = useSyncManager();
    const { events } = useOrderSync('A');
    const { status } = useConnectionHealth();
    const { queues } = useQueueSync();
    return h(
      'div',
      null,
      `${connectionState} ${events.length} ${status} ${queues.length}`,
      h(SyncDebugPanel, { className: 'x' }),
    );
  };
  const tree = () => h(SyncManagerProvider, { eventSourceFactory: source, fetch: shop, indexedDB: null }, h(Page));
  const html = ReactDOMServer.renderToString(tree());
  ok(html.includes('disconnected 0 offline 0'), html);
  equal(source.instances, [], 'nothing is connected while rendering');
  const container = document.createElement('div');
  container.innerHTML = html;
  document.body.append(container);
  const errors = [];
  const root = ReactDOM.hydrateRoot(container, tree(), { onRecoverableError: (error) => errors.push(error.message) });
  await until(() => container.textContent.includes('connecting 1 reconnecting'));
  equal(errors, []);
  root.unmount();
  container.remove();
});

test('a component that comes and goes leaves no connection behind', async () => {
  const page = await render(({ isThere }) => (isThere ? h(OrderPage, { orderID: 'A' }) : null), {
    props: { isThere: true },
  });
  await page.open();
  await page.show({ isThere: false });
  equal(page.source.lastInstance.readyState, 2);
  await page.show({ isThere: true });
  await page.open();
  equal(page.text(), 'connected true 0');
  await page.unmount();
  ok(page.source.instances.every(({ readyState }) => readyState === 2));
});

test('the debug panel shows state, transitions and events as text', async () => {
  const Page = ({ debug }) => {
    useOrderSync('<b>A</b>');
    return h(SyncDebugPanel, { debug, className: 'mt-4' });
  };
  const page = await render(Page, { props: { debug: true } });
  await page.open();
  await page.say('stage_change', { data: { n: 1 }, orderID: '<b>A</b>' });
  await until(() => page.text().includes('<b>A</b>'));
  ok(page.text().includes('connecting → connected') && page.text().includes('Breakerclosed'), page.text());
  equal(page.container.querySelector('section').className, 'sync-debug-panel mt-4');
  const [pause] = page.container.querySelectorAll('button');
  pause.click();
  await settle();
  await page.say('stage_change', { data: { n: 2 }, orderID: '<b>A</b>' });
  equal([pause.textContent, page.container.querySelectorAll('.sync-debug-panel-events li').length], ['Resume', 1]);
  await page.show({ debug: false });
  equal(page.text(), '');
  await page.unmount();
});

test('a client that was given stays its owner’s', async () => {
  const seen = {};
  const Outer = () => {
    const client = useSyncClient();
    const [isThere, setThere] = useState(true);
    Object.assign(seen, { client, setThere });
    return isThere
      ? h(
          SyncManagerProvider,
          { client },
          h(() => {
            seen.inner = useSyncClient();
            return null;
          }),
        )
      : null;
  };
  const page = await render(Outer);
  seen.client.connect();
  await page.open();
  seen.setThere(false);
  await settle();
  ok(seen.inner === seen.client);
  equal(seen.client.state, 'connected');
  await page.unmount();
});
