/** How the server is doing, from /metrics, read every two seconds while the page is looked at. */

import { Chart } from './chart.js';
import { el, setText } from './dom.js';
import { parseMetrics, quantile, sumOf } from './prometheus.js';
import { pageHead } from './shell.js';
import { decimal, number, t } from './words.js';

const EVERY_MS = 2000;
const COUNTERS = [
  'sync_resets_total', 'sync_goodbyes_total', 'sync_slow_closes_total', 'sync_log_holes_total', 'sync_refusals_total',
  'sync_polls_total', 'sync_replays_total',
];

/** A page; see Shell. */
export function openHealth() {
  return new HealthPage();
}

class HealthPage {
  #before = null; // {samples, atS}
  #timer;
  #abort = new AbortController();
  #note = el('p', { class: 'muted', role: 'status' });
  #counters = el('dl', { class: 'feed-facts' });
  #charts = {
    readers: new Chart({ title: t('health.readers'), format: number, atLeast: 5 }),
    behind: new Chart({ title: t('health.behind'), format: number, atLeast: 5 }),
    deliveries: new Chart({ title: t('health.deliveries'), format: perSecond, atLeast: 10 }),
    events: new Chart({ title: t('health.events'), format: perSecond, atLeast: 10 }),
    median: new Chart({ title: t('health.median'), format: milliseconds, atLeast: 5 }),
    slowest: new Chart({ title: t('health.slowest'), format: milliseconds, atLeast: 20 }),
    tail: new Chart({ title: t('health.tail'), format: milliseconds, atLeast: 2000 }),
    channels: new Chart({ title: t('health.channels'), format: number, atLeast: 5 }),
  };
  title = t('page.health');
  element;

  constructor() {
    this.element = el('div', { class: 'page' }, pageHead(this.title).element, this.#note,
      el('div', { class: 'charts' }, ...Object.values(this.#charts).map(({ element }) => element)),
      el('section', { class: 'panel', 'aria-labelledby': 'counters' }, el('h2', { id: 'counters' }, t('health.counters')), this.#counters));
    this.#timer = setInterval(() => document.visibilityState === 'visible' && void this.refresh(), EVERY_MS);
    void this.refresh();
  }

  close() {
    clearInterval(this.#timer);
    this.#abort.abort();
  }

  /** Look now. */
  async refresh() {
    try {
      const response = await fetch(new URL('metrics', document.baseURI), { cache: 'no-store', signal: this.#abort.signal });
      if (response.status === 401 || response.status === 403) {
        setText(this.#note, t('health.forbidden'));
        clearInterval(this.#timer);
        return;
      }
      if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
      this.#take(parseMetrics(await response.text()), performance.now() / 1000);
      setText(this.#note, '');
    } catch (error) {
      if (!this.#abort.signal.aborted) setText(this.#note, t('health.silent', { reason: error.message }));
    }
  }

  #take(samples, atS) {
    const before = this.#before;
    this.#before = { samples, atS };
    const { readers, behind, channels, tail, deliveries, events, median, slowest } = this.#charts;
    readers.add(sumOf(samples, 'sync_readers'));
    behind.add(sumOf(samples, 'sync_readers_behind'));
    channels.add(sumOf(samples, 'sync_channels'));
    tail.add(sumOf(samples, 'sync_tail_age_seconds') * 1000);
    this.#drawCounters(samples);
    if (before === null) return;
    const rate = (name) => {
      const grown = sumOf(samples, name) - sumOf(before.samples, name);
      return grown < 0 ? null : grown / (atS - before.atS); // less than before: another process, or a new life
    };
    deliveries.add(rate('sync_deliveries_total'));
    events.add(rate('sync_append_group_events_sum'));
    const append = (q) => {
      const seconds = quantile(before.samples, samples, 'sync_append_seconds', q);
      return seconds === null ? null : seconds * 1000;
    };
    median.add(append(0.5));
    slowest.add(append(0.99));
  }

  #drawCounters(samples) {
    if (!this.#counters.children.length) {
      this.#counters.append(...COUNTERS.map((name) => el('div', {}, el('dt', {}, t(`health.${name}`)), el('dd', {}))));
    }
    COUNTERS.forEach((name, place) => setText(this.#counters.children[place].lastElementChild, number(sumOf(samples, name))));
  }
}

function perSecond(value) {
  return t('health.perSecond', { n: decimal(value) });
}

function milliseconds(value) {
  return t('health.ms', { n: value < 10 ? decimal(value) : number(Math.round(value)) });
}
