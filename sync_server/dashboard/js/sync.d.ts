/** Types of sync.js. Durations carry their unit in the name. */

export type StateName =
  | 'disconnected' | 'connecting' | 'connected' | 'reconnecting' | 'error' | 'polling_fallback' | 'closed' | 'failed';

export declare const State: Readonly<{
  DISCONNECTED: 'disconnected';
  CONNECTING: 'connecting';
  CONNECTED: 'connected';
  RECONNECTING: 'reconnecting';
  ERROR: 'error';
  POLLING: 'polling_fallback';
  CLOSED: 'closed';
  FAILED: 'failed';
}>;

export type EntityKey =
  | 'orderID' | 'queueID' | 'bayID' | 'jobID' | 'deviceID' | 'sessionID' | 'userID' | 'vehicleID' | 'fuelOrderID'
  | 'truckID' | 'transportOrderID' | 'tabID' | 'tillID' | 'catalogID' | 'transactionID' | 'fuelLogID'
  | 'vehicleMarkID';

export declare const ENTITY_KEYS: readonly EntityKey[];

/** Event types AND any of the entities; texts may be comma lists. Without either: everything. */
export type FilterLike =
  | Filter
  | ({ eventTypes?: string | readonly string[] } & Partial<Record<EntityKey, string | readonly string[]>>);

export declare class Filter {
  /** Throws ConfigurationError. */
  static read(given?: FilterLike | null): Filter;
  static union(filters: Iterable<Filter>): Filter;
  get types(): string[];
  matches(envelope: { eventType: string } & Partial<Record<EntityKey, string>>): boolean;
  covers(other: Filter): boolean;
  entities(): Filter;
  document(): Record<string, string[]>;
  params(): Record<string, string>;
}

export interface EventMetadata {
  receivedAt: string;
  processed: boolean;
  acknowledged: boolean;
  source: 'sse' | 'polling' | 'storage';
}

/** An event as it came. Without an id it is ephemeral. `data` is text from strangers: never markup. */
export type Envelope = {
  id?: string;
  eventType: string;
  data: Record<string, any>;
  timestamp?: string;
  occurredAt?: string;
  clientID?: string;
  version?: number;
} & Partial<Record<EntityKey, string>>;

export type SyncEvent = Envelope & { metadata: EventMetadata };

/** A control event, or what only the client raises. */
export interface Notice<Data = any> {
  eventType: string;
  data: Data;
}

export interface StateChange {
  before: StateName;
  after: StateName;
  reason: string;
  /** ISO 8601, by this machine's clock. */
  at: string;
}

export interface Health {
  status: 'healthy' | 'polling' | 'reconnecting' | 'error' | 'offline';
  state: StateName;
  isConnected: boolean;
  isPollingFallback: boolean;
  since: string;
  forS: number;
  reason: string;
  attempt: number;
  nextRetryS: number | null;
  cursor: string;
  head: string;
  /** How old the newest sure knowledge is; null before there is any. */
  staleForS: number | null;
  lastByteS: number | null;
  transport: 'sse' | 'polling' | null;
  caughtUp: boolean;
  breaker: 'closed' | 'open' | 'half_open';
  /** Commands that wait. */
  queueDepth: number;
  role: 'leader' | 'follower' | 'single' | null;
  /** Why nothing is kept in localStorage; '' while it is. */
  storage: string;
  lastError: string;
  serverOffsetMs: number;
  isOnline: boolean;
}

export interface Metrics {
  totalConnections: number;
  totalEvents: number;
  /** Milliseconds, over all lives. */
  uptime: number;
  uptimeShare: number;
  eventsPerS: number;
  fallbacks: number;
  recoveriesS: number[];
  errorRate: number;
  attempts: number;
  polls: number;
  duplicatesSuppressed: number;
  malformed: number;
  resets: number;
  storageBytes: number;
}

/** The persistence format, version 1.0.0. */
export interface PersistedState {
  events: SyncEvent[];
  configuration: { eventTypes?: string[]; autoReconnect?: boolean; maxReconnectAttempts?: number }
    & Partial<Record<EntityKey, string | string[]>>;
  lastConnectionTime: string | null;
  connectionMetrics: { totalConnections: number; totalEvents: number; uptime: number };
  lastEventId: string | null;
  version: '1.0.0';
}

export declare const FORMAT_VERSION: '1.0.0';

export interface Problem {
  type?: string;
  title?: string;
  status?: number | null;
  detail?: string;
  errors?: { path: string; message: string }[];
  [extension: string]: unknown;
}

export type Document = Record<string, any> & { version: number };
export type KindName = 'orders' | 'queues' | 'bays' | 'devices' | 'catalogs' | 'fuel_orders' | 'fuel_trucks'
  | 'order_sessions' | 'session_slots' | 'tabs' | 'transactions' | 'vehicles' | 'vehicle_marks' | 'drivers'
  | 'transport_orders' | 'fuel_logs';

