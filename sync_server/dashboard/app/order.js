/** One order: what is in it, where it stands, what can be done, and how it came to be so. */

import { openMenu } from './dialog.js';
import { el, outside, setAttribute, setText, setVariable } from './dom.js';
import { drawFailure } from './failure.js';
import { icon } from './icons.js';
import { askToDelete } from './orderdelete.js';
import { openOrderForm } from './orderform.js';
import { pageHead } from './shell.js';
import { NEXT_STAGES } from './shop.js';
import { Timeline } from './timeline.js';
import { fullTime, money, named, number, t } from './words.js';

const WAY = ['empty', 'initiated', 'in_progress', 'completed'];
const NEXT_PAYMENT = { pending: ['paid', 'failed'], failed: ['pending'], paid: ['refunded'], refunded: [] };

/** A page; see Shell. */
export function openOrder(app, orderID = '') {
  return new OrderPage(app, orderID);
}

class OrderPage {
  #app;
  #shop;
  #id;
  #ends;
  #timeline;
  #gone = el('p', { class: 'empty', hidden: true }, t('order.gone'));
  #steps = el('ol', { class: 'steps' });
  #queued = el('span', { class: 'badge badge-queued', hidden: true }, icon('upload'), t('badge.queued'));
  #failure = el('div', { class: 'card-failure', hidden: true });
  #facts = el('dl', { class: 'order-facts' });
  #items = el('tbody', {});
  #total = el('td', {});
  #buttons = el('div', { class: 'order-buttons' });
  #details;
  #drawn = null;
  title;
  element;

