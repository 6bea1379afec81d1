// What is drawn above the vehicles and is never much: the chosen one with its radius, alerts, names.

import { metresPerSide } from './mercator.js';

/** An alert is ringed for this long after it was raised: as long as the gateway marks its sender's positions. */
export const ALERT_MS = 60_000;

/** Names are shown from this zoom on, if there are not more vehicles than this. */
const NAMES_ZOOM = 14.5;
const NAMES_MAX = 60;

const PULSE_MS = 1_400;

export class Overlay {
  #canvas;
  #context;
  #ratio = 1;
  #empty = true;

  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = canvas.getContext('2d');
  }

  resize(width, height, ratio) {
    Object.assign(this.#canvas, { width: width * ratio, height: height * ratio });
    this.#ratio = ratio;
  }

  /**
   * `chosen` is a slot or −1; `alerts` are slots; `nameOf` gives a slot's name.
   */
  draw(camera, fleet, { chosen, radiusM, alerts, shown, nameOf, still }, nowMs) {
    const withNames = camera.zoom >= NAMES_ZOOM && shown <= NAMES_MAX;
    if (this.#empty && chosen < 0 && alerts.length === 0 && !withNames) return;
    const context = this.#context;
    context.setTransform(this.#ratio, 0, 0, this.#ratio, 0, 0);
    context.clearRect(0, 0, camera.width, camera.height);
    this.#empty = true;
    const place = (slot) => [camera.screenX(fleet.x(slot, nowMs)), camera.screenY(fleet.y(slot, nowMs))];
    if (withNames) this.#names(camera, fleet, place, nameOf);
    for (const slot of alerts) this.#alert(place(slot), still ? 0.5 : (nowMs % PULSE_MS) / PULSE_MS);
    if (chosen >= 0) this.#chosen(place(chosen), (radiusM / metresPerSide(camera.lat)) * camera.scale);
  }

  #names(camera, fleet, place, nameOf) {
    const context = this.#context;
    context.font = '11px system-ui, sans-serif';
    context.textAlign = 'left';
    context.textBaseline = 'middle';
    context.lineJoin = 'round';
    context.lineWidth = 3;
    context.strokeStyle = 'rgb(8 12 18 / 85%)';
    context.fillStyle = '#aebccf';
    fleet.each((slot) => {
      const [x, y] = place(slot);
      if (x < -100 || y < -20 || x > camera.width || y > camera.height + 20) return;
      this.#empty = false;
      context.strokeText(nameOf(slot), x + 14, y);
      context.fillText(nameOf(slot), x + 14, y);
    });
  }

  #alert([x, y], phase) {
    this.#empty = false;
    for (const part of [phase, (phase + 0.5) % 1]) this.#ring(x, y, 8 + 30 * part, `rgb(255 77 94 / ${1 - part})`, 2.5);
  }

  #chosen([x, y], radiusPx) {
    this.#empty = false;
    this.#ring(x, y, 15, '#ffffff', 2);
    const context = this.#context;
    context.beginPath();
    context.arc(x, y, radiusPx, 0, 2 * Math.PI);
    context.fillStyle = 'rgb(82 182 255 / 7%)';
    context.fill();
    context.setLineDash([5, 5]);
    this.#ring(x, y, radiusPx, 'rgb(82 182 255 / 70%)', 1.25);
    context.setLineDash([]);
  }

  #ring(x, y, radius, style, width) {
    const context = this.#context;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.strokeStyle = style;
    context.lineWidth = width;
    context.stroke();
  }
}
