// Where one looks: the middle of the screen in Web Mercator, and how far one has zoomed in.

import { LAT_MAX, latOf, lonOf, wayX, xOf, yOf } from './mercator.js';

/** Pixels of the world's side at zoom 0, as raster tiles have it. */
const SIDE_PX = 256;

const ZOOM_MIN = 2;
const ZOOM_MAX = 20;

/** How fast a zoom that has been asked for is approached: what is left of it after this time is 1/e. */
const GLIDE_MS = 70;

/** Decimals of the deep link's degrees: a metre. */
const LINK_DECIMALS = 5;

export class Camera {
  x = 0.5;
  y = 0.5;
  zoom = ZOOM_MIN;
  /** Of the screen, CSS pixels. */
  width = 1;
  height = 1;
  /** Grows with every change; who draws compares it. */
  version = 0;
  /** Whether a hand has moved it. */
  touched = false;
  /** A zoom on its way: where it goes, and the place on the screen that stays where it is. */
  #glide = null;

  resize(width, height) {
    Object.assign(this, { width, height });
    this.#changed();
  }

  /** Pixels of the world's side. */
  get scale() {
    return SIDE_PX * 2 ** this.zoom;
  }

  get lat() {
    return latOf(this.y);
  }

  get lon() {
    return lonOf(this.x);
  }

  /** Pixels from the screen's left; of the nearest copy of the world. */
  screenX(x) {
    return wayX(this.x, x) * this.scale + this.width / 2;
  }

  /** Pixels from the screen's top. */
  screenY(y) {
    return (y - this.y) * this.scale + this.height / 2;
  }

  worldX(px) {
    return this.x + (px - this.width / 2) / this.scale;
  }

  worldY(py) {
    return this.y + (py - this.height / 2) / this.scale;
  }

  /** Edges of the screen in degrees, wider by a share of its sides. `west` is beyond `east` across ±180°. */
  bounds(margin = 0) {
    const [dx, dy] = [this.width * margin, this.height * margin];
    const [left, right] = [this.worldX(-dx), this.worldX(this.width + dx)];
    const [south, north] = [latOf(this.worldY(this.height + dy)), latOf(this.worldY(-dy))];
    const whole = right - left >= 1;
    const edges = { south, west: whole ? -180 : lonOf(left), north, east: whole ? 180 : lonOf(right) };
    return { ...edges, south: Math.max(south, -LAT_MAX), north: Math.min(north, LAT_MAX) };
  }

  /** Moves the picture by pixels. */
  pan(dx, dy) {
    this.touched = true;
    this.#glide = null;
    this.x -= dx / this.scale;
    this.y -= dy / this.scale;
    this.#changed();
  }

  /** Zooms at once; the place under `px`, `py` stays there. */
  zoomBy(by, px = this.width / 2, py = this.height / 2) {
    this.touched = true;
    const [x, y] = [this.worldX(px), this.worldY(py)];
    this.zoom = bounded(this.zoom + by);
    this.x = x - (px - this.width / 2) / this.scale;
    this.y = y - (py - this.height / 2) / this.scale;
    this.#changed();
  }

  /** Zooms in the course of the next frames. */
  glideBy(by, px = this.width / 2, py = this.height / 2) {
    this.touched = true;
    this.#glide = { to: bounded((this.#glide?.to ?? this.zoom) + by), px, py };
  }

  /** One frame of a zoom on its way. */
  step(elapsedMs) {
    if (!this.#glide) return;
    const { to, px, py } = this.#glide;
    const left = (to - this.zoom) * Math.exp(-elapsedMs / GLIDE_MS);
    const done = Math.abs(left) < 0.002;
    this.zoomBy(to - this.zoom - (done ? 0 : left), px, py);
    if (done) this.#glide = null;
  }

  /** Whether a zoom is on its way. */
  get glides() {
    return this.#glide !== null;
  }

  lookAt(x, y, zoom = this.zoom) {
    if (x === this.x && y === this.y && zoom === this.zoom) return;
    if (zoom !== this.zoom) this.#glide = null;
    Object.assign(this, { x, y, zoom: bounded(zoom) });
    this.#changed();
  }

  /** Shows a rectangle, given by its middle and its sides, as large as it fits. */
  fit({ x, y, width, height }, zoomMax = 16) {
    const room = Math.min((this.width * 0.86) / Math.max(width, 1e-9), (this.height * 0.86) / Math.max(height, 1e-9));
    this.lookAt(x, y, Math.min(Math.log2(room / SIDE_PX), zoomMax));
  }

  /** What a link to this place ends with. */
  get link() {
    return `#${this.lat.toFixed(LINK_DECIMALS)},${this.lon.toFixed(LINK_DECIMALS)},${this.zoom.toFixed(2)}`;
  }

  /** Goes where a link says; false if it says nothing that makes sense. */
  open(link) {
    const [lat, lon, zoom] = link.replace(/^#/, '').split(',').map(Number.parseFloat);
    if (![lat, lon, zoom].every(Number.isFinite) || Math.abs(lat) > 90 || Math.abs(lon) > 180) return false;
    this.lookAt(xOf(lon), yOf(lat), zoom);
    return true;
  }

  #changed() {
    this.x -= Math.floor(this.x);
    // The poles are no place to look beyond.
    const half = Math.min(this.height / 2 / this.scale, 0.5);
    this.y = Math.min(Math.max(this.y, half), 1 - half);
    this.version += 1;
  }
}

const bounded = (zoom) => Math.min(Math.max(zoom, ZOOM_MIN), ZOOM_MAX);
