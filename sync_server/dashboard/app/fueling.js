/** Fueling: what can be claimed, what I have, what is done; for customer service also what others have. */

import { isChanged } from '../js/fueling.js';
import { sum } from '../js/money.js';
import { arrange, el, keepFocus, Parts, setAttribute, setText } from './dom.js';
import { openDetails, openTrucks } from './fueldialogs.js';
import { FuelCard, laneOf } from './fuelcard.js';
import { icon } from './icons.js';
import { pageHead } from './shell.js';
import { number, t } from './words.js';

const LANES = ['available', 'mine', 'others', 'done'];
const MORE = 60; // cards of a lane that are drawn at first, and with each "more"
const PERSON = 'user:';

/** A page; see Shell. */
export function openFueling(app) {
  return new FuelingPage(app);
}

class FuelingPage {
  #shop;
  #name;
  #cards;
  #lanes;
  #row;
  #facts = el('dl', { class: 'facts' });
  #placeholder = el('div', {});
  #end;
  title = t('page.fueling');
  element;

  constructor(app) {
    const { shop, me } = app;
    this.#shop = shop;
    this.#name = me.principal.startsWith(PERSON) ? me.principal.slice(PERSON.length) : me.principal;
    this.#cards = new Parts((id) => new FuelCard(id, app, this.#name));
    const shown = LANES.filter((lane) => lane !== 'others' || shop.may('edit_fuel_order'));
    this.#lanes = new Map(shown.map((lane) => [lane, new Lane(lane, () => this.#draw())]));
    const tools = el('div', { class: 'tools' },
      shop.may('manage_fuel_trucks') ? el('button', { type: 'button', onclick: () => openTrucks(shop) }, t('fuel.trucks')) : null,
      shop.may('edit_fuel_order')
        ? el('button', { type: 'button', class: 'primary', onclick: () => this.#create() }, icon('fueling'), t('fuel.new')) : null);
    this.#row = el('div', { class: 'lanes' }, ...[...this.#lanes.values()].map(({ element }) => element));
    this.element = el('div', { class: 'page fueling' }, pageHead(this.title, this.#facts, tools).element,
      this.#placeholder, this.#row);
    this.#end = shop.onChange(() => this.#draw());
    this.#draw();
  }

  close() {
    this.#end();
  }

  tick() {
    for (const card of this.#cards) card.tick();
  }

  #draw() {
    const placeholder = this.#shop.placeholder();
    this.#placeholder.replaceChildren(...(placeholder ? [placeholder] : []));
    const sorted = this.#sorted();
    const drawn = [...this.#lanes].flatMap(([name, lane]) => sorted[name].slice(0, lane.limit));
    setAttribute(this.#row, 'tabindex', drawn.length ? null : '0'); // so that keys can scroll it, cards or not
    keepFocus(() => {
      this.#cards.sync(drawn.map(({ fuelOrderID }) => this.#shop.entry('fuel_orders', fuelOrderID)), ({ document }) => document.fuelOrderID);
      for (const [name, lane] of this.#lanes) {
        const shown = sorted[name].slice(0, lane.limit);
        lane.update(shown.map(({ fuelOrderID }) => this.#cards.get(fuelOrderID).element), sorted[name].length);
      }
    });
    this.#drawFacts(sorted);
  }

  /** Orders by lane: those that wait longest first, what is done newest first. */
  #sorted() {
    const lanes = Object.groupBy(this.#shop.list('fuel_orders'), (order) => laneOf(order, this.#name));
    for (const name of LANES) {
      lanes[name] ??= [];
      if (name === 'done') lanes[name].sort((a, b) => compare(b.updatedAt, a.updatedAt));
      else lanes[name].sort((a, b) => compare(a.createdAt, b.createdAt) || compare(a.fuelOrderID, b.fuelOrderID));
    }
    return lanes;
  }

  #drawFacts({ available, mine, others, done }) {
    const gallons = sum(done.filter(({ status }) => status === 'completed').map(({ gallonsDispensed }) => [gallonsDispensed, 1]));
    const facts = [
      ['fuel.lane.available', number(available.length)],
      ['fuel.changes', number([...available, ...mine, ...others].filter(isChanged).length)],
      ['fuel.today', gallons],
    ];
    if (this.#facts.children.length !== facts.length) {
      this.#facts.replaceChildren(...facts.map(([key]) => el('div', {}, el('dt', {}, t(key)), el('dd', {}))));
    }
    facts.forEach(([, value], place) => setText(this.#facts.children[place].lastElementChild, value));
  }

  #create() {
    openDetails({
      order: null, trucks: this.#shop.list('fuel_trucks'), save: (wanted) => this.#shop.send('fuel_orders.create', wanted),
    });
  }
}

/** One lane; `draw()` when more of it is to be shown. */
class Lane {
  #count = el('span', { class: 'lane-count' });
  #list = el('ul', { class: 'lane-cards' });
  #empty;
  #more;
  limit = MORE;
  element;

  constructor(name, draw) {
    const id = `lane-${name}`;
    this.#empty = el('p', { class: 'lane-empty' }, t(`fuel.empty.${name}`));
    this.#more = el('button', {
      type: 'button', class: 'lane-more', hidden: true,
      onclick: () => {
        this.limit += MORE;
        draw();
      },
    });
    this.element = el('section', { class: 'lane', 'data-column': name, 'aria-labelledby': id },
      el('h2', { id }, el('span', { class: 'lane-name' }, t(`fuel.lane.${name}`)), ' ', this.#count),
      this.#list, this.#empty, this.#more);
  }

  update(elements, count) {
    arrange(this.#list, elements);
    setText(this.#count, number(count));
    setAttribute(this.#empty, 'hidden', count > 0);
    setAttribute(this.#more, 'hidden', count <= elements.length);
    setText(this.#more, t('fuel.more', { n: count - elements.length }));
  }
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
