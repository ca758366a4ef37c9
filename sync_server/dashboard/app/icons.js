/** The dashboard's pictures: strokes on a 24 x 24 grid, decoration only. */

import { svg } from './dom.js';

const PATHS = {
  board: ['M4 5h4v14H4z', 'M10 5h4v9h-4z', 'M16 5h4v6h-4z'],
  queue: ['M4 6h11', 'M4 12h11', 'M4 18h7', 'M19 8v9', 'M16 14l3 3 3-3'],
  bays: ['M3 20V9l9-5 9 5v11', 'M7 20v-7h10v7', 'M7 16.5h10'],
  devices: ['M3.5 5h17v11h-17z', 'M9 20h6', 'M12 16v4'],
  fueling: ['M5 20V6a2 2 0 0 1 2-2h5a2 2 0 0 1 2 2v14', 'M3.5 20h12', 'M8 8.5h3', 'M14 11h2a2 2 0 0 1 2 2v3a1.5 1.5 0 0 0 3 0V9l-3-3'],
  vehicles: ['M3 16V7h11v9', 'M14 10h4l3 3.5V16h-2', 'M9 16h6', 'M7 18.5a2 2 0 1 0 0-4a2 2 0 0 0 0 4', 'M17 18.5a2 2 0 1 0 0-4a2 2 0 0 0 0 4'],
  feed: ['M3 12h4l2.5-7 4 14L16 12h5'],
  health: ['M5 19V11', 'M10 19V5', 'M15 19v-6', 'M20 19V8'],
  refresh: ['M20 11a8 8 0 0 0-14.3-4L4 8.8', 'M4 4v4.8h4.8', 'M4 13a8 8 0 0 0 14.3 4l1.7-1.8', 'M20 20v-4.8h-4.8'],
  settings: ['M4 7h9', 'M17 7h3', 'M15 5v4', 'M4 17h3', 'M11 17h9', 'M9 15v4', 'M4 12h2', 'M10 12h10', 'M8 10v4'],
  more: ['M5 12h.01', 'M12 12h.01', 'M19 12h.01'],
  clock: ['M12 3.5a8.5 8.5 0 1 0 0 17a8.5 8.5 0 1 0 0-17', 'M12 8v4.5l3 1.8'],
  warning: ['M12 4 2.8 19.5h18.4z', 'M12 10v4', 'M12 17h.01'],
  upload: ['M12 16V5', 'M7.5 9.5 12 5l4.5 4.5', 'M5 19h14'],
  check: ['M5 12.5 10 17.5 19.5 7'],
  close: ['M6 6l12 12', 'M18 6 6 18'],
  back: ['M15 5l-7 7 7 7'],
  plus: ['M12 5v14', 'M5 12h14'],
  minus: ['M5 12h14'],
  fit: ['M4 9V4h5', 'M15 4h5v5', 'M20 15v5h-5', 'M9 20H4v-5'],
  play: ['M8 5.5v13l10-6.5z'],
  pause: ['M9 6v12', 'M15 6v12'],
  person: ['M12 11.5a3.5 3.5 0 1 0 0-7a3.5 3.5 0 0 0 0 7', 'M5 20c.6-4 3.4-6 7-6s6.4 2 7 6'],
  search: ['M11 4.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13', 'M16 16l4 4'],
  download: ['M12 5v11', 'M7.5 11.5 12 16l4.5-4.5', 'M5 19h14'],
  ticket: ['M4 8V6h16v2.5a2.5 2.5 0 0 0 0 5V18H4v-4.5a2.5 2.5 0 0 0 0-5z', 'M14 6v12'],
  star: ['M12 4l2.4 5 5.4.7-4 3.8 1 5.4L12 16.3 7.2 18.9l1-5.4-4-3.8 5.4-.7z'],
};

/** The picture `name`, as wide as the text is high. */
export function icon(name) {
  const paths = PATHS[name].map((d) => svg('path', { d }));
  return svg('svg', { class: `icon icon-${name}`, viewBox: '0 0 24 24', 'aria-hidden': 'true' }, ...paths);
}
