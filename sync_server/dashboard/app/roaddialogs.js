/** The dialogs of the vehicles' page: a vehicle, the drivers, and a transport order. */

import { newId } from '../js/ids.js';
import { barePlate } from '../js/logistics.js';
import { el, outside } from './dom.js';
import { choice, DECIMAL, field, isAmount, openForm, refuse } from './form.js';
import { byName } from './shop.js';
import { plainDigits, plainNumber, t } from './words.js';

const VIN = /^[A-HJ-NPR-Z0-9]{17}$/;
const USER = /^\.*[A-Za-z0-9_-][A-Za-z0-9._@+:-]*$/;
const ID_LENGTH = 7; // as of orders

/** A vehicle (null: a new one), and who drives it: one of those who drive no other. What is another now is sent. */
export function openVehicleForm(shop, vehicle = null) {
  const text = (name, attributes = {}) => field(name, t(`road.form.${name}`), vehicle?.[name], { required: true, ...attributes });
  const fields = {
    plateNumber: text('plateNumber', { dir: 'auto' }),
    vin: text('vin', { dir: 'ltr', maxlength: 17, autocapitalize: 'characters', spellcheck: 'false' }),
    make: text('make'), model: text('model'), fuelNorm: text('fuelNorm', DECIMAL),
  };
  const free = byName(shop.list('drivers').filter(({ userID, vehicleID }) => !vehicleID || userID === vehicle?.driverID));
  const driver = choice('driverID', t('road.form.driverID'),
    [['', t('road.noDriver')], ...free.map(({ userID, name }) => [userID, name])], vehicle?.driverID ?? '');
  const { plateNumber: { input: plate }, vin: { input: vin }, fuelNorm: { input: norm } } = fields;
  const taken = (same) => shop.list('vehicles').find((other) => other.vehicleID !== vehicle?.vehicleID && same(other));
  const submitted = () => {
    const filled = Object.fromEntries(Object.entries(fields).map(([name, { input }]) => [name, input.value.trim()]));
    Object.assign(filled, { vin: filled.vin.toUpperCase(), fuelNorm: plainNumber(filled.fuelNorm) });
    if (taken((other) => barePlate(other.plateNumber) === barePlate(filled.plateNumber))) return refused(plate, t('road.form.taken'));
    if (!VIN.test(filled.vin)) return refused(vin, t('road.form.noVin'));
    if (taken((other) => other.vin === filled.vin)) return refused(vin, t('road.form.taken'));
    if (!isAmount(norm, t('road.form.noNumber'))) return false;
    saveVehicle(shop, vehicle, filled, driver.input.value || null);
    return true;
  };
  openForm({
    title: vehicle ? t('road.edit.title', { plate: vehicle.plateNumber }) : t('road.add'), action: vehicle ? t('road.save') : t('road.add'),
    content: [el('div', { class: 'form-pair' }, fields.plateNumber.element, fields.vin.element),
      el('div', { class: 'form-pair' }, fields.make.element, fields.model.element),
      el('div', { class: 'form-pair' }, fields.fuelNorm.element, driver.element)],
    submitted,
  });
  plate.focus();
}

function refused(input, why) {
  refuse(input, why);
  return false;
}

function saveVehicle(shop, vehicle, filled, driverID) {
  const vehicleID = vehicle?.vehicleID ?? newId();
  const changes = Object.entries(filled).filter(([name, value]) => value !== vehicle?.[name]);
  if (vehicle === null) shop.send('vehicles.create', { vehicleID, ...filled });
  else if (changes.length) shop.send('vehicles.edit', { vehicleID, ...Object.fromEntries(changes) });
  if (driverID !== (vehicle?.driverID ?? null)) shop.send('vehicles.assignDriver', { vehicleID, driverID });
}

