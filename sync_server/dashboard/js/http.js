/**
 * Plain requests: address, credentials, circuit breaker, and errors told apart by what to do about them.
 *
 * Who we are: a bearer token where there is a token provider (then streams get single-use tickets, since an
 * EventSource cannot send headers); else the browser's cookie, with the CSRF token in a header of its own on
 * whatever changes something. Source: protocol.md 2.2, 4, 5.
 */

import { parseRetryAfter } from './backoff.js';
import {
  ConfigurationError, CursorLost, NetworkFailed, NotOurAnswer, Refused, ServerBusy, StopAsked, Unauthorized,
} from './errors.js';

export const STREAM_PATH = 'api/v1/sync/events';
export const POLL_PATH = 'api/v1/sync/poll';
export const SNAPSHOT_PATH = 'api/v1/sync/snapshot';
export const TICKET_PATH = 'api/v1/auth/tickets';

const TIMEOUT_MS = 30_000;
const TRANSIENT = new Set([408, 425, 429]);

/** One per client. `clock` is monotonic, in seconds. */
export class Http {
  #base = null;
  #options;
  /** How long the last plain request took, in seconds, at most 5. */
  roundTripS = 0;

  constructor({ baseUrl = '/', fetch, tokens, breaker, clock, clientId, credentials = 'same-origin', csrf }) {
    this.#options = { baseUrl, fetch, breaker, clock, clientId, credentials, csrf };
    this.tokens = tokens;
  }

  /** How long the breaker keeps plain requests back, in seconds. */
  get retryInS() {
    return this.#options.breaker.retryInS;
  }

  get withCredentials() {
    return this.#options.credentials === 'include';
  }

  /** The address of `path` below the base, with query `params`. Throws ConfigurationError. */
  url(path, params = {}) {
    const url = new URL(path, this.#baseUrl());
    for (const [key, value] of Object.entries(params)) url.searchParams.set(key, value);
    return url.href;
  }

  #baseUrl() {
    // Not in the constructor: on a server that renders pages there is no location yet.
    if (this.#base === null) {
      const { baseUrl } = this.#options;
      try {
        const base = new URL(baseUrl, globalThis.document?.baseURI ?? globalThis.location?.href);
        if (!/^https?:$/.test(base.protocol)) throw new TypeError(`${base.protocol} is no protocol for this`);
        if (!base.pathname.endsWith('/')) base.pathname += '/';
        base.search = base.hash = '';
        this.#base = base;
      } catch (error) {
        throw new ConfigurationError(`baseUrl ${JSON.stringify(baseUrl)} cannot be used: ${error.message}`);
      }
    }
    return this.#base;
  }

  /** A GET through the breaker: the JSON document. Throws RequestFailed, or the signal's own abort. */
  async get(path, { params, signal, timeoutMs } = {}) {
    const { document } = await this.request('GET', path, { params, signal, timeoutMs });
    return document;
  }

  /**
   * One request through the breaker: `{status, document}` of a 2xx answer. Throws RequestFailed for all others.
   * 204 is StopAsked for a GET, an answer without a document for everything else.
   */
  async request(method, path, { params, body, headers = {}, signal, timeoutMs = TIMEOUT_MS } = {}) {
    await this.#ensureToken();
    const permission = this.#options.breaker.request();
    try {
      const startedS = this.#options.clock();
      const answer = await this.#exchange(method, path, { params, body, headers, signal, timeoutMs }, permission);
      if (method === 'GET' && !params?.wait) this.roundTripS = Math.min(this.#options.clock() - startedS, 5);
      return answer;
    } finally {
      permission.end();
    }
  }

  async #exchange(method, path, { params, body, headers, signal, timeoutMs }, permission) {
    const url = this.url(path, params);
    const abort = new AbortController();
    const stop = () => abort.abort();
    signal?.addEventListener('abort', stop);
    const timer = setTimeout(stop, timeoutMs);
    let response;
    let text;
    try {
      if (signal?.aborted) stop();
      response = await this.#options.fetch(url, {
        method,
        headers: this.#headers(method, body, headers),
        body: body === undefined ? undefined : JSON.stringify(body),
        credentials: this.#options.credentials,
        cache: 'no-store',
        signal: abort.signal,
      });
      text = await response.text();
    } catch (error) {
      if (signal?.aborted) throw error; // our own wish: nobody failed
      permission.failed();
      throw new NetworkFailed(abort.signal.aborted ? 'no answer in time' : `no connection: ${error.message}`);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
    }
    if (response.status >= 500) permission.failed();
    else permission.succeeded();
    return read(method, path, response, text);
  }

  #headers(method, body, more) {
    const headers = { Accept: 'application/json, application/problem+json', ...more };
    if (this.tokens.current !== null) headers.Authorization = `Bearer ${this.tokens.current}`;
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    if (method !== 'GET') {
      headers['X-Client-ID'] ??= this.#options.clientId;
      const { header, cookie } = this.#options.csrf;
      const token = this.tokens.current === null ? readCookie(cookie) : null;
      if (token !== null) headers[header] = token;
    }
    return headers;
  }

  /** A provider that fails is tried again like a server. Throws ServerBusy. */
  async #ensureToken() {
    if (!this.tokens.needsFetching) return;
    try {
      await this.tokens.renew();
    } catch (error) {
      throw new ServerBusy(`token provider: ${error?.name ?? 'error'}`);
    }
  }

  /** A fresh single-use ticket for one stream. Throws RequestFailed. */
  async ticket(signal) {
    const { document } = await this.request('POST', TICKET_PATH, { body: {}, signal });
    if (typeof document?.ticket !== 'string') throw new NotOurAnswer('the answer holds no ticket', { status: 200 });
    return document.ticket;
  }
}

function read(method, path, response, text) {
  const { status } = response;
  const retryAfterS = parseRetryAfter(response.headers.get('Retry-After'));
  const document = parseObject(text);
  if (status === 204 && method === 'GET') throw new StopAsked('the server asks not to come back (204)', { status });
  if (status >= 200 && status < 300) {
    if (document === null && status !== 204) {
      throw new NotOurAnswer(`${path}: the answer is no JSON document; somebody in between?`, { status });
    }
    return { status, document };
  }
  const problem = document;
  const message = `${status} ${problem?.detail ?? problem?.title ?? response.statusText}`.trim();
  const details = { status, retryAfterS, problem };
  if (status === 401 || status === 403) throw new Unauthorized(message, details);
  if (status === 410) throw new CursorLost(message, details);
  if (status >= 500 || TRANSIENT.has(status)) throw new ServerBusy(message, details);
  if (status < 400) throw new NotOurAnswer(message, details);
  throw new Refused(message, details);
}

function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === 'object' && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

function readCookie(name) {
  const cookies = globalThis.document?.cookie ?? '';
  for (const pair of cookies.split(/;\s*/)) {
    const at = pair.indexOf('=');
    if (at > 0 && pair.slice(0, at) === name) {
      try {
        return decodeURIComponent(pair.slice(at + 1));
      } catch {
        return pair.slice(at + 1);
      }
    }
  }
  return null;
}

