// What lies below the vehicles: raster tiles where the operator has some, and otherwise a grid of degrees.

import { latOf, latText, lonOf, lonText, wayX, xOf, yOf } from './mercator.js';

/** Raster tiles exist up to this zoom; beyond it they are enlarged. */
const TILE_ZOOM_MAX = 19;
const TILE_PX = 256;

/** Tiles kept, used or not, and those that are asked for at a time. */
const TILES_MAX = 384;
const LOADING_MAX = 8;

/** Steps of the grid, degrees; the least that leaves this much room between two lines is taken. */
const STEPS = [30, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002];
const LINE_PX = 150;

/** Labels of latitudes stay out from below the buttons in the corner, pixels. */
const BUTTONS_PX = 210;

export class Ground {
  #canvas;
  #context;
  #tileUrl;
  /** Address to image, in the order of their last use. */
  #tiles = new Map();
  #loading = 0;
  #drawn = -1;
  #ratio = 1;

  constructor(canvas, tileUrl) {
    this.#canvas = canvas;
    this.#context = canvas.getContext('2d', { alpha: false });
    this.#tileUrl = tileUrl;
  }

  resize(width, height, ratio) {
    Object.assign(this.#canvas, { width: width * ratio, height: height * ratio });
    this.#ratio = ratio;
    this.#drawn = -1;
  }

  /** Draws what lies below, if one looks elsewhere than before. */
  draw(camera) {
    if (this.#drawn === camera.version) return;
    this.#drawn = camera.version;
    const context = this.#context;
    context.setTransform(this.#ratio, 0, 0, this.#ratio, 0, 0);
    context.fillStyle = '#0a0e14';
    context.fillRect(0, 0, camera.width, camera.height);
    if (this.#tileUrl) this.#drawTiles(camera);
    else this.#drawGrid(camera);
  }

  #drawGrid(camera) {
    const context = this.#context;
    const { width, height } = camera;
    const perDegree = camera.scale / 360;
    const step = STEPS.findLast((degrees) => degrees * perDegree >= LINE_PX) ?? STEPS[0];
    const decimals = Math.max(0, Math.ceil(-Math.log10(step)));
    const lines = { minor: new Path2D(), major: new Path2D() };
    const labels = [];

    const west = (camera.worldX(0) - 0.5) * 360;
    const east = (camera.worldX(width) - 0.5) * 360;
    for (let n = Math.ceil(west / (step / 5)); n * (step / 5) <= east; n += 1) {
      const lon = n * (step / 5);
      const px = Math.round((xOf(lon) - camera.x) * camera.scale + width / 2) + 0.5;
      const path = n % 5 === 0 ? lines.major : lines.minor;
      path.moveTo(px, 0);
      path.lineTo(px, height);
      if (n % 5 === 0) labels.push([lonText(lonOf(xOf(lon)), decimals), px, height - 12, 'center']);
    }
    const south = latOf(camera.worldY(height));
    const north = latOf(camera.worldY(0));
    for (let n = Math.ceil(south / (step / 5)); n * (step / 5) <= north; n += 1) {
      const lat = n * (step / 5);
      const py = Math.round(camera.screenY(yOf(lat))) + 0.5;
      const path = n % 5 === 0 ? lines.major : lines.minor;
      path.moveTo(0, py);
      path.lineTo(width, py);
      if (n % 5 === 0 && py > BUTTONS_PX) labels.push([latText(lat, decimals), width - 12, py, 'right']);
    }

    context.lineWidth = 1;
    context.strokeStyle = '#101721';
    context.stroke(lines.minor);
    context.strokeStyle = '#1a2432';
    context.stroke(lines.major);
    context.font = '11px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace';
    context.textBaseline = 'middle';
    for (const [text, x, y, align] of labels) {
      context.textAlign = align;
      const half = context.measureText(text).width + 12;
      context.fillStyle = '#0a0e14';
      context.fillRect(align === 'right' ? x - half + 6 : x - half / 2, y - 9, half, 18);
      context.fillStyle = '#5a6a80';
      context.fillText(text, x, y);
    }
  }

  #drawTiles(camera) {
    const context = this.#context;
    const z = Math.min(Math.max(Math.round(camera.zoom), 0), TILE_ZOOM_MAX);
    const count = 2 ** z;
    const side = camera.scale / count;
    const left = Math.floor(camera.worldX(0) * count);
    const right = Math.floor(camera.worldX(camera.width) * count);
    const top = Math.max(Math.floor(camera.worldY(0) * count), 0);
    const bottom = Math.min(Math.floor(camera.worldY(camera.height) * count), count - 1);
    const missing = [];
    for (let y = top; y <= bottom; y += 1) {
      for (let x = left; x <= right; x += 1) {
        const px = (x / count - camera.x) * camera.scale + camera.width / 2;
        const py = camera.screenY(y / count);
        const at = ((x % count) + count) % count;
        if (!this.#drawTile(z, at, y, px, py, side)) {
          missing.push([Math.hypot(px - camera.width / 2, py - camera.height / 2), z, at, y]);
        }
      }
    }
    // Streets are to be seen, not to shine: the vehicles are brighter.
    context.fillStyle = 'rgb(8 12 18 / 58%)';
    context.fillRect(0, 0, camera.width, camera.height);
    missing.sort(([a], [b]) => a - b).forEach(([, ...tile]) => this.#load(...tile));
  }

  /** Draws a tile, or as long as it is not there the part of a coarser one; whether it was there. */
  #drawTile(z, x, y, px, py, side) {
    for (let up = 0; up <= Math.min(z, 4); up += 1) {
      const address = this.#address(z - up, x >> up, y >> up);
      const tile = this.#tiles.get(address);
      if (!tile?.ready) continue;
      this.#tiles.delete(address);
      this.#tiles.set(address, tile);
      const part = TILE_PX / 2 ** up;
      const [fromX, fromY] = [(x % 2 ** up) * part, (y % 2 ** up) * part];
      this.#context.drawImage(tile.image, fromX, fromY, part, part, px, py, side + 0.5, side + 0.5);
      return up === 0;
    }
    return false;
  }

  #load(z, x, y) {
    const address = this.#address(z, x, y);
    if (this.#tiles.has(address) || this.#loading >= LOADING_MAX) return;
    const tile = { image: new Image(), ready: false };
    this.#tiles.set(address, tile);
    this.#loading += 1;
    const loaded = (ready) => {
      tile.ready = ready;
      this.#loading -= 1;
      this.#drawn = -1;
    };
    tile.image.addEventListener('load', () => loaded(true));
    // It stays as missing, and is not asked for again while it is kept.
    tile.image.addEventListener('error', () => loaded(false));
    tile.image.src = address;
    for (const [oldest] of this.#tiles) {
      if (this.#tiles.size <= TILES_MAX) break;
      this.#tiles.delete(oldest);
    }
  }

  #address(z, x, y) {
    return this.#tileUrl.replaceAll('{z}', z).replaceAll('{x}', x).replaceAll('{y}', y);
  }
}