/** The drivers and what they drive, and a form for one more. */
export function openDrivers(shop) {
  const list = el('ul', { class: 'drivers' });
  const draw = () => list.replaceChildren(...byName(shop.list('drivers')).map(({ name, userID, vehicleID }) => {
    const plate = vehicleID ? shop.get('vehicles', vehicleID)?.plateNumber ?? vehicleID : null;
    return el('li', {}, outside(name), outside(userID, { class: 'muted' }),
      plate ? outside(plate, { class: 'chip chip-place' }) : el('span', { class: 'muted' }, t('road.drivesNothing')));
  }));
  const name = field('name', t('road.form.name'), '', { required: true });
  const user = field('userID', t('road.form.userID'), '', { required: true, maxlength: 64, dir: 'ltr', autocapitalize: 'none', spellcheck: 'false' });
  const phone = field('phone', t('road.form.phone'), '', { type: 'tel', dir: 'auto' });
  openForm({
    title: t('road.drivers'), action: t('road.addDriver'),
    content: [list, el('div', { class: 'form-pair' }, name.element, user.element), phone.element],
    submitted: () => {
      const userID = user.input.value.trim();
      if (!USER.test(userID)) return refused(user.input, t('road.form.noUser'));
      if (shop.get('drivers', userID)) return refused(user.input, t('road.form.driverKnown'));
      const told = phone.input.value.trim();
      shop.send('drivers.create', { userID, name: name.input.value.trim(), ...(told && { phone: told }) });
      for (const { input } of [name, user, phone]) input.value = '';
      name.input.focus();
      return false; // perhaps there are more
    },
    closed: shop.onChange(draw),
  });
  draw();
}

/** A new transport order; the office also names its price, and may give it to a vehicle at once. */
export function openTransportForm(shop) {
  const orders = shop.list('transport_orders');
  const isOffice = shop.may('dispatch');
  const placed = (name) => field(name, t(`transport.form.${name}`), '', { required: true, dir: 'ltr', placeholder: '33.8938, 35.5018' });
  const [pickup, delivery] = [placed('pickup'), placed('delivery')];
  const customer = field('customerID', t('transport.form.customerID'), '', { list: 'known-customers', maxlength: 64 });
  const price = field('price', t('transport.form.price'), '', DECIMAL);
  const notes = field('notes', t('transport.form.notes'), '', { maxlength: 2000 });
  const vehicle = choice('vehicleID', t('transport.form.vehicleID'), [['', t('transport.form.later')],
    ...shop.list('vehicles').toSorted((a, b) => a.orderIDs.length - b.orderIDs.length).map(({ vehicleID, plateNumber }) => [vehicleID, plateNumber])], '');
  const known = new Set(orders.map(({ customerID }) => customerID).filter(Boolean));
  const submitted = () => {
    const wanted = {};
    for (const [name, { input }] of Object.entries({ pickup, delivery })) {
      const point = pointOf(input.value);
      if (point === null) return refused(input, t('transport.form.noPlace'));
      wanted[name] = point;
    }
    if (!isAmount(price.input, t('road.form.noNumber'))) return false;
    const told = { customerID: customer.input.value.trim(), price: plainNumber(price.input.value), notes: notes.input.value.trim() };
    const given = Object.fromEntries(Object.entries(told).filter(([, value]) => value));
    if (given.price) given.currency = orders.at(-1)?.currency ?? 'USD';
    const transportOrderID = newId(ID_LENGTH).toUpperCase();
    shop.send('transport_orders.create', { transportOrderID, ...wanted, ...given });
    if (vehicle.input.value) shop.send('transport_orders.assignVehicle', { transportOrderID, vehicleID: vehicle.input.value });
    return true;
  };
  openForm({
    title: t('transport.add'), action: t('transport.add'),
    content: [el('div', { class: 'form-pair' }, pickup.element, delivery.element),
      el('p', { class: 'muted form-help' }, t('transport.form.help')),
      isOffice ? el('div', { class: 'form-pair' }, customer.element, price.element) : null, notes.element,
      isOffice ? vehicle.element : null,
      el('datalist', { id: 'known-customers' }, ...[...known].map((value) => el('option', { value })))].filter(Boolean),
    submitted,
  });
  pickup.input.focus();
}

/** The GeoJSON point of "latitude, longitude", as maps and this page show places; null if it is none. */
export function pointOf(text) {
  const numbers = plainDigits(text).split(/[,،;\s]+/).filter(Boolean);
  const [lat, lon] = numbers.map((number) => (/^[-+]?\d+(\.\d+)?$/.test(number) ? Number(number) : NaN));
  const isPlace = numbers.length === 2 && Math.abs(lat) <= 90 && Math.abs(lon) <= 180;
  return isPlace ? { type: 'Point', coordinates: [lon, lat] } : null;
}
