// State frames and positions: bytes to columns, and measurements to bytes. docs/PROTOCOL.md, section 12.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { EMERGENCY, GONE, RingroadError, StateFrame, encodePosition, key } from '../ringroad.js';
import { PROTOCOL, arrayBuffer, dice, frame, record } from './bytes.js';

const NOON = 1_767_268_800_000;
const MINUTE = 29_333_333 * 60_000;

/** The blocks of "Worked examples": of each line the bytes that it begins with. */
function examples() {
  const section = PROTOCOL.split('### Worked examples')[1];
  const blocks = section.split('```').filter((_, at) => at % 2 === 1);
  return blocks.map((block) => {
    const begins = block.split('\n').map((line) => line.match(/^([0-9a-f]{2}\s+)*[0-9a-f]{2}(?=\s|$)/)?.[0] ?? '');
    return Buffer.from(begins.join('').replace(/\s/g, ''), 'hex');
  });
}

function read(bytes, into = new StateFrame()) {
  assert.equal(into.read(bytes), true);
  return into;
}

function row(states, at = 0) {
  const { lat, lon, ts, elevation, speed, heading, yawRate, acceleration, accuracy } = states;
  const numbers = { lat, lon, ts, elevation, speed, heading, yawRate, acceleration, accuracy };
  // Float32 columns: to the wire's own steps.
  return Object.fromEntries(Object.entries(numbers).map(([name, column]) => [name, Number(column[at].toFixed(7))]));
}

const UNAVAILABLE = {
  lat: NaN, lon: NaN, ts: NaN, elevation: NaN, speed: NaN, heading: NaN, yawRate: NaN, acceleration: NaN, accuracy: NaN,
};

test('the worked examples of the protocol', () => {
  const [position, states, complete] = examples();
  const sent = encodePosition(key('bus-7'), {
    lat: 30.2672, lon: -97.7431, speed: 8.2, heading: 91.5, ts: NOON + 120, transmission: 2,
  });
  assert.deepEqual(Buffer.from(sent), position);

  const heard = read(states);
  assert.deepEqual(
    [heard.count, heard.epoch, heard.baseMs, heard.complete, heard.tiered, heard.cut],
    [2, 1, NOON + 318, false, false, false],
  );
  assert.deepEqual([heard.key(0), heard.keyHex(1)], [key('bus-9'), 'db5ed3a38eb1f57b']);
  const seen = row(heard);
  assert.deepEqual([seen.lat, seen.lon, seen.ts], [30.2689, -97.7425, NOON + 318]);
  assert.equal(heard.speed[0], Math.fround(6.7));
  assert.equal(heard.flags[1], GONE);

  const empty = read(complete);
  assert.deepEqual([empty.count, empty.epoch, empty.complete], [0, 2, true]);
});

test('every field lies where the table says', () => {
  const states = read(frame([
    record(0x0102030405060708n, {
      lat: 302_672_001, lon: -977_431_002, elevation: 1493 + 4096, speed: 671, transmission: 2, heading: 7320,
      yawRate: -150, acceleration: 43, secMark: 55_494, flags: 32 | EMERGENCY, accuracy: 186, msgCnt: 119,
    }),
  ], { baseMs: MINUTE + 55_500 }));
  assert.deepEqual(
    [states.keyHi[0], states.keyLo[0], states.key(0), states.keyHex(0)],
    [0x01020304, 0x05060708, 0x0102030405060708n, '0102030405060708'],
  );
  assert.deepEqual([states.lat[0], states.lon[0], states.ts[0]], [30.2672001, -97.7431002, MINUTE + 55_494]);
  assert.equal(states.elevation[0], Math.fround(149.3));
  assert.equal(states.speed[0], Math.fround(13.42));
  assert.equal(states.heading[0], 91.5);
  assert.equal(states.yawRate[0], -1.5);
  assert.equal(states.acceleration[0], Math.fround(0.43));
  assert.equal(states.accuracy[0], Math.fround(9.3));
  assert.deepEqual([states.flags[0], states.transmission[0], states.msgCnt[0]], [32 | EMERGENCY, 2, 119]);
});

