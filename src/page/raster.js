// Pixels, written by hand into one image per frame.
//
// Ten thousand pictures drawn one by one keep a canvas busy for 25 to 45 ms where no graphics card helps; the same
// pixels copied here, from pictures that were drawn once in each direction, take 4 ms everywhere.

/** Directions in which a vehicle's picture exists. */
export const HEADINGS = 64;

/** The picture of a vehicle whose heading is unknown comes after them. */
export const NO_HEADING = HEADINGS;

const LOOKS = HEADINGS + 1;

/** Pixels that are drawn at most; of a larger screen every second one or fewer is, and the browser widens them. */
const PIXELS_MAX = 6_000_000;

/** A trail's pixel has one of this many strengths. */
const STRENGTHS = 16;

/** Packed pixels are ABGR on every machine that browsers run on. */
const packed = ([red, green, blue], alpha) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;

/** Places one pixel over another, both packed and neither opaque nor empty. */
function over(top, below) {
  const topAlpha = top >>> 24;
  const belowAlpha = below >>> 24;
  const rest = (belowAlpha * (255 - topAlpha)) / 255;
  const alpha = topAlpha + rest;
  const channel = (shift) => (((top >>> shift) & 255) * topAlpha + ((below >>> shift) & 255) * rest) / alpha;
  return ((alpha << 24) | (channel(16) << 16) | (channel(8) << 8) | channel(0)) >>> 0;
}

export class Raster {
  #canvas;
  #context;
  #image;
  #pixels;
  #trails;
  #width = 0;
  #height = 0;
  #colours;
  #strengths;
  /** Pictures by size in pixels. */
  #pictures = new Map();
  /** Pixels of the image per CSS pixel. */
  ratio = 1;

  /** `colours` are `[red, green, blue]`; vehicles are drawn in one of them by its number. */
  constructor(canvas, colours) {
    this.#canvas = canvas;
    this.#context = canvas.getContext('2d', { willReadFrequently: true });
    this.#colours = colours;
    const strength = (colour, n) => packed(colour, Math.round((n / (STRENGTHS - 1)) * 150));
    this.#strengths = colours.map((colour) => Uint32Array.from({ length: STRENGTHS }, (_, n) => strength(colour, n)));
  }

