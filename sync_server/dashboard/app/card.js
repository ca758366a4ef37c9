/** One order as a card of the board. */

import { openMenu } from './dialog.js';
import { el, outside, setAttribute, setText, setVariable } from './dom.js';
import { drawFailure } from './failure.js';
import { icon } from './icons.js';
import { askToDelete } from './orderdelete.js';
import { orderAddress } from './shell.js';
import { NEXT_STAGES } from './shop.js';
import { duration, money, named, t } from './words.js';

const LATE_S = { empty: 900, initiated: 900, in_progress: 3600 };

export class Card {
  #shop;
  #client;
  #id;
  #shown = null;
  #link;
  #age = el('span', { class: 'card-age' });
  #what = outside('', { class: 'card-what' });
  #who = outside('', { class: 'card-who' });
  #price = el('span', { class: 'card-price' });
  #payment = el('span', { class: 'chip' });
  #place = el('span', { class: 'chip chip-place' });
  #badge = el('span', { class: 'badge badge-queued' }, icon('upload'), t('badge.queued'));
  #failure = el('div', { class: 'card-failure' });
  #menu;
  element;

  constructor(id, { shop, client }) {
    this.#id = id;
    this.#shop = shop;
    this.#client = client;
    const nameId = `card-${id}`;
    this.#link = el('a', { class: 'card-id', id: nameId, href: orderAddress(id), draggable: 'false', tabindex: '-1' }, outside(id));
    this.#menu = el('button', {
      type: 'button', class: 'plain card-menu', 'aria-haspopup': 'menu', 'aria-expanded': 'false', tabindex: '-1',
      'aria-label': t('card.menu', { id }), onclick: () => this.openMenu(),
    }, icon('more'));
    this.element = el('li', {
      class: 'card', tabindex: '-1', 'aria-labelledby': nameId, 'aria-describedby': 'board-keys', 'data-id': id,
    },
      el('div', { class: 'card-head' }, this.#link, this.#age, this.#menu),
      this.#what, this.#who,
      el('div', { class: 'card-foot' }, this.#place, this.#price, this.#payment, this.#badge),
      this.#failure);
  }

  get order() {
    return this.#shown?.document ?? null;
  }

  /** entry: as Shop.entry gives it. */
  update(entry) {
    const before = this.#shown;
    const isSame = before !== null && before.document === entry.document && before.failed === entry.failed
      && before.pending.length === entry.pending.length;
    this.#shown = entry;
    if (!isSame) this.#draw(entry, before?.document ?? null);
    this.#drawPlace(entry.document);
    if (!isSame) this.tick();
  }

  #draw({ document: order, pending, failed }, before) {
    const { element } = this;
    setAttribute(element, 'data-stage', order.stage);
    setAttribute(element, 'data-state', failed ? 'failed' : pending.length ? 'queued' : null);
    setText(this.#what, itemsText(order));
    setText(this.#who, order.customer?.name ?? order.customer?.phone ?? '');
    setText(this.#price, Number(order.payment.amount) ? money(order.payment.amount, order.payment.currency) : '');
    setText(this.#payment, named('payment', order.payment.status));
    setAttribute(this.#payment, 'data-payment', order.payment.status);
    setAttribute(this.#payment, 'hidden', order.payment.status === 'pending' && order.stage !== 'completed');
    setAttribute(this.#badge, 'hidden', !pending.length);
    drawFailure(this.#failure, failed, this.#client);
    if (before !== null && before.stage !== order.stage) this.#flash();
  }

  /** Where it waits or is washed; that is written in other documents, so it is looked at each time. */
  #drawPlace(order) {
    const bay = order.bayID ? this.#shop.get('bays', order.bayID) : null;
    const queue = order.queueID ? this.#shop.get('queues', order.queueID) : null;
    const entry = queue?.entries.find(({ orderID }) => orderID === this.#id);
    let text = '';
    if (bay) text = bay.name;
    else if (order.bayID) text = order.bayID;
    else if (queue) text = entry ? t('card.ticket', { queue: queue.name, n: entry.ticket }) : queue.name;
    setText(this.#place, text);
    setAttribute(this.#place, 'hidden', !text);
    const progress = bay?.job?.orderID === this.#id ? bay.job.progress : null;
    setAttribute(this.element, 'data-progress', progress === null ? null : 'yes');
    if (progress !== null) setVariable(this.element, '--progress', `${progress}%`);
  }

  #flash() {
    this.element.classList.remove('is-new');
    void this.element.offsetWidth; // begin the animation anew
    this.element.classList.add('is-new');
  }

  /** Time goes on. */
  tick() {
    const { stage, createdAt, updatedAt } = this.#shown.document;
    const ageS = this.#shop.ageS(stage === 'completed' || stage === 'cancelled' ? updatedAt : createdAt);
    setText(this.#age, duration(ageS));
    setAttribute(this.#age, 'data-late', ageS > (LATE_S[stage] ?? Infinity) ? 'yes' : null);
  }

  /** Only one card of a column is in the order of the Tab key; the arrow keys lead to the others. */
  setReachable(isReachable) {
    for (const node of [this.element, this.#link, this.#menu]) setAttribute(node, 'tabindex', isReachable ? '0' : '-1');
  }

  openMenu() {
    openMenu(this.#menu, this.#menuItems(), { label: t('card.menu', { id: this.#id }) });
  }

  #menuItems() {
    const order = this.order;
    const items = [{ text: t('card.open'), run: () => (location.hash = orderAddress(this.#id)) }];
    const free = order.bayID === undefined;
    if (free && this.#shop.may('change_order_stage')) {
      for (const stage of NEXT_STAGES[order.stage]) {
        items.push({
          text: t('card.moveTo', { stage: named('stage', stage) }), isDanger: stage === 'cancelled',
          run: () => this.#shop.send('orders.changeStage', { orderID: this.#id, newStage: stage }),
        });
      }
    }
    if (order.queueID !== undefined && this.#shop.may('use_queues')) {
      items.push({ text: t('queue.leave'), run: () => this.#shop.send('queues.leave', { queueID: order.queueID, orderID: this.#id }) });
    } else if (free && order.stage === 'initiated' && this.#shop.may('use_queues')) {
      for (const queue of this.#shop.list('queues').filter(({ paused }) => !paused)) {
        items.push({
          text: t('card.enter', { queue: queue.name }),
          run: () => this.#shop.send('queues.enter', { queueID: queue.queueID, orderID: this.#id }),
        });
      }
    }
    if (free && this.#shop.may('delete_orders')) {
      items.push({ text: t('order.delete'), isDanger: true, run: () => void askToDelete(this.#shop, this.#id) });
    }
    return items;
  }
}

/** `Full wash + 2`, or what it is called when there is nothing in it yet. */
export function itemsText({ items }) {
  if (!items.length) return t('order.noItems');
  const [{ name, quantity }] = items;
  const first = quantity > 1 ? `${quantity} × ${name}` : name;
  return items.length > 1 ? `${first} + ${items.length - 1}` : first;
}
