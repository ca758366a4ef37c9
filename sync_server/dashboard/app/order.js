import { el } from './dom.js';

export function openOrder() {
  return { title: '', element: el('div') };
}
