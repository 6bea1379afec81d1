// The vehicles in view: rows, who they are, who has gone, and what is complete.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { EMERGENCY, GONE, RingroadError, StateFrame, Vehicles, key } from '../ringroad.js';
import { dice, frame, record } from './bytes.js';

const scratch = new StateFrame();

/** Takes in a frame of these records; what is gone with it. */
function apply(vehicles, records, header) {
  const gone = [];
  assert.equal(scratch.read(frame(records, header)), true);
  vehicles.apply(scratch, (vehicle) => gone.push(vehicle));
  return gone;
}

function identity(vehicleId, driverName = `driver of ${vehicleId}`) {
  const hex = key(vehicleId).toString(16).padStart(16, '0');
  return { key: hex, vehicleId, driverName, vehicleInfo: { color: 'red' } };
}

test('the newest state of each vehicle is there under its id', () => {
  const vehicles = new Vehicles();
  vehicles.identify(identity('bus-7'));
  apply(vehicles, [record(key('bus-7'), { lat: 10, lon: 20 }), record(key('bus-8'), { lat: 30, lon: 40 })]);
  apply(vehicles, [record(key('bus-7'), { lat: 50, lon: 60, speed: 50, flags: EMERGENCY })]);
  assert.equal(vehicles.size, 2);
  const { vehicleId, driverName, vehicleInfo, lat, lon, speed, flags, heading } = vehicles.get('bus-7');
  assert.deepEqual(
    { vehicleId, driverName, vehicleInfo, lat, lon, speed, flags, heading },
    {
      vehicleId: 'bus-7', driverName: 'driver of bus-7', vehicleInfo: { color: 'red' },
      lat: 50e-7, lon: 60e-7, speed: 1, flags: EMERGENCY, heading: NaN,
    },
  );
  assert.deepEqual([vehicles.has('bus-8'), vehicles.has('bus-9'), vehicles.get('bus-9')], [true, false, undefined]);
  assert.equal(vehicles.get('bus-8').vehicleId, null);
  assert.deepEqual([...vehicles].map((vehicle) => vehicle.key).sort(), ['49dd0bc730d4b723', 'db5ed3a38eb1f57b']);
});

test('who has gone is told once, by name, and only if it was there', () => {
  const vehicles = new Vehicles();
  vehicles.identify(identity('bus-7'));
  const all = ['bus-7', 'bus-8', 'bus-9'].map(key);
  apply(vehicles, all.map((each, n) => record(each, { lat: n, lon: n })));
  const leaves = all.slice(0, 2).map((each) => record(each, { flags: GONE }));
  assert.deepEqual(apply(vehicles, leaves), [
    { key: '49dd0bc730d4b723', vehicleId: 'bus-7' },
    { key: 'db5ed3a38eb1f57b', vehicleId: null },
  ]);
  assert.deepEqual([vehicles.size, vehicles.row('bus-9'), vehicles.lat[0]], [1, 0, 2e-7]);
  assert.deepEqual(apply(vehicles, leaves), []);
});

test('an identity is told once and holds for who comes back, also when it changes meanwhile', () => {
  const vehicles = new Vehicles();
  const here = [record(key('bus-7'), { lat: 1, lon: 1 })];
  const leaves = [record(key('bus-7'), { flags: GONE })];
  vehicles.identify(identity('bus-7', 'Ada'));
  apply(vehicles, here);
  apply(vehicles, leaves);
  apply(vehicles, here);
  assert.equal(vehicles.get('bus-7').driverName, 'Ada');
  vehicles.identify(identity('bus-7', 'Grace'));
  assert.equal(vehicles.identity(vehicles.row('bus-7')).driverName, 'Grace');
  apply(vehicles, leaves);
  assert.equal(vehicles.identity(0), null);
  vehicles.identify(identity('bus-7', 'Edsger'));
  apply(vehicles, here);
  assert.equal(vehicles.get('bus-7').driverName, 'Edsger');
});

test('complete is what belongs to the newest view', () => {
  const vehicles = new Vehicles();
  assert.equal(vehicles.complete, false);
  vehicles.watching({ epoch: 65_537, cut: true });
  assert.deepEqual([vehicles.epoch, vehicles.cut, vehicles.complete], [1, true, false]);
  apply(vehicles, [], { flags: 1, epoch: 0 });
  assert.equal(vehicles.complete, false, 'of another epoch');
  apply(vehicles, [record(1n)], { flags: 2, epoch: 1 });
  assert.deepEqual([vehicles.complete, vehicles.tiered, vehicles.cut], [false, true, false]);
  apply(vehicles, [], { flags: 1 | 4, epoch: 1 });
  assert.deepEqual([vehicles.complete, vehicles.tiered, vehicles.cut], [true, false, true]);
  apply(vehicles, [record(1n)], { epoch: 1 });
  assert.equal(vehicles.complete, true, 'it stays so');
  vehicles.watching({ epoch: 2, cut: false });
  assert.equal(vehicles.complete, false);
});

