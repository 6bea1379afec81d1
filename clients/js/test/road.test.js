// A connection on a clock and sockets of the test: what it sends, when it comes back, and what it gives up.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { GONE, Ringroad, RingroadError, key } from '../ringroad.js';
import { PROTOCOL, dice, frame, record } from './bytes.js';
import { stage } from './fakes.js';

const BUS = { vehicleId: 'bus-7', driverName: 'Ada', vehicleInfo: { model: 'Citaro' } };
const AUSTIN = { south: 30.2, west: -97.8, north: 30.3, east: -97.7 };
const DALLAS = { south: 32.7, west: -96.9, north: 32.9, east: -96.7 };
const WATCHING = { epoch: 1, vehicles: 0, cut: false, view: null, nearM: null, follow: 0 };
const HERE = { lat: 30.2672, lon: -97.7431 };

const names = (sent) => sent.map((message) => (message instanceof Uint8Array ? 'position' : message[0]));
const hasCode = (code) => (error) => error instanceof RingroadError && error.code === code;

/** What a position that was sent says of place and time. */
function place(message) {
  const bytes = Buffer.from(message);
  return {
    lat: bytes.readInt32LE(24) / 1e7,
    msgCnt: bytes[47],
    baseMs: Number(bytes.readBigUInt64LE(8)),
    secMark: bytes.readUInt16LE(42),
  };
}

test('a connection begins with who and what is watched', () => {
  const { road, socket, heard } = stage({ register: BUS, near: 800, follow: ['bus-8'], maxHz: 2 });
  assert.deepEqual([socket.url, socket.offered, socket.binaryType], ['ws://gateway/v2v', 'ringroad.v1', 'arraybuffer']);
  assert.equal(road.state, 'connecting');
  socket.accept();
  assert.equal(road.state, 'open');
  assert.deepEqual(socket.take(), [
    ['register', BUS],
    ['near', { radiusM: 800, maxHz: 2 }],
    ['follow', { vehicleIds: ['bus-8'], maxHz: 2 }],
  ]);
  assert.deepEqual(heard, [['open', undefined]]);
});

test('the gateway is heard by the names of its events, and frames go to the vehicles', () => {
  const { road, socket, takeHeard } = stage({ view: AUSTIN }, ['registered', 'watching', 'states', 'gone', 'close']);
  socket.accept();
  socket.say('registered', { vehicleId: 'bus-7' });
  socket.say('close', { code: 1 });
  socket.say('watching', WATCHING);
  assert.deepEqual(takeHeard(), [['registered', { vehicleId: 'bus-7' }], ['watching', WATCHING]]);
  socket.say('vehicle_identity', { key: '548d0f0d318ff38b', vehicleId: 'bus-9', driverName: 'Grace', vehicleInfo: {} });
  socket.onmessage({ data: frame([record(key('bus-9'), { lat: 1, lon: 2 })], { epoch: 1, flags: 1 }) });
  const [[name, states]] = takeHeard();
  assert.deepEqual([name, states.count, road.vehicles.get('bus-9').driverName], ['states', 1, 'Grace']);
  assert.equal(road.vehicles.complete, true);
  socket.onmessage({ data: frame([record(key('bus-9'), { flags: GONE })], { epoch: 1 }) });
  assert.deepEqual(takeHeard()[0], ['gone', { key: '548d0f0d318ff38b', vehicleId: 'bus-9' }]);
  assert.equal(road.vehicles.size, 0);
});

test('listeners come and go, and one that throws harms nobody', (context) => {
  const { road, socket } = stage();
  socket.accept();
  const thrown = [];
  context.mock.method(globalThis, 'queueMicrotask', (report) => thrown.push(report));
  const calls = [];
  const off = road.on('radio_text', () => calls.push('first'));
  road.on('radio_text', () => {
    throw new Error('of the listener');
  });
  road.on('radio_text', () => calls.push('last'));
  socket.say('radio_text', {});
  off();
  socket.say('radio_text', {});
  assert.deepEqual(calls, ['first', 'last', 'last']);
  assert.equal(thrown.length, 2);
  assert.throws(thrown[0], /of the listener/);
});

