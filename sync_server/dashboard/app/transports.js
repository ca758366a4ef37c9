/** Transport orders by status. A card goes to another lane by dragging or by its menu (M), as the rules have it. */

import { FORWARD, isOpenTransport } from '../js/logistics.js';
import { arrange, el, keepFocus, Parts, setAttribute, setText } from './dom.js';
import { dragging } from './drag.js';
import { icon } from './icons.js';
import { openTransportForm } from './roaddialogs.js';
import { STATUSES, TransportCard } from './transportcard.js';
import { number, t } from './words.js';

const MORE = 60;

export class Transports {
  #app;
  #cards;
  #lanes;
  #row;
  #spoken = el('p', { class: 'hidden-text', role: 'status' });
  #end;
  element;

  constructor(app) {
    this.#app = app;
    this.#cards = new Parts((id) => new TransportCard(id, app));
    this.#lanes = new Map(STATUSES.map((status) => [status, new Lane(status, () => this.draw())]));
    const lanes = this.#row = el('div', { class: 'lanes', onkeydown: (event) => this.#onKey(event) }, ...[...this.#lanes.values()].map(({ element }) => element));
    this.#end = dragging(lanes, {
      mayStart: (card) => Boolean(card.dataset.id) && this.#targets(this.#order(card)).length > 0,
      started: (card) => this.#showTargets(this.#order(card)),
      over: (column) => {
        for (const { element } of this.#lanes.values()) setAttribute(element, 'data-over', element === column ? 'yes' : null);
      },
      dropped: (card, column) => this.#dropped(card.dataset.id, column?.dataset.column ?? null),
    });
    this.element = el('section', { class: 'transports', 'aria-labelledby': 'transports-title' },
      el('div', { class: 'transports-head' }, el('h2', { id: 'transports-title' }, t('transport.title')),
        app.shop.may('request_transport')
          ? el('button', { type: 'button', class: 'primary', onclick: () => openTransportForm(app.shop) }, icon('plus'), t('transport.add'))
          : null),
      el('p', { class: 'hidden-text', id: 'transport-keys' }, t('transport.keys')), lanes, this.#spoken);
  }

  close() {
    this.#end();
  }

  tick() {
    for (const card of this.#cards) card.tick();
  }

  draw() {
    const { shop } = this.#app;
    const sorted = Object.groupBy(shop.list('transport_orders'), ({ status }) => status);
    for (const status of STATUSES) {
      const isOver = !isOpenTransport({ status });
      (sorted[status] ??= []).sort((a, b) => (isOver ? compare(b.updatedAt, a.updatedAt) : compare(a.createdAt, b.createdAt)));
    }
    const drawn = STATUSES.flatMap((status) => sorted[status].slice(0, this.#lanes.get(status).limit));
    setAttribute(this.#row, 'tabindex', drawn.length ? null : '0'); // so that keys can scroll it, cards or not
    keepFocus(() => {
      this.#cards.sync(drawn.map(({ transportOrderID }) => shop.entry('transport_orders', transportOrderID)), ({ document }) => document.transportOrderID);
      for (const [status, lane] of this.#lanes) {
        const shown = sorted[status].slice(0, lane.limit);
        lane.update(shown.map(({ transportOrderID }) => this.#cards.get(transportOrderID).element), sorted[status].length);
      }
    });
  }

  #order(card) {
    return this.#app.shop.get('transport_orders', card.dataset.id);
  }

  /** Where it may be dragged to. */
  #targets(order) {
    const { shop } = this.#app;
    const targets = shop.may('drive') && FORWARD[order.status] ? [FORWARD[order.status]] : [];
    if (!shop.may('dispatch') || !isOpenTransport(order)) return targets;
    return [...targets, 'cancelled', ...({ new: ['assigned'], assigned: ['new'] }[order.status] ?? [])];
  }

  #showTargets(order) {
    const targets = this.#targets(order);
    for (const [status, { element }] of this.#lanes) {
      setAttribute(element, 'data-drop', status === order.status ? 'home' : targets.includes(status) ? 'yes' : 'no');
    }
  }

  #dropped(id, status) {
    for (const { element } of this.#lanes.values()) {
      setAttribute(element, 'data-drop', null);
      setAttribute(element, 'data-over', null);
    }
    const order = this.#app.shop.get('transport_orders', id);
    if (status === null || !order || order.status === status) return;
    const named = (name) => t(`transport.${name}`);
    if (!this.#targets(order).includes(status)) {
      this.#app.notices.show(t('transport.notAlong', { from: named(order.status), to: named(status) }), { kind: 'problem', title: id });
      return;
    }
    const card = this.#cards.get(id);
    if (status === 'assigned') setTimeout(() => card.chooseVehicle()); // after the click, which would close a menu
    else if (status === 'new') card.send('assignVehicle', { vehicleID: null });
    else if (status === 'cancelled') void card.cancel();
    else card.send('setStatus', { status });
    if (status !== 'assigned' && status !== 'cancelled') setText(this.#spoken, t('transport.moved', { id, status: named(status) }));
  }

  #onKey(event) {
    if (!event.target.classList.contains('card') || event.key.toLowerCase() !== 'm') return;
    event.preventDefault();
    this.#cards.get(event.target.dataset.id)?.openMenu();
  }
}

class Lane {
  #count = el('span', { class: 'lane-count' });
  #list = el('ul', { class: 'lane-cards' });
  #empty = el('p', { class: 'lane-empty' }, t('transport.empty'));
  #more;
  limit = MORE;
  element;

  constructor(status, draw) {
    const id = `lane-${status}`;
    this.#more = el('button', {
      type: 'button', class: 'lane-more', hidden: true,
      onclick: () => {
        this.limit += MORE;
        draw();
      },
    });
    this.element = el('section', { class: 'lane', 'data-column': status, 'aria-labelledby': id },
      el('h2', { id }, el('span', { class: 'lane-name' }, t(`transport.${status}`)), ' ', this.#count),
      this.#list, this.#empty, this.#more);
  }

  update(elements, count) {
    arrange(this.#list, elements);
    setText(this.#count, number(count));
    setAttribute(this.#empty, 'hidden', count > 0);
    setAttribute(this.element, 'data-empty', count ? null : 'yes');
    setAttribute(this.#more, 'hidden', count <= elements.length);
    setText(this.#more, t('transport.more', { n: count - elements.length }));
  }
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
