/** What the viewer has chosen (appearance.js put it on the page), and the dialog to choose. */

import { el } from './dom.js';
import { openDialog } from './dialog.js';
import { t } from './words.js';

const CHOICES = [
  ['theme', ['auto', 'light', 'dark']],
  ['contrast', ['auto', 'normal', 'more']],
  ['language', ['auto', 'en', 'ar']],
];

/** Open the dialog. Another language takes a reload: everything on the page is words. */
export function openSettings() {
  const appearance = globalThis.orderSyncAppearance;
  const before = document.documentElement.lang;
  const chosen = appearance.get();
  const change = (name, value) => {
    appearance.set({ [name]: value });
    if (document.documentElement.lang !== before) location.reload();
  };
  const groups = CHOICES.map(([name, values]) =>
    el('fieldset', { class: 'choice' },
      el('legend', {}, t(`settings.${name}`)),
      ...values.map((value) =>
        el('label', {},
          el('input', {
            type: 'radio', name, value, checked: chosen[name] === value, onchange: () => change(name, value),
          }),
          el('span', {}, t(`settings.${name}.${value}`)),
        )),
    ));
  openDialog({ title: t('settings.title'), content: groups });
}
