// What moves: two places of each vehicle, between which it is drawn, and the trail behind it. Everything lies in arrays
// by a slot that the vehicle has as long as it is there; drawing allocates nothing per vehicle.

import { HEADINGS, NO_HEADING } from './raster.js';
import { metresPerSide, wayX, xOf, yOf } from './mercator.js';

/** How a vehicle is coloured: by its speed, unless it has raised an alert. */
export const COLOURS = [
  { label: 'standing', below: 0.6, rgb: [124, 139, 161] },
  { label: 'to 25 km/h', below: 25 / 3.6, rgb: [255, 178, 74] },
  { label: 'to 50', below: 50 / 3.6, rgb: [69, 214, 154] },
  { label: 'faster', below: Infinity, rgb: [82, 182, 255] },
  { label: null, rgb: [196, 206, 220] },
  { label: 'emergency', rgb: [255, 77, 94] },
];
const SPEEDS = COLOURS.filter((colour) => colour.below).map((colour) => colour.below);
const UNKNOWN = SPEEDS.length;
const EMERGENCY = UNKNOWN + 1;

/** Places of a trail, and the least time between two of them. */
const TRAIL = 24;
const TRAIL_MS = 1_000;

/** Trails are drawn wider from this zoom on. */
const WIDE_TRAILS_ZOOM = 11;

/** Trails are kept as fractions of the world's side: 2³² is 1 cm at the equator. */
const FRACTIONS = 2 ** 32;

/** A vehicle is drawn from where it was seen to where it is in the time that it took to say so, within bounds. */
const SPAN_MS_MIN = 40;
const SPAN_MS_MAX = 2_500;

/** If its next word is late, it is drawn farther on for at most this part of that time. */
const BEYOND = 0.35;

/** Farther than this it did not drive but jump, metres. */
const JUMP_M = 400;

/** Sizes of the picture by zoom: up to a zoom, CSS pixels. */
const SIZES = [
  [9, 6],
  [11, 8],
  [12.5, 10],
  [14, 12],
  [15.5, 15],
  [Infinity, 19],
];

export class Fleet {
  #capacity = 0;
  /** Slots from here on have never been used. */
  #end = 0;
  #free = [];
  /** The slots by the vehicles' keys. */
  #slots = new Map();
  #trailsDrawn = { version: -1, ms: 0 };
  /** Slots of those that were drawn in red with the last frame. */
  emergencies = [];

  constructor() {
    this.#grow(1_024);
  }

  get count() {
    return this.#slots.size;
  }

  /** Where a vehicle stands in the arrays; −1 if it is not there. */
  slotOf(key) {
    return this.#slots.get(key) ?? -1;
  }

  /** The key of a vehicle that is there. */
  keyOf(slot) {
    return this.key[slot];
  }

  /**
   * A vehicle has said where it is. `heading` in degrees, `speed` in m/s, both NaN if unknown. Whether it was there
   * before.
   */
  moved(key, lat, lon, heading, speed, emergency, nowMs) {
    const known = this.slotOf(key);
    const slot = known < 0 ? this.#take(key) : known;
    const x = xOf(lon);
    const y = yOf(lat);
    if (known < 0) {
      this.#put(slot, x, y);
    } else {
      const elapsed = nowMs - this.seenMs[slot];
      const part = this.part(slot, nowMs);
      const fromX = this.#xAt(slot, part);
      const fromY = this.#yAt(slot, part);
      const way = Math.hypot(wayX(fromX, x), y - fromY) * metresPerSide(lat);
      if (way > JUMP_M) {
        this.#put(slot, x, y);
      } else {
        this.fromX[slot] = fromX;
        this.fromY[slot] = fromY;
        this.wayX[slot] = wayX(fromX, x);
        this.wayY[slot] = y - fromY;
        this.spanMs[slot] = Math.min(Math.max(elapsed, SPAN_MS_MIN), SPAN_MS_MAX);
      }
    }
    this.seenMs[slot] = nowMs;
    this.look[slot] = Number.isNaN(heading) ? NO_HEADING : Math.round((heading / 360) * HEADINGS) % HEADINGS;
    this.still[slot] = speed < SPEEDS[0] ? 1 : 0;
    const bySpeed = Number.isNaN(speed) ? UNKNOWN : SPEEDS.findIndex((below) => speed < below);
    this.colour[slot] = emergency ? EMERGENCY : bySpeed;
    if (nowMs - this.trailMs[slot] >= TRAIL_MS) this.#lengthen(slot, x, y, nowMs);
    return known >= 0;
  }

  gone(key) {
    const slot = this.slotOf(key);
    if (slot < 0) return;
    this.#slots.delete(key);
    this.#free.push(slot);
    this.there[slot] = 0;
  }

  clear() {
    this.there.fill(0);
    this.#slots.clear();
    this.#free = [];
    this.#end = 0;
  }

  x(slot, nowMs) {
    return this.#xAt(slot, this.part(slot, nowMs));
  }

  y(slot, nowMs) {
    return this.#yAt(slot, this.part(slot, nowMs));
  }

  /** The way's part that a vehicle has behind it at a time: 0 to 1, and a little beyond. */
  part(slot, nowMs) {
    const part = (nowMs - this.seenMs[slot]) / this.spanMs[slot];
    return Math.min(part, this.still[slot] ? 1 : 1 + BEYOND);
  }

