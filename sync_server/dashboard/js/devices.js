/** The commands of devices and of the catalog (see commands.js): what a cashier's screen shows until the answer. */

import { amount } from './money.js';

const MAX_ORDERS = 500;
const MAX_ELAPSED_MS = 366 * 24 * 3600 * 1000;

/** What is moved from one device to another, with the values of one that is not in use. */
const CLEAR = Object.freeze({
  isRunning: false, elapsedSeconds: 0, countedAt: undefined, mode: 'single', customerCount: 1, notes: '',
  orders: Object.freeze([]),
});

/** Without what is null or undefined. */
const given = (fields) =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null && value !== undefined));

function uncountedS(device, nowMs) {
  if (!device.isRunning || !device.countedAt) return 0;
  return Math.floor(Math.max(0, Math.min(nowMs - Date.parse(device.countedAt), MAX_ELAPSED_MS)) / 1000);
}

/** Whole seconds on a device's clock at `nowMs` (Unix time, of the server). */
export function elapsedS(device, nowMs) {
  return device.elapsedSeconds + uncountedS(device, nowMs);
}

/** The same device with its clock read; the rest of a second is not lost. */
function counted(device, nowMs) {
  const seconds = uncountedS(device, nowMs);
  if (!seconds) return device;
  const countedAt = new Date(Date.parse(device.countedAt) + seconds * 1000).toISOString();
  return { ...device, elapsedSeconds: device.elapsedSeconds + seconds, countedAt };
}

function withClock(device, { isRunning, elapsedSeconds }, now) {
  const read = counted(device, Date.parse(now));
  const after = { ...read, ...given({ isRunning, elapsedSeconds }) };
  const begins = after.isRunning && (!read.isRunning || elapsedSeconds !== undefined);
  return given({ ...after, countedAt: after.isRunning ? (begins ? now : read.countedAt) : null });
}

function withOrders(device, orders, now) {
  return { ...counted(device, Date.parse(now)), orders };
}

function ordered(docs, { deviceID, orderIndex }) {
  const device = docs.get('devices', deviceID);
  return device?.orders[orderIndex] === undefined ? null : device;
}

function timed(order, now) {
  const first = order.firstOrderTime ?? order.lastOrderTime ?? now;
  const last = order.lastOrderTime ?? first;
  const filled = { quantity: 1, notes: '', ...given(order), firstOrderTime: first, lastOrderTime: last };
  return { ...filled, price: amount(order.price) };
}

export const DEVICES = {
  create: {
    overlay({ deviceID, name, ...more }, docs) {
      if (docs.get('devices', deviceID)) return false;
      docs.put('devices', given({ ...CLEAR, deviceID, name: name || deviceID, ...given(more), version: 0 }));
      return true;
    },
  },
  update: {
    overlay({ deviceID, isRunning, elapsedSeconds, ...more }, docs, now) {
      const device = docs.get('devices', deviceID);
      if (!device) return false;
      docs.put('devices', { ...withClock(device, { isRunning, elapsedSeconds }, now), ...given(more) });
      return true;
    },
  },
  placeOrders: {
    overlay({ deviceID, orders }, docs, now) {
      const device = docs.get('devices', deviceID);
      if (!device || device.orders.length + orders.length > MAX_ORDERS) return false;
      docs.put('devices', withOrders(device, [...device.orders, ...orders.map((order) => timed(order, now))], now));
      return true;
    },
  },
  editOrder: {
    isOfMoment: true,
    overlay({ deviceID, orderIndex, ...wish }, docs, now) {
      const device = ordered(docs, { deviceID, orderIndex });
      if (!device) return false;
      const more = given(wish);
      if (more.price !== undefined) more.price = amount(more.price);
      const order = { ...device.orders[orderIndex], lastOrderTime: now, ...more };
      docs.put('devices', withOrders(device, device.orders.with(orderIndex, order), now));
      return true;
    },
  },
  removeOrder: {
    isOfMoment: true,
    overlay({ deviceID, orderIndex }, docs, now) {
      const device = ordered(docs, { deviceID, orderIndex });
      if (!device) return false;
      docs.put('devices', withOrders(device, device.orders.toSpliced(orderIndex, 1), now));
      return true;
    },
  },
  transfer: {
    overlay({ deviceID, toDeviceID }, docs, now) {
      const device = docs.get('devices', deviceID);
      const target = docs.get('devices', toDeviceID);
      if (!device || !target || deviceID === toDeviceID || target.isRunning || target.orders.length) return false;
      const from = counted(device, Date.parse(now));
      const moved = Object.fromEntries(Object.keys(CLEAR).map((name) => [name, from[name]]));
      docs.put('devices', given({ ...target, ...moved }));
      docs.put('devices', given({ ...from, ...CLEAR }));
      return true;
    },
  },
  reset: {
    overlay({ deviceID }, docs) {
      const device = docs.get('devices', deviceID);
      if (!device) return false;
      docs.put('devices', given({ ...device, ...CLEAR }));
      return true;
    },
  },
  delete: {
    overlay({ deviceID }, docs) {
      if (!docs.get('devices', deviceID)) return false;
      docs.remove('devices', deviceID);
      return true;
    },
  },
};

function setIn(docs, catalogID, changes) {
  const catalog = { catalogID, categories: [], prices: [], version: 0, ...docs.get('catalogs', catalogID), ...changes };
  const names = new Set(catalog.categories.map(({ name }) => name));
  if (catalog.prices.some(({ category }) => !names.has(category))) return false;
  docs.put('catalogs', catalog);
  return true;
}

export const CATALOGS = {
  setCategories: {
    overlay: ({ catalogID, categories }, docs) => setIn(docs, catalogID, { categories }),
  },
  setPrices: {
    overlay: ({ catalogID, prices }, docs) =>
      setIn(docs, catalogID, { prices: prices.map((one) => ({ ...one, price: amount(one.price) })) }),
  },
};
