// The live map: puts the parts together and draws a frame whenever the browser is ready for one.

import { Camera } from './map/camera.js';
import { Feed, keyOf } from './map/feed.js';
import { COLOURS, Fleet } from './map/fleet.js';
import { steer } from './map/gestures.js';
import { Ground } from './map/ground.js';
import { Rate } from './map/measure.js';
import { areaKm2, wayX, xOf, yOf } from './map/mercator.js';
import { ALERT_MS, Overlay } from './map/overlay.js';
import { Panel } from './map/panel.js';
import { Raster } from './map/raster.js';

/** What is watched is wider than the screen by this part of it on each side, so that little panning shows no border. */
const MARGIN = 0.15;

/** Least time between two views: the gateway takes ten per second, follows included. */
const VIEW_MS = 150;

/** A page that nobody sees watches nothing after this time. */
const HIDDEN_MS = 10_000;

/** A click chooses a vehicle within this distance, pixels. */
const REACH_PX = 18;

/** Numbers are written this often. */
const NUMBERS_MS = 250;

/** Of a machine that draws fewer frames than this per second, fewer pixels are asked. */
const FRAMES_MIN = 24;

/** The address follows what one looks at, this often: browsers allow a hundred changes in half a minute. */
const LINK_MS = 1_000;

/** What is said instead of a view that would be too large. */
const ZOOM_IN = 'Zoom in to see vehicles';

/** As long as nobody is there, one looks again after this time. */
const NOBODY_MS = 5_000;

/** Of latitude; of longitude, at the equator. */
const DEGREES_PER_M = 360 / 40_008_000;

const element = (id) => document.getElementById(id);
const authToken = new URLSearchParams(location.search).get('token');

/** Asks the gateway, with the token that the page was given. */
const ask = (path) => fetch(path, authToken === null ? {} : { headers: { Authorization: `Bearer ${authToken}` } });

const settings = await (await ask('map.json')).json();
const still = matchMedia('(prefers-reduced-motion: reduce)');

const camera = new Camera();
const fleet = new Fleet();
const panel = new Panel();
const ground = new Ground(element('ground'), settings.tileUrl);
const raster = new Raster(element('vehicles'), COLOURS.map((colour) => colour.rgb));
const overlay = new Overlay(element('overlay'));
const frames = new Rate();

const address = new URL(settings.path, location.href);
address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
address.hash = '';

/** Keys of vehicles to the time at which their alert is old. */
const alerts = new Map();
/** Ids of the newest alerts: when hosts reconnect, one may come twice. */
const listed = new Set();
const LISTED_MAX = 1_000;

/** The chosen vehicle: its id, its card's newest words, and whether one goes with it. */
let chosen = null;
let card = null;
let followed = false;

/** The edges that are watched, and the camera's version when they were; null: nothing is watched. */
let viewed = null;
let viewedVersion = -1;
let viewedMs = -Infinity;
let hiddenTimer = null;

/** Whether vehicles are on the screen at all, or how they would be. */
let hint = '';

let withTrails = true;
let shown = 0;
let scriptErrors = 0;
let drawnVersion = -1;
let changedMs = 0;
let frameMs = performance.now();
let numbersMs = 0;
let linkedMs = 0;
/** Pixels of the picture per CSS pixel, at most, and since when. */
let ratioMax = Infinity;
let ratioMs = performance.now();
/** Whether the page looks somewhere on purpose: where a link or the vehicles have led it. */
let begun = false;

const feed = new Feed(address, authToken, fleet, {
  link: (state, text) => panel.link(state, text),
  alert({ id, senderId, ts, via }) {
    if (listed.has(id)) return;
    listed.add(id);
    if (listed.size > LISTED_MAX) listed.delete(listed.values().next().value);
    alerts.set(keyOf(senderId), performance.now() + ALERT_MS);
    const slot = feed.slotOf(senderId);
    const detail = via === 'radio' ? 'by radio' : slot < 0 ? '' : feed.known(slot).driverName;
    panel.alert({ vehicleId: senderId, detail, ts }, () => visit(senderId));
  },
  viewTooLarge: () => endView(ZOOM_IN),
});

function endView(why) {
  if (viewed !== null) feed.view(null);
  viewed = null;
  hint = why;
}

/** Watches what is on the screen and a little around it. */
function view(nowMs) {
  [viewedVersion, viewedMs] = [camera.version, nowMs];
  const edges = [camera.bounds(MARGIN), camera.bounds()].find((area) => areaKm2(area) <= settings.areaKm2Max);
  if (!edges) return endView(ZOOM_IN);
  hint = '';
  viewed = edges;
  feed.view(edges);
}

/** Whether an area given by its edges is within what is watched. */
function isWatched({ south, west, north, east }) {
  const width = (from, to) => (to - from + 360) % 360;
  const within = (lon) => width(viewed.west, lon) <= width(viewed.west, viewed.east);
  return viewed !== null && viewed.south <= south && north <= viewed.north && within(west) && within(east);
}

