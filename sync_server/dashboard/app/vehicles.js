/** The vehicles: on a map that follows them live, in a list that says the same in words, and their transport orders. */

import { isOpenTransport } from '../js/logistics.js';
import { confirmed, openMenu } from './dialog.js';
import { arrange, el, keepFocus, outside, Parts, setAttribute, setText } from './dom.js';
import { drawFailure } from './failure.js';
import { icon } from './icons.js';
import { MovingMap } from './map.js';
import { Positions } from './positions.js';
import { openDrivers, openVehicleForm } from './roaddialogs.js';
import { pageHead } from './shell.js';
import { Transports } from './transports.js';
import { decimal, duration, number, t } from './words.js';

const FACTS = ['busy', 'free', 'stale', 'orders']; // the first three in the map's colours
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
  #facts = el('dl', { class: 'facts' }, ...FACTS.map((name) => el('div', { 'data-status': name }, el('dt', {}, t(`road.${name}`)), el('dd', {}))));
  #placeholder = el('div', {});
  #panes;
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
    this.#rows = new Parts((id) => new VehicleRow(id, app, (chosen) => {
      this.#choose(chosen);
      this.#map.center(chosen);
    }));
    this.#transports = app.shop.may('view_transport_orders') ? new Transports(app) : null;
    this.#panes = el('div', { class: 'vehicle-panes' }, this.#map.element, el('div', { class: 'vehicle-side' }, this.#list, this.#more));
    const { shop } = app;
    const tools = shop.may('dispatch') ? el('div', { class: 'tools' },
      el('button', { type: 'button', onclick: () => openDrivers(shop) }, icon('person'), t('road.drivers')),
      el('button', { type: 'button', class: 'primary', onclick: () => openVehicleForm(shop) }, icon('plus'), t('road.add'))) : null;
    this.element = el('div', { class: 'page vehicles' }, pageHead(this.title, this.#facts, tools).element, this.#placeholder,
      this.#panes, this.#transports?.element);
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
    setAttribute(this.#panes, 'hidden', !vehicles.length);
    const entries = vehicles.slice(0, this.#limit).map(({ vehicleID }) => this.#shop.entry('vehicles', vehicleID));
    keepFocus(() => arrange(this.#list, this.#rows.sync(entries, ({ document }) => document.vehicleID)));
    setAttribute(this.#more, 'hidden', vehicles.length <= this.#limit);
    setText(this.#more, t('transport.more', { n: vehicles.length - entries.length }));
    this.#transports?.draw();
    const open = this.#shop.may('view_transport_orders') ? this.#shop.list('transport_orders').filter(isOpenTransport).length : 0;
    const busy = vehicles.filter(({ orderIDs }) => orderIDs.length).length;
    this.#tell({ busy, free: vehicles.length - busy, orders: open });
    this.#drawPlaces();
  }

  #tell(facts) {
    for (const [name, value] of Object.entries(facts)) setText(this.#facts.querySelector(`[data-status=${name}] dd`), number(value));
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
    let stale = 0;
    for (const { vehicleID, plateNumber, orderIDs } of this.#shop.list('vehicles')) {
      const place = this.#positions.get(vehicleID);
      this.#rows.get(vehicleID)?.showPlace(place, vehicleID === this.#chosen);
      const isStale = place === null || this.#positions.isStale(place);
      if (isStale) stale += 1;
      if (place === null) continue;
      const kind = isStale ? 'stale' : orderIDs.length ? 'busy' : 'free';
      markers.push({ id: vehicleID, lon: place.lon, lat: place.lat, heading: place.heading, label: plateNumber, kind });
    }
    this.#map.show(markers, this.#chosen);
    this.#tell({ stale });
  }

  #choose(vehicleID) {
    this.#chosen = vehicleID;
    if (!this.#rows.get(vehicleID)) this.#showMore(Infinity);
    this.#drawPlaces();
    this.#rows.get(vehicleID)?.element.scrollIntoView({ block: 'nearest' });
  }
}

class VehicleRow {
  #app;
  #shop;
  #vehicle;
  #plate = outside('', { class: 'vehicle-plate' });
  #what = outside('', { class: 'muted' });
  #driver = el('span', { class: 'vehicle-driver' });
  #place = el('span', { class: 'vehicle-place' });
  #fuel = el('span', { class: 'vehicle-fuel' });
  #failure = el('div', { class: 'card-failure' });
  #button;
  #menu;
  element;

  constructor(id, app, choose) {
    this.#app = app;
    this.#shop = app.shop;
    this.#menu = el('button', {
      type: 'button', class: 'plain card-menu', 'aria-haspopup': 'menu', 'aria-expanded': 'false', hidden: !app.shop.may('dispatch'),
      onclick: () => openMenu(this.#menu, this.#menuItems(), { label: t('road.menu', { plate: this.#vehicle.plateNumber }) }),
    }, icon('more'));
    this.#button = el('button', { type: 'button', class: 'vehicle', 'aria-pressed': 'false', onclick: () => choose(id) },
      el('span', { class: 'vehicle-line' }, this.#plate, this.#what),
      el('span', { class: 'vehicle-line' }, this.#driver, this.#fuel), this.#place);
    this.element = el('li', { 'data-id': id }, this.#button, this.#menu, this.#failure);
  }

  update({ document: vehicle, pending, failed }) {
    this.#vehicle = vehicle;
    setAttribute(this.#menu, 'aria-label', t('road.menu', { plate: vehicle.plateNumber }));
    drawFailure(this.#failure, failed, this.#app.client);
    setText(this.#plate, vehicle.plateNumber);
    setText(this.#what, `${vehicle.make} ${vehicle.model}`);
    const driver = vehicle.driverID ? this.#shop.get('drivers', vehicle.driverID)?.name ?? vehicle.driverID : null;
    setText(this.#driver, driver ? t('road.driver', { name: driver }) : t('road.noDriver'));
    const { consumption, overNorm } = vehicle.fuel ?? {};
    const isOver = Number(overNorm) > 0;
    const told = consumption ? t('road.fuel', { n: decimal(Number(consumption)) }) : '';
    setText(this.#fuel, isOver ? t('road.fuelOver', { n: decimal(Number(consumption)), more: decimal(Number(overNorm)) }) : told);
    setAttribute(this.#fuel, 'data-over', isOver ? 'yes' : null);
    setAttribute(this.#button, 'data-kind', vehicle.orderIDs.length ? 'busy' : 'free');
    setAttribute(this.#button, 'data-state', pending.length ? 'queued' : null);
  }

  #menuItems() {
    const { plateNumber, orderIDs } = this.#vehicle;
    return [
      { text: t('road.edit'), run: () => openVehicleForm(this.#shop, this.#vehicle) },
      orderIDs.length
        ? { heading: t('road.isBusy', { n: orderIDs.length }) }
        : { text: t('road.delete'), isDanger: true, run: () => void this.#delete(plateNumber) },
    ];
  }

  async #delete(plate) {
    const isMeant = await confirmed({ title: t('road.delete.title', { plate }), text: t('road.delete.text'), action: t('road.delete.do') });
    if (isMeant) this.#shop.send('vehicles.delete', { vehicleID: this.#vehicle.vehicleID });
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
