/** Dialogs and menus: one at a time, over the page, closed with Escape. */

import { el } from './dom.js';
import { icon } from './icons.js';
import { t } from './words.js';

let made = 0;
const pressed = new Set(); // buttons that were pressed while their menu was open

/**
 * A modal dialog; gives the element, which removes itself when it is closed. closesOutside: also by a click beside it,
 * which would be a pity where much was filled in.
 */
export function openDialog({ title, content, className = '', canClose = true, closesOutside = canClose }) {
  const id = `dialog-${(made += 1)}`;
  const dialog = el('dialog', { class: `dialog ${className}`.trim(), 'aria-labelledby': id },
    el('div', { class: 'dialog-head' },
      el('h2', { id }, title),
      canClose
        ? el('button', { type: 'button', class: 'plain', 'aria-label': t('close'), onclick: () => dialog.close() }, icon('close'))
        : null),
    el('div', { class: 'dialog-body' }, content));
  dialog.addEventListener('close', () => dialog.remove());
  dialog.addEventListener('cancel', (event) => canClose || event.preventDefault());
  dialog.addEventListener('click', (event) => closesOutside && event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask for a line of text; resolves to it, or to null. */
export function ask({ title, label, action, value = '' }) {
  return new Promise((resolve) => {
    let answer = null;
    const input = el('input', { type: 'text', required: true, maxlength: 200, value, autocomplete: 'off', name: 'answer' });
    const form = el('form', {
      method: 'dialog',
      onsubmit: (event) => {
        event.preventDefault();
        answer = input.value.trim() || null;
        dialog.close();
      },
    },
      el('label', { class: 'field' }, el('span', {}, label), input),
      el('p', { class: 'dialog-buttons' },
        el('button', { type: 'button', onclick: () => dialog.close() }, t('cancel')),
        el('button', { type: 'submit', class: 'primary' }, action)));
    const dialog = openDialog({ title, content: form });
    dialog.addEventListener('close', () => resolve(answer));
    input.focus();
  });
}

/** Ask whether it is meant; resolves to true or false. */
export function confirmed({ title, text, action }) {
  return new Promise((resolve) => {
    let isMeant = false;
    const dialog = openDialog({
      title,
      content: el('div', {}, el('p', { class: 'dialog-text' }, text),
        el('p', { class: 'dialog-buttons' },
          el('button', { type: 'button', autofocus: true, onclick: () => dialog.close() }, t('cancel')),
          el('button', {
            type: 'button', class: 'danger',
            onclick: () => {
              isMeant = true;
              dialog.close();
            },
          }, action))),
    });
    dialog.addEventListener('close', () => resolve(isMeant));
  });
}

/**
 * A menu beside `button`: `items` are `{text, run, isDanger?}` or `{heading}`. Arrow keys, Escape and Tab as people
 * expect them; the focus goes back to the button.
 */
export function openMenu(button, items, { label }) {
  if (pressed.delete(button)) return; // the click that has just closed it
  const menu = el('div', { class: 'menu', role: 'menu', popover: 'auto', 'aria-label': label },
    ...items.map(({ text, heading, run, isDanger }) => heading !== undefined
      ? el('p', { class: 'menu-heading', role: 'presentation' }, heading)
      : el('button', {
        type: 'button', role: 'menuitem', tabindex: '-1', class: isDanger ? 'danger' : null,
        onclick: () => {
          menu.hidePopover();
          run();
        },
      }, text)));
  document.body.append(menu);
  const buttons = [...menu.querySelectorAll('button')];
  menu.addEventListener('keydown', (event) => {
    const place = buttons.indexOf(document.activeElement);
    const to = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: -1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      buttons.at(to % buttons.length).focus();
    } else if (event.key === 'Tab') menu.hidePopover();
  });
  const onPress = (event) => {
    if (!button.contains(event.target)) return;
    pressed.add(button);
    addEventListener('pointerup', () => setTimeout(() => pressed.delete(button)), { once: true, capture: true }); // after the click
  };
  addEventListener('pointerdown', onPress, { capture: true });
  menu.addEventListener('toggle', ({ newState }) => {
    if (newState !== 'closed') return;
    removeEventListener('pointerdown', onPress, { capture: true });
    button.setAttribute('aria-expanded', 'false');
    if (menu.contains(document.activeElement) || document.activeElement === document.body) button.focus();
    menu.remove();
  });
  menu.showPopover();
  button.setAttribute('aria-expanded', 'true');
  place(menu, button);
  buttons[0]?.focus();
}

/** Below the button, or above where there is no room; never outside of the window. */
function place(menu, button) {
  const at = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = menu;
  const isRtl = document.documentElement.dir === 'rtl';
  const left = isRtl ? at.left : at.right - width;
  const top = at.bottom + height + 8 > innerHeight ? at.top - height - 4 : at.bottom + 4;
  menu.style.setProperty('left', `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`);
  menu.style.setProperty('top', `${Math.max(8, top)}px`);
}
