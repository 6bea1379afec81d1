// Every contender speaks the same protocol: `node --test benches/peers/test.mjs` after `scripts/peers`. RINGROAD names
// Ringroad's binary, which has to pass as well.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { WebSocket } from 'ws';

const DEADLINE_MS = 10_000;

// What a dialect opens with, and what it puts around an event; `heard` gives [event, data], or nothing.
const V2V = {
  path: '/v2v',
  hello: [],
  say: (event, data) => JSON.stringify({ event, data }),
  heard(text) {
    const { event, data } = JSON.parse(text);
    return [event, data];
  },
  nonsense: 'nonsense',
};
const SOCKET_IO = {
  path: '/socket.io/?EIO=4&transport=websocket',
  hello: ['40'],
  say: (event, data) => `42${JSON.stringify([event, data])}`,
  heard: (text) => (text.startsWith('42') ? JSON.parse(text.slice(2)) : undefined),
};

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const bun = here('node_modules/.bin/bun');
const redis = startRedis();
const ringroad = process.env.RINGROAD;

const CONTENDERS = [
  { name: 'node ws', command: ['node', here('ws.mjs')], dialect: V2V },
  { name: 'node ws cork', command: ['node', here('ws.mjs'), '--cork'], dialect: V2V },
  { name: 'bun', command: [bun, here('bun.mjs')], dialect: V2V },
  { name: 'bun cork', command: [bun, here('bun.mjs'), '--cork'], dialect: V2V },
  { name: 'bun cork, no tick', command: [bun, here('bun.mjs'), '--cork', '--tick-ms', '0'], dialect: V2V },
  { name: 'socket.io', command: ['node', here('socketio.mjs')], dialect: SOCKET_IO },
  { name: 'socket.io + redis', command: ['node', here('socketio.mjs')], dialect: SOCKET_IO, redis, skip: !redis && 'no redis-server' },
  {
    name: 'ringroad',
    command: [ringroad, '--listen', '127.0.0.1:0', '--workers', '1', '--set', 'rate_limits.location_update.burst=0'],
    dialect: V2V,
    skip: !ringroad && 'RINGROAD names no binary',
  },
];

// Steps north of the first vehicle; the radius is 500 m, 0.0045109° here.
const LAT = 30.2672;
const LON = -97.7431;
const NEAR_DEGREES = 0.0044;
const FAR_DEGREES = 0.0046;

