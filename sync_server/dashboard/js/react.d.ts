/** Types of react.js. */

import type { ReactElement, ReactNode } from 'react';
import type {
  Document, Envelope, FilterLike, Health, KindName, Outcome, Problem, Replica, Sent, StateName, SyncClient, SyncEvent,
  SyncOptions,
} from './sync.js';

export * from './sync.js';

/** Which client: one for each tenant and instance name. */
export interface Whose {
  tenantId?: string;
  clientId?: string;
}

/** The options of the clients below it, or one that was made elsewhere. They are read once. */
export declare function SyncManagerProvider(
  props: SyncOptions & { client?: SyncClient | null; children?: ReactNode },
): ReactElement;

export declare function useSyncClient(options?: Whose): SyncClient;

export interface SyncManager {
  connectionState: StateName;
  isConnected: boolean;
  events: readonly SyncEvent[];
  latestEvent: SyncEvent | null;
  connect(filter?: FilterLike): void;
  disconnect(): void;
  retryNow(): void;
  send(name: string, given: Record<string, any>, options?: { ifMatch?: number | null }): Sent;
  client: SyncClient;
}

/** With a filter it connects by itself; without one by `connect(filter)`. */
export declare function useSyncManager(options?: Whose & Exclude<FilterLike, import('./sync.js').Filter>): SyncManager;

export declare function useOrderSync(orderID: string | null | undefined, options?: Whose): {
  events: readonly SyncEvent[];
  latestEvent: SyncEvent | null;
  isLoading: boolean;
};

export declare function useConnectionHealth(
  options?: Whose,
): Omit<Health, 'since' | 'forS'> & Partial<Pick<Health, 'since' | 'forS'>>;

export declare function useOrderStageChange(
  orderID: string | null | undefined,
  handler: (event: Envelope, previousStage: string | undefined, newStage: string) => void | Promise<void>,
  options?: Whose,
): void;

export declare function useDashboardSync(
  refresh: () => void | Promise<void>,
  options?: Whose & { eventTypes?: readonly string[]; debounceMs?: number; atMostMs?: number },
): void;

export declare function useQueueSync(options?: Whose): {
  queues: readonly Document[];
  updateQueue(queueID: string, changes: { name?: string; paused?: boolean }): Promise<Outcome>;
  isLoading: boolean;
  problem: Problem | null;
};

export interface WashingJob {
  jobID: string;
  orderID: string;
  service: string;
  startedAt: string;
  expectedSeconds: number;
  progress: number;
  bayID: string;
  status: 'active' | 'completed' | 'aborted';
}

export declare function useWashingBaySync(bayId?: string | null, options?: Whose): {
  jobs: WashingJob[];
  activeJobs: WashingJob[];
  bays: readonly Document[];
  isLoading: boolean;
  problem: Problem | null;
};

/** `kinds` is a comma list. */
export declare function useReplica(client: SyncClient, options: { kinds: string; filter?: FilterLike }): {
  lists: Record<KindName | (string & {}), readonly Document[]>;
  replica: Replica | null;
  isLoading: boolean;
  problem: Problem | null;
};

export declare function SyncDebugPanel(props: Whose & { debug?: boolean; className?: string }): ReactElement | null;