/** How many are within the radius around a place; NaN where not all of them are watched. */
function near(slot, { lat, lon }, nowMs) {
  const { radiusM } = settings;
  const [high, wide] = [radiusM * DEGREES_PER_M, (radiusM * DEGREES_PER_M) / Math.cos((lat * Math.PI) / 180)];
  const around = { south: lat - high, west: lon - wide, north: lat + high, east: lon + wide };
  return isWatched(around) && !feed.watching.cut ? fleet.around(slot, radiusM, lat, nowMs) : Number.NaN;
}

/** Asks for another view when hands rest, or when what is to be seen is not watched. */
function keepView(nowMs) {
  if (!begun && !camera.touched) return;
  if (viewedVersion === camera.version || nowMs - viewedMs < VIEW_MS || document.hidden) return;
  const rests = nowMs - changedMs >= VIEW_MS && !camera.glides;
  if (rests || !isWatched(camera.bounds())) view(nowMs);
}

function choose(vehicleId) {
  if (followed) feed.follow(null);
  followed = false;
  chosen = vehicleId;
  card = null;
}

function follow(wanted) {
  followed = wanted && chosen !== null;
  feed.follow(followed ? chosen : null);
  return followed;
}

/** Looks at a vehicle, on the screen or not. */
async function visit(vehicleId) {
  choose(vehicleId);
  const slot = feed.slotOf(vehicleId);
  if (slot >= 0) {
    camera.lookAt(fleet.x(slot, performance.now()), fleet.y(slot, performance.now()), Math.max(camera.zoom, 15));
    return;
  }
  const answer = await ask(`vehicles/${encodeURIComponent(vehicleId)}`);
  const { location } = answer.ok ? await answer.json() : {};
  if (location) camera.lookAt(xOf(location.lon), yOf(location.lat), Math.max(camera.zoom, 15));
}

/** The places of all vehicles; null and a hint if there are none. */
async function places() {
  const answer = await ask('vehicles').catch(() => null);
  const vehicles = answer?.ok ? (await answer.json()).vehicles : [];
  const found = vehicles.flatMap(({ location }) => (location ? [location] : []));
  if (found.length > 0) return found;
  hint = answer?.ok ? 'No vehicles yet' : 'The gateway does not list its vehicles';
  return null;
}

/** Shows all of some places, or where most of them are if that is too wide. */
function fit(places) {
  // Longitudes are counted from one of them, so that a fleet at the antimeridian is one.
  const from = xOf(places[0].lon);
  const xs = Float64Array.from(places, ({ lon }) => from + wayX(from, xOf(lon))).sort();
  const ys = Float64Array.from(places, ({ lat }) => yOf(lat)).sort();
  for (const left of [0, 0.02, 0.1, 0.25, 0.4, 0.45]) {
    const cut = Math.floor(places.length * left);
    const [west, east, north, south] = [xs[cut], xs[xs.length - 1 - cut], ys[cut], ys[ys.length - 1 - cut]];
    camera.fit({ x: (west + east) / 2, y: (north + south) / 2, width: east - west, height: south - north });
    if (areaKm2(camera.bounds()) <= settings.areaKm2Max) return;
  }
  // They are all over the world: near the middle one.
  const middle = Math.floor(places.length / 2);
  camera.lookAt(xOf(places[middle].lon), yOf(places[middle].lat), 12);
}

/** Where one begins: at the link's place, or where the vehicles are as soon as there are some. */
async function begin() {
  begun = camera.open(location.hash);
  while (!begun) {
    const found = await places();
    // By hand or by another link somebody has begun meanwhile.
    if (begun || camera.touched) return;
    if (found) fit(found);
    begun = found !== null;
    if (!begun) await new Promise((resolve) => setTimeout(resolve, NOBODY_MS));
  }
}

function resize() {
  const { clientWidth: width, clientHeight: height } = element('map');
  const ratio = Math.min(window.devicePixelRatio, ratioMax);
  camera.resize(width, height);
  for (const layer of [ground, raster, overlay]) layer.resize(width, height, ratio);
}

/** Slots of those that have raised an alert, whatever their last position said. */
function alerting(nowMs) {
  for (const [key, untilMs] of alerts) if (untilMs < nowMs) alerts.delete(key);
  const raised = [...alerts.keys()].map((key) => fleet.slotOf(key)).filter((slot) => slot >= 0);
  return [...new Set([...raised, ...fleet.emergencies])];
}

/** What the chosen vehicle's card says; of one that has gone, what it said last. */
function cardOf(slot, nowMs) {
  if (slot < 0) return card && { ...card, lost: true, followed };
  const known = feed.known(slot);
  return { ...known, near: near(slot, known, nowMs), radiusM: settings.radiusM, followed, lost: false };
}

