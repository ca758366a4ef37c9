'use client';
/**
 * React hooks over the client. React (18 or newer) is a peer dependency of this module only.
 *
 *     <SyncManagerProvider baseUrl="/">
 *       <OrderPage orderID="ORDER-001" />
 *     </SyncManagerProvider>
 *
 * Nothing is touched while rendering: on a server, and in the first render of the browser, every hook shows the state
 * before the connection, so what is hydrated is what was sent. Without a provider all hooks share one client.
 */

import {
  createContext, createElement, useCallback, useContext, useEffect, useMemo, useRef, useState, useSyncExternalStore,
} from 'react';

import { Filter } from './filter.js';
import { Debounced, stageChanges } from './handlers.js';
import { DebugPanel } from './panel.js';
import { EVENT_TYPES } from './source.js';
import { SyncClient } from './sync.js';

export * from './sync.js';

const NOTHING = Object.freeze([]);
const STAGE_TYPES = ['stage_change', 'order_stage_change'];
const JOB_ENDS = { job_completed: 'completed', job_aborted: 'aborted' };
const noSubscription = () => () => {};

/** The clients of one tree: one for each tenant and instance name. */
class Clients {
  #options;
  #given;
  #made = new Map();

  constructor({ client = null, ...options } = {}) {
    this.#given = client;
    this.#options = options;
  }

