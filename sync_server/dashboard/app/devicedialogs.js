/** The dialogs of the devices page: a device, an order on it, and the catalog. */

import { el, setText } from './dom.js';
import { DECIMAL, field, isAmount, openForm } from './form.js';
import { icon } from './icons.js';
import { plainNumber, t } from './words.js';

const NUMBER = { type: 'number', step: 1, inputmode: 'numeric', dir: 'ltr' };

const told = (name, value, attributes) => field(name, t(`devices.${name}`), value, attributes);

const isPrice = (input) => isAmount(input, t('devices.order.bad'));

/** A device (null: a new one); `save` is given what is another now. */
export function openDevice({ device, save }) {
  const before = device ?? { name: '', mode: 'single', customerCount: 1, notes: '' };
  const modes = [...new Set(['single', 'multi', before.mode])];
  const name = told('name', before.name, { required: true });
  const mode = told('mode', before.mode, { list: 'device-modes', required: true });
  const customers = told('customers', before.customerCount, { ...NUMBER, min: 0, max: 10_000, required: true });
  const notes = told('notes', before.notes, { maxlength: 2000 });
  openForm({
    title: device ? t('devices.edit.title', { name: device.name }) : t('devices.new'),
    content: [name.element, mode.element, customers.element, notes.element,
      el('datalist', { id: 'device-modes' }, ...modes.map((value) => el('option', { value })))],
    action: t('devices.save'),
    submitted: () => {
      const filled = {
        name: name.input.value.trim(), mode: mode.input.value.trim(), customerCount: customers.input.valueAsNumber,
        notes: notes.input.value.trim(),
      };
      const changes = Object.entries(filled).filter(([key, value]) => value !== before[key]);
      if (changes.length) save(Object.fromEntries(changes));
    },
  });
  name.input.focus();
}

/** An order at `device` (`order` null: a new one), what it costs taken from the catalog's `prices`. */
export function openDeviceOrder({ device, order, prices, save }) {
  const known = new Map(prices.map(({ name, price }) => [name, price]));
  const what = told('order.what', order?.name, { list: 'known-products', required: true });
  const quantity = told('order.quantity', order?.quantity ?? 1, { ...NUMBER, min: 1, max: 10_000, required: true });
  const price = told('order.price', order?.price, { ...DECIMAL, required: true, placeholder: '0.00' });
  const notes = told('notes', order?.notes, { maxlength: 2000 });
  what.input.addEventListener('change', () => {
    const found = known.get(what.input.value.trim());
    if (found) price.input.value = found;
  });
  openForm({
    title: t(order ? 'devices.order.edit.title' : 'devices.order.title', { name: device.name }),
    content: [what.element, el('div', { class: 'form-pair' }, quantity.element, price.element), notes.element,
      el('datalist', { id: 'known-products' }, ...[...known.keys()].map((value) => el('option', { value })))],
    action: order ? t('devices.save') : t('devices.order.do'),
    submitted: () => {
      if (!isPrice(price.input)) return false;
      save({
        name: what.input.value.trim(), quantity: quantity.input.valueAsNumber, price: plainNumber(price.input.value),
        notes: notes.input.value.trim(),
      });
      return true;
    },
  });
  what.input.focus();
}

/** What is sold: `save({categories, prices})`; a category is there as long as something is in it. */
export function openCatalog({ catalog, save }) {
  const rows = [];
  const list = el('ul', { class: 'catalog-rows' });
  const note = el('p', { class: 'problem', role: 'status' });
  const categories = el('datalist', { id: 'catalog-categories' });
  const drawCategories = () => categories.replaceChildren(
    ...new Set(rows.map((row) => row.category)).values().filter(Boolean).map((value) => el('option', { value })));
  const addRow = (price) => {
    const row = new PriceRow(price, { changed: drawCategories, remove: () => removeRow(row) });
    rows.push(row);
    list.append(row.element);
    return row;
  };
  const removeRow = (row) => {
    rows.splice(rows.indexOf(row), 1);
    row.element.remove();
    add.focus();
  };
  const add = el('button', { type: 'button', onclick: () => addRow({ category: rows.at(-1)?.category }).focus() }, icon('plus'), t('catalog.add'));
  for (const price of catalog?.prices ?? []) addRow(price);
  if (!rows.length) addRow({});
  drawCategories();
  openForm({
    title: t('catalog.title'), className: 'wide',
    content: [list, categories, el('p', { class: 'form-foot' }, add), note],
    action: t('devices.save'),
    submitted: () => {
      const wrong = rows.find((row) => !isPrice(row.priceInput));
      if (wrong) return false;
      const prices = rows.map((row) => row.price);
      const twice = prices.find((one, at) => prices.findIndex((other) => other.name === one.name && other.category === one.category) !== at);
      setText(note, twice ? t('catalog.twice', twice) : '');
      if (twice) return false;
      save({ categories: [...new Set(prices.map(({ category }) => category))].map((name) => categoryOf(catalog, name)), prices });
      return true;
    },
  });
  rows[0].focus();
}

/** As it was, with whatever this form does not know of. */
function categoryOf(catalog, name) {
  return catalog?.categories.find((category) => category.name === name) ?? { name };
}

class PriceRow {
  #given;
  #category;
  #name;
  priceInput;
  element;

  constructor(price, { changed, remove }) {
    this.#given = price;
    const input = (key, attributes) => el('input', {
      type: 'text', 'aria-label': t(`catalog.${key}`), placeholder: t(`catalog.${key}`), value: price[key] ?? '',
      autocomplete: 'off', required: true, maxlength: 200, ...attributes,
    });
    this.#name = input('name');
    this.#category = input('category', { list: 'catalog-categories', onchange: changed });
    this.priceInput = input('price', DECIMAL);
    this.element = el('li', {}, this.#name, this.#category, this.priceInput,
      el('button', { type: 'button', class: 'plain', 'aria-label': t('catalog.remove'), title: t('catalog.remove'), onclick: remove }, icon('close')));
  }

  focus() {
    this.#name.focus();
  }

  get category() {
    return this.#category.value.trim();
  }

  get price() {
    return { ...this.#given, name: this.#name.value.trim(), category: this.category, price: plainNumber(this.priceInput.value) };
  }
}