test('the pause before the next attempt is random below a limit that doubles', () => {
  for (const chance of [0.5, 0, 0.75]) {
    const { clock, made, takeHeard, ...here } = stage({ backoff: { baseMs: 500, capMs: 8_000 } });
    clock.chance = chance;
    for (let attempt = 0; attempt < 8; attempt++) {
      made.at(-1).end(1006);
      const mostMs = Math.min(8_000, 500 * 2 ** attempt);
      const [close, reconnecting] = takeHeard();
      assert.deepEqual(close, ['close', { code: 1006, reason: '', final: false }]);
      assert.deepEqual(reconnecting, ['reconnecting', { attempt: attempt + 1, delayMs: chance * mostMs }]);
      assert.equal(here.road.state, 'waiting');
      const before = made.length;
      if (chance > 0) {
        clock.advance(chance * mostMs - 1);
        assert.equal(made.length, before);
        clock.advance(1);
      } else {
        clock.advance(0);
      }
      assert.equal(made.length, before + 1);
    }
  }
});

test('only a connection that was stable begins with the shortest pause again', () => {
  const { clock, made, takeHeard } = stage({ backoff: { baseMs: 1_000, stableMs: 10_000 } });
  const pauses = [];
  for (const lastedMs of [0, 9_999, 9_999, 10_000, 0]) {
    made.at(-1).accept();
    clock.advance(lastedMs);
    made.at(-1).end(1006);
    pauses.push(takeHeard().at(-1)[1].delayMs);
    clock.advance(pauses.at(-1));
  }
  assert.deepEqual(pauses, [500, 1_000, 2_000, 500, 1_000]);
});

test('close codes are followed as section 6 has them', () => {
  const table = PROTOCOL.split('## 6. Close codes')[1].split('\n## ')[0];
  const cells = [...table.matchAll(/^\| (\d{4}) \|.*\| ([^|]+) \|$/gm)];
  const rows = cells.map(([, code, advice]) => [Number(code), advice]);
  assert.ok(rows.length >= 8, 'the table is found');
  for (const [code, advice] of rows) {
    // A message that was too big is not sent again, so what is sent is smaller.
    const isFinal = !advice.startsWith('yes') && code !== 1009;
    const { road, socket, clock, made, heard } = stage();
    socket.accept().end(code, 'why');
    assert.deepEqual(heard[1], ['close', { code, reason: 'why', final: isFinal }], `${code}: ${advice}`);
    assert.equal(road.state, isFinal ? 'closed' : 'waiting');
    clock.advance(60_000);
    assert.equal(made.length > 1, !isFinal);
  }
});

test('a gateway that stops is given time', () => {
  const { socket, clock, heard } = stage({ backoff: { baseMs: 100, shutdownMs: 5_000 } });
  clock.chance = 0.9;
  socket.accept().end(1001, 'shutdown');
  assert.equal(heard.at(-1)[1].delayMs, 4_500);
});

test('who was told when to go comes back at once, and only then', () => {
  const { socket, clock, made, heard } = stage({ backoff: { baseMs: 100, shutdownMs: 5_000 } });
  clock.chance = 0.9;
  socket.accept();
  socket.onmessage({ data: '{"event":"server_shutdown","data":{"reconnectInMs":3000,"ts":1}}' });
  socket.end(1012, 'shutdown');
  assert.equal(heard.at(-1)[1].delayMs, 90);
  clock.advance(90);
  made[1].accept().end(1012, 'shutdown');
  assert.equal(heard.at(-1)[1].delayMs, 4_500, 'the next gateway has not said so');
});

