/** The dialogs of the fueling page: what is ordered, and the meter readings that complete an order. */

import { dispensed } from '../js/fueling.js';
import { openDialog } from './dialog.js';
import { el, outside, setAttribute, setText } from './dom.js';
import { byName } from './shop.js';
import { t } from './words.js';

const READING = /^\d{1,10}(\.\d{1,2})?$/;
const ARABIC_ZERO = '٠'.charCodeAt(0);

/** A number as people type it, with digits and a point as the server reads them. */
export function plain(text) {
  return text.trim().replace(/[٠-٩]/g, (digit) => String(digit.charCodeAt(0) - ARABIC_ZERO)).replace(/[,٫]/, '.');
}

function field(name, value, attributes = {}) {
  const input = el('input', { type: 'text', name, value: value ?? '', autocomplete: 'off', maxlength: 200, ...attributes });
  return { input, element: el('label', { class: 'field' }, el('span', {}, t(`fuel.${name}`)), input) };
}

const NUMBER = { inputmode: 'decimal', dir: 'ltr', maxlength: 13 };

function truckField(trucks, chosen) {
  const input = el('select', { name: 'truckID' },
    el('option', { value: '' }, t('fuel.noTruck')),
    ...byName(trucks).map(({ truckID, name }) => el('option', { value: truckID, selected: truckID === chosen }, name)));
  return { input, element: el('label', { class: 'field' }, el('span', {}, t('fuel.truckID')), input) };
}

/** `submitted()`: false where it stays open; `closed()`, whatever closes it. */
function openForm({ title, content, action, submitted, closed = () => {}, className = '' }) {
  const button = el('button', { type: 'submit', class: 'primary' }, action);
  const form = el('form', {
    method: 'dialog',
    onsubmit: (event) => {
      event.preventDefault();
      if (submitted() !== false) dialog.close();
    },
  }, content, el('p', { class: 'dialog-buttons' },
    el('button', { type: 'button', onclick: () => dialog.close() }, t('cancel')), button));
  const dialog = openDialog({ title, content: form, className });
  dialog.addEventListener('close', () => closed());
  return { form, button };
}

/**
 * What is ordered: of a new order (`order` null) all that was filled in is given to `save`, of one that exists what is
 * another now, null where it was taken away.
 */
export function openDetails({ order, trucks, save }) {
  const fields = {
    aircraft: field('aircraft', order?.aircraft),
    location: field('location', order?.location),
    requestedGallons: field('requestedGallons', order?.requestedGallons, NUMBER),
    truckID: truckField(trucks, order?.truckID),
    notes: field('notes', order?.notes, { maxlength: 2000 }),
  };
  const { input: gallons } = fields.requestedGallons;
  const submitted = () => {
    const wanted = {};
    for (const [name, { input }] of Object.entries(fields)) {
      const value = (input === gallons ? plain(input.value) : input.value.trim()) || null;
      if (value !== (order?.[name] ?? null)) wanted[name] = value;
    }
    if (wanted.requestedGallons && !READING.test(wanted.requestedGallons)) {
      setAttribute(gallons, 'aria-invalid', true);
      gallons.focus();
      return false;
    }
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
  const start = field('start', truckOf(order.truckID)?.currentMeterReading, { ...NUMBER, required: true });
  const end = field('end', '', { ...NUMBER, required: true });
  const amount = el('output', { class: 'fuel-dispensed', 'aria-live': 'polite' });
  const note = el('p', { class: 'muted', role: 'status' });
  const readings = () => [start, end].map(({ input }) => plain(input.value));
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
  const name = field('truckName', '', { required: true });
  const reading = field('reading', '0.00', { ...NUMBER, required: true });
  openForm({
    title: t('fuel.trucks'), action: t('fuel.addTruck'),
    content: [list, el('div', { class: 'fuel-meters' }, name.element, reading.element)],
    submitted: () => {
      const currentMeterReading = plain(reading.input.value);
      const isNumber = READING.test(currentMeterReading);
      setAttribute(reading.input, 'aria-invalid', !isNumber);
      if (isNumber) {
        shop.send('fuel_trucks.create', { name: name.input.value.trim(), currentMeterReading });
        name.input.value = '';
        name.input.focus();
      }
      return false; // perhaps there are more
    },
    closed: shop.onChange(draw),
  });
  draw();
}
