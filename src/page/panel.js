// The words and numbers beside the map. Nothing of it is drawn more often than it can be read.

import { latText, lonText, metresPerSide, metresText, roundBelow } from './mercator.js';

/** Alerts that are listed; the newest come first. */
const ALERTS_MAX = 50;

/** Widest scale bar, CSS pixels. */
const SCALE_PX = 120;

const of = (id) => document.getElementById(id);

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const whole = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 0 });
// A thin space between thousands, the minus that is as wide as a plus, and no minus before nothing.
const number = (value) => whole.format(Math.round(value) || 0).replaceAll(',', '\u2009').replace('-', '−');

function milliseconds(value) {
  if (Number.isNaN(value)) return '–';
  return Math.abs(value) < 9_950 ? `${number(value)} ms` : `${number(value / 1_000)} s`;
}

/** Shows or hides; whether it is shown. */
function show(element, shown) {
  element.hidden = !shown;
  return shown;
}

export class Panel {
  #fields = new Map();

  #of(id) {
    if (!this.#fields.has(id)) this.#fields.set(id, of(id));
    return this.#fields.get(id);
  }

  /** `colours` have a `label` and `rgb`. */
  legend(colours) {
    for (const { label, rgb } of colours) {
      const [item, dot] = [document.createElement('li'), document.createElement('i')];
      dot.style.background = `rgb(${rgb.join(' ')})`;
      item.append(dot, label);
      this.#of('legend').append(item);
    }
  }

  link(state, text) {
    this.#of('link').dataset.state = state;
    say(this.#of('link').querySelector('span'), text);
  }

  numbers(numbers) {
    const { vehicles, note, latencyP50, latencyP99, clockMs } = numbers;
    const set = (id, text) => say(this.#of(id), text);
    set('count', vehicles === null ? '–' : number(vehicles));
    set('count-of', vehicles === 1 ? 'vehicle in view' : 'vehicles in view');
    if (show(this.#of('note'), note !== '')) set('note', note);
    set('latency-p50', milliseconds(latencyP50));
    set('latency-p99', milliseconds(latencyP99));
    set('records', `${number(numbers.recordsPerSecond)}/s`);
    set('states', `${number(numbers.stateFramesPerSecond)}/s`);
    set('frames', `${number(numbers.framesPerSecond)}/s`);
    // The latency is corrected by it: it is what this computer's clock is ahead of the gateway's.
    set('clock', `${clockMs >= 0.5 ? '+' : ''}${milliseconds(clockMs)}`);
  }

  /** What stands below the middle of the map; nothing if empty. */
  notice(text) {
    if (show(this.#of('notice'), text !== '')) say(this.#of('notice'), text);
  }

  scale(camera) {
    const metresPerPixel = metresPerSide(camera.lat) / camera.scale;
    const metres = roundBelow(SCALE_PX * metresPerPixel);
    const [text, bar] = this.#of('scale').children;
    say(text, metresText(metres));
    bar.style.width = `${metres / metresPerPixel}px`;
  }

  attribution(text) {
    say(this.#of('attribution'), text);
  }

  /** A new alert at the head of the list; `chosen()` when somebody asks for its vehicle. */
  alert({ vehicleId, detail, ts }, chosen) {
    this.#of('alerts').hidden = false;
    const list = this.#of('alerts').querySelector('ol');
    const part = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
    const button = Object.assign(document.createElement('button'), { type: 'button' });
    const time = part('time', new Date(ts).toLocaleTimeString('en-GB'));
    button.append(part('span', vehicleId), time, part('small', detail));
    button.addEventListener('click', chosen);
    const item = document.createElement('li');
    item.append(button);
    list.prepend(item);
    while (list.children.length > ALERTS_MAX) list.lastChild.remove();
  }

  /** The chosen vehicle's card, or none. */
  vehicle(vehicle) {
    if (!show(this.#of('vehicle'), vehicle !== null)) return;
    const set = (id, text) => say(this.#of(`vehicle-${id}`), text);
    const known = (value, text) => (Number.isNaN(value) ? '–' : text(value));
    const { licensePlate, model, color } = vehicle.vehicleInfo;
    const info = [model, color, licensePlate].filter(Boolean).join(' · ');
    set('id', vehicle.vehicleId);
    set('driver', vehicle.driverName);
    set('speed', known(vehicle.speed, (speed) => (speed * 3.6).toFixed(0)));
    set('heading', known(vehicle.heading, (heading) => `${Math.round(heading) % 360}° ${compass(heading)}`));
    set('updated', vehicle.agoMs < 1_500 ? 'now' : `${number(vehicle.agoMs / 1_000)} s ago`);
    set('accuracy', known(vehicle.accuracy, (accuracy) => `${accuracy.toFixed(1)} m`));
    set('radius', `Within ${metresText(vehicle.radiusM)}`);
    set('near', known(vehicle.near, number));
    set('position', `${latText(vehicle.lat, 5)}, ${lonText(vehicle.lon, 5)}`);
    if (show(this.#of('vehicle-info-row'), info !== '')) set('info', info);
    set('follow', vehicle.followed ? 'Following' : 'Follow');
    this.#of('vehicle-follow').setAttribute('aria-pressed', String(vehicle.followed));
    this.#of('vehicle').classList.toggle('lost', vehicle.lost);
    if (vehicle.lost) set('updated', 'gone');
  }

  /** Lets a button do something. One that is a switch is given its new state. */
  button(id, act) {
    const button = this.#of(id);
    button.addEventListener('click', () => {
      const pressed = button.getAttribute('aria-pressed');
      if (pressed === null) act();
      else button.setAttribute('aria-pressed', String(act(pressed !== 'true')));
    });
  }
}

const compass = (heading) => ['N', 'NE', 'E', 'SE', 'S', 'SW', 'W', 'NW'][Math.round(heading / 45) % 8];