test('a new connection has nobody in view and asks for the same again', () => {
  const { road, clock, made, socket } = stage({ register: BUS, view: AUSTIN, follow: ['bus-8'] });
  socket.accept();
  road.view(null);
  clock.advance(1_000);
  road.near(300, { maxHz: 1 });
  clock.advance(1_000);
  socket.onmessage({ data: frame([record(key('bus-9'), { lat: 1, lon: 2 })]) });
  socket.end(1006);
  assert.equal(road.vehicles.size, 1, 'until there is something newer');
  clock.advance(250);
  made[1].accept();
  assert.equal(road.vehicles.size, 0);
  assert.deepEqual(made[1].take(), [
    ['register', BUS], ['follow', { vehicleIds: ['bus-8'] }], ['near', { radiusM: 300, maxHz: 1 }],
  ]);
  road.near(null);
  road.follow([]);
  clock.advance(1_000);
  assert.deepEqual(made[1].take(), [['near', {}], ['follow', { vehicleIds: [] }]]);
  made[1].end(1006);
  clock.advance(500);
  made[2].accept();
  assert.deepEqual(made[2].take(), [['register', BUS]], 'what was ended is not begun again');
});

test('what was refused is not asked for again, what was granted before is', () => {
  const refusals = ['view_too_large', 'invalid_view'];
  for (const code of refusals) {
    const { road, clock, made, socket } = stage({ view: AUSTIN, follow: ['bus-8'] });
    socket.accept();
    socket.say('watching', WATCHING);
    socket.say('watching', { ...WATCHING, epoch: 2 });
    road.on('error', () => {});
    road.view({ south: -90, west: -180, north: 90, east: 180 });
    clock.advance(1_000);
    road.follow(['bus-9']);
    clock.advance(1_000);
    socket.say('error', { code, message: '', ts: 0 });
    socket.say('watching', { ...WATCHING, epoch: 3 });
    socket.end(1006);
    clock.advance(250);
    made[1].accept();
    assert.deepEqual(made[1].take().sort(), [['follow', { vehicleIds: ['bus-9'] }], ['view', AUSTIN]]);
  }
});

test('a refusal does not undo what has been asked for since', () => {
  const { road, clock, made, socket } = stage({ view: AUSTIN });
  road.on('error', () => {});
  socket.accept();
  socket.say('watching', WATCHING);
  clock.advance(1_000);
  road.view({ south: -90, west: -180, north: 90, east: 180 });
  clock.advance(1_000);
  road.view(DALLAS);
  socket.say('error', { code: 'view_too_large', message: '', ts: 0 });
  socket.end(1006);
  clock.advance(250);
  made[1].accept();
  assert.deepEqual(made[1].take(), [['view', DALLAS]]);
});

test('a map that is dragged asks as often as it may, and ends where it stopped', () => {
  const { road, clock, socket } = stage();
  socket.accept();
  const asked = [];
  for (let step = 0; step < 300; step++) {
    road.view({ south: step / 100, west: 0, north: 10, east: 1 });
    clock.advance(10);
    asked.push(...socket.take());
  }
  clock.advance(1_000);
  asked.push(...socket.take());
  assert.ok(asked.length >= 20 && asked.length <= 30, `${asked.length} in 3 s`);
  assert.equal(asked.at(-1)[1].south, 2.99);
});

test('a change that came too soon for the gateway is asked for again, the newest', () => {
  const { road, clock, socket, takeHeard } = stage({ view: AUSTIN });
  socket.accept();
  socket.take();
  takeHeard();
  const refused = { code: 'rate_limited', message: '', ts: 0, details: { event: 'view', retryAfterMs: 700 } };
  socket.say('error', refused);
  clock.advance(300);
  road.view(DALLAS);
  assert.deepEqual(socket.take(), []);
  clock.advance(400);
  assert.deepEqual(socket.take(), [['view', DALLAS]]);
  socket.say('error', { ...refused, details: { event: 'view' } });
  clock.advance(10_000);
  assert.deepEqual(socket.take(), [['view', DALLAS]], 'also if it does not say when');
  assert.deepEqual(takeHeard(), []);
  socket.say('error', { ...refused, details: { event: 'send_message', retryAfterMs: 1 } });
  assert.equal(takeHeard()[0][1].code, 'rate_limited', 'any other is the caller’s business');
});