function frame(nowMs) {
  requestAnimationFrame(frame);
  frames.add(nowMs);
  camera.step(nowMs - frameMs);
  frameMs = nowMs;

  const slot = chosen === null ? -1 : feed.slotOf(chosen);
  if (followed && slot >= 0) camera.lookAt(fleet.x(slot, nowMs), fleet.y(slot, nowMs));
  if (camera.version !== drawnVersion) changedMs = nowMs;
  keepView(nowMs);

  ground.draw(camera);
  if (fleet.count > 0 || shown > 0 || camera.version !== drawnVersion) {
    shown = fleet.draw(raster, camera, nowMs, withTrails);
  }
  const above = { chosen: slot, radiusM: settings.radiusM, alerts: alerting(nowMs), shown, still: still.matches };
  overlay.draw(camera, fleet, { ...above, nameOf: (one) => feed.nameOf(one) }, nowMs);
  drawnVersion = camera.version;

  if (nowMs - numbersMs >= NUMBERS_MS) {
    numbersMs = nowMs;
    card = cardOf(slot, nowMs);
    panel.vehicle(card);
    panel.numbers(numbers());
    panel.notice(hint);
    panel.scale(camera);
    keepLink(nowMs);
    keepPace(nowMs);
  }
}

/** Where no graphics card helps, a fine screen's pixels are too many: coarser ones then, down to CSS pixels. */
function keepPace(nowMs) {
  if (nowMs - ratioMs < 4_000 || document.hidden) return;
  ratioMs = nowMs;
  const ratio = Math.min(window.devicePixelRatio, ratioMax);
  if (ratio <= 1 || frames.perSecond(nowMs) >= FRAMES_MIN) return;
  ratioMax = Math.max(ratio / 2, 1);
  resize();
}

/** Lets the address say where one looks, once one has begun to. */
function keepLink(nowMs) {
  if (viewedMs < 0 || nowMs - linkedMs < LINK_MS || camera.link === location.hash) return;
  linkedMs = nowMs;
  history.replaceState(null, '', location.pathname + location.search + camera.link);
}

/** What the gateway leaves out of a view with very many vehicles. */
function noteOf({ tiered, cut }) {
  if (cut) return `Shown: the ${settings.vehiclesMax} nearest to the middle`;
  return tiered ? `Live: the ${settings.nearest} nearest to the middle; others every ${settings.restMs / 1_000} s` : '';
}

function numbers() {
  const nowMs = performance.now();
  const { complete, tiered, cut } = feed.watching;
  const [latencyP50, latencyP99] = feed.latency.quantiles(nowMs, [0.5, 0.99]);
  return {
    /** On the screen; null while nothing is watched. */
    vehicles: viewed === null ? null : shown,
    /** On the screen and around it. */
    watched: fleet.count,
    framesPerSecond: frames.perSecond(nowMs),
    stateFramesPerSecond: feed.stateFrames.perSecond(nowMs),
    recordsPerSecond: feed.records.perSecond(nowMs),
    latencyP50,
    latencyP99,
    clockMs: feed.clockMs,
    errors: feed.errors + scriptErrors,
    lastError: feed.lastError,
    view: viewed,
    complete,
    epoch: feed.epoch,
    tiered,
    cut,
    note: noteOf(feed.watching),
  };
}

for (const name of ['error', 'unhandledrejection']) window.addEventListener(name, () => (scriptErrors += 1));
window.addEventListener('resize', resize);
window.addEventListener('hashchange', () => (begun = camera.open(location.hash) || begun));
document.addEventListener('visibilitychange', () => {
  clearTimeout(hiddenTimer);
  if (document.hidden) hiddenTimer = setTimeout(() => endView(''), HIDDEN_MS);
  else if (viewed === null) viewedVersion = -1;
});

steer(element('map'), camera, {
  dragged() {
    if (followed) follow(false);
  },
  clicked(px, py) {
    const slot = fleet.at(camera, px, py, REACH_PX, performance.now());
    choose(slot < 0 ? null : feed.known(slot).vehicleId);
  },
});
panel.button('zoom-in', () => camera.glideBy(1));
panel.button('zoom-out', () => camera.glideBy(-1));
panel.button('fit', async () => {
  const found = await places();
  if (found) fit(found);
});
panel.button('trails', (on) => (withTrails = on));
panel.button('vehicle-follow', follow);
panel.button('vehicle-close', () => choose(null));
panel.legend(COLOURS.filter((colour) => colour.label));
panel.attribution(settings.tileUrl ? settings.tileAttribution : '');

/** The page's numbers, for tests and operators. */
Object.defineProperty(window, 'ringroadMap', { get: () => Object.freeze(numbers()) });

resize();
requestAnimationFrame(frame);
await begin();
