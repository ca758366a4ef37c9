/** Whether what is on the screen is true: live, polling or offline since when, how old, and what still waits here. */

import { el, paced, setAttribute, setText } from './dom.js';
import { icon } from './icons.js';
import { openOutbox } from './outbox.js';
import { duration, shortTime, t } from './words.js';

const GRACE_S = 3; // a stream that is reopened within that is nothing to talk about

/** One of live, connecting, polling, offline, signedout. */
export function standing(health) {
  if (health.state === 'failed') return 'signedout';
  if (!health.isOnline) return 'offline';
  if (health.status === 'healthy') return 'live';
  if (health.status === 'polling') return 'polling';
  if (health.lastByteS === null && health.forS < GRACE_S && health.status !== 'error') return 'connecting';
  return health.lastByteS !== null && health.lastByteS < GRACE_S ? 'live' : 'offline';
}

export class Banner {
  #client;
  #dot = el('span', { class: 'dot', 'aria-hidden': 'true' });
  #word = el('span', { class: 'pill-word' });
  #age = el('span', { class: 'pill-age' });
  #text = el('span', {});
  #spoken = el('p', { class: 'hidden-text', role: 'status' });
  #queued = el('span', {});
  #failed = el('span', {});
  /** For the head of the page: always there. */
  pill = el('a', { class: 'pill', href: '#/feed' }, this.#dot, this.#word, this.#age);
  /** Beside it: only while something is queued or was refused. */
  outbox = el('button', { type: 'button', class: 'outbox-button', hidden: true, onclick: () => openOutbox(this.#client) },
    icon('upload'), this.#queued, this.#failed);
  /** Below the head: only while something is wrong. */
  element = el('div', { class: 'banner', hidden: true },
    icon('warning'), this.#text,
    el('button', { type: 'button', onclick: () => this.#client.retryNow() }, t('banner.tryNow')));

  constructor(client) {
    this.#client = client;
    client.onChange(paced(() => this.draw()));
    setInterval(() => this.draw(), 1000);
    this.draw();
  }

  get spoken() {
    return this.#spoken;
  }

  draw() {
    const { health } = this.#client;
    const kind = standing(health);
    const since = health.staleForS === null ? health.since : new Date(Date.now() - health.staleForS * 1000).toISOString();
    setAttribute(this.pill, 'data-kind', kind);
    setText(this.#word, t(`banner.${kind}`));
    setText(this.#age, health.staleForS === null ? '' : duration(health.staleForS));
    setAttribute(this.pill, 'title', health.staleForS === null ? null : t('banner.age', { age: duration(health.staleForS) }));
    this.#drawText(kind, health, since);
    this.#drawOutbox();
  }

  #drawText(kind, health, since) {
    const isQuiet = kind === 'live' || kind === 'connecting';
    setAttribute(this.element, 'hidden', isQuiet);
    setAttribute(this.element, 'data-kind', kind);
    const { pending } = this.#client.actions;
    const spoken = [
      t(`banner.${kind}.text`, { time: shortTime(since) }),
      pending.length ? t('banner.queued', { n: pending.length }) : '',
    ];
    const more = [
      !isQuiet && health.staleForS !== null ? t('banner.age', { age: duration(health.staleForS) }) : '',
      kind === 'offline' && health.nextRetryS >= 1 ? t('banner.next', { time: duration(health.nextRetryS) }) : '',
    ];
    setText(this.#spoken, spoken.filter(Boolean).join(' '));
    if (!isQuiet) setText(this.#text, [...spoken, ...more].filter(Boolean).join(' '));
  }

  #drawOutbox() {
    const { pending, failed } = this.#client.actions;
    setAttribute(this.outbox, 'hidden', !pending.length && !failed.length);
    setText(this.#queued, pending.length ? t('banner.queued.short', { n: pending.length }) : '');
    setText(this.#failed, failed.length ? t('banner.failed.short', { n: failed.length }) : '');
    setAttribute(this.outbox, 'data-kind', failed.length ? 'failed' : 'queued');
  }
}
