/**
 * All commands: route, and the picture to show until the server has answered.
 *
 * Named `<collection>.<command>` after the server's declarations (sync_core/domain), out of which declared.js is made;
 * one that no picture is written for is shown when the feed tells of it. A test compares pictures with the rules.
 * `overlay(given, docs, now)` changes `docs` as the server will; it returns false where the rules will refuse, and
 * then nothing is shown. `docs` is `get(kind, id)`, `put(kind, document)`, `remove(kind, id)`. `complete(given)`
 * makes the ids that the server would make, so that a repeat names the same ones.
 */

import { DECLARED_COMMANDS } from './declared.js';
import { CATALOGS, DEVICES } from './devices.js';
import { FUEL_ORDERS, FUEL_TRUCKS } from './fueling.js';
import { newId } from './ids.js';
import { DRIVERS, FUEL_LOGS, TRANSPORT_ORDERS, VEHICLES } from './logistics.js';
import { sum } from './money.js';

const NEXT_STAGES = {
  empty: ['initiated', 'cancelled'],
  initiated: ['in_progress', 'cancelled'],
  in_progress: ['completed'],
  completed: [],
  cancelled: [],
};

const NEXT_PAYMENT = {
  pending: ['paid', 'failed'],
  failed: ['pending'],
  paid: ['refunded'],
  refunded: [],
};

const JOB_DEFAULTS = { service: 'wash', expectedSeconds: 900 };

/** `document` with `changes`; what is null or undefined is taken away. */
function changed(document, changes) {
  return Object.fromEntries(
    Object.entries({ ...document, ...changes }).filter(([, value]) => value !== null && value !== undefined),
  );
}

/** The amount that `items` come to: text with two places, without binary fractions. */
export function total(items) {
  return sum(items.map(({ unitPrice, quantity }) => [unitPrice, quantity]));
}

function without(queue, orderID) {
  return { ...queue, entries: queue.entries.filter((entry) => entry.orderID !== orderID) };
}

function leaveQueue(docs, order) {
  const queue = order.queueID === undefined ? null : docs.get('queues', order.queueID);
  if (queue) docs.put('queues', without(queue, order.orderID));
}

function enterStage(docs, order, stage, now, changes = {}) {
  const queueID = stage === 'initiated' ? order.queueID : null;
  if (stage !== 'initiated') leaveQueue(docs, order);
  docs.put('orders', changed(order, { ...changes, queueID, stage, updatedAt: now }));
}

function startJob(docs, bay, order, given, now) {
  if (bay.status !== 'available' || order.stage !== 'initiated') return false;
  const { jobID, service, expectedSeconds } = { ...JOB_DEFAULTS, ...given };
  const job = { jobID, orderID: order.orderID, service, startedAt: now, expectedSeconds, progress: 0 };
  docs.put('bays', { ...bay, status: 'occupied', job });
  enterStage(docs, order, 'in_progress', now, { bayID: bay.bayID });
  return true;
}

function endJob(given, docs, now, stage) {
  const bay = docs.get('bays', given.bayID);
  if (!bay || bay.job?.jobID !== given.jobID) return false;
  const order = docs.get('orders', bay.job.orderID);
  docs.put('bays', changed(bay, { status: 'cleaning', job: null }));
  if (order) enterStage(docs, order, stage, now, { bayID: null });
  return true;
}

