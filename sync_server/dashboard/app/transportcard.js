/** One transport order as a card: from where to where, for whom, with which vehicle, and what may be done with it. */

import { FORWARD, isOpenTransport } from '../js/logistics.js';
import { ask, openMenu } from './dialog.js';
import { el, outside, setAttribute, setText } from './dom.js';
import { drawFailure } from './failure.js';
import { icon } from './icons.js';
import { duration, money, t } from './words.js';

export const STATUSES = Object.freeze(['new', 'assigned', 'in_progress', 'delivered', 'cancelled']);
const MAX_CHOICES = 30;

export class TransportCard {
  #shop;
  #client;
  #id;
  #entry = null;
  #age = el('span', { class: 'card-age' });
  #way = el('span', { class: 'transport-way' });
  #who = el('span', { class: 'card-who' });
  #notes = outside('', { class: 'card-what' });
  #vehicle = outside('', { class: 'chip chip-place' });
  #price = el('span', { class: 'card-price' });
  #queued = el('span', { class: 'badge badge-queued' }, icon('upload'), t('badge.queued'));
  #failure = el('div', { class: 'card-failure' });
  #menu;
  element;

  constructor(id, { shop, client }) {
    this.#id = id;
    this.#shop = shop;
    this.#client = client;
    const nameId = `transport-${id}`;
    const label = t('transport.menu', { id });
    this.#menu = el('button', {
      type: 'button', class: 'plain card-menu', 'aria-haspopup': 'menu', 'aria-expanded': 'false', 'aria-label': label,
      onclick: () => this.openMenu(),
    }, icon('more'));
    this.element = el('li', {
      class: 'card transport-card', tabindex: '0', 'aria-labelledby': nameId, 'aria-describedby': 'transport-keys', 'data-id': id,
    },
      el('div', { class: 'card-head' }, outside(id, { class: 'card-id', id: nameId }), this.#age, this.#menu),
      this.#way, this.#who, this.#notes,
      el('div', { class: 'card-foot' }, this.#vehicle, this.#price, this.#queued),
      this.#failure);
  }

  get order() {
    return this.#entry.document;
  }

  update(entry) {
    this.#entry = entry;
    const { document: order, pending, failed } = entry;
    setAttribute(this.element, 'data-status', order.status);
    setAttribute(this.element, 'data-state', failed ? 'failed' : pending.length ? 'queued' : null);
    setText(this.#way, t('transport.way', { from: placeText(order.pickup), to: placeText(order.delivery) }));
    setText(this.#who, order.customerID ? t('transport.customer', { name: order.customerID }) : '');
    setText(this.#notes, order.reason ?? order.notes ?? '');
    const vehicle = order.vehicleID ? this.#shop.get('vehicles', order.vehicleID) : null;
    setText(this.#vehicle, vehicle?.plateNumber ?? order.vehicleID ?? '');
    setAttribute(this.#vehicle, 'hidden', !order.vehicleID);
    setText(this.#price, order.price ? money(order.price, order.currency) : '');
    setAttribute(this.#queued, 'hidden', !pending.length);
    setAttribute(this.#menu, 'hidden', !this.#menuItems().length);
    drawFailure(this.#failure, failed, this.#client);
    this.tick();
  }

  tick() {
    const { status, createdAt, updatedAt } = this.order;
    setText(this.#age, duration(this.#shop.ageS(isOpenTransport({ status }) ? createdAt : updatedAt)));
  }

  openMenu() {
    const items = this.#menuItems();
    if (items.length) openMenu(this.#menu, items, { label: t('transport.menu', { id: this.#id }) });
  }

  /** Ask which vehicle takes it. */
  chooseVehicle() {
    const choices = this.#vehicleItems();
    const items = choices.length ? choices : [{ text: t('transport.noVehicle'), run: () => {} }];
    openMenu(this.#menu, [{ heading: t('transport.choose', { id: this.#id }) }, ...items], { label: t('transport.choose', { id: this.#id }) });
  }

  send(name, given = {}) {
    this.#shop.send(`transport_orders.${name}`, { transportOrderID: this.#id, ...given });
  }

  async cancel() {
    const reason = await ask({
      title: t('transport.cancel.title', { id: this.#id }), label: t('transport.cancel.reason'), action: t('transport.cancel.do'),
    });
    if (reason) this.send('cancel', { reason });
  }

  #menuItems() {
    const { order } = this;
    const items = [];
    const next = FORWARD[order.status];
    if (next && this.#shop.may('drive')) {
      items.push({ text: t(next === 'delivered' ? 'transport.deliver' : 'transport.start'), run: () => this.send('setStatus', { status: next }) });
    }
    if (this.#shop.may('dispatch')) {
      items.push(...this.#vehicleItems());
      if (order.status === 'assigned') items.push({ text: t('transport.unassign'), run: () => this.send('assignVehicle', { vehicleID: null }) });
      if (isOpenTransport(order)) items.push({ text: t('transport.cancel'), isDanger: true, run: () => void this.cancel() });
    }
    return items;
  }

  #vehicleItems() {
    if (this.order.status !== 'new' && this.order.status !== 'assigned') return [];
    return this.#shop.list('vehicles').filter(({ vehicleID }) => vehicleID !== this.order.vehicleID)
      .toSorted((a, b) => a.orderIDs.length - b.orderIDs.length).slice(0, MAX_CHOICES)
      .map(({ vehicleID, plateNumber }) => ({
        text: t('transport.assign', { plate: plateNumber }), run: () => this.send('assignVehicle', { vehicleID }),
      }));
  }
}

const placeText = ({ coordinates: [lon, lat] }) => `\u2066${lat.toFixed(3)}, ${lon.toFixed(3)}\u2069`;
