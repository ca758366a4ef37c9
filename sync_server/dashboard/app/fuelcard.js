/** One fuel order as a card: what is to be done, what may be done next, and a change that has to be read first. */

import { isChanged, isOpenFuelOrder, NEXT_FUEL_STATUSES } from '../js/fueling.js';
import { ask, openMenu } from './dialog.js';
import { el, outside, setAttribute, setText } from './dom.js';
import { drawFailure } from './failure.js';
import { openCompletion, openDetails } from './fueldialogs.js';
import { icon } from './icons.js';
import { duration, listed, named, t } from './words.js';

/** Which lane an order belongs to, for who is called `name`. */
export function laneOf(order, name) {
  if (!isOpenFuelOrder(order)) return 'done';
  if (order.status === 'unassigned') return 'available';
  return order.assigneeID === undefined || order.assigneeID === name ? 'mine' : 'others';
}

export class FuelCard {
  #shop;
  #client;
  #name;
  #id;
  #entry = null;
  #age = el('span', { class: 'card-age' });
  #aircraft = outside('', { class: 'fuel-aircraft' });
  #gallons = el('span', { class: 'fuel-gallons' });
  #place = outside('', { class: 'card-who' });
  #notes = outside('', { class: 'card-what' });
  #readings = el('span', { class: 'card-who' });
  #status = el('span', { class: 'chip chip-place' });
  #truck = outside('', { class: 'chip' });
  #who = outside('', { class: 'chip' });
  #queued = el('span', { class: 'badge badge-queued' }, icon('upload'), t('badge.queued'));
  #change = el('div', { class: 'fuel-change', role: 'note' });
  #buttons = el('div', { class: 'fuel-buttons' });
  #failure = el('div', { class: 'card-failure' });
  #menu;
  element;