test('positions keep their pace, and the newest is sent', () => {
  const { road, clock, socket } = stage({ register: BUS, positionMs: 200 });
  socket.accept();
  socket.take();
  for (let step = 0; step < 20; step++) {
    road.position({ lat: step, lon: 0, ts: 1_767_268_800_000 + step });
    clock.advance(50);
  }
  clock.advance(1_000);
  const sent = socket.take().map(place);
  assert.deepEqual(sent.map(({ lat }) => lat), [0, 3, 7, 11, 15, 19]);
  assert.deepEqual(sent.map(({ msgCnt }) => msgCnt), [0, 1, 2, 3, 4, 5]);
  assert.deepEqual(sent.map(({ secMark }) => secMark), [0, 3, 7, 11, 15, 19]);
});

test('the newest position waits for a connection, and says when it was taken', () => {
  const { road, clock, socket } = stage({ register: BUS });
  road.position({ ...HERE, lat: 1 });
  road.position({ ...HERE, lat: 2 });
  clock.advance(4_000);
  socket.accept();
  const takenMs = clock.unixMs() - 4_000;
  const [, position, ...more] = socket.take();
  assert.deepEqual(place(position), { lat: 2, msgCnt: 0, baseMs: takenMs, secMark: takenMs % 60_000 });
  assert.deepEqual(more, []);
  clock.advance(200);
  road.position(HERE);
  const untimed = { lat: HERE.lat, msgCnt: 1, baseMs: 0, secMark: 65_535 };
  assert.deepEqual(place(socket.take()[0]), untimed, 'the gateway’s own clock');
});

test('events wait in order within a bound, and are sent once', () => {
  const { road, clock, made, socket, takeHeard } = stage({ register: BUS });
  const taken = Array.from({ length: 70 }, (_, n) => road.message('bus-9', `${n}`));
  assert.deepEqual(taken, Array.from({ length: 70 }, (_, n) => n < 64));
  const errors = takeHeard();
  assert.equal(errors.length, 6);
  const [name, { code, details, ts }] = errors[0];
  assert.deepEqual([name, code, details, ts], ['error', 'buffer_full', { event: 'send_message' }, clock.unixMs()]);
  socket.accept();
  const sent = socket.take().slice(1);
  assert.deepEqual(sent.map(([, { content }]) => content), Array.from({ length: 64 }, (_, n) => `${n}`));
  assert.deepEqual(sent[0], ['send_message', { senderId: 'bus-7', recipientId: 'bus-9', content: '0' }]);
  road.emergency({ fire: true });
  road.send('heartbeat');
  assert.deepEqual(socket.take(), [
    ['emergency_alert', { senderId: 'bus-7', vehicleInfo: { fire: true } }], ['heartbeat', undefined],
  ]);
  socket.end(1006);
  clock.advance(500);
  made[1].accept();
  assert.deepEqual(names(made[1].take()), ['register']);
  takeHeard();
  assert.equal(road.send('call_initiate', { sdp: 'x'.repeat(70_000) }), false);
  assert.equal(takeHeard()[0][1].code, 'too_large');
});

test('a socket that takes no more is not filled: positions are replaced, events wait', () => {
  const { road, clock, socket } = stage({ register: BUS });
  socket.accept();
  socket.take();
  socket.bufferedAmount = 20_000;
  road.message('bus-9', 'hello');
  road.view(AUSTIN);
  for (let step = 0; step < 50; step++) {
    road.position({ ...HERE, lat: step });
    clock.advance(100);
  }
  assert.deepEqual(socket.take(), []);
  socket.bufferedAmount = 0;
  clock.advance(50);
  const sent = socket.take();
  assert.deepEqual(names(sent), ['view', 'send_message', 'position']);
  assert.equal(place(sent[2]).lat, 49);

  socket.bufferedAmount = 20_000;
  road.message('bus-9', 'hello again');
  clock.advance(100);
  assert.deepEqual(socket.take(), []);
  socket.bufferedAmount = 0;
  clock.advance(50);
  assert.deepEqual(names(socket.take()), ['send_message'], 'also when nothing else waits');
});