test('zeros are a parked car, sentinels and what is out of range are unavailable', () => {
  const zeros = read(frame([Buffer.alloc(32)], { baseMs: MINUTE }));
  const parked = {
    lat: 0, lon: 0, ts: MINUTE, elevation: NaN, speed: 0, heading: 0, yawRate: 0, acceleration: 0, accuracy: 0,
  };
  assert.deepEqual(row(zeros), parked);
  assert.deepEqual(row(read(frame([record(1n)]))), UNAVAILABLE);
  const place = { lat: 1, lon: 1 };
  const beyond = [
    { lat: 900_000_001, lon: 1 }, { lat: -900_000_001, lon: 1 }, { lat: 1, lon: 1_800_000_001 },
    { lat: 1, lon: -1_800_000_000 }, { heading: 28_801 }, { heading: 65_535 }, { acceleration: -2001 },
    { acceleration: 2002 }, { secMark: 61_000 }, { secMark: 65_534 },
  ];
  for (const fields of beyond) assert.deepEqual(row(read(frame([record(1n, fields)]))), UNAVAILABLE, fields);
  for (const fields of [place, { lat: 900_000_000, lon: 1_800_000_000 }, { lat: -900_000_000, lon: -1_799_999_999 }]) {
    const { lat, lon } = row(read(frame([record(1n, fields)])));
    assert.deepEqual([lat, lon], [fields.lat / 1e7, fields.lon / 1e7]);
  }
});

test('the minute is found', () => {
  const known = [
    [30_000, MINUTE + 30_000, MINUTE + 30_000],
    [59_900, MINUTE + 50, MINUTE - 100],
    [50, MINUTE - 100, MINUTE + 50],
    [1_000, MINUTE + 50_000, MINUTE + 1_000],
    [10_001, MINUTE, MINUTE - 49_999],
    [10_000, MINUTE, MINUTE + 10_000],
    [60_500, 1_760_000_040_000, 1_760_000_040_500],
    [59_000, 0, NaN],
    [0, 0, 0],
    [0, 0xffff_ffff_ffff_ffffn, NaN],
    [5_000, 1, 5_000],
  ];
  for (const [secMark, baseMs, ts] of known) {
    assert.equal(read(frame([record(1n, { secMark })], { baseMs })).ts[0], ts, `${secMark} at ${baseMs}`);
  }
});

test('longer records are stepped over, and a frame may lie anywhere in its buffer', () => {
  const records = [1, 2, 3].map((n) => record(BigInt(n), { lat: n, lon: -n, msgCnt: n }));
  for (const recordBytes of [32, 33, 40, 255]) {
    const message = Buffer.from(frame(records, { recordBytes }));
    for (const before of [0, 1, 3]) {
      const padded = Buffer.concat([Buffer.alloc(before), message]).subarray(before);
      const states = read(padded);
      assert.deepEqual([...states.msgCnt.subarray(0, 3)], [1, 2, 3]);
      assert.deepEqual([...states.lon.subarray(0, 3)], [-1e-7, -2e-7, -3e-7]);
    }
  }
});

test('columns are used again and grow', () => {
  const states = read(frame([record(7n)]));
  const column = states.lat;
  read(frame([record(8n)]), states);
  assert.equal(states.lat, column);
  const many = Array.from({ length: 2047 }, (_, n) => record(BigInt(n), { lat: n, lon: n }));
  read(frame(many), states);
  assert.deepEqual([states.count, states.key(2046), states.lat[2046]], [2047, 2046n, 2046e-7]);
});

test('flags are told apart', () => {
  for (let flags = 0; flags < 16; flags++) {
    const { complete, tiered, cut } = read(frame([], { flags }));
    assert.deepEqual([complete, tiered, cut], [(flags & 1) > 0, (flags & 2) > 0, (flags & 4) > 0]);
  }
});

test('other kinds are skipped and change nothing; what is no frame says so', () => {
  const states = read(frame([record(7n)], { epoch: 5 }));
  const other = Buffer.from(frame([record(8n)], { epoch: 6 }));
  other[1] = 2;
  assert.equal(states.read(other), false);
  assert.equal(states.read(other.subarray(0, 2)), false);
  assert.deepEqual([states.epoch, states.key(0)], [5, 7n]);

  const right = Buffer.from(frame([record(7n), record(8n)]));
  const wrong = Array.from({ length: right.length }, (_, length) => right.subarray(0, length));
  wrong.push(Buffer.concat([right, Buffer.alloc(1)]));
  wrong.push(Buffer.from([2]), Buffer.from([2, 1]), with_(right, 0, 2), with_(right, 2, 31), with_(right, 2, 33), with_(right, 4, 3));
  for (const bytes of wrong) {
    assert.throws(() => states.read(bytes), isInvalidFrame, `${bytes.length} bytes`);
    if (bytes[0] === 2) assert.throws(() => states.read(bytes), /version 2/);
    assert.deepEqual([states.epoch, states.key(0)], [5, 7n]);
  }
});

function with_(bytes, at, value) {
  const copy = Buffer.from(bytes);
  copy[at] = value;
  return copy;
}

function isInvalidFrame(error) {
  return error instanceof RingroadError && error.code === 'invalid_frame';
}