  /** name: what assignees are called like that are who looks. */
  constructor(id, { shop, client }, name) {
    this.#id = id;
    this.#shop = shop;
    this.#client = client;
    this.#name = name;
    const nameId = `fuel-${id}`;
    this.#menu = el('button', {
      type: 'button', class: 'plain card-menu', 'aria-haspopup': 'menu', 'aria-expanded': 'false', hidden: true,
      'aria-label': t('fuel.menu', { id }), onclick: () => openMenu(this.#menu, this.#menuItems(), { label: t('fuel.menu', { id }) }),
    }, icon('more'));
    this.element = el('li', { class: 'card fuel-card', 'aria-labelledby': nameId, 'data-id': id },
      el('div', { class: 'card-head' }, outside(id, { class: 'card-id', id: nameId }), this.#age, this.#menu),
      el('div', { class: 'fuel-what' }, this.#aircraft, this.#gallons),
      this.#place, this.#notes, this.#readings,
      el('div', { class: 'card-foot' }, this.#status, this.#truck, this.#who, this.#queued),
      this.#change, this.#buttons, this.#failure);
  }

  get #order() {
    return this.#entry.document;
  }

  /** entry: as Shop.entry gives it. */
  update(entry) {
    const before = this.#entry;
    const isSame = before?.document === entry.document && before.failed === entry.failed
      && before.pending.length === entry.pending.length;
    this.#entry = entry;
    if (!isSame) this.#draw();
    this.#drawTruck();
    this.tick();
  }

  #draw() {
    const order = this.#order;
    const { pending, failed } = this.#entry;
    const lane = laneOf(order, this.#name);
    setAttribute(this.element, 'data-status', order.status);
    setAttribute(this.element, 'data-state', failed ? 'failed' : pending.length ? 'queued' : null);
    setText(this.#aircraft, order.aircraft ?? '');
    const gallons = order.gallonsDispensed ?? order.requestedGallons;
    setText(this.#gallons, gallons === undefined ? '' : t('fuel.gallons', { n: gallons }));
    setText(this.#place, order.location ?? '');
    setText(this.#notes, order.reason ?? order.notes ?? '');
    setText(this.#readings, order.endMeterReading === undefined ? ''
      : t('fuel.readings', { start: order.startMeterReading, end: order.endMeterReading }));
    setText(this.#status, named('fuel', order.status));
    setAttribute(this.#status, 'hidden', lane === 'available');
    setText(this.#who, lane === 'others' || lane === 'done' ? order.assigneeID ?? '' : '');
    setAttribute(this.#who, 'hidden', !this.#who.textContent);
    setAttribute(this.#queued, 'hidden', !pending.length);
    setAttribute(this.#menu, 'hidden', !this.#menuItems().length);
    this.#drawChange(order, lane);
    this.#drawButtons(order, lane);
    drawFailure(this.#failure, failed, this.#client);
  }

  #drawTruck() {
    const { truckID } = this.#order;
    setText(this.#truck, truckID === undefined ? '' : this.#shop.get('fuel_trucks', truckID)?.name ?? truckID);
    setAttribute(this.#truck, 'hidden', truckID === undefined);
  }

  #drawChange(order, lane) {
    const isPending = isOpenFuelOrder(order) && isChanged(order);
    setAttribute(this.element, 'data-changed', isPending);
    setAttribute(this.#change, 'hidden', !isPending);
    if (!isPending) return;
    const what = listed(order.pendingChanges.map((name) => t(`fuel.${name}`))) || named('fuel', order.status);
    const isForMe = this.#shop.may('fuel') && lane !== 'others';
    this.#change.replaceChildren(
      el('p', {}, icon('warning'), t('fuel.changed', { what })),
      isForMe
        ? this.#button(t('fuel.acknowledge'), () => this.#send('acknowledgeChange', { change_version: order.changeVersion }), 'primary')
        : el('p', { class: 'muted' }, t('fuel.waiting')));
  }

  #drawButtons(order, lane) {
    const isMine = this.#shop.may('fuel') && (lane === 'available' || lane === 'mine') && !isChanged(order);
    const [next] = isMine ? NEXT_FUEL_STATUSES[order.status] : [];
    const buttons = [
      next ? this.#button(t(`fuel.do.${next}`), () => this.#move(next), 'primary') : null,
      isMine && lane === 'mine' ? this.#button(t('fuel.do.complete'), () => this.#complete(), next ? '' : 'primary') : null,
    ];
    this.#buttons.replaceChildren(...buttons.filter(Boolean));
  }

  #button(text, run, className) {
    return el('button', { type: 'button', class: className || null, onclick: run }, text);
  }

  #send(command, given = {}) {
    this.#shop.send(`fuel_orders.${command}`, { fuelOrderID: this.#id, ...given });
  }

  #move(status) {
    this.#send('changeStatus', { status, assigneeID: this.#name });
  }

  #complete() {
    openCompletion({
      order: this.#order, trucks: this.#shop.list('fuel_trucks'), submit: (readings) => this.#send('submitData', readings),
    });
  }

  #menuItems() {
    const order = this.#order;
    const items = [];
    const isMine = this.#shop.may('fuel') && laneOf(order, this.#name) === 'mine' && !isChanged(order);
    if (isMine && NEXT_FUEL_STATUSES[order.status].includes('unassigned')) {
      items.push({ text: t('fuel.do.unassigned'), run: () => this.#move('unassigned') });
    }
    if (isOpenFuelOrder(order) && this.#shop.may('edit_fuel_order')) {
      items.push(
        { text: t('fuel.edit'), run: () => this.#edit() },
        { text: t('fuel.cancel'), isDanger: true, run: () => void this.#cancel() });
    }
    return items;
  }

  #edit() {
    openDetails({
      order: this.#order, trucks: this.#shop.list('fuel_trucks'), save: (wanted) => this.#send('csrUpdate', wanted),
    });
  }

  async #cancel() {
    const reason = await ask({
      title: t('fuel.cancel.title', { id: this.#id }), label: t('fuel.cancel.reason'), action: t('fuel.cancel.do'),
    });
    if (reason) this.#send('cancel', { reason });
  }

  /** Time goes on. */
  tick() {
    const order = this.#order;
    setText(this.#age, duration(this.#shop.ageS(isOpenFuelOrder(order) ? order.createdAt : order.updatedAt)));
  }
}
