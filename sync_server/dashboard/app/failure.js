/** What is shown where a command was refused: "Sync failed", why, and what can be done. */

import { el, outside, setAttribute } from './dom.js';
import { icon } from './icons.js';
import { mayRetry, reasonOf } from './outbox.js';
import { t } from './words.js';

/** failed: the action, or null: then nothing is shown. */
export function drawFailure(element, failed, client) {
  setAttribute(element, 'hidden', !failed);
  if (element.dataset.key === (failed?.key ?? '')) return;
  element.dataset.key = failed?.key ?? '';
  element.replaceChildren();
  if (!failed) return;
  element.append(
    el('span', { class: 'badge badge-failed' }, icon('warning'), t('badge.failed')),
    el('p', {}, outside(reasonOf(failed))),
    mayRetry(failed) ? el('button', { type: 'button', onclick: () => client.actions.retry(failed.key) }, t('retry')) : '',
    el('button', { type: 'button', onclick: () => client.actions.discard(failed.key) }, t('dismiss')));
}
