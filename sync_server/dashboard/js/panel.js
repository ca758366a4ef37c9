/** The debug panel: what a client knows of itself, for people. React; no styles of its own. */

import { createElement as h, useEffect, useState } from 'react';

const LOOK_EVERY_MS = 500;
const SHOWN_TRANSITIONS = 10;
const SHOWN_EVENTS = 20;

/** What is shown, at this moment. */
function look(client) {
  const { health, metrics, transitions, events, actions } = client;
  return { health, metrics, transitions, events, failed: actions.failed.length };
}

export function DebugPanel({ client, className }) {
  const [seen, setSeen] = useState(null); // nothing in the first render, which has to be what a server would send
  const [isPaused, setPaused] = useState(false);
  useEffect(() => {
    if (isPaused) return undefined;
    setSeen(look(client));
    let isDue = false;
    const end = client.onChange(() => {
      isDue = true;
    });
    const timer = setInterval(() => {
      if (isDue || client.isConnected) setSeen(look(client));
      isDue = false;
    }, LOOK_EVERY_MS);
    return () => {
      end();
      clearInterval(timer);
    };
  }, [client, isPaused]);
  const state = seen?.health.state ?? 'disconnected';
  return h(
    'section',
    { className: `sync-debug-panel ${className}`.trim(), 'aria-label': 'Sync debug panel', 'data-state': state },
    h('h2', null, 'Sync'),
    h(
      'p',
      { className: 'sync-debug-panel-buttons' },
      button(isPaused ? 'Resume' : 'Pause', () => setPaused(!isPaused)),
      button('Try now', () => client.retryNow()),
      button('Export', () => download(client)),
    ),
    h(Facts, { seen }),
    h(Transitions, { transitions: seen?.transitions ?? [] }),
    h(Events, { events: seen?.events ?? [] }),
  );
}

function button(text, onClick) {
  return h('button', { type: 'button', onClick }, text);
}

function Facts({ seen }) {
  const { health, metrics, failed } = seen ?? {};
  const rows = [
    ['State', health?.state ?? 'disconnected'],
    ['Reason', health?.reason],
    ['Since', health && time(health.since)],
    ['Transport', health?.transport],
    ['Role', health?.role],
    ['Cursor', health?.cursor],
    ['Head', health?.head],
    ['Data is', health && (health.staleForS === null ? null : `${health.staleForS.toFixed(1)} s old`)],
    ['Next try', health && (health.nextRetryS === null ? null : `in ${health.nextRetryS.toFixed(1)} s`)],
    ['Breaker', health?.breaker],
    ['Queued', health && String(health.queueDepth)],
    ['Failed actions', seen && String(failed)],
    ['Storage', health && (health.storage || (metrics ? `${(metrics.storageBytes / 1024).toFixed(1)} KiB` : null))],
    ['Events', metrics && `${metrics.totalEvents} in all, ${metrics.eventsPerS.toFixed(1)}/s`],
    ['Fallbacks', metrics && String(metrics.fallbacks)],
    ['Last error', health?.lastError],
  ];
  return h(
    'dl',
    { className: 'sync-debug-panel-facts' },
    rows.flatMap(([name, value]) => [h('dt', { key: `${name} name` }, name), h('dd', { key: name }, value || '—')]),
  );
}

function Transitions({ transitions }) {
  return h(
    'ol',
    { className: 'sync-debug-panel-transitions', 'aria-label': 'Transitions' },
    transitions.slice(-SHOWN_TRANSITIONS).map(({ before, after, reason, at }, place) =>
      h('li', { key: `${at} ${place}` }, `${time(at)} ${before} → ${after}${reason ? `: ${reason}` : ''}`)),
  );
}

function Events({ events }) {
  return h(
    'ol',
    { className: 'sync-debug-panel-events', 'aria-label': 'Events' },
    events.slice(-SHOWN_EVENTS).map((event, place) =>
      h(
        'li',
        { key: event.id ?? `${event.timestamp} ${place}` },
        h('details', null,
          h('summary', null, [time(event.timestamp), event.eventType, event.orderID, event.metadata.source].join(' ')),
          h('pre', null, JSON.stringify(event, null, 2))),
      )),
  );
}

/** In the viewer's zone. */
function time(iso) {
  const moment = new Date(iso);
  return Number.isNaN(moment.getTime()) ? '' : moment.toLocaleTimeString();
}

function download(client) {
  const text = JSON.stringify(client.export(), null, 2);
  const url = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
  const link = Object.assign(document.createElement('a'), { href: url, download: 'order-sync.json' });
  link.click();
  URL.revokeObjectURL(url);
}
