/**
 * The feed inspector: what the client knows of itself and of its connection, and the events as they come; for people
 * who want to know why a screen shows what it shows.
 */

import { download } from './download.js';
import { el, outside, paced, setAttribute, setText } from './dom.js';
import { EventList } from './eventlist.js';
import { icon } from './icons.js';
import { pageHead } from './shell.js';
import { ARROW, decimal, duration, exactTime, named, number, t } from './words.js';

const SHOWN_TRANSITIONS = 12;

/** A page; see Shell. */
export function openFeed(app) {
  return new FeedPage(app);
}

class FeedPage {
  #client;
  #events;
  #facts = el('dl', { class: 'feed-facts' });
  #transitions = el('ol', { class: 'transitions' });
  #pause;
  #end;
  title = t('page.feed');
  element;

  constructor({ client, notices }) {
    this.#client = client;
    this.#events = new EventList(client, { notices });
    this.#pause = el('button', { type: 'button', 'aria-pressed': 'false', onclick: () => this.#togglePause() });
    const button = (name, text, run) => el('button', { type: 'button', onclick: run }, icon(name), text);
    const { element: head } = pageHead(this.title, el('div', { class: 'tools' },
      this.#pause,
      button('refresh', t('banner.tryNow'), () => client.retryNow()),
      button('download', t('feed.export'), () => this.#export())));
    const panel = (id, className, ...children) =>
      el('section', { class: `panel ${className}`, 'aria-labelledby': id }, el('h2', { id }, t(`feed.${id}`)), ...children);
    this.element = el('div', { class: 'page' }, head,
      el('div', { class: 'feed' },
        el('div', { class: 'feed-side' },
          panel('connection', '', this.#facts),
          panel('transitions', '', this.#transitions)),
        panel('events', 'feed-main', this.#events.element)));
    this.#end = client.onChange(paced(() => this.#draw()));
    this.#showPause();
    this.#draw();
  }

  close() {
    this.#end();
    this.#events.close();
  }

  tick() {
    this.#draw();
  }

  #togglePause() {
    this.#events.isPaused = !this.#events.isPaused;
    this.#showPause();
  }

  #showPause() {
    const { isPaused } = this.#events;
    setAttribute(this.#pause, 'aria-pressed', String(isPaused));
    this.#pause.replaceChildren(icon(isPaused ? 'play' : 'pause'), isPaused ? t('feed.resume') : t('feed.pause'));
  }

  /** What is kept in the browser, in the format it is kept in, and what is on the screen. */
  #export() {
    const { health, metrics, transitions } = this.#client;
    download('order-sync.json', { ...this.#client.export(), health, metrics, transitions, shown: this.#events.shown });
  }

  #draw() {
    const { health, metrics, transitions, actions } = this.#client;
    const rows = factsOf({ health, metrics, actions });
    if (this.#facts.children.length !== rows.length) {
      this.#facts.replaceChildren(...rows.map(([name]) => el('div', {}, el('dt', {}, t(`feed.${name}`)), el('dd', { 'data-fact': name }))));
    }
    rows.forEach(([, value], place) => setText(this.#facts.children[place].lastElementChild, value || '–'));
    this.#drawTransitions(transitions);
  }

  #drawTransitions(transitions) {
    const newest = transitions.at(-1);
    const mark = `${transitions.length} ${newest?.at} ${newest?.after}`;
    if (this.#transitions.dataset.mark === mark) return;
    this.#transitions.dataset.mark = mark;
    this.#transitions.replaceChildren(...transitions.slice(-SHOWN_TRANSITIONS).reverse().map(({ before, after, reason, at }) =>
      el('li', {},
        el('time', { datetime: at }, exactTime(at)),
        el('span', {}, `${named('state', before)} ${ARROW} `, el('strong', {}, named('state', after))),
        reason ? el('span', { class: 'muted' }, outside(reason)) : null)));
  }
}

/** `[name, text]` of everything that is to be known. */
function factsOf({ health, metrics, actions }) {
  const seq = (cursor) => Number(String(cursor).split('.')[1]);
  const isOld = seq(health.head) < seq(health.cursor); // it is told with heartbeats only
  const behind = health.cursor && health.head ? Math.max(seq(health.head) - seq(health.cursor), 0) : null;
  const seconds = (value) => (value === null ? '' : duration(value));
  return [
    ['state', named('state', health.state)],
    ['reason', health.reason],
    ['since', exactTime(health.since)],
    ['transport', health.transport ? named('transport', health.transport) : ''],
    ['role', health.role ? named('role', health.role) : ''],
    ['cursor', health.cursor],
    ['head', isOld ? health.cursor : health.head],
    ['lag', behind === null || Number.isNaN(behind) ? '' : t('feed.behind', { n: behind })],
    ['age', seconds(health.staleForS)],
    ['next', seconds(health.nextRetryS)],
    ['breaker', named('breaker', health.breaker)],
    ['queued', number(actions.pending.length)],
    ['failed', number(actions.failed.length)],
    ['storage', health.storage || (metrics ? t('feed.bytes', { n: Math.round(metrics.storageBytes / 1024) }) : '')],
    ['received', metrics ? t('feed.rate', { n: metrics.totalEvents, rate: decimal(metrics.eventsPerS) }) : ''],
    ['fallbacks', metrics ? number(metrics.fallbacks) : ''],
    ['resets', metrics ? number(metrics.resets) : ''],
    ['lastError', health.lastError],
  ];
}
