/** What the unit tests in the browser share: `test`, comparisons, time that tests move, a scripted fetch. */

const tests = new Map();

/** Register a test; pytest finds it by this very line, so its name is a plain text. */
export function test(name, body) {
  if (tests.has(name)) throw new Error(`two tests are named ${name}`);
  tests.set(name, body);
}

/** All names that this file registered. */
export function names() {
  return [...tests.keys()];
}

export async function run(name) {
  const time = new FakeTime();
  localStorage.clear();
  try {
    await tests.get(name)({ time });
  } finally {
    time.uninstall();
  }
}

export function equal(actual, expected, what = '') {
  const [is, wanted] = [show(actual), show(expected)];
  if (is !== wanted) throw new Error(`${what ? `${what}: ` : ''}${is}\n      is not ${wanted}`);
}

export function ok(value, what = '') {
  if (!value) throw new Error(`${what || 'it'} does not hold: ${show(value)}`);
}

export function throws(work, kind) {
  try {
    work();
  } catch (error) {
    if (error instanceof kind) return error;
    throw error;
  }
  throw new Error(`nothing was thrown, though ${kind.name} was expected`);
}

export async function rejects(promise, kind) {
  try {
    await promise;
  } catch (error) {
    if (error instanceof kind) return error;
    throw error;
  }
  throw new Error(`nothing was thrown, though ${kind.name} was expected`);
}

/** Wait, in real time, until `condition()` holds. */
export async function until(condition, what = String(condition)) {
  const deadline = realNow() + 5000;
  while (!(await condition())) {
    if (realNow() > deadline) throw new Error(`it did not come to be: ${what}`);
    await new Promise((resolve) => realSetTimeout(resolve, 2));
  }
}

function show(value) {
  return JSON.stringify(value, (_, item) => {
    if (item instanceof Map) return { Map: [...item] };
    if (item instanceof Set) return { Set: [...item] };
    if (typeof item === 'bigint' || item === undefined) return String(item);
    if (item !== null && typeof item === 'object' && !Array.isArray(item)) {
      return Object.fromEntries(
        Object.keys(item)
          .sort()
          .map((key) => [key, item[key]]),
      );
    }
    return item;
  });
}

const realSetTimeout = globalThis.setTimeout.bind(globalThis);
const realNow = performance.now.bind(performance);
const REPLACED = ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'];
const originals = Object.fromEntries(REPLACED.map((name) => [name, globalThis[name]]));

/** Time that stands still until `advance`. Timers are replaced once `install` was called. */
export class FakeTime {
  nowMs = 1_000_000;
  #timers = new Map();
  #lastId = 0;

  install() {
    const set = (work, delayMs, everyMs) => {
      this.#lastId += 1;
      this.#timers.set(this.#lastId, { dueMs: this.nowMs + Math.max(Number(delayMs) || 0, 0), work, everyMs });
      return this.#lastId;
    };
    const clear = (id) => this.#timers.delete(id);
    Object.assign(globalThis, {
      setTimeout: (work, delayMs) => set(work, delayMs, null),
      setInterval: (work, everyMs) => set(work, everyMs, Math.max(Number(everyMs), 1)),
      clearTimeout: clear,
      clearInterval: clear,
    });
    return this;
  }

  uninstall() {
    Object.assign(globalThis, originals);
  }

  /** The monotonic clock, in seconds. */
  clock = () => this.nowMs / 1000;

  /** The wall clock, in milliseconds. */
  wallMs = () => Date.parse('2026-11-20T10:00:00Z') + this.nowMs - 1_000_000;

  /** Let `seconds` pass, timer by timer, and give promises their turn. */
  async advance(seconds) {
    const endMs = this.nowMs + seconds * 1000;
    await settle();
    for (;;) {
      const [id, timer] =
        [...this.#timers]
          .filter(([, { dueMs }]) => dueMs <= endMs)
          .sort(([a, x], [b, y]) => x.dueMs - y.dueMs || a - b)[0] ?? [];
      if (timer === undefined) break;
      this.nowMs = Math.max(this.nowMs, timer.dueMs);
      if (timer.everyMs === null) this.#timers.delete(id);
      else timer.dueMs += timer.everyMs;
      timer.work();
      await settle();
    }
    this.nowMs = endMs;
    await settle();
  }
}

/** Let promises and message channels have their turn. */
export async function settle(rounds = 3) {
  for (let round = 0; round < rounds; round += 1) {
    await new Promise((resolve) => {
      // not a timer: nested ones take 4 ms
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = resolve;
      port2.postMessage(null);
    });
  }
}

/**
 * A fetch that answers from a script: `answer(url, init)` gives `{status, body, headers}`, a promise of it, or throws.
 * `requests` remembers all: `{method, path, params, headers, body}`.
 */
export function scriptedFetch(answer) {
  const requests = [];
  const fetch = async (href, init) => {
    const url = new URL(href);
    const request = {
      method: init.method,
      path: url.pathname,
      params: Object.fromEntries(url.searchParams),
      headers: init.headers,
      body: init.body === undefined ? undefined : JSON.parse(init.body),
    };
    requests.push(request);
    const aborted = new Promise((_, reject) => {
      init.signal?.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError')));
    });
    const { status = 200, body = {}, headers = {} } = await Promise.race([answer(request, requests.length), aborted]);
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    return new Response(status === 204 ? null : text, { status, headers });
  };
  fetch.requests = requests;
  return fetch;
}

/** Numbers from 0 to below 1 that are the same each time. */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
