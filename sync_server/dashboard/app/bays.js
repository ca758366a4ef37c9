/** The bays: what is going on in each, how far it is, and what comes next. */

import { itemsText } from './card.js';
import { ask, openMenu } from './dialog.js';
import { arrange, el, keepFocus, outside, Parts, setAttribute, setText, setVariable } from './dom.js';
import { drawFailure } from './failure.js';
import { icon } from './icons.js';
import { orderAddress, pageHead } from './shell.js';
import { byName } from './shop.js';
import { countdown, named, number, shortTime, t } from './words.js';

/** A page; see Shell. */
export function openBays(app) {
  const { shop } = app;
  const grid = el('div', { class: 'bays' });
  const placeholder = el('div', {});
  const facts = el('dl', { class: 'facts' });
  const parts = new Parts((id) => new BayPanel(id, app));
  const draw = () => {
    const bays = byName(shop.list('bays'));
    const empty = shop.placeholder() ?? (bays.length ? null : el('p', { class: 'empty' }, t('bays.none')));
    placeholder.replaceChildren(...(empty ? [empty] : []));
    keepFocus(() => arrange(grid, parts.sync(bays.map(({ bayID }) => shop.entry('bays', bayID)), keyOf)));
    const counts = ['available', 'occupied', 'cleaning', 'out_of_service'].map((status) =>
      [status, bays.filter((bay) => bay.status === status).length]);
    facts.replaceChildren(...counts.filter(([status, n]) => n || status === 'available').map(([status, n]) =>
      el('div', { 'data-status': status }, el('dt', {}, named('bay', status)), el('dd', {}, number(n)))));
  };
  const title = t('page.bays');
  const end = shop.onChange(draw);
  draw();
  return {
    title,
    element: el('div', { class: 'page' }, pageHead(title, facts, createButton(shop)).element, placeholder, grid),
    tick: () => {
      for (const part of parts) part.tick();
    },
    close: end,
  };
}

function createButton(shop) {
  const create = async () => {
    const name = await ask({ title: t('bays.new'), label: t('bays.name'), action: t('form.create') });
    if (name) shop.send('bays.create', { name });
  };
  return shop.may('manage_bays') ? el('button', { type: 'button', class: 'create', onclick: () => void create() }, icon('plus'), t('bays.new')) : null;
}

const keyOf = ({ document }) => document.bayID;

class BayPanel {
  #app;
  #shop;
  #id;
  #bay = null;
  #name = outside('');
  #status = el('span', { class: 'bay-status' });
  #queued = el('span', { class: 'badge badge-queued' }, icon('upload'), t('badge.queued'));
  #failure = el('div', { class: 'card-failure' });
  #order = el('a', { class: 'bay-order' });
  #who = outside('', { class: 'bay-who' });
  #what = outside('', { class: 'bay-what' });
  #bar;
  #percent = el('span', { class: 'bay-percent' });
  #left = el('span', { class: 'bay-left' });
  #times = el('span', { class: 'bay-times' });
  #job;
  #idle = el('p', { class: 'bay-idle' });
  #buttons = el('div', { class: 'bay-buttons' });
  element;

