/** The queues: who waits, for how long, and the next one into a free bay. */

import { itemsText } from './card.js';
import { ask, openMenu } from './dialog.js';
import { arrange, el, keepFocus, outside, Parts, setAttribute, setText } from './dom.js';
import { drawFailure } from './failure.js';
import { icon } from './icons.js';
import { orderAddress, pageHead } from './shell.js';
import { byName } from './shop.js';
import { duration, number, t } from './words.js';

/** A page; see Shell. */
export function openQueue(app) {
  const { shop } = app;
  const lanes = el('div', { class: 'queues' });
  const placeholder = el('div', {});
  const parts = new Parts((id) => new QueueLane(id, app));
  const draw = () => {
    const queues = byName(shop.list('queues'));
    const empty = shop.placeholder() ?? (queues.length ? null : el('p', { class: 'empty' }, t('queue.none')));
    placeholder.replaceChildren(...(empty ? [empty] : []));
    keepFocus(() => arrange(lanes, parts.sync(queues.map(({ queueID }) => shop.entry('queues', queueID)), keyOf)));
  };
  const title = t('page.queue');
  const end = shop.onChange(draw);
  draw();
  return {
    title,
    element: el('div', { class: 'page' }, pageHead(title, createButton(shop)).element, placeholder, lanes),
    tick: () => {
      for (const part of parts) part.tick();
    },
    close: end,
  };
}

function createButton(shop) {
  const create = async () => {
    const name = await ask({ title: t('queue.new'), label: t('queue.name'), action: t('form.create') });
    if (name) shop.send('queues.create', { name });
  };
  return shop.may('manage_queues') ? el('button', { type: 'button', class: 'create', onclick: () => void create() }, icon('plus'), t('queue.new')) : null;
}

const keyOf = ({ document }) => document.queueID;

class QueueLane {
  #app;
  #shop;
  #id;
  #name = outside('');
  #count = el('span', { class: 'lane-count' });
  #paused = el('span', { class: 'badge badge-queued' }, icon('pause'), t('queue.paused'));
  #queued = el('span', { class: 'badge badge-queued' }, icon('upload'), t('badge.queued'));
  #failure = el('div', { class: 'card-failure' });
  #tickets = el('ol', { class: 'tickets' });
  #empty = el('p', { class: 'lane-empty' }, t('queue.empty'));
  #call;
  #into = el('select', { 'aria-label': t('queue.into') });
  #pause;
  #parts;
  #queue = null;
  element;

  constructor(id, app) {
    this.#id = id;
    this.#app = app;
    this.#shop = app.shop;
    this.#parts = new Parts((orderID) => new Ticket(orderID, id, app));
    const heading = `queue-${id}`;
    this.#call = el('button', { type: 'button', class: 'primary', onclick: () => this.#callNext() }, icon('play'), t('queue.call'));
    this.#pause = el('button', { type: 'button', onclick: () => this.#togglePause() });
    this.element = el('section', { class: 'queue', 'aria-labelledby': heading },
      el('div', { class: 'queue-head' },
        el('h2', { id: heading }, this.#name, ' ', this.#count), this.#paused, this.#queued,
        this.#shop.may('manage_queues') ? this.#pause : null),
      this.#shop.may('call_next') ? el('div', { class: 'queue-call' }, this.#call, this.#into) : null,
      this.#failure, this.#tickets, this.#empty);
  }

  update({ document: queue, pending, failed }) {
    this.#queue = queue;
    setText(this.#name, queue.name);
    setText(this.#count, number(queue.entries.length));
    setAttribute(this.#paused, 'hidden', !queue.paused);
    setAttribute(this.#queued, 'hidden', !pending.length);
    setText(this.#pause, queue.paused ? t('queue.resume') : t('queue.pause'));
    setAttribute(this.#empty, 'hidden', queue.entries.length > 0);
    setAttribute(this.#tickets, 'hidden', !queue.entries.length);
    arrange(this.#tickets, this.#parts.sync(queue.entries, ({ orderID }) => orderID));
    drawFailure(this.#failure, failed, this.#app.client);
    this.#drawBays();
  }

  #drawBays() {
    const bays = this.#shop.freeBays();
    const ids = bays.map(({ bayID, name }) => `${bayID} ${name}`).join('\n');
    if (this.#into.dataset.ids !== ids) {
      const chosen = this.#into.value;
      this.#into.dataset.ids = ids;
      this.#into.replaceChildren(...bays.map(({ bayID, name }) =>
        el('option', { value: bayID, selected: bayID === chosen }, name)));
      if (!bays.length) this.#into.append(el('option', { value: '' }, t('queue.noBay')));
    }
    this.#call.disabled = !bays.length || !this.#queue.entries.length;
    this.#into.disabled = !bays.length;
  }

  #callNext() {
    const bayID = this.#into.value;
    if (bayID) this.#shop.send('queues.callNext', { queueID: this.#id, bayID });
  }

  #togglePause() {
    this.#shop.send('queues.edit', { queueID: this.#id, paused: !this.#queue.paused });
  }

  tick() {
    for (const ticket of this.#parts) ticket.tick();
  }
}

class Ticket {
  #app;
  #id;
  #queueID;
  #entry = null;
  #number = el('span', { class: 'ticket-number' });
  #what = outside('', { class: 'ticket-what' });
  #who = outside('', { class: 'ticket-who' });
  #wait = el('span', { class: 'ticket-wait' });
  #priority = el('span', { class: 'chip chip-priority' }, icon('star'), t('queue.priority'));
  #menu;
  element;

  constructor(orderID, queueID, app) {
    this.#id = orderID;
    this.#queueID = queueID;
    this.#app = app;
    this.#menu = el('button', {
      type: 'button', class: 'plain', 'aria-haspopup': 'menu', 'aria-expanded': 'false',
      'aria-label': t('card.menu', { id: orderID }), onclick: () => this.#openMenu(),
    }, icon('more'));
    this.element = el('li', { class: 'ticket', 'data-id': orderID },
      this.#number,
      el('div', { class: 'ticket-order' },
        el('a', { href: orderAddress(orderID) }, outside(orderID)), this.#priority, this.#what, this.#who),
      this.#wait,
      app.shop.may('use_queues') ? this.#menu : null);
  }

  update(entry) {
    this.#entry = entry;
    const order = this.#app.shop.get('orders', this.#id);
    setText(this.#number, number(entry.ticket));
    setText(this.#what, order ? itemsText(order) : '');
    setText(this.#who, order?.customer?.name ?? '');
    setAttribute(this.#priority, 'hidden', entry.priority <= 0);
    this.tick();
  }

  tick() {
    setText(this.#wait, duration(this.#app.shop.ageS(this.#entry.enteredAt)));
  }

  #openMenu() {
    const about = { queueID: this.#queueID, orderID: this.#id };
    openMenu(this.#menu, [
      { text: t('card.open'), run: () => (location.hash = orderAddress(this.#id)) },
      { text: t('queue.first'), run: () => this.#app.shop.send('queues.move', { ...about, position: 1 }) },
      { text: t('queue.leave'), isDanger: true, run: () => this.#app.shop.send('queues.leave', about) },
    ], { label: t('card.menu', { id: this.#id }) });
  }
}
