/** The devices of a café: how long each has been running, for whom, what was ordered there; and what things cost. */

import { elapsedS } from '../js/devices.js';
import { sum } from '../js/money.js';
import { openCatalog, openDevice, openDeviceOrder } from './devicedialogs.js';
import { confirmed, openMenu } from './dialog.js';
import { arrange, el, keepFocus, outside, Parts, setAttribute, setText } from './dom.js';
import { drawFailure } from './failure.js';
import { icon } from './icons.js';
import { pageHead } from './shell.js';
import { byName } from './shop.js';
import { amount, countdown, named, number, t } from './words.js';

const CATALOG = 'main';

/** A page; see Shell. */
export function openDevices(app) {
  const { shop } = app;
  const grid = el('div', { class: 'devices' });
  const placeholder = el('div', {});
  const facts = el('dl', { class: 'facts' });
  const parts = new Parts((id) => new DevicePanel(id, app));
  const draw = () => {
    const devices = byName(shop.list('devices'));
    const empty = shop.placeholder() ?? (devices.length ? null : el('p', { class: 'empty' }, t('devices.none')));
    placeholder.replaceChildren(...(empty ? [empty] : []));
    keepFocus(() => arrange(grid, parts.sync(devices.map(({ deviceID }) => shop.entry('devices', deviceID)), keyOf)));
    const running = devices.filter(({ isRunning }) => isRunning).length;
    facts.replaceChildren(...[['running', running], ['free', devices.filter(isFree).length]].map(([name, n]) =>
      el('div', { 'data-status': name }, el('dt', {}, t(`devices.${name}`)), el('dd', {}, number(n)))));
  };
  const create = shop.may('manage_devices')
    ? el('button', {
      type: 'button', class: 'primary',
      onclick: () => openDevice({ device: null, save: (wish) => shop.send('devices.create', wish) }),
    }, icon('plus'), t('devices.new')) : null;
  const prices = shop.may('manage_catalog')
    ? el('button', { type: 'button', onclick: () => editCatalog(shop) }, icon('ticket'), t('catalog.open')) : null;
  const title = t('page.devices');
  const end = shop.onChange(draw);
  draw();
  return {
    title,
    element: el('div', { class: 'page' }, pageHead(title, facts, el('div', { class: 'device-tools' }, prices, create)).element, placeholder, grid),
    tick: () => {
      for (const part of parts) part.tick();
    },
    close: end,
  };
}

const keyOf = ({ document }) => document.deviceID;
const isFree = ({ isRunning, orders }) => !isRunning && !orders.length;

/** Categories first, those that nothing is in any more last: in between every price has one. */
function editCatalog(shop) {
  const catalog = shop.get('catalogs', CATALOG);
  openCatalog({
    catalog,
    save: ({ categories, prices }) => {
      const before = catalog?.categories ?? [];
      const kept = new Set(categories.map(({ name }) => name));
      const gone = before.filter(({ name }) => !kept.has(name));
      const isSame = !gone.length && categories.every(({ name }, at) => before[at]?.name === name);
      if (!isSame) shop.send('catalogs.setCategories', { catalogID: CATALOG, categories: [...categories, ...gone] });
      shop.send('catalogs.setPrices', { catalogID: CATALOG, prices });
      if (gone.length) shop.send('catalogs.setCategories', { catalogID: CATALOG, categories });
    },
  });
}

class DevicePanel {
  #app;
  #shop;
  #id;
  #entry = null;
  #name = outside('');
  #status = el('span', { class: 'bay-status' });
  #queued = el('span', { class: 'badge badge-queued' }, icon('upload'), t('badge.queued'));
  #clock = el('span', { class: 'device-clock', role: 'timer' });
  #mode = el('span', { class: 'chip chip-place' });
  #people = el('span', { class: 'chip' }, icon('person'), el('span', {}));
  #notes = outside('', { class: 'device-notes' });
  #orders = el('ul', { class: 'device-orders' });
  #total = el('p', { class: 'device-total' }, el('span', {}, t('devices.total')), el('strong', {}));
  #failure = el('div', { class: 'card-failure' });
  #toggle;
  #buttons = el('div', { class: 'bay-buttons' });
  #menu;
  element;

