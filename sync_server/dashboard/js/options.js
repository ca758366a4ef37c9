/** What a client can be told, with the defaults; checked together, in one error. */

import { ConfigurationError } from './errors.js';
import { newId } from './ids.js';
import { LIMITS, POLICY } from './states.js';
import { parseCursor } from './cursor.js';
import { COMMANDS } from './commands.js';

const DEFAULTS = Object.freeze({
  /** Where the server is: a URL or a path, such as '/shop/' behind a proxy. */
  baseUrl: '/',
  /** Whose local state it is, where several shops or people share a browser; the server goes by credentials. */
  tenantId: '',
  subject: '',
  /** Names this instance in what it causes; by default made anew for each page. */
  clientId: '',
  /** A bearer token, or a function (sync or async) that fetches one; null: cookies. */
  token: null,
  /** 'same-origin' or 'include', for a server of another origin with cookies. */
  credentials: 'same-origin',
  csrf: Object.freeze({ header: 'X-CSRF-Token', cookie: 'order_sync_csrf' }),
  /** 'resume': where the last life stood, if that is at most an hour ago; 'now', 'earliest', or a cursor. */
  start: 'resume',
  /** Share one connection with the other tabs; by default unless there is an eventSourceFactory. */
  tabs: null,
  /** Do not hand out events that this very instance caused. */
  hideOwn: false,
  /** Custom event types to listen for. */
  eventTypes: Object.freeze([]),
  maxReconnectAttempts: POLICY.maxReconnectAttempts,
  /** Try again every five minutes even when not let in: wall screens. */
  unattended: false,
  /** Other numbers of the state machine (states.js). */
  policy: Object.freeze({}),
  /** Other bounds of requests (LIMITS in states.js). */
  limits: Object.freeze({}),
  /** What becomes of a command that the server refused with 409: other parameters, or null. */
  onConflict: null,
  commands: COMMANDS,
  storageKey: '',
  // what it is made of, for tests and unusual surroundings
  eventSourceFactory: null,
  fetch: null,
  storage: undefined,
  indexedDB: undefined,
  locks: undefined,
  BroadcastChannel: undefined,
  clock: () => performance.now() / 1000,
  wallMs: Date.now,
  rng: Math.random,
});

/** All options. Throws ConfigurationError with every fault. */
export function readOptions(given) {
  const faults = Object.keys(given).filter((name) => !(name in DEFAULTS)).map((name) => `there is no option ${name}`);
  const options = { ...DEFAULTS };
  for (const [name, value] of Object.entries(given)) if (value !== undefined) options[name] = value;
  const check = (holds, fault) => holds || faults.push(fault);
  check(typeof options.baseUrl === 'string', 'baseUrl: a URL or path as text');
  check(['resume', 'now', 'earliest'].includes(options.start) || parseCursor(options.start),
    "start: 'resume', 'now', 'earliest' or a cursor");
  check(['same-origin', 'include'].includes(options.credentials), "credentials: 'same-origin' or 'include'");
  check(options.token === null || ['string', 'function'].includes(typeof options.token), 'token: a text or a function');
  check(Number.isInteger(options.maxReconnectAttempts) && options.maxReconnectAttempts >= 1,
    'maxReconnectAttempts: a whole number from 1');
  for (const name of ['tenantId', 'subject', 'clientId', 'storageKey']) {
    const isText = typeof options[name] === 'string' && options[name].length <= 128;
    check(isText, `${name}: a text of at most 128 characters`);
  }
  for (const [name, known] of [['policy', POLICY], ['limits', LIMITS]]) {
    const wrong = Object.keys(options[name]).filter((key) => !(key in known));
    check(!wrong.length, `${name}: there is no ${wrong.join(', ')}`);
  }
  if (faults.length) throw new ConfigurationError(`these options cannot be used: ${faults.join('; ')}`);
  const { maxReconnectAttempts, unattended } = options;
  options.policy = Object.freeze({ ...POLICY, maxReconnectAttempts, unattended, ...options.policy });
  options.limits = Object.freeze({ ...LIMITS, ...options.limits });
  options.clientId ||= `browser#${newId(8)}`;
  options.tabs ??= options.eventSourceFactory === null;
  options.csrf = { ...DEFAULTS.csrf, ...options.csrf };
  return options;
}

/** What the browser offers under `name`, unless it was given; null where that throws or is missing. */
export function surroundings(options) {
  const pick = (given, found) => {
    if (given !== undefined && given !== null) return given;
    if (given === null) return null;
    try {
      return found() ?? null; // with cookies blocked, the mere look at localStorage throws
    } catch {
      return null;
    }
  };
  return {
    storage: pick(options.storage, () => globalThis.localStorage),
    indexedDB: pick(options.indexedDB, () => globalThis.indexedDB),
    locks: pick(options.locks, () => globalThis.navigator?.locks),
    BroadcastChannel: pick(options.BroadcastChannel, () => globalThis.BroadcastChannel),
    fetch: options.fetch ?? ((...args) => globalThis.fetch(...args)),
    factory: options.eventSourceFactory ?? ((url, init) => new EventSource(url, init)),
  };
}
