/**
 * The board: orders by stage. A card goes to another stage by dragging, by its menu, or with Shift and an arrow key;
 * it is there at once, with "Queued" on it until the server has answered, and goes back with the reason if refused.
 */

import { Card } from './card.js';
import { arrange, el, keepFocus, Parts, setAttribute, setText } from './dom.js';
import { dragging } from './drag.js';
import { icon } from './icons.js';
import { openOrderForm } from './orderform.js';
import { orderAddress, pageHead } from './shell.js';
import { NEXT_STAGES, STAGES } from './shop.js';
import { duration, named, number, t } from './words.js';

const MORE = 60; // cards of a column that are drawn at first, and with each "more"
const OPEN = new Set(['empty', 'initiated', 'in_progress']);

/** A page; see Shell. */
export function openBoard(app) {
  return new Board(app);
}

class Board {
  #app;
  #shop;
  #columns;
  #cards;
  #limits = new Map(STAGES.map((stage) => [stage, MORE]));
  #search = el('input', { type: 'search', placeholder: t('board.search'), 'aria-label': t('board.search'), oninput: () => this.#draw() });
  #facts = el('dl', { class: 'facts' });
  #placeholder = el('div', {});
  #spoken = el('p', { class: 'hidden-text', role: 'status' });
  #lanes;
  #ends;
  title = t('page.board');
  element;