export interface Kind {
  plural: string;
  key: string;
  id: string;
  isOpen(document: Document): boolean;
}

export declare const KINDS: Readonly<Record<KindName, Kind>>;

export interface Action {
  key: string;
  n?: number;
  name: string;
  given: Record<string, any>;
  ifMatch: number | null;
  clientId: string;
  state: 'queued' | 'sending' | 'failed' | 'parked';
  createdAt: string;
  firstSentMs: number | null;
  problem: Problem | null;
}

export type Outcome =
  | { status: 'applied'; answer: Record<string, any> }
  | { status: 'rejected'; problem: Problem; current?: Record<string, any> | null; isRebased?: boolean }
  | { status: 'parked'; problem: Problem }
  | { status: 'discarded' };

export interface Sent {
  key: string;
  /** It is on disk. */
  saved: Promise<void>;
  /** How it ended; never rejects. */
  outcome: Promise<Outcome>;
}

export interface Actions {
  readonly list: Action[];
  readonly pending: Action[];
  readonly failed: Action[];
  /** Why nothing is sent: '' or 'unauthorized'. */
  readonly paused: '' | 'unauthorized';
  /** Why queued actions would not survive a reload; '' while they do. */
  readonly problem: string;
  send(name: string, given: Record<string, any>, options?: { ifMatch?: number | null }): Sent;
  /** Again, as a new command; null if there is none of that key. */
  retry(key: string): Sent | null;
  discard(key: string): boolean;
}

export interface OverlayDocuments {
  get(kind: string, id: string): Document | undefined;
  put(kind: string, document: Document): void;
  remove(kind: string, id: string): void;
}

export interface Command {
  method: 'POST' | 'PATCH' | 'DELETE' | 'PUT';
  /** Below /api/v1, with {parameters}. */
  path: string;
  target: string;
  complete?(given: Record<string, any>): Record<string, any>;
  /** What it will make of the documents; false where the rules will refuse. `now` is ISO 8601. */
  overlay?(given: Record<string, any>, docs: OverlayDocuments, now: string): boolean;
  /** It names a place in the document as it was: refused, it is not to be sent again as it stands. */
  isOfMoment?: boolean;
}

export declare const COMMANDS: Readonly<Record<string, Command>>;

/** Where a fueler may move an order by `fuel_orders.changeStatus`. */
export declare const NEXT_FUEL_STATUSES: Readonly<Record<string, readonly string[]>>;
/** Gallons between two meter readings, exactly; null where the meter would run backwards. */
export declare function dispensed(start: string, end: string): string | null;

export interface ReplicaChange {
  /** Kind to the ids that changed. */
  ids: Map<string, Set<string>>;
  isReset: boolean;
}

export declare class Replica {
  readonly status: 'empty' | 'loading' | 'ready' | 'failed';
  readonly problem: Problem | null;
  readonly cursor: string;
  readonly filter: Filter;
  get(kind: KindName, id: string): Document | undefined;
  /** The same array until one of its documents changes. */
  list(kind: KindName): Document[];
  entry(kind: KindName, id: string): { document: Document | undefined; pending: string[]; failed: Action | null };
  subscribe(listener: (change: ReplicaChange) => void): () => void;
  load(from?: string): Promise<void>;
  close(): void;
}

export interface View {
  readonly events: readonly SyncEvent[];
  readonly latest: SyncEvent | null;
  readonly isReady: boolean;
  onChange(listener: () => void): () => void;
  end(): void;
}

export interface EventSourceLike extends EventTarget {
  readonly readyState: number;
  close(): void;
}

export type EventSourceFactory = (url: string, init: { withCredentials: boolean }) => EventSourceLike;

export interface Policy {
  backoff: { baseS: number; factor: number; capS: number };
  maxReconnectAttempts: number;
  healthyS: number;
  patienceS: number;
  openingS: number;
  flappingCloses: number;
  flappingWindowS: number;
  flappingLifeS: number;
  bufferedAttempts: number;
  briefGoodbyes: number;
  briefLifeS: number;
  probeFirstS: number;
  probeMaxS: number;
  relapseWindowS: number;
  relapses: number;
  demotionS: number;
  demotionMaxS: number;
  spinPauseS: number;
  unattended: boolean;
  unattendedS: number;
  polling: boolean;
}

export declare const POLICY: Readonly<Policy>;