  get({ tenantId, clientId } = {}) {
    if (this.#given !== null && tenantId === undefined && clientId === undefined) return this.#given;
    const { tenantId: tenant = '', clientId: instance = '' } = this.#options;
    const key = JSON.stringify([tenantId ?? tenant, clientId ?? instance]);
    if (!this.#made.has(key)) {
      const options = { ...this.#options, tenantId: tenantId ?? tenant, clientId: clientId ?? instance };
      this.#made.set(key, new SyncClient(options));
    }
    return this.#made.get(key);
  }

  /** What was made here ends here; a client that was given belongs to who gave it. */
  disconnect() {
    for (const client of this.#made.values()) client.disconnect();
  }
}

const shared = new Clients();
const ClientsContext = createContext(shared);

/**
 * Gives the tree below it a client made with these options (options.js), or `client`. For tests:
 * `eventSourceFactory={fakeEventSource()}`.
 */
export function SyncManagerProvider({ children, ...options }) {
  const [clients] = useState(() => new Clients(options));
  useEffect(() => () => clients.disconnect(), [clients]);
  return createElement(ClientsContext.Provider, { value: clients }, children);
}

/** The client itself. */
export function useSyncClient({ tenantId, clientId } = {}) {
  const clients = useContext(ClientsContext);
  return useMemo(() => clients.get({ tenantId, clientId }), [clients, tenantId, clientId]);
}

/** The connection's state; 'disconnected' while rendering on a server. */
function useConnectionState(client) {
  return useSyncExternalStore(
    useCallback((listener) => client.onChange(listener), [client]),
    () => client.state,
    () => 'disconnected',
  );
}

/** What a view of client.subscribe shows; nothing while there is none. */
function useView(view) {
  const subscribe = useCallback((listener) => view?.onChange(listener) ?? noSubscription(), [view]);
  const events = useSyncExternalStore(subscribe, () => view?.events ?? NOTHING, () => NOTHING);
  const isReady = useSyncExternalStore(subscribe, () => view?.isReady ?? false, () => false);
  return { events, latestEvent: events.at(-1) ?? null, isReady };
}

/** Subscribes to `filter` (null: to nothing) for as long as the component is there. */
function useSubscription(client, filter) {
  const key = filter === null ? null : JSON.stringify(Filter.read(filter).document());
  const [view, setView] = useState(null);
  useEffect(() => {
    if (key === null) return undefined;
    const made = client.subscribe(JSON.parse(key));
    setView(made);
    return () => {
      made.end();
      setView(null);
    };
  }, [client, key]);
  return useView(view);
}

/**
 * The connection, and the events of a filter: given here (it connects by itself), or with `connect(filter)`.
 *
 * Gives `{connectionState, isConnected, events, latestEvent, connect, disconnect, retryNow, send, client}`.
 */
export function useSyncManager({ tenantId, clientId, ...filter } = {}) {
  const client = useSyncClient({ tenantId, clientId });
  const [view, setView] = useState(null);
  const current = useRef(null);
  const connect = useCallback((wanted = {}) => {
    const before = current.current;
    current.current = client.subscribe(wanted);
    before?.end();
    setView(current.current);
  }, [client]);
  const disconnect = useCallback(() => {
    current.current?.end();
    current.current = null;
    client.disconnectIfIdle();
    setView(null);
  }, [client]);
  const key = Object.keys(filter).length ? JSON.stringify(Filter.read(filter).document()) : null;
  useEffect(() => {
    if (key !== null) connect(JSON.parse(key));
    return () => {
      current.current?.end();
      current.current = null;
    };
  }, [connect, key]);
  const { events, latestEvent } = useView(view);
  const connectionState = useConnectionState(client);
  const retryNow = useCallback(() => client.retryNow(), [client]);
  const send = useCallback((...args) => client.send(...args), [client]);
  const isConnected = connectionState === 'connected';
  return { connectionState, isConnected, events, latestEvent, connect, disconnect, retryNow, send, client };
}

/** All events of one order: `{events, latestEvent, isLoading}`; loading until everything from here on will come. */
export function useOrderSync(orderID, options) {
  const client = useSyncClient(options);
  const { events, latestEvent, isReady } = useSubscription(client, orderID ? { orderID } : null);
  return { events, latestEvent, isLoading: !isReady };
}

/** How the connection is doing: client.health, anew when something that people look at has changed. */
export function useConnectionHealth(options) {
  const client = useSyncClient(options);
  const store = useMemo(() => healthStore(client), [client]);
  return useSyncExternalStore(store.subscribe, store.get, store.getServer);
}

const UNKNOWN = Object.freeze({
  status: 'offline', state: 'disconnected', isConnected: false, isPollingFallback: false, reason: '', attempt: 0,
  nextRetryS: null, cursor: '', head: '', staleForS: null, lastByteS: null, transport: null, caughtUp: false,
  breaker: 'closed', queueDepth: 0, role: null, storage: '', lastError: '', serverOffsetMs: 0, isOnline: true,
});

function healthStore(client) {
  let text = '';
  let shown = UNKNOWN;
  const get = () => {
    const { forS, since, lastByteS, staleForS, nextRetryS, cursor, head, serverOffsetMs, ...health } = client.health;
    const stale = staleForS !== null && staleForS > 20 ? Math.round(staleForS) : 0;
    const next = JSON.stringify([health, stale, nextRetryS === null ? null : Math.ceil(nextRetryS)]);
    if (next !== text) {
      text = next;
      shown = client.health;
    }
    return shown;
  };
  return {
    get,
    getServer: () => UNKNOWN,
    subscribe(listener) {
      const end = client.onChange(listener);
      const timer = setInterval(listener, 1000); // what grows old does so by itself
      return () => {
        end();
        clearInterval(timer);
      };
    },
  };
}

/** `handler(event, previousStage, newStage)` for each change of that order's stage, once. */
export function useOrderStageChange(orderID, handler, options) {
  const client = useSyncClient(options);
  const latest = useLatest(handler);
  useEffect(() => {
    if (!orderID) return undefined;
    const changes = stageChanges((...change) => latest.current(...change));
    return client.subscribe({ orderID, eventTypes: STAGE_TYPES }, { handler: changes }).end;
  }, [client, orderID, latest]);
}

/**
 * `refresh()` after relevant events and after a resync, once for a burst, never twice at a time. options: `eventTypes`,
 * `debounceMs`, `atMostMs`.
 */
export function useDashboardSync(refresh, { eventTypes = EVENT_TYPES, debounceMs, atMostMs, ...options } = {}) {
  const client = useSyncClient(options);
  const latest = useLatest(refresh);
  const types = [...eventTypes].join(',');
  useEffect(() => {
    const debounced = new Debounced(() => latest.current(), {
      debounceMs, atMostMs, failed: (error) => console.error('order-sync: a refresh failed:', error),
    });
    const trigger = () => debounced.trigger();
    const { end } = client.subscribe({ eventTypes: types }, { handler: trigger, resync: trigger });
    return () => {
      end();
      debounced.stop();
    };
  }, [client, types, debounceMs, atMostMs, latest]);
}

/** All queues, live, with what is queued here on top: `{queues, updateQueue, isLoading, problem}`. */
export function useQueueSync(options) {
  const client = useSyncClient(options);
  const { lists, isLoading, problem } = useReplica(client, { kinds: 'queues' });
  const updateQueue = useCallback(
    (queueID, changes) => client.send('queues.edit', { queueID, ...changes }).outcome,
    [client],
  );
  return { queues: lists.queues, updateQueue, isLoading, problem };
}

/**
 * The jobs of one bay, or of all: `{jobs, activeJobs, bays, isLoading, problem}`. `jobs` holds those that ended while
 * this page was open too, each with `bayID` and `status` (active, completed, aborted).
 */
export function useWashingBaySync(bayId, options) {
  const client = useSyncClient(options);
  const bay = bayId ? { bayID: bayId } : {};
  const { lists, isLoading, problem } = useReplica(client, { kinds: 'bays', filter: bay });
  const { events } = useSubscription(client, { ...bay, eventTypes: Object.keys(JOB_ENDS) });
  return useMemo(() => {
    const bays = lists.bays.filter(({ bayID }) => !bayId || bayID === bayId);
    const activeJobs = bays.filter(({ job }) => job).map(({ bayID, job }) => ({ ...job, bayID, status: 'active' }));
    const ended = events.filter(({ data }) => data.job).map(
      ({ eventType, data }) => ({ ...data.job, bayID: data.bayID, status: JOB_ENDS[eventType] }),
    );
    return { jobs: [...ended, ...activeJobs], activeJobs, bays, isLoading, problem };
  }, [lists.bays, events, bayId, isLoading, problem]);
}

/**
 * Documents, live, with what is queued here on top: `{lists: {orders: [...]}, replica, isLoading, problem}`. `kinds` is
 * a comma list; `replica` is null before the first effect.
 */
export function useReplica(client, { kinds, filter = {} }) {
  const key = JSON.stringify(Filter.read(filter).document());
  const [replica, setReplica] = useState(null);
  useEffect(() => {
    const made = client.replica({ kinds: kinds.split(','), filter: JSON.parse(key) });
    setReplica(made);
    return () => {
      made.close();
      setReplica(null);
    };
  }, [client, kinds, key]);
  const store = useMemo(() => replicaStore(replica, kinds.split(',')), [replica, kinds]);
  return useSyncExternalStore(store.subscribe, store.get, store.getServer);
}

function replicaStore(replica, kinds) {
  const none = Object.fromEntries(kinds.map((kind) => [kind, NOTHING]));
  const server = { lists: none, replica: null, isLoading: true, problem: null };
  let shown = server;
  const get = () => {
    if (replica === null) return server;
    const isLoading = replica.status !== 'ready' && replica.status !== 'failed';
    const lists = Object.fromEntries(kinds.map((kind) => [kind, replica.list(kind)]));
    const isSame = shown.replica === replica && shown.isLoading === isLoading && shown.problem === replica.problem
      && kinds.every((kind) => shown.lists[kind] === lists[kind]);
    if (!isSame) shown = { lists, replica, isLoading, problem: replica.problem };
    return shown;
  };
  return { get, getServer: () => server, subscribe: (listener) => replica?.subscribe(listener) ?? noSubscription() };
}

/** The newest value, for effects that are not to run again because of it. */
function useLatest(value) {
  const ref = useRef(value);
  useEffect(() => {
    ref.current = value;
  });
  return ref;
}

/**
 * What is going on: state and transitions with times, transport, cursor, lag, breaker, storage, events as they come;
 * pause, try now, export. Styles are up to the page: classes begin with `sync-debug-panel`. Shows nothing without
 * `debug`.
 */
export function SyncDebugPanel({ debug = true, className = '', ...options }) {
  const client = useSyncClient(options);
  return debug ? createElement(DebugPanel, { client, className }) : null;
}