for (const contender of CONTENDERS) {
  describe(contender.name, { skip: contender.skip ?? false }, () => {
    test('a position reaches those within 500 m, as it was sent', async (context) => {
      const { connect } = await start(context, contender);
      const [sender, near, far] = await Promise.all(['car-1', 'car-2', 'car-3'].map((id) => connect(id)));
      const unplaced = await connect('car-4');
      near.move(LAT + NEAR_DEGREES, LON);
      far.move(LAT + FAR_DEGREES, LON);
      await Promise.all([near, far].map(settled));
      const ts = Date.now() - 5_000;
      const details = { speed: 8.2, heading: 91.5, elevation: 149.3, accuracy: 9.3 };
      sender.move(LAT, LON, { ts, ...details });
      await until('the position', () => near.positionsOf('car-1').length === 1);
      sender.move(LAT, LON, { ts: ts + 1_000 });
      await until('the next position', () => near.positionsOf('car-1').length === 2);
      assert.deepEqual(near.positionsOf('car-1'), [
        { vehicleId: 'car-1', lat: LAT, lon: LON, ts, coalesced: true, ...details },
        { vehicleId: 'car-1', lat: LAT, lon: LON, ts: ts + 1_000, coalesced: true },
      ]);
      // What comes the other way, and what came after: nothing to anybody else.
      const later = Date.now() + 1_000;
      near.move(LAT + NEAR_DEGREES, LON, { ts: later });
      await until('the other one', () => sender.positionsOf('car-2').some(({ ts }) => ts === later));
      await settled(far);
      assert.deepEqual([sender.positionsOf('car-1'), far.positionsOf('car-1'), unplaced.all('peer_location')], [[], [], []]);
      assert.equal(far.positionsOf('car-2').length > 0, true, '22 m from each other');
    });

    test('an alert reaches everybody', async (context) => {
      const { connect } = await start(context, contender);
      const sender = await connect('car-1');
      const all = [sender, await connect('car-2'), await connect()];
      sender.say('emergency_alert', { senderId: 'car-1', vehicleInfo: { color: 'red' } });
      await until('the alert', () => all.every((client) => client.all('emergency_alert').length === 1));
      const [{ id, ts, ...alert }] = sender.all('emergency_alert');
      assert.match(id, /^[0-9a-f-]{36}$/);
      assert.ok(Math.abs(Date.now() - ts) < DEADLINE_MS);
      assert.deepEqual(alert, { senderId: 'car-1', vehicleInfo: { color: 'red' } });
      for (const client of all) assert.deepEqual(client.all('emergency_alert'), [{ id, ts, ...alert }]);
    });

    test('who leaves is no longer there, and may come again', async (context) => {
      const { connect } = await start(context, contender);
      const [sender, stays, leaves] = await Promise.all(['car-1', 'car-2', 'car-3'].map((id) => connect(id)));
      for (const client of [stays, leaves]) client.move(LAT, LON);
      await Promise.all([stays, leaves].map(settled));
      sender.move(LAT, LON, { ts: 1_000 });
      await until('both', () => [stays, leaves].every((client) => client.positionsOf('car-1').length === 1));
      await leaves.leave();
      sender.move(LAT, LON, { ts: 2_000 });
      await until('the one that stays', () => stays.positionsOf('car-1').length === 2);
      const again = await connect('car-3');
      again.move(LAT, LON);
      await settled(again);
      sender.move(LAT, LON, { ts: 3_000 });
      await until('the one that came again', () => again.positionsOf('car-1').some(({ ts }) => ts === 3_000));
      // The newer connection of a vehicle is the one that counts.
      const newer = await connect('car-3');
      await until('the older one is closed', () => again.isClosed());
      newer.move(LAT, LON);
      await settled(newer);
      sender.move(LAT, LON, { ts: 4_000 });
      await until('the newer one', () => newer.positionsOf('car-1').some(({ ts }) => ts === 4_000));
    });

    // What is sent, by a vehicle or by somebody who has not registered, and the error's code.
    const REFUSED = [
      ['location_update', { vehicleId: 'car-1', lat: LAT, lon: LON }, 'not_registered', { registered: false }],
      ['register', { vehicleId: 'x', driverName: 'Ada' }, 'invalid_register', { registered: false }],
      ['register', { vehicleId: 'car-2', driverName: 'Ada' }, 'invalid_register'],
      ['location_update', { vehicleId: 'car-2', lat: LAT, lon: LON }, 'not_yours'],
      ['location_update', { vehicleId: 'car-1', lat: 90.1, lon: LON }, 'invalid_location'],
      ['location_update', { vehicleId: 'car-1', lat: LAT, lon: '1' }, 'invalid_location'],
      ['location_update', { vehicleId: 'car-1', lat: LAT, lon: LON, speed: -1 }, 'invalid_location'],
      ['emergency_alert', { senderId: 'car-2' }, 'not_yours'],
    ];
    test('what is wrong is refused, and the connection lives on', async (context) => {
      const { connect } = await start(context, contender);
      const clients = { true: await connect('car-1'), false: await connect() };
      const codes = { true: [], false: [] };
      for (const [event, data, code, { registered = true } = {}] of REFUSED) {
        clients[registered].say(event, data);
        codes[registered].push(code);
      }
      if (contender.dialect.nonsense) {
        clients.true.send(contender.dialect.nonsense);
        codes.true.push('invalid_json');
      }
      for (const registered of [true, false]) {
        await settled(clients[registered]);
        assert.deepEqual(clients[registered].all('error').map(({ code }) => code), codes[registered]);
      }
    });
  });
}

test('socket.io: a position reaches those near on another host', { skip: !redis && 'no redis-server' }, async (context) => {
  const contender = CONTENDERS.find(({ name }) => name === 'socket.io + redis');
  const [one, two] = [await start(context, contender), await start(context, contender)];
  const sender = await one.connect('car-1');
  const [near, far] = [await two.connect('car-2'), await two.connect('car-3')];
  near.move(LAT + NEAR_DEGREES, LON);
  far.move(LAT + FAR_DEGREES, LON);
  await Promise.all([near, far].map(settled));
  // Hosts hear each other once Redis has told them of one another.
  let ts = 0;
  await until('the position', () => {
    sender.move(LAT, LON, { ts: (ts += 1) });
    return near.positionsOf('car-1').length > 0;
  });
  sender.say('emergency_alert', { senderId: 'car-1' });
  await until('the alert', () => [sender, near, far].every((client) => client.all('emergency_alert').length === 1));
  assert.deepEqual([far.positionsOf('car-1'), sender.positionsOf('car-1')], [[], []]);
});

