import { el } from './dom.js';

export function openFeed() {
  return { title: '', element: el('div') };
}
