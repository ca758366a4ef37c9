/** The dialogs of the fueling page: what is ordered, and the meter readings that complete an order. */

import { dispensed } from '../js/fueling.js';
import { el, outside, setAttribute, setText } from './dom.js';
import { choice, DECIMAL, field, isAmount, openForm } from './form.js';
import { byName } from './shop.js';
import { plainNumber, t } from './words.js';

const READING = /^\d{1,10}(\.\d{1,2})?$/;

const told = (name, value, attributes) => field(name, t(`fuel.${name}`), value, attributes);

function truckField(trucks, chosen) {
  return choice('truckID', t('fuel.truckID'),
    [['', t('fuel.noTruck')], ...byName(trucks).map(({ truckID, name }) => [truckID, name])], chosen ?? '');
}

/**
 * What is ordered: of a new order (`order` null) all that was filled in is given to `save`, of one that exists what is
 * another now, null where it was taken away.
 */
export function openDetails({ order, trucks, save }) {
  const fields = {
    aircraft: told('aircraft', order?.aircraft),
    location: told('location', order?.location),
    requestedGallons: told('requestedGallons', order?.requestedGallons, DECIMAL),
    truckID: truckField(trucks, order?.truckID),
    notes: told('notes', order?.notes, { maxlength: 2000 }),
  };
  const { input: gallons } = fields.requestedGallons;
  const submitted = () => {
    const wanted = {};
    for (const [name, { input }] of Object.entries(fields)) {
      const value = (input === gallons ? plainNumber(input.value) : input.value.trim()) || null;
      if (value !== (order?.[name] ?? null)) wanted[name] = value;
    }
    if (!isAmount(gallons, t('fuel.noNumber'))) return false;
    if (order === null || Object.keys(wanted).length) save(wanted);
    return true;
  };
  openForm({
    title: order ? t('fuel.edit.title', { id: order.fuelOrderID }) : t('fuel.new'),
    content: Object.values(fields).map(({ element }) => element), action: t('fuel.save'), submitted,
  });
  fields.aircraft.input.focus();
}

/** The meter readings: what was dispensed shows at every keystroke. `submit({startMeterReading, ...})`. */
export function openCompletion({ order, trucks, submit }) {
  const truckOf = (id) => trucks.find(({ truckID }) => truckID === id);
  const truck = truckField(trucks, order.truckID);
  const start = told('start', truckOf(order.truckID)?.currentMeterReading, { ...DECIMAL, required: true });
  const end = told('end', '', { ...DECIMAL, required: true });
  const amount = el('output', { class: 'fuel-dispensed', 'aria-live': 'polite' });
  const note = el('p', { class: 'muted', role: 'status' });
  const readings = () => [start, end].map(({ input }) => plainNumber(input.value));
  const shown = () => {
    const values = readings();
    const isRead = values.every((value) => READING.test(value));
    const gallons = isRead ? dispensed(...values) : null;
    setText(amount, gallons === null ? '–' : t('fuel.gallons', { n: gallons }));
    setText(note, gallons !== null ? '' : t(isRead ? 'fuel.backwards' : 'fuel.unread'));
    setAttribute(note, 'class', isRead && gallons === null ? 'problem' : 'muted');
    setAttribute(end.input, 'aria-invalid', isRead && gallons === null);
    button.disabled = gallons === null || !truck.input.value;
  };
  const { form, button } = openForm({
    title: t('fuel.complete.title', { id: order.fuelOrderID }), className: 'fuel-completion',
    content: [
      truck.element,
      el('div', { class: 'fuel-meters' }, start.element, end.element),
      el('label', { class: 'field fuel-amount' }, el('span', {}, t('fuel.dispensed')), amount), note,
    ],
    action: t('fuel.complete.do'),
    submitted: () => {
      const [startMeterReading, endMeterReading] = readings();
      submit({ startMeterReading, endMeterReading, truckID: truck.input.value });
    },
  });
  let isTyped = false;
  start.input.addEventListener('input', () => (isTyped = true));
  truck.input.addEventListener('change', () => {
    if (!isTyped) start.input.value = truckOf(truck.input.value)?.currentMeterReading ?? '';
  });
  form.addEventListener('input', shown);
  shown();
  (start.input.value ? end : start).input.focus();
}

/** The trucks and their meters, and a form for one more. */
export function openTrucks(shop) {
  const list = el('ul', { class: 'fuel-trucks' });
  const draw = () => list.replaceChildren(...byName(shop.list('fuel_trucks')).map(({ name, currentMeterReading }) =>
    el('li', {}, outside(name), el('span', { class: 'fuel-gallons' }, t('fuel.gallons', { n: currentMeterReading })))));
  const name = told('truckName', '', { required: true });
  const reading = told('reading', '0.00', { ...DECIMAL, required: true });
  openForm({
    title: t('fuel.trucks'), action: t('fuel.addTruck'),
    content: [list, el('div', { class: 'fuel-meters' }, name.element, reading.element)],
    submitted: () => {
      if (isAmount(reading.input, t('fuel.noNumber'))) {
        shop.send('fuel_trucks.create', { name: name.input.value.trim(), currentMeterReading: plainNumber(reading.input.value) });
        name.input.value = '';
        name.input.focus();
      }
      return false; // perhaps there are more
    },
    closed: shop.onChange(draw),
  });
  draw();
}
