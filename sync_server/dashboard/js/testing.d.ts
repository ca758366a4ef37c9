/** Types of testing.js. */

export declare class FakeEventSource extends EventTarget {
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSED: 2;
  readonly url: string;
  readonly withCredentials: boolean;
  readyState: number;
  constructor(url: string, init?: { withCredentials?: boolean });
  /** Gives the id; undefined once it is closed. */
  simulateEvent(type: string, data?: Record<string, any>, options?: { id?: string }): string | undefined;
  simulateError(options?: { refused?: boolean }): void;
  close(): void;
}

export interface FakeEventSourceFactory {
  (url: string, init?: { withCredentials?: boolean }): FakeEventSource;
  instances: FakeEventSource[];
  lastInstance: FakeEventSource | null;
}

export declare function fakeEventSource(): FakeEventSourceFactory;