test('nothing is sent into a socket that is closing', () => {
  const { road, clock, made, socket } = stage({ register: BUS });
  socket.accept();
  socket.readyState = 2;
  road.message('bus-9', 'hello');
  road.register(BUS);
  socket.end(1006);
  clock.advance(250);
  made[1].accept();
  assert.deepEqual(names(made[1].take()), ['register', 'send_message']);
});

test('a link that is silent is asked, and given up if it does not answer', () => {
  const { road, clock, made, socket, takeHeard } = stage({ heartbeat: { silentMs: 20_000, answerMs: 10_000 } });
  socket.accept();
  clock.advance(15_000);
  socket.say('radio_text', {});
  clock.advance(19_999);
  assert.deepEqual(socket.take(), []);
  clock.advance(1);
  assert.deepEqual(socket.take(), [['heartbeat', undefined]]);
  clock.advance(9_000);
  socket.say('heartbeat_ack', { ts: 1 });
  clock.advance(20_000);
  assert.deepEqual(socket.take(), [['heartbeat', undefined]], 'an answer counts for as long as any message');
  takeHeard();
  clock.advance(9_999);
  assert.equal(road.state, 'open');
  clock.advance(1);
  assert.deepEqual(takeHeard()[0], ['close', { code: 1006, reason: 'silent', final: false }]);
  assert.deepEqual([road.state, socket.readyState], ['waiting', 2]);
  // The old link's end comes late, while the new one stands.
  clock.advance(250);
  made[1].accept();
  socket.say('radio_text', {});
  socket.end(4001, 'replaced');
  assert.equal(road.state, 'open');
});

test('after the machine slept, a link is asked before it is given up', () => {
  const { road, clock, socket } = stage();
  socket.accept();
  // No timer ran for an hour; then the one that was due does.
  clock.ms += 3_600_000;
  clock.advance(0);
  assert.deepEqual([road.state, socket.take()], ['open', [['heartbeat', undefined]]]);
});

test('a handshake that nobody answers is given up', () => {
  const { clock, made, takeHeard } = stage();
  clock.advance(9_999);
  assert.deepEqual(takeHeard(), []);
  clock.advance(1);
  assert.equal(takeHeard()[0][1].reason, 'no answer to the handshake');
  clock.advance(500);
  assert.equal(made.length, 2);
});

test('a WebSocket that only says error has failed', () => {
  const { socket, heard, clock, made } = stage();
  socket.onerror({});
  socket.end(1006);
  assert.deepEqual(heard.map(([name]) => name), ['close', 'reconnecting']);
  clock.advance(500);
  assert.equal(made.length, 2);
});

test('who does not speak ringroad.v1 is left alone', () => {
  const { road, socket, clock, made, heard } = stage({ register: BUS });
  socket.protocol = '';
  socket.accept();
  assert.deepEqual(heard.map(([name, { code, final }]) => [name, code, final]), [
    ['error', 'no_subprotocol', undefined], ['close', 1006, true],
  ]);
  assert.deepEqual([socket.take(), socket.readyState, road.state], [[], 2, 'closed']);
  clock.advance(60_000);
  assert.equal(made.length, 1);
});

test('nothing that is heard breaks the connection', () => {
  const { road, socket, takeHeard } = stage({ view: AUSTIN });
  socket.accept();
  takeHeard();
  const wrong = [
    '', '{', 'null', '[]', '"text"', '{"event":1,"data":{}}', '{"event":"connected"}', '{"event":"connected","data":3}',
    '{"event":"vehicle_identity","data":{"key":12}}', '{"event":"vehicle_identity","data":{}}',
  ];
  for (const data of [...wrong, new ArrayBuffer(3), frame([record(1n)]).slice(0, 40)]) {
    socket.onmessage({ data });
    const [[name, { code }], ...more] = takeHeard();
    assert.deepEqual([name, more], ['error', []]);
    assert.equal(code, typeof data === 'string' ? 'invalid_message' : 'invalid_frame');
  }
  const odd = [
    ['watching', {}], ['error', {}], ['error', { code: 'view_too_large' }], ['error', { code: 'rate_limited' }],
    ['error', { code: 'rate_limited', details: { event: 'view', retryAfterMs: 'soon' } }], ['__proto__', {}],
    ['constructor', { a: 1 }],
  ];
  const roll = dice(99);
  for (let round = 0; round < 2_000; round++) {
    socket.say(...odd[roll(odd.length)]);
    if (roll(4) === 0) road.view(AUSTIN);
  }
  assert.equal(road.state, 'open');
});

