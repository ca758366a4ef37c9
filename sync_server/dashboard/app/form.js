/** Forms in dialogs: fields under their labels, what a field can not be, and what is done with what was filled in. */

import { openDialog } from './dialog.js';
import { el, setAttribute } from './dom.js';
import { plainNumber, t } from './words.js';

const AMOUNT = /^\d{1,10}(\.\d{1,2})?$/;

/** The attributes of a field for an amount: up to two places, in the digits that people type (words.js). */
export const DECIMAL = Object.freeze({ inputmode: 'decimal', dir: 'ltr', maxlength: 13 });

/** A line of text: `{input, element}`. */
export function field(name, label, value, attributes = {}) {
  const input = el('input', { type: 'text', name, value: value ?? '', autocomplete: 'off', maxlength: 200, ...attributes });
  return { input, element: el('label', { class: 'field' }, el('span', {}, label), input) };
}

/** One of `options`, each `[value, text]`. */
export function choice(name, label, options, chosen) {
  const input = el('select', { name },
    ...options.map(([value, text]) => el('option', { value, selected: value === chosen }, text)));
  return { input, element: el('label', { class: 'field' }, el('span', {}, label), input) };
}

/** Whether an amount was typed into `input`, which may be empty if it need not be filled in; if not, `why` is said there. */
export function isAmount(input, why) {
  const text = plainNumber(input.value);
  const isOne = AMOUNT.test(text) || (text === '' && !input.required);
  if (!isOne) refuse(input, why);
  return isOne;
}

/** Say at `input` why it cannot stay so, until somebody types there. */
export function refuse(input, why) {
  input.setCustomValidity(why);
  setAttribute(input, 'aria-invalid', true);
  input.addEventListener('input', () => {
    input.setCustomValidity('');
    setAttribute(input, 'aria-invalid', null);
  }, { once: true });
  input.reportValidity(); // shows it, and puts the focus there
}

/** `submitted()`: false where it stays open; `closed()`, whatever closes it. Gives the form and its button. */
export function openForm({ title, content, action, submitted, closed = () => {}, className = '' }) {
  const button = el('button', { type: 'submit', class: 'primary' }, action);
  const form = el('form', {
    method: 'dialog',
    onsubmit: (event) => {
      event.preventDefault();
      if (submitted() !== false) dialog.close();
    },
  }, content, el('p', { class: 'dialog-buttons' },
    el('button', { type: 'button', onclick: () => dialog.close() }, t('cancel')), button));
  const dialog = openDialog({ title, content: form, className, closesOutside: false });
  dialog.addEventListener('close', () => closed());
  return { form, button };
}
