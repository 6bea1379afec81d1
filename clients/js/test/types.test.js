// ringroad.d.ts names what is there, and what it does not name is not there.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import * as ringroad from '../ringroad.js';
import { PROTOCOL } from './bytes.js';
import { stage } from './fakes.js';

const types = readFileSync(new URL('../ringroad.d.ts', import.meta.url), 'utf8').replace(/\/\*\*[\s\S]*?\*\//g, '');

/** The members of a class or interface, each once; those of what it extends are in its own text. */
function members(name) {
  const body = new RegExp(`^(?:export )?(?:class|interface) ${name}\\b[^{]*\\{\\n([\\s\\S]*?)^\\}`, 'gm');
  const bodies = [...types.matchAll(body)];
  assert.ok(bodies.length > 0, name);
  const found = bodies.flatMap(([, lines]) => [...lines.matchAll(/^ {2}(?:readonly )?(\[?[\w.]+\]?)[?<(:]/gm)]);
  return [...new Set(found.map(([, member]) => member))].sort();
}

/** What an object and its classes have, without what is private and without constructors. */
function properties(object) {
  const names = [];
  for (let each = object; each !== Object.prototype; each = Object.getPrototypeOf(each)) {
    names.push(...Reflect.ownKeys(each).map((name) => (typeof name === 'symbol' ? `[${name.description}]` : name)));
  }
  return [...new Set(names)].filter((name) => name !== 'constructor').sort();
}

test('what is exported is what the types export', () => {
  const named = [...types.matchAll(/^export (?:class|function|const) (\w+)/gm)].map(([, name]) => name).sort();
  assert.deepEqual(named, Object.keys(ringroad).sort());
});

test('members are those of the types', () => {
  const { road } = stage();
  const states = members('States');
  const all = (name) => [...new Set([...members(name), ...states])].sort();
  assert.deepEqual(properties(road), members('Ringroad').filter((name) => name !== 'constructor'));
  assert.deepEqual(properties(new ringroad.StateFrame()), all('StateFrame'));
  assert.deepEqual(properties(new ringroad.Vehicles()), all('Vehicles'));

  const frame = new ringroad.StateFrame();
  frame.read(ringroad.encodePosition(1n, { lat: 0, lon: 0 }));
  road.vehicles.apply(frame);
  assert.deepEqual(Object.keys(road.vehicles.at(0)).sort(), members('Vehicle'));
});

test('every event of the protocol that comes in ringroad.v1 has a type', () => {
  const table = PROTOCOL.split('## 4. From gateway to client')[1].split('\n- ')[0];
  const rows = [...table.matchAll(/^\| ((?:`\w+`(?:, )?)+) \|/gm)];
  const events = rows.flatMap(([, names]) => [...names.matchAll(/\w+/g)].map(([name]) => name));
  assert.ok(events.length >= 10, 'the table is found');
  const inJson = ['peer_location', 'peer_gone'];
  const own = ['states', 'gone', 'open', 'close', 'reconnecting'];
  assert.deepEqual([...events.filter((name) => !inJson.includes(name)), ...own].sort(), members('Events'));
});

test('every position field of the types is one that is sent', () => {
  const plain = Buffer.from(ringroad.encodePosition(1n, { lat: 0, lon: 0 }));
  for (const field of members('Position')) {
    const sent = Buffer.from(ringroad.encodePosition(1n, { lat: 0, lon: 0, [field]: 1 }));
    assert.notDeepEqual(sent, plain, field);
  }
});