test('an error that nobody listens to is not silent', (context) => {
  const { socket } = stage({}, []);
  socket.accept();
  const warn = context.mock.method(console, 'warn', () => {});
  socket.say('error', { code: 'not_yours', message: 'an id', ts: 0 });
  assert.deepEqual(warn.mock.calls[0].arguments, ['ringroad: not_yours: an id']);
});

test('close ends everything, and open begins again', () => {
  for (const until of ['connecting', 'open', 'waiting']) {
    const { road, socket, clock, made, heard } = stage({ register: BUS });
    if (until !== 'connecting') socket.accept();
    if (until === 'waiting') socket.end(1006);
    road.message('bus-9', 'hello');
    road.position(HERE);
    road.close();
    road.close();
    assert.equal(road.state, 'closed');
    assert.deepEqual(heard.at(-1), ['close', { code: 1000, reason: '', final: true }]);
    assert.equal(heard.filter(([, data]) => data?.code === 1000).length, 1);
    assert.equal(clock.timers.size, 0, until);
    if (until !== 'waiting') assert.equal(socket.closedWith, 1000);
    road.open();
    road.open();
    assert.equal(made.length, 2);
    made[1].accept();
    assert.deepEqual(names(made[1].take()), ['register']);
  }
});

test('open does not wait for the next attempt', () => {
  const { road, socket, clock, made } = stage();
  socket.end(1006);
  road.open();
  assert.deepEqual([made.length, road.state], [2, 'connecting']);
  made[1].accept();
  clock.advance(19_000);
  assert.equal(made.length, 2, 'and no other follows');
});

test('who begins again after the end begins with the shortest pause', () => {
  const { road, made, clock, takeHeard } = stage({ backoff: { baseMs: 500 } });
  for (let attempt = 0; attempt < 5; attempt++) {
    made.at(-1).end(1006);
    clock.advance(8_000);
  }
  made.at(-1).accept().end(4001);
  assert.equal(road.state, 'closed');
  road.open();
  takeHeard();
  made.at(-1).end(1006);
  assert.deepEqual(takeHeard().at(-1), ['reconnecting', { attempt: 1, delayMs: 250 }]);
});

test('a listener may close when the connection is lost', () => {
  const { road, socket, clock, made } = stage();
  road.on('close', () => road.close());
  socket.accept().end(1006);
  clock.advance(60_000);
  assert.deepEqual([road.state, made.length], ['closed', 1]);
});

test('tokens are asked for at each connection', () => {
  let asked = 0;
  const authToken = () => `token-${++asked}`;
  const vehicle = stage({ register: BUS, near: 100, authToken });
  vehicle.socket.accept();
  assert.deepEqual(vehicle.socket.take(), [['register', { ...BUS, authToken: 'token-1' }], ['near', { radiusM: 100 }]]);
  vehicle.socket.end(1006);
  vehicle.clock.advance(250);
  vehicle.made[1].accept();
  assert.equal(vehicle.made[1].take()[0][1].authToken, 'token-2');
  const viewer = stage({ view: AUSTIN, authToken: 'fixed' });
  viewer.socket.accept();
  assert.deepEqual(viewer.socket.take(), [['view', { ...AUSTIN, authToken: 'fixed' }]]);
  const own = stage({ register: { ...BUS, authToken: 'mine' }, authToken });
  own.socket.accept();
  assert.equal(own.socket.take()[0][1].authToken, 'mine');
});

