/** The links to the pages: as many as there is room for, and the others behind a button. */

import { openMenu } from './dialog.js';
import { el, setAttribute, setText } from './dom.js';
import { icon } from './icons.js';
import { t } from './words.js';

export class Navigation {
  #links;
  #moreText = el('span', {});
  #more = el('button', { type: 'button', class: 'nav-more', 'aria-haspopup': 'menu', 'aria-expanded': 'false', hidden: true, onclick: () => this.#open() },
    icon('more'), this.#moreText);
  #current = null;
  element;

  constructor(names) {
    this.#links = new Map(names.map((name) =>
      [name, el('a', { href: `#/${name}` }, icon(name), el('span', {}, t(`page.${name}`)))]));
    this.element = el('nav', { class: 'nav', 'aria-label': t('navigation') }, ...this.#links.values(), this.#more);
    // It is as wide as what stands around it leaves, whatever is in it: so this comes to an end.
    new ResizeObserver(() => this.#fit()).observe(this.element);
  }

  has(name) {
    return this.#links.has(name);
  }

  /** The page that is looked at; null for one that has no link. */
  show(current) {
    this.#current = current;
    for (const [name, link] of this.#links) setAttribute(link, 'aria-current', name === current ? 'page' : null);
    this.#drawMore();
  }

  #fit() {
    const links = [...this.#links.values()];
    for (const node of [...links, this.#more]) setAttribute(node, 'hidden', null);
    setAttribute(this.element, 'data-measured', 'yes');
    const { columnGap, paddingInlineStart, paddingInlineEnd } = getComputedStyle(this.element);
    const gap = parseFloat(columnGap) || 0;
    const widths = links.map((link) => link.offsetWidth + gap);
    const roomPx = this.element.clientWidth - parseFloat(paddingInlineStart) - parseFloat(paddingInlineEnd) + gap;
    const morePx = this.#more.offsetWidth + gap;
    setAttribute(this.element, 'data-measured', null);
    const areAllIn = widths.reduce((sum, width) => sum + width, 0) <= roomPx;
    let leftPx = roomPx - (areAllIn ? 0 : morePx);
    for (const [place, link] of links.entries()) {
      leftPx -= widths[place];
      setAttribute(link, 'hidden', leftPx < 0);
    }
    setAttribute(this.#more, 'hidden', areAllIn);
    this.#drawMore();
  }

  #hidden() {
    return [...this.#links].filter(([, link]) => link.hidden).map(([name]) => name);
  }

  /** It has the name of the page that is looked at, if that page's link is behind it. */
  #drawMore() {
    const isHere = this.#hidden().includes(this.#current);
    setText(this.#moreText, isHere ? t(`page.${this.#current}`) : t('navigation.more'));
    setAttribute(this.#more, 'aria-current', isHere ? 'page' : null);
  }

  #open() {
    openMenu(this.#more, this.#hidden().map((name) => ({ text: t(`page.${name}`), run: () => (location.hash = `#/${name}`) })),
      { label: t('navigation.more') });
  }
}
