/** What is queued here and what was refused, by action: shown in a dialog, counted in the banner. */

import { COMMANDS } from '../js/sync.js';
import { openDialog } from './dialog.js';
import { el, outside } from './dom.js';
import { ARROW, named, shortTime, t } from './words.js';

/** `orders.changeStage` in words, with what it is about. */
export function describe({ name, given }) {
  const what = named('action', name);
  const about = given.orderID ?? given.bayID ?? given.queueID ?? given.deviceID ?? given.catalogID ?? given.fuelOrderID ?? given.truckID ?? '';
  return given.newStage ? `${what}: ${about} ${ARROW} ${named('stage', given.newStage)}` : `${what}: ${about}`;
}

/** Whether to offer sending it again. */
export function mayRetry({ name }) {
  return !COMMANDS[name]?.isOfMoment;
}

/** Why it was refused. */
export function reasonOf({ problem }) {
  return problem?.detail ?? problem?.title ?? '';
}

export function openOutbox(client) {
  const list = el('ul', { class: 'outbox' });
  const { actions } = client;
  const draw = () => {
    const items = actions.list.map((action) => {
      const isOver = action.state === 'failed' || action.state === 'parked';
      return el('li', {},
        el('div', {},
          el('strong', {}, outside(describe(action))),
          el('span', { class: `badge badge-${isOver ? 'failed' : 'queued'}` }, named('action.state', action.state)),
          el('p', { class: 'muted' }, isOver ? outside(reasonOf(action)) : t('outbox.since', { time: shortTime(action.createdAt) }))),
        isOver && mayRetry(action) ? el('button', { type: 'button', onclick: () => actions.retry(action.key) }, t('retry')) : null,
        action.state === 'sending' ? null
          : el('button', { type: 'button', onclick: () => actions.discard(action.key) }, t('discard')));
    });
    list.replaceChildren(...(items.length ? items : [el('li', { class: 'muted' }, t('outbox.empty'))]));
  };
  const end = client.onChange(draw);
  draw();
  const note = actions.problem ? el('p', { class: 'problem' }, t('outbox.volatile')) : null;
  openDialog({ title: t('outbox.title'), content: [note, list] }).addEventListener('close', end);
}
