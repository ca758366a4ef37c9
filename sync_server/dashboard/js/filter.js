/**
 * What a reader wants to see: event types AND any of its entities.
 *
 * A filter is given as on the wire, `{orderID: 'A', eventTypes: ['x', 'y']}`, each value a text (comma lists too) or
 * a list. Without types it stands for all types, without entities for all entities. Source: protocol.md 2.
 */

import { ConfigurationError } from './errors.js';

export const ENTITY_KEYS = Object.freeze([
  'orderID', 'queueID', 'bayID', 'jobID', 'deviceID', 'sessionID', 'userID', 'vehicleID', 'fuelOrderID', 'truckID',
  'transportOrderID', 'tabID', 'tillID', 'catalogID', 'transactionID', 'fuelLogID',
  'vehicleMarkID',
]);

export const MAX_FILTER_VALUES = 200;

/** An immutable filter. */
export class Filter {
  #types;
  #tags;

  constructor(types = [], tags = []) {
    this.#types = new Set(types);
    this.#tags = new Set(tags);
    Object.freeze(this);
  }

  /** The filter that `given` describes (a Filter is taken as it is). Throws ConfigurationError. */
  static read(given) {
    if (given instanceof Filter) return given;
    const types = [];
    const tags = [];
    for (const [key, value] of Object.entries(given ?? {})) {
      const values = valuesOf(value);
      if (key === 'eventTypes') types.push(...values);
      else if (ENTITY_KEYS.includes(key)) tags.push(...values.map((id) => `${key}=${id}`));
      else throw new ConfigurationError(`filter: there is no key ${key}`);
    }
    if (types.length + tags.length > MAX_FILTER_VALUES) {
      throw new ConfigurationError(`filter: at most ${MAX_FILTER_VALUES} values`);
    }
    return new Filter(types, tags);
  }

  /** Event types that it names; empty for all. */
  get types() {
    return [...this.#types];
  }

  /** Whether an event of that envelope is asked for. */
  matches(envelope) {
    if (this.#types.size && !this.#types.has(envelope.eventType)) return false;
    return !this.#tags.size || ENTITY_KEYS.some((key) => key in envelope && this.#tags.has(`${key}=${envelope[key]}`));
  }

  /** Whether all that `other` lets through passes here too. */
  covers(other) {
    return isWithin(other.#types, this.#types) && isWithin(other.#tags, this.#tags);
  }

  /**
   * One filter that lets through at least what each of `filters` does; what is too much is sorted out by each of
   * them. Too many values for the wire: entities are left out, then types.
   */
  static union(filters) {
    const all = [...filters];
    const types = all.some((f) => !f.#types.size) ? [] : all.flatMap((f) => [...f.#types]);
    const tags = all.some((f) => !f.#tags.size) ? [] : all.flatMap((f) => [...f.#tags]);
    const typeCount = new Set(types).size;
    if (typeCount + new Set(tags).size <= MAX_FILTER_VALUES) return new Filter(types, tags);
    return new Filter(typeCount <= MAX_FILTER_VALUES ? types : [], []);
  }

  /** As on the wire: name to sorted values. */
  document() {
    const document = {};
    if (this.#types.size) document.eventTypes = [...this.#types].sort();
    for (const tag of [...this.#tags].sort()) {
      const [key, value] = splitTag(tag);
      (document[key] ??= []).push(value);
    }
    return document;
  }

  /** As query parameters: name to comma list. */
  params() {
    return Object.fromEntries(Object.entries(this.document()).map(([key, values]) => [key, values.join(',')]));
  }

  /** The entities alone. */
  entities() {
    return new Filter([], this.#tags);
  }
}

function valuesOf(value) {
  if (value === null || value === undefined) return [];
  const list = Array.isArray(value) ? value : [value];
  const values = list.flatMap((item) => String(item).split(','));
  if (values.some((item) => item === '')) throw new ConfigurationError('filter: a value is empty');
  return values;
}

function isWithin(inner, outer) {
  if (!outer.size) return true;
  return inner.size > 0 && [...inner].every((value) => outer.has(value));
}

function splitTag(tag) {
  const at = tag.indexOf('=');
  return [tag.slice(0, at), tag.slice(at + 1)];
}
