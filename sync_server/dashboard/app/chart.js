/** A small live chart: one line, its newest value in large figures, the scale beside it. */

import { el, setAttribute, setText, svg } from './dom.js';
import { t } from './words.js';

const WIDTH = 300;
const HEIGHT = 72;
const KEPT = 150;
const AT_FIRST = 30; // so many fill the width; later it shows more and more, up to all that is kept

export class Chart {
  #values = [];
  #format;
  #atLeast;
  #line = svg('polyline', { class: 'chart-line' });
  #area = svg('polygon', { class: 'chart-area' });
  #now = el('span', { class: 'chart-now' }, '–');
  #top = el('span', { class: 'chart-top muted' });
  element;

  /** format(value): text. atLeast: the scale does not go below that, so that a flat line looks flat. */
  constructor({ title, format, atLeast = 1 }) {
    this.#format = format;
    this.#atLeast = atLeast;
    this.element = el('figure', { class: 'chart' },
      el('figcaption', {}, title),
      el('div', { class: 'chart-figures' }, this.#now, this.#top),
      svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' },
        svg('line', { class: 'chart-base', x1: 0, y1: HEIGHT - 0.5, x2: WIDTH, y2: HEIGHT - 0.5 }), this.#area, this.#line));
  }

  /** The next value; null where there was nothing to measure: the line goes on as it was. */
  add(value) {
    this.#values = [...this.#values, value ?? this.#values.at(-1) ?? 0].slice(-KEPT);
    const top = Math.max(this.#atLeast, ...this.#values) * 1.1;
    const step = WIDTH / (Math.max(this.#values.length, AT_FIRST) - 1);
    const points = this.#values.map((one, place) => {
      const x = WIDTH - (this.#values.length - 1 - place) * step;
      return [x.toFixed(1), (HEIGHT - (one / top) * (HEIGHT - 4)).toFixed(1)];
    });
    setAttribute(this.#line, 'points', points.map((point) => point.join(',')).join(' '));
    const [firstX] = points[0];
    setAttribute(this.#area, 'points', `${firstX},${HEIGHT} ${points.map((point) => point.join(',')).join(' ')} ${WIDTH},${HEIGHT}`);
    setText(this.#now, value === null ? '–' : this.#format(value));
    setText(this.#top, t('health.most', { most: this.#format(Math.max(...this.#values)) }));
  }
}
