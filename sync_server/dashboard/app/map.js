/**
 * A map without tiles: a grid of longitude and latitude, and what moves on it. Nothing is asked of any other host.
 *
 * Drawn on a canvas, at most once a frame and only when something has changed, so a thousand markers cost one pass.
 * Web Mercator: a place is a point of the unit square. Panned and zoomed by mouse, wheel, fingers, keys and buttons.
 */

import { el, setText } from './dom.js';
import { icon } from './icons.js';
import { paintLabel, paintMarker, paintNames } from './marker.js';
import { number, t } from './words.js';

const MAX_LAT = 85;
const MIN_SCALE = 256; // pixels for the whole world
const MAX_SCALE = 256 * 2 ** 20;
const FIRST_SCALE = 256 * 2 ** 14; // around a single vehicle
const MARGIN_PX = 48;
const HIT_PX = 18;
const MAX_NAMES = 60;
const PAN_PX = 80;
const ZOOM = 1.6;
const GRID_PX = 110;
const STEPS = [90, 45, 30, 15, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];
const EARTH_M = 40_075_016;

const project = (lon, lat) => {
  const sine = Math.sin((Math.max(-MAX_LAT, Math.min(lat, MAX_LAT)) * Math.PI) / 180);
  return [lon / 360 + 0.5, 0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI)];
};
const latitude = (y) => (Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) * 180) / Math.PI;

export class MovingMap {
  #canvas = el('canvas', { 'aria-hidden': 'true' });
  #surface;
  #scaleText = el('span', {});
  #scaleBar = el('span', { class: 'map-scale', 'aria-hidden': 'true' }, this.#scaleText);
  #onChoose;
  #markers = new Map(); // id to {x, y, heading, label, kind}
  #chosen = null;
  #center = [0.5, 0.42];
  #scale = MIN_SCALE * 2;
  #isFollowing = true; // until somebody moves the map
  #pointers = new Map();
  #pressed = null;
  #isDue = false;
  #observer;
  element;

  /** onChoose(id): a marker was pressed. */
  constructor({ label, onChoose }) {
    this.#onChoose = onChoose;
    const button = (name, text, run) => el('button', { type: 'button', class: 'plain', 'aria-label': text, title: text, onclick: run }, icon(name));
    this.#surface = el('div', {
      class: 'map-surface', tabindex: '0', role: 'application', 'aria-label': label, 'aria-describedby': 'map-keys',
      onkeydown: (event) => this.#onKey(event), onpointerdown: (event) => this.#onDown(event),
      onpointermove: (event) => this.#onMove(event), onpointerup: (event) => this.#onUp(event),
      onpointercancel: (event) => this.#onUp(event), ondblclick: (event) => this.#zoom(ZOOM, this.#at(event)),
    }, this.#canvas);
    this.#surface.addEventListener('wheel', (event) => this.#onWheel(event), { passive: false });
    this.element = el('div', { class: 'map' }, this.#surface,
      el('div', { class: 'map-tools' },
        button('plus', t('map.in'), () => this.#zoom(ZOOM)),
        button('minus', t('map.out'), () => this.#zoom(1 / ZOOM)),
        button('fit', t('map.fit'), () => this.fit())),
      this.#scaleBar, el('p', { class: 'hidden-text', id: 'map-keys' }, t('map.keys')));
    this.#observer = new ResizeObserver(() => this.#draw());
    this.#observer.observe(this.element);
  }

  close() {
    this.#observer.disconnect();
  }

  /** markers: `{id, lon, lat, heading?, label, kind}`; all there are. */
  show(markers, chosen) {
    this.#chosen = chosen;
    this.#markers = new Map(markers.map(({ id, lon, lat, ...marker }) => {
      const [x, y] = project(lon, lat);
      return [id, { ...marker, x, y }];
    }));
    if (this.#isFollowing) this.#fit();
    this.#draw();
  }

  /** All markers in sight, and kept there. */
  fit() {
    this.#isFollowing = true;
    this.#fit();
    this.#draw();
  }

  /** That marker in the middle. */
  center(id) {
    const marker = this.#markers.get(id);
    if (!marker) return;
    this.#isFollowing = false;
    this.#center = [marker.x, marker.y];
    this.#scale = Math.max(this.#scale, FIRST_SCALE);
    this.#draw();
  }

