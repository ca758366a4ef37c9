/** The commands of vehicles, drivers, transport orders and fuel logs (see commands.js): the picture until the answer. */

import { amount, sum } from './money.js';

/** Where a transport order may go by `transport_orders.setStatus`. */
export const FORWARD = Object.freeze({ assigned: 'in_progress', in_progress: 'delivered' });

const MAX_ORDERS = 50; // of a vehicle at a time

/** Whether a transport order is neither delivered nor cancelled. */
export const isOpenTransport = ({ status }) => status !== 'delivered' && status !== 'cancelled';

const given = (fields) =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null && value !== undefined));

function put(docs, kind, document, changes = {}) {
  docs.put(kind, given({ ...document, ...changes }));
  return true;
}

// -- VINs and plates: a mark stands for each, as long as somebody has it

const hex = (text) => [...new TextEncoder().encode(text)].map((byte) => byte.toString(16).padStart(2, '0')).join('');

const BETWEEN = /[\s.\-_/·\u034f\u2010-\u2015\ufe00-\ufe0f]+/g;

/** What makes two plates the same, however they are written: the very characters that are seen. */
export function barePlate(plate) {
  const seen = plate.replace(/\p{Cf}/gu, '').replace(BETWEEN, '');
  const text = seen.normalize('NFKC').toUpperCase().normalize('NFKC').replace(BETWEEN, '');
  return text.replace(/[٠-٩۰-۹]/g, (digit) => String(digit.charCodeAt(0) & 15));
}

const marksOf = ({ vin, plateNumber }) => [`vin.${vin}`, `plate.${hex(barePlate(plateNumber))}`];

const written = (wish) => given({
  ...wish, vin: wish.vin?.trim().toUpperCase(), plateNumber: wish.plateNumber?.trim(),
  fuelNorm: wish.fuelNorm === undefined ? undefined : amount(wish.fuelNorm),
});

function remark(docs, before, after, vehicleID) {
  const taken = after.filter((mark) => !before.includes(mark));
  if (taken.some((mark) => docs.get('vehicle_marks', mark))) return false;
  for (const vehicleMarkID of taken) docs.put('vehicle_marks', { vehicleMarkID, vehicleID, version: 0 });
  for (const mark of before) if (!after.includes(mark) && docs.get('vehicle_marks', mark)) docs.remove('vehicle_marks', mark);
  return true;
}

// -- consumption

const cents = (text) => BigInt(text.replace('.', ''));

function decimal(value) {
  const size = value < 0n ? -value : value;
  return `${value < 0n ? '-' : ''}${size / 100n}.${String(size % 100n).padStart(2, '0')}`;
}

/** `fuel` with litres per 100 km, and how much that is above `norm`; halves are rounded to even, as the server does. */
function measured(fuel, norm) {
  const { consumption, overNorm, ...rest } = fuel;
  const distance = BigInt(fuel.lastOdometer - fuel.firstOdometer);
  if (distance <= 0n) return rest;
  const hundredfold = cents(fuel.liters) * 100n;
  let taken = hundredfold / distance;
  const twice = (hundredfold % distance) * 2n;
  if (twice > distance || (twice === distance && taken % 2n === 1n)) taken += 1n;
  return { ...rest, consumption: decimal(taken), overNorm: decimal(taken - cents(norm)) };
}

// -- who drives what

function letGo(docs, driverID) {
  const driver = driverID === undefined ? null : docs.get('drivers', driverID);
  if (driver) put(docs, 'drivers', driver, { vehicleID: null });
}

function leaveVehicle(docs, order) {
  const vehicle = order.vehicleID === undefined ? null : docs.get('vehicles', order.vehicleID);
  if (vehicle) put(docs, 'vehicles', vehicle, { orderIDs: vehicle.orderIDs.filter((id) => id !== order.transportOrderID) });
}

function enter(docs, order, status, now, changes = {}) {
  if (FORWARD[order.status] && !FORWARD[status]) leaveVehicle(docs, order);
  const deliveredAt = status === 'delivered' ? now : order.deliveredAt;
  return put(docs, 'transport_orders', order, { ...changes, status, deliveredAt, updatedAt: now });
}

export const VEHICLES = {
  create: {
    overlay({ vehicleID, ...wish }, docs, now) {
      const vehicle = { vehicleID, ...written(wish), orderIDs: [], createdAt: now, updatedAt: now, version: 0 };
      if (docs.get('vehicles', vehicleID) || !remark(docs, [], marksOf(vehicle), vehicleID)) return false;
      return put(docs, 'vehicles', vehicle);
    },
  },
  edit: {
    overlay({ vehicleID, ...wish }, docs, now) {
      const vehicle = docs.get('vehicles', vehicleID);
      if (!vehicle) return false;
      const changed = { ...vehicle, ...written(wish) };
      if (!remark(docs, marksOf(vehicle), marksOf(changed), vehicleID)) return false;
      const fuel = changed.fuel ? measured(changed.fuel, changed.fuelNorm) : undefined;
      return put(docs, 'vehicles', changed, { fuel, updatedAt: now });
    },
  },
  delete: {
    overlay({ vehicleID }, docs) {
      const vehicle = docs.get('vehicles', vehicleID);
      if (!vehicle || vehicle.orderIDs.length) return false;
      letGo(docs, vehicle.driverID);
      docs.remove('vehicles', vehicleID);
      return remark(docs, marksOf(vehicle), [], vehicleID);
    },
  },
  assignDriver: {
    overlay({ vehicleID, driverID }, docs, now) {
      const vehicle = docs.get('vehicles', vehicleID);
      if (!vehicle || (driverID === null && vehicle.driverID === undefined)) return false;
      if (driverID !== null) {
        const driver = docs.get('drivers', driverID);
        if (!driver || driver.vehicleID !== undefined) return false;
        put(docs, 'drivers', driver, { vehicleID });
      }
      letGo(docs, vehicle.driverID);
      for (const id of vehicle.orderIDs) {
        const order = docs.get('transport_orders', id);
        if (order) put(docs, 'transport_orders', order, { driverID, updatedAt: now });
      }
      return put(docs, 'vehicles', vehicle, { driverID, updatedAt: now });
    },
  },
};

