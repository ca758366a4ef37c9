/** What stands around every page: head, navigation, banner; and the way from an address to a page. */

import { Banner } from './banner.js';
import { openMenu } from './dialog.js';
import { el, setAttribute, setText } from './dom.js';
import { icon } from './icons.js';
import { logOut } from './identity.js';
import { Navigation } from './navigation.js';
import { pullToRefresh } from './pull.js';
import { openSettings } from './settings.js';
import { t } from './words.js';

/** The pages that are led to, each with the permission that it takes; null: none. */
const NAVIGATION = {
  board: 'view_orders', queue: 'view_queues', bays: 'view_bays', devices: 'view_devices', fueling: 'access_fueler_dashboard', vehicles: 'view_vehicles', feed: null,
  health: null,
};
const TICK_MS = 1000;

export class Shell {
  #app;
  #pages;
  #page = null;
  #main = el('main', { id: 'main', tabindex: '-1' });
  #navigation;
  #home;

  /** pages: by name, `(app, ...parts of the address) => {title, element, tick?, close?}`. */
  constructor(app, { pages }) {
    this.#app = app;
    this.#pages = pages;
    const shown = Object.keys(NAVIGATION).filter((name) => NAVIGATION[name] === null || app.shop.may(NAVIGATION[name]));
    [this.#home] = shown;
    this.#navigation = new Navigation(shown);
    const banner = new Banner(app.client);
    const refresh = () => this.#refresh();
    document.body.replaceChildren(
      el('a', { class: 'skip', href: '#main', onclick: (event) => this.#skip(event) }, t('skip')),
      el('header', { class: 'head' },
        el('a', { class: 'brand', href: `#/${this.#home}`, 'aria-label': 'Order Sync' }, el('span', { class: 'brand-mark', 'aria-hidden': 'true' }, icon('refresh')),
          el('span', { class: 'brand-name' }, 'Order Sync')),
        this.#navigation.element,
        el('div', { class: 'head-tools' },
          banner.outbox, banner.pill,
          this.#button('refresh', t('refresh'), refresh),
          this.#button('settings', t('settings.title'), openSettings),
          app.me.principal === 'anonymous' ? null : this.#accountButton())),
      banner.element, banner.spoken,
      pullToRefresh(refresh),
      this.#main,
      app.notices.element,
    );
    addEventListener('hashchange', () => this.#go());
    setInterval(() => this.#page?.tick?.(), TICK_MS);
    this.#go({ isFirst: true });
  }

  #button(name, label, onclick) {
    return el('button', { type: 'button', class: 'plain', 'aria-label': label, title: label, onclick }, icon(name));
  }

  #accountButton() {
    const { principal } = this.#app.me;
    const button = this.#button('person', t('account', { name: principal }), () => openMenu(button, [
      { heading: principal },
      { text: t('logout'), run: () => void logOut().finally(() => location.reload()) },
    ], { label: t('account', { name: principal }) }));
    setAttribute(button, 'aria-haspopup', 'menu');
    return button;
  }

  #skip(event) {
    event.preventDefault();
    this.#main.focus();
  }

  async #refresh() {
    await Promise.all([this.#app.shop.refresh(), this.#page?.refresh?.()]);
    this.#app.notices.show(t('refreshed'));
  }

  /** Show the page that the address names; instead of an unknown one, or one that is not for who looks, the first. */
  #go({ isFirst = false } = {}) {
    const [name, ...parts] = location.hash.replace(/^#\/?/, '').split('/').map(decode);
    const isForAll = !(name in NAVIGATION) || this.#navigation.has(name);
    const chosen = this.#pages[name] && isForAll ? name : this.#home;
    const open = this.#pages[chosen];
    this.#page?.close?.();
    this.#page = open(this.#app, ...parts);
    this.#main.replaceChildren(this.#page.element);
    document.title = `${this.#page.title} · Order Sync`;
    this.#navigation.show(chosen);
    if (isFirst) return;
    scrollTo(0, 0);
    this.#main.querySelector('h1')?.focus({ preventScroll: true });
  }
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of an order's page. */
export function orderAddress(orderID) {
  return `#/orders/${encodeURIComponent(orderID)}`;
}

/** A page's head: its name, what it says about itself, its tools. */
export function pageHead(title, ...tools) {
  const heading = el('h1', { tabindex: '-1' }, title);
  return { heading, element: el('div', { class: 'page-head' }, heading, ...tools), rename: (text) => setText(heading, text) };
}