  constructor(id, app) {
    this.#id = id;
    this.#app = app;
    this.#shop = app.shop;
    const heading = `device-${id}`;
    this.#toggle = el('button', { type: 'button', onclick: () => this.#send('update', { isRunning: !this.#device.isRunning }) });
    this.#menu = el('button', {
      type: 'button', class: 'plain card-menu', 'aria-haspopup': 'menu', 'aria-expanded': 'false',
      onclick: () => openMenu(this.#menu, this.#menuItems(), { label: t('devices.menu', { name: this.#device.name }) }),
    }, icon('more'));
    if (this.#shop.may('use_devices')) {
      this.#buttons.append(this.#toggle, el('button', { type: 'button', onclick: () => this.#order() }, t('devices.order')));
    }
    const canMore = this.#shop.may('use_devices') || this.#shop.may('manage_devices');
    this.element = el('section', { class: 'bay device', 'aria-labelledby': heading, 'data-id': id },
      el('div', { class: 'bay-head' }, el('h2', { id: heading }, this.#name), this.#queued, this.#status, canMore ? this.#menu : null),
      el('div', { class: 'bay-line' }, this.#clock, el('span', { class: 'device-who' }, this.#mode, this.#people)),
      this.#notes, this.#orders, this.#total, this.#failure, this.#buttons);
  }

  get #device() {
    return this.#entry.document;
  }

  update(entry) {
    const before = this.#entry;
    this.#entry = entry;
    if (before?.document !== entry.document) this.#draw();
    setAttribute(this.#queued, 'hidden', !entry.pending.length);
    drawFailure(this.#failure, entry.failed, this.#app.client);
    this.tick();
  }

  #draw() {
    const { name, isRunning, mode, customerCount, notes, orders } = this.#device;
    const status = isRunning ? 'running' : orders.length ? 'stopped' : 'free';
    setAttribute(this.element, 'data-status', status);
    setText(this.#name, name);
    setText(this.#status, t(`devices.${status}`));
    setAttribute(this.#menu, 'aria-label', t('devices.menu', { name }));
    setText(this.#mode, named('devices.mode', mode));
    setText(this.#people.lastElementChild, t('devices.people', { n: customerCount }));
    setText(this.#notes, notes);
    setText(this.#toggle, isRunning ? t('devices.stop') : t('devices.start'));
    setAttribute(this.#toggle, 'class', isRunning ? null : 'primary');
    this.#orders.replaceChildren(...orders.map((order, at) => this.#makeOrder(order, at)));
    setAttribute(this.#total, 'hidden', !orders.length);
    setText(this.#total.lastElementChild, amount(sum(orders.map(({ price, quantity }) => [price, quantity]))));
  }

  #makeOrder(order, at) {
    const what = t('devices.each', { n: order.quantity, name: order.name });
    const menu = el('button', {
      type: 'button', class: 'plain card-menu', 'aria-haspopup': 'menu', 'aria-expanded': 'false',
      'aria-label': t('devices.order.menu', { what: order.name }),
      onclick: () => openMenu(menu, [
        { text: t('devices.order.change'), run: () => this.#order(at) },
        { text: t('devices.order.remove'), isDanger: true, run: () => this.#send('removeOrder', { orderIndex: at }, { isGuarded: true }) },
      ], { label: t('devices.order.menu', { what: order.name }) }),
    }, icon('more'));
    return el('li', {},
      el('span', { class: 'device-what' }, what, order.notes ? outside(order.notes, { class: 'muted' }) : null),
      el('span', { class: 'device-price' }, amount(sum([[order.price, order.quantity]]))),
      this.#shop.may('use_devices') ? menu : null);
  }

  tick() {
    setText(this.#clock, countdown(elapsedS(this.#device, this.#shop.nowMs())));
  }

  /** Guarded: only if the device is as it is shown; what is still on its way from here would stand in the way of that. */
  #send(name, wish, { isGuarded = false } = {}) {
    const { document, pending } = this.#entry;
    const options = isGuarded && !pending.length ? { ifMatch: document.version } : undefined;
    this.#shop.send(`devices.${name}`, { deviceID: this.#id, ...wish }, options);
  }

  /** Order something, or change what stands at place `at`. */
  #order(at = null) {
    const order = at === null ? null : this.#device.orders[at];
    const prices = this.#shop.get('catalogs', CATALOG)?.prices ?? [];
    openDeviceOrder({
      device: this.#device, order, prices,
      save: (filled) => {
        if (order === null) this.#send('placeOrders', { orders: [filled] });
        else this.#send('editOrder', { orderIndex: at, ...filled }, { isGuarded: true });
      },
    });
  }

  #menuItems() {
    const items = [];
    const { name } = this.#device;
    if (this.#shop.may('use_devices')) {
      items.push({ text: t('devices.edit'), run: () => openDevice({ device: this.#device, save: (wish) => this.#send('update', wish) }) });
      const targets = byName(this.#shop.list('devices').filter((one) => one.deviceID !== this.#id && isFree(one)));
      if (!isFree(this.#device)) {
        items.push(...(targets.length ? [] : [{ heading: t('devices.noTarget') }]), ...targets.map((target) => ({
          text: t('devices.transferTo', { name: target.name }),
          run: () => this.#send('transfer', { toDeviceID: target.deviceID }, { isGuarded: true }),
        })));
      }
      items.push({ text: t('devices.reset'), isDanger: true, run: () => void this.#ask('reset', name) });
    }
    if (this.#shop.may('manage_devices')) {
      items.push({ text: t('devices.delete'), isDanger: true, run: () => void this.#ask('delete', name) });
    }
    return items;
  }

  async #ask(what, name) {
    const isMeant = await confirmed({
      title: t(`devices.${what}.title`, { name }), text: t(`devices.${what}.text`), action: t(`devices.${what}.do`),
    });
    if (isMeant) this.#send(what, {}, { isGuarded: true });
  }
}