test('no bytes cause any other error', () => {
  const roll = dice(20_260_101);
  const states = new StateFrame();
  const right = Buffer.from(frame(Array.from({ length: 5 }, (_, n) => record(BigInt(n)))));
  let accepted = 0;
  for (let round = 0; round < 20_000; round++) {
    let bytes = Buffer.from(right);
    for (let changes = roll(4); changes >= 0; changes--) bytes[roll(3) ? roll(16) : roll(bytes.length)] = roll(256);
    if (roll(3) === 0) bytes = bytes.subarray(0, roll(bytes.length + 1));
    try {
      accepted += states.read(roll(2) ? bytes : arrayBuffer(bytes)) ? 1 : 0;
    } catch (error) {
      assert.ok(isInvalidFrame(error), String(error));
    }
  }
  assert.ok(accepted > 1_000, `${accepted} were accepted: the others are not all broken at once`);
});

test('nothing measured becomes a sentinel', () => {
  const stored = (field, value) => {
    const message = Buffer.from(encodePosition(1n, { lat: 0, lon: 0, [field]: value }));
    return {
      elevation: message.readUInt16LE(32), speed: message.readUInt16LE(34) & 0x1fff, transmission: message[35] >> 5,
      heading: message.readUInt16LE(36), yawRate: message.readInt16LE(38), acceleration: message.readInt16LE(40),
      eventFlags: message.readUInt16LE(44), accuracy: message[46],
    }[field];
  };
  const table = [
    ['speed', 1e9, 8190], ['speed', 163.82, 8190], ['speed', -3, 0], ['speed', 8.2, 410], ['speed', Infinity, 8190],
    ['heading', 359.995, 0], ['heading', 360, 0], ['heading', -0.001, 0], ['heading', -90, 21_600],
    ['heading', Infinity, 28_800], ['heading', 91.5, 7320],
    ['elevation', -5000, 1], ['elevation', 99_999, 65_535], ['elevation', 0, 4096],
    ['acceleration', 50, 2000], ['acceleration', -50, -2000], ['acceleration', -0.005, -1],
    ['yawRate', -1e4, -32_767], ['yawRate', 1e4, 32_767],
    ['accuracy', 12.7, 254], ['accuracy', 1e6, 254], ['accuracy', 0, 0],
    ['transmission', 0, 0], ['transmission', 3, 3], ['transmission', 4, 7], ['transmission', -1, 7],
    ['eventFlags', 0xffff, 0x1fff],
  ];
  for (const [field, value, wire] of table) assert.equal(stored(field, value), wire, `${field} ${value}`);
  const unavailable = {
    speed: 8191, heading: 28_800, elevation: 0, acceleration: 2001, yawRate: -32_768, accuracy: 255, transmission: 7,
  };
  for (const [field, wire] of Object.entries(unavailable)) {
    for (const nothing of [undefined, null, NaN]) {
      assert.equal(stored(field, nothing), wire, `${field} ${nothing}`);
    }
  }
});

test('a position is where it was put, and what is not on Earth is refused', () => {
  const roll = dice(7);
  for (let round = 0; round < 2_000; round++) {
    const lat = (roll(1_800_000_001) - 900_000_000) / 1e7;
    const lon = (roll(3_600_000_000) - 1_799_999_999) / 1e7;
    const states = read(encodePosition(key('bus-7'), { lat, lon, ts: NOON + round }));
    assert.deepEqual([states.lat[0], states.lon[0], states.ts[0]], [lat, lon, NOON + round]);
  }
  assert.equal(read(encodePosition(1n, { lat: 0, lon: -180 })).lon[0], 180);
  for (const [lat, lon] of [[90, 180], [-90, 0]]) {
    const states = read(encodePosition(1n, { lat, lon, ts: 0 }));
    assert.deepEqual([states.lat[0], states.lon[0], states.ts[0]], [lat, lon, 0]);
  }
  assert.equal(read(encodePosition(1n, { lat: 0, lon: 0, ts: 1_000.9 })).ts[0], 1_000);
  const noTime = Buffer.from(encodePosition(1n, { lat: 0, lon: 0 }));
  assert.deepEqual([noTime.readBigUInt64LE(8), noTime.readUInt16LE(42)], [0n, 65_535]);
  const refused = [
    { lat: 90.0000001, lon: 0 }, { lat: 0, lon: -180.1 }, { lat: NaN, lon: 0 }, { lon: 0 }, { lat: 0 },
    { lat: 0, lon: 0, ts: -1 }, { lat: 0, lon: 0, ts: 2 ** 53 }, { lat: 0, lon: 0, ts: NaN },
  ];
  for (const position of refused) {
    const isRefusal = (error) => error instanceof RingroadError && error.code === 'invalid_state';
    assert.throws(() => encodePosition(1n, position), isRefusal, JSON.stringify(position));
  }
});