  /** Draws all vehicles; how many are on the screen. */
  draw(raster, camera, nowMs, withTrails) {
    const { version } = camera;
    if (withTrails && (this.#trailsDrawn.version !== version || nowMs - this.#trailsDrawn.ms > 100)) {
      this.#drawTrails(raster, camera, nowMs);
      this.#trailsDrawn = { version, ms: nowMs };
    }
    raster.begin(withTrails);
    const { scale, width, height, x: middleX, y: middleY } = camera;
    const size = SIZES.find(([zoom]) => camera.zoom < zoom)[1];
    const pictures = raster.pictures(size);
    let shown = 0;
    this.emergencies.length = 0;
    // Alerts come last, above the others.
    for (const alerting of [false, true]) {
      for (let slot = 0; slot < this.#end; slot += 1) {
        if (this.there[slot] === 0 || (this.colour[slot] === EMERGENCY) !== alerting) continue;
        const part = this.part(slot, nowMs);
        const dx = this.fromX[slot] + this.wayX[slot] * part - middleX;
        const px = (dx - Math.round(dx)) * scale + width / 2;
        const py = (this.fromY[slot] + this.wayY[slot] * part - middleY) * scale + height / 2;
        if (px < -size || py < -size || px > width + size || py > height + size) continue;
        if (alerting) this.emergencies.push(slot);
        if (px >= 0 && py >= 0 && px < width && py < height) shown += 1;
        raster.picture(pictures, this.colour[slot], this.look[slot], px, py);
      }
    }
    raster.end();
    return shown;
  }

  /** The vehicle nearest to a place on the screen, within some pixels; −1 if there is none. */
  at(camera, px, py, within, nowMs) {
    let [nearest, least] = [-1, within];
    this.each((slot) => {
      const way = Math.hypot(camera.screenX(this.x(slot, nowMs)) - px, camera.screenY(this.y(slot, nowMs)) - py);
      if (way < least) [nearest, least] = [slot, way];
    });
    return nearest;
  }

  /** How many others are within some metres of one. */
  around(slot, radiusM, lat, nowMs) {
    const [x, y] = [this.x(slot, nowMs), this.y(slot, nowMs)];
    const radius = radiusM / metresPerSide(lat);
    let count = 0;
    this.each((other) => {
      const way = Math.hypot(wayX(x, this.x(other, nowMs)), this.y(other, nowMs) - y);
      if (other !== slot && way <= radius) count += 1;
    });
    return count;
  }

  each(visit) {
    for (let slot = 0; slot < this.#end; slot += 1) if (this.there[slot] === 1) visit(slot);
  }

  #xAt(slot, part) {
    return this.fromX[slot] + this.wayX[slot] * part;
  }

  #yAt(slot, part) {
    return this.fromY[slot] + this.wayY[slot] * part;
  }

  /** A slot for a vehicle that is not there yet. */
  #take(key) {
    const slot = this.#free.pop() ?? this.#end;
    if (slot >= this.#capacity) this.#grow(slot + 1);
    this.#end = Math.max(this.#end, slot + 1);
    this.#slots.set(key, slot);
    this.key[slot] = key;
    this.there[slot] = 1;
    return slot;
  }

  /** Where a vehicle appears, or jumps to: without a trail. */
  #put(slot, x, y) {
    [this.fromX[slot], this.fromY[slot], this.wayX[slot], this.wayY[slot], this.spanMs[slot]] = [x, y, 0, 0, 1];
    this.trailLength[slot] = 0;
    this.trailMs[slot] = -Infinity;
  }

  #lengthen(slot, x, y, nowMs) {
    const end = (this.trailEnd[slot] + 1) % TRAIL;
    this.trailX[slot * TRAIL + end] = (x - Math.floor(x)) * FRACTIONS;
    this.trailY[slot * TRAIL + end] = y * FRACTIONS;
    this.trailEnd[slot] = end;
    this.trailLength[slot] = Math.min(this.trailLength[slot] + 1, TRAIL);
    this.trailMs[slot] = nowMs;
  }

  #drawTrails(raster, camera, nowMs) {
    raster.eraseTrails();
    const { scale, width, height, x: middleX, y: middleY } = camera;
    const across = (x) => wayX(middleX, x) * scale + width / 2;
    const down = (y) => (y - middleY) * scale + height / 2;
    const wide = camera.zoom >= WIDE_TRAILS_ZOOM;
    this.each((slot) => {
      let px = across(this.x(slot, nowMs));
      let py = down(this.y(slot, nowMs));
      const length = this.trailLength[slot];
      for (let n = 0; n < length; n += 1) {
        const place = slot * TRAIL + ((this.trailEnd[slot] - n + TRAIL) % TRAIL);
        const x = across(this.trailX[place] / FRACTIONS);
        const y = down(this.trailY[place] / FRACTIONS);
        const isBeside = (x < 0 && px < 0) || (x > width && px > width);
        const isAbove = (y < 0 && py < 0) || (y > height && py > height);
        if (!isBeside && !isAbove && Math.abs(x - px) + Math.abs(y - py) >= 0.5) {
          raster.trail(this.colour[slot], 1 - n / TRAIL, wide, px, py, x, y);
        }
        px = x;
        py = y;
      }
    });
  }

  #grow(least) {
    const capacity = Math.max(least, this.#capacity * 2);
    const grown = (Kind, name, per = 1) => {
      const array = new Kind(capacity * per);
      if (this[name]) array.set(this[name]);
      this[name] = array;
    };
    grown(BigUint64Array, 'key');
    grown(Uint8Array, 'there');
    for (const name of ['fromX', 'fromY', 'wayX', 'wayY', 'seenMs', 'trailMs']) grown(Float64Array, name);
    grown(Float32Array, 'spanMs');
    for (const name of ['look', 'colour', 'still', 'trailEnd', 'trailLength']) grown(Uint8Array, name);
    for (const name of ['trailX', 'trailY']) grown(Uint32Array, name, TRAIL);
    this.#capacity = capacity;
  }
}
