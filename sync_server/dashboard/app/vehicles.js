/** The vehicles: on a map that follows them live, in a list that says the same in words, and their transport orders. */

import { isOpenTransport } from '../js/logistics.js';
import { arrange, el, keepFocus, outside, Parts, setAttribute, setText } from './dom.js';
import { MovingMap } from './map.js';
import { Positions } from './positions.js';
import { pageHead } from './shell.js';
import { Transports } from './transports.js';
import { decimal, duration, number, t } from './words.js';

const MORE = 200; // rows of the list that are drawn at first, and with each "more"; the map shows all

/** A page; see Shell. */
export function openVehicles(app) {
  return new VehiclesPage(app);
}

class VehiclesPage {
  #shop;
  #positions;
  #map;
  #rows;
  #transports;
  #chosen = null;
  #facts = el('dl', { class: 'facts' });
  #placeholder = el('div', {});
  #list = el('ul', { class: 'vehicle-list', 'aria-label': t('road.list') });
  #more = el('button', { type: 'button', class: 'lane-more', hidden: true, onclick: () => this.#showMore(MORE) });
  #limit = MORE;
  #end;
  title = t('page.vehicles');
  element;

  constructor(app) {
    this.#shop = app.shop;
    this.#positions = new Positions({ client: app.client, onChange: () => this.#drawPlaces() });
    this.#map = new MovingMap({ label: t('road.map'), onChoose: (id) => this.#choose(id) });
    this.#rows = new Parts((id) => new VehicleRow(id, app.shop, (chosen) => {
      this.#choose(chosen);
      this.#map.center(chosen);
    }));
    this.#transports = app.shop.may('view_transport_orders') ? new Transports(app) : null;
    this.element = el('div', { class: 'page vehicles' }, pageHead(this.title, this.#facts).element, this.#placeholder,
      el('div', { class: 'vehicle-panes' }, this.#map.element, el('div', { class: 'vehicle-side' }, this.#list, this.#more)),
      this.#transports?.element);
    this.#end = app.shop.onChange(() => this.#draw());
    this.#draw();
  }

  close() {
    this.#end();
    this.#positions.close();
    this.#map.close();
    this.#transports?.close();
  }

  tick() {
    this.#drawPlaces();
    this.#transports?.tick();
  }

  refresh() {
    return this.#positions.load();
  }

  #draw() {
    const vehicles = this.#vehicles();
    const empty = this.#shop.placeholder() ?? (vehicles.length ? null : el('p', { class: 'empty' }, t('road.none')));
    this.#placeholder.replaceChildren(...(empty ? [empty] : []));
    const entries = vehicles.slice(0, this.#limit).map(({ vehicleID }) => this.#shop.entry('vehicles', vehicleID));
    keepFocus(() => arrange(this.#list, this.#rows.sync(entries, ({ document }) => document.vehicleID)));
    setAttribute(this.#more, 'hidden', vehicles.length <= this.#limit);
    setText(this.#more, t('transport.more', { n: vehicles.length - entries.length }));
    this.#transports?.draw();
    const open = this.#shop.may('view_transport_orders') ? this.#shop.list('transport_orders').filter(isOpenTransport).length : 0;
    const facts = [['road.all', vehicles.length], ['road.busy', vehicles.filter(({ orderIDs }) => orderIDs.length).length], ['road.orders', open]];
    if (this.#facts.children.length !== facts.length) {
      this.#facts.replaceChildren(...facts.map(([key]) => el('div', {}, el('dt', {}, t(key)), el('dd', {}))));
    }
    facts.forEach(([, value], place) => setText(this.#facts.children[place].lastElementChild, number(value)));
    this.#drawPlaces();
  }

  #showMore(count) {
    this.#limit += count;
    this.#draw();
  }

  #vehicles() {
    return this.#shop.list('vehicles').toSorted((a, b) => collator.compare(a.plateNumber, b.plateNumber));
  }

  #drawPlaces() {
    const markers = [];
    for (const { vehicleID, plateNumber, orderIDs } of this.#shop.list('vehicles')) {
      const place = this.#positions.get(vehicleID);
      this.#rows.get(vehicleID)?.showPlace(place, vehicleID === this.#chosen);
      if (place === null) continue;
      const kind = this.#positions.isStale(place) ? 'stale' : orderIDs.length ? 'busy' : 'free';
      markers.push({ id: vehicleID, lon: place.lon, lat: place.lat, heading: place.heading, label: plateNumber, kind });
    }
    this.#map.show(markers, this.#chosen);
  }

  #choose(vehicleID) {
    this.#chosen = vehicleID;
    if (!this.#rows.get(vehicleID)) this.#showMore(Infinity);
    this.#drawPlaces();
    this.#rows.get(vehicleID)?.element.scrollIntoView({ block: 'nearest' });
  }
}

class VehicleRow {
  #shop;
  #plate = outside('', { class: 'vehicle-plate' });
  #what = outside('', { class: 'muted' });
  #driver = el('span', { class: 'vehicle-driver' });
  #place = el('span', { class: 'vehicle-place' });
  #fuel = el('span', { class: 'vehicle-fuel' });
  #button;
  element;

  constructor(id, shop, choose) {
    this.#shop = shop;
    this.#button = el('button', { type: 'button', class: 'vehicle', 'aria-pressed': 'false', onclick: () => choose(id) },
      el('span', { class: 'vehicle-line' }, this.#plate, this.#what),
      el('span', { class: 'vehicle-line' }, this.#driver, this.#fuel), this.#place);
    this.element = el('li', { 'data-id': id }, this.#button);
  }

  update({ document: vehicle, pending }) {
    setText(this.#plate, vehicle.plateNumber);
    setText(this.#what, `${vehicle.make} ${vehicle.model}`);
    const driver = vehicle.driverID ? this.#shop.get('drivers', vehicle.driverID)?.name ?? vehicle.driverID : null;
    setText(this.#driver, driver ? t('road.driver', { name: driver }) : t('road.noDriver'));
    const { consumption, overNorm } = vehicle.fuel ?? {};
    const isOver = Number(overNorm) > 0;
    const told = consumption ? t('road.fuel', { n: decimal(Number(consumption)) }) : '';
    setText(this.#fuel, isOver ? `${told}, ${t('road.over', { n: decimal(Number(overNorm)) })}` : told);
    setAttribute(this.#fuel, 'data-over', isOver ? 'yes' : null);
    setAttribute(this.#button, 'data-kind', vehicle.orderIDs.length ? 'busy' : 'free');
    setAttribute(this.#button, 'data-state', pending.length ? 'queued' : null);
  }

  showPlace(place, isChosen) {
    setAttribute(this.#button, 'aria-pressed', isChosen ? 'true' : 'false');
    setText(this.#place, place ? placeText(place, this.#shop) : t('road.noPlace'));
  }
}

function placeText({ lon, lat, speed, heading, at }, shop) {
  const facts = [`\u2066${lat.toFixed(4)}, ${lon.toFixed(4)}\u2069`];
  if (speed !== undefined) facts.push(t('road.speed', { n: Math.round(speed) }));
  if (heading !== undefined) facts.push(t('road.heading', { degrees: Math.round(heading) }));
  return [...facts, t('road.seen', { age: duration(shop.ageS(at)) })].join(' · ');
}

const collator = new Intl.Collator(document.documentElement.lang, { numeric: true });
