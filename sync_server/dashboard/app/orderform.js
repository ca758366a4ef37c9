/** The form of an order: what is in it and whose it is; of a new one also the queue that it is to wait in. */

import { newId } from '../js/ids.js';
import { sum } from '../js/money.js';
import { openDialog } from './dialog.js';
import { el, setText } from './dom.js';
import { icon } from './icons.js';
import { orderAddress } from './shell.js';
import { byName } from './shop.js';
import { money, plainNumber, t } from './words.js';

const ID_LENGTH = 7; // 27 thousand million; that two are alike the server would notice, and refuse
const PRICE = '[0-9٠-٩]{1,10}([.,٫][0-9٠-٩]{1,2})?';
const SUGGESTED = 50;
const MAX_ITEMS = 200;

/** For a new order, or with `order` for what is in that one; what was filled in is sent as commands. */
export function openOrderForm({ shop, notices }, { order = null } = {}) {
  const known = knownItems(shop.list('orders'));
  const currency = order?.payment.currency ?? shop.list('orders').at(-1)?.payment.currency ?? 'USD';
  const rows = [];
  const list = el('ol', { class: 'form-items' });
  const total = el('output', { class: 'form-total' });
  const suggestions = el('datalist', { id: 'known-items' }, ...[...known.keys()].map((name) => el('option', { value: name })));
  const add = el('button', { type: 'button', onclick: () => addRow({}).focus() }, icon('plus'), t('form.add'));

  const drawTotal = () => {
    setText(total, money(sum(rows.map((row) => [row.price, row.quantity])), currency));
    add.disabled = rows.length >= MAX_ITEMS;
  };
  const addRow = (item) => {
    const row = new ItemRow(item, { known, changed: drawTotal, remove: () => removeRow(row) });
    rows.push(row);
    list.append(row.element);
    drawTotal();
    return row;
  };
  const removeRow = (row) => {
    const place = rows.indexOf(row);
    rows.splice(place, 1);
    row.element.remove();
    drawTotal();
    (rows[Math.min(place, rows.length - 1)] ?? { focus: () => add.focus() }).focus();
  };
  for (const item of order?.items ?? [{}]) addRow(item);

  const name = field('customer', order?.customer?.name, { maxlength: 200, autocomplete: 'off' });
  const phone = field('phone', order?.customer?.phone, { type: 'tel', maxlength: 200, autocomplete: 'off', dir: 'auto' });
  const notes = field('notes', order?.notes, { maxlength: 2000, autocomplete: 'off' });
  const queue = order || !shop.may('use_queues') ? null : queueField(shop);
  const filled = () => ({
    items: rows.map((row) => row.item),
    customer: customerOf(order, name.input.value.trim(), phone.input.value.trim()),
    notes: notes.input.value.trim() || null,
  });
  const form = el('form', {
    method: 'dialog', class: 'order-form',
    onsubmit: (event) => {
      event.preventDefault();
      dialog.close();
      if (order) edit(shop, order, filled());
      else create({ shop, notices }, { ...filled(), currency }, queue?.input.value);
    },
  },
    el('fieldset', {}, el('legend', {}, t('form.items')), list, suggestions,
      el('div', { class: 'form-foot' }, add, el('span', {}, t('order.total'), ' ', total))),
    el('div', { class: 'form-pair' }, name.element, phone.element), notes.element, queue?.element,
    el('p', { class: 'dialog-buttons' },
      el('button', { type: 'button', onclick: () => dialog.close() }, t('cancel')),
      el('button', { type: 'submit', class: 'primary' }, order ? t('form.save') : t('form.create'))));
  const dialog = openDialog({ title: order ? t('form.edit.title', { id: order.orderID }) : t('form.new'), content: form, className: 'wide', closesOutside: false });
  (rows[0] ?? name.input).focus();
}

class ItemRow {
  #name;
  #quantity;
  #price;
  #known;
  #given;
  element;