/** Without `baseUrl` the server is the page's own origin. See README.md for all of them. */
export interface SyncOptions {
  baseUrl?: string;
  tenantId?: string;
  subject?: string;
  clientId?: string;
  token?: string | (() => string | Promise<string>) | null;
  credentials?: 'same-origin' | 'include';
  csrf?: { header?: string; cookie?: string };
  start?: 'resume' | 'now' | 'earliest' | (string & {});
  tabs?: boolean;
  hideOwn?: boolean;
  eventTypes?: readonly string[];
  maxReconnectAttempts?: number;
  unattended?: boolean;
  policy?: Partial<Policy>;
  limits?: { firstByteS?: number; firstByteRoundTrips?: number; pollLimit?: number };
  onConflict?: ((conflict: {
    name: string; given: Record<string, any>; problem: Problem; current: Record<string, any> | null;
  }) => Record<string, any> | null) | null;
  commands?: Record<string, Command>;
  storageKey?: string;
  eventSourceFactory?: EventSourceFactory | null;
  fetch?: typeof fetch | null;
  storage?: Pick<Storage, 'getItem' | 'setItem'> | null;
  indexedDB?: IDBFactory | null;
  locks?: LockManager | null;
  BroadcastChannel?: typeof BroadcastChannel | null;
  clock?: () => number;
  wallMs?: () => number;
  rng?: () => number;
}

type Handler<Given> = (given: Given) => void | Promise<void>;
type End = () => void;

/** One connection for all tabs of this server, tenant and subject. Does nothing before `connect` or `subscribe`. */
export declare class SyncClient {
  /** Throws ConfigurationError. */
  constructor(options?: SyncOptions);
  connect(filter?: FilterLike): void;
  disconnect(): void;
  disconnectIfIdle(): void;
  retryNow(): void;
  setToken(token?: SyncOptions['token']): void;

  on(type: 'resync', handler: Handler<Notice<{ reason: string }>>): End;
  on(type: 'sync_applied', handler: Handler<Notice<{ action: Action; answer: Record<string, any> }>>): End;
  on(
    type: 'sync_failed',
    handler: Handler<Notice<{ action: Action; problem: Problem; current: Record<string, any> | null }>>,
  ): End;
  on(type: 'connected' | 'caught_up' | 'heartbeat' | 'goodbye' | 'polling_data_refresh', handler: Handler<Notice>): End;
  on(type: string, handler: Handler<Envelope>): End;
  onOrder(orderID: string, handler: Handler<Envelope>): End;
  onStageChange(
    orderID: string | null,
    handler: (event: Envelope, previousStage: string | undefined, newStage: string) => void | Promise<void>,
  ): End;
  onDashboardChange(
    refresh: () => void | Promise<void>,
    options?: { types?: readonly string[]; debounceMs?: number; atMostMs?: number },
  ): End;
  onStateChange(listener: (change: StateChange) => void): End;
  onChange(listener: () => void): End;
  subscribe(filter: FilterLike, options?: {
    handler?: (event: Envelope, source: string) => void | Promise<void>;
    ready?: (cursor: string) => void | Promise<void>;
    resync?: (reason: string) => void | Promise<void>;
    isRaw?: boolean;
  }): View;
  replica(options?: { kinds?: readonly KindName[]; filter?: FilterLike }): Replica;
  send(name: string, given: Record<string, any>, options?: { ifMatch?: number | null }): Sent;

  readonly actions: Actions;
  readonly clientId: string;
  readonly tenantId: string;
  readonly state: StateName;
  readonly isConnected: boolean;
  readonly isReady: boolean;
  readonly events: readonly SyncEvent[];
  readonly latestEvent: SyncEvent | null;
  readonly cursor: string;
  readonly health: Health;
  readonly metrics: Metrics | null;
  readonly transitions: readonly StateChange[];
  readonly errors: readonly [number, string][];
  serverNowMs(): number;
  export(): PersistedState;
  acknowledge(event: string | SyncEvent): boolean;
  /** Throws RequestFailed. */
  page(params: Record<string, string | number>): Promise<Record<string, any>>;
  /** Throws RequestFailed. */
  get(path: string, params?: Record<string, string | number>): Promise<Record<string, any>>;
}

export declare const CONTROL_TYPES: readonly string[];
export declare const EVENT_TYPES: readonly string[];

export declare class SyncError extends Error {}
export declare class ConfigurationError extends SyncError {}
export declare class RequestFailed extends SyncError {
  readonly status: number | null;
  readonly retryAfterS: number | null;
  readonly problem: Problem | null;
}
export declare class NetworkFailed extends RequestFailed {}
export declare class ServerBusy extends RequestFailed {}
export declare class BreakerOpen extends RequestFailed {}
export declare class NotOurAnswer extends RequestFailed {}
export declare class Unauthorized extends RequestFailed {}
export declare class CursorLost extends RequestFailed {}
export declare class StopAsked extends RequestFailed {}
export declare class Refused extends RequestFailed {}
