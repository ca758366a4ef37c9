import { el } from './dom.js';

export function openHealth() {
  return { title: '', element: el('div') };
}
