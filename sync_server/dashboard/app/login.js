/** The login, as a page of its own and, when a session has ended, over what was there. */

import { openDialog } from './dialog.js';
import { el, setText } from './dom.js';
import { logIn } from './identity.js';
import { t } from './words.js';

/** Resolves when somebody has logged in, or `signal` says that it is no longer asked for. */
export function askToLogIn({ isAgain = false, signal = null } = {}) {
  return new Promise((resolve) => {
    const problem = el('p', { class: 'problem', role: 'alert' });
    const field = (name, type, autocomplete, required = true) =>
      el('label', { class: 'field' },
        el('span', {}, t(`login.${name}`)),
        el('input', { name, type, autocomplete, required, maxlength: 128, autocapitalize: 'none', spellcheck: 'false' }));
    const button = el('button', { type: 'submit', class: 'primary wide' }, t('login.do'));
    const form = el('form', {
      onsubmit: async (event) => {
        event.preventDefault();
        button.disabled = true;
        setText(problem, '');
        const { username, password, tenant } = Object.fromEntries(new FormData(form));
        const reason = await logIn({ username, password, tenant: tenant.trim() });
        button.disabled = false;
        if (reason) {
          setText(problem, reason);
          form.elements.password.select();
          return;
        }
        dialog.close();
      },
    },
      isAgain ? el('p', {}, t('login.again')) : null,
      field('username', 'text', 'username'),
      field('password', 'password', 'current-password'),
      el('details', {}, el('summary', {}, t('login.more')), field('tenant', 'text', 'organization', false)),
      problem, button);
    const dialog = openDialog({ title: t('login.title'), content: form, className: 'login', canClose: false });
    dialog.addEventListener('close', () => resolve());
    signal?.addEventListener('abort', () => dialog.close());
    form.elements.username.focus();
  });
}
