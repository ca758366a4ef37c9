/** The composition root: who looks, one client for all pages, the pages. */

import { SyncClient } from '../js/sync.js';
import { openBays } from './bays.js';
import { openBoard } from './board.js';
import { openDevices } from './devices.js';
import { el } from './dom.js';
import { openFeed } from './feed.js';
import { openFueling } from './fueling.js';
import { openHealth } from './health.js';
import { whoAmI } from './identity.js';
import { askToLogIn } from './login.js';
import { Notices } from './notices.js';
import { openOrder } from './order.js';
import { describe, mayRetry, reasonOf } from './outbox.js';
import { openQueue } from './queue.js';
import { Shell } from './shell.js';
import { Shop } from './shop.js';
import { openVehicles } from './vehicles.js';
import { t } from './words.js';

const PAGES = {
  board: openBoard, queue: openQueue, bays: openBays, devices: openDevices, orders: openOrder, fueling: openFueling, vehicles: openVehicles, feed: openFeed,
  health: openHealth,
};
const ASK_AGAIN_MS = 3000;
const LOOK_EVERY_MS = 5000;

/** Who looks at the page; asks until somebody has logged in and the server has answered. */
async function identify() {
  for (;;) {
    try {
      const me = await whoAmI();
      if (me !== null) return me;
      await askToLogIn();
    } catch (error) {
      document.body.replaceChildren(el('p', { class: 'empty', role: 'status' }, t('start.unreachable', { reason: error.message })));
      await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
    }
  }
}

/**
 * When the session has ended: log in over the page, which stays as it is for the same person. Another tab may be the
 * one where that is done.
 */
function keepLoggedIn(client, me) {
  let asking = null; // AbortController
  let lookedMs = -Infinity;
  const look = async () => {
    const isShut = client.state === 'failed' || client.actions.paused === 'unauthorized';
    if (!isShut) asking?.abort();
    if (!isShut || asking !== null || performance.now() - lookedMs < LOOK_EVERY_MS) return;
    lookedMs = performance.now();
    asking = new AbortController();
    if ((await whoAmI().catch(() => me)) === null) await askToLogIn({ isAgain: true, signal: asking.signal });
    const now = await whoAmI().catch(() => me);
    asking = null;
    if (now?.principal !== me.principal || now.tenant !== me.tenant) location.reload();
    else client.setToken();
  };
  client.onChange(() => void look());
  setInterval(() => void look(), LOOK_EVERY_MS); // where nothing changes any more
}

/** A refused command is told to who looks, with the reason; the card shows it too. */
function tellRefusals(client, notices) {
  client.on('sync_failed', ({ data: { action, problem } }) => {
    notices.show(reasonOf({ problem }), {
      kind: 'problem', title: describe(action),
      actions: mayRetry(action) ? [{ text: t('retry'), run: () => client.actions.retry(action.key) }] : [],
    });
  });
}

const me = await identify();
const client = new SyncClient({ baseUrl: './', tenantId: me.tenant, subject: me.principal, unattended: true });
const notices = new Notices();
tellRefusals(client, notices);
const shop = new Shop(client, me);
keepLoggedIn(client, me);
const app = Object.freeze({ client, shop, notices, me });
new Shell(app, { pages: PAGES });
Object.defineProperty(globalThis, 'orderSync', { value: client }); // for the browser's console
