/** The kinds of documents that a replica keeps: their names on the wire, and what is open. */

import { DECLARED_KINDS } from './declared.js';
import { isOpenFuelOrder } from './fueling.js';
import { isOpenTransport } from './logistics.js';

/** Of kinds that are ever finished, whether a document still is open. */
const IS_OPEN = {
  orders: (order) => order.stage !== 'completed' && order.stage !== 'cancelled',
  fuel_orders: isOpenFuelOrder,
  transport_orders: isOpenTransport,
  fuel_logs: () => false, // done when it is made
};

/** By plural name: `key` is the kind in events and answers, `id` the field with a document's id. */
export const KINDS = Object.freeze(
  Object.fromEntries(
    Object.entries(DECLARED_KINDS).map(([plural, names]) => [
      plural, Object.freeze({ plural, ...names, isOpen: IS_OPEN[plural] ?? (() => true) }),
    ]),
  ),
);

const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);

/**
 * The document that an event, or a part of an answer, carries: `{kind, id, version, document}`, with document null for
 * a deletion; null if there is none. `data` is `{<key>: {...}, deleted?}`, `version` the envelope's.
 */
export function carried(data, version, kinds) {
  if (!Number.isInteger(version)) return null;
  for (const kind of kinds) {
    const document = data[kind.key];
    if (!isObject(document)) continue;
    const id = document[kind.id] ?? document.id;
    if (typeof id !== 'string') continue;
    if (data.deleted === true || document.deleted === true) return { kind, id, version, document: null };
    if (document.version === version) return { kind, id, version, document };
  }
  return null;
}

/** All documents of a command's answer, or of a refusal's `current`, in the form of `carried`. */
export function allCarried(answer, kinds) {
  const found = [];
  for (const kind of kinds) {
    const several = answer[kind.plural];
    const one = answer[kind.key];
    for (const document of [...(Array.isArray(several) ? several : []), ...(isObject(one) ? [one] : [])]) {
      if (!isObject(document)) continue;
      const id = document[kind.id] ?? document.id;
      if (typeof id !== 'string' || !Number.isInteger(document.version)) continue;
      found.push({ kind, id, version: document.version, document: document.deleted === true ? null : document });
    }
  }
  return found;
}