  constructor(id, app) {
    this.#id = id;
    this.#app = app;
    this.#shop = app.shop;
    const heading = `bay-${id}`;
    this.#bar = el('div', { class: 'bar', role: 'progressbar', 'aria-valuemin': '0', 'aria-valuemax': '100', 'aria-labelledby': heading });
    this.#job = el('div', { class: 'bay-job' },
      el('div', { class: 'bay-line' }, this.#order, this.#who),
      this.#what, this.#bar,
      el('div', { class: 'bay-line' }, this.#percent, this.#left),
      this.#times);
    this.element = el('section', { class: 'bay', 'aria-labelledby': heading, 'data-id': id },
      el('div', { class: 'bay-head' }, el('h2', { id: heading }, this.#name), this.#queued, this.#status),
      this.#job, this.#idle, this.#failure, this.#buttons);
  }

  update({ document: bay, pending, failed }) {
    const isOther = this.#bay?.status !== bay.status || this.#bay?.job?.jobID !== bay.job?.jobID;
    this.#bay = bay;
    setAttribute(this.element, 'data-status', bay.status);
    setText(this.#name, bay.name);
    setText(this.#status, named('bay', bay.status));
    setAttribute(this.#queued, 'hidden', !pending.length);
    setAttribute(this.#job, 'hidden', !bay.job);
    setAttribute(this.#idle, 'hidden', bay.job);
    setText(this.#idle, bay.job ? '' : t(`bays.idle.${bay.status}`));
    if (bay.job) this.#drawJob(bay.job);
    drawFailure(this.#failure, failed, this.#app.client);
    if (isOther) this.#buttons.replaceChildren(...(this.#shop.may('run_bays') ? this.#makeButtons(bay) : []));
    this.tick();
  }

  #drawJob(job) {
    const order = this.#shop.get('orders', job.orderID);
    if (this.#order.dataset.id !== job.orderID) {
      this.#order.dataset.id = job.orderID;
      this.#order.replaceChildren(outside(job.orderID));
      setAttribute(this.#order, 'href', orderAddress(job.orderID));
    }
    setText(this.#who, order?.customer?.name ?? '');
    setText(this.#what, order ? itemsText(order) : job.service);
    setVariable(this.#bar, '--progress', `${job.progress}%`);
    setAttribute(this.#bar, 'aria-valuenow', job.progress);
    setText(this.#percent, t('bays.percent', { n: job.progress }));
    setText(this.#times, t('bays.since', { time: shortTime(job.startedAt) }));
  }

  /** The remaining time, as planned; what is late says so. */
  tick() {
    const job = this.#bay.job;
    if (!job) return;
    const leftS = job.expectedSeconds - this.#shop.ageS(job.startedAt);
    setText(this.#left, leftS >= 0 ? t('bays.left', { time: countdown(leftS) }) : t('bays.over', { time: countdown(-leftS) }));
    setAttribute(this.element, 'data-late', leftS < 0 ? 'yes' : null);
  }

  #makeButtons({ status, job }) {
    const button = (text, run, className = '') => el('button', { type: 'button', class: className || null, onclick: run }, text);
    const setStatus = (wanted) => () => this.#shop.send('bays.edit', { bayID: this.#id, status: wanted });
    if (job) {
      const about = { bayID: this.#id, jobID: job.jobID };
      return [
        button(t('bays.finish'), () => this.#shop.send('bays.finishJob', about), 'primary'),
        button(t('bays.abort'), () => void this.#abort(about)),
      ];
    }
    if (status === 'available') {
      const start = button(t('bays.start'), () => this.#openStart(start), 'primary');
      setAttribute(start, 'aria-haspopup', 'menu');
      return [start, button(t('bays.close'), setStatus('out_of_service'))];
    }
    const isClean = status === 'cleaning';
    return [
      button(isClean ? t('bays.clean') : t('bays.open'), setStatus('available'), 'primary'),
      isClean ? button(t('bays.close'), setStatus('out_of_service')) : null,
    ].filter(Boolean);
  }

  async #abort(about) {
    const reason = await ask({ title: t('bays.abort.title', { bay: this.#bay.name }), label: t('bays.abort.reason'), action: t('bays.abort') });
    if (reason) this.#shop.send('bays.abortJob', { ...about, reason });
  }

  /** The next of a queue. */
  #openStart(button) {
    const queues = byName(this.#shop.list('queues')).filter(({ entries }) => entries.length);
    const items = queues.map(({ queueID, name, entries }) => ({
      text: t('bays.callFrom', { queue: name, order: entries[0].orderID }),
      run: () => this.#shop.send('queues.callNext', { queueID, bayID: this.#id }),
    }));
    openMenu(button, items.length ? items : [{ text: t('queue.empty'), run: () => {} }], { label: t('bays.start') });
  }
}
