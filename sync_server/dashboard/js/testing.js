/**
 * For tests of programs: an EventSource that does what the test says, without a network.
 *
 *     const source = fakeEventSource();
 *     render(<SyncManagerProvider eventSourceFactory={source}>...</SyncManagerProvider>);
 *     act(() => source.lastInstance.simulateEvent('connected', { clientId: 'test-client' }));
 */

const CONTROL = new Set(['connected', 'caught_up', 'heartbeat', 'reset', 'removed', 'goodbye']);

export class FakeEventSource extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSED = 2;
  readyState = FakeEventSource.CONNECTING;

  constructor(url, init = {}) {
    super();
    this.url = url;
    this.withCredentials = init.withCredentials === true;
  }

  /**
   * An event comes. For control events `data` is what the server says; for all others it is an envelope, or, without
   * `data` in it, the data of one, which gets an id that follows the one before. Gives the id.
   */
  simulateEvent(type, data = {}, { id } = {}) {
    if (this.readyState === FakeEventSource.CLOSED) return undefined;
    this.readyState = FakeEventSource.OPEN;
    const isControl = CONTROL.has(type);
    const envelope = isControl ? data : toEnvelope(type, data, id ?? `fake0000.${(lastSeq += 1)}`);
    const lastEventId = id ?? (isControl ? String(data.cursor ?? '') : envelope.id);
    this.dispatchEvent(new MessageEvent(type, { data: JSON.stringify(envelope), lastEventId }));
    return lastEventId;
  }

  /** The connection breaks; with `refused` the browser has given up for good. */
  simulateError({ refused = false } = {}) {
    this.readyState = refused ? FakeEventSource.CLOSED : FakeEventSource.CONNECTING;
    this.dispatchEvent(new Event('error'));
  }

  close() {
    this.readyState = FakeEventSource.CLOSED;
  }
}

let lastSeq = 0;

function toEnvelope(type, given, id) {
  const envelope = 'data' in given ? given : { data: given };
  const orderID = given.orderID ?? envelope.data?.orderID ?? envelope.data?.order?.orderID;
  const about = orderID === undefined ? {} : { orderID };
  return { id, eventType: type, timestamp: new Date().toISOString(), ...about, ...envelope };
}

/** A factory for `eventSourceFactory`: `instances`, all that it made, and `lastInstance`. */
export function fakeEventSource() {
  const factory = (url, init) => {
    const instance = new FakeEventSource(url, init);
    factory.instances.push(instance);
    factory.lastInstance = instance;
    return instance;
  };
  factory.instances = [];
  factory.lastInstance = null;
  return factory;
}