  constructor(app) {
    this.#app = app;
    this.#shop = app.shop;
    this.#cards = new Parts((id) => new Card(id, app));
    this.#columns = new Map(STAGES.map((stage) => [stage, new Column(stage, () => this.#more(stage))]));
    this.#lanes = el('div', { class: 'lanes', onkeydown: (event) => this.#onKey(event), onclick: open },
      ...[...this.#columns.values()].map(({ element }) => element));
    const search = el('label', { class: 'search' }, icon('search'), this.#search);
    const create = this.#shop.may('create_orders')
      ? el('button', { type: 'button', class: 'primary', onclick: () => openOrderForm(app) }, icon('plus'), t('form.new')) : null;
    const { element: head } = pageHead(this.title, this.#facts, search, create);
    this.element = el('div', { class: 'page board' }, head,
      el('p', { class: 'hidden-text', id: 'board-keys' }, t('board.keys')), this.#placeholder, this.#lanes, this.#spoken);
    this.#ends = [
      this.#shop.onChange(() => this.#draw()),
      dragging(this.#lanes, {
        mayStart: (card) => this.#mayMove(this.#cards.get(card.dataset.id)?.order),
        started: (card) => this.#showTargets(this.#cards.get(card.dataset.id).order),
        over: (column) => this.#showOver(column),
        dropped: (card, column) => this.#dropped(card.dataset.id, column?.dataset.column ?? null),
      }),
    ];
    this.#draw();
  }

  close() {
    for (const end of this.#ends) end();
  }

  tick() {
    for (const card of this.#cards) card.tick();
    this.#drawFacts();
  }

  // -- drawing

  #draw() {
    const placeholder = this.#shop.placeholder();
    this.#placeholder.replaceChildren(...(placeholder ? [placeholder] : []));
    setAttribute(this.#lanes, 'hidden', placeholder);
    const lanes = this.#sorted();
    const drawn = STAGES.flatMap((stage) => lanes.get(stage).slice(0, this.#limits.get(stage)));
    setAttribute(this.#lanes, 'tabindex', drawn.length ? null : '0'); // so that keys can scroll it, cards or not
    keepFocus(() => {
      this.#cards.sync(drawn.map(({ orderID }) => this.#shop.entry('orders', orderID)), ({ document }) => document.orderID);
      for (const [stage, column] of this.#columns) {
        const orders = lanes.get(stage);
        const shown = orders.slice(0, this.#limits.get(stage));
        column.update(shown.map(({ orderID }) => this.#cards.get(orderID)), orders.length);
      }
    });
    this.#drawFacts();
  }

  /** Orders by stage: those that wait longest first, those that are over newest first. */
  #sorted() {
    const wanted = this.#search.value.trim().toLowerCase();
    const lanes = new Map(STAGES.map((stage) => [stage, []]));
    for (const order of this.#shop.list('orders')) {
      if (!wanted || textOf(order).includes(wanted)) lanes.get(order.stage)?.push(order);
    }
    for (const [stage, orders] of lanes) {
      if (OPEN.has(stage)) orders.sort((a, b) => compare(a.createdAt, b.createdAt) || compare(a.orderID, b.orderID));
      else orders.sort((a, b) => compare(b.updatedAt, a.updatedAt) || compare(b.orderID, a.orderID));
    }
    return lanes;
  }

  #drawFacts() {
    const entries = this.#shop.list('queues').flatMap((queue) => queue.entries);
    const bays = this.#shop.list('bays');
    const longestS = entries.reduce((most, { enteredAt }) => Math.max(most, this.#shop.ageS(enteredAt)), 0);
    const facts = [
      ['board.waiting', number(entries.length)],
      ['board.longest', entries.length ? duration(longestS) : '–'],
      ['board.busy', `${number(bays.filter(({ job }) => job).length)} / ${number(bays.length)}`],
    ];
    if (this.#facts.children.length !== facts.length) {
      this.#facts.replaceChildren(...facts.map(([key]) => el('div', {}, el('dt', {}, t(key)), el('dd', {}))));
    }
    facts.forEach(([, value], place) => setText(this.#facts.children[place].lastElementChild, value));
  }

  #more(stage) {
    this.#limits.set(stage, this.#limits.get(stage) + MORE);
    this.#draw();
  }

  // -- moving

  #mayMove(order) {
    return Boolean(order) && this.#shop.may('change_order_stage') && NEXT_STAGES[order.stage].length > 0;
  }

  #showTargets(order) {
    for (const [stage, { element }] of this.#columns) {
      const isTarget = order.bayID === undefined && NEXT_STAGES[order.stage].includes(stage);
      setAttribute(element, 'data-drop', stage === order.stage ? 'home' : isTarget ? 'yes' : 'no');
    }
  }

  #showOver(over) {
    for (const { element } of this.#columns.values()) setAttribute(element, 'data-over', element === over ? 'yes' : null);
  }

  #dropped(id, stage) {
    for (const { element } of this.#columns.values()) {
      setAttribute(element, 'data-drop', null);
      setAttribute(element, 'data-over', null);
    }
    if (stage !== null) this.#move(id, stage);
  }

  /** Ask for it, unless the rules are known to forbid it: then say why. */
  #move(id, stage) {
    const order = this.#shop.get('orders', id);
    if (!order || order.stage === stage) return;
    const refuse = (key, params) => this.#app.notices.show(t(key, params), { kind: 'problem', title: id });
    if (order.bayID !== undefined) refuse('board.inBay', { bay: this.#shop.get('bays', order.bayID)?.name ?? order.bayID });
    else if (!NEXT_STAGES[order.stage].includes(stage)) {
      refuse('board.notAlong', { from: named('stage', order.stage), to: named('stage', stage) });
    } else {
      this.#shop.send('orders.changeStage', { orderID: id, newStage: stage });
      setText(this.#spoken, t('board.moved', { id, stage: named('stage', stage) }));
    }
  }

  // -- keys

  #onKey(event) {
    if (!event.target.classList.contains('card')) return;
    const id = event.target.dataset.id;
    const isRtl = document.documentElement.dir === 'rtl';
    const side = { ArrowLeft: isRtl ? 1 : -1, ArrowRight: isRtl ? -1 : 1 }[event.key];
    if (event.key === 'Enter') location.hash = orderAddress(id);
    else if (event.key === 'm' || event.key === 'M') this.#cards.get(id).openMenu();
    else if (side !== undefined && event.shiftKey) this.#moveAside(id, side);
    else if (side !== undefined) this.#focusAside(event.target, side);
    else if (event.key === 'ArrowDown') focusNear(event.target, 'nextElementSibling');
    else if (event.key === 'ArrowUp') focusNear(event.target, 'previousElementSibling');
    else return;
    event.preventDefault();
  }

  /** The next stage along the way, on that side. */
  #moveAside(id, side) {
    const order = this.#shop.get('orders', id);
    const stage = STAGES[STAGES.indexOf(order.stage) + side];
    if (stage !== undefined && this.#shop.may('change_order_stage')) this.#move(id, stage);
  }

  #focusAside(card, side) {
    const place = [...card.parentElement.children].indexOf(card);
    const columns = [...this.#columns.values()];
    for (let at = columns.findIndex(({ list }) => list === card.parentElement) + side; columns[at]; at += side) {
      const { children } = columns[at].list;
      if (children.length) {
        children[Math.min(place, children.length - 1)].focus();
        return;
      }
    }
  }
}

/** One stage. */
class Column {
  #count = el('span', { class: 'lane-count' });
  #more;
  #empty = el('p', { class: 'lane-empty' }, t('board.empty'));
  #cards = [];
  list = el('ul', { class: 'lane-cards' });
  element;

  constructor(stage, more) {
    const id = `lane-${stage}`;
    this.#more = el('button', { type: 'button', class: 'lane-more', hidden: true, onclick: more });
    this.element = el('section', { class: 'lane', 'data-column': stage, 'aria-labelledby': id },
      el('h2', { id }, el('span', { class: 'lane-name' }, named('stage', stage)), ' ', this.#count),
      this.list, this.#empty, this.#more);
    this.list.addEventListener('focusin', (event) => this.#reach(event.target.closest('.card')));
  }

  update(cards, count) {
    this.#cards = cards;
    arrange(this.list, cards.map(({ element }) => element));
    setText(this.#count, number(count));
    setAttribute(this.#empty, 'hidden', count > 0);
    setAttribute(this.element, 'data-empty', count ? null : 'yes');
    setAttribute(this.#more, 'hidden', count <= cards.length);
    setText(this.#more, t('board.more', { n: count - cards.length }));
    const focused = this.list.contains(document.activeElement) ? document.activeElement.closest('.card') : null;
    this.#reach(focused ?? this.list.querySelector('.card[tabindex="0"]') ?? this.list.firstElementChild);
  }

  #reach(card) {
    for (const one of this.#cards) one.setReachable(one.element === card);
  }
}

function open(event) {
  const card = event.target.closest('button, a') ? null : event.target.closest('.card');
  if (card) location.hash = orderAddress(card.dataset.id);
}

function focusNear(card, direction) {
  card[direction]?.focus();
}

function textOf({ orderID, customer, items }) {
  return [orderID, customer?.name, customer?.phone, ...items.map(({ name }) => name)].filter(Boolean).join('\n').toLowerCase();
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
