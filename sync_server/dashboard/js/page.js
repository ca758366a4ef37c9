/** What happens to the page: hidden, looked at again, put away and fetched back, network off and on. */

const PAGE_EVENTS = ['pagehide', 'pageshow', 'online', 'offline'];
const DOCUMENT_EVENTS = ['visibilitychange', 'resume'];

/** Whether nobody sees the page; false where there is none. */
export function isHidden() {
  return globalThis.document?.visibilityState === 'hidden';
}

/**
 * handlers: `hidden()`, `visible()`, `away()` (it may never come back), `back()` (it did), `online()`, `offline()`.
 * Gives the function that stops watching; does nothing where there is no page.
 */
export function watchPage(handlers) {
  const { document, window } = globalThis;
  if (document === undefined || window === undefined) return () => {};
  const onEvent = (event) => {
    if (event.type === 'visibilitychange') (isHidden() ? handlers.hidden : handlers.visible)();
    else if (event.type === 'resume') handlers.visible(); // thawed by the browser
    else if (event.type === 'pagehide') handlers.away();
    else if (event.type === 'pageshow') event.persisted && handlers.back();
    else handlers[event.type]();
  };
  for (const type of PAGE_EVENTS) window.addEventListener(type, onEvent);
  for (const type of DOCUMENT_EVENTS) document.addEventListener(type, onEvent);
  return () => {
    for (const type of PAGE_EVENTS) window.removeEventListener(type, onEvent);
    for (const type of DOCUMENT_EVENTS) document.removeEventListener(type, onEvent);
  };
}