const ORDERS = {
  create: {
    overlay({ orderID, items = [], customer, notes, currency = 'USD' }, docs, now) {
      if (docs.get('orders', orderID)) return false;
      const payment = { status: 'pending', amount: total(items), currency };
      const stage = items.length ? 'initiated' : 'empty';
      const order = { orderID, stage, items, payment, customer, notes, createdAt: now, updatedAt: now, version: 0 };
      docs.put('orders', changed(order, {}));
      return true;
    },
  },
  changeStage: {
    overlay({ orderID, newStage }, docs, now) {
      const order = docs.get('orders', orderID);
      if (!order || order.bayID !== undefined || !NEXT_STAGES[order.stage]?.includes(newStage)) return false;
      enterStage(docs, order, newStage, now);
      return true;
    },
  },
  setStatus: {
    overlay({ orderID, status }, docs, now) {
      const order = docs.get('orders', orderID);
      if (!order) return false;
      docs.put('orders', { ...order, status, updatedAt: now });
      return true;
    },
  },
  setPayment: {
    overlay({ orderID, ...given }, docs, now) {
      const order = docs.get('orders', orderID);
      if (!order || !NEXT_PAYMENT[order.payment.status]?.includes(given.status)) return false;
      const payment = { ...order.payment, ...changed(given, {}) };
      docs.put('orders', { ...order, payment, updatedAt: now });
      return true;
    },
  },
  edit: {
    overlay({ orderID, ...given }, docs, now) {
      const order = docs.get('orders', orderID);
      const isOpen = order && order.stage !== 'completed' && order.stage !== 'cancelled';
      if (!order || (!isOpen && given.items !== undefined && given.items !== null)) return false;
      const more = {};
      if ('items' in given) more.items = given.items ?? [];
      const isOwed = order.payment.status === 'pending' || order.payment.status === 'failed';
      if (given.items && isOwed) more.payment = { ...order.payment, amount: total(given.items) };
      docs.put('orders', changed(order, { ...given, ...more, updatedAt: now }));
      return true;
    },
  },
  delete: {
    overlay({ orderID }, docs) {
      const order = docs.get('orders', orderID);
      if (!order || order.bayID !== undefined) return false;
      leaveQueue(docs, order);
      docs.remove('orders', orderID);
      return true;
    },
  },
};

const QUEUES = {
  create: {
    overlay({ queueID, name }, docs) {
      if (docs.get('queues', queueID)) return false;
      docs.put('queues', { queueID, name, paused: false, entries: [], nextTicket: 1, version: 0 });
      return true;
    },
  },
  edit: {
    overlay({ queueID, ...given }, docs) {
      const queue = docs.get('queues', queueID);
      if (!queue) return false;
      docs.put('queues', { ...queue, ...changed(given, {}) });
      return true;
    },
  },
  delete: {
    overlay({ queueID }, docs) {
      const queue = docs.get('queues', queueID);
      if (!queue || queue.entries.length) return false;
      docs.remove('queues', queueID);
      return true;
    },
  },
  enter: {
    overlay({ queueID, orderID, priority = 0 }, docs, now) {
      const queue = docs.get('queues', queueID);
      const order = docs.get('orders', orderID);
      if (!queue || !order || queue.paused || order.queueID !== undefined) return false;
      if (order.stage !== 'initiated' || order.bayID !== undefined) return false;
      const place = queue.entries.findLastIndex((entry) => entry.priority >= priority) + 1;
      const entry = { ticket: queue.nextTicket, orderID, priority, enteredAt: now };
      const entries = queue.entries.toSpliced(place, 0, entry);
      docs.put('queues', { ...queue, entries, nextTicket: queue.nextTicket + 1 });
      docs.put('orders', { ...order, queueID, updatedAt: now });
      return true;
    },
  },
  leave: {
    overlay({ queueID, orderID }, docs, now) {
      const queue = docs.get('queues', queueID);
      if (!queue?.entries.some((entry) => entry.orderID === orderID)) return false;
      docs.put('queues', without(queue, orderID));
      const order = docs.get('orders', orderID);
      if (order) docs.put('orders', changed(order, { queueID: null, updatedAt: now }));
      return true;
    },
  },
  move: {
    overlay({ queueID, orderID, position }, docs) {
      const queue = docs.get('queues', queueID);
      const entry = queue?.entries.find((one) => one.orderID === orderID);
      if (!entry) return false;
      const { entries } = without(queue, orderID);
      docs.put('queues', { ...queue, entries: entries.toSpliced(position - 1, 0, entry) });
      return true;
    },
  },
  callNext: {
    overlay({ queueID, bayID, ...given }, docs, now) {
      const queue = docs.get('queues', queueID);
      const bay = docs.get('bays', bayID);
      const order = queue?.entries.length ? docs.get('orders', queue.entries[0].orderID) : null;
      if (!bay || !order || queue.paused) return false;
      return startJob(docs, bay, order, given, now);
    },
  },
};