  #fit() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (!this.#markers.size || !width || !height) return;
    let [left, top, right, bottom] = [1, 1, 0, 0];
    for (const { x, y } of this.#markers.values()) {
      [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
    }
    this.#center = [(left + right) / 2, (top + bottom) / 2];
    const across = Math.max((width - 2 * MARGIN_PX) / Math.max(right - left, 1e-12), 1);
    const down = Math.max((height - 2 * MARGIN_PX) / Math.max(bottom - top, 1e-12), 1);
    this.#scale = clamp(Math.min(across, down), MIN_SCALE, FIRST_SCALE);
  }

  // -- moving it

  #at(event) {
    const box = this.#canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #onScreen(x, y) {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    return [(x - this.#center[0]) * this.#scale + width / 2, (y - this.#center[1]) * this.#scale + height / 2];
  }

  #pan(dx, dy) {
    this.#isFollowing = false;
    this.#center = [clamp(this.#center[0] - dx / this.#scale, 0, 1), clamp(this.#center[1] - dy / this.#scale, 0, 1)];
    this.#draw();
  }

  /** Around a point of the screen, which stays where it is. */
  #zoom(factor, at = null) {
    this.#isFollowing = false;
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const [px, py] = at ?? [width / 2, height / 2];
    const scale = clamp(this.#scale * factor, MIN_SCALE, MAX_SCALE);
    const [dx, dy] = [px - width / 2, py - height / 2];
    this.#center = [this.#center[0] + dx / this.#scale - dx / scale, this.#center[1] + dy / this.#scale - dy / scale];
    this.#scale = scale;
    this.#pan(0, 0);
  }

  #onWheel(event) {
    event.preventDefault();
    this.#zoom(2 ** (-event.deltaY / (event.deltaMode ? 12 : 400)), this.#at(event));
  }

  #onDown(event) {
    event.currentTarget.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, this.#at(event));
    this.#pressed = this.#pointers.size === 1 ? this.#at(event) : null;
  }

  #onMove(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const now = this.#at(event);
    if (this.#pressed && distance(now, this.#pressed) > 4) this.#pressed = null;
    const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.#pointers.set(event.pointerId, now);
    if (other) this.#zoom(distance(now, other) / Math.max(distance(before, other), 1), middle(now, other));
    const share = other ? 0.5 : 1;
    if (!this.#pressed) this.#pan((now[0] - before[0]) * share, (now[1] - before[1]) * share);
  }

  #onUp(event) {
    this.#pointers.delete(event.pointerId);
    if (this.#pressed && event.type === 'pointerup') {
      const hit = this.#nearest(this.#pressed);
      if (hit !== null) this.#onChoose(hit);
    }
    this.#pressed = null;
  }

  #nearest(at) {
    let [found, nearest] = [null, HIT_PX];
    for (const [id, { x, y }] of this.#markers) {
      const away = distance(this.#onScreen(x, y), at);
      if (away < nearest) [found, nearest] = [id, away];
    }
    return found;
  }

  #onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const step = { ArrowLeft: [PAN_PX, 0], ArrowRight: [-PAN_PX, 0], ArrowUp: [0, PAN_PX], ArrowDown: [0, -PAN_PX] }[event.key];
    if (step) this.#pan(...step);
    else if (event.key === '+' || event.key === '=') this.#zoom(ZOOM);
    else if (event.key === '-') this.#zoom(1 / ZOOM);
    else if (event.key === '0' || event.key === 'Home') this.fit();
    else return;
    event.preventDefault();
  }

  // -- drawing

  #draw() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      if (this.#canvas.isConnected) this.#paint();
    });
  }

  #paint() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const ratio = devicePixelRatio || 1;
    if (this.#canvas.width !== Math.round(width * ratio) || this.#canvas.height !== Math.round(height * ratio)) {
      const isFirst = this.#canvas.width === 300;
      [this.#canvas.width, this.#canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
      if (isFirst && this.#isFollowing) this.#fit();
    }
    const context = this.#canvas.getContext('2d');
    const style = getComputedStyle(this.#canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = `12px ${colour('--font')}`;
    context.direction = 'ltr'; // degrees are read so everywhere
    this.#paintGrid(context, { width, height, line: colour('--line'), ink: colour('--muted') });
    const colours = { busy: colour('--stage-in_progress'), free: colour('--stage-completed'), stale: colour('--stage-empty') };
    const edge = colour('--surface');
    for (const [id, marker] of this.#markers) {
      if (id !== this.#chosen) paintMarker(context, this.#onScreen(marker.x, marker.y), marker, colours, edge);
    }
    const chosen = this.#markers.get(this.#chosen);
    const named = paintNames(context, this.#named({ width, height }), { ink: colour('--ink'), back: colour('--sunken') });
    if (chosen) {
      const at = this.#onScreen(chosen.x, chosen.y);
      paintMarker(context, at, chosen, colours, edge, 1.5);
      paintLabel(context, at, chosen.label, { ink: colour('--ink'), back: colour('--surface'), line: colour('--line') });
    }
    this.#drawScale();
    // For who looks from outside.
    this.#surface.dataset.named = named;
    this.#surface.dataset.scale = Math.round(this.#scale);
    this.#surface.dataset.center = `${((this.#center[0] - 0.5) * 360).toFixed(4)},${latitude(this.#center[1]).toFixed(4)}`;
  }

  /** Those in sight that show their name: `{at, label}`. None of them where there are too many to be read. */
  #named({ width, height }) {
    const seen = [];
    for (const [id, { x, y, label }] of this.#markers) {
      const at = this.#onScreen(x, y);
      if (id === this.#chosen || at[0] < 0 || at[1] < 0 || at[0] > width || at[1] > height) continue;
      if (seen.push({ at, label }) > MAX_NAMES) return [];
    }
    return seen;
  }

  #paintGrid(context, { width, height, line, ink }) {
    const step = STEPS.findLast((degrees) => (degrees / 360) * this.#scale >= GRID_PX) ?? STEPS[0];
    const places = Math.max(0, Math.ceil(-Math.log10(step)));
    const [left, right] = [-width / 2, width / 2].map((px) => (this.#center[0] + px / this.#scale - 0.5) * 360);
    const [top, bottom] = [-height / 2, height / 2].map((px) => latitude(this.#center[1] + px / this.#scale));
    context.strokeStyle = line;
    context.fillStyle = ink;
    context.lineWidth = 1;
    context.beginPath();
    for (let lon = Math.ceil(Math.max(left, -180) / step) * step; lon <= Math.min(right, 180); lon += step) {
      const x = Math.round(this.#onScreen(lon / 360 + 0.5, 0)[0]) + 0.5;
      context.moveTo(x, 0);
      context.lineTo(x, height);
      context.fillText(`${Math.abs(lon).toFixed(places)}° ${lon < 0 ? 'W' : 'E'}`, x + 4, 14);
    }
    for (let lat = Math.ceil(Math.max(bottom, -MAX_LAT) / step) * step; lat <= Math.min(top, MAX_LAT); lat += step) {
      const y = Math.round(this.#onScreen(0, project(0, lat)[1])[1]) + 0.5;
      context.moveTo(0, y);
      context.lineTo(width, y);
      if (y > 32) context.fillText(`${Math.abs(lat).toFixed(places)}° ${lat < 0 ? 'S' : 'N'}`, 4, y - 4); // above are those of longitude
    }
    context.stroke();
  }

  /** A round distance, and how long it is in the middle of the map. */
  #drawScale() {
    const metersPerPx = (EARTH_M * Math.cos((latitude(this.#center[1]) * Math.PI) / 180)) / this.#scale;
    const most = metersPerPx * 120;
    const power = 10 ** Math.floor(Math.log10(most));
    const meters = [5, 2, 1].map((times) => times * power).find((one) => one <= most);
    this.#scaleBar.style.setProperty('width', `${meters / metersPerPx}px`);
    setText(this.#scaleText, meters < 1000 ? t('map.meters', { m: number(meters) }) : t('map.kilometers', { km: number(meters / 1000) }));
  }
}

const clamp = (value, low, high) => Math.max(low, Math.min(value, high));
const distance = ([ax, ay], [bx, by]) => Math.hypot(ax - bx, ay - by);
const middle = ([ax, ay], [bx, by]) => [(ax + bx) / 2, (ay + by) / 2];
