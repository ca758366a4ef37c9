/** Who looks at the page: asked of the server; with access control, after a login. Source: docs/security.md. */

const KEY = 'order-sync-identity';
const CSRF_COOKIE = 'order_sync_csrf';
const PATIENCE_MS = 4000;

const address = (path) => new URL(path, document.baseURI);

/** The server's words for it, or the status where a proxy answers. */
async function problemOf(response) {
  const problem = await response.json().catch(() => null);
  return problem?.detail ?? problem?.title ?? `${response.status} ${response.statusText}`;
}

/**
 * `{tenant, principal, roles, permissions, ...}`; null if nobody is logged in. While the server does not answer: who it
 * was the last time, or else an error.
 */
export async function whoAmI() {
  let response;
  try {
    response = await fetch(address('api/v1/auth/me'), { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE_MS) });
    if (response.status >= 500) throw new Error(await problemOf(response));
  } catch (error) {
    const remembered = recall();
    if (remembered) return remembered;
    throw error;
  }
  if (response.status === 401) return null;
  if (!response.ok) throw new Error(await problemOf(response));
  const me = await response.json();
  remember(me);
  return me;
}

/** Gives '' or why not. */
export async function logIn({ username, password, tenant }) {
  const body = { username, password, ...(tenant ? { tenant } : {}) };
  let response;
  try {
    response = await fetch(address('api/v1/auth/login'), {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
    });
  } catch (error) {
    return error.message;
  }
  return response.ok ? '' : problemOf(response);
}

export async function logOut() {
  const token = document.cookie.split('; ').find((pair) => pair.startsWith(`${CSRF_COOKIE}=`))?.slice(CSRF_COOKIE.length + 1);
  await fetch(address('api/v1/auth/logout'), {
    method: 'POST', headers: token ? { 'X-CSRF-Token': decodeURIComponent(token) } : {},
  });
  remember(null);
}

function remember(me) {
  try {
    if (me === null) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, JSON.stringify(me));
  } catch {
    // storage is blocked: then it is asked each time
  }
}

function recall() {
  try {
    return JSON.parse(localStorage.getItem(KEY));
  } catch {
    return null;
  }
}