const BAYS = {
  create: {
    overlay({ bayID, name }, docs) {
      if (docs.get('bays', bayID)) return false;
      docs.put('bays', { bayID, name, status: 'available', version: 0 });
      return true;
    },
  },
  edit: {
    overlay({ bayID, ...given }, docs) {
      const bay = docs.get('bays', bayID);
      if (!bay || bay.status === 'occupied') return false;
      docs.put('bays', { ...bay, ...changed(given, {}) });
      return true;
    },
  },
  delete: {
    overlay({ bayID }, docs) {
      const bay = docs.get('bays', bayID);
      if (!bay || bay.status === 'occupied') return false;
      docs.remove('bays', bayID);
      return true;
    },
  },
  startJob: {
    overlay({ bayID, orderID, ...given }, docs, now) {
      const bay = docs.get('bays', bayID);
      const order = docs.get('orders', orderID);
      return Boolean(bay && order) && startJob(docs, bay, order, given, now);
    },
  },
  reportProgress: {
    overlay({ bayID, jobID, progress }, docs) {
      const bay = docs.get('bays', bayID);
      if (!bay || bay.job?.jobID !== jobID || progress < bay.job.progress) return false;
      docs.put('bays', { ...bay, job: { ...bay.job, progress } });
      return true;
    },
  },
  finishJob: {
    overlay: (given, docs, now) => endJob(given, docs, now, 'completed'),
  },
  abortJob: {
    overlay: (given, docs, now) => endJob(given, docs, now, 'initiated'),
  },
};

const COLLECTIONS = {
  orders: ORDERS,
  queues: QUEUES,
  bays: BAYS,
  devices: DEVICES,
  catalogs: CATALOGS,
  fuel_orders: FUEL_ORDERS,
  fuel_trucks: FUEL_TRUCKS,
  vehicles: VEHICLES,
  drivers: DRIVERS,
  transport_orders: TRANSPORT_ORDERS,
  fuel_logs: FUEL_LOGS,
};

/** A command as it is declared, with the picture that is written here for it, if any. */
function commandOf(name, { method, path, made = [] }) {
  const [target, short] = name.split('.');
  const ids = () => Object.fromEntries(made.map((field) => [field, newId()]));
  const complete = (given) => ({ ...ids(), ...given });
  return Object.freeze({ complete, ...COLLECTIONS[target]?.[short], method, path, target });
}

/**
 * By name, such as `orders.changeStage`: `{method, path, target, complete, overlay?, isOfMoment?}`. One that
 * `isOfMoment` names a place in the document as it was: refused, it is not to be sent again as it stands.
 */
export const COMMANDS = Object.freeze(
  Object.fromEntries(Object.entries(DECLARED_COMMANDS).map(([name, command]) => [name, commandOf(name, command)])),
);

/** The HTTP request of `command` with what is `given`: `{method, path, body}`, path below the base address. */
export function requestOf({ method, path }, given) {
  const inPath = new Set();
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => {
    inPath.add(name);
    const value = Number.isInteger(given[name]) ? String(given[name]) : given[name];
    if (typeof value !== 'string' || !value) throw new TypeError(`${name} is missing`);
    return encodeURIComponent(value);
  });
  const rest = Object.entries(given).filter(([name, value]) => !inPath.has(name) && value !== undefined);
  const hasBody = method !== 'DELETE' && rest.length > 0;
  return { method, path: `api/v1${filled}`, body: hasBody ? Object.fromEntries(rest) : undefined };
}