test('a token that ends is shown anew where there is a way to have one', () => {
  const ends = { expiresAt: 60_000, expiresInMs: 60_000 };
  let asked = 0;
  const authToken = () => `token-${++asked}`;
  const vehicle = stage({ register: BUS, authToken });
  vehicle.socket.accept();
  vehicle.socket.take();
  vehicle.socket.say('token_expiring', ends);
  assert.deepEqual(vehicle.socket.take(), [['register', { ...BUS, authToken: 'token-2' }]]);
  const viewer = stage({ view: AUSTIN, authToken }, ['token_expiring']);
  viewer.socket.accept();
  viewer.socket.take();
  viewer.socket.say('watching', WATCHING);
  viewer.clock.advance(1_000);
  viewer.socket.say('token_expiring', ends);
  assert.deepEqual(viewer.socket.take(), [['view', { ...AUSTIN, authToken: 'token-4' }]]);
  assert.deepEqual(viewer.takeHeard().at(-1), ['token_expiring', ends]);
  for (const fixed of [{ view: AUSTIN, authToken: 'fixed' }, { register: { ...BUS, authToken: 'mine' }, authToken }]) {
    const { socket } = stage(fixed);
    socket.accept();
    socket.take();
    socket.say('token_expiring', ends);
    assert.deepEqual(socket.take(), []);
  }
});

test('a watch that lacked its token is granted to the next one', () => {
  let authToken = 'old';
  const { road, socket, made, clock } = stage({ view: AUSTIN, authToken: () => authToken });
  socket.accept();
  socket.say('error', { code: 'auth_failed', message: '', ts: 0 });
  authToken = 'new';
  clock.advance(1_000);
  road.view(DALLAS);
  assert.deepEqual(socket.take().at(-1), ['view', { ...DALLAS, authToken: 'new' }]);
  socket.say('watching', WATCHING);
  clock.advance(1_000);
  road.view({ ...AUSTIN, north: 90 });
  socket.say('error', { code: 'view_too_large', message: '', ts: 0 });
  socket.end(1006);
  clock.advance(250);
  made[1].accept();
  assert.deepEqual(made[1].take(), [['view', { ...DALLAS, authToken: 'new' }]]);
});

test('what can never be right is refused where it is said', () => {
  const { road, socket } = stage();
  socket.accept();
  assert.throws(() => road.position(HERE), hasCode('not_registered'));
  assert.throws(() => road.message('bus-9', 'hello'), hasCode('not_registered'));
  assert.throws(() => road.emergency(), hasCode('not_registered'));
  assert.throws(() => road.near(100), hasCode('not_registered'));
  assert.throws(() => road.register({ vehicleId: 'a b', driverName: 'Ada' }), hasCode('validation_error'));
  assert.throws(() => road.view({ ...AUSTIN, west: NaN }), hasCode('invalid_view'));
  assert.throws(() => road.view({ south: 1 }), hasCode('invalid_view'));
  for (const name of ['register', 'view', 'near', 'follow']) {
    assert.throws(() => road.send(name, {}), hasCode('validation_error'));
  }
  road.register(BUS);
  assert.throws(() => road.near(0), hasCode('invalid_view'));
  assert.throws(() => road.near(NaN), hasCode('invalid_view'));
  assert.throws(() => road.position({ lat: 91, lon: 0 }), hasCode('invalid_state'));
  assert.throws(() => road.register({ vehicleId: 'bus-8', driverName: 'Ada' }), hasCode('invalid_register'));
  road.register({ ...BUS, driverName: 'Grace' });
  assert.deepEqual(socket.take(), [['register', BUS], ['register', { ...BUS, driverName: 'Grace' }]]);
});

test('without a WebSocket it says so', (context) => {
  const had = Object.getOwnPropertyDescriptor(globalThis, 'WebSocket');
  context.after(() => had && Object.defineProperty(globalThis, 'WebSocket', had));
  delete globalThis.WebSocket;
  assert.throws(() => new Ringroad('ws://gateway/v2v'), hasCode('no_websocket'));
});