  constructor(app, orderID) {
    this.#app = app;
    this.#shop = app.shop;
    this.#id = orderID;
    this.title = t('page.order', { id: orderID });
    this.#timeline = new Timeline(app.client, orderID);
    const { element: head } = pageHead(this.title, this.#queued);
    head.prepend(el('a', { class: 'back', href: '#/board', 'aria-label': t('order.back') }, icon('back')));
    const table = el('table', { class: 'items' },
      el('thead', {}, el('tr', {}, ...['name', 'quantity', 'price'].map((name) => el('th', { scope: 'col' }, t(`order.${name}`))))),
      this.#items,
      el('tfoot', {}, el('tr', {}, el('th', { scope: 'row', colspan: '2' }, t('order.total')), this.#total)));
    this.#details = el('section', { class: 'panel', 'aria-label': t('order.details') },
      this.#steps, this.#buttons, this.#failure, table, this.#facts);
    const history = el('section', { class: 'panel', 'aria-labelledby': 'history' },
      el('h2', { id: 'history' }, t('order.history')), this.#timeline.element);
    this.element = el('div', { class: 'page' }, head, this.#gone, el('div', { class: 'order' }, this.#details, history));
    this.#ends = [this.#shop.onChange(() => this.#draw()), () => this.#timeline.close()];
    this.#draw();
  }

  close() {
    for (const end of this.#ends) end();
  }

  #draw() {
    const { document: order, pending, failed } = this.#shop.entry('orders', this.#id);
    const isLoading = this.#shop.placeholder() !== null;
    setAttribute(this.#gone, 'hidden', order || isLoading);
    setAttribute(this.#details, 'hidden', !order);
    setAttribute(this.#queued, 'hidden', !pending.length);
    drawFailure(this.#failure, failed, this.#app.client);
    if (!order) return;
    this.#drawPlace(order);
    if (order === this.#drawn) return;
    this.#drawn = order;
    this.#drawSteps(order);
    this.#drawItems(order);
    this.#buttons.replaceChildren(...this.#makeButtons(order));
  }

  #drawSteps({ stage }) {
    const way = stage === 'cancelled' ? ['empty', 'initiated', 'cancelled'] : WAY;
    const at = way.indexOf(stage);
    this.#steps.replaceChildren(...way.map((one, place) =>
      el('li', { 'data-stage': one, 'data-past': place <= at ? 'yes' : null, 'aria-current': place === at ? 'step' : null }, named('stage', one))));
  }

  #drawItems({ items, payment }) {
    this.#items.replaceChildren(...items.map(({ name, sku, quantity, unitPrice }) =>
      el('tr', {},
        el('td', {}, outside(name), sku ? el('span', { class: 'muted mono' }, ' ', outside(sku)) : null),
        el('td', {}, number(quantity)),
        el('td', {}, money(unitPrice, payment.currency)))));
    if (!items.length) this.#items.append(el('tr', {}, el('td', { colspan: '3', class: 'muted' }, t('order.noItems'))));
    setText(this.#total, money(payment.amount, payment.currency));
  }

  #drawPlace(order) {
    const bay = order.bayID ? this.#shop.get('bays', order.bayID) : null;
    const queue = order.queueID ? this.#shop.get('queues', order.queueID) : null;
    const entry = queue?.entries.find(({ orderID }) => orderID === this.#id);
    const place = bay ? bay.name : entry ? t('card.ticket', { queue: queue.name, n: entry.ticket }) : order.bayID ?? queue?.name;
    const job = bay?.job?.orderID === this.#id ? bay.job : null;
    const facts = [
      ['order.customer', order.customer?.name], ['order.phone', order.customer?.phone],
      ['order.payment', [named('payment', order.payment.status), order.payment.method].filter(Boolean).join(' · ')],
      ['order.place', place], ['order.status', order.status], ['order.notes', order.notes],
      ['order.created', fullTime(order.createdAt)], ['order.updated', fullTime(order.updatedAt)],
      ['order.version', number(order.version)],
    ].filter(([, value]) => value);
    const text = JSON.stringify([facts, job?.progress]);
    if (this.#facts.dataset.text === text) return;
    this.#facts.dataset.text = text;
    const rows = facts.map(([key, value]) => el('div', {}, el('dt', {}, t(key)), el('dd', {}, outside(value))));
    this.#facts.replaceChildren(...rows, ...(job ? [progressRow(job)] : []));
  }

  #makeButtons(order) {
    const buttons = [];
    const send = (name, given) => () => this.#shop.send(name, { orderID: this.#id, ...given });
    if (order.bayID === undefined && this.#shop.may('change_order_stage')) {
      for (const newStage of NEXT_STAGES[order.stage] ?? []) { // none of a stage that a newer server knows
        buttons.push(el('button', {
          type: 'button', class: newStage === 'cancelled' ? 'danger' : 'primary', onclick: send('orders.changeStage', { newStage }),
        }, t('card.moveTo', { stage: named('stage', newStage) })));
      }
    }
    const payments = NEXT_PAYMENT[order.payment.status] ?? [];
    if (payments.length && this.#shop.may('take_payments')) {
      const { amount } = order.payment;
      const button = el('button', { type: 'button', 'aria-haspopup': 'menu', 'aria-expanded': 'false' }, t('order.pay'));
      button.addEventListener('click', () => openMenu(button, payments.map((status) =>
        ({ text: named('payment', status), run: send('orders.setPayment', { status, amount }) })), { label: t('order.pay') }));
      buttons.push(button);
    }
    const button = (text, run, className = null) => el('button', { type: 'button', class: className, onclick: run }, text);
    if (this.#shop.may('edit_orders') && order.stage !== 'completed' && order.stage !== 'cancelled') {
      buttons.push(button(t('order.edit'), () => openOrderForm(this.#app, { order })));
    }
    if (order.bayID === undefined && this.#shop.may('delete_orders')) {
      buttons.push(button(t('order.delete'), () => void askToDelete(this.#shop, this.#id), 'danger'));
    }
    return buttons;
  }
}

function progressRow({ progress }) {
  const bar = el('div', {
    class: 'bar', role: 'progressbar', 'aria-valuemin': '0', 'aria-valuemax': '100', 'aria-valuenow': progress,
    'aria-label': t('order.progress'),
  });
  setVariable(bar, '--progress', `${progress}%`);
  return el('div', { class: 'wide' }, el('dt', {}, t('order.progress')), el('dd', {}, bar));
}
