// With a real gateway: the binary that RINGROAD names, or the one that cargo built.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { test as withNode } from 'node:test';
import { fileURLToPath } from 'node:url';

import { EMERGENCY, Ringroad } from '../ringroad.js';
import { TinyWebSocket, until } from './sockets.js';

const built = fileURLToPath(new URL('../../../target/debug/ringroad', import.meta.url));
const program = process.env.RINGROAD ?? built;
// Only where nobody asked for it may it be missing.
const skip = !process.env.RINGROAD && !existsSync(built) && 'no gateway was built';
const test = (name, body) => withNode(name, { skip }, body);

const UNLIMITED = ['rate_limits.location_update.burst=0', 'vehicles.coalesce_ms=0', 'vehicles.flush_ms=0'];
const backoff = { baseMs: 10, capMs: 50, shutdownMs: 50 };
const AUSTIN = { south: 30.2, west: -97.8, north: 30.3, east: -97.7 };
const HERE = { lat: 30.2672, lon: -97.7431 };

/** A gateway that runs until the test ends, on a port that the kernel chooses. */
async function start(context, settings = [], listen = '127.0.0.1:0') {
  const sets = [...UNLIMITED, ...settings].flatMap((setting) => ['--set', setting]);
  const child = spawn(program, ['--listen', listen, '--workers', '2', '--set', 'server.drain_ms=0', ...sets], {
    env: {},
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  child.stderr.on('data', (text) => (log += text));
  const ended = new Promise((resolve) => child.on('close', resolve));
  const stop = async () => {
    child.kill('SIGTERM');
    // One that stands still would not hear it.
    child.kill('SIGCONT');
    assert.equal(await ended, 0, log);
  };
  context.after(() => child.exitCode ?? stop());
  const address = await new Promise((resolve, reject) => {
    child.on('error', reject);
    ended.then(() => reject(new Error(`it does not start:\n${log}`)));
    createInterface(child.stdout).on('line', (line) => {
      const [, found] = line.match(/ listening on (\S+)/) ?? [];
      if (found) resolve(found);
    });
  });
  return { address, stop, kill: (signal) => child.kill(signal) };
}

/** A connection that lists what it hears under each name. */
function join(context, { address }, options = {}) {
  const road = new Ringroad(`ws://${address}/v2v`, { WebSocket: TinyWebSocket, backoff, positionMs: 0, ...options });
  context.after(() => road.close());
  const names = [
    'registered', 'watching', 'proximity_event', 'receive_message', 'emergency_alert', 'connect_request', 'gone',
    'open', 'close', 'error',
  ];
  const heard = Object.fromEntries(names.map((name) => [name, []]));
  for (const name of names) road.on(name, (data) => heard[name].push(data));
  return { road, heard };
}

function drive(context, gateway, vehicleId, options = {}) {
  const register = { vehicleId, driverName: `driver of ${vehicleId}`, vehicleInfo: { color: 'red' } };
  return join(context, gateway, { register, ...options });
}

test('a viewer sees who is in its view, who they are, and how they go', async (context) => {
  const gateway = await start(context);
  const bus = drive(context, gateway, 'bus-7');
  const tsMs = Date.now() - 5_000;
  bus.road.position({
    ...HERE, speed: 8.2, heading: 91.5, elevation: 149.3, yawRate: -1.5, acceleration: 0.43, accuracy: 9.3,
    transmission: 2, eventFlags: 32, ts: tsMs,
  });
  await until('the registration', () => bus.heard.registered.length === 1);
  const { road, heard } = join(context, gateway, { view: AUSTIN });
  const seen = await until('the bus', () => road.vehicles.get('bus-7'));
  const single = Math.fround;
  assert.deepEqual(seen, {
    vehicleId: 'bus-7', driverName: 'driver of bus-7', vehicleInfo: { color: 'red' }, key: '49dd0bc730d4b723', ...HERE,
    ts: tsMs, speed: single(8.2), heading: 91.5, elevation: single(149.3), yawRate: -1.5, acceleration: single(0.43),
    accuracy: single(9.3), transmission: 2, flags: 32, msgCnt: 0,
  });
  await until('all of it', () => road.vehicles.complete);
  assert.equal(road.vehicles.epoch, 1);

  bus.road.emergency({ fire: true });
  await until('the alert', () => heard.emergency_alert.length === 1);
  bus.road.position({ ...HERE, lat: 30.27 });
  const moved = await until('the move', () => [road.vehicles.get('bus-7')].find(({ lat }) => lat === 30.27));
  assert.deepEqual([moved.flags & EMERGENCY, moved.msgCnt], [EMERGENCY, 1]);

  bus.road.position({ lat: 32.8, lon: -96.8 });
  await until('it has left the view', () => road.vehicles.size === 0);
  road.follow(['bus-7']);
  const followed = await until('it is followed', () => road.vehicles.get('bus-7'));
  assert.deepEqual([followed.lat, followed.driverName], [32.8, 'driver of bus-7']);
  bus.road.close();
  await until('it has gone', () => road.vehicles.size === 0);
  assert.deepEqual(heard.gone.map(({ vehicleId }) => vehicleId), ['bus-7', 'bus-7']);
  assert.deepEqual([heard.error, bus.heard.error], [[], []]);
});

test('vehicles see their neighbours and speak with them', async (context) => {
  const gateway = await start(context);
  const one = drive(context, gateway, 'bus-7');
  const two = drive(context, gateway, 'bus-9', { near: 1_000 });
  one.road.position(HERE);
  two.road.position({ ...HERE, lat: HERE.lat + 0.001 });
  await until('each other', () => one.road.vehicles.has('bus-9') && two.road.vehicles.has('bus-7'));
  await until('told of it', () => one.heard.proximity_event.length && two.heard.proximity_event.length);
  assert.deepEqual([one.road.vehicles.size, two.road.vehicles.size], [1, 1], 'nobody sees itself');
  one.road.message('bus-9', 'good morning');
  const { senderId, content } = await until('the message', () => two.heard.receive_message[0]);
  assert.deepEqual([senderId, content], ['bus-7', 'good morning']);
  two.road.send('connect_request', { requesterId: 'bus-9', targetId: 'bus-7' });
  assert.equal((await until('the request', () => one.heard.connect_request[0])).requesterId, 'bus-9');
  one.road.message('bus-8', 'anyone?');
  assert.equal((await until('the error', () => one.heard.error[0])).code, 'target_offline');
});

test('a map that is dragged is never told to slow down', async (context) => {
  const gateway = await start(context);
  const { road, heard } = join(context, gateway, { view: AUSTIN });
  await until('a connection', () => heard.watching.length === 1);
  const endMs = performance.now() + 2_000;
  let west = AUSTIN.west;
  for (let step = 0; performance.now() < endMs; step++) {
    west = AUSTIN.west + step * 1e-7;
    road.view({ ...AUSTIN, west });
    await new Promise((resolve) => setImmediate(resolve));
  }
  await until('the last one', () => Math.abs(heard.watching.at(-1).view.west - west) < 1e-7);
  assert.deepEqual(heard.error, []);
  assert.ok(heard.watching.length <= 2 + 2 * 10, 'as often as the gateway takes them');
});

test('a view that is too large leaves the old one, also after the next connection', async (context) => {
  const gateway = await start(context);
  const { road, heard } = join(context, gateway, { view: AUSTIN });
  await until('a view', () => heard.watching.length === 1);
  road.view({ south: -80, west: -170, north: 80, east: 170 });
  assert.equal((await until('the refusal', () => heard.error[0])).code, 'view_too_large');
  await gateway.stop();
  await start(context, [], gateway.address);
  const again = await until('the view', () => heard.watching[1]);
  assert.deepEqual([again.epoch, again.view], [1, AUSTIN]);
});

test('a gateway that is started anew is found, and all is as before', async (context) => {
  const gateway = await start(context);
  const bus = drive(context, gateway, 'bus-7');
  const { road, heard } = join(context, gateway, { view: AUSTIN });
  bus.road.position(HERE);
  await until('the bus', () => road.vehicles.has('bus-7'));
  await gateway.stop();
  await until('the end', () => heard.close.length > 0);
  assert.deepEqual(heard.close[0], { code: 1012, reason: 'shutdown', final: false });
  bus.road.position({ ...HERE, lat: 30.28 });
  await start(context, [], gateway.address);
  await until('the bus where it is now', () => road.state === 'open' && road.vehicles.get('bus-7')?.lat === 30.28);
  assert.equal(road.vehicles.get('bus-7').driverName, 'driver of bus-7');
});

test('a gateway that stands still is given up, and found when it goes on', async (context) => {
  const gateway = await start(context);
  const heartbeat = { silentMs: 50, answerMs: 100 };
  const { road, heard } = join(context, gateway, { view: AUSTIN, heartbeat });
  await until('a view', () => heard.watching.length === 1);
  gateway.kill('SIGSTOP');
  const { reason } = await until('it is given up', () => heard.close[0]);
  assert.equal(reason, 'silent');
  gateway.kill('SIGCONT');
  await until('another view', () => road.state === 'open' && heard.open.length >= 2 && heard.watching.length >= 2);
});

test('who is replaced does not come back', async (context) => {
  const gateway = await start(context);
  const one = drive(context, gateway, 'bus-7');
  await until('the first', () => one.heard.registered.length === 1);
  const two = drive(context, gateway, 'bus-7');
  await until('the second', () => two.heard.registered.length === 1);
  await until('the end of the first', () => one.road.state === 'closed');
  assert.deepEqual(one.heard.close, [{ code: 4001, reason: 'replaced', final: true }]);
  assert.equal(two.road.state, 'open');
});

test('tokens are shown, and one that is wrong is the end', async (context) => {
  const secret = 'a secret of this test, long enough';
  const gateway = await start(context, ['auth.required=true', `auth.secret=${secret}`]);
  const encoded = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const signed = `${encoded({ alg: 'HS256', typ: 'JWT' })}.${encoded({ exp: Math.floor(Date.now() / 1_000) + 600 })}`;
  const authToken = `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;

  const bus = drive(context, gateway, 'bus-7', { authToken });
  bus.road.position(HERE);
  const viewer = join(context, gateway, { view: AUSTIN, authToken: () => authToken });
  await until('the bus', () => viewer.road.vehicles.has('bus-7'));
  for (const wrong of [undefined, 'nonsense']) {
    const { road, heard } = drive(context, gateway, 'bus-9', { authToken: wrong });
    await until('the end', () => road.state === 'closed');
    assert.deepEqual(heard.error.map(({ code }) => code), ['auth_failed']);
    assert.deepEqual(heard.close, [{ code: 1008, reason: 'auth_failed', final: true }]);
    const viewer = join(context, gateway, { view: AUSTIN, authToken: wrong });
    await until('the refusal', () => viewer.heard.error.length === 1);
    assert.equal(viewer.heard.error[0].code, 'auth_failed');
    assert.deepEqual(viewer.heard.watching, []);
  }
});
