// Keys are those of the gateway: keys.txt is held against its own function in src/wire/state/tests.rs.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { RingroadError, key } from '../ringroad.js';

test('keys are those that the gateway finds', () => {
  const lines = readFileSync(new URL('keys.txt', import.meta.url), 'utf8').trim().split('\n').slice(1);
  const vectors = lines.map((line) => line.split(' '));
  for (const [id, hex] of vectors) assert.equal(key(id).toString(16).padStart(16, '0'), hex, id);
  const lengths = new Set(vectors.map(([id]) => id.length));
  assert.deepEqual([...lengths].sort((a, b) => a - b), Array.from({ length: 38 }, (_, at) => at + 3));
});

test('what is no vehicle id has no key', () => {
  for (const id of ['', 'ab', 'a'.repeat(41), 'bus 7', 'bus/7', 'büs', 'bus-7\n', undefined, null, 123456]) {
    assert.throws(() => key(id), (error) => error instanceof RingroadError && error.code === 'validation_error');
  }
});
