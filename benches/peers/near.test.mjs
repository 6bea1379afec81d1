// The index finds whom a look at everybody finds.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Near } from './near.mjs';

const RADIUS_M = 500;
/** The haversine's sphere is not WGS84: nothing is said of who is this near the edge, metres. */
const UNDECIDED_M = 5;
const PLACES = [
  ['Austin', 30.2672, -97.7431],
  ['the equator', 0, 10],
  ['the date line', 52, 180],
  ['Svalbard', 78.2, 15.6],
  ['Cape Horn', -55.98, -67.27],
];

for (const [name, lat, lon] of PLACES) {
  test(name, () => {
    const roll = dice(7);
    const near = new Near(RADIUS_M);
    // A square of 3 km, about.
    const latSpan = 3 / 111;
    const lonSpan = latSpan / Math.cos((lat * Math.PI) / 180);
    const anywhere = () => [lat + (roll() - 0.5) * latSpan, wrapped(lon + (roll() - 0.5) * lonSpan)];
    const vehicles = Array.from({ length: 400 }, () => ({ cell: null, slot: 0 }));
    for (const vehicle of vehicles) near.move(vehicle, ...anywhere());
    // Some move on, some leave.
    for (const vehicle of vehicles.slice(0, 200)) near.move(vehicle, ...anywhere());
    for (const vehicle of vehicles.splice(0, 50)) near.remove(vehicle);
    let pairs = 0;
    for (const vehicle of vehicles) {
      const found = new Set(near.around(vehicle));
      pairs += found.size;
      assert.equal(found.has(vehicle), false);
      for (const other of vehicles) {
        const distanceM = haversineM(vehicle, other);
        if (other === vehicle || Math.abs(distanceM - RADIUS_M) < UNDECIDED_M) continue;
        assert.equal(found.has(other), distanceM < RADIUS_M, `${distanceM} m`);
        found.delete(other);
      }
      for (const other of found) assert.ok(Math.abs(haversineM(vehicle, other) - RADIUS_M) < UNDECIDED_M, 'somebody who left');
    }
    assert.ok(pairs > vehicles.length * 10);
  });
}

function wrapped(lon) {
  return lon > 180 ? lon - 360 : lon;
}

function haversineM(one, other) {
  const radians = Math.PI / 180;
  const sineOf = (degrees) => Math.sin((degrees * radians) / 2) ** 2;
  const cosines = Math.cos(one.lat * radians) * Math.cos(other.lat * radians);
  const half = sineOf(other.lat - one.lat) + cosines * sineOf(other.lon - one.lon);
  return 2 * 6_371_009 * Math.asin(Math.sqrt(half));
}

/** Numbers from 0 to 1, the same in every run: xorshift32. */
function dice(seed) {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
