/** React as a module, from the builds beside this file; `ReactDOM` and `ReactDOMServer` are for the tests. */

async function load(name) {
  const script = document.createElement('script');
  script.src = new URL(name, import.meta.url);
  await new Promise((resolve, reject) => {
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${name} cannot be loaded`));
    document.head.append(script);
  });
}

await load('react.production.min.js');
await load('react-dom.production.min.js');
await load('react-dom-server-legacy.browser.production.min.js');

const { React } = globalThis;
export const { ReactDOM, ReactDOMServer } = globalThis;
export default React;
export const {
  createContext, createElement, StrictMode, useCallback, useContext, useEffect, useMemo, useRef, useState,
  useSyncExternalStore,
} = React;
