// The same over TCP, with every WebSocket that is here: the tests' own, and Node's where it has one.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Ringroad, key } from '../ringroad.js';
import { frame, record } from './bytes.js';
import { TinyWebSocket, listen, until } from './sockets.js';

const kinds = [['the tests’ WebSocket', TinyWebSocket]];
if (globalThis.WebSocket) kinds.push(['Node’s WebSocket', globalThis.WebSocket]);
const backoff = { baseMs: 5, capMs: 20, shutdownMs: 20 };

for (const [name, WebSocket] of kinds) {
  const begin = async (context, options = {}, server = {}) => {
    const links = [];
    const gateway = await listen((link) => links.push(link), server);
    context.after(() => gateway.stop());
    const road = new Ringroad(gateway.url, { WebSocket, backoff, ...options });
    context.after(() => road.close());
    const heard = [];
    for (const event of ['open', 'close', 'error']) road.on(event, (data) => heard.push([event, data]));
    return { gateway, links, road, heard };
  };

  test(`${name}: positions go and come as bytes`, async (context) => {
    const { links, road } = await begin(context, { register: { vehicleId: 'bus-7', driverName: 'Ada' } });
    road.position({ lat: 30.2672, lon: -97.7431, ts: 1_767_268_800_120 });
    await until('two messages', () => links[0]?.messages.length === 2);
    const [register, position] = links[0].messages;
    assert.deepEqual(register, { event: 'register', data: { vehicleId: 'bus-7', driverName: 'Ada' } });
    assert.deepEqual([position.length, position.readBigUInt64LE(16)], [48, key('bus-7')]);

    const many = Array.from({ length: 2_047 }, (_, n) => record(BigInt(n + 1), { lat: n, lon: n }));
    const identity = { key: '0000000000000800', vehicleId: 'veh-2048', driverName: 'Ada', vehicleInfo: {} };
    links[0].say('vehicle_identity', identity);
    for (const records of [many, [record(0x800n, { lat: 5, lon: 6 })]]) links[0].send(new Uint8Array(frame(records)));
    await until('all vehicles', () => road.vehicles.size === 2_048);
    assert.equal(road.vehicles.get('veh-2048'), undefined, 'the name is not that of the key');
    assert.equal(road.vehicles.identity(road.vehicles.rowOfKey(0x800, 0)).vehicleId, 'veh-2048');
  });

  test(`${name}: it comes back after an end without a word, and asks again`, async (context) => {
    const view = { south: 30, west: -98, north: 31, east: -97 };
    const { links, road, heard } = await begin(context, { view });
    for (let n = 0; n < 3; n++) {
      await until('the view', () => links[n]?.messages.length === 1);
      assert.deepEqual(links[n].messages, [{ event: 'view', data: view }]);
      if (n < 2) links[n].destroy();
    }
    assert.equal(road.state, 'open');
    assert.deepEqual(heard.map(([event, data]) => data?.code ?? event), ['open', 1006, 'open', 1006, 'open']);
  });

  test(`${name}: close codes arrive and are followed`, async (context) => {
    const { links, road, heard } = await begin(context);
    await until('a connection', () => road.state === 'open');
    links[0].close(1001, 'shutdown');
    await until('another', () => links.length === 2 && road.state === 'open');
    links[1].close(4001, 'replaced');
    await until('the end', () => road.state === 'closed');
    const closes = heard.filter(([event]) => event === 'close').map(([, data]) => data);
    assert.deepEqual(closes, [
      { code: 1001, reason: 'shutdown', final: false }, { code: 4001, reason: 'replaced', final: true },
    ]);
  });

  test(`${name}: a server that is not there yet is found`, async (context) => {
    const gateway = await listen(() => {});
    await gateway.stop();
    const road = new Ringroad(gateway.url, { WebSocket, backoff });
    context.after(() => road.close());
    let attempts = 0;
    road.on('reconnecting', ({ attempt }) => (attempts = attempt));
    await until('attempts', () => attempts >= 3);
    const second = await listen(() => {}, { port: gateway.port });
    context.after(() => second.stop());
    await until('a connection', () => road.state === 'open');
  });

  test(`${name}: with a server without ringroad.v1 there is no connection`, async (context) => {
    const { road, heard } = await begin(context, {}, { protocol: '' });
    // A WebSocket that refuses such a server itself cannot say why: then it is like one that is not there.
    const ends = () => heard.filter(([event]) => event === 'close').length;
    await until('the end, or several', () => road.state === 'closed' || ends() >= 3);
    const isTold = heard.some(([event, data]) => event === 'error' && data.code === 'no_subprotocol');
    assert.equal(isTold, road.state === 'closed');
    assert.ok(!heard.some(([event]) => event === 'open'));
  });

  test(`${name}: close says goodbye`, async (context) => {
    const { links, road } = await begin(context);
    await until('a connection', () => road.state === 'open');
    road.close();
    await until('the goodbye', () => links[0].closedWith === 1000);
  });
}