test('thousands that come and go are those that a Map has', () => {
  const roll = dice(42);
  const vehicles = new Vehicles();
  const expected = new Map();
  // Few bits that differ, so that many collide, in the lower half, the upper half or both.
  const keys = Array.from({ length: 6_000 }, (_, n) => BigInt(n >> 6) << 32n | BigInt(n & 63));
  let most = 0;
  for (let round = 0; round < 400; round++) {
    const growing = round % 100 < 60;
    const records = new Map();
    for (let each = roll(120); each >= 0; each--) {
      const vehicleKey = keys[roll(keys.length)];
      records.set(vehicleKey, roll(10) < (growing ? 1 : 9) ? null : { lat: roll(1_000), lon: round });
    }
    const goes = [...records].filter(([each, fields]) => !fields && expected.has(each)).map(([each]) => each);
    const told = apply(vehicles, [...records].map(([each, fields]) => record(each, fields ?? { flags: GONE })));
    assert.deepEqual(told.map((vehicle) => BigInt(`0x${vehicle.key}`)), goes);
    for (const [each, fields] of records) fields ? expected.set(each, fields) : expected.delete(each);

    most = Math.max(most, expected.size);
    assert.equal(vehicles.size, expected.size);
    for (let row = 0; row < vehicles.size; row++) {
      const fields = expected.get(vehicles.key(row));
      assert.ok(fields, `row ${row} is nobody's`);
      assert.deepEqual([vehicles.lat[row], vehicles.lon[row]], [fields.lat / 1e7, fields.lon / 1e7]);
      assert.equal(vehicles.rowOfKey(vehicles.keyLo[row], vehicles.keyHi[row]), row);
    }
  }
  assert.ok(most > 1_000 && most > expected.size, `it grew (${most}) and shrank (${expected.size})`);
});

test('those who are long away are forgotten, those in view never', () => {
  const vehicles = new Vehicles();
  vehicles.identify(identity('bus-7'));
  apply(vehicles, [record(key('bus-7'), { lat: 1, lon: 1 })]);
  const numbered = (n) => ({ ...identity('bus-8'), key: n.toString(16).padStart(16, '0'), vehicleId: `veh-${n}` });
  for (let n = 1; n <= 66_000; n++) vehicles.identify(numbered(n));
  apply(vehicles, [record(1n), record(66_000n)]);
  const name = (n) => vehicles.identity(vehicles.rowOfKey(n, 0))?.vehicleId ?? null;
  assert.deepEqual([name(1), name(66_000)], [null, 'veh-66000']);
  assert.equal(vehicles.get('bus-7').vehicleId, 'bus-7');
  apply(vehicles, [record(key('bus-7'), { flags: GONE })]);
  apply(vehicles, [record(key('bus-7'), { lat: 1, lon: 1 })]);
  assert.equal(vehicles.get('bus-7').vehicleId, 'bus-7');
});

test('a key that is none is refused', () => {
  const vehicles = new Vehicles();
  for (const hex of [undefined, 1234567890123456, '49dd0bc730d4b72', '49DD0BC730D4B723', '49dd0bc730d4b7233', {}]) {
    assert.throws(() => vehicles.identify({ ...identity('bus-7'), key: hex }), RingroadError);
  }
});

test('nothing is left after clear', () => {
  const vehicles = new Vehicles();
  vehicles.identify(identity('bus-7'));
  vehicles.watching({ epoch: 3, cut: true });
  apply(vehicles, [record(key('bus-7'), { lat: 1, lon: 1 })], { flags: 7, epoch: 3 });
  vehicles.clear();
  const { size, epoch, complete, tiered, cut } = vehicles;
  assert.deepEqual([size, epoch, complete, tiered, cut], [0, 0, false, false, false]);
  assert.equal(vehicles.has('bus-7'), false);
  apply(vehicles, [record(key('bus-7'), { lat: 1, lon: 1 })]);
  assert.equal(vehicles.get('bus-7').vehicleId, null, 'a new connection is told anew');
});
