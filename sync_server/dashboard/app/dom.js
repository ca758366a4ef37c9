/** Making and changing elements. Everything that comes from outside becomes text, never markup. */

const PACE_MS = 100;
const SVG = 'http://www.w3.org/2000/svg';

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') node.addEventListener(name.slice(2), value); // onclick: ...
    else node.setAttribute(name, value === true ? '' : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** `el('p', {class: 'x', hidden: true, onclick: f}, 'text', child)`. A null, undefined or false is left out. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Text that came from outside: it has its own direction, and does not disturb its neighbours. */
export function outside(text, attributes = {}) {
  return el('bdi', attributes, text);
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set or (null, undefined, false) remove. */
export function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else {
    const text = value === true ? '' : String(value);
    if (node.getAttribute(name) !== text) node.setAttribute(name, text);
  }
}

/** A CSS variable, such as `--share`. */
export function setVariable(node, name, value) {
  if (node.style.getPropertyValue(name) !== String(value)) node.style.setProperty(name, value);
}

/** Make `elements` the children of `parent`, in that order, moving as little as possible. */
export function arrange(parent, elements) {
  const wanted = new Set(elements);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let at = parent.firstElementChild;
  for (const element of elements) {
    if (at !== null && at !== element && at.nextElementSibling === element) at = element; // the one before goes elsewhere
    if (element === at) at = at.nextElementSibling;
    else parent.insertBefore(element, at);
  }
}

/**
 * A function that has `work` done soon: in the next frame, and at most ten times a second, however often it is called.
 * Not while nobody looks at the page.
 */
export function paced(work) {
  let isDue = false;
  let lastMs = -Infinity;
  const run = () => {
    isDue = false;
    lastMs = performance.now();
    work();
  };
  return () => {
    if (isDue) return;
    isDue = true;
    const waitMs = lastMs + PACE_MS - performance.now();
    if (waitMs > 0) setTimeout(() => requestAnimationFrame(run), waitMs);
    else requestAnimationFrame(run);
  };
}

/** Run `work`, which may move elements about; what had the focus has it afterwards. */
export function keepFocus(work) {
  const focused = document.activeElement;
  work();
  if (focused && focused !== document.body && focused !== document.activeElement && focused.isConnected) {
    focused.focus({ preventScroll: true });
  }
}

/**
 * Parts by key, made once and updated after that: `make(key)` gives `{element, update(item)}`. `sync(items, keyOf)`
 * gives the elements in order and forgets the parts of other keys.
 */
export class Parts {
  #make;
  #parts = new Map();

  constructor(make) {
    this.#make = make;
  }

  get(key) {
    return this.#parts.get(key);
  }

  [Symbol.iterator]() {
    return this.#parts.values();
  }

  sync(items, keyOf) {
    const kept = new Map();
    for (const item of items) {
      const key = keyOf(item);
      const part = this.#parts.get(key) ?? this.#make(key);
      part.update(item);
      kept.set(key, part);
    }
    this.#parts = kept;
    return [...kept.values()].map(({ element }) => element);
  }
}