  resize(width, height, ratio) {
    this.ratio = Math.min(ratio, Math.sqrt(PIXELS_MAX / (width * height)));
    this.#width = Math.max(Math.round(width * this.ratio), 1);
    this.#height = Math.max(Math.round(height * this.ratio), 1);
    Object.assign(this.#canvas, { width: this.#width, height: this.#height });
    this.#image = this.#context.createImageData(this.#width, this.#height);
    this.#pixels = new Uint32Array(this.#image.data.buffer);
    this.#trails = new Uint32Array(this.#pixels.length);
    this.#pictures.clear();
  }

  /** Begins a frame with the trails as they are, or with nothing. */
  begin(withTrails) {
    if (withTrails) this.#pixels.set(this.#trails);
    else this.#pixels.fill(0);
  }

  /** Shows the frame. */
  end() {
    this.#context.putImageData(this.#image, 0, 0);
  }

  eraseTrails() {
    this.#trails.fill(0);
  }

  /**
   * A piece of a trail between two places in CSS pixels. `strength` is 0 to 1; where two cross, the stronger shows.
   * `wide`: two pixels across and not one.
   */
  trail(colour, strength, wide, x0, y0, x1, y1) {
    const value = this.#strengths[colour][Math.min((strength * STRENGTHS) | 0, STRENGTHS - 1)];
    const alpha = value >>> 24;
    const trails = this.#trails;
    const width = this.#width;
    const height = this.#height;
    let x = x0 * this.ratio;
    let y = y0 * this.ratio;
    const dx = x1 * this.ratio - x;
    const dy = y1 * this.ratio - y;
    const steps = Math.max(Math.ceil(Math.max(Math.abs(dx), Math.abs(dy))), 1);
    // Longer than the screen is wide: a vehicle that jumped.
    if (steps > width + height) return;
    const stepX = dx / steps;
    const stepY = dy / steps;
    const across = Math.abs(dx) > Math.abs(dy) ? width : 1;
    for (let n = 0; n <= steps; n += 1, x += stepX, y += stepY) {
      if (x < 0 || y < 0 || x >= width || y >= height) continue;
      const at = (y | 0) * width + (x | 0);
      if (trails[at] >>> 24 < alpha) trails[at] = value;
      if (wide && trails[at + across] >>> 24 < alpha) trails[at + across] = value;
    }
  }

  /** The pictures for a size in CSS pixels, drawn when first asked for. */
  pictures(size) {
    const side = Math.max(Math.round(size * this.ratio), 3);
    let pictures = this.#pictures.get(side);
    if (!pictures) {
      pictures = new Pictures(side, this.#colours, this.#width);
      this.#pictures.set(side, pictures);
    }
    return pictures;
  }

  /** One vehicle, its middle at a place in CSS pixels. */
  picture(pictures, colour, look, x, y) {
    const { half, starts, clears, offsets, values } = pictures;
    const px = Math.floor(x * this.ratio);
    const py = Math.floor(y * this.ratio);
    const pixels = this.#pixels;
    const width = this.#width;
    const height = this.#height;
    if (px < half || py < half || px >= width - half || py >= height - half) {
      this.#cut(pictures, colour * LOOKS + look, px, py);
      return;
    }
    const which = colour * LOOKS + look;
    const base = py * width + px;
    const clear = clears[which];
    const end = starts[which + 1];
    for (let n = starts[which]; n < clear; n += 1) pixels[base + offsets[n]] = values[n];
    for (let n = clear; n < end; n += 1) {
      const at = base + offsets[n];
      const below = pixels[at];
      pixels[at] = below === 0 ? values[n] : over(values[n], below);
    }
  }

  /** The same at the border of the image. */
  #cut({ half, starts, clears, offsets, values }, which, px, py) {
    const pixels = this.#pixels;
    const width = this.#width;
    const height = this.#height;
    if (px < -half || py < -half || px >= width + half || py >= height + half) return;
    for (let n = starts[which]; n < starts[which + 1]; n += 1) {
      const dy = Math.floor((offsets[n] + half) / width);
      const x = px + offsets[n] - dy * width;
      const y = py + dy;
      if (x < 0 || y < 0 || x >= width || y >= height) continue;
      const below = pixels[y * width + x];
      pixels[y * width + x] = n < clears[which] || below === 0 ? values[n] : over(values[n], below);
    }
  }
}

/**
 * One size of all vehicles' pictures: each a list of pixels, as offsets from the picture's middle in the image. They
 * lie from `starts` of a picture to that of the next; the opaque ones come first, up to its `clears`.
 */
class Pictures {
  constructor(side, colours, imageWidth) {
    // With its dark rim, and turned: nothing may touch the border.
    const cell = Math.ceil(side * 1.5) | 1;
    this.half = (cell - 1) / 2;
    const canvas = new OffscreenCanvas(cell, cell);
    const context = canvas.getContext('2d', { willReadFrequently: true });
    this.starts = new Uint32Array(colours.length * LOOKS + 1);
    this.clears = new Uint32Array(colours.length * LOOKS);
    const [offsets, values] = [[], []];
    colours.forEach((colour, c) => {
      for (let look = 0; look < LOOKS; look += 1) {
        context.clearRect(0, 0, cell, cell);
        context.save();
        context.translate(cell / 2, cell / 2);
        paint(context, side, colour, look);
        context.restore();
        const pixels = new Uint32Array(context.getImageData(0, 0, cell, cell).data.buffer);
        const keep = (isWanted) =>
          pixels.forEach((value, n) => {
            if (!isWanted(value >>> 24)) return;
            offsets.push((Math.floor(n / cell) - this.half) * imageWidth + (n % cell) - this.half);
            values.push(value);
          });
        keep((alpha) => alpha === 255);
        this.clears[c * LOOKS + look] = offsets.length;
        keep((alpha) => alpha >= 8 && alpha < 255);
        this.starts[c * LOOKS + look + 1] = offsets.length;
      }
    });
    this.offsets = Int32Array.from(offsets);
    this.values = Uint32Array.from(values);
  }
}

/** An arrow that points to its heading, or a dot. */
function paint(context, side, colour, look) {
  const [length, width] = [side / 2, side * 0.36];
  context.beginPath();
  if (look === NO_HEADING) {
    context.arc(0, 0, side * 0.3, 0, 2 * Math.PI);
  } else {
    context.rotate((look / HEADINGS) * 2 * Math.PI);
    context.moveTo(0, -length);
    context.lineTo(width, length * 0.92);
    context.lineTo(0, length * 0.5);
    context.lineTo(-width, length * 0.92);
    context.closePath();
  }
  context.lineJoin = 'round';
  context.lineWidth = Math.max(side * 0.2, 1.5);
  context.strokeStyle = 'rgb(9 13 20)';
  context.stroke();
  context.fillStyle = `rgb(${colour.join(' ')})`;
  context.fill();
}