/** A contender that runs until the test ends; `connect(vehicleId)` gives a client that has registered. */
async function start(context, { command: [program, ...args], dialect, redis }) {
  const env = redis ? { PATH: process.env.PATH, REDIS_URL: redis } : { PATH: process.env.PATH };
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  child.stderr.on('data', (text) => (log += text));
  const ended = new Promise((resolve) => child.on('close', resolve));
  context.after(async () => {
    child.kill('SIGTERM');
    assert.equal(await ended, 0, log);
    assert.equal(log.includes('Error'), false, log);
  });
  const address = await new Promise((resolve, reject) => {
    child.on('error', reject);
    ended.then(() => reject(new Error(`it does not start:\n${log}`)));
    createInterface(child.stdout).on('line', (line) => {
      const [, found] = line.match(/ listening on (127\.0\.0\.1:\d+)$/) ?? [];
      if (found) resolve(found);
    });
  });
  const connect = async (vehicleId) => {
    const client = new Client(context, `ws://${address}${dialect.path}`, dialect, vehicleId);
    await until('connected', () => client.all('connected').length === 1);
    if (vehicleId) {
      client.say('register', { vehicleId, driverName: `driver of ${vehicleId}` });
      await until('registered', () => client.all('registered').length === 1);
      assert.deepEqual(client.all('registered'), [{ vehicleId }]);
    }
    return client;
  };
  return { connect };
}

class Client {
  #socket;
  #dialect;
  #vehicleId;
  #heard = [];

  constructor(context, url, dialect, vehicleId) {
    this.#dialect = dialect;
    this.#vehicleId = vehicleId;
    this.#socket = new WebSocket(url, { perMessageDeflate: true });
    context.after(() => this.#socket.terminate());
    this.#socket.on('open', () => {
      assert.equal(this.#socket.extensions, '', 'compression is declined');
      dialect.hello.forEach((text) => this.send(text));
    });
    this.#socket.on('message', (bytes, isBinary) => {
      assert.equal(isBinary, false);
      const heard = dialect.heard(bytes.toString());
      if (heard) this.#heard.push(heard);
    });
  }

  send(text) {
    this.#socket.send(text);
  }

  say(event, data) {
    this.send(this.#dialect.say(event, data));
  }

  move(lat, lon, more = {}) {
    this.say('location_update', { vehicleId: this.#vehicleId, lat, lon, ...more });
  }

  /** The data of all events of that name that were heard, oldest first. */
  all(name) {
    return this.#heard.filter(([event]) => event === name).map(([, data]) => data);
  }

  positionsOf(vehicleId) {
    return this.all('peer_location').filter((position) => position.vehicleId === vehicleId);
  }

  async leave() {
    this.#socket.close();
    await until('closed', () => this.isClosed());
  }

  isClosed() {
    return this.#socket.readyState === WebSocket.CLOSED;
  }
}

/** What the client said has been handled: its connection's messages are, in order. */
async function settled(client) {
  const before = client.all('heartbeat_ack').length;
  client.say('heartbeat');
  await until('the acknowledgement', () => client.all('heartbeat_ack').length > before);
}

async function until(what, holds) {
  const deadline = Date.now() + DEADLINE_MS;
  while (!holds()) {
    assert.ok(Date.now() < deadline, `in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** A Redis of our own on a socket file, for as long as this process runs; the file's path, or nothing without one. */
function startRedis() {
  if (spawnSync('redis-server', ['--version']).status !== 0) return undefined;
  const folder = mkdtempSync(join(tmpdir(), 'peers-'));
  const socket = join(folder, 'redis');
  const child = spawn('redis-server', ['--port', '0', '--unixsocket', socket, '--save', ''], { stdio: 'ignore' });
  after(async () => {
    const ended = new Promise((resolve) => child.on('close', resolve));
    child.kill('SIGTERM');
    await ended;
    rmSync(folder, { recursive: true });
  });
  return socket;
}
