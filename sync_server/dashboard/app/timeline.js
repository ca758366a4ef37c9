/** The history of one order: what the log still holds of it, then what comes, each event once. */

import { el, outside, setText } from './dom.js';
import { ARROW, exactTime, fullTime, money, named, t } from './words.js';

const PAGE_LIMIT = 500;
const PAIR_SEQS = 16; // events of one command are no further apart
// What happened is told by others: a queue's and a bay's changes stand beside those of their orders and jobs.
const IGNORED = new Set(['queue_updated', 'bay_updated', 'removed', 'polling_data_refresh']);

export class Timeline {
  #client;
  #orderID;
  #events = new Map(); // by id
  #view;
  #drawn = -1;
  #note = el('p', { class: 'muted', role: 'status' }, t('timeline.loading'));
  #list = el('ol', { class: 'timeline' });
  element = el('div', {}, this.#note, this.#list);

  constructor(client, orderID) {
    this.#client = client;
    this.#orderID = orderID;
    this.#view = client.subscribe({ orderID }, {
      handler: (event) => this.#add([event]),
      ready: () => void this.#load(), // from here on everything comes: what was before is read once
      resync: () => void this.#load(),
    });
  }

  close() {
    this.#view.end();
  }

  async #load() {
    try {
      for (let after = 'earliest', hasMore = true; hasMore; ) {
        const page = await this.#client.page({ after, orderID: this.#orderID, limit: PAGE_LIMIT });
        this.#add(page.events);
        after = page.cursor;
        hasMore = page.hasMore;
      }
      setText(this.#note, this.#events.size ? '' : t('timeline.empty'));
    } catch (error) {
      setText(this.#note, t('timeline.failed', { reason: error.message }));
    }
  }

  #add(events) {
    for (const event of events) if (event.id && !IGNORED.has(event.eventType)) this.#events.set(event.id, event);
    if (this.#events.size !== this.#drawn) this.#draw();
  }

  #draw() {
    this.#drawn = this.#events.size;
    const newestFirst = withoutEchoes([...this.#events.values()].sort((a, b) => seqOf(b) - seqOf(a)));
    this.#list.replaceChildren(...newestFirst.map(item));
    if (newestFirst.length) setText(this.#note, '');
  }
}

/** One command makes a small event for boards and one with the order: one of them is enough. */
function withoutEchoes(events) {
  const whole = events.filter(({ eventType }) => eventType === 'order_stage_change');
  return events.filter((event) => event.eventType !== 'stage_change' || !whole.some((other) =>
    other.data.newStage === event.data.newStage && Math.abs(seqOf(other) - seqOf(event)) <= PAIR_SEQS));
}

const seqOf = ({ id }) => Number(id.split('.')[1]);

function item(event) {
  const { eventType, timestamp, data, clientID } = event;
  return el('li', { 'data-type': eventType, 'data-stage': data.newStage ?? null },
    el('div', { class: 'timeline-head' },
      el('strong', {}, named('event', eventType)),
      el('time', { datetime: timestamp, title: fullTime(timestamp) }, exactTime(timestamp))),
    el('p', {}, ...detailsOf(event)),
    el('details', {},
      el('summary', { class: 'muted' }, t('timeline.more'), clientID ? ` · ${clientID}` : ''),
      el('pre', { class: 'mono', dir: 'ltr' }, JSON.stringify(event, null, 2))));
}

/** What happened, in a line. */
function detailsOf({ data }) {
  const parts = [];
  if (data.newStage) {
    parts.push(data.previousStage ? `${named('stage', data.previousStage)} ${ARROW} ${named('stage', data.newStage)}` : named('stage', data.newStage));
  }
  if (data.amount !== undefined) {
    parts.push(`${named('payment', data.status)}: ${money(data.amount, data.currency ?? 'USD')}${data.method ? ` · ${data.method}` : ''}`);
  } else if (typeof data.status === 'string') parts.push(data.status);
  if (typeof data.note === 'string') parts.push(data.note);
  if (typeof data.reason === 'string') parts.push(data.reason);
  if (typeof data.progress === 'number') parts.push(t('bays.percent', { n: data.progress }));
  if (typeof data.bayID === 'string') parts.push(data.bayID);
  else if (data.bay?.name) parts.push(data.bay.name);
  if (typeof data.change === 'string') parts.push(named('change', data.change));
  return parts.flatMap((part, place) => [place ? ' · ' : '', outside(part)]);
}