export const DRIVERS = {
  create: {
    overlay({ userID, ...wish }, docs) {
      if (docs.get('drivers', userID)) return false;
      return put(docs, 'drivers', { userID, ...wish, version: 0 });
    },
  },
  edit: {
    overlay({ userID, ...wish }, docs) {
      const driver = docs.get('drivers', userID);
      return Boolean(driver) && put(docs, 'drivers', driver, wish);
    },
  },
  delete: {
    overlay({ userID }, docs) {
      const driver = docs.get('drivers', userID);
      if (!driver || driver.vehicleID !== undefined) return false;
      docs.remove('drivers', userID);
      return true;
    },
  },
};

const degrees = (value) => Math.round(value * 1e7) / 1e7 + 0;

function exact(wish) {
  const fields = { ...wish };
  if (wish.price) fields.price = amount(wish.price);
  for (const place of ['pickup', 'delivery']) {
    if (wish[place]) fields[place] = { ...wish[place], type: 'Point', coordinates: wish[place].coordinates.map(degrees) };
  }
  return fields;
}

export const TRANSPORT_ORDERS = {
  create: {
    overlay({ transportOrderID, customerID = '', currency = 'USD', ...wish }, docs, now) {
      if (docs.get('transport_orders', transportOrderID)) return false;
      return put(docs, 'transport_orders', {
        transportOrderID, status: 'new', customerID, currency, ...exact(wish), createdAt: now, updatedAt: now, version: 0,
      });
    },
  },
  edit: {
    overlay({ transportOrderID, ...wish }, docs, now) {
      const order = docs.get('transport_orders', transportOrderID);
      if (!order || !isOpenTransport(order)) return false;
      return put(docs, 'transport_orders', order, { ...exact(wish), updatedAt: now });
    },
  },
  setStatus: {
    overlay({ transportOrderID, status }, docs, now) {
      const order = docs.get('transport_orders', transportOrderID);
      return Boolean(order) && FORWARD[order.status] === status && enter(docs, order, status, now);
    },
  },
  cancel: {
    overlay({ transportOrderID, reason = null }, docs, now) {
      const order = docs.get('transport_orders', transportOrderID);
      return Boolean(order) && isOpenTransport(order) && enter(docs, order, 'cancelled', now, { reason });
    },
  },
  delete: {
    overlay({ transportOrderID }, docs) {
      const order = docs.get('transport_orders', transportOrderID);
      if (!order || FORWARD[order.status]) return false;
      docs.remove('transport_orders', transportOrderID);
      return true;
    },
  },
  assignVehicle: {
    overlay({ transportOrderID, vehicleID }, docs, now) {
      const order = docs.get('transport_orders', transportOrderID);
      if (!order || !['new', 'assigned'].includes(order.status) || (order.vehicleID ?? null) === vehicleID) return false;
      const vehicle = vehicleID === null ? null : docs.get('vehicles', vehicleID);
      if (vehicleID !== null && (!vehicle || vehicle.orderIDs.length >= MAX_ORDERS)) return false;
      leaveVehicle(docs, order);
      if (vehicle) put(docs, 'vehicles', vehicle, { orderIDs: [...vehicle.orderIDs, transportOrderID] });
      const status = vehicle ? 'assigned' : 'new';
      return put(docs, 'transport_orders', order, { vehicleID, driverID: vehicle?.driverID, status, updatedAt: now });
    },
  },
};

export const FUEL_LOGS = {
  create: {
    overlay({ fuelLogID, vehicleID, odometer, ...wish }, docs, now) {
      const vehicle = docs.get('vehicles', vehicleID);
      const before = vehicle?.fuel;
      if (!vehicle || docs.get('fuel_logs', fuelLogID) || odometer < (before?.lastOdometer ?? 0)) return false;
      const at = wish.at ? new Date(wish.at).toISOString() : now;
      const liters = amount(wish.liters);
      put(docs, 'fuel_logs', { fuelLogID, vehicleID, driverID: vehicle.driverID, liters, odometer, at, before, version: 0 });
      const fuel = before
        ? { ...before, logs: before.logs + 1, liters: sum([[before.liters, 1], [liters, 1]]) }
        : { logs: 1, firstOdometer: odometer, liters: '0.00' };
      Object.assign(fuel, { lastLogID: fuelLogID, lastOdometer: odometer });
      return put(docs, 'vehicles', vehicle, { fuel: measured(fuel, vehicle.fuelNorm) });
    },
  },
  delete: {
    overlay({ fuelLogID }, docs) {
      const log = docs.get('fuel_logs', fuelLogID);
      if (!log) return false;
      const vehicle = docs.get('vehicles', log.vehicleID);
      if (vehicle) {
        if (vehicle.fuel?.lastLogID !== fuelLogID) return false;
        put(docs, 'vehicles', vehicle, { fuel: log.before ? measured(log.before, vehicle.fuelNorm) : null });
      }
      docs.remove('fuel_logs', fuelLogID);
      return true;
    },
  },
};
