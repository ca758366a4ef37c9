/** Events as they come, newest first: filtered, paused, or replayed from a cursor. */

import { arrange, el, outside, paced, setAttribute, setText } from './dom.js';
import { exactTime, t } from './words.js';

const KEPT = 500;
const SHOWN = 150;
const REPLAY_LIMIT = 500;
const ABOUT = ['orderID', 'queueID', 'bayID', 'jobID'];

export class EventList {
  #client;
  #notices;
  #events = []; // newest last: {event, receivedMs, source}
  #rows = new WeakMap();
  #view;
  #drawSoon = paced(() => this.#isPaused || this.#draw());
  #isPaused = false;
  #replayed = null; // the events of a replay, while one is shown
  #missed = 0;
  #text = el('input', { type: 'search', placeholder: t('feed.filter'), 'aria-label': t('feed.filter'), oninput: () => this.#draw() });
  #from = el('input', { type: 'text', class: 'mono', placeholder: 'earliest', 'aria-label': t('feed.from'), size: '16', spellcheck: 'false', dir: 'ltr' });
  #live = el('button', { type: 'button', hidden: true, onclick: () => this.#showLive() }, t('feed.live'));
  #note = el('p', { class: 'muted', role: 'status' });
  #list = el('ol', { class: 'events', tabindex: '0', 'aria-label': t('feed.events') });
  element;

  constructor(client, { notices }) {
    this.#client = client;
    this.#notices = notices;
    this.#events = client.events.map((event) => ({ event, source: event.metadata.source, receivedMs: Date.parse(event.metadata.receivedAt) }));
    this.#view = client.subscribe({}, { handler: (event, source) => this.#add(event, source) });
    this.element = el('div', {},
      el('div', { class: 'feed-tools' },
        this.#text,
        el('form', { class: 'replay', onsubmit: (event) => void this.#replay(event) },
          this.#from, el('button', { type: 'submit' }, t('feed.replay')), this.#live)),
      this.#note, this.#list);
    this.#draw();
  }

  get isPaused() {
    return this.#isPaused;
  }

  set isPaused(isPaused) {
    this.#isPaused = isPaused;
    this.#missed = 0;
    this.#draw();
  }

  /** The events on the screen, newest first. */
  get shown() {
    return this.#filtered().map(({ event }) => event);
  }

  close() {
    this.#view.end();
  }

  #add(event, source) {
    this.#events.push({ event, source, receivedMs: this.#client.serverNowMs() });
    if (this.#events.length > KEPT) this.#events.splice(0, this.#events.length - KEPT);
    if (this.#isPaused || this.#replayed) {
      this.#missed += 1;
      this.#drawNote();
    } else this.#drawSoon();
  }

  #filtered() {
    const words = this.#text.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const found = [];
    for (const entry of (this.#replayed ?? this.#events).toReversed()) {
      if (words.every((word) => textOf(entry.event).includes(word))) found.push(entry);
      if (found.length === (this.#replayed ? REPLAY_LIMIT : SHOWN)) break;
    }
    return found;
  }

  #draw() {
    const found = this.#filtered();
    arrange(this.#list, found.map((entry) => this.#rowOf(entry)));
    this.#drawNote(found.length);
    setAttribute(this.#live, 'hidden', !this.#replayed);
  }

  #drawNote(shown = this.#list.children.length) {
    let text = shown ? '' : t('feed.nothing');
    if (this.#replayed) text = t('feed.replayed', { n: shown });
    else if (this.#isPaused) text = t('feed.paused', { n: this.#missed });
    setText(this.#note, text);
  }

  #rowOf(entry) {
    if (!this.#rows.has(entry)) this.#rows.set(entry, row(entry));
    return this.#rows.get(entry);
  }

  /** Read a page of the log from a cursor, beside the stream, and show that. */
  async #replay(event) {
    event.preventDefault();
    const after = this.#from.value.trim() || 'earliest';
    try {
      const page = await this.#client.page({ after, limit: REPLAY_LIMIT });
      this.#replayed = page.events.map((one) => ({ event: one, source: 'replay', receivedMs: null }));
      this.#from.value = page.hasMore ? page.cursor : after;
      this.#missed = 0;
      this.#draw();
    } catch (error) {
      this.#notices.show(error.problem?.detail ?? error.message, { kind: 'problem', title: t('feed.replay') });
    }
  }

  #showLive() {
    this.#replayed = null;
    this.#missed = 0;
    this.#draw();
  }
}

function textOf(event) {
  return [event.eventType, event.id, event.clientID, ...ABOUT.map((key) => event[key])].filter(Boolean).join(' ').toLowerCase();
}

function row({ event, source, receivedMs }) {
  const about = ABOUT.map((key) => event[key]).filter(Boolean).join(' · ');
  const latencyMs = receivedMs === null ? null : receivedMs - Date.parse(event.timestamp);
  const latency = latencyMs !== null && latencyMs >= 0 && latencyMs < 60_000 ? t('feed.ms', { n: Math.round(latencyMs) }) : '';
  const details = el('details', {},
    el('summary', {},
      el('time', { datetime: event.timestamp }, exactTime(event.timestamp)),
      el('strong', {}, outside(event.eventType)),
      outside(about, { class: 'event-about' }),
      el('span', { class: 'muted' }, latency),
      el('span', { class: 'chip' }, source),
      el('span', { class: 'muted mono', dir: 'ltr' }, event.id ?? '')));
  // Only what is looked at is written out.
  details.addEventListener('toggle', () => {
    if (details.open && details.children.length === 1) details.append(el('pre', { class: 'mono', dir: 'ltr' }, JSON.stringify(event, null, 2)));
  });
  return el('li', { 'data-id': event.id ?? null }, details);
}
