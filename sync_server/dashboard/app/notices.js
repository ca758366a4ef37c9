/** Short messages at the edge of the page: what went wrong, and what can be done about it. */

import { el, outside } from './dom.js';
import { icon } from './icons.js';
import { t } from './words.js';

const SHOWN_MS = 12_000;
const MAX_SHOWN = 4;

export class Notices {
  /** role=alert only on the single notice: a region that fills up would be read again and again. */
  element = el('div', { class: 'notices' });

  /** kind: 'info' or 'problem'. actions: `{text, run}`. It goes by itself; what has to be dealt with is kept elsewhere. */
  show(text, { kind = 'info', title = '', actions = [] } = {}) {
    const close = () => notice.remove();
    const notice = el('div', { class: `notice notice-${kind}`, role: kind === 'problem' ? 'alert' : 'status' },
      icon(kind === 'problem' ? 'warning' : 'check'),
      el('div', { class: 'notice-text' },
        title ? el('strong', {}, outside(title)) : null,
        el('span', {}, outside(text))),
      ...actions.map((action) => el('button', {
        type: 'button', onclick: () => {
          close();
          action.run();
        },
      }, action.text)),
      el('button', { type: 'button', class: 'plain', 'aria-label': t('close'), onclick: close }, icon('close')));
    this.element.append(notice);
    while (this.element.children.length > MAX_SHOWN) this.element.firstElementChild.remove();
    setTimeout(close, SHOWN_MS);
  }
}
