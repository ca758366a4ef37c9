/** Where the vehicles are: asked for once, then followed live; the newest of each, told of at a pace that people see. */

import { paced } from './dom.js';

const PAGE = 1000;
const STALE_S = 120;

export class Positions {
  #client;
  #onChange;
  #places = new Map(); // vehicle to {lon, lat, heading, speed, at}
  #ends;
  #wasConnected = false;
  #isClosed = false;

  constructor({ client, onChange }) {
    this.#client = client;
    this.#onChange = paced(() => this.#isClosed || onChange());
    this.#ends = [
      client.on('vehicle_location', ({ vehicleID, data }) => this.#take(vehicleID, data)),
      client.onChange(() => this.#look()),
    ];
    this.#wasConnected = client.isConnected;
    void this.load();
  }

  close() {
    this.#isClosed = true;
    for (const end of this.#ends) end();
  }

  get(vehicleID) {
    return this.#places.get(vehicleID) ?? null;
  }

  /** Whether nothing has been heard of it for minutes. */
  isStale({ at }) {
    return this.#client.serverNowMs() - Date.parse(at) > STALE_S * 1000;
  }

  /** All that is known; what passed while nobody was connected comes in this way only. */
  async load() {
    let after = '';
    do {
      const address = new URL(`api/v1/vehicle-locations?limit=${PAGE}${after && `&after=${encodeURIComponent(after)}`}`, document.baseURI);
      const response = await fetch(address, { cache: 'no-store' }).catch(() => null);
      const page = response?.ok ? await response.json().catch(() => null) : null;
      if (page === null || this.#isClosed) return;
      for (const { vehicleID, ...place } of page.locations) this.#take(vehicleID, place);
      after = page.nextAfter ?? '';
    } while (after);
  }

  #take(vehicleID, place) {
    const known = this.#places.get(vehicleID);
    if (known && known.at >= place.at) return;
    this.#places.set(vehicleID, place);
    this.#onChange();
  }

  #look() {
    const { isConnected } = this.#client;
    if (isConnected && !this.#wasConnected) void this.load();
    this.#wasConnected = isConnected;
  }
}