  constructor(item, { known, changed, remove }) {
    this.#given = item;
    this.#known = known;
    const input = (key, attributes) => el('input', { 'aria-label': t(`order.${key}`), autocomplete: 'off', required: true, ...attributes });
    this.#name = input('name', { type: 'text', maxlength: 200, list: 'known-items', placeholder: t('order.name'), value: item.name ?? '', onchange: () => this.#suggest() });
    this.#quantity = input('quantity', { type: 'number', min: 1, max: 10_000, step: 1, value: item.quantity ?? 1 });
    this.#price = input('price', { type: 'text', inputmode: 'decimal', dir: 'ltr', pattern: PRICE, placeholder: '0.00', title: t('form.price'), value: item.unitPrice ?? '' });
    this.element = el('li', { oninput: changed, onchange: changed }, this.#name, this.#quantity, this.#price,
      el('button', { type: 'button', class: 'plain', 'aria-label': t('form.remove'), title: t('form.remove'), onclick: remove }, icon('close')));
  }

  focus() {
    this.#name.focus();
  }

  get price() {
    return plainNumber(this.#price.value);
  }

  get quantity() {
    return Math.max(Math.trunc(this.#quantity.valueAsNumber) || 0, 0);
  }

  /** As the server reads it; what this form does not know of stays as it is. */
  get item() {
    const name = this.#name.value.trim();
    const { sku } = this.#given.name === name ? this.#given : this.#known.get(name) ?? { sku: name };
    return { ...this.#given, sku, name, quantity: this.quantity, unitPrice: this.price };
  }

  /** What it cost the last time. */
  #suggest() {
    const known = this.#known.get(this.#name.value.trim());
    if (known && !this.#price.value) this.#price.value = known.unitPrice;
  }
}

function field(key, value, attributes) {
  const input = el('input', { type: 'text', name: key, value: value ?? '', ...attributes });
  return { input, element: el('label', { class: 'field' }, el('span', {}, t(`order.${key}`)), input) };
}

function queueField(shop) {
  const queues = byName(shop.list('queues').filter(({ paused }) => !paused));
  const input = el('select', { name: 'queueID' },
    el('option', { value: '' }, t('form.noQueue')), ...queues.map(({ queueID, name }) => el('option', { value: queueID }, name)));
  return { input, element: el('label', { class: 'field' }, el('span', {}, t('form.queue')), input) };
}

/** What was ordered lately, by name, newest first. */
function knownItems(orders) {
  const known = new Map();
  for (const { items } of orders.toReversed()) {
    for (const { name, sku, unitPrice } of items) if (!known.has(name)) known.set(name, { sku, unitPrice });
    if (known.size >= SUGGESTED) break;
  }
  return known;
}

function customerOf(order, name, phone) {
  const { name: _, phone: __, ...more } = order?.customer ?? {};
  const customer = { ...more, ...(name && { name }), ...(phone && { phone }) };
  return Object.keys(customer).length ? customer : null;
}

/** Only what is another now: who changes the rest meanwhile is not undone. */
function edit(shop, order, filled) {
  const before = { items: order.items, customer: order.customer ?? null, notes: order.notes ?? null };
  const changes = Object.entries(filled).filter(([key, value]) => canonical(value) !== canonical(before[key]));
  if (changes.length) shop.send('orders.edit', { orderID: order.orderID, ...Object.fromEntries(changes) });
}

function canonical(value) {
  return JSON.stringify(value, (_, part) =>
    part !== null && typeof part === 'object' && !Array.isArray(part) ? Object.fromEntries(Object.entries(part).sort()) : part);
}

function create({ shop, notices }, { items, customer, notes, currency }, queueID) {
  const orderID = newId(ID_LENGTH).toUpperCase();
  shop.send('orders.create', { orderID, items, currency, ...(customer && { customer }), ...(notes && { notes }) });
  if (queueID && items.length) shop.send('queues.enter', { queueID, orderID });
  notices.show(t('form.created', { id: orderID }), {
    actions: [{ text: t('card.open'), run: () => (location.hash = orderAddress(orderID)) }],
  });
}
