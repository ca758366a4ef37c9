/** The commands of fuel orders and fuel trucks (see commands.js): what a fueler's screen shows until the answer. */

import { newId } from './ids.js';
import { amount, difference } from './money.js';

/** Where a fueler may move an order by `fuel_orders.changeStatus`; it is completed by `fuel_orders.submitData`. */
export const NEXT_FUEL_STATUSES = Object.freeze({
  unassigned: ['claimed'],
  claimed: ['en_route', 'unassigned'],
  en_route: ['fueling', 'unassigned'],
  fueling: [],
  completed: [],
  cancelled: [],
});

const DETAILS = ['aircraft', 'location', 'requestedGallons', 'notes', 'truckID'];

/** Whether a fuel order is neither completed nor cancelled. */
export const isOpenFuelOrder = ({ status }) => status !== 'completed' && status !== 'cancelled';

/** Whether customer service has changed it since somebody last said that they had read it. */
export const isChanged = ({ changeVersion, acknowledgedVersion }) => changeVersion > acknowledgedVersion;

/** Gallons between two readings (text), as the server reckons them; null where the meter would run backwards. */
export const dispensed = (start, end) => difference(end, start);

/** Without what is null or undefined. */
const given = (fields) =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null && value !== undefined));

const exact = (fields) =>
  fields.requestedGallons ? { ...fields, requestedGallons: amount(fields.requestedGallons) } : fields;

const isTruck = (docs, truckID) => truckID === null || truckID === undefined || docs.get('fuel_trucks', truckID);

function put(docs, order, changes, now) {
  docs.put('fuel_orders', given({ ...order, ...changes, updatedAt: now }));
  return true;
}

const offered = ({ offerShare }, now) => ({ offeredAt: now, offeredToAll: !(offerShare < 1) });

const isOthers = (order, who) => who !== undefined && order.assigneeID !== undefined && order.assigneeID !== who;

export const FUEL_ORDERS = {
  create: {
    method: 'POST', path: '/fuel-orders', complete: (wish) => ({ fuelOrderID: newId(), ...wish }),
    overlay({ fuelOrderID, ...wish }, docs, now) {
      if (docs.get('fuel_orders', fuelOrderID) || !isTruck(docs, wish.truckID)) return false;
      const order = {
        fuelOrderID, ...exact(wish), status: wish.assigneeID ? 'claimed' : 'unassigned', changeVersion: 0,
        acknowledgedVersion: 0, pendingChanges: [], offeredToAll: true, createdAt: now, version: 0,
      };
      return put(docs, order, wish.assigneeID ? {} : offered(order, now), now);
    },
  },
  changeStatus: {
    method: 'PATCH', path: '/fuel-orders/{fuelOrderID}/status',
    overlay({ fuelOrderID, status, truckID, assigneeID }, docs, now) {
      const order = docs.get('fuel_orders', fuelOrderID);
      if (!order || isChanged(order) || isOthers(order, assigneeID ?? undefined)) return false;
      if (!NEXT_FUEL_STATUSES[order.status]?.includes(status) || !isTruck(docs, truckID)) return false;
      const changes = { status, truckID: truckID ?? order.truckID };
      if (status === 'claimed') changes.assigneeID = assigneeID;
      if (status === 'unassigned') Object.assign(changes, { assigneeID: null }, offered(order, now));
      return put(docs, order, changes, now);
    },
  },
  csrUpdate: {
    method: 'PATCH', path: '/fuel-orders/{fuelOrderID}/csr-update',
    overlay({ fuelOrderID, ...wish }, docs, now) {
      const order = docs.get('fuel_orders', fuelOrderID);
      if (!order || !isOpenFuelOrder(order) || !isTruck(docs, wish.truckID)) return false;
      if (!DETAILS.some((name) => name in wish)) return false;
      const before = isChanged(order) ? order.pendingChanges : [];
      const pendingChanges = [...new Set([...before, ...DETAILS.filter((name) => name in wish)])];
      return put(docs, order, { ...exact(wish), changeVersion: order.changeVersion + 1, pendingChanges }, now);
    },
  },
  acknowledgeChange: {
    method: 'POST', path: '/fuel-orders/{fuelOrderID}/acknowledge-change',
    overlay({ fuelOrderID, change_version: version }, docs, now) {
      const order = docs.get('fuel_orders', fuelOrderID);
      if (!order || !isOpenFuelOrder(order) || order.changeVersion !== version) return false;
      const read = { acknowledgedVersion: version, pendingChanges: [], acknowledgedBy: null, acknowledgedAt: now };
      return put(docs, order, read, now);
    },
  },
  submitData: {
    method: 'PUT', path: '/fuel-orders/{fuelOrderID}/submit-data',
    overlay({ fuelOrderID, startMeterReading, endMeterReading, truckID }, docs, now) {
      const order = docs.get('fuel_orders', fuelOrderID);
      if (!order || !isOpenFuelOrder(order) || order.status === 'unassigned' || isChanged(order)) return false;
      const truck = docs.get('fuel_trucks', truckID ?? order.truckID);
      const gallonsDispensed = dispensed(startMeterReading, endMeterReading);
      if (!truck || gallonsDispensed === null) return false;
      const [start, end] = [amount(startMeterReading), amount(endMeterReading)];
      docs.put('fuel_trucks', { ...truck, currentMeterReading: end });
      const readings = { startMeterReading: start, endMeterReading: end, gallonsDispensed, truckID: truck.truckID };
      return put(docs, order, { status: 'completed', ...readings }, now);
    },
  },
  cancel: {
    method: 'POST', path: '/fuel-orders/{fuelOrderID}/cancel',
    overlay({ fuelOrderID, reason }, docs, now) {
      const order = docs.get('fuel_orders', fuelOrderID);
      if (!order || !isOpenFuelOrder(order)) return false;
      const read = { acknowledgedVersion: order.changeVersion, pendingChanges: [] };
      return put(docs, order, { status: 'cancelled', reason, ...read }, now);
    },
  },
  delete: {
    method: 'DELETE', path: '/fuel-orders/{fuelOrderID}',
    overlay({ fuelOrderID }, docs) {
      const order = docs.get('fuel_orders', fuelOrderID);
      if (order?.status !== 'unassigned' && order?.status !== 'cancelled') return false;
      docs.remove('fuel_orders', fuelOrderID);
      return true;
    },
  },
};

export const FUEL_TRUCKS = {
  create: {
    method: 'POST', path: '/fuel-trucks', complete: (wish) => ({ truckID: newId(), ...wish }),
    overlay({ truckID, name, currentMeterReading = '0' }, docs) {
      if (docs.get('fuel_trucks', truckID)) return false;
      docs.put('fuel_trucks', { truckID, name, currentMeterReading: amount(currentMeterReading), version: 0 });
      return true;
    },
  },
  edit: {
    method: 'PATCH', path: '/fuel-trucks/{truckID}',
    overlay({ truckID, name, currentMeterReading }, docs) {
      const truck = docs.get('fuel_trucks', truckID);
      if (!truck) return false;
      const reading = currentMeterReading === undefined ? truck.currentMeterReading : amount(currentMeterReading);
      docs.put('fuel_trucks', { ...truck, name: name ?? truck.name, currentMeterReading: reading });
      return true;
    },
  },
  delete: {
    method: 'DELETE', path: '/fuel-trucks/{truckID}',
    overlay({ truckID }, docs) {
      if (!docs.get('fuel_trucks', truckID)) return false;
      docs.remove('fuel_trucks', truckID);
      return true;
    },
  },
};
