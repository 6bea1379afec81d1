// What comes from the gateway and goes to it: one connection that watches an area and at most one vehicle.

import { Rate, Samples } from './measure.js';
import { EMERGENCY, GONE, Ringroad, RingroadError, key } from '../ringroad.js';

/** Close code of a connection that has shown no valid token. */
const NO_VALID_TOKEN = 1008;

/** The gateway's clock is asked for this often; at first faster. So many answers are believed together. */
const CLOCK_MS = 5_000;
const CLOCK_MS_FIRST = 400;
const CLOCK_ANSWERS = 8;

export class Feed {
  #gateway;
  #fleet;
  #tell;
  #clock = [];
  #askedMs = 0;
  #clockTimer = null;
  records = new Rate();
  stateFrames = new Rate();
  latency = new Samples();
  /** How many events have changed what is watched. */
  epoch = 0;
  /** Errors that the gateway has answered with, and the newest one's words. */
  errors = 0;
  lastError = '';

  /** `tell` is called with what somebody should see: `link(state, text)`, `alert(alert)`, `viewTooLarge()`. */
  constructor(url, authToken, fleet, tell) {
    this.#fleet = fleet;
    this.#tell = tell;
    this.#gateway = new Ringroad(url, authToken === null ? {} : { authToken });
    this.#listen();
  }

  /** Watches an area given by its edges; nothing if null. */
  view(edges) {
    this.#gateway.view(edges);
  }

  /** Watches a vehicle wherever it is; nobody if null. */
  follow(vehicleId) {
    this.#gateway.follow(vehicleId === null ? [] : [vehicleId]);
  }

  /** What the gateway has said of the newest view: `complete`, `tiered`, `cut`. */
  get watching() {
    const { complete, tiered, cut } = this.#gateway.vehicles;
    return { complete, tiered, cut };
  }

  /** Where a vehicle stands in the fleet; −1 if it is not watched. */
  slotOf(vehicleId) {
    return this.#fleet.slotOf(keyOf(vehicleId));
  }

  nameOf(slot) {
    return this.#gateway.vehicles.identity(this.#rowOf(slot))?.vehicleId ?? '';
  }

  /** All that is known of a vehicle that is there; numbers are NaN where it did not say. */
  known(slot) {
    const { lat, lon, heading, speed, accuracy, ts } = this.#gateway.vehicles;
    const row = this.#rowOf(slot);
    const { vehicleId, driverName, vehicleInfo } = this.#gateway.vehicles.identity(row) ?? NOBODY;
    const said = { lat: lat[row], lon: lon[row], heading: heading[row], speed: speed[row], accuracy: accuracy[row] };
    return { vehicleId, driverName, vehicleInfo, ...said, agoMs: this.#wallMs() - ts[row] };
  }

  #rowOf(slot) {
    const key = this.#fleet.keyOf(slot);
    return this.#gateway.vehicles.rowOfKey(Number(key & 0xffff_ffffn), Number(key >> 32n));
  }

  /** This moment by the gateway's clock. */
  #wallMs() {
    return Date.now() - (this.clockMs || 0);
  }

  /**
   * Milliseconds that this computer's clock is ahead of the gateway's; NaN until it is known. The gateway's answer was
   * made after the question and before its arrival here, so each answer gives two bounds, and together they are narrow.
   */
  get clockMs() {
    const least = Math.max(...this.#clock.map((answer) => answer.least));
    const most = Math.min(...this.#clock.map((answer) => answer.most));
    return least + (most - least) / 2;
  }

  #listen() {
    const gateway = this.#gateway;
    gateway.on('open', () => {
      this.#clock = [];
      this.#askClock();
      this.#tell.link('open', 'Live');
    });
    gateway.on('close', ({ code, reason, final }) => {
      clearTimeout(this.#clockTimer);
      this.#fleet.clear();
      if (code === NO_VALID_TOKEN) this.#tell.link('closed', 'Needs a valid token');
      else if (final) this.#tell.link('closed', reason || `Closed (${code})`);
      else this.#tell.link('waiting', 'Reconnecting');
    });
    gateway.on('heartbeat_ack', ({ ts }) => this.#hearClock(ts));
    gateway.on('watching', ({ epoch }) => (this.epoch = epoch));
    gateway.on('states', (frame) => this.#move(frame));
    gateway.on('emergency_alert', (alert) => this.#tell.alert(alert));
    gateway.on('error', ({ code, message }) => {
      if (code === 'view_too_large') return this.#tell.viewTooLarge();
      this.errors += 1;
      this.lastError = `${code}: ${message}`;
    });
  }

  #move(frame) {
    const nowMs = performance.now();
    const wallMs = this.#wallMs();
    const { count, lat, lon, heading, speed, ts, flags } = frame;
    for (let row = 0; row < count; row += 1) {
      if ((flags[row] & GONE) !== 0) {
        this.#fleet.gone(frame.key(row));
        continue;
      }
      if (Number.isNaN(lat[row])) continue;
      const emergency = (flags[row] & EMERGENCY) !== 0;
      const known = this.#fleet.moved(frame.key(row), lat[row], lon[row], heading[row], speed[row], emergency, nowMs);
      // What was there before one looked says nothing about how long positions take.
      if (known && !Number.isNaN(ts[row])) this.latency.add(nowMs, wallMs - ts[row]);
    }
    this.stateFrames.add(nowMs);
    this.records.add(nowMs, count);
  }

  #askClock() {
    const waitMs = this.#clock.length < CLOCK_ANSWERS / 2 ? CLOCK_MS_FIRST : CLOCK_MS;
    this.#clockTimer = setTimeout(() => this.#askClock(), waitMs);
    this.#askedMs = Date.now();
    this.#gateway.send('heartbeat');
  }

  #hearClock(ts) {
    const answer = { least: this.#askedMs - ts, most: Date.now() - ts };
    const agrees = this.#clock.every((other) => answer.least <= other.most && other.least <= answer.most);
    // A clock has been set: what was known of it is nothing worth any more.
    if (!agrees) this.#clock = [];
    this.#clock.push(answer);
    if (this.#clock.length > CLOCK_ANSWERS) this.#clock.shift();
  }
}

/** Who a vehicle is before the gateway has said. */
const NOBODY = { vehicleId: '', driverName: '', vehicleInfo: {} };

/** The key of a vehicle; null for what is no vehicle's id, as an alert of another server may have it. */
export function keyOf(vehicleId) {
  try {
    return key(vehicleId);
  } catch (error) {
    if (!(error instanceof RingroadError)) throw error;
    return null;
  }
}
